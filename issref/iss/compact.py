"""Removing dead components: the same network, smaller and dense; and putting them back as zeros."""

from collections.abc import Iterator, Mapping

import numpy as np

from issref.iss.layout import Layout, Params

Alive = Mapping[str, np.ndarray]


def compact(params: Params, layout: Layout, alive: Alive) -> tuple[Params, Layout]:
    """The params without the components that are not alive, along every axis where their spaces lie.

    A space that `alive` does not name is kept whole. If nothing reads what is dropped, the network computes
    the same outputs; `iss.groups.alive(..., readers=...)` says which components those are. States and masks
    are cut by the same call with their own layout. Raises ValueError if params or alive misfit the layout.

    >>> layout = Layout({"kernel": (("x",), ("unit",)), "bias": (("~unit",),)}, {"x": 2, "unit": 3})
    >>> small, small_layout = compact(layout.allocate(), layout, {"unit": np.array([True, False, True])})
    >>> small_layout.sizes, small["kernel"].shape, small["bias"].shape
    ({'x': 2, 'unit': 2}, (2, 2), (2,))
    """
    layout.check(params)
    _check(layout, alive)
    smaller = {array: values[np.ix_(*_kept(layout, array, alive))] for array, values in params.items()}
    return smaller, layout.resized({space: int(kept.sum()) for space, kept in alive.items()})


def expand(params: Params, layout: Layout, alive: Alive) -> tuple[Params, Layout]:
    """The inverse of `compact`: zeros put back where `alive` is false; layout is that of the smaller params.

    Returns the larger params and their layout. Raises ValueError if params or alive misfit the layout.

    >>> layout = Layout({"bias": (("~unit",),)}, {"unit": 2})
    >>> expand({"bias": np.array([5.0, 7.0])}, layout, {"unit": np.array([True, False, True])})[0]
    {'bias': array([5., 0., 7.])}
    """
    full = layout.resized({space: len(kept) for space, kept in alive.items() if space in layout.sizes})
    layout.check(params)
    _check(full, alive)
    for space, kept in alive.items():
        if kept.sum() != layout.sizes[space]:
            raise ValueError(f"alive: space {space!r} needs {layout.sizes[space]} alive, got {kept.sum()}")
    larger = {array: np.zeros(full.shape(array), values.dtype) for array, values in params.items()}
    for array, values in params.items():
        larger[array][np.ix_(*_kept(full, array, alive))] = values
    return larger, full


def zero_dead(params: Params, layout: Layout, alive: Alive) -> Params:
    """The params with every slice of a dead component, biases and states too, set to exactly zero.

    Shapes and layout stay. Raises ValueError if params or alive misfit the layout.
    """
    layout.check(params)
    _check(layout, alive)
    return {array: _masked(values, _kept(layout, array, alive)) for array, values in params.items()}


def zero_small_weights(params: Params, threshold: float) -> Params:
    """Each weight with |w| < threshold set to zero, one by one: the released code's rule, not a group's."""
    return {array: np.where(np.abs(values) < threshold, 0, values) for array, values in params.items()}


def _masked(values: np.ndarray, kept: tuple[np.ndarray, ...]) -> np.ndarray:
    for axis, along in enumerate(kept):
        if not along.all():
            values = np.where(along.reshape(-1, *(1,) * (values.ndim - axis - 1)), values, values.dtype.type(0))
    return values


def _kept(layout: Layout, array: str, alive: Alive) -> tuple[np.ndarray, ...]:
    return tuple(
        np.concatenate([np.zeros(0, bool), *_kept_along(layout, array, axis, alive)])
        for axis in range(len(layout.axes[array]))
    )


def _kept_along(layout: Layout, array: str, axis: int, alive: Alive) -> Iterator[np.ndarray]:
    for space, start, stop, _ in layout.segments(array, axis):
        yield alive[space] if space in alive else np.ones(stop - start, bool)


def _check(layout: Layout, alive: Alive) -> None:
    for space, kept in alive.items():
        if space not in layout.sizes:
            raise ValueError(f"alive: space {space!r} needs to be in the layout, got {sorted(layout.sizes)}")
        if kept.dtype != bool or kept.shape != (layout.sizes[space],):
            raise ValueError(
                f"alive: space {space!r} needs {layout.sizes[space]} booleans, got {kept.dtype} {kept.shape}"
            )
