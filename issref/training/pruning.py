"""Pruning in training: cut dead components out of everything that carries them, or keep them as zeros.

In exact arithmetic both give the same training trajectory: either way a component that has died stays dead. Once
its biases and its carried state are zero too, its candidate is tanh(0) = 0, so are its cell and its output, and
nothing reads them: every gradient with respect to its slices is exactly zero, and no step, clip or proximal step
can move them. In floating point only the order of summation differs.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from issref.iss.compact import Alive, compact, zero_dead
from issref.iss.layout import Layout, Params
from issref.models.protocol import Network
from issref.training.runs import Failed
from issref.training.state import RunState

StateLayout = Callable[[Layout], Layout]  # of the carried state, from the layout of the params


def cut_out(run: RunState, layout: Layout, alive: Alive, *, state_layout: StateLayout) -> Layout:
    """Cut the components that are not alive out of params, carried state and optimizer state.

    Returns the layout of the smaller params. Raises Failed if a space would be left without components.
    """
    check_any_alive(alive)
    keep = np.concatenate([*alive.values(), [True]])  # the last row and column of the shares stand for no group
    copies = _optimizer_layout(run, layout)
    smaller, _ = compact({name: run.optimizer_state[name] for name in copies.axes}, copies, alive)
    run.optimizer_state |= smaller
    run.optimizer_state["warm_start"] = run.optimizer_state["warm_start"][np.ix_(keep, keep)]
    run.optimizer_state["dead"] = run.optimizer_state["dead"][keep[:-1]]
    run.state, _ = compact(run.state, state_layout(layout), alive)
    run.params, layout = compact(run.params, layout, alive)
    for space, mask in alive.items():
        survivors = run.alive[space].copy()
        survivors[survivors] = mask
        run.alive[space] = survivors
    return layout


def zero_out(run: RunState, layout: Layout, alive: Alive, *, state_layout: StateLayout) -> Layout:
    """Set the components that are not alive to zero in params, biases, carried state and optimizer state.

    Returns the layout, which stays. Raises Failed if a space would be left without components.
    """
    run.alive = {space: run.alive[space] & mask for space, mask in alive.items()}
    check_any_alive(run.alive)
    copies = _optimizer_layout(run, layout)
    run.optimizer_state |= zero_dead({name: run.optimizer_state[name] for name in copies.axes}, copies, alive)
    run.params, run.state = zero_dead(run.params, layout, alive), zero_dead(run.state, state_layout(layout), alive)
    return layout


def draw_masks(run: RunState, layout: Layout, model: Network, config: Any, *shape: Any) -> Params:
    """Draw the model's dropout masks for batches of this shape, at the widths of `layout`.

    They are drawn at the original widths and then cut, so that pruning does not change the random stream.
    """
    full = layout.resized({space: len(mask) for space, mask in run.alive.items()})
    masks = model.draw_masks(config, full.sizes, run.rng, *shape)
    return masks if full == layout else compact(masks, model.mask_layout(full, masks), run.alive)[0]


def _optimizer_layout(run: RunState, layout: Layout) -> Layout:
    """The layout of the arrays in the optimizer state that have the shape of a parameter: first/lstm0/kernel."""
    names = [name for name in run.optimizer_state if "/" in name]
    return Layout({name: layout.axes[name.partition("/")[2]] for name in names}, layout.sizes)


def check_any_alive(alive: Alive) -> None:
    """Raise Failed if a space has no component that is alive."""
    if empty := [space for space, mask in alive.items() if not mask.any()]:
        raise Failed(f"all components of {empty[0]} have died, which a new run with a lower --strength prevents")
