"""Patterns of a wrong output: what its numbers have to do with the expected ones."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from issref.iss.layout import Params
from issref.verify.suite.conformance import ulps


class Wrong(NamedTuple):
    """A wrong output of a case: `found` for `expected`, with all inputs and expected outputs of the case."""

    name: str
    found: np.ndarray
    expected: np.ndarray
    inputs: Params
    outputs: Params
    dtype: str
    most: int

    def near(self, found: np.ndarray, expected: np.ndarray) -> bool:
        """Whether two arrays are equal within the tolerance."""
        return found.shape == expected.shape and ulps(found, expected, self.dtype) <= self.most


def patterns(wrong: Wrong) -> set[str]:
    """Return the patterns that an output follows, as the rest of a sentence that begins with its name."""
    if wrong.expected.dtype.kind != "f":
        return {"the opposite"} if np.array_equal(wrong.found, ~wrong.expected) else set()
    if not wrong.found.any():
        return {"all zero"}
    found = {*_factors(wrong), *_copies(wrong)} or {*_orders(wrong)}
    return found | {*_steps(wrong), *_columns(wrong)}


def _factors(wrong: Wrong) -> Iterator[str]:
    found, expected = wrong.found.ravel(), wrong.expected.ravel()
    square = float(expected @ expected)
    factor = float(found @ expected) / square if square else 0.0
    if factor and wrong.near(wrong.found / factor, wrong.expected):
        names = [name for name, value in sizes(wrong.inputs).items() if math.isclose(value, factor, rel_tol=1e-6)]
        yield from (f"{name} times the expected values" for name in names or [f"{factor:.6g}"])


def sizes(inputs: Params) -> dict[str, float]:
    """Return the factors that porters apply by mistake, by name."""
    named = {"2": 2.0, "1/2": 0.5, "-1": -1.0}
    sequence = next((inputs[name] for name in ("x", "logits") if name in inputs), np.zeros(0))
    if sequence.ndim != 3 or not sequence.size:
        return named
    steps, batch = len(sequence), len(sequence[0])
    lengths = {"T": steps, "B": batch, "T B": steps * batch}
    named |= lengths | {f"1/({name})" if " " in name else f"1/{name}": 1 / each for name, each in lengths.items()}
    return {name: value for name, value in named.items() if value != 1}


def _copies(wrong: Wrong) -> Iterator[str]:
    for kind, arrays in (("expected", wrong.outputs), ("input", wrong.inputs)):
        for name, values in arrays.items():
            itself = kind == "expected" and name == wrong.name
            if not itself and values.dtype.kind == "f" and wrong.near(wrong.found, values.astype(np.float64)):
                yield f"the {kind} {name}"


def _orders(wrong: Wrong) -> Iterator[str]:
    found, expected = wrong.found, wrong.expected
    if expected.size < 2:
        return
    reversed_along = [axis for axis in range(expected.ndim) if wrong.near(np.flip(found, axis), expected)]
    if reversed_along:
        yield from (f"in reversed order along axis {axis}" for axis in reversed_along)
    elif expected.ndim > 1 and wrong.near(found.ravel(), np.swapaxes(expected, 0, 1).ravel()):
        yield "transposed"
    elif wrong.near(np.sort(found, axis=None), np.sort(expected, axis=None)):
        yield "permuted"


def _steps(wrong: Wrong) -> Iterator[str]:
    """Compare the steps along the first axis of an output over time."""
    steps = len(wrong.inputs.get("x", wrong.inputs.get("logits", ())))
    if wrong.expected.ndim != 3 or len(wrong.expected) != steps or steps < 2:
        return
    scale = np.max(np.abs(wrong.expected), initial=0)
    right = [_step_is_right(wrong, t, scale) for t in range(steps)]
    if sum(right) == 1:
        yield from (f"right in the {name} step only" for name, t in (("first", 0), ("last", -1)) if right[t])
    lengths = wrong.inputs.get("lengths")
    if lengths is not None and (first := int(lengths.min())) < steps and all(right[:first]):
        yield "wrong from the first padded step on"


def _step_is_right(wrong: Wrong, t: int, scale: float) -> bool:
    off = np.max(np.abs(wrong.found[t] - wrong.expected[t]), initial=0)
    return bool(off <= wrong.most * np.spacing(np.dtype(wrong.dtype).type(scale)))


GATES: Mapping[str, tuple[str, ...]] = {  # by the state that tells the op
    "s0": ("candidate", "transform gate"),
    "c0": ("input gate", "candidate", "forget gate", "output gate"),
    "h0": ("reset gate", "update gate", "candidate", "candidate's product"),  # of a GRU, which has no c0
}


def _columns(wrong: Wrong) -> Iterator[str]:
    """Name the gates whose columns are wrong, in a gradient of a kernel or a bias, unless all are."""
    leaf = wrong.name.rpartition("/")[2]
    if not leaf.startswith(("dkernel", "dbias")):
        return
    states = {name.rpartition("/")[2] for name in wrong.inputs}
    names = GATES[next(state for state in GATES if state in states)]
    if "c0" not in states and "h0" in states:
        names = names[: wrong.expected.shape[-1] // wrong.inputs["h0"].shape[1]]
    scale, limit = np.max(np.abs(wrong.expected), initial=0), wrong.most
    off = np.abs(wrong.found - wrong.expected) > limit * np.spacing(np.dtype(wrong.dtype).type(scale))
    bad = [name for name, part in zip(names, np.split(off, len(names), axis=-1), strict=True) if part.any()]
    if 0 < len(bad) < len(names):
        yield f"wrong in the columns of the {' and the '.join(bad)} only"
