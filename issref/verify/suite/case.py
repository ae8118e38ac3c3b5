"""A case of the suite: an op, its inputs and keywords, its tolerance, and the pitfalls that it guards against.

The tolerance is in units in the last place of the largest entry of each output. Numbers among the keywords are
exact in float32, except 1e-8.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from issref.iss.layout import Layout, Params
from issref.verify.suite.inputs import RHN, Draw, layout_json, spaces

Ulp = dict[str, int]  # by precision

SEED = 1
ROUNDING = {"float32": 64, "float64": 64}
DEEP = {"float32": 256, "float64": 256}  # recurrence with gradients that cancel
LARGE = {"float32": 4096, "float64": 4096}  # small differences of large numbers
GAP = {"float32": 128, "float64": 2**38}  # 6e-5 of the largest entry, allowed by a relative gap of 1e-10
PAPER, RELEASED = {"self_weight": 1, "smoothing": 0.0}, {"self_weight": 2, "smoothing": 1e-8}

# A proximal step: how far its objective may be above the minimum. For strongly convex problems this bounds the
# weights' distance, too; their own tolerance in float64 is above that bound.
RELATIVE_GAP = {"float32": 2.0**-17, "float64": 1e-10}
MINIMUM = {"float32": 128, "float64": 2**44}
OBJECTIVE = {"float32": 128, "float64": 2**20}  # 2**20 units in the last place are at least 1e-10 of the value


class Case(NamedTuple):
    """A case without its arrays; `ulp` is the tolerance in each precision, `ulps` that of single outputs."""

    op: str
    draw: Draw
    pitfalls: tuple[str, ...]
    keywords: dict[str, Any]
    ulp: Ulp
    ulps: Mapping[str, Ulp] = {}
    relative_gap: dict[str, float] | None = None

    def inputs(self, name: str) -> Params:
        """Return the inputs in float64, drawn from a generator seeded by the name."""
        rng = np.random.default_rng([SEED, *name.encode()])
        return {array: np.asarray(values) for array, values in self.draw(rng).items()}


def case(op: str, draw: Draw, *pitfalls: str, ulp=ROUNDING, **keywords) -> Case:
    """Return a case of an op."""
    return Case(op, draw, pitfalls, keywords, ulp)


def grouped(op: str, layout: Layout, draw: Draw, *pitfalls, strength, ulp=ROUNDING, **keywords) -> Case:
    """Return a case on the groups of a layout, with a strength for each space in order."""
    named = dict(zip(spaces(layout), strength, strict=True))
    return Case(op, draw, pitfalls, {"layout": layout_json(layout), "strength": named, **keywords}, ulp)


def training(layout: Layout, draw: Draw, *pitfalls, strength, ulp=ROUNDING, **keywords) -> Case:
    """Return training steps of a model."""
    model = "rhn" if layout is RHN else "lstm"
    return grouped("train", layout, draw, *pitfalls, strength=strength, ulp=ulp, model=model, **keywords)


def minimum(layout: Layout, draw: Draw, *pitfalls: str, strength, ulp: Ulp = MINIMUM) -> Case:
    """Return a proximal step, whose objective must be close to the minimum."""
    step = grouped("prox", layout, draw, *pitfalls, strength=strength, ulp=ulp)
    return step._replace(ulps={"objective": OBJECTIVE}, relative_gap=RELATIVE_GAP)
