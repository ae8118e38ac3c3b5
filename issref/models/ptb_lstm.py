"""The stacked LSTM language model of the paper (section 4.1), with any number of layers of any widths.

Tutorials: tutorials/1_one_unit.py, tutorials/3_backward_by_hand.py.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Integer

from issref.iss.layout import Axis, Layout, Params
from issref.ops.basic import dropout, embed, linear
from issref.ops.losses import linear_cross_entropy
from issref.ops.lstm import lstm

NAME, EMBEDDING = "lstm", "embed/kernel"

# A component may be removed when these slices of it are zero: its recurrent row, and its rows in the next kernel.
READERS = (("lstm*/kernel", 0), ("softmax/kernel", 0))


@dataclass(frozen=True)
class Config:
    """Sizes and settings of the model; `keep` is the probability that dropout keeps a value."""

    vocabulary: int = 10_000  # V
    embed_size: int = 200  # D of the first layer
    hidden_sizes: tuple[int, ...] = (200, 200)  # H of each layer, from the input up
    init_scale: float = 0.1
    keep: float = 1.0


def configure(vocabulary: int, options: Mapping[str, Any]) -> Config:
    """Return the model's config from a command's options. Raises ValueError if there is no layer."""
    sizes = tuple(options["hidden_sizes"])
    if not sizes:
        raise ValueError("--hidden-sizes: expected a width for each layer, got none")
    return Config(
        vocabulary=vocabulary,
        embed_size=options["embed_size"] or sizes[0],
        hidden_sizes=sizes,
        init_scale=options["init_scale"],
        keep=options["keep"],
    )


def describe(config: Config) -> str:
    """Return the model's sizes as a phrase."""
    sizes = " and ".join(map(str, config.hidden_sizes))
    return f"LSTM of {sizes} units, embedding {config.embed_size}"


def released_thresholded(arrays: Iterable[str]) -> list[str]:
    """Return the arrays whose small weights the released code zeroes: all of them."""
    return list(arrays)


def lstm_axes(layer: str, inputs: Axis) -> dict[str, tuple[Axis, ...]]:
    """Return the axes of one LSTM layer; `inputs` are the spaces of its input, end to end."""
    return {f"{layer}/kernel": ((*inputs, layer), 4 * (layer,)), f"{layer}/bias": (4 * (f"~{layer}",),)}


def layout(config: Config) -> Layout:
    """Return the layout of embed -> lstm0 -> lstm1 ... -> softmax over the words; no weight is shared or tied."""
    axes, sizes = (
        {"embed/kernel": (("word",), ("embed",))},
        {"word": config.vocabulary, "embed": config.embed_size},
    )
    inputs = "embed"
    for index, size in enumerate(config.hidden_sizes):
        layer = f"lstm{index}"
        axes, sizes, inputs = axes | lstm_axes(layer, (inputs,)), sizes | {layer: size}, layer
    return Layout(axes | {"softmax/kernel": ((inputs,), ("word",)), "softmax/bias": (("~word",),)}, sizes)


def spaces(arrays: Iterable[str]) -> list[str]:
    """Return the spaces whose sizes ISS learns: the LSTM layers among the names of arrays, from the input up."""
    found = (array.removesuffix("/bias") for array in arrays if _is_lstm_bias(array))
    return sorted(found, key=lambda name: int(name.removeprefix("lstm")))


def readers_of(layout: Layout) -> tuple[tuple[str, int], ...]:
    """Return `READERS`, which are the same for every layout."""
    return READERS


def init_params(
    config: Config, layout: Layout, rng: np.random.Generator, dtype: npt.DTypeLike = np.float64
) -> Params:
    """Draw all parameters uniformly from +-init_scale; LSTM biases are zero (as in the released code)."""
    params = layout.allocate(dtype)
    for array in params:
        values = rng.uniform(-config.init_scale, config.init_scale, layout.shape(array))
        if not _is_lstm_bias(array):
            params[array] = values.astype(dtype)
    return params


def state_layout(layout: Layout, batch: int) -> Layout:
    """Return the layout of the carried state, h and c (batch, H) of each layer, so that `compact` can cut it."""
    axes = {f"{name}/{part}": (("batch",), (f"~{name}",)) for name in spaces(layout.axes) for part in "hc"}
    return Layout(axes, {**layout.sizes, "batch": batch})


def zero_state(params: Params, batch: int) -> Params:
    """Return a zero state (batch, H) for params of any widths, in their dtype."""
    biases = {name: params[f"{name}/bias"] for name in spaces(params)}
    return {
        f"{name}/{part}": np.zeros((batch, len(bias) // 4), bias.dtype)
        for name, bias in biases.items()
        for part in "hc"
    }


def multiply_adds(layout: Layout) -> int:
    """Return the multiply-adds for one token: the entries of all kernels but the embedding (a look-up)."""
    kernels = (array for array in layout.axes if array.endswith("/kernel") and array != EMBEDDING)
    return sum(math.prod(layout.shape(array)) for array in kernels)


def draw_masks(
    config: Config, sizes: Mapping[str, int], rng: np.random.Generator, steps: int, batch: int
) -> Params:
    """Draw inverted dropout masks (T, B, H) for the embedded words and each layer's output; none if keep is 1.

    The dropout of Zaremba et al.: a new mask at each step, and none on the recurrent connections.
    """
    if config.keep == 1:
        return {}
    masks, names = {}, [f"lstm{index}" for index in range(len(config.hidden_sizes))]
    for space in ("embed", *names):
        kept = rng.random((steps, batch, sizes[space]), np.float32) < config.keep
        masks[space] = kept / np.float32(config.keep)
    return masks


def mask_layout(layout: Layout, masks: Params) -> Layout:
    """Return the layout of dropout masks, so that `compact` can cut them."""
    steps, batch, _ = next(iter(masks.values())).shape if masks else (0, 0, 0)
    axes = {space: (("step",), ("batch",), (f"~{space}",)) for space in masks}
    return Layout(axes, {**layout.sizes, "step": steps, "batch": batch})


def _network(head, params: Params, state: Params, tokens: Integer[np.ndarray, "T B"], masks: Params | None):
    """Compute head(x, W, b) of the last layer's output x and the softmax's weights, and the state."""
    masks = masks or {}
    x, embed_back = embed(params[EMBEDDING], ids=tokens)
    x, drop_back = dropout(x, mask=masks.get("embed"))
    after, backs = {}, []
    for name in spaces(params):
        before = (state[f"{name}/h"], state[f"{name}/c"])
        (x, after[f"{name}/h"], after[f"{name}/c"]), back = lstm(
            x, *before, params[f"{name}/kernel"], params[f"{name}/bias"]
        )
        x, back_drop = dropout(x, mask=masks.get(name))
        backs.append((name, back, back_drop))
    y, head_back = head(x, params["softmax/kernel"], params["softmax/bias"])

    def backward(dy, dstate: Params | None = None):
        dstate = dstate or {array: np.zeros_like(values) for array, values in after.items()}
        grads, dbefore = {}, {}
        dx, grads["softmax/kernel"], grads["softmax/bias"] = head_back(dy)
        for name, back, back_drop in reversed(backs):
            dafter = (dstate[f"{name}/h"], dstate[f"{name}/c"])
            dx, dh, dc, grads[f"{name}/kernel"], grads[f"{name}/bias"] = back(back_drop(dx), *dafter)
            dbefore[f"{name}/h"], dbefore[f"{name}/c"] = dh, dc
        grads[EMBEDDING] = embed_back(drop_back(dx))
        return grads, dbefore

    return (y, after), backward


def logits(params: Params, state: Params, *, tokens: Integer[np.ndarray, "T B"], masks: Params | None = None):
    """Compute unnormalised log probabilities of the next word, (T, B, V), and the state after the last step.

    Returns (logits, state), backward, with backward(dlogits, dstate=None) -> (grads, dstate).
    """
    return _network(linear, params, state, tokens, masks)


def loss(
    params: Params,
    state: Params,
    *,
    tokens: Integer[np.ndarray, "T B"],
    targets: Integer[np.ndarray, "T B"],
    masks: Params | None = None,
):
    """Compute the cross-entropy in nats, the sum over the T steps and the mean over the batch, as in the paper.

    Returns (loss, state), backward, with backward(dloss, dstate=None) -> (grads, dstate). The argument dstate is
    the gradient of the final state; None means zero, as in truncated backpropagation through time.
    """
    return _network(partial(linear_cross_entropy, targets=targets), params, state, tokens, masks)


def _is_lstm_bias(array: str) -> bool:
    return array.startswith("lstm") and array.endswith("/bias")
