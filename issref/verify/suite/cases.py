"""The cases of the suite: an op, what it is computed on, its keywords, and the pitfalls it guards.

The tolerance of a case is in units in the last place of the largest entry of each output. Keywords are numbers
that float32 holds exactly (but 1e-8).
"""

from typing import Any, NamedTuple

import numpy as np

from issref.iss.layout import Params
from issref.verify.suite import inputs as draws
from issref.verify.suite.conformance import VERSION
from issref.verify.suite.inputs import BIDIRECTIONAL, CARRIED, LSTM, RHN, highway, sequence, spaces, spelled

ROUNDING = {"float32": 64, "float64": 64}
DEEP = {"float32": 256, "float64": 256}  # of a recurrence whose gradients cancel
LARGE = {"float32": 4096, "float64": 4096}  # of small differences of large numbers
GAP = {"float32": 128, "float64": 2**36}  # 1.5e-5 of the largest entry: what a relative gap of 1e-12 allows
PAPER, RELEASED = {"self_weight": 1, "smoothing": 0.0}, {"self_weight": 2, "smoothing": 1e-8}

PITFALLS = {
    "gates": "The order of the gates: every framework has another.",
    "transposes": "Kernels are (inputs, outputs), rows of the input before rows of the state.",
    "biases": "There is one bias; where a framework has two, their sum is meant (onnx/keras-onnx #98).",
    "forget bias": "forget_bias is added to the forget gate's preactivation, once.",
    "states": "h0 and c0 are not zero, h and c are not exchanged (microsoft/nni #2842).",
    "squash": "The output is that of tanh(c), not of c (nicodjimenez/lstm #9).",
    "all gradients": "Gradients of the input, the first states and the weights, with one arriving at h and c too.",
    "square": "T = B and D = H: what is transposed or exchanged keeps its shape.",
    "one step": "T = 1: nothing is recurrent but the first state.",
    "one unit": "H = 1: axes that are squeezed away, sums that are broadcast.",
    "saturated": "Preactivations of 800: exp overflows unless it is written with care.",
    "live biases": "Units without weights whose biases still move them: they are not dead in their outputs.",
    "lengths": "Sequences that end early keep their state, put out zeros, and receive no gradient from beyond.",
    "reverse": "Time runs backwards, outputs stay in their places, state h is that of step 0 (keras #3163).",
    "directions": "Forward and reverse have weights of their own; their outputs lie side by side.",
    "masks": "Inverted dropout: kept values are divided by keep already, in the backward too.",
    "same mask": "Variational masks are the same for all steps, micro-layers and gates; the carry is undropped.",
    "carry": "The carry gate is 1 - t; the input enters the first micro-layer only.",
    "units of the loss": "The sum over the steps, the mean over the batch.",
    "overflow": "exp of large logits overflows unless the largest is subtracted.",
    "clip": "min(1, most / norm) of all gradients together, not of each array.",
    "groups": "A group is all of a component: columns in every gate, recurrent row, each row that reads it.",
    "once or twice": "The weight of a unit with itself: once in a set, twice in the released code.",
    "smoothing": "1e-8 stands inside the root, in the released code's convention only.",
    "zero group": "A group of zeros: its gradient is 0, and not 0 / 0.",
    "biases are free": "Biases are in no group.",
    "overlap": "Groups overlap: neither one shrinkage after the other nor their product is the proximal step.",
    "exact zeros": "A dead group is exactly zero, or nothing can ever be removed.",
    "gap": "The duality gap bounds the distance to the solution: |w - w*|^2 <= 2 gap.",
    "order of the update": "prox: clip the data's gradient, step, prox at rate times strength. released: add the "
    "penalty's gradient, clip the sum, step, zero what is below the threshold.",
    "carried state": "The state goes on to the next window, its gradient does not.",
    "repeated words": "The gradients of a word that occurs twice add up.",
    "every slice": "Compaction cuts every array wherever the component lies: biases, states, masks, each reader.",
    "gates in step": "All four gates lose the same units.",
    "readers": "A component that nothing reads may go, whatever its own columns are.",
}


class Case(NamedTuple):
    """A case before it is computed; `ulp` is its tolerance in each precision."""

    op: str
    draw: draws.Draw
    pitfalls: tuple[str, ...]
    keywords: dict[str, Any]
    ulp: dict[str, int]

    def inputs(self, name: str) -> Params:
        """The inputs, in float64, from a generator seeded by the name."""
        rng = np.random.default_rng([VERSION, *name.encode()])
        return {array: np.asarray(values) for array, values in self.draw(rng).items()}


def _case(op: str, draw: draws.Draw, *pitfalls: str, ulp=ROUNDING, **keywords) -> Case:
    return Case(op, draw, pitfalls, keywords, ulp)


def _grouped(op, layout, draw, *pitfalls, strength, ulp=ROUNDING, **keywords) -> Case:
    """A case on the groups of a layout, with a strength for each space in turn."""
    named = dict(zip(spaces(layout), strength, strict=True))
    return Case(op, draw, pitfalls, {"layout": spelled(layout), "strength": named, **keywords}, ulp)


def _training(layout, draw, *pitfalls, strength, ulp=ROUNDING, **keywords) -> Case:
    model = "rhn" if layout is RHN else "lstm"
    return _grouped("train", layout, draw, *pitfalls, strength=strength, ulp=ulp, model=model, **keywords)


CASES = {
    "lstm": _case("lstm", sequence(5, 3, 4, 2), "gates", "biases", "states", "squash", "all gradients"),
    "lstm-square": _case("lstm", sequence(3, 3, 3, 3), "square", "transposes", "gates"),
    "lstm-one-step": _case("lstm", sequence(1, 2, 3, 2), "one step", "states"),
    "lstm-one-unit": _case("lstm", sequence(4, 2, 3, 1), "one unit", "gates"),
    "lstm-saturated": _case("lstm", draws.saturated(sequence(4, 3, 3, 4), 4), "saturated"),
    "lstm-live-biases": _case("lstm", draws.live_biases, "live biases"),
    "lstm-forget-bias": _case("lstm", sequence(4, 2, 3, 2), "forget bias", forget_bias=1.0),
    "lstm-reverse": _case("lstm", sequence(4, 2, 3, 2), "reverse", reverse=True),
    "lstm-lengths": _case("lstm", sequence(4, 3, 3, 2, lengths=[2, 4, 1]), "lengths"),
    "lstm-lengths-reverse": _case(
        "lstm", sequence(4, 3, 3, 2, lengths=[2, 4, 1]), "lengths", "reverse", reverse=True
    ),
    "bidirectional": _case("bidirectional", draws.both_ways, "directions", "reverse", "lengths"),
    "stacked": _case("stacked", draws.stack, "masks", "states", "gates"),
    "rhn": _case("rhn", highway(4, 2, 3, 2, 3), "gates", "carry", "all gradients", ulp=DEEP),
    "rhn-masks": _case(
        "rhn", highway(4, 3, 3, 4, 2, masks=("input_mask", "state_mask")), "same mask", "masks", "carry", ulp=DEEP
    ),
    "rhn-square": _case("rhn", highway(3, 3, 3, 3, 2), "square", "transposes", ulp=DEEP),
    "rhn-one-step": _case("rhn", highway(1, 2, 3, 2, 1), "one step", ulp=DEEP),
    "rhn-one-unit": _case("rhn", highway(3, 2, 2, 1, 2), "one unit", ulp=DEEP),
    "rhn-saturated": _case("rhn", draws.saturated(highway(3, 2, 3, 4, 2), 2), "saturated", ulp=DEEP),
    "dropout": _case("dropout", lambda rng: _masked(rng, (3, 2, 4)), "masks"),
    "dropout-same-mask": _case("dropout", lambda rng: _masked(rng, (2, 4)), "same mask"),
    "cross-entropy": _case("cross_entropy", draws.predictions(0.0), "units of the loss"),
    "cross-entropy-large": _case("cross_entropy", draws.predictions(800.0), "overflow", ulp=LARGE),
    "clip": _case("clip", draws.normals(a=(3, 4), b=(4,), c=(2, 1)), "clip", most=1.5),
    "clip-idle": _case("clip", draws.normals(a=(3, 4), b=(4,)), "clip", most=64.0),
    "norms-lstm": _case("norms", draws.params(LSTM), "groups", layout=spelled(LSTM), spaces=spaces(LSTM)),
    "norms-rhn": _case("norms", draws.params(RHN), "groups", layout=spelled(RHN), spaces=spaces(RHN)),
    "norms-bidirectional": _case(
        "norms",
        draws.params(BIDIRECTIONAL),
        "groups",
        "directions",
        layout=spelled(BIDIRECTIONAL),
        spaces=spaces(BIDIRECTIONAL),
    ),
    "penalty-lstm": _grouped(
        "penalty", LSTM, draws.params(LSTM, dead=[1]), "once or twice", "zero group", "biases are free",
        strength=(0.5, 0.75), **PAPER,
    ),
    "penalty-lstm-released": _grouped(
        "penalty", LSTM, draws.params(LSTM, dead=[1], weak=[4]), "once or twice", "smoothing", "zero group",
        strength=(0.5, 0.75), **RELEASED,
    ),
    "penalty-rhn": _grouped("penalty", RHN, draws.params(RHN), "once or twice", strength=(0.5,), **PAPER),
    "penalty-rhn-released": _grouped(
        "penalty", RHN, draws.params(RHN), "once or twice", strength=(0.5,), **RELEASED
    ),
    "prox-lstm": _grouped(
        "prox", LSTM, draws.params(LSTM, weak=[0, 5]), "overlap", "exact zeros", strength=(0.5, 0.75), ulp=GAP
    ),
    "prox-rhn": _grouped(
        "prox", RHN, draws.params(RHN, weak=[2]), "overlap", "exact zeros", strength=(0.5,), ulp=GAP
    ),
    "prox-all-die": _grouped("prox", LSTM, draws.params(LSTM), "exact zeros", strength=(8.0, 8.0), ulp=GAP),
    "gap": _grouped("gap", LSTM, draws.dual_point(LSTM, 0.75), "gap", "overlap", strength=(0.75, 0.75), ulp=LARGE),
    "step-prox": _training(
        LSTM, draws.training(LSTM, 1, weak=[0, 5], keep=0.8), "order of the update", "repeated words", "masks",
        method="prox", strength=(0.5, 0.5), rate=0.5, clip=0.5, ulp=GAP,
    ),
    "step-released": _training(
        LSTM, draws.training(LSTM, 1, weak=[0, 5], keep=0.8), "order of the update", "smoothing", "repeated words",
        method="released", strength=(0.25, 0.5), rate=0.5, clip=0.5, threshold=0.0625,
    ),
    "step-idle-clip": _training(
        LSTM, draws.training(LSTM, 1, weak=[0]), "clip", "order of the update",
        method="prox", strength=(0.25, 0.5), rate=0.25, clip=64.0, ulp=GAP,
    ),
    "step-rhn": _training(
        RHN, draws.training(RHN, 1, weak=[1], keep=0.5), "same mask", "order of the update", "repeated words",
        method="prox", strength=(0.5,), rate=0.5, clip=0.5, ulp=GAP,
    ),
    "ten-steps-prox": _training(
        LSTM, draws.training(LSTM, 10, weak=[0, 5]), "carried state", "exact zeros", "order of the update",
        method="prox", strength=(0.125, 0.125), rate=0.25, clip=1.0, ulp=GAP,
    ),
    "ten-steps-released": _training(
        LSTM, draws.training(LSTM, 10, weak=[0, 5]), "carried state", "exact zeros", "order of the update",
        method="released", strength=(0.125, 0.125), rate=0.25, clip=1.0, threshold=0.03125,
    ),
    "compact": _case(
        "compact", draws.params(CARRIED, dead=[1, 4]), "every slice", "gates in step", "live biases",
        layout=spelled(CARRIED), spaces=spaces(CARRIED),
    ),
    "compact-readers": _case(
        "compact", draws.params(CARRIED, unread=[0, 2, 5]), "readers", "every slice", "gates in step",
        layout=spelled(CARRIED), spaces=spaces(CARRIED), readers=[["lstm*/kernel", 0], ["softmax/kernel", 0]],
    ),
    "compact-rhn": _case(
        "compact", draws.params(RHN, dead=[0, 3]), "every slice", "gates in step",
        layout=spelled(RHN), spaces=spaces(RHN),
    ),
}  # fmt: skip


def _masked(rng: np.random.Generator, shape: tuple[int, ...]) -> Params:
    return draws.normal(rng, x=(3, 2, 4), dy=(3, 2, 4)) | {"mask": 1.25 * (rng.random(shape) < 0.8)}
