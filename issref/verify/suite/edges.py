"""The cases that are hard: where ISS is hard, where numbers are large or small, and where nothing is defined."""

from issref.verify.suite import edge_inputs as edge
from issref.verify.suite import inputs
from issref.verify.suite.case import DEEP, GAP, LARGE, PAPER, Case, case, grouped, minimum, training
from issref.verify.suite.inputs import BIDIRECTIONAL, LSTM, RHN, highway, layout_json, sequence, spaces

MOST = 2.0**-14
SHORT = [0, 3, 2]  # of four steps


def compacted(draw, *pitfalls: str, **readers) -> Case:
    """Return a compaction of the stack `edge_inputs.READ`."""
    layout = layout_json(edge.READ)
    return case("compact", draw, *pitfalls, layout=layout, spaces=spaces(edge.READ), **readers)


EDGES = {
    "lstm-one-sequence": case("lstm", sequence(4, 1, 3, 2), "one sequence"),
    "lstm-one-sequence-reverse": case(
        "lstm", sequence(3, 1, 2, 3), "one sequence", "reverse", "half", reverse=True, forget_bias=0.5
    ),
    "lstm-half": case("lstm", sequence(4, 2, 3, 2), "half", "forget bias", forget_bias=0.5),
    "lstm-half-short": case(
        "lstm", sequence(4, 3, 2, 3, lengths=SHORT), "half", "all short", reverse=True, forget_bias=0.5
    ),
    "lstm-empty": case("lstm", sequence(4, 3, 3, 2, lengths=SHORT), "empty", "all short", "lengths"),
    "lstm-empty-reverse": case(
        "lstm", sequence(4, 3, 3, 2, lengths=SHORT), "empty", "all short", "reverse", reverse=True
    ),
    "lstm-short-half": case(
        "lstm", sequence(5, 2, 3, 2, lengths=[1, 4]), "all short", "half", "lengths", forget_bias=0.5
    ),
    "lstm-rubbish": case(
        "lstm", edge.rubbish_in_padding(sequence(5, 3, 3, 2, lengths=[4, 1, 2])), "rubbish", "lengths"
    ),
    "lstm-large-cells": case(
        "lstm", edge.with_open_gate(2, edge.times(sequence(4, 2, 3, 4), c0=30)), "large", ulp=DEEP
    ),
    "lstm-large-gradients": case(
        "lstm", edge.times(sequence(4, 2, 3, 4), dhidden=100, dh=100, dc=100), "large", ulp=DEEP
    ),
    "bidirectional-empty": case("bidirectional", inputs.both_ways(4, SHORT), "empty", "all short", "directions"),
    "rhn-one-sequence": case("rhn", highway(3, 1, 2, 3, 2), "one sequence", ulp=DEEP),
    "rhn-input-mask": case("rhn", highway(3, 3, 4, 2, 2, masks=("input_mask",)), "masks", "same mask", ulp=DEEP),
    "rhn-state-mask": case("rhn", highway(3, 3, 2, 4, 2, masks=("state_mask",)), "masks", "same mask", ulp=DEEP),
    "rhn-large": case(
        "rhn", edge.times(highway(3, 2, 3, 4, 2), s0=3, dhidden=100, ds=100), "large", "carry", ulp=DEEP
    ),
    "dropout-one-sequence": case("dropout", inputs.masked(3, 1, 4), "masks", "same mask"),
    "cross-entropy-underflow": case("cross_entropy", edge.improbable, "underflow", "overflow"),
    "cross-entropy-one-sequence": case("cross_entropy", inputs.predictions(0.0, batch=1), "one sequence"),
    "cross-entropy-large-gradient": case(
        "cross_entropy", edge.times(inputs.predictions(0.0), dloss=100), "large", "units of the loss"
    ),
    "clip-zero": case("clip", edge.zeros(a=(3, 4), b=(4,)), "zero gradients", most=1.5),
    "clip-at-most": case("clip", edge.fixed(a=[[1.5, 0.0]], b=[2.0]), "at the limit", most=2.5),
    "clip-above": case("clip", edge.fixed(a=[[1.5, -1.0]], b=[2.0, 1.5]), "at the limit", "clip", most=2.5),
    "clip-small": case("clip", edge.all_times(inputs.normals(a=(3, 2), b=(2,)), 1e-4), "small", "clip", most=MOST),
    "norms-dead": case(
        "norms", inputs.params(LSTM, dead=[0, 5]), "zero group", "first and last",
        layout=layout_json(LSTM), spaces=spaces(LSTM),
    ),
    "penalty-small": grouped(
        "penalty", LSTM, edge.tiny(LSTM, [2, 5], 1e-9), "small", "smoothing", strength=(0.5, 0.75), **PAPER
    ),
    "penalty-one-space": grouped(
        "penalty", LSTM, inputs.params(LSTM, dead=[0, 5]), "strength 0", "zero group",
        strength=(0.0, 0.75), **PAPER,
    ),
    "prox-overlap": minimum(
        LSTM, inputs.params(LSTM), "dies by its neighbours", "overlap", "exact zeros", strength=(2.375, 3.375)
    ),
    "prox-overlap-rhn": minimum(
        RHN, inputs.params(RHN), "dies by its neighbours", "overlap", "exact zeros", strength=(2.25,)
    ),
    "prox-overlap-bidirectional": minimum(
        BIDIRECTIONAL, inputs.params(BIDIRECTIONAL), "dies by its neighbours", "directions", "exact zeros",
        strength=(1.75, 2.75, 2.75),
    ),
    "prox-nearly-all-die": minimum(
        LSTM, inputs.params(LSTM), "nearly all die", "dies by its neighbours", "exact zeros",
        strength=(2.875, 1.375),
        ulp={"float32": 4096, "float64": 2**44},
    ),
    "prox-barely-alive": minimum(  # float32 cannot tell that these groups are alive
        LSTM, inputs.params(LSTM), "barely alive", "nearly all die", "exact zeros", strength=(2.875, 1.859375),
        ulp={"float64": 2**50},
    ),
    "prox-zero-before": minimum(
        LSTM, inputs.params(LSTM, dead=[1, 5]), "zero before", "exact zeros", strength=(0.5, 0.75)
    ),
    "prox-at-strength": minimum(
        LSTM, edge.at_strength(LSTM), "at the strength", "exact zeros", strength=(1.25, 1.25)
    ),
    "prox-one-space": minimum(
        LSTM, inputs.params(LSTM, dead=[0]), "strength 0", "zero before", "exact zeros", strength=(0.0, 1.5)
    ),
    "gap-rubbish": grouped(
        "gap", LSTM, edge.rubbish_in_share(LSTM, 0.75), "rubbish", "gap", strength=(0.75, 0.75), ulp=LARGE,
        spaces=spaces(LSTM),
    ),
    "gap-bidirectional": grouped(
        "gap", BIDIRECTIONAL, inputs.dual_point(BIDIRECTIONAL, 0.75), "gap", "order of groups", "directions",
        strength=(0.75, 0.875, 1.0), spaces=spaces(BIDIRECTIONAL), ulp=LARGE,
    ),
    "windows-prox": training(
        LSTM, inputs.training(LSTM, 3, weak=[0, 5], keep=0.8), "windows", "carried state", "masks",
        method="prox", strength=(0.25, 0.25), rate=0.5, clip=1.0, ulp=GAP,
    ),
    "windows-released": training(
        LSTM, inputs.training(LSTM, 3, weak=[0, 5], keep=0.8), "windows", "carried state", "masks",
        method="released", strength=(0.125, 0.125), rate=0.25, clip=1.0, threshold=0.03125,
    ),
    "windows-rhn": training(
        RHN, inputs.training(RHN, 3, weak=[1], keep=0.5), "windows", "same mask", "carried state",
        method="prox", strength=(0.25,), rate=0.5, clip=1.0, ulp=GAP,
    ),
    "compact-read-once": compacted(
        edge.read_once, "reads", "readers", "small", "first and last", readers=edge.READERS
    ),
    "compact-whole-groups": compacted(edge.read_once, "reads", "small"),
    "compact-space-dies": compacted(
        edge.nearly_dead({"lstm1": None}), "dies whole", "readers", readers=edge.READERS
    ),
    "compact-all-but-one": compacted(
        edge.nearly_dead({"lstm0": 7, "lstm1": 0}), "dies whole", "first and last", readers=edge.READERS
    ),
    "compact-rhn-readers": case(
        "compact", inputs.params(RHN, unread=[0, 2]), "readers", "every slice",
        layout=layout_json(RHN), spaces=spaces(RHN), readers=[["micro*/kernel", 0], ["embed/kernel", 1]],
    ),
}  # fmt: skip
