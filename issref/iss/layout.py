"""The layout: every axis of every array, written as the component spaces that lie end to end along it.

A *space* is a named family of components: the hidden units of one layer, the columns of an embedding, the words of
a vocabulary. The rows of an LSTM kernel are the components of the input, then of the layer; its columns are the
components of the layer four times, once for each gate:

    "lstm0/kernel": (("embed", "lstm0"), 4 * ("lstm0",))

Groups, penalty, proximal step and compaction follow from this table alone. Tutorial: tutorials/1_one_unit.py.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Params = dict[str, np.ndarray]
Axis = tuple[str, ...]


class Segment(NamedTuple):
    """The positions start, ..., stop - 1 of an axis, which belong to one space.

    `counted` is False for "~space": compaction cuts the segment, but the penalty leaves it out.
    """

    space: str
    start: int
    stop: int
    counted: bool


class Occurrence(NamedTuple):
    """A segment together with its array and axis: one slice of each component of the space."""

    array: str
    axis: int
    segment: Segment


@dataclass(frozen=True)
class Layout:
    """The spaces along each axis of each array, and the number of components of each space.

    `compact` cuts "~lstm0" like "lstm0", but the penalty leaves it out (biases, states, masks). A size of 0 is
    allowed. Raises ValueError if a space has no size or a size is not a whole number from 0 to 2^31 - 1.

    >>> axes = {"lstm0/kernel": (("embed", "lstm0"), 4 * ("lstm0",)), "lstm0/bias": (4 * ("~lstm0",),)}
    >>> layout = Layout(axes, {"embed": 3, "lstm0": 4})
    >>> layout.shape("lstm0/kernel"), layout.spell("lstm0/kernel")
    ((7, 16), 'embed + lstm0, 4 lstm0')
    """

    axes: Mapping[str, tuple[Axis, ...]]
    sizes: Mapping[str, int]

    def __post_init__(self):
        for array, axes in self.axes.items():
            for axis in axes:
                if isinstance(axis, str):
                    raise ValueError(f"{array}: expected a tuple of spaces for each axis, got the string {axis!r}")
                for space in axis:
                    if (name := _name(space)) not in self.sizes:
                        raise ValueError(f"{array}: expected a size for space {name!r}, got {sorted(self.sizes)}")
        for space, size in self.sizes.items():
            if not isinstance(size, int | np.integer) or isinstance(size, bool) or not 0 <= size < 2**31:
                raise ValueError(
                    f"space {space!r}: expected a whole number from 0 to 2^31 - 1 as size, got {size!r}"
                )

    def shape(self, array: str) -> tuple[int, ...]:
        """Return the shape of an array: along each axis, the sum of the sizes of its spaces."""
        return tuple(sum(self.sizes[_name(space)] for space in axis) for axis in self.axes[array])

    def parameters(self) -> int:
        """Return the number of entries of all arrays together."""
        return sum(math.prod(self.shape(array)) for array in self.axes)

    def segments(self, array: str, axis: int) -> list[Segment]:
        """Return the segments of one axis, in order."""
        found, start = [], 0
        for space in self.axes[array][axis]:
            stop = start + self.sizes[_name(space)]
            found.append(Segment(_name(space), start, stop, counted=not space.startswith("~")))
            start = stop
        return found

    def occurrences(self, space: str) -> Iterator[Occurrence]:
        """Yield every occurrence of a space in all arrays: the slices that are removed with its components."""
        for array, axes in self.axes.items():
            for axis in range(len(axes)):
                for segment in self.segments(array, axis):
                    if segment.space == space:
                        yield Occurrence(array, axis, segment)

    def allocate(self, dtype: npt.DTypeLike = np.float64) -> Params:
        """Return an array of zeros for each array of the layout."""
        return {array: np.zeros(self.shape(array), dtype) for array in self.axes}

    def check(self, params: Mapping[str, np.ndarray]) -> None:
        """Check the names and shapes of params. Raises ValueError if they do not fit this layout."""
        if params.keys() != self.axes.keys():
            missing, unknown = sorted(self.axes.keys() - params), sorted(params.keys() - self.axes)
            raise ValueError(
                f"params: expected the arrays of the layout, got missing: {missing or 'none'}, "
                f"unknown: {unknown or 'none'}"
            )
        for array, values in params.items():
            check_array(array, values)
            if values.shape != self.shape(array):
                expected = f"{self.shape(array)} for axes ({self.spell(array)})"
                raise ValueError(f"{array}: expected shape {expected}, got {values.shape}")

    def spell(self, array: str) -> str:
        """Return the axes of an array as text: "embed + lstm0, 4 lstm0"."""
        return ", ".join(" + ".join(_runs(axis)) for axis in self.axes[array])

    def resized(self, sizes: Mapping[str, int]) -> "Layout":
        """Return a layout of the same axes, with new sizes for some spaces."""
        return replace(self, sizes={**self.sizes, **sizes})

    def to_json(self) -> str:
        """Return the layout as JSON text, which `Layout.from_json` reads."""
        return json.dumps({"axes": self.axes, "sizes": {space: int(n) for space, n in self.sizes.items()}})

    @classmethod
    def from_json(cls, text: str) -> "Layout":
        """Return the layout from the text of `to_json`. Raises ValueError if the text does not hold a layout."""
        try:
            fields = json.loads(text)
            axes = {
                array: tuple(tuple(axis) if isinstance(axis, list) else axis for axis in axes)
                for array, axes in fields["axes"].items()
            }
            return cls(axes, dict(fields["sizes"]))
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"layout: expected JSON with axes and sizes, got {str(text)[:60]!r}") from error


def check_array(name: str, values: np.ndarray) -> None:
    """Raise ValueError unless it is a NumPy array without a mask: the compiled loops ignore masks."""
    if not isinstance(values, np.ndarray) or isinstance(values, np.ma.MaskedArray):
        raise ValueError(f"{name}: expected a NumPy array without a mask, got {type(values).__name__}")


def _name(space: str) -> str:
    return space.removeprefix("~")


def _runs(axis: Axis) -> Iterator[str]:
    for space, run in groupby(axis):
        count = len(list(run))
        yield f"{count} {space}" if count > 1 else space
