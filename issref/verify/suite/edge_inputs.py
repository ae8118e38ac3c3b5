"""Inputs at the edges: rubbish where nothing is defined, large and small numbers, units with a single reader."""

import numpy as np

from issref.iss.groups import iss_groups
from issref.iss.layout import Layout, Params
from issref.models import ptb_lstm
from issref.verify.suite.inputs import Draw, dual_point, normal, params, spaces

READ = ptb_lstm.layout(ptb_lstm.Config(vocabulary=5, embed_size=2, hidden_sizes=(8, 3)))
READERS = [["lstm*/kernel", 0], ["softmax/kernel", 0]]
ALONE = (0.75, 1.0)  # a vector of norm 5/4, without rounding


def times(draw: Draw, **factors: float) -> Draw:
    """Return a `draw` with some arrays multiplied."""
    return lambda rng: (given := draw(rng)) | {name: factor * given[name] for name, factor in factors.items()}


def all_times(draw: Draw, factor: float) -> Draw:
    """Return a `draw` with all arrays multiplied."""
    return lambda rng: {name: factor * values for name, values in draw(rng).items()}


def with_open_gate(gate: int, draw: Draw) -> Draw:
    """Return a `draw` with one of four biases above 0, that of the gate that keeps a large state."""

    def opened(rng):
        given = draw(rng)
        given["bias"].reshape(4, -1)[gate] += 4
        return given

    return opened


def rubbish_in_padding(draw: Draw) -> Draw:
    """Return a `draw` of an LSTM with 1e4 in x and dhidden after the end of each sequence."""

    def spoiled(rng):
        given = draw(rng)
        ended = np.arange(len(given["x"]))[:, None] >= given["lengths"]
        for name in ("x", "dhidden"):
            given[name][ended] = 1e4
        return given

    return spoiled


def rubbish_in_share(layout: Layout, strength: float) -> Draw:
    """Return a `draw` of a dual point with rubbish on the diagonal and in the last row of share."""

    def draw(rng):
        given = dual_point(layout, strength)(rng)
        np.fill_diagonal(given["share"], 3.0)
        given["share"][-1] = -2.0
        return given

    return draw


def improbable(rng: np.random.Generator) -> Params:
    """Draw logits between which exp underflows, and targets of which every other one is improbable."""
    given = normal(rng, logits=(4, 3, 5), dloss=())
    best = rng.integers(5, size=(4, 3))
    np.put_along_axis(given["logits"], best[..., None], 1200.0, axis=2)
    odd = np.arange(12).reshape(4, 3) % 2
    return given | {"targets": (best + odd) % 5}


def zeros(**shapes) -> Draw:
    """Return a function that gives arrays of zeros."""
    return lambda rng: {name: np.zeros(shape) for name, shape in shapes.items()}


def fixed(**arrays) -> Draw:
    """Return a function that gives these arrays."""
    return lambda rng: {name: np.array(values) for name, values in arrays.items()}


def at_strength(layout: Layout) -> Draw:
    """Draw weights of which groups 0 and 4 share none with others; their norms are exactly 5/4 and 5/2."""

    def draw(rng):
        given = params(layout)(rng)
        groups = iss_groups(layout, spaces(layout))
        for array, (rows, columns) in groups.ids.items():
            given[array][np.isin(rows, [0, 4])] = 0
            given[array][:, np.isin(columns, [0, 4])] = 0
        given["lstm0/kernel"][:2, 0] = ALONE
        given["softmax/kernel"][0, :2] = 2 * np.array(ALONE)
        return given

    return draw


def tiny(layout: Layout, which: list[int], size: float) -> Draw:
    """Draw weights with groups of a tiny norm."""

    def draw(rng):
        given = params(layout)(rng)
        for array, (rows, columns) in iss_groups(layout, spaces(layout)).ids.items():
            given[array][np.isin(rows, which)] *= size
            given[array][:, np.isin(columns, which)] *= size
        return given

    return draw


def read_once(rng: np.random.Generator) -> Params:
    """Draw a stack whose units are each read in one way, or in none.

    Of lstm0, 0 and 7 are read by nothing, 1 by itself, 2 by its layer, 3 by the next, 4 by the dead unit 0, 5 by a
    weight of 1e-30, 6 by two weights whose sum is 0. Of lstm1, 0 is read by a negative weight, 1 by nothing.
    """
    given, heads = params(READ)(rng), {"lstm0": 2, "lstm1": 8, "softmax": 0}
    own, above, words = (given[f"{name}/kernel"][rows:] for name, rows in heads.items())
    above_lstm0 = given["lstm1/kernel"][:8]
    own[:], above_lstm0[:], above[:2], words[:2] = 0, 0, 0, 0
    own[1, 1] = 0.5
    own[2, 8 + 3] = own[2, 24 + 5] = -0.25
    above_lstm0[3, [4, 7]] = 0.75, -0.5
    own[4, 16] = 0.5
    own[5, 31] = 1e-30
    own[6, [2, 12]] = 0.5, -0.5
    words[0, 4] = -0.5
    return given


def nearly_dead(keep: dict[str, int | None]) -> Draw:
    """Return a function that draws a stack in which one unit of each space is read, or none."""

    def draw(rng):
        given = params(READ)(rng)
        for space, alive in keep.items():
            sizes, reader = READ.sizes[space], "lstm1/kernel" if space == "lstm0" else "softmax/kernel"
            dead = np.arange(sizes) != alive
            given[f"{space}/kernel"][-sizes:][dead] = 0
            given[reader][:sizes][dead] = 0
        return given

    return draw
