"""Inputs of the suite's cases: sequences, weights and layouts, drawn from a generator.

Weights are random and differ between gates, because constant ones hide a wrong order: ONNX's node tests, whose
weights are constant, pass 32 of 40 wrong LSTMs.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from issref.iss.groups import Groups, iss_groups
from issref.iss.layout import Layout, Params
from issref.kernels.reference import dual_block_pass
from issref.models import ptb_gru, ptb_lstm, ptb_rhn
from issref.verify.suite.long_double import shared_squared_norms

Draw = Callable[[np.random.Generator], Params]

_bidirectional = {
    **ptb_lstm.lstm_axes("g0.fw", ("p",)),
    **ptb_lstm.lstm_axes("g0.bw", ("p",)),
    **ptb_lstm.lstm_axes("g1.fw", ("p", "g0.fw", "g0.bw", "g0.fw", "g0.bw")),  # read twice, as attention does
    "end/kernel": (("g1.fw", "p"), ("logit",)),
}
LSTM = ptb_lstm.layout(ptb_lstm.Config(vocabulary=7, embed_size=3, hidden_sizes=(4, 2)))
GRU = ptb_gru.layout(ptb_gru.Config(vocabulary=5, embed_size=3, hidden_sizes=(4, 2)))
RHN = ptb_rhn.layout(ptb_rhn.Config(vocabulary=6, width=4, depth=2))
BIDIRECTIONAL = Layout(_bidirectional, {"p": 2, "g0.fw": 3, "g0.bw": 2, "g1.fw": 2, "logit": 1})
CARRIED = replace(  # a stack with states and a mask among its arrays
    LSTM,
    axes={
        **LSTM.axes,
        **{f"lstm{n}/{part}": (("batch",), (f"~lstm{n}",)) for n in (0, 1) for part in "hc"},
        "mask": (("step",), ("batch",), ("~lstm1",)),
    },
    sizes={**LSTM.sizes, "step": 2, "batch": 2},
)


def spaces(layout: Layout) -> list[str]:
    """Return the spaces whose sizes ISS learns."""
    return [space for space in layout.sizes if f"{space}/bias" in layout.axes] or ["width"]


def layout_json(layout: Layout) -> dict[str, Any]:
    """Return a layout as JSON data."""
    return json.loads(layout.to_json())


def normal(rng: np.random.Generator, scale: float = 1.0, /, **shapes: Sequence[int]) -> Params:
    """Draw an array of independent normal numbers with standard deviation `scale` for each shape."""
    return {name: np.asarray(scale * rng.standard_normal(shape)) for name, shape in shapes.items()}


def without(given: Params, *names: str, prefix: str = "") -> Params:
    """Return the arrays except some, with a prefix before their names."""
    return {f"{prefix}{name}": values for name, values in given.items() if name not in names}


def normals(scale: float = 1.0, /, **shapes: Sequence[int]) -> Draw:
    """Return a function that draws `normal` arrays of these shapes."""
    return lambda rng: normal(rng, scale, **shapes)


def sequence(steps: int, batch: int, inputs: int, hidden: int, *, lengths=None) -> Draw:
    """Return a function that draws the inputs of an LSTM and the gradients of its three outputs."""

    def draw(rng):
        state = dict.fromkeys(("h0", "c0", "dh", "dc"), (batch, hidden))
        given = normal(rng, x=(steps, batch, inputs), dhidden=(steps, batch, hidden), **state)
        given |= normal(rng, kernel=(inputs + hidden, 4 * hidden), bias=(4 * hidden,))
        return given if lengths is None else {**given, "lengths": np.array(lengths)}

    return draw


def gated(steps: int, batch: int, inputs: int, hidden: int, *, biases: int = 4, lengths=None) -> Draw:
    """Return a function that draws the inputs of a GRU with 3 or 4 biases, and the gradients of its outputs."""

    def draw(rng):
        given = normal(rng, x=(steps, batch, inputs), dhidden=(steps, batch, hidden))
        given |= normal(rng, h0=(batch, hidden), dh=(batch, hidden))
        given |= normal(rng, kernel=(inputs + hidden, 3 * hidden), bias=(biases * hidden,))
        return given if lengths is None else {**given, "lengths": np.array(lengths)}

    return draw


def live_biases(rng: np.random.Generator) -> Params:
    """Draw an LSTM whose units 0 and 2 have biases but no weights, as after ISS; unit 3 has neither."""
    given = sequence(4, 2, 3, 5)(rng)
    given["kernel"].reshape(8, 4, 5)[..., [0, 2, 3]] = 0
    given["kernel"][[3, 5, 6]] = 0
    given["bias"].reshape(4, 5)[:, 3] = 0
    return given


def saturated(draw: Draw, gates: int) -> Draw:
    """Return a `draw` with biases that open all gates of unit 0 and close all gates of unit 1."""

    def forced(rng):
        given = draw(rng)
        for bias in (values for name, values in given.items() if name.startswith("bias")):
            bias.reshape(gates, -1)[:, :2] = 800, -800
        return given

    return forced


def both_ways(steps: int, lengths: Sequence[int]) -> Draw:
    """Return a function that draws a bidirectional LSTM of width 3 forward and 2 backward, and sequences."""

    def draw(rng):
        batch = len(lengths)
        given = normal(rng, x=(steps, batch, 2), dhidden=(steps, batch, 5)) | {"lengths": np.array(lengths)}
        for direction, hidden in {"fw": 3, "bw": 2}.items():
            given |= without(sequence(steps, batch, 2, hidden)(rng), "x", "dhidden", prefix=f"{direction}/")
        return given

    return draw


def stack(rng: np.random.Generator) -> Params:
    """Draw two LSTM layers of different widths, with dropout masks."""
    sizes = (3, 4, 2)  # the input and each layer
    given = normal(rng, x=(3, 2, sizes[0]), dhidden=(3, 2, sizes[-1]))
    for layer, hidden in enumerate(sizes[1:]):
        given |= without(sequence(3, 2, sizes[layer], hidden)(rng), "x", "dhidden", prefix=f"lstm{layer}/")
    return given | {f"mask{n}": 1.25 * (rng.random((3, 2, size)) < 0.8) for n, size in enumerate(sizes)}


def highway(steps: int, batch: int, inputs: int, width: int, depth: int, *, masks=()) -> Draw:
    """Return a function that draws a recurrent highway network and the gradients of its two outputs.

    keep is 1/2 for both masks.
    """

    def draw(rng):
        given = normal(rng, x=(steps, batch, inputs), dhidden=(steps, batch, width))
        given |= normal(rng, s0=(batch, width), ds=(batch, width))
        for d, rows in enumerate((inputs + width, *(depth - 1) * (width,))):
            given |= normal(rng, 0.7, **{f"kernel{d}": (rows, 2 * width), f"bias{d}": (2 * width,)})
        sizes = {"input_mask": inputs, "state_mask": width}
        return given | {name: 2.0 * (rng.random((batch, sizes[name])) < 0.5) for name in masks}

    return draw


def predictions(far: float, batch: int = 3) -> Draw:
    """Return a function that draws logits and targets; logits are shifted by `far`, up and down in turn."""

    def draw(rng):
        given = normal(rng, logits=(4, batch, 5), dloss=())
        given["logits"] += far * np.array([1, -1, 1, -1])[:, None, None]
        return given | {"targets": rng.integers(5, size=(4, batch))}

    return draw


def params(
    layout: Layout, *, weak: Iterable[int] = (), dead: Iterable[int] = (), unread: Iterable[int] = ()
) -> Draw:
    """Return a function that draws the arrays of a layout.

    Groups `weak` are small, groups `dead` zero, groups `unread` zero in their rows.
    """

    def draw(rng):
        given = normal(rng, 0.5, **{array: layout.shape(array) for array in layout.axes})
        groups = iss_groups(layout, spaces(layout))
        _scale(given, groups, weak, 1 / 16)
        _scale(given, groups, dead, 0)
        return _scale(given, groups, unread, 0, columns=False)

    return draw


def _scale(given: Params, groups: Groups, which: Iterable[int], factor: float, *, columns: bool = True) -> Params:
    for array, (row_ids, column_ids) in groups.ids.items():
        given[array][np.isin(row_ids, [*which])] *= factor
        if columns:
            given[array][:, np.isin(column_ids, [*which])] *= factor
    return given


def dual_point(layout: Layout, strength: float) -> Draw:
    """Return a function that draws weights, and the shares of the dual after one pass.

    xi_g is share[g, h] v on the weights that groups g and h have in common.
    """

    def draw(rng):
        given, groups = params(layout)(rng), iss_groups(layout, spaces(layout))
        squared_norms = shared_squared_norms(given, groups)
        share = np.zeros_like(squared_norms)
        dual_block_pass(squared_norms, np.append(np.full(groups.count, strength), 0), share)
        return {**given, "share": share}

    return draw


def training(layout: Layout, steps: int, *, weak: Iterable[int], keep: float = 1.0) -> Draw:
    """Return a function that draws parameters, a state, windows (steps, T, B), and masks if keep is below 1."""
    network = ptb_rhn if layout is RHN else ptb_lstm

    def draw(rng):
        window, batch, words = 4, 3, layout.sizes["word"]
        state = network.state_layout(layout, batch)
        given = {f"params/{array}": values for array, values in params(layout, weak=weak)(rng).items()}
        given |= normal(rng, 0.5, **{f"state/{array}": state.shape(array) for array in state.axes})
        text = rng.integers(words, size=(2, steps, window, batch))
        text[0, :, -1] = text[0, :, 0]  # a word that occurs twice
        given |= {"tokens": text[0], "targets": text[1]}
        if keep == 1:
            return given
        if network is ptb_rhn:
            shapes = {"word": (window, batch), **dict.fromkeys(("input", "state", "output"), (batch, 4))}
        else:
            shapes = {space: (window, batch, layout.sizes[space]) for space in ("embed", *spaces(layout))}
        return given | {
            f"masks/{name}": (rng.random((steps, *shape)) < keep) / keep for name, shape in shapes.items()
        }

    return draw


def masked(*shape: int) -> Draw:
    """Return a function that draws x and dy (3, 2, 4), and a dropout mask of this shape; keep is 4/5."""
    return lambda rng: normal(rng, x=(3, 2, 4), dy=(3, 2, 4)) | {"mask": 1.25 * (rng.random(shape) < 0.8)}
