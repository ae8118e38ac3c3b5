"""The recurrent layers that are read and written: their gates and biases in issref's order."""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import NamedTuple

import numpy as np

from issref.iss.layout import Axis, Layout
from issref.ops import gru, lstm


class Cell(NamedTuple):
    """A recurrent layer: its kind, gates and biases in the order of issref's arrays, names of its modules."""

    kind: str
    gates: Axis
    biases: Axis
    names: str  # a regular expression

    @property
    def space(self) -> str:
        """The beginning of the names of its layers in issref: lstm0, gru0."""
        return self.kind.lower()

    def describe(self) -> str:
        """Return what it is, for a GRU with the place of its reset."""
        where = {GRU: ", reset after the product", GRU_RESET_BEFORE: ", reset before the product"}
        return self.kind + where.get(self, "")


LSTM = Cell("LSTM", lstm.GATES, lstm.GATES, r"[^/.]*lstm[^/.]*|fw|bw")
# The bias "recurrent" is that of the product of h with the candidate's weights, inside the reset.
GRU = Cell("GRU", gru.GATES, (*gru.GATES, "recurrent"), r"[^/.]*gru[^/.]*")
GRU_RESET_BEFORE = GRU._replace(biases=gru.GATES)
BLOCKS = {*LSTM.gates, *GRU.biases}


class OtherKind(ValueError):
    """The arrays are of another kind of layer."""


class Several(ValueError):
    """The arrays are of several stacks, named `stacks`."""

    def __init__(self, wanted: str, stacks: list[str]):
        super().__init__(f"arrays: expected {wanted}, got {stacks}")
        self.stacks = stacks


def cell_of(params: Mapping[str, np.ndarray]) -> Cell:
    """Return the cell of issref's params: the bias of a GRU tells the convention of its reset."""
    if "lstm0/bias" in params:
        return LSTM
    return GRU if len(params["gru0/bias"]) > params["gru0/kernel"].shape[1] else GRU_RESET_BEFORE


def cut_blocks(layer: Mapping[str, np.ndarray], layout: Layout) -> Iterator[tuple[Axis, np.ndarray]]:
    """Yield every block as a view with its gate along the last axis, by (rows, gate), a bias by (gate,)."""
    for array, values in layer.items():
        for ends in product(*(layout.segments(array, axis) for axis in range(values.ndim))):
            key = tuple(end.space for end in ends)
            block = values[tuple(slice(end.start, end.stop) for end in ends)]
            yield (key, block) if key[-1] in BLOCKS else (key[::-1], block.T)


def check_values(name: str, values: np.ndarray) -> None:
    """Raise ValueError unless an array holds finite floating point numbers."""
    if not np.issubdtype(values.dtype, np.floating):
        raise ValueError(f"{name}: expected floating point numbers, got {values.dtype}")
    if strange := np.count_nonzero(~np.isfinite(values)):
        raise ValueError(f"{name}: expected finite numbers, got {strange} that are infinite or NaN")
