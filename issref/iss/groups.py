"""The ISS groups of a layout: everything that belongs to one component, as ids of rows and columns."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Shaped

from issref import kernels
from issref.iss.layout import Layout, Params

Ids = np.ndarray


class Groups(NamedTuple):
    """The layout compiled for loops. Component k of a space has group first[space] + k, of `count` in all;
    ids[array] gives the group of each row and of each column, -1 where there is none."""

    first: dict[str, int]
    count: int
    ids: dict[str, tuple[Ids, Ids]]

    def split(self, values: Shaped[np.ndarray, "groups *rest"]) -> dict[str, np.ndarray]:
        """One value for each group, as one array for each space."""
        spans = pairwise([*self.first.values(), self.count])
        return {space: values[start:stop] for space, (start, stop) in zip(self.first, spans, strict=True)}

    def spread(self, values: Mapping[str, float]) -> Shaped[np.ndarray, " groups"]:
        """One value for each space, as one for each of its groups: a strength for each layer, say.

        Raises ValueError unless exactly the spaces of these groups are named.
        """
        if values.keys() != self.first.keys():
            raise ValueError(f"spread: needs a value for each of {list(self.first)}, got {list(values)}")
        index = self.split(np.arange(self.count))
        result = np.zeros(self.count)
        for space, value in values.items():
            result[index[space]] = value
        return result

    def matrix(self, params: Params, array: str) -> np.ndarray:
        """An array as the matrix its ids index; ValueError in words if it is missing or misshapen."""
        rows, columns = self.ids[array]
        if array not in params:
            raise ValueError(f"{array}: its groups need this array, got {sorted(params)}")
        found = params[array].shape
        if found != (len(rows), len(columns)) and (found != (len(rows),) or len(columns) != 1):
            raise ValueError(f"{array}: its groups need shape {(len(rows), len(columns))}, got {found}")
        if not np.issubdtype(params[array].dtype, np.inexact):
            raise ValueError(f"{array}: its groups need floating point numbers, got {params[array].dtype}")
        return params[array].reshape(len(rows), len(columns))


def iss_groups(layout: Layout, spaces: Iterable[str]) -> Groups:
    """One group for each component of each space: all rows and columns where the layout counts it.

    For a stacked LSTM (paper, section 3): the four gate columns, the recurrent row and the rows that read it.
    A weight whose row and column belong to one component is in its group once. Raises ValueError for an
    unknown space and for a counted space along an array of more than two axes.

    >>> layout = Layout({"rnn": (("input", "unit"), ("unit",))}, {"input": 3, "unit": 2})
    >>> iss_groups(layout, ["unit"]).ids["rnn"]  # of its rows, of its columns; -1: in no group
    (array([-1, -1, -1,  0,  1]), array([0, 1]))
    """
    first, count = {}, 0
    for space in spaces:
        if space not in layout.sizes:
            raise ValueError(f"groups: space {space!r} needs to be in the layout, got {sorted(layout.sizes)}")
        if space in first:
            raise ValueError(f"groups: space {space!r} needs to be named once, got it twice")
        first[space], count = count, count + layout.sizes[space]
    grouped = {
        where.array: layout.axes[where.array]
        for space in first
        for where in layout.occurrences(space)
        if where.segment.counted
    }
    for array, axes in grouped.items():
        if len(axes) > 2:
            raise ValueError(f"{array}: a grouped array needs one or two axes, got {len(axes)}")
    return Groups(
        first, count, {array: _ids_of(layout, array, first) for array in layout.axes if array in grouped}
    )


def _ids_of(layout: Layout, array: str, first: Mapping[str, int]) -> tuple[Ids, Ids]:
    shape = layout.shape(array)
    columns = shape[1] if len(shape) == 2 else 1  # a vector is a matrix of one column
    ids = (np.full(shape[0], -1), np.full(columns, -1))
    for axis, along in enumerate(ids[: len(shape)]):
        for space, start, stop, counted in layout.segments(array, axis):
            if counted and space in first:
                along[start:stop] = np.arange(first[space], first[space] + stop - start)
    return ids


def pair_energies(params: Params, groups: Groups) -> Shaped[np.ndarray, "G G"]:
    """E[g, h]: the sum of w^2 over the weights whose row is in group g and column in group h.

    The last row and column (index -1) stand for "no group". Everything that ISS asks of the weights (norms,
    penalty, proximal step) is a function of this one table. Accumulated in float64 or wider.
    """
    dtype = np.result_type(np.float64, *(params[array].dtype for array in groups.ids if array in params))
    table = np.zeros((groups.count + 1, groups.count + 1), dtype)
    for array, (rows, columns) in groups.ids.items():
        kernels.add_pair_energies(groups.matrix(params, array), rows, columns, table)
    return table


def group_energies(table: Shaped[np.ndarray, "G G"], self_weight: int = 1) -> Shaped[np.ndarray, " G-1"]:
    """|w_g|^2 from the pair table: row sums plus column sums, weights of g with itself `self_weight` times."""
    return (table.sum(axis=0) + table.sum(axis=1) - (2 - self_weight) * table.diagonal())[:-1]


def group_norms(params: Params, groups: Groups) -> Shaped[np.ndarray, " groups"]:
    """|w_g|: the Euclidean norm of everything that belongs to component g, one for each group.

    `groups.split(...)` sorts the result by space. Raises ValueError for an array that is missing or misshapen.

    >>> layout = Layout({"w": (("input",), ("unit",))}, {"input": 2, "unit": 2})
    >>> group_norms({"w": np.array([[3.0, 0.3], [4.0, 0.4]])}, iss_groups(layout, ["unit"]))
    array([5. , 0.5])
    """
    return np.sqrt(group_energies(pair_energies(params, groups)))


def alive(
    params: Params, groups: Groups, readers: Iterable[tuple[str, int]] | None = None
) -> dict[str, Bool[np.ndarray, " components"]]:
    """Which components of each space are not all zero: in their whole group, or in what reads them.

    `readers` lists (array, axis) pairs, the array as a name or a pattern ("lstm*/kernel"): a component is then
    alive while one of its slices along those axes holds a nonzero weight. A component that nothing reads can
    be removed without loss whatever its own columns and biases are. Raises ValueError for a reader that
    matches no grouped array.

    >>> layout = Layout({"in": (("x",), ("unit",)), "out": (("unit",), ("y",))}, {"x": 1, "unit": 2, "y": 1})
    >>> params, groups = {"in": np.ones((1, 2)), "out": np.array([[1.0], [0.0]])}, iss_groups(layout, ["unit"])
    >>> alive(params, groups), alive(params, groups, readers=[("out", 0)])
    ({'unit': array([ True,  True])}, {'unit': array([ True, False])})
    """
    pairs = None if readers is None else {pair for reader in readers for pair in _matching(reader, groups)}
    found = np.zeros(groups.count + 1, bool)
    for array, ids in groups.ids.items():
        nonzero = groups.matrix(params, array) != 0
        for axis in (0, 1):
            if pairs is None or (array, axis) in pairs:
                found[ids[axis][nonzero.any(axis=1 - axis)]] = True
    return groups.split(found[:-1])


def _matching(reader: tuple[str, int], groups: Groups) -> list[tuple[str, int]]:
    pattern, axis = reader
    arrays = [array for array in groups.ids if fnmatchcase(array, pattern)]
    if axis not in (0, 1):
        raise ValueError(f"readers: {pattern!r} needs axis 0 or 1, got {axis}")
    if not arrays:
        raise ValueError(f"readers: {pattern!r} needs to match a grouped array, got {sorted(groups.ids)}")
    return [(array, axis) for array in arrays]
