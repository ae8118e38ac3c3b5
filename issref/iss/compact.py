"""Compaction: remove dead components, which gives the same network, smaller and dense; or put them back as zeros.

A component that no weight reads does not influence the outputs, so all its slices can be removed at once: in every
array and along every axis, biases, carried state and dropout masks included. The layout lists these slices.
Tutorial: tutorials/6_compaction.py.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from issref.iss.layout import Layout, Params

Alive = Mapping[str, np.ndarray]  # for each space, a boolean for each of its components


def compact(params: Params, layout: Layout, alive: Alive) -> tuple[Params, Layout]:
    """Return the params without the components that are not alive, and their layout.

    Spaces that are not in `alive` are not cut. The outputs stay the same if no weight reads the removed
    components; `iss.groups.alive(..., readers=...)` returns such a mask. States and masks are cut by the same
    call with their own layout. Raises ValueError if params or alive do not fit the layout.

    >>> layout = Layout({"kernel": (("x",), ("unit",)), "bias": (("~unit",),)}, {"x": 2, "unit": 3})
    >>> small, small_layout = compact(layout.allocate(), layout, {"unit": np.array([True, False, True])})
    >>> small_layout.sizes, small["kernel"].shape, small["bias"].shape
    ({'x': 2, 'unit': 2}, (2, 2), (2,))
    """
    layout.check(params)
    _check(layout, alive)
    smaller = {
        array: np.asarray(values[np.ix_(*keep_masks(layout, array, alive))])  # without axes, it is a NumPy scalar
        for array, values in params.items()
    }
    return smaller, layout.resized({space: int(mask.sum()) for space, mask in alive.items()})


def expand(params: Params, layout: Layout, alive: Alive) -> tuple[Params, Layout]:
    """Invert `compact`: return params and layout of the full sizes, with zeros for the dead components.

    `layout` is that of the compact params. Raises ValueError if params or alive do not fit it.

    >>> layout = Layout({"bias": (("~unit",),)}, {"unit": 2})
    >>> expand({"bias": np.array([5.0, 7.0])}, layout, {"unit": np.array([True, False, True])})[0]
    {'bias': array([5., 0., 7.])}
    """
    full = layout.resized({space: len(mask) for space, mask in alive.items() if space in layout.sizes})
    layout.check(params)
    _check(full, alive)
    for space, mask in alive.items():
        if mask.sum() != layout.sizes[space]:
            raise ValueError(
                f"alive: expected {layout.sizes[space]} components of {space!r} alive, got {mask.sum()}"
            )
    larger = {array: np.zeros(full.shape(array), values.dtype) for array, values in params.items()}
    for array, values in params.items():
        larger[array][np.ix_(*keep_masks(full, array, alive))] = values
    return larger, full


def keep_masks(layout: Layout, array: str, alive: Alive) -> tuple[np.ndarray, ...]:
    """Return a mask along each axis of an array: which positions belong to components that are alive."""
    return tuple(
        np.concatenate([np.zeros(0, bool), *_keep_along(layout, array, axis, alive)])
        for axis in range(len(layout.axes[array]))
    )


def zero_dead(params: Params, layout: Layout, alive: Alive) -> Params:
    """Return the params with all slices of dead components set to 0, also in biases and states.

    Shapes and layout stay the same. Raises ValueError if params or alive do not fit the layout.
    """
    return expand(*compact(params, layout, alive), alive)[0]


def zero_small_weights(params: Params, threshold: float) -> Params:
    """Return the params with each weight of |w| < threshold set to 0, as the released code does.

    The rule looks at single weights, not at groups.
    """
    return {array: np.where(np.abs(values) < threshold, 0, values) for array, values in params.items()}


def _keep_along(layout: Layout, array: str, axis: int, alive: Alive) -> Iterator[np.ndarray]:
    for space, start, stop, _ in layout.segments(array, axis):
        yield alive[space] if space in alive else np.ones(stop - start, bool)


def _check(layout: Layout, alive: Alive) -> None:
    for space, mask in alive.items():
        if space not in layout.sizes:
            raise ValueError(f"alive: expected spaces of {sorted(layout.sizes)}, got {space!r}")
        if mask.dtype != bool or mask.shape != (layout.sizes[space],):
            raise ValueError(
                f"alive: expected {layout.sizes[space]} booleans for {space!r}, got {mask.dtype} {mask.shape}"
            )
