"""The stacked LSTM language model of the paper (section 4.1), with any number of layers of any widths.

A stack of other layers, such as `ptb_gru`, has the same embedding, dropout and softmax, and imports them.
Tutorials: tutorials/1_one_unit.py, tutorials/3_backward_by_hand.py.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Integer

from issref.iss.layout import Axis, Layout, Params
from issref.ops.basic import dropout, embed, linear
from issref.ops.losses import linear_cross_entropy
from issref.ops.lstm import GATES, lstm

NAME, EMBEDDING = "lstm", "embed/kernel"
BIAS = re.compile(r"([a-z]+(\d+))/bias")  # of a layer: its name, and its number from the input up

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
    return f"LSTM of {describe_sizes(config)}"


def describe_sizes(config: Config) -> str:
    """Return the widths of the layers and of the embedding as a phrase."""
    return f"{' and '.join(map(str, config.hidden_sizes))} units, embedding {config.embed_size}"


def released_thresholded(arrays: Iterable[str]) -> list[str]:
    """Return the arrays whose small weights the released code zeroes: all of them."""
    return list(arrays)


def lstm_axes(layer: str, inputs: Axis) -> dict[str, tuple[Axis, ...]]:
    """Return the axes of one LSTM layer; `inputs` are the spaces of its input, end to end."""
    return {f"{layer}/kernel": ((*inputs, layer), 4 * (layer,)), f"{layer}/bias": (4 * (f"~{layer}",),)}


def layout(config: Config) -> Layout:
    """Return the layout of embed -> lstm0 -> lstm1 ... -> softmax over the words; no weight is shared or tied."""
    return stack(config, NAME, lstm_axes)


def stack(config: Config, kind: str, layer_axes: Callable[[str, Axis], dict[str, tuple[Axis, ...]]]) -> Layout:
    """Return the layout of embed -> kind0 -> kind1 ... -> softmax; `layer_axes` is like `lstm_axes`."""
    axes, sizes = (
        {"embed/kernel": (("word",), ("embed",))},
        {"word": config.vocabulary, "embed": config.embed_size},
    )
    inputs = "embed"
    for index, size in enumerate(config.hidden_sizes):
        layer = f"{kind}{index}"
        axes, sizes, inputs = axes | layer_axes(layer, (inputs,)), sizes | {layer: size}, layer
    return Layout(axes | {"softmax/kernel": ((inputs,), ("word",)), "softmax/bias": (("~word",),)}, sizes)


def spaces(arrays: Iterable[str]) -> list[str]:
    """Return the spaces whose sizes ISS learns: the layers among the names of arrays, from the input up."""
    layers = {found[1]: int(found[2]) for found in map(BIAS.fullmatch, arrays) if found}
    return sorted(layers, key=layers.__getitem__)


def readers_of(layout: Layout) -> tuple[tuple[str, int], ...]:
    """Return `READERS`, which are the same for every layout."""
    return READERS


def init_params(
    config: Config, layout: Layout, rng: np.random.Generator, dtype: npt.DTypeLike = np.float64
) -> Params:
    """Draw all parameters uniformly from +-init_scale; biases of layers are zero (as in the released code)."""
    params = layout.allocate(dtype)
    for array in params:
        values = rng.uniform(-config.init_scale, config.init_scale, layout.shape(array))
        if not BIAS.fullmatch(array):
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
        f"{name}/{part}": np.zeros((batch, len(bias) // len(GATES)), bias.dtype)
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
    masks = {}
    for space in ("embed", *spaces(f"{space}/bias" for space in sizes)):
        kept = rng.random((steps, batch, sizes[space]), np.float32) < config.keep
        masks[space] = kept / np.float32(config.keep)
    return masks


def mask_layout(layout: Layout, masks: Params) -> Layout:
    """Return the layout of dropout masks, so that `compact` can cut them."""
    steps, batch, _ = next(iter(masks.values())).shape if masks else (0, 0, 0)
    axes = {space: (("step",), ("batch",), (f"~{space}",)) for space in masks}
    return Layout(axes, {**layout.sizes, "step": steps, "batch": batch})


def network(layer: Callable, parts: str, head, params: Params, state: Params, tokens, masks: Params | None):
    """Compute head(x, W, b) of the last layer's output x and the softmax's weights, and the state.

    Each layer is layer(x, *its state, kernel, bias), an op; `parts` are the letters of its state, such as "hc".
    """
    masks = masks or {}
    x, embed_back = embed(params[EMBEDDING], ids=tokens)
    x, drop_back = dropout(x, mask=masks.get("embed"))
    after, backs = {}, []
    for name in spaces(params):
        states, weights = [f"{name}/{part}" for part in parts], (f"{name}/kernel", f"{name}/bias")
        (x, *last), back = layer(x, *(state[array] for array in states), *(params[array] for array in weights))
        after |= zip(states, last, strict=True)
        x, back_drop = dropout(x, mask=masks.get(name))
        backs.append((states, weights, back, back_drop))
    y, head_back = head(x, params["softmax/kernel"], params["softmax/bias"])

    def backward(dy, dstate: Params | None = None):
        dstate = dstate or {array: np.zeros_like(values) for array, values in after.items()}
        grads, dbefore = {}, {}
        dx, grads["softmax/kernel"], grads["softmax/bias"] = head_back(dy)
        for states, weights, back, back_drop in reversed(backs):
            dx, *dfirst, dkernel, dbias = back(back_drop(dx), *(dstate[array] for array in states))
            dbefore |= zip(states, dfirst, strict=True)
            grads |= zip(weights, (dkernel, dbias), strict=True)
        grads[EMBEDDING] = embed_back(drop_back(dx))
        return grads, dbefore

    return (y, after), backward


def logits(params: Params, state: Params, *, tokens: Integer[np.ndarray, "T B"], masks: Params | None = None):
    """Compute unnormalised log probabilities of the next word, (T, B, V), and the state after the last step.

    Returns (logits, state), backward, with backward(dlogits, dstate=None) -> (grads, dstate).
    """
    return network(lstm, "hc", linear, params, state, tokens, masks)


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
    return network(lstm, "hc", partial(linear_cross_entropy, targets=targets), params, state, tokens, masks)
