"""BiDAF on SQuAD (Seo et al. 2017), the third system of the paper (section 4.2): find the answer span in a text.

The layers are: word and character features, two highway layers, a contextual LSTM `h`, attention, two modelling
LSTMs `g0` and `g1`, the logits of the answer's start, one more LSTM `g2`, and the logits of its end. Every LSTM is
bidirectional, .fw and .bw. ISS learns the sizes of g0, g1, g2: six spaces. T context words, J question words, B
batch, W letters of a word. Tutorial: tutorials/8_attention.py.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Integer, Shaped

from issref.iss.layout import Axis, Layout, Params
from issref.models.bidaf_layers import HIGHWAYS, Text, attend, bilstm, features, span_logits
from issref.models.ptb_lstm import lstm_axes
from issref.ops.attention import attention_pool, concatenate, multiply
from issref.ops.losses import MASKED_LOGIT, span_cross_entropy

NAME = "bidaf"
LEARNED = ("g0.fw", "g0.bw", "g1.fw", "g1.bw", "g2.fw", "g2.bw")

# A component may be removed when these slices of it are zero: only rows of these kernels read it.
READERS = (("g*/kernel", 0), ("start/kernel", 0), ("end/kernel", 0))


@dataclass(frozen=True)
class Config:
    """Sizes and settings of the model; `keep` is the probability that dropout keeps a value."""

    trainable: int = 1_000  # words with a learned vector, ids from 0: padding, unknown, words without a fixed one
    word_size: int = 100  # D of a word's vector, fixed or learned
    characters: int = 300  # id 0 is padding, 1 unknown
    char_size: int = 8
    char_width: int = 5  # letters in a window of the convolution
    filters: int = 100
    hidden_size: int = 100  # of each of the eight LSTMs
    keep: float = 0.8


# ---------------------------------------------------------------- the layout


def layout(config: Config, groups: Literal["all", "released"] = "all") -> Layout:
    """Return the layout of all arrays.

    With groups="released", the attended rows of g2 are not counted, as in the released code. A component whose
    group is zero may then still be read by these rows, so its removal may change the answer.
    """
    h, g0, g1, g2 = ((f"{name}.fw", f"{name}.bw") for name in ("h", "g0", "g1", "g2"))
    word = ("filter", "embed")
    p0 = 4 * h  # h, u~, h * u~, h * h~ end to end
    attended = g1 if groups == "all" else tuple(f"~{space}" for space in g1)
    inputs = {**dict.fromkeys(h, word), **dict.fromkeys(g0, p0), **dict.fromkeys(g1, g0)}
    inputs |= dict.fromkeys(g2, p0 + g1 + attended + g1)  # p0, g1, a, g1 * a
    axes: dict[str, tuple[Axis, ...]] = {
        "words/kernel": (("word",), ("embed",)),
        "characters/kernel": (("character",), ("letter",)),
        "convolution/kernel": (config.char_width * ("letter",), ("filter",)),
        "convolution/bias": (("~filter",),),
    }
    for name in HIGHWAYS:
        axes |= {f"{name}/kernel": (word, 2 * word), f"{name}/bias": (2 * tuple(f"~{space}" for space in word),)}
    for layer in inputs:
        axes |= lstm_axes(layer, inputs[layer])
    axes |= {
        "attention/kernel": (3 * h, ("similarity",)),
        "attention/bias": (("similarity",),),
        "start/kernel": (g1 + p0, ("logit",)),
        "start/bias": (("logit",),),
        "end/kernel": (g2 + p0, ("logit",)),
        "end/bias": (("logit",),),
    }
    sizes = {"word": config.trainable, "embed": config.word_size, "character": config.characters}
    sizes |= {"letter": config.char_size, "filter": config.filters, "similarity": 1, "logit": 1}
    return Layout(axes, sizes | dict.fromkeys(inputs, config.hidden_size))


def spaces(arrays: Iterable[str]) -> list[str]:
    """Return the spaces whose sizes ISS learns: the modelling and output LSTMs, one space for each direction."""
    found = set(arrays)
    return [space for space in LEARNED if f"{space}/kernel" in found]


def released_thresholded(arrays: Iterable[str]) -> list[str]:
    """Return the arrays whose small weights the released code zeroes: all after the features, biases too."""
    return [array for array in arrays if not array.startswith(("words", "characters", "convolution", "highway"))]


def readers_of(layout: Layout) -> tuple[tuple[str, int], ...]:
    """Return `READERS`, which are the same for every layout."""
    return READERS


def init_params(
    config: Config, layout: Layout, rng: np.random.Generator, dtype: npt.DTypeLike = np.float64
) -> Params:
    """Draw kernels from +-sqrt(6 / (inputs + outputs)), words from N(0, 1); biases are 0 (released code)."""
    params = layout.allocate(dtype)
    for array in (array for array in params if array.endswith("/kernel")):
        inputs, outputs = shape = layout.shape(array)
        if array.startswith("convolution"):
            outputs *= config.char_width  # every letter is in as many windows
        elif array.startswith("highway"):
            outputs //= 2  # candidate and gate are two kernels side by side
        limit = math.sqrt(6 / max(inputs + outputs, 1))
        values = rng.standard_normal(shape) if array == "words/kernel" else rng.uniform(-limit, limit, shape)
        params[array] = values.astype(dtype)
    return params


def multiply_adds(layout: Layout) -> int:
    """Return the multiply-adds for one context word after attention: the entries of kernels that ISS shrinks."""
    return sum(math.prod(layout.shape(f"{name}/kernel")) for name in (*spaces(layout.axes), "start", "end"))


# ---------------------------------------------------------------- dropout


def draw_masks(
    config: Config,
    sizes: Mapping[str, int],
    rng: np.random.Generator,
    context_shape: tuple[int, int, int],
    question_shape: tuple[int, int, int],
) -> Params:
    """Draw inverted dropout masks for one batch, whose `characters` have the shapes (T, B, W) and (J, B, W).

    There is a mask for letters, for the input of each LSTM and for the input of both logits. The contextual LSTM
    has one for the question and none for the context (as in the released code). If keep is 1, there are no masks.
    """
    if config.keep == 1:
        return {}
    masked = _mask_layout(layout(config).resized(sizes), context_shape, question_shape)
    return {
        name: (rng.random(masked.shape(name), np.float32) < config.keep) / np.float32(config.keep)
        for name in masked.axes
    }


def mask_layout(layout: Layout, masks: Params) -> Layout:
    """Return the layout of dropout masks, so that `compact` can cut them."""
    if not masks:
        return Layout({}, layout.sizes)
    return _mask_layout(layout, *(masks[f"{text}/letters"].shape[:3] for text in ("context", "question")))


def _mask_layout(layout: Layout, context_shape: tuple[int, ...], question_shape: tuple[int, ...]) -> Layout:
    axes, sizes = {}, dict(layout.sizes)
    for text, shape in {"context": context_shape, "question": question_shape}.items():
        sizes |= zip((f"{text} word", "batch", f"{text} letter"), shape, strict=True)
        axes[f"{text}/letters"] = ((f"{text} word",), ("batch",), (f"{text} letter",), ("~letter",))
    for name in ("h.fw", "h.bw", *spaces(layout.axes), "start", "end"):
        inputs = tuple(
            f"~{space.removeprefix('~')}" for space in layout.axes[f"{name}/kernel"][0] if space != name
        )
        axes[name] = (("question word" if name.startswith("h") else "context word",), ("batch",), inputs)
    return Layout(axes, sizes)


# ---------------------------------------------------------------- the network


def logits(
    params: Params,
    *,
    context: Text,
    question: Text,
    vectors: Shaped[np.ndarray, "F D"],
    masks: Params | None = None,
):
    """Compute unnormalised log probabilities that the answer starts and ends at each word, (T, B) each.

    At padding they are MASKED_LOGIT, -1e30. Word ids below the number of trainable words are rows of words/kernel;
    the higher ids are rows of the fixed `vectors`.

    Returns (start, end), backward, with backward(dstart, dend) -> grads.
    """
    masks = masks or {}
    lengths, valid = context.lengths, np.arange(len(context.words))[:, None] < context.lengths
    x, x_back = features(params, context, vectors, masks.get("context/letters"))
    z, z_back = features(params, question, vectors, masks.get("question/letters"))
    h, h_back = bilstm(params, "h", x, lengths, {})
    u, u_back = bilstm(params, "h", z, question.lengths, masks)
    p0, p0_back = attend(params, h, u, lengths, question.lengths)
    g0, g0_back = bilstm(params, "g0", p0, lengths, masks)
    g1, g1_back = bilstm(params, "g1", g0, lengths, masks)
    start, start_back = span_logits(params, "start", (g1, p0), masks)
    a, a_back = attention_pool(start, g1, lengths=lengths)  # g1 at the probable start
    b, b_back = multiply(g1, a)
    seen, seen_back = concatenate(p0, g1, np.broadcast_to(a, g1.shape), b)
    g2, g2_back = bilstm(params, "g2", seen, lengths, masks)
    end, end_back = span_logits(params, "end", (g2, p0), masks)

    def backward(dstart: Shaped[np.ndarray, "T B"], dend: Shaped[np.ndarray, "T B"]):
        (dg2, dp0), end_grads = end_back(np.where(valid, dend, 0))
        dseen, g2_grads = g2_back(dg2)
        dp0_seen, dg1, da, db = seen_back(dseen)
        dg1_product, da_product = b_back(db)
        dstart_selected, dg1_selected = a_back(da.sum(axis=0) + da_product)
        (dg1_start, dp0_start), start_grads = start_back(np.where(valid, dstart, 0) + dstart_selected)
        dg0, g1_grads = g1_back(dg1 + dg1_product + dg1_selected + dg1_start)
        dp0_read, g0_grads = g0_back(dg0)
        dh, du, p0_grads = p0_back(dp0 + dp0_seen + dp0_start + dp0_read)
        dz, u_grads = u_back(du)
        dx, h_grads = h_back(dh)
        found = end_grads | g2_grads | start_grads | g1_grads | g0_grads | p0_grads
        shared = (h_grads | x_back(dx), u_grads | z_back(dz))  # context and question pass through the same layers
        return found | {array: shared[0][array] + shared[1][array] for array in shared[0]}

    return (np.where(valid, start, MASKED_LOGIT), np.where(valid, end, MASKED_LOGIT)), backward


def loss(
    params: Params,
    *,
    context: Text,
    question: Text,
    starts: Integer[np.ndarray, " B"],
    ends: Integer[np.ndarray, " B"],
    vectors: Shaped[np.ndarray, "F D"],
    masks: Params | None = None,
):
    """Compute the cross-entropies of start and end, added, in nats: the mean over the batch, as in the paper.

    Returns loss, backward, with backward(dloss) -> grads. See `logits`.
    """
    found, logits_back = logits(params, context=context, question=question, vectors=vectors, masks=masks)
    cost, cost_back = span_cross_entropy(*found, starts=starts, ends=ends, lengths=context.lengths)

    def backward(dloss):
        return logits_back(*cost_back(dloss))

    return cost, backward


def best_span(start: Shaped[np.ndarray, "T B"], end: Shaped[np.ndarray, "T B"]):
    """Return the most probable answer to each question: starts i, ends j and probabilities, (B,) each.

    They maximise p_start(i) p_end(j) over i <= j, where p_start and p_end are the softmax of the logits.
    """
    first, last = (x.astype(np.float64) - np.logaddexp.reduce(x.astype(np.float64), axis=0) for x in (start, end))
    spans = np.maximum.accumulate(first, axis=0) + last
    ends = spans.argmax(axis=0)
    starts = np.array([first[: j + 1, b].argmax() for b, j in enumerate(ends)], int)
    return starts, ends, np.exp(spans.max(axis=0))
