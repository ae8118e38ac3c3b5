"""The cases of the suite by name: the plain ones here, the harder ones in `edges`."""

from issref.verify.suite import inputs
from issref.verify.suite.case import DEEP, GAP, LARGE, PAPER, RELEASED, case, grouped, minimum, training
from issref.verify.suite.edges import EDGES
from issref.verify.suite.inputs import BIDIRECTIONAL, CARRIED, LSTM, RHN, highway, layout_json, sequence, spaces
from issref.verify.suite.recurrences import GRUS

PLAIN = {
    "lstm": case("lstm", sequence(5, 3, 4, 2), "gates", "biases", "states", "squash", "all gradients"),
    "lstm-square": case("lstm", sequence(3, 3, 3, 3), "square", "transposes", "gates"),
    "lstm-one-step": case("lstm", sequence(1, 2, 3, 2), "one step", "states"),
    "lstm-one-unit": case("lstm", sequence(4, 2, 3, 1), "one unit", "gates"),
    "lstm-saturated": case("lstm", inputs.saturated(sequence(4, 3, 3, 4), 4), "saturated"),
    "lstm-live-biases": case("lstm", inputs.live_biases, "live biases"),
    "lstm-forget-bias": case("lstm", sequence(4, 2, 3, 2), "forget bias", forget_bias=1.0),
    "lstm-reverse": case("lstm", sequence(4, 2, 3, 2), "reverse", reverse=True),
    "lstm-lengths": case("lstm", sequence(4, 3, 3, 2, lengths=[2, 4, 1]), "lengths"),
    "lstm-lengths-reverse": case(
        "lstm", sequence(4, 3, 3, 2, lengths=[2, 4, 1]), "lengths", "reverse", reverse=True
    ),
    "bidirectional": case("bidirectional", inputs.both_ways(4, [4, 1, 3]), "directions", "reverse", "lengths"),
    "stacked": case("stacked", inputs.stack, "masks", "states", "gates"),
    "rhn": case("rhn", highway(4, 2, 3, 2, 3), "gates", "carry", "all gradients", ulp=DEEP),
    "rhn-masks": case(
        "rhn", highway(4, 3, 3, 4, 2, masks=("input_mask", "state_mask")), "same mask", "masks", "carry", ulp=DEEP
    ),
    "rhn-square": case("rhn", highway(3, 3, 3, 3, 2), "square", "transposes", ulp=DEEP),
    "rhn-one-step": case("rhn", highway(1, 2, 3, 2, 1), "one step", ulp=DEEP),
    "rhn-one-unit": case("rhn", highway(3, 2, 2, 1, 2), "one unit", ulp=DEEP),
    "rhn-saturated": case("rhn", inputs.saturated(highway(3, 2, 3, 4, 2), 2), "saturated", ulp=DEEP),
    "dropout": case("dropout", inputs.masked(3, 2, 4), "masks"),
    "dropout-same-mask": case("dropout", inputs.masked(2, 4), "same mask"),
    "cross-entropy": case("cross_entropy", inputs.predictions(0.0), "units of the loss"),
    "cross-entropy-large": case("cross_entropy", inputs.predictions(800.0), "overflow", ulp=LARGE),
    "clip": case("clip", inputs.normals(a=(3, 4), b=(4,), c=(2, 1)), "clip", most=1.5),
    "clip-idle": case("clip", inputs.normals(a=(3, 4), b=(4,)), "clip", most=64.0),
    "norms-lstm": case("norms", inputs.params(LSTM), "groups", layout=layout_json(LSTM), spaces=spaces(LSTM)),
    "norms-rhn": case("norms", inputs.params(RHN), "groups", layout=layout_json(RHN), spaces=spaces(RHN)),
    "norms-bidirectional": case(
        "norms",
        inputs.params(BIDIRECTIONAL),
        "groups",
        "directions",
        layout=layout_json(BIDIRECTIONAL),
        spaces=spaces(BIDIRECTIONAL),
    ),
    "penalty-lstm": grouped(
        "penalty", LSTM, inputs.params(LSTM, dead=[1]), "once or twice", "zero group", "biases are free",
        strength=(0.5, 0.75), **PAPER,
    ),
    "penalty-lstm-released": grouped(
        "penalty", LSTM, inputs.params(LSTM, dead=[1], weak=[4]), "once or twice", "smoothing", "zero group",
        strength=(0.5, 0.75), **RELEASED,
    ),
    "penalty-rhn": grouped("penalty", RHN, inputs.params(RHN), "once or twice", strength=(0.5,), **PAPER),
    "penalty-rhn-released": grouped(
        "penalty", RHN, inputs.params(RHN), "once or twice", strength=(0.5,), **RELEASED
    ),
    "prox-lstm": minimum(
        LSTM, inputs.params(LSTM, weak=[0, 5]), "overlap", "exact zeros", strength=(0.5, 0.75)
    ),
    "prox-rhn": minimum(
        RHN, inputs.params(RHN, weak=[2]), "overlap", "exact zeros", strength=(0.5,)
    ),
    "prox-all-die": minimum(LSTM, inputs.params(LSTM), "exact zeros", strength=(8.0, 8.0)),
    "gap": grouped(
        "gap", LSTM, inputs.dual_point(LSTM, 0.75), "gap", "overlap", strength=(0.75, 0.75), ulp=LARGE,
        spaces=spaces(LSTM),
    ),
    "step-prox": training(
        LSTM, inputs.training(LSTM, 1, weak=[0, 5], keep=0.8), "order of the update", "repeated words", "masks",
        method="prox", strength=(0.5, 0.5), rate=0.5, clip=0.5, ulp=GAP,
    ),
    "step-released": training(
        LSTM, inputs.training(LSTM, 1, weak=[0, 5], keep=0.8),
        "order of the update", "smoothing", "repeated words",
        method="released", strength=(0.25, 0.5), rate=0.5, clip=0.5, threshold=0.0625,
    ),
    "step-idle-clip": training(
        LSTM, inputs.training(LSTM, 1, weak=[0]), "clip", "order of the update",
        method="prox", strength=(0.25, 0.5), rate=0.25, clip=64.0, ulp=GAP,
    ),
    "step-rhn": training(
        RHN, inputs.training(RHN, 1, weak=[1], keep=0.5), "same mask", "order of the update", "repeated words",
        method="prox", strength=(0.5,), rate=0.5, clip=0.5, ulp=GAP,
    ),
    "ten-steps-prox": training(
        LSTM, inputs.training(LSTM, 10, weak=[0, 5]), "carried state", "exact zeros", "order of the update",
        method="prox", strength=(0.125, 0.125), rate=0.25, clip=1.0, ulp=GAP,
    ),
    "ten-steps-released": training(
        LSTM, inputs.training(LSTM, 10, weak=[0, 5]), "carried state", "exact zeros", "order of the update",
        method="released", strength=(0.125, 0.125), rate=0.25, clip=1.0, threshold=0.03125,
    ),
    "compact": case(
        "compact", inputs.params(CARRIED, dead=[1, 4]), "every slice", "gates in step", "live biases",
        layout=layout_json(CARRIED), spaces=spaces(CARRIED),
    ),
    "compact-readers": case(
        "compact", inputs.params(CARRIED, unread=[0, 2, 5]), "readers", "every slice", "gates in step",
        layout=layout_json(CARRIED), spaces=spaces(CARRIED), readers=[["lstm*/kernel", 0], ["softmax/kernel", 0]],
    ),
    "compact-rhn": case(
        "compact", inputs.params(RHN, dead=[0, 3]), "every slice", "gates in step",
        layout=layout_json(RHN), spaces=spaces(RHN),
    ),
}  # fmt: skip

CASES = PLAIN | EDGES | GRUS
