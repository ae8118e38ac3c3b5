"""A layout: every axis of every array, written as the component spaces that lie end to end along it."""

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
    """A space's stretch of an axis: positions start to stop; counted in the penalty unless written "~space"."""

    space: str
    start: int
    stop: int
    counted: bool


class Occurrence(NamedTuple):
    """A segment with its place: along `axis` of `array`."""

    array: str
    axis: int
    segment: Segment


@dataclass(frozen=True)
class Layout:
    """Which spaces lie along each axis of each array, and how many components each space has.

    "~lstm0" is cut by `compact` like "lstm0" but not counted in the penalty (biases, states, masks).
    A size of 0 is legal. Raises ValueError for a space without a size or a size that is not a count.

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
                    raise ValueError(f"{array}: an axis needs a tuple of spaces, got the string {axis!r}")
                for space in axis:
                    if _name(space) not in self.sizes:
                        raise ValueError(f"{array}: space {_name(space)!r} needs a size, got {sorted(self.sizes)}")
        for space, size in self.sizes.items():
            if not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 0:
                raise ValueError(f"space {space!r}: size needs a whole number from 0 up, got {size!r}")

    def shape(self, array: str) -> tuple[int, ...]:
        """The shape of an array: along each axis, the sizes of its spaces added up."""
        return tuple(sum(self.sizes[_name(space)] for space in axis) for axis in self.axes[array])

    def parameters(self) -> int:
        """How many numbers the arrays hold."""
        return sum(math.prod(self.shape(array)) for array in self.axes)

    def segments(self, array: str, axis: int) -> list[Segment]:
        """The stretches of one axis, in order."""
        found, start = [], 0
        for space in self.axes[array][axis]:
            stop = start + self.sizes[_name(space)]
            found.append(Segment(_name(space), start, stop, counted=not space.startswith("~")))
            start = stop
        return found

    def occurrences(self, space: str) -> Iterator[Occurrence]:
        """Every place where a space lies, over all arrays: the slices that go when its components go."""
        for array, axes in self.axes.items():
            for axis in range(len(axes)):
                for segment in self.segments(array, axis):
                    if segment.space == space:
                        yield Occurrence(array, axis, segment)

    def allocate(self, dtype: npt.DTypeLike = np.float64) -> Params:
        """Zeros for every array."""
        return {array: np.zeros(self.shape(array), dtype) for array in self.axes}

    def check(self, params: Mapping[str, np.ndarray]) -> None:
        """Raise ValueError, naming the array, the need and the finding, unless params fit this layout."""
        if params.keys() != self.axes.keys():
            missing, unknown = sorted(self.axes.keys() - params), sorted(params.keys() - self.axes)
            raise ValueError(f"arrays: missing {missing or 'none'}, not in the layout {unknown or 'none'}")
        for array, values in params.items():
            if values.shape != self.shape(array):
                raise ValueError(
                    f"{array}: axes ({self.spell(array)}) need shape {self.shape(array)}, got {values.shape}"
                )

    def spell(self, array: str) -> str:
        """The axes of an array in words: "embed + lstm0, 4 lstm0"."""
        return ", ".join(" + ".join(_runs(axis)) for axis in self.axes[array])

    def resized(self, sizes: Mapping[str, int]) -> "Layout":
        """The same axes with some spaces of another size."""
        return replace(self, sizes={**self.sizes, **sizes})

    def to_json(self) -> str:
        """The layout as JSON text; `Layout.from_json` reads it back."""
        return json.dumps({"axes": self.axes, "sizes": {space: int(n) for space, n in self.sizes.items()}})

    @classmethod
    def from_json(cls, text: str) -> "Layout":
        """The layout that `to_json` wrote; ValueError if the text is not one."""
        try:
            fields = json.loads(text)
            axes = {
                array: tuple(tuple(axis) if isinstance(axis, list) else axis for axis in axes)
                for array, axes in fields["axes"].items()
            }
            return cls(axes, dict(fields["sizes"]))
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"layout: needs JSON with axes and sizes, got {str(text)[:60]!r}") from error


def _name(space: str) -> str:
    return space.removeprefix("~")


def _runs(axis: Axis) -> Iterator[str]:
    for space, run in groupby(axis):
        count = len(list(run))
        yield f"{count} {space}" if count > 1 else space
