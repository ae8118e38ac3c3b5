"""The cases of the GRU, in both conventions of its reset gate."""

from issref.verify.suite import edge_inputs as edge
from issref.verify.suite import inputs
from issref.verify.suite.case import DEEP, case
from issref.verify.suite.inputs import GRU, gated, layout_json, spaces

AFTER, BEFORE = {"reset_after": True}, {"reset_after": False}
SHORT = [0, 3, 2]  # of four steps

GRUS = {
    "gru": case("gru", gated(5, 3, 4, 2), "gates", "reset", "two biases", "update", "all gradients", **AFTER),
    "gru-before": case(
        "gru", gated(5, 3, 4, 2, biases=3), "gates", "reset", "update", "biases", "all gradients", **BEFORE
    ),
    "gru-square": case("gru", gated(3, 3, 3, 3), "square", "transposes", "gates", **AFTER),
    "gru-before-square": case("gru", gated(3, 3, 3, 3, biases=3), "square", "transposes", "gates", **BEFORE),
    "gru-one-step": case("gru", gated(1, 2, 3, 3), "one step", "states", **AFTER),
    "gru-one-unit": case("gru", gated(4, 2, 3, 1), "one unit", "gates", **AFTER),
    "gru-one-sequence": case("gru", gated(4, 1, 3, 2), "one sequence", **AFTER),
    "gru-saturated": case("gru", inputs.saturated(gated(4, 3, 3, 4), 4), "saturated", **AFTER),
    "gru-before-saturated": case("gru", inputs.saturated(gated(4, 3, 3, 4, biases=3), 3), "saturated", **BEFORE),
    "gru-reverse": case("gru", gated(4, 2, 3, 2), "reverse", reverse=True, **AFTER),
    "gru-lengths": case("gru", gated(4, 3, 3, 2, lengths=[2, 4, 1]), "lengths", **AFTER),
    "gru-before-lengths-reverse": case(
        "gru", gated(4, 3, 3, 2, biases=3, lengths=[2, 4, 1]), "lengths", "reverse", reverse=True, **BEFORE
    ),
    "gru-empty": case("gru", gated(4, 3, 3, 2, lengths=SHORT), "empty", "all short", "lengths", **AFTER),
    "gru-empty-reverse": case(
        "gru", gated(4, 3, 3, 2, lengths=SHORT), "empty", "all short", "reverse", reverse=True, **AFTER
    ),
    "gru-rubbish": case(
        "gru", edge.rubbish_in_padding(gated(5, 3, 3, 2, lengths=[4, 1, 2])), "rubbish", "lengths", **AFTER
    ),
    "gru-large": case(
        "gru", edge.with_open_gate(1, edge.times(gated(4, 2, 3, 4), h0=30, dhidden=100, dh=100)),
        "large", "update", ulp=DEEP, **AFTER,
    ),
    "norms-gru": case("norms", inputs.params(GRU), "groups", layout=layout_json(GRU), spaces=spaces(GRU)),
    "compact-gru": case(
        "compact", inputs.params(GRU, unread=[0, 5]), "every slice", "gates in step", "readers", "two biases",
        layout=layout_json(GRU), spaces=spaces(GRU), readers=[["gru*/kernel", 0], ["softmax/kernel", 0]],
    ),
}  # fmt: skip
