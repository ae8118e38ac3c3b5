"""The claim of a layout about a network, tried on random weights.

With the readers of some components zero, the network computes the same outputs without these components.
"""

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np

from issref.iss.compact import compact
from issref.iss.layout import Layout, Params

Dead = dict[str, np.ndarray]  # for each space to try, a boolean for each of its components


class Claim(NamedTuple):
    """A function from params to outputs, the layout of the params, and the (array, axis) pairs that read."""

    function: Callable[[Params], Any]
    layout: Layout
    readers: tuple[tuple[str, int], ...]

    def reads(self, array: str, axis: int) -> bool:
        """Return whether the readers contain this axis of an array."""
        return any(axis == one and fnmatchcase(array, pattern) for pattern, one in self.readers)

    def silence(self, params: Params, dead: Dead) -> Params:
        """Return params in which every counted weight that reads a dead component is zero."""
        silent = {array: values.copy() for array, values in params.items()}
        for space, mask in dead.items():
            for array, axis, segment in self.layout.occurrences(space):
                if segment.counted and self.reads(array, axis):
                    along = np.moveaxis(silent[array], axis, 0)
                    along[segment.start : segment.stop][mask] = 0
        return silent

    def change(self, trial: "Trial", dead: Dead) -> str:
        """Return in words what the removal of dead components changes, empty if nothing."""
        silent = self.silence(trial.params, dead)
        smaller, _ = compact(silent, self.layout, {space: ~mask for space, mask in dead.items()})
        before = outputs_of(self.function(silent))
        try:
            after = outputs_of(self.function(smaller))
        except Exception as error:  # of any framework: the widths do not fit together
            return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if (shapes := _shapes(before)) != _shapes(after):
            return f"outputs of shape {_shapes(after)} instead of {shapes}"
        changes = differences(before, after)
        seen = [change for change, most in zip(changes, trial.tolerances, strict=True) if change > most]
        return f"a difference of {max(seen):.2g}" if seen else ""


class Trial(NamedTuple):
    """Random params, and the difference of each output that rounding may cause."""

    params: Params
    tolerances: list[float]


def draw_trial(function: Callable[[Params], Any], params: Params, rng: np.random.Generator) -> Trial:
    """Draw weights of the shapes and dtypes of params; the tolerance is half of the outputs' digits.

    That is sqrt(eps) times the difference between an output for two sets of weights: rounding changes the last
    digits, a component that is still read the first ones. Raises ValueError if the outputs are not finite, do not
    depend on params, or differ when the function is called again.
    """
    weights = _draw(params, rng)
    outputs, again, others = (outputs_of(function(one)) for one in (weights, weights, _draw(params, rng)))
    scales = differences(outputs, others)
    if not 0 < np.max(scales, initial=0) < np.inf:
        got = f"a difference of {np.max(scales, initial=0)}"
        raise ValueError(f"function: expected finite outputs that depend on params, got {got}")
    dtypes = {values.dtype for values in (*params.values(), *outputs) if _floating(values)}
    share = max(float(np.sqrt(np.finfo(dtype).eps)) for dtype in dtypes)
    tolerances = [scale * share for scale in scales]
    repeated = differences(outputs, again)
    if not all(change <= most for change, most in zip(repeated, tolerances, strict=True)):
        got = f"a difference of {max(repeated):.2g}"
        raise ValueError(f"function: expected equal outputs for equal params (no dropout), got {got}")
    return Trial(weights, tolerances)


def draw_dead(layout: Layout, spaces: Iterable[str], rng: np.random.Generator) -> Dead:
    """Draw components of each space to remove: at least one, and not all of them."""
    sizes = {space: layout.sizes[space] for space in spaces}
    return {space: rng.permutation(size) < rng.integers(1, size) for space, size in sizes.items()}


def outputs_of(outputs: Any) -> list[np.ndarray]:
    """Return the arrays in nested tuples, lists and dictionaries, integers as float64."""
    if isinstance(outputs, Mapping | tuple | list):
        parts = outputs.values() if isinstance(outputs, Mapping) else outputs
        return [array for part in parts for array in outputs_of(part)]
    return [np.asarray(outputs) * 1.0]


def differences(one: list[np.ndarray], other: list[np.ndarray]) -> list[float]:
    """Return the largest |a - b| for each pair of arrays of equal shapes; equal infinities differ by 0."""
    with np.errstate(invalid="ignore"):
        gaps = (np.where(a == b, 0, np.abs(a - b)) for a, b in zip(one, other, strict=True))
        return [float(gap.max(initial=0)) for gap in gaps]


def _draw(params: Params, rng: np.random.Generator) -> Params:
    return {array: _draw_like(values, rng) if _floating(values) else values for array, values in params.items()}


def _draw_like(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if values.ndim < 2:  # positive, since it may be a variance
        return np.asarray(rng.uniform(0.5, 1.5, values.shape)).astype(values.dtype)
    length = max(values.size, 1) ** (1 / values.ndim)
    return (rng.standard_normal(values.shape) / np.sqrt(length)).astype(values.dtype)


def _floating(values: np.ndarray) -> bool:
    return np.issubdtype(values.dtype, np.inexact)


def _shapes(arrays: list[np.ndarray]) -> list[tuple[int, ...]]:
    return [array.shape for array in arrays]
