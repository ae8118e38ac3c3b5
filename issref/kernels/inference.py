"""Keep what depends on the weights alone, such as their packed form, while they do not change."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

Kept = dict[tuple, tuple[np.ndarray, np.ndarray]]
_kept: ContextVar[Kept | None] = ContextVar("kept", default=None)


@contextmanager
def fixed_weights() -> Iterator[None]:
    """Promise in a `with` block that no weights change: each array is packed once, not at every call.

    Inputs and weights should have one dtype: a weight that is converted at every call is kept at every call.
    """
    before = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(before)


def weights_are_fixed() -> bool:
    """Return whether the caller is within `fixed_weights`."""
    return _kept.get() is not None


def once(function: Callable[[np.ndarray], np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Return function(weights); within `fixed_weights`, the result of the first call for these weights."""
    kept = _kept.get()
    if kept is None:
        return function(weights)
    key = function, weights.__array_interface__["data"], weights.shape, weights.strides, weights.dtype
    if key not in kept:
        kept[key] = weights, function(weights)  # the weights, too: their memory must not become another array's
    return kept[key][1]
