"""Components that have died in training: cut out of everything that carries them, or kept as zeros.

In exact arithmetic both leave the training's path as it is. Once a dead component's biases and carried state
are zero too, its candidate is tanh(0) = 0, so are its cell and its output, and nothing reads them: every
gradient into its slices is exactly zero, and no step, clip or proximal step can move them. In floating point
only the order of summation differs.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from issref.iss.compact import Alive, compact, expand, zero_dead
from issref.iss.layout import Layout, Params
from issref.training.runs import Failed
from issref.training.state import Progress


def remove_dead(
    shrink: bool,
    at: Progress,
    layout: Layout,
    state_layout: Layout,
    living: Alive,
    outputs: Callable[[], np.ndarray],
) -> Layout:
    """Cut all but the living out of params, carried state and warm start; the layout of what is left.

    `outputs()`, those of at.params over some batch, are compared before and after, and the largest
    difference is kept in at.cuts. Without `shrink` the dead are set to zero instead, biases and state too, and the
    layout stays. Raises Failed if a space would be left without components.
    """
    if empty := [space for space, kept in living.items() if not kept.any()]:
        raise Failed(f"all components of {empty[0]} have died, which a lower --strength prevents")
    if not shrink:
        at.params, at.state = zero_dead(at.params, layout, living), zero_dead(at.state, state_layout, living)
        at.alive = dict(living)
        return layout
    before = outputs()
    kept = np.concatenate([*living.values(), [True]])  # the last share is that of no group
    at.prox = {"warm_start": at.prox["warm_start"][np.ix_(kept, kept)]}
    at.state, _ = compact(at.state, state_layout, living)
    at.params, layout = compact(at.params, layout, living)
    after = outputs()
    sizes = {space: int(alive.sum()) for space, alive in living.items()}
    at.cuts.append(
        {"step": at.step + 1, "alive": sizes, "max_output_difference": float(np.abs(after - before).max())}
    )
    at.alive = {space: _survivors(at.alive[space], living[space]) for space in living}
    return layout


def _survivors(alive: np.ndarray, living: np.ndarray) -> np.ndarray:
    """Of all components, those alive so far and still living; `living` has one entry for each alive so far."""
    result = alive.copy()
    result[alive] = living
    return result


def shrunk(shrink: bool, at: Progress, layout: Layout) -> Layout:
    """The layout of a run's params now, from that of the whole model."""
    return layout.resized({space: int(kept.sum()) for space, kept in at.alive.items()}) if shrink else layout


def whole(shrink: bool, at: Progress, layout: Layout) -> Params:
    """A run's params at their original widths, zeros where components have died."""
    return expand(at.params, shrunk(shrink, at, layout), at.alive)[0] if shrink else at.params


def draw_masks(shrink: bool, at: Progress, layout: Layout, model: ModuleType, config: Any, *shape: Any) -> Params:
    """The model's dropout masks for batches of this shape, drawn at the original widths, so that the random stream
    is the same without `shrink`."""
    whole = layout.resized({space: len(kept) for space, kept in at.alive.items()})
    masks = model.draw_masks(config, whole.sizes, at.rng, *shape)
    return compact(masks, model.mask_layout(whole, masks), at.alive)[0] if shrink else masks
