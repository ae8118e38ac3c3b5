"""Write a layout as a group file of the paper's released code, and read such a file as a layout.

A file (github.com/wenwei202/iss-rnns, rhns/groups_hidden830.json) names slices of variables,

    {"comments": [...], "groups": [family, ...]},  family = [entry, ...],
    entry = {"var_name": "model/embedding", "multi": 1.0, "axis": 0, "start": 0, "end": 830},

and its penalty is  sum_families sum_k sqrt(1e-8 + sum_entries multi * v[start + k]),  v = (var ** 2).sum(axis):
a family is a space, an entry a counted segment of it. `axis` is the axis of the sum, not the axis of the slice:
axis 0 selects columns, axis 1 rows. A weight of a component with itself is in two entries, so the
penalty of a file is that of `issref.iss.penalty` with self_weight=2, smoothing=1e-8.
"""

import json
from collections.abc import Iterable, Mapping, Sequence

from pydantic import BaseModel, Field

from issref.data import schema
from issref.iss.groups import iss_groups
from issref.iss.layout import Axis, Layout, Segment
from issref.models import bidaf

Shapes = Mapping[str, tuple[int, ...]]
FILLER = "in no group: "  # prefix of spaces without an entry


class Entry(BaseModel, frozen=True, extra="forbid"):
    """One entry, with the fields of the files."""

    var_name: str
    multi: float
    axis: int = Field(ge=0, le=1)
    start: int
    end: int


class _File(BaseModel):
    groups: list[list[Entry]]


def rhn_variables(width: int, depth: int, vocabulary: int = 10_000) -> Layout:
    """Return the layout of the released recurrent highway network, with a tied embedding, in TensorFlow names.

    The embedding (V, W); of micro-layer d the matrices H_d, T_d, (2W, W) with rows input, state for d = 0 and
    (W, W) above; their biases and the softmax's, in no group. ISS learns one space, "width".
    """
    axes = {"model/embedding": (("word",), ("width",))}
    for layer in range(depth):
        rows = ("width",) if layer else ("width", "width")
        for linear in (f"model/RHN0/{letter}_{layer}/Linear" for letter in "ht"):
            axes |= {f"{linear}/Matrix": (rows, ("width",)), f"{linear}/Bias": (("~width",),)}
    return Layout(axes | {"model/softmax_b": (("~word",),)}, {"word": vocabulary, "width": width})


def bidaf_variables(hidden_size: int) -> Layout:
    """Return the layout of the released BiDAF after its attention, in TensorFlow names, without attended rows.

    The LSTM kernels g0 (9 d, 4 d), g1 (3 d, 4 d), g2 (15 d, 4 d), forward and backward, the logits' (10 d, 1), and
    their biases, in no group. ISS learns the six spaces of `issref.models.bidaf`.
    """
    model = bidaf.layout(bidaf.Config(hidden_size=hidden_size), "released")
    linear = {"start": "main/logits1/first", "end": "main/logits2/first"}
    cells = {space: f"main/{space.replace('.', '/')}/basic_lstm_cell" for space in bidaf.LEARNED}
    axes = {}
    for name, variable in (cells | linear).items():
        axes |= {
            f"{variable}/weights": model.axes[f"{name}/kernel"],
            f"{variable}/biases": model.axes[f"{name}/bias"],
        }
    return Layout(axes, model.sizes)


def write_groups(layout: Layout, spaces: Iterable[str], comments: Iterable[str] = ()) -> str:
    """Return the JSON text of a group file: a family for each space, with its counted segments in layout order.

    A space without components is an empty family. (The released RHN code uses only the first family.) Raises
    ValueError if a space is unknown or repeated, if an array with a counted segment is no matrix, or if components
    are counted nowhere: a file cannot express these.
    """
    groups = iss_groups(layout, spaces)
    for array in groups.ids:
        if (axes := len(layout.axes[array])) != 2:
            raise ValueError(f"{array}: expected a matrix, as in every group file, got {axes} axes")
    families = {space: _entries(layout, space) for space in groups.first}
    for space, family in families.items():
        if layout.sizes[space] and not family:
            raise ValueError(f"space {space!r}: expected a counted segment, got none")
    found = [[entry.model_dump() for entry in family] for family in families.values()]
    return json.dumps({"comments": list(comments), "groups": found}, indent=1)


def read_groups(text: str, shapes: Shapes, spaces: Sequence[str] | None = None) -> tuple[Layout, list[str]]:
    """Return the layout of a group file for variables {name: shape}, and its spaces, one for each family.

    `spaces` are their names, by default "group0", "group1", ... Slices without an entry, such as biases, become
    separate spaces. The layout is right for groups, norms and penalty, but not for `compact`, which must know the
    biases of each component. Raises ValueError if the text is not a group file, if entries do not fit the shapes,
    overlap, or differ in length within a family, or if a `multi` is not 1.
    """
    families = _families(text, shapes)
    names = _names(spaces, len(families))
    found = {(array, axis): [] for array, shape in shapes.items() for axis in range(len(shape))}
    for name, family in zip(names, families, strict=True):
        for entry in family:
            found[entry.var_name, 1 - entry.axis].append(Segment(name, entry.start, entry.end, counted=True))
    sizes = dict.fromkeys(names, 0)
    axes: dict[str, tuple[Axis, ...]] = dict.fromkeys(shapes, ())
    for (array, axis), segments in found.items():
        filled = _filled(array, axis, shapes[array][axis], segments)
        sizes |= {segment.space: segment.stop - segment.start for segment in filled}
        axes[array] += (tuple(segment.space for segment in filled),)
    return Layout(axes, sizes), names


def _entries(layout: Layout, space: str) -> list[Entry]:
    return [
        Entry(var_name=array, multi=1.0, axis=1 - axis, start=int(start), end=int(stop))
        for array, axis, (_, start, stop, counted) in layout.occurrences(space)
        if counted and start < stop
    ]


def _families(text: str, shapes: Shapes) -> list[list[Entry]]:
    """Return the entries of a file by family, each checked against the shapes."""
    families = schema.parse("group file", _File, text).groups
    for n, family in enumerate(families):
        for k, entry in enumerate(family):
            _check_entry(f"groups[{n}][{k}], {entry.var_name[:60]!r}", entry, shapes.get(entry.var_name))
        if len(lengths := {entry.end - entry.start for entry in family}) > 1:
            raise ValueError(f"groups[{n}]: expected slices of one length, got {sorted(lengths)}")
    return families


def _check_entry(where: str, entry: Entry, shape: tuple[int, ...] | None) -> None:
    if shape is None:
        raise ValueError(f"{where}: expected a variable of known shape, got none")
    if len(shape) != 2:
        raise ValueError(f"{where}: expected a matrix, got shape {tuple(shape)}")
    if entry.multi != 1:
        need = "multi 1 (the factor c of a family is sqrt(c) in its strength)"
        raise ValueError(f"{where}: expected {need}, got {entry.multi!r}")
    length = shape[1 - entry.axis]
    if not 0 <= entry.start < entry.end <= length:
        finding = f"{entry.start}:{entry.end}"
        raise ValueError(f"{where}: expected a slice of 0:{length} for axis {entry.axis}, got {finding}")


def _names(spaces: Sequence[str] | None, count: int) -> list[str]:
    names = [f"group{n}" for n in range(count)] if spaces is None else list(spaces)
    if not len(names) == len(set(names)) == count or any(name.startswith(("~", FILLER)) for name in names):
        raise ValueError(f'spaces: expected {count} different names without "~" or "{FILLER}", got {names}')
    return names


def _filled(array: str, axis: int, length: int, segments: Iterable[Segment]) -> list[Segment]:
    """Return the segments of an axis end to end, with a separate space in each gap."""
    result, reached = [], 0
    for segment in [*sorted(segments, key=lambda each: each.start), Segment("", length, length, counted=True)]:
        if segment.start < reached:
            pair = " and ".join(f"{start}:{stop}" for _, start, stop, _ in (result[-1], segment))
            raise ValueError(
                f"{array}: expected slices of {('rows', 'columns')[axis]} that do not overlap, got {pair}"
            )
        if segment.start > reached:
            gap = f"{FILLER}axis {axis} of {array}, {reached}:{segment.start}"
            result.append(Segment(gap, reached, segment.start, counted=True))
        result.append(segment)
        reached = segment.stop
    return result[:-1]
