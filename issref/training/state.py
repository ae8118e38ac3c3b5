"""The state of a run: everything that training changes."""

from dataclasses import dataclass, field

import numpy as np

from issref.iss.compact import expand
from issref.iss.layout import Layout, Params

Arrays = dict[str, np.ndarray]


@dataclass
class RunState:
    """Everything that training changes: arrays, random stream, position in the text.

    params and the carried recurrent state, at the widths they have shrunk to; alive, a mask over the original
    components of each space; optimizer_state, what the update rule carries from step to step (the warm start of
    the proximal operator, Adam's moments, the moving average); epoch and step, both from 0, are the next to run.
    """

    params: Arrays
    state: Arrays
    rng: np.random.Generator
    alive: Arrays
    optimizer_state: Arrays = field(default_factory=dict)
    epoch: int = 0
    step: int = 0

    def check(self) -> None:
        """Raise ValueError for a position or a mask that no run can have."""
        for name in ("epoch", "step"):
            if type(value := getattr(self, name)) is not int or value < 0:
                raise ValueError(f"{name}: expected a whole number from 0 up, got {str(value)[:60]}")
        for space, mask in self.alive.items():
            if mask.dtype != bool or mask.ndim != 1:
                raise ValueError(f"alive/{space}: expected a vector of booleans, got {mask.dtype} {mask.shape}")


def all_alive(layout: Layout, spaces: list[str]) -> Arrays:
    """Return a mask that is true for every component of the spaces."""
    return {space: np.ones(layout.sizes[space], bool) for space in spaces}


def current_layout(run: RunState, layout: Layout) -> Layout:
    """Return the layout of run.params: `layout`, the full one, or the smaller one if dead components were cut out.

    Raises ValueError if the params fit neither, or the alive masks do not fit `layout`.
    """
    for space, mask in run.alive.items():
        if layout.sizes.get(space) != len(mask):
            raise ValueError(f"alive/{space}: expected {layout.sizes.get(space)} components, got {len(mask)}")
    if all(values.shape == layout.shape(array) for array, values in run.params.items() if array in layout.axes):
        smaller = layout
    else:
        smaller = layout.resized({space: int(alive.sum()) for space, alive in run.alive.items()})
    smaller.check(run.params)
    return smaller


def full_params(run: RunState, layout: Layout) -> Params:
    """Return run.params at the widths of `layout`, the full one, with zeros for components that were cut out."""
    current = current_layout(run, layout)
    return run.params if current == layout else expand(run.params, current, run.alive)[0]
