"""The recurrent highway network language model of the paper (section 4.1; Zilly et al. 2017), with one width.

Tutorial: tutorials/7_highways.py.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Integer, Shaped

from issref.iss.layout import Layout, Params
from issref.ops.basic import dropout, embed, linear
from issref.ops.losses import linear_cross_entropy
from issref.ops.rhn import GATES, rhn

NAME, EMBEDDING, SOFTMAX = "rhn", "embed/kernel", "softmax/kernel"

# A component may be removed when these slices of it are zero: its input and state rows in every micro-layer, and
# its row in the softmax kernel, which is its column of the embedding if the two are tied.
READERS = (("micro*/kernel", 0), (EMBEDDING, 1))
UNTIED_READERS = (("micro*/kernel", 0), (SOFTMAX, 0))


@dataclass(frozen=True)
class Config:
    """Sizes and settings of the model; each `drop` is the probability that dropout zeroes a value."""

    vocabulary: int = 10_000  # V
    width: int = 830  # W of the embedding, the state and the softmax
    depth: int = 10  # micro-layers at each step
    tied: bool = True  # the softmax's kernel is the embedding
    init_scale: float = 0.04
    transform_bias: float = -2.0  # first value of the transform gates' biases: mostly carry
    drop_word: float = 0.25
    drop_input: float = 0.75
    drop_state: float = 0.25
    drop_output: float = 0.75


def configure(vocabulary: int, options: Mapping[str, Any]) -> Config:
    """Return the model's config from a command's options. Raises ValueError for more than one width."""
    sizes, (word, input_, state, output) = options["hidden_sizes"], options["drops"]
    if len(sizes) != 1 or options["embed_size"]:
        found = f"{len(sizes)} and --embed-size {options['embed_size']}"
        raise ValueError(f"--hidden-sizes: expected one width, for the embedding of --model rhn too, got {found}")
    return Config(
        vocabulary=vocabulary,
        width=sizes[0],
        depth=options["depth"],
        tied=options["tied"],
        init_scale=options["init_scale"],
        transform_bias=options["transform_bias"],
        drop_word=word,
        drop_input=input_,
        drop_state=state,
        drop_output=output,
    )


def describe(config: Config) -> str:
    """Return the model's sizes as a phrase."""
    tied = "tied" if config.tied else "untied"
    return f"RHN of width {config.width}, {config.depth} micro-layers, embedding {tied}"


def released_thresholded(arrays: Iterable[str]) -> list[str]:
    """Return the arrays whose small weights the released code zeroes: all but the biases."""
    return [array for array in arrays if not array.endswith("/bias")]


def layout(config: Config) -> Layout:
    """Return the layout of embed -> micro0 -> micro1 ... -> softmax over the words; all share one width."""
    axes = {EMBEDDING: (("word",), ("width",))}
    for d in range(config.depth):
        axes |= {
            f"micro{d}/kernel": (("width", "width") if d == 0 else ("width",), 2 * ("width",)),
            f"micro{d}/bias": (2 * ("~width",),),
        }
    if not config.tied:
        axes[SOFTMAX] = (("width",), ("word",))
    return Layout(axes | {"softmax/bias": (("~word",),)}, {"word": config.vocabulary, "width": config.width})


def spaces(arrays: Iterable[str]) -> list[str]:
    """Return the spaces whose sizes ISS learns: the one width."""
    return ["width"] if "micro0/kernel" in arrays else []


def readers_of(layout: Layout) -> tuple[tuple[str, int], ...]:
    """Return `READERS`, or `UNTIED_READERS` if the layout has a separate softmax kernel."""
    return UNTIED_READERS if SOFTMAX in layout.axes else READERS


def init_params(
    config: Config, layout: Layout, rng: np.random.Generator, dtype: npt.DTypeLike = np.float64
) -> Params:
    """Draw all parameters uniformly from +-init_scale; transform biases are transform_bias (released code)."""
    params = {
        array: rng.uniform(-config.init_scale, config.init_scale, layout.shape(array)).astype(dtype)
        for array in layout.axes
    }
    for array, values in params.items():
        if array.startswith("micro") and array.endswith("/bias"):
            values[config.width :] = config.transform_bias
    return params


def state_layout(layout: Layout, batch: int) -> Layout:
    """Return the layout of the carried state s, (batch, W)."""
    return Layout({"rhn/s": (("batch",), ("~width",))}, {**layout.sizes, "batch": batch})


def zero_state(params: Params, batch: int) -> Params:
    """Return a zero state (batch, W) for params of any width, in their dtype."""
    bias = params["micro0/bias"]
    return {"rhn/s": np.zeros((batch, len(bias) // len(GATES)), bias.dtype)}


def multiply_adds(layout: Layout) -> int:
    """Return the multiply-adds for one token: the kernels of all micro-layers, and V W for the softmax."""
    kernels = (array for array in layout.axes if array.startswith("micro") and array.endswith("/kernel"))
    return sum(math.prod(layout.shape(array)) for array in (*kernels, EMBEDDING))


def draw_masks(config: Config, sizes: dict[str, int], rng: np.random.Generator, steps: int, batch: int) -> Params:
    """Draw inverted variational dropout masks, which are the same for all steps and micro-layers of a window.

    These are input, state and output (B, W), and word (T, B), with one value for each word. A mask that drops
    nothing is left out.
    """
    shapes = {"word": (steps, batch), **dict.fromkeys(("input", "state", "output"), (batch, sizes["width"]))}
    drops = {name: getattr(config, f"drop_{name}") for name in shapes}
    return {
        name: (rng.random(shape, np.float32) >= drops[name]) / np.float32(1 - drops[name])
        for name, shape in shapes.items()
        if drops[name] > 0
    }


def mask_layout(layout: Layout, masks: Params) -> Layout:
    """Return the layout of dropout masks, so that `compact` can cut them."""
    axes = {name: (("step",), ("batch",)) if name == "word" else (("batch",), ("~width",)) for name in masks}
    steps, batch = masks["word"].shape if "word" in masks else (0, len(next(iter(masks.values()), ())))
    return Layout(axes, {**layout.sizes, "step": steps, "batch": batch})


def by_type(noise: Shaped[np.ndarray, "T B"], tokens: Integer[np.ndarray, "T B"]) -> Shaped[np.ndarray, "T B"]:
    """Return word masks by type: a word gets the value of its first occurrence in its sequence of the window."""
    first = (tokens[:, None] == tokens).argmax(axis=1)
    return np.take_along_axis(noise, first, axis=0)


def _network(head, params: Params, state: Params, tokens: Integer[np.ndarray, "T B"], masks: Params | None):
    """Compute head(x, W, b) of the last micro-layer's output x and the softmax's weights, and the state."""
    masks = masks or {}
    word = by_type(masks["word"], tokens)[..., None] if "word" in masks else None
    depth = sum(array.startswith("micro") for array in params) // 2
    weights = [f"micro{d}/{part}" for d in range(depth) for part in ("kernel", "bias")]
    tied = SOFTMAX not in params
    kernel = params[EMBEDDING].T if tied else params[SOFTMAX]

    x, embed_back = embed(params[EMBEDDING], ids=tokens)
    x, word_back = dropout(x, mask=word)
    (hidden, s), rhn_back = rhn(
        x,
        state["rhn/s"],
        *(params[array] for array in weights),
        input_mask=masks.get("input"),
        state_mask=masks.get("state"),
    )
    hidden, output_back = dropout(hidden, mask=masks.get("output"))
    y, head_back = head(hidden, kernel, params["softmax/bias"])

    def backward(dy, dstate: Params | None = None):
        grads, ds = {}, np.zeros_like(s) if dstate is None else dstate["rhn/s"]
        dhidden, dkernel, grads["softmax/bias"] = head_back(dy)
        dx, ds, *dweights = rhn_back(output_back(dhidden), ds)
        grads |= dict(zip(weights, dweights, strict=True))
        grads[EMBEDDING] = embed_back(word_back(dx))
        if tied:
            grads[EMBEDDING] += dkernel.T
        else:
            grads[SOFTMAX] = dkernel
        return grads, {"rhn/s": ds}

    return (y, {"rhn/s": s}), backward


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

    Returns (loss, state), backward, with backward(dloss, dstate=None) -> (grads, dstate), as in `ptb_lstm`.
    """
    return _network(partial(linear_cross_entropy, targets=targets), params, state, tokens, masks)
