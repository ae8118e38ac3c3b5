"""Mistakes that porters of other frameworks report, and pairs of mistakes."""

import functools
import itertools

import numpy as np

from issref.iss.layout import Params
from issref.verify.suite.mistakes import (
    MISTAKES,
    Keywords,
    Mistake,
    change_cell,
    change_inputs,
    change_outputs,
    orders,
)
from issref.verify.suite.naive_lstm import naive_lstm

GRADIENTS = ("dx", "dh0", "dc0", "dkernel", "dbias")
PARTS = ("kernel", "bias")


def interleaved(columns: np.ndarray) -> np.ndarray:
    """Return the columns of a framework that has the four gates of a unit next to one another."""
    return columns.reshape(*columns.shape[:-1], -1, 4).swapaxes(-1, -2).reshape(columns.shape)


def rounded(values: np.ndarray, bits: int) -> np.ndarray:
    """Round to a mantissa of `bits` bits, ties away from zero: 10 for TF32 and float16, 7 for bfloat16."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.trunc(mantissa * 2 ** (bits + 1) + np.copysign(0.5, mantissa)), exponent - bits - 1)


def sorted_by_length(right: Params, inputs: Params, *names: str) -> Params:
    """Return outputs whose batch is left in the order of descending lengths."""
    order = np.argsort(-inputs.get("lengths", np.zeros(len(inputs["h0"]))), kind="stable")
    return {name: np.take(right[name], order, axis=-2) for name in names}


def running_on(right: Params, inputs: Params, keywords: Keywords) -> Params:
    """Return the states that go on in the padding."""
    on = naive_lstm({key: values for key, values in inputs.items() if key != "lengths"}, **keywords)
    return {"h": on["h"], "c": on["c"]}


def one_early(right: Params, inputs: Params, keywords: Keywords) -> Params:
    """Return the states before the last step."""
    steps, reverse = len(inputs["x"]), keywords.get("reverse", False)
    if steps == 1:
        return {"h": inputs["h0"], "c": inputs["c0"]}
    keep = slice(1, None) if reverse else slice(steps - 1)
    lengths = inputs.get("lengths", np.full(inputs["x"].shape[1], steps))
    lengths = np.maximum(lengths - 1, 0) if reverse else np.minimum(lengths, steps - 1)
    shorter = {**inputs, "x": inputs["x"][keep], "dhidden": inputs["dhidden"][keep], "lengths": lengths}
    before = naive_lstm(shorter, **keywords)
    return {"h": before["h"], "c": before["c"]}


def _alone(part: str) -> dict[str, Mistake]:
    """Return the wrong gate orders in the kernel or the bias alone."""
    whole = {name: mistake for name, mistake in orders().items() if name.startswith("gates read")}
    return {
        f"{name}, in the {part} alone": Mistake(inputs=lambda a, k, m=mistake: {part: m.inputs(a, k)[part]})
        for name, mistake in whole.items()
    }


def _averaged(names: tuple[str, ...], axis: int) -> Mistake:
    return change_outputs(**{name: lambda right, a, n=name: right[n] / a["x"].shape[axis] for name in names})


PORTERS: dict[str, Mistake] = {
    "gates read as interleaved columns": change_inputs(
        kernel=lambda a: interleaved(a["kernel"]), bias=lambda a: interleaved(a["bias"])
    ),
    **{
        f"gates read as interleaved columns, in the {part} alone": change_inputs(
            **{part: lambda a, p=part: interleaved(a[p])}
        )
        for part in PARTS
    },
    **_alone("kernel"),
    **_alone("bias"),
    "dh0 and dc0 are zero": change_outputs(dh0=lambda r, a: 0 * r["dh0"], dc0=lambda r, a: 0 * r["dc0"]),
    "weight gradients averaged over the steps": _averaged(("dkernel", "dbias"), 0),
    "all gradients averaged over the steps": _averaged(GRADIENTS, 0),
    "all gradients averaged over the batch": _averaged(GRADIENTS, 1),
    "h is the output of the last step, also of sequences that have ended": Mistake(
        outputs=lambda right, a, keywords: {"h": right["hidden"][0 if keywords.get("reverse") else -1]}
    ),
    "the batch is left sorted by length": Mistake(
        outputs=lambda right, a, keywords: sorted_by_length(right, a, "hidden", "h", "c")
    ),
    "h and c are left sorted by length": Mistake(
        outputs=lambda right, a, keywords: sorted_by_length(right, a, "h", "c")
    ),
    "the state runs on in the padding": Mistake(outputs=running_on),
    "h and c are those before the last step": Mistake(outputs=one_early),
    "backward truncated to 1 step": change_cell(stop=1),
    "backward truncated to 2 steps": change_cell(stop=2),
    "factors of the products rounded to TF32": change_inputs(
        x=lambda a: rounded(a["x"], 10), kernel=lambda a: rounded(a["kernel"], 10)
    ),
    "factors of the products rounded to bfloat16": change_inputs(
        x=lambda a: rounded(a["x"], 7), kernel=lambda a: rounded(a["kernel"], 7)
    ),
    "kernel rounded to float16": change_inputs(kernel=lambda a: a["kernel"].astype(np.float16).astype(float)),
}
SINGLE = MISTAKES | PORTERS
_PAIRED = [name for name in MISTAKES if not name.startswith("gradients of the gates")]


@functools.cache
def pairs() -> dict[str, Mistake]:
    """Return the pairs of the known mistakes."""
    return {
        f"{one} and {other}": MISTAKES[one].then(MISTAKES[other])
        for one, other in itertools.combinations(_PAIRED, 2)
        if not (one.startswith("gates read") and other.startswith("gates read"))
    }
