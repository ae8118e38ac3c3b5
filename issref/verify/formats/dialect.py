"""Tables of the arrays in which frameworks store an LSTM, and one conversion between any two tables.

A layer is twelve blocks: for each gate the rows that read the input "x", (D, H), the rows that read the layer's
own output "h", (H, H), and a bias (H,). A dialect lists the blocks end to end along each axis of its arrays, as
`issref.iss.layout` does for a network. A conversion cuts the arrays of one dialect into blocks and copies them
into the arrays of the other.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from issref.iss.layout import Axis, Layout, Params
from issref.verify.formats import kinds, names
from issref.verify.formats.cells import BLOCKS, LSTM, Cell, OtherKind, Several, check_values, cut_blocks
from issref.verify.formats.names import Rules, Stack

Arrays = Mapping[str, np.ndarray]
Layer = dict[str, np.ndarray]  # one layer's arrays: {"weight_ih": ...}
_COMMON = ("kernel", "weights")  # names of other layers' arrays too: an LSTM is recognised by its own name


class Dialect(NamedTuple):
    """The names of a layer's arrays in a model, and the blocks along each of their axes.

    In Dialect("*_l#", {"weight_ih": (gates, ("x",)), "bias_ih": (gates,), ...}), "*" is the array's name and "#"
    the layer's number. An array with one axis is a bias. The first array reads "x". `chains` is a regular
    expression for stacks whose layers read one another, although each is a module of its own; other modules are
    assumed to do so if their numbers and widths fit and `assumes`.
    """

    place: str
    arrays: Mapping[str, tuple[Axis, ...]]
    chains: str = ""
    assumes: bool = True
    cell: Cell = LSTM

    def axes(self, layer: int, inputs: Axis, place: str | None = None) -> dict[str, tuple[Axis, ...]]:
        """Return a layer's axes for a layout, with units lstm0, lstm1, ... and the spaces `inputs` as input."""
        spelled = {}
        for array, axes in self.arrays.items():
            units = (f"{'~' if len(axes) == 1 else ''}{self.cell.space}{layer}",)
            spaces = {"x": inputs, **dict.fromkeys(("h", *BLOCKS), units)}
            spelled[_name(place or self.place, layer, array)] = tuple(
                tuple(space for block in axis for space in spaces[block]) for axis in axes
            )
        return spelled

    def layout(self, widths: Sequence[int], places: Sequence[str] | None = None) -> Layout:
        """Return the layout of a stack; `widths` are the widths of its input "x" and of each layer, lstm0, ..."""
        spaces = ["x", *(f"{self.cell.space}{layer}" for layer in range(len(widths) - 1))]
        axes = {}
        for layer, space in enumerate(spaces[:-1]):
            axes |= self.axes(layer, (space,), places[layer] if places else None)
        return Layout(axes, dict(zip(spaces, widths, strict=True)))

    def to_reference(self, arrays: Arrays, stack: str | None = None) -> Params:
        """Return issref's params lstm0/kernel (D+H, 4H), lstm0/bias (4H,), ... Raises ValueError as `find`."""
        return convert(arrays, self, reference(self.cell), stack)

    def from_reference(self, params: Arrays) -> Params:
        """Return the arrays of this dialect for the LSTM layers in the params of an issref model."""
        return convert(params, reference(self.cell), self, reference(self.cell).place)

    def find(self, arrays: Arrays, stack: str | None = None) -> list[Layer]:
        """Return the layers of one LSTM among the arrays of a model, from the input up.

        Names may have a prefix: "decoder.lstm.weight_ih_l0". The layers of one LSTM differ in numbers. Names that
        differ otherwise belong to several LSTMs; `stack` chooses one, with "*" for the array and "#" for any
        number: "decoder.lstm.*_l#", or "lstm2.*_l#" for the second of several numbered ones. The backward
        direction of a bidirectional LSTM, "*_l#_reverse", is a separate stack. Raises ValueError if an array is
        missing, of the wrong shape, not finite, not of floating point numbers, or not part of a plain LSTM (see
        `kinds`).
        """
        chosen = self.choose(arrays, stack)
        layers = [{array: arrays[name] for array, name in layer.items()} for layer in chosen.layers.values()]
        used = {name: arrays[name] for layer in chosen.layers.values() for name in layer.values()}
        self.layout_of(arrays, chosen).check(used)
        for name, values in used.items():
            check_values(name, values)
        return layers

    def layout_of(self, arrays: Arrays, chosen: Stack) -> Layout:
        """Return the layout of the arrays of one LSTM by their names in a file."""
        layers = [{array: arrays[name] for array, name in layer.items()} for layer in chosen.layers.values()]
        widths = [self.sizes(layers[0])["x"], *(self.sizes(layer)["h"] for layer in layers)]
        present = self._replace(arrays={array: self.arrays[array] for array in self.arrays if array in layers[0]})
        return present.layout(widths, [*chosen.layers])

    def choose(self, arrays: Arrays, stack: str | None = None) -> Stack:
        """Return the names of one LSTM, without its values. Raises ValueError as `find`, OtherKind for others."""
        found, matrices = self.places(arrays, stack), self._matrices()
        if not found:
            raise ValueError(f"arrays: expected the arrays {', '.join(self.arrays)}, got none of them")
        rules = Rules(lambda upper, lower: self._reads(arrays, found, upper, lower), self.chains)
        every = [(one, self._other(arrays, one)) for one in names.stacks(found, rules)]
        plain = [one for one, other in every if other is None] or [one for one, _ in every]
        chosen = plain[0] if stack is None else names.choose(found, stack)
        if stack is None and len(plain) > 1:
            several = Several(f"one {self.cell.kind}, or a choice by stack", [one.name for one in plain])
            raise OtherKind(str(several)) if all(other for _, other in every) else several
        if chosen is None:
            raise OtherKind(f"stack: expected one of {[one.name for one in plain]}, got {stack!r}")
        if other := self._other(arrays, chosen):
            only = f"only {', '.join(self.arrays)} in a plain {self.cell.kind}"
            raise OtherKind(f"{other[0]}: expected {only}, got {other[1]}")
        names.check_complete(chosen.layers, matrices, [array for array in self.arrays if array not in matrices])
        names.check_numbers(stack or chosen.name, [*chosen.layers])
        return chosen

    def biases(self, stack: Stack) -> int:
        """Return the number of biases that each gate of an LSTM has."""
        layer = next(iter(stack.layers.values()))
        return sum(
            len(axes[0]) for array, axes in self.arrays.items() if len(axes) == 1 and array in layer
        ) // len(self.cell.gates)

    def places(self, arrays: Arrays, stack: str | None = None) -> names.Places:
        """Return the places that may be layers of an LSTM; with a `stack`, of layers of any name."""
        found, matrices = names.places(arrays, self.arrays), self._matrices()
        common = self._common()
        own = {
            place: layer
            for place, layer in found.items()
            if any(array in layer and (common or array not in _COMMON) for array in matrices)
            and (stack is not None or not common or self._named(place))
        }
        return {place: own[place] for place in own.keys() - names.within(own, own)}

    def _named(self, place: str) -> bool:
        return re.fullmatch(rf"(.*[/.])?({self.cell.names})[/.]\*", place, re.IGNORECASE) is not None

    def _common(self) -> bool:
        return all(array in _COMMON for array in self._matrices())

    def _matrices(self) -> list[str]:
        return [array for array, axes in self.arrays.items() if len(axes) == 2]

    def _reads(self, arrays: Arrays, found: names.Places, upper: str, lower: str) -> bool:
        """Return whether a layer's input has the width of another layer; yes if a layer is not complete."""
        if not self.assumes:
            return False
        (first, *_) = self.arrays
        if not all(first in found[place] and arrays[found[place][first]].ndim == 2 for place in (upper, lower)):
            return True
        read, written = (self.sizes({first: arrays[found[place][first]]}) for place in (upper, lower))
        return read["x"] == written["h"]

    def _other(self, arrays: Arrays, stack: Stack) -> tuple[str, str] | None:
        """Return the name of an array that shows that an LSTM is not a plain one, and what it shows."""
        known = names.places(arrays, self.arrays)
        for place, layer in stack.layers.items():
            start = names.prefix(place)
            mine = {name for other in known if names.prefix(other) == start for name in known[other].values()}
            below = names.below(arrays, start, mine)
            cell = {f"in {start[:-1]}": place} if self._common() else {}
            signs = {**self._blocks(arrays, layer), **cell, **below}
            if (found := kinds.recognise(signs, inside=True)) and found[0].name != self.cell.kind:
                kind, sign = found
                return signs[sign], f"{sign} ({kind.name})" + (f"; {kind.remedy}" if kind.remedy else "")
            if wrong := self._other_biases(arrays, layer):
                return wrong
            alone = [name for sign, name in below.items() if start or not re.search("[/.]", sign)]
            if alone:
                return alone[0], "another array"
        return None

    def _other_biases(self, arrays: Arrays, layer: Mapping[str, str]) -> tuple[str, str] | None:
        """Return the name of a GRU's bias that shows the other convention of the reset, and what it has."""
        units = self.sizes({array: arrays[name] for array, name in layer.items()})["h"] if self.cell != LSTM else 0
        for array, axes in self.arrays.items():
            count = arrays[layer[array]].size // units if units and len(axes) == 1 and array in layer else 0
            if count and count != len(axes[0]):
                return layer[array], f"{array} of {count} blocks"
        return None

    def _blocks(self, arrays: Arrays, layer: Mapping[str, str]) -> dict[str, str]:
        """Return {"weight_hh of 4 blocks": name}: the size of arrays that the layer's output determines."""
        units, found = 0, {}
        for array, axes in self.arrays.items():
            if array in layer and len(axes) == arrays[layer[array]].ndim:
                shape = dict(zip(axes, arrays[layer[array]].shape, strict=True))
                units = shape.get(("h",), units)
                count, rest = divmod(max(shape.values()), units) if units and ("x",) not in shape else (0, 1)
                if not rest and max(map(len, axes)) > 1:
                    found[f"{array} of {count} block{'s' if count > 1 else ''}"] = layer[array]
        return found

    def sizes(self, layer: Layer) -> dict[str, int]:
        """Return the length of each block. Raises ValueError if the first array has the wrong number of axes."""
        (array, axes), *_ = self.arrays.items()
        if layer[array].ndim != len(axes):
            raise ValueError(f"{array}: expected {len(axes)} axes, got shape {layer[array].shape}")
        ends = zip(layer[array].shape, axes, strict=True)
        (rows, blocks), (columns, gates) = sorted(ends, key=lambda end: end[1][0] in BLOCKS)
        units = int(columns // len(gates))
        return {"x": max(0, int(rows) - units * (len(blocks) - 1)), **dict.fromkeys(("h", *BLOCKS), units)}


def reference(cell: Cell) -> Dialect:
    """Return the dialect of issref's own arrays."""
    place, arrays = f"{cell.space}#/*", {"kernel": (("x", "h"), cell.gates), "bias": (cell.biases,)}
    return Dialect(place, arrays, rf"(params/)?{cell.space}#/\*", cell=cell)


REFERENCE = reference(LSTM)


def find(arrays: Arrays, dialects: Sequence[Dialect]) -> tuple[Dialect, list[Layer]]:
    """Return the first dialect of which the arrays are, and the layers. Raises ValueError as `Dialect.find`."""
    for dialect in dialects[:-1]:
        if dialect.places(arrays):
            try:
                return dialect, dialect.find(arrays)
            except OtherKind:
                pass
    return dialects[-1], dialects[-1].find(arrays)


def convert(arrays: Arrays, source: Dialect, target: Dialect, stack: str | None = None) -> Params:
    """The same layers in another dialect, bit for bit. What the source has twice, as a second bias, is added up;
    what the target has twice is whole in the first place and zero in the second; a bias the source lacks is zero.
    """
    return {
        _name(target.place, number, array): values
        for number, layer in enumerate(source.find(arrays, stack))
        for array, values in _respell(layer, source, target).items()
    }


def _respell(layer: Layer, source: Dialect, target: Dialect) -> Layer:
    sizes, blocks = source.sizes(layer), {}
    for key, block in cut_blocks(layer, Layout(source.arrays, sizes)):
        blocks[key] = blocks[key] + block if key in blocks else block
    layout = Layout(target.arrays, sizes)
    spelled = layout.allocate(np.result_type(*layer.values()))
    for key, block in cut_blocks(spelled, layout):
        block[...] = blocks.pop(key, -0.0)  # w + -0 is w for every w, -0 too
    for array, values in spelled.items():  # the sum of two finite biases may not be
        check_values(array, values)
    return spelled


def _name(place: str, layer: int, array: str) -> str:
    return place.replace("#", str(layer)).replace("*", array)
