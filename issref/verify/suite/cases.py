"""The cases of the suite: an op, its inputs and keywords, and the pitfalls that the case guards.

The tolerance of a case is in units in the last place of the largest entry of each output. Numbers among the
keywords are exact in float32, except 1e-8.
"""

from typing import Any, NamedTuple

import numpy as np

from issref.iss.layout import Params
from issref.verify.suite import inputs
from issref.verify.suite.conformance import VERSION
from issref.verify.suite.inputs import (
    BIDIRECTIONAL,
    CARRIED,
    LSTM,
    RHN,
    Draw,
    highway,
    layout_json,
    sequence,
    spaces,
)

ROUNDING = {"float32": 64, "float64": 64}
DEEP = {"float32": 256, "float64": 256}  # recurrence with gradients that cancel
LARGE = {"float32": 4096, "float64": 4096}  # small differences of large numbers
GAP = {"float32": 128, "float64": 2**36}  # 1.5e-5 of the largest entry, allowed by a relative gap of 1e-12
PAPER, RELEASED = {"self_weight": 1, "smoothing": 0.0}, {"self_weight": 2, "smoothing": 1e-8}

PITFALLS = {
    "gates": "The order of the gates differs between frameworks.",
    "transposes": "Kernels are (inputs, outputs); rows that read the input come before rows that read the state.",
    "biases": "A gate has one bias; a framework with two adds them up (onnx/keras-onnx #98).",
    "forget bias": "forget_bias is added once, to the preactivation of the forget gate.",
    "states": "h0 and c0 are not zero; h and c must not be exchanged (microsoft/nni #2842).",
    "squash": "The output is o tanh(c), not o c (nicodjimenez/lstm #9).",
    "all gradients": "Gradients of hidden, h and c are given; of input, first states and weights, asked for.",
    "square": "T = B and D = H: a wrong transpose or exchange keeps the shape.",
    "one step": "T = 1: only the first state is recurrent.",
    "one unit": "H = 1: axes may be squeezed away, sums may be broadcast.",
    "saturated": "Preactivations of 800: a naive exp overflows.",
    "live biases": "Units without weights can have nonzero outputs, because of their biases.",
    "lengths": "A sequence that has ended keeps its state, outputs zeros and gets no gradient from later steps.",
    "reverse": "Time runs backwards, outputs keep their positions, the last h is that of step 0 (keras #3163).",
    "directions": "Forward and reverse have separate weights; their outputs are concatenated.",
    "masks": "Inverted dropout: masks already contain the division by keep, in the backward pass too.",
    "same mask": "A variational mask is the same for all steps, micro-layers and gates; the carry is not dropped.",
    "carry": "The carry gate is 1 - t; only the first micro-layer reads the input.",
    "units of the loss": "The loss is the sum over the steps and the mean over the batch.",
    "overflow": "exp of large logits overflows unless the largest logit is subtracted first.",
    "clip": "The scale is min(1, most / norm), with one norm of all arrays together, not one for each array.",
    "groups": "A group holds a component's columns in every gate, its recurrent row, and every row that reads it.",
    "once or twice": "The weight from a unit to itself counts once in a set, twice in the released code.",
    "smoothing": "1e-8 is added inside the root, in the released code only.",
    "zero group": "The gradient of a group of zeros is 0, not 0 / 0.",
    "biases are free": "Biases are in no group.",
    "overlap": "Groups overlap: shrinking one after another, or by the product of factors, is no proximal step.",
    "exact zeros": "A dead group must be exactly zero, otherwise nothing can be removed.",
    "gap": "The duality gap bounds the distance to the solution: |w - w*|^2 <= 2 gap.",
    "order of the update": "prox: clip the gradient of the data loss, step, prox with rate times strength. "
    "released: add the penalty's gradient, clip the sum, step, set small weights to zero.",
    "carried state": "The state is carried to the next window, its gradient is not.",
    "repeated words": "The gradients of a word that occurs twice are added up.",
    "every slice": "Compaction cuts a component from every array that has it: weights, biases, states, masks.",
    "gates in step": "All four gates lose the same units.",
    "readers": "A component that nothing reads may be removed, whatever its own columns are.",
}


class Case(NamedTuple):
    """A case without its arrays; `ulp` is the tolerance in each precision."""

    op: str
    draw: Draw
    pitfalls: tuple[str, ...]
    keywords: dict[str, Any]
    ulp: dict[str, int]

    def inputs(self, name: str) -> Params:
        """Return the inputs in float64, drawn from a generator seeded by the name."""
        rng = np.random.default_rng([VERSION, *name.encode()])
        return {array: np.asarray(values) for array, values in self.draw(rng).items()}


def _case(op: str, draw: Draw, *pitfalls: str, ulp=ROUNDING, **keywords) -> Case:
    return Case(op, draw, pitfalls, keywords, ulp)


def _grouped(op, layout, draw, *pitfalls, strength, ulp=ROUNDING, **keywords) -> Case:
    """Return a case on the groups of a layout, with a strength for each space in order."""
    named = dict(zip(spaces(layout), strength, strict=True))
    return Case(op, draw, pitfalls, {"layout": layout_json(layout), "strength": named, **keywords}, ulp)


def _training(layout, draw, *pitfalls, strength, ulp=ROUNDING, **keywords) -> Case:
    model = "rhn" if layout is RHN else "lstm"
    return _grouped("train", layout, draw, *pitfalls, strength=strength, ulp=ulp, model=model, **keywords)


CASES = {
    "lstm": _case("lstm", sequence(5, 3, 4, 2), "gates", "biases", "states", "squash", "all gradients"),
    "lstm-square": _case("lstm", sequence(3, 3, 3, 3), "square", "transposes", "gates"),
    "lstm-one-step": _case("lstm", sequence(1, 2, 3, 2), "one step", "states"),
    "lstm-one-unit": _case("lstm", sequence(4, 2, 3, 1), "one unit", "gates"),
    "lstm-saturated": _case("lstm", inputs.saturated(sequence(4, 3, 3, 4), 4), "saturated"),
    "lstm-live-biases": _case("lstm", inputs.live_biases, "live biases"),
    "lstm-forget-bias": _case("lstm", sequence(4, 2, 3, 2), "forget bias", forget_bias=1.0),
    "lstm-reverse": _case("lstm", sequence(4, 2, 3, 2), "reverse", reverse=True),
    "lstm-lengths": _case("lstm", sequence(4, 3, 3, 2, lengths=[2, 4, 1]), "lengths"),
    "lstm-lengths-reverse": _case(
        "lstm", sequence(4, 3, 3, 2, lengths=[2, 4, 1]), "lengths", "reverse", reverse=True
    ),
    "bidirectional": _case("bidirectional", inputs.both_ways, "directions", "reverse", "lengths"),
    "stacked": _case("stacked", inputs.stack, "masks", "states", "gates"),
    "rhn": _case("rhn", highway(4, 2, 3, 2, 3), "gates", "carry", "all gradients", ulp=DEEP),
    "rhn-masks": _case(
        "rhn", highway(4, 3, 3, 4, 2, masks=("input_mask", "state_mask")), "same mask", "masks", "carry", ulp=DEEP
    ),
    "rhn-square": _case("rhn", highway(3, 3, 3, 3, 2), "square", "transposes", ulp=DEEP),
    "rhn-one-step": _case("rhn", highway(1, 2, 3, 2, 1), "one step", ulp=DEEP),
    "rhn-one-unit": _case("rhn", highway(3, 2, 2, 1, 2), "one unit", ulp=DEEP),
    "rhn-saturated": _case("rhn", inputs.saturated(highway(3, 2, 3, 4, 2), 2), "saturated", ulp=DEEP),
    "dropout": _case("dropout", lambda rng: _masked(rng, (3, 2, 4)), "masks"),
    "dropout-same-mask": _case("dropout", lambda rng: _masked(rng, (2, 4)), "same mask"),
    "cross-entropy": _case("cross_entropy", inputs.predictions(0.0), "units of the loss"),
    "cross-entropy-large": _case("cross_entropy", inputs.predictions(800.0), "overflow", ulp=LARGE),
    "clip": _case("clip", inputs.normals(a=(3, 4), b=(4,), c=(2, 1)), "clip", most=1.5),
    "clip-idle": _case("clip", inputs.normals(a=(3, 4), b=(4,)), "clip", most=64.0),
    "norms-lstm": _case("norms", inputs.params(LSTM), "groups", layout=layout_json(LSTM), spaces=spaces(LSTM)),
    "norms-rhn": _case("norms", inputs.params(RHN), "groups", layout=layout_json(RHN), spaces=spaces(RHN)),
    "norms-bidirectional": _case(
        "norms",
        inputs.params(BIDIRECTIONAL),
        "groups",
        "directions",
        layout=layout_json(BIDIRECTIONAL),
        spaces=spaces(BIDIRECTIONAL),
    ),
    "penalty-lstm": _grouped(
        "penalty", LSTM, inputs.params(LSTM, dead=[1]), "once or twice", "zero group", "biases are free",
        strength=(0.5, 0.75), **PAPER,
    ),
    "penalty-lstm-released": _grouped(
        "penalty", LSTM, inputs.params(LSTM, dead=[1], weak=[4]), "once or twice", "smoothing", "zero group",
        strength=(0.5, 0.75), **RELEASED,
    ),
    "penalty-rhn": _grouped("penalty", RHN, inputs.params(RHN), "once or twice", strength=(0.5,), **PAPER),
    "penalty-rhn-released": _grouped(
        "penalty", RHN, inputs.params(RHN), "once or twice", strength=(0.5,), **RELEASED
    ),
    "prox-lstm": _grouped(
        "prox", LSTM, inputs.params(LSTM, weak=[0, 5]), "overlap", "exact zeros", strength=(0.5, 0.75), ulp=GAP
    ),
    "prox-rhn": _grouped(
        "prox", RHN, inputs.params(RHN, weak=[2]), "overlap", "exact zeros", strength=(0.5,), ulp=GAP
    ),
    "prox-all-die": _grouped("prox", LSTM, inputs.params(LSTM), "exact zeros", strength=(8.0, 8.0), ulp=GAP),
    "gap": _grouped(
        "gap", LSTM, inputs.dual_point(LSTM, 0.75), "gap", "overlap", strength=(0.75, 0.75), ulp=LARGE
    ),
    "step-prox": _training(
        LSTM, inputs.training(LSTM, 1, weak=[0, 5], keep=0.8), "order of the update", "repeated words", "masks",
        method="prox", strength=(0.5, 0.5), rate=0.5, clip=0.5, ulp=GAP,
    ),
    "step-released": _training(
        LSTM, inputs.training(LSTM, 1, weak=[0, 5], keep=0.8),
        "order of the update", "smoothing", "repeated words",
        method="released", strength=(0.25, 0.5), rate=0.5, clip=0.5, threshold=0.0625,
    ),
    "step-idle-clip": _training(
        LSTM, inputs.training(LSTM, 1, weak=[0]), "clip", "order of the update",
        method="prox", strength=(0.25, 0.5), rate=0.25, clip=64.0, ulp=GAP,
    ),
    "step-rhn": _training(
        RHN, inputs.training(RHN, 1, weak=[1], keep=0.5), "same mask", "order of the update", "repeated words",
        method="prox", strength=(0.5,), rate=0.5, clip=0.5, ulp=GAP,
    ),
    "ten-steps-prox": _training(
        LSTM, inputs.training(LSTM, 10, weak=[0, 5]), "carried state", "exact zeros", "order of the update",
        method="prox", strength=(0.125, 0.125), rate=0.25, clip=1.0, ulp=GAP,
    ),
    "ten-steps-released": _training(
        LSTM, inputs.training(LSTM, 10, weak=[0, 5]), "carried state", "exact zeros", "order of the update",
        method="released", strength=(0.125, 0.125), rate=0.25, clip=1.0, threshold=0.03125,
    ),
    "compact": _case(
        "compact", inputs.params(CARRIED, dead=[1, 4]), "every slice", "gates in step", "live biases",
        layout=layout_json(CARRIED), spaces=spaces(CARRIED),
    ),
    "compact-readers": _case(
        "compact", inputs.params(CARRIED, unread=[0, 2, 5]), "readers", "every slice", "gates in step",
        layout=layout_json(CARRIED), spaces=spaces(CARRIED), readers=[["lstm*/kernel", 0], ["softmax/kernel", 0]],
    ),
    "compact-rhn": _case(
        "compact", inputs.params(RHN, dead=[0, 3]), "every slice", "gates in step",
        layout=layout_json(RHN), spaces=spaces(RHN),
    ),
}  # fmt: skip


def _masked(rng: np.random.Generator, shape: tuple[int, ...]) -> Params:
    return inputs.normal(rng, x=(3, 2, 4), dy=(3, 2, 4)) | {"mask": 1.25 * (rng.random(shape) < 0.8)}
