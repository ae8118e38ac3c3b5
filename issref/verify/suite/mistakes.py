"""The known mistakes of LSTM ports, as variants of one plain LSTM.

A mistake changes what the plain LSTM is given, what it does inside, or what it returns. One that its shapes do not
allow, as the transpose of what is not square, raises ValueError.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from issref.iss.layout import Params
from issref.ops.lstm import GATES
from issref.verify.suite.naive_lstm import Wrong, plain_lstm, sigmoid

SPOKEN: dict[tuple[str, ...], str] = {
    ("input", "forget", "candidate", "output"): "PyTorch, Keras",
    ("input", "output", "forget", "candidate"): "ONNX",
    ("forget", "input", "candidate", "output"): "OpenVINO",
    ("forget", "input", "output", "candidate"): "thinc",
}

Mistake = Callable[[Params, Mapping[str, Any]], Params]


def given(**changes: Callable[[Params], Any]) -> Mistake:
    """Something else is read: {name: function of the inputs}."""
    return lambda inputs, told: plain_lstm(
        {**inputs, **{name: new(inputs) for name, new in changes.items()}}, **told
    )


def told(**changes: Callable[[Mapping[str, Any]], Any]) -> Mistake:
    """Other keywords are heard: {name: function of the keywords}."""
    return lambda inputs, told: plain_lstm(
        inputs, **{**told, **{name: new(told) for name, new in changes.items()}}
    )


def inside(**wrong) -> Mistake:
    """Something else is done in the cell."""
    return lambda inputs, told: plain_lstm(inputs, **told, wrong=Wrong(**wrong))


def returned(**changes: Callable[[Params, Params], Any]) -> Mistake:
    """Something else is returned: {name: function of the right outputs and the inputs}."""

    def mistaken(inputs, told):
        right = plain_lstm(inputs, **told)
        return {**right, **{name: new(right, inputs) for name, new in changes.items()}}

    return mistaken


def blocks(columns: np.ndarray, order: Iterable[int]) -> np.ndarray:
    """The four gates' columns in another order."""
    split = np.split(columns, 4, axis=-1)
    return np.concatenate([split[k] for k in order], axis=-1)


def turned(kernel: np.ndarray, start: int, stop: int) -> np.ndarray:
    """A kernel with rows start to stop transposed, gate by gate."""
    parts = [_square(block) for block in np.split(kernel[start:stop], 4, axis=1)]
    return np.concatenate((kernel[:start], np.concatenate(parts, axis=1), kernel[stop:]))


def orders() -> dict[str, Mistake]:
    """The 23 wrong orders of the gates in what is read, and in the gradients that are returned."""
    table = {}
    for order in list(itertools.permutations(GATES))[1:]:
        spoken = ", ".join(order) + (f" ({SPOKEN[order]})" if order in SPOKEN else "")
        read, write = [order.index(gate) for gate in GATES], [GATES.index(gate) for gate in order]
        table[f"gates read in the order {spoken}"] = given(
            kernel=lambda a, k=read: blocks(a["kernel"], k), bias=lambda a, k=read: blocks(a["bias"], k)
        )
        table[f"gradients of the gates in the order {spoken}"] = returned(
            dkernel=lambda r, _, k=write: blocks(r["dkernel"], k),
            dbias=lambda r, _, k=write: blocks(r["dbias"], k),
        )
    return table


def _square(values: np.ndarray) -> np.ndarray:
    """The first two axes exchanged, where that keeps the shape."""
    if values.shape[0] != values.shape[1]:
        raise ValueError("not square")
    return np.swapaxes(values, 0, 1)


def _hard(slope: float) -> Callable:
    return lambda z: np.clip(slope * z + 0.5, 0, 1)


MISTAKES: dict[str, Mistake] = orders() | {
    "recurrent kernels transposed": given(
        kernel=lambda a: turned(a["kernel"], a["x"].shape[2], len(a["kernel"]))
    ),
    "input kernels transposed": given(kernel=lambda a: turned(a["kernel"], 0, a["x"].shape[2])),
    "kernel reshaped where it should be transposed": given(
        kernel=lambda a: np.ascontiguousarray(a["kernel"].T).reshape(a["kernel"].shape)
    ),
    "rows of the state read before those of the input": given(
        kernel=lambda a: np.roll(a["kernel"], a["x"].shape[2], axis=0)
    ),
    "x read as (B, T, D)": lambda a, told: {
        **(right := plain_lstm({**a, "x": _square(a["x"]), "dhidden": _square(a["dhidden"])}, **told)),
        "hidden": _square(right["hidden"]),
        "dx": _square(right["dx"]),
    },
    "bias left out": given(bias=lambda a: 0 * a["bias"]),
    "bias added twice": given(bias=lambda a: 2 * a["bias"]),
    "bias halved": given(bias=lambda a: a["bias"] / 2),
    "the input gate's bias in every gate": given(bias=lambda a: np.tile(np.split(a["bias"], 4)[0], 4)),
    "forget_bias left out": told(forget_bias=lambda told: 0.0),
    "forget_bias added twice": told(forget_bias=lambda told: 2 * told.get("forget_bias", 0.0)),
    "forget_bias 1 where none is asked for": told(forget_bias=lambda told: 1.0),
    "forget_bias subtracted": told(forget_bias=lambda told: -told.get("forget_bias", 0.0)),
    **{
        f"forget_bias added to the {gate} gate": lambda a, told, k=k: plain_lstm(
            {**a, "bias": a["bias"] + np.repeat(np.eye(4)[k] * told.get("forget_bias", 0), len(a["bias"]) // 4)},
            **{**told, "forget_bias": 0.0},
        )
        for k, gate in enumerate(GATES)
        if gate != "forget"
    },
    "h0 and c0 exchanged": given(h0=lambda a: a["c0"], c0=lambda a: a["h0"]),
    "h0 left out": given(h0=lambda a: 0 * a["h0"]),
    "c0 left out": given(c0=lambda a: 0 * a["c0"]),
    "first state left out": given(h0=lambda a: 0 * a["h0"], c0=lambda a: 0 * a["c0"]),
    "h and c returned exchanged": returned(h=lambda right, _: right["c"], c=lambda right, _: right["h"]),
    "tanh of the cell left out": inside(squash=lambda c: c),
    "sigmoid of the cell for tanh": inside(squash=sigmoid),
    "tanh of the candidate left out": inside(candidate=lambda z: z),
    "sigmoid of the candidate for tanh": inside(candidate=sigmoid),
    "tanh for sigmoid in the gates": inside(gate=np.tanh),
    "hard sigmoid 0.2 z + 0.5 in the gates": inside(gate=_hard(0.2)),
    "hard sigmoid z / 6 + 0.5 in the gates": inside(gate=_hard(1 / 6)),
    "forget gate is 1 - input gate": inside(forget=lambda f, i: 1 - i),
    "forget gate left out": inside(forget=lambda f, i: 1.0),
    "output from the cell of the step before": inside(old_cell=True),
    "hidden[t] is the output of the step before": inside(early=True),
    "reverse not heeded": told(reverse=lambda told: False),
    "time reversed where it should not be": told(reverse=lambda told: not told.get("reverse", False)),
    "outputs of reverse left in reversed order": lambda a, told: {
        **(right := plain_lstm(a, **told)),
        **({"hidden": right["hidden"][::-1]} if told.get("reverse") else {}),
    },
    "lengths not heeded": lambda a, told: plain_lstm({key: a[key] for key in a if key != "lengths"}, **told),
    "outputs beyond the end repeated, not zero": inside(repeat=True),
    "the first state's gradients exchanged": returned(dh0=lambda r, _: r["dc0"], dc0=lambda r, _: r["dh0"]),
    "gradient arriving at h left out": given(dh=lambda a: 0 * a["dh"]),
    "gradient arriving at c left out": given(dc=lambda a: 0 * a["dc"]),
    "gradients arriving at h and c exchanged": given(dh=lambda a: a["dc"], dc=lambda a: a["dh"]),
    "slope of tanh(c) left out of the gradient": inside(slope=np.ones_like),
    "gradient not carried through h": inside(through_h=0.0),
    "gradient not carried through c": inside(through_c=0.0),
    "dkernel from h_t instead of h_{t-1}": inside(late_rows=True),
    "dbias counted twice": returned(dbias=lambda right, _: 2 * right["dbias"]),
    "weight gradients averaged over the batch": returned(
        dkernel=lambda r, a: r["dkernel"] / a["x"].shape[1], dbias=lambda r, a: r["dbias"] / a["x"].shape[1]
    ),
}  # fmt: skip
