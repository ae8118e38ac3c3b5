"""The known mistakes of LSTM ports, as variants of the naive LSTM.

A mistake changes the inputs, the keywords, the cell or the outputs. It raises ValueError if the shapes do not
allow it, for example if a matrix to be transposed is not square.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from issref.iss.layout import Params
from issref.ops.lstm import GATES
from issref.verify.suite.naive_lstm import RIGHT, naive_lstm, sigmoid

# Gate orders of other libraries
FRAMEWORKS: dict[tuple[str, ...], str] = {
    ("input", "forget", "candidate", "output"): "PyTorch, Keras",
    ("input", "output", "forget", "candidate"): "ONNX",
    ("forget", "input", "candidate", "output"): "OpenVINO",
    ("forget", "input", "output", "candidate"): "thinc",
}

Keywords = Mapping[str, Any]


class Mistake(NamedTuple):
    """Changes of the naive LSTM: of inputs, keywords, the cell (fields of `Wrong`) and outputs."""

    inputs: Callable[[Params, Keywords], Params] = lambda inputs, keywords: {}
    keywords: Callable[[Keywords], Keywords] = lambda keywords: {}
    cell: Mapping[str, Any] = {}
    outputs: Callable[[Params, Params, Keywords], Params] = lambda right, inputs, keywords: {}

    def __call__(self, inputs: Params, keywords: Keywords) -> Params:
        changed = {**inputs, **self.inputs(inputs, keywords)}
        right = naive_lstm(changed, **{**keywords, **self.keywords(keywords)}, wrong=RIGHT._replace(**self.cell))
        return {**right, **self.outputs(right, inputs, keywords)}

    def then(self, other: "Mistake") -> "Mistake":
        """Return both mistakes in one port."""

        def inputs(given, keywords):
            first = self.inputs(given, keywords)
            return {**first, **other.inputs({**given, **first}, keywords)}

        def keywords(given):
            first = self.keywords(given)
            return {**first, **other.keywords({**given, **first})}

        def outputs(right, given, keywords):
            first = self.outputs(right, given, keywords)
            return {**first, **other.outputs({**right, **first}, given, keywords)}

        return Mistake(inputs, keywords, {**self.cell, **other.cell}, outputs)


def change_inputs(**changes: Callable[[Params], Any]) -> Mistake:
    """Change inputs: {name: function of the inputs}."""
    return Mistake(inputs=lambda inputs, keywords: {name: new(inputs) for name, new in changes.items()})


def change_keywords(**changes: Callable[[Keywords], Any]) -> Mistake:
    """Change keywords: {name: function of the keywords}."""
    return Mistake(keywords=lambda keywords: {name: new(keywords) for name, new in changes.items()})


def change_cell(**wrong) -> Mistake:
    """Change functions or constants of the cell, the fields of `Wrong`."""
    return Mistake(cell=wrong)


def change_outputs(**changes: Callable[[Params, Params], Any]) -> Mistake:
    """Change outputs: {name: function of the right outputs and the inputs}."""
    return Mistake(
        outputs=lambda right, inputs, keywords: {name: new(right, inputs) for name, new in changes.items()}
    )


def blocks(columns: np.ndarray, order: Iterable[int]) -> np.ndarray:
    """Return the columns of the four gates in another order."""
    split = np.split(columns, 4, axis=-1)
    return np.concatenate([split[k] for k in order], axis=-1)


def turned(kernel: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Return a kernel with rows start to stop transposed, gate by gate."""
    parts = [_square(block) for block in np.split(kernel[start:stop], 4, axis=1)]
    return np.concatenate((kernel[:start], np.concatenate(parts, axis=1), kernel[stop:]))


def orders() -> dict[str, Mistake]:
    """Return the mistakes of the 23 wrong gate orders, in the weights read and in the gradients returned."""
    table = {}
    for order in list(itertools.permutations(GATES))[1:]:
        label = ", ".join(order) + (f" ({FRAMEWORKS[order]})" if order in FRAMEWORKS else "")
        read, write = [order.index(gate) for gate in GATES], [GATES.index(gate) for gate in order]
        table[f"gates read in the order {label}"] = change_inputs(
            kernel=lambda a, k=read: blocks(a["kernel"], k), bias=lambda a, k=read: blocks(a["bias"], k)
        )
        table[f"gradients of the gates in the order {label}"] = change_outputs(
            dkernel=lambda r, _, k=write: blocks(r["dkernel"], k),
            dbias=lambda r, _, k=write: blocks(r["dbias"], k),
        )
    return table


def _square(values: np.ndarray) -> np.ndarray:
    """Exchange the first two axes. Raises ValueError if that changes the shape."""
    if values.shape[0] != values.shape[1]:
        raise ValueError(f"transpose: expected a square, got shape {values.shape}")
    return np.swapaxes(values, 0, 1)


def _shifted(bias: np.ndarray, gate: int, shift: float) -> np.ndarray:
    return bias + np.repeat(np.eye(4)[gate] * shift, len(bias) // 4)


def _hard(slope: float) -> Callable:
    return lambda z: np.clip(slope * z + 0.5, 0, 1)


MISTAKES: dict[str, Mistake] = orders() | {
    "recurrent kernels transposed": change_inputs(
        kernel=lambda a: turned(a["kernel"], a["x"].shape[2], len(a["kernel"]))
    ),
    "input kernels transposed": change_inputs(kernel=lambda a: turned(a["kernel"], 0, a["x"].shape[2])),
    "kernel reshaped where it should be transposed": change_inputs(
        kernel=lambda a: np.ascontiguousarray(a["kernel"].T).reshape(a["kernel"].shape)
    ),
    "rows of the state read before rows of the input": change_inputs(
        kernel=lambda a: np.roll(a["kernel"], a["x"].shape[2], axis=0)
    ),
    "x read as (B, T, D)": Mistake(
        inputs=lambda a, _: {name: _square(a[name]) for name in ("x", "dhidden")},
        outputs=lambda right, a, _: {name: _square(right[name]) for name in ("hidden", "dx")},
    ),
    "bias left out": change_inputs(bias=lambda a: 0 * a["bias"]),
    "bias added twice": change_inputs(bias=lambda a: 2 * a["bias"]),
    "bias halved": change_inputs(bias=lambda a: a["bias"] / 2),
    "the input gate's bias in every gate": change_inputs(bias=lambda a: np.tile(np.split(a["bias"], 4)[0], 4)),
    "forget_bias left out": change_keywords(forget_bias=lambda k: 0.0),
    "forget_bias added twice": change_keywords(forget_bias=lambda k: 2 * k.get("forget_bias", 0.0)),
    "forget_bias 1 where none is asked for": change_keywords(forget_bias=lambda k: 1.0),
    "forget_bias subtracted": change_keywords(forget_bias=lambda k: -k.get("forget_bias", 0.0)),
    **{
        f"forget_bias added to the {gate} gate": Mistake(
            inputs=lambda a, keywords, n=n: {"bias": _shifted(a["bias"], n, keywords.get("forget_bias", 0))},
            keywords=lambda keywords: {"forget_bias": 0.0},
        )
        for n, gate in enumerate(GATES)
        if gate != "forget"
    },
    "h0 and c0 exchanged": change_inputs(h0=lambda a: a["c0"], c0=lambda a: a["h0"]),
    "h0 left out": change_inputs(h0=lambda a: 0 * a["h0"]),
    "c0 left out": change_inputs(c0=lambda a: 0 * a["c0"]),
    "first state left out": change_inputs(h0=lambda a: 0 * a["h0"], c0=lambda a: 0 * a["c0"]),
    "h and c returned exchanged": change_outputs(h=lambda right, _: right["c"], c=lambda right, _: right["h"]),
    "tanh of the cell left out": change_cell(squash=lambda c: c),
    "sigmoid of the cell for tanh": change_cell(squash=sigmoid),
    "tanh of the candidate left out": change_cell(candidate=lambda z: z),
    "sigmoid of the candidate for tanh": change_cell(candidate=sigmoid),
    "tanh for sigmoid in the gates": change_cell(gate=np.tanh),
    "hard sigmoid 0.2 z + 0.5 in the gates": change_cell(gate=_hard(0.2)),
    "hard sigmoid z / 6 + 0.5 in the gates": change_cell(gate=_hard(1 / 6)),
    "forget gate is 1 - input gate": change_cell(forget=lambda f, i: 1 - i),
    "forget gate left out": change_cell(forget=lambda f, i: 1.0),
    "output from the cell of the step before": change_cell(old_cell=True),
    "hidden[t] is the output of the step before": change_cell(early=True),
    "reverse ignored": change_keywords(reverse=lambda k: False),
    "time reversed where it should not be": change_keywords(reverse=lambda k: not k.get("reverse", False)),
    "outputs of reverse left in reversed order": Mistake(
        outputs=lambda right, _, keywords: {"hidden": right["hidden"][:: -1 if keywords.get("reverse") else 1]}
    ),
    "lengths ignored": change_inputs(lengths=lambda a: np.full(a["x"].shape[1], len(a["x"]))),
    "outputs beyond the end repeated, not zero": change_cell(repeat=True),
    "the first state's gradients exchanged": change_outputs(dh0=lambda r, _: r["dc0"], dc0=lambda r, _: r["dh0"]),
    "gradient arriving at h left out": change_inputs(dh=lambda a: 0 * a["dh"]),
    "gradient arriving at c left out": change_inputs(dc=lambda a: 0 * a["dc"]),
    "gradients arriving at h and c exchanged": change_inputs(dh=lambda a: a["dc"], dc=lambda a: a["dh"]),
    "slope of tanh(c) left out of the gradient": change_cell(slope=np.ones_like),
    "gradient not carried through h": change_cell(through_h=0.0),
    "gradient not carried through c": change_cell(through_c=0.0),
    "dkernel from h_t instead of h_{t-1}": change_cell(late_rows=True),
    "dbias counted twice": change_outputs(dbias=lambda right, _: 2 * right["dbias"]),
    "weight gradients averaged over the batch": change_outputs(
        dkernel=lambda r, a: r["dkernel"] / a["x"].shape[1], dbias=lambda r, a: r["dbias"] / a["x"].shape[1]
    ),
}  # fmt: skip
