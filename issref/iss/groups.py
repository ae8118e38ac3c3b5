"""ISS groups: all counted weights of one component, written as a group id for each row and each column.

A weight lies in the group of its row and in the group of its column, so in at most two groups. Therefore ISS needs
only one table of squared norms, with an entry for each pair of groups g, h:

    table[g, h] = sum of w^2 over the weights whose row is in group g and whose column is in group h

The squared norm of a group is a sum of entries, and the penalty is a sum of norms. The gradient of the penalty and
the proximal step multiply all weights of one pair by the same number, which is computed from the table. So each
weight is read once, to fill the table, and scaled once; the rest of the work does not depend on the number of
weights. Tutorials: tutorials/1_one_unit.py, tutorials/2_the_penalty.py.
"""

import math
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Shaped

from issref import kernels
from issref.iss.layout import Layout, Params, check_array

Ids = np.ndarray


class Groups(NamedTuple):
    """The groups of a layout, compiled into integer arrays.

    Component k of a space has the group id first[space] + k; there are `count` groups in all. ids[array] holds the
    group id of each row and of each column of the array, -1 for a row or column in no group.
    """

    first: dict[str, int]
    count: int
    ids: dict[str, tuple[Ids, Ids]]

    def split(self, values: Shaped[np.ndarray, "groups *rest"]) -> dict[str, np.ndarray]:
        """Split an array with one entry for each group into one array for each space."""
        spans = pairwise([*self.first.values(), self.count])
        return {space: values[start:stop] for space, (start, stop) in zip(self.first, spans, strict=True)}

    def spread(self, values: Mapping[str, float]) -> Shaped[np.ndarray, " groups"]:
        """Return an array with one entry for each group from one value for each space, say a strength.

        Raises ValueError if `values` does not name exactly the spaces of these groups.
        """
        if values.keys() != self.first.keys():
            raise ValueError(f"spread: expected a value for each of {list(self.first)}, got {list(values)}")
        numbers = real_numbers("spread", [values[space] for space in self.first])
        return numbers.repeat(np.diff([*self.first.values(), self.count]))

    def matrix(self, params: Params, array: str) -> np.ndarray:
        """Return an array as a matrix of the shape of its ids; a vector becomes a matrix of one column.

        Raises ValueError if the array is missing, has another shape or holds no floating point numbers, or if its
        ids are no integers from -1 to `count` - 1.
        """
        rows, columns = self.ids[array]
        for ids in (rows, columns):  # checked at each use: the compiled loops check no bounds
            if ids.dtype.kind != "i" or ids.ndim != 1:
                raise ValueError(
                    f"{array}: expected a vector of integers as group ids, got {ids.dtype} {ids.shape}"
                )
            if ids.min(initial=-1) < -1 or ids.max(initial=-1) >= self.count:
                found = f"{ids.min()} to {ids.max()}"
                raise ValueError(f"{array}: expected group ids from -1 to {self.count - 1}, got {found}")
        if array not in params:
            raise ValueError(f"{array}: expected this grouped array in params, got {sorted(params)}")
        check_array(array, params[array])
        found = params[array].shape
        if found != (len(rows), len(columns)) and (found != (len(rows),) or len(columns) != 1):
            raise ValueError(f"{array}: expected shape {(len(rows), len(columns))} for its groups, got {found}")
        if not np.issubdtype(params[array].dtype, np.inexact):
            raise ValueError(f"{array}: expected floating point numbers for its groups, got {params[array].dtype}")
        return params[array].reshape(len(rows), len(columns))


def iss_groups(layout: Layout, spaces: Iterable[str]) -> Groups:
    """Return one group for each component of the given spaces: all its counted rows and columns.

    In a stacked LSTM (paper, section 3) a group holds four gate columns, the recurrent row and the row of the
    next matrix that reads the unit. A weight from a component to itself is in the group once. Raises ValueError if
    a space is unknown or given twice, or if one is counted along an array of more than two axes.

    >>> layout = Layout({"rnn": (("input", "unit"), ("unit",))}, {"input": 3, "unit": 2})
    >>> iss_groups(layout, ["unit"]).ids["rnn"]  # group ids of the rows and of the columns; -1: in no group
    (array([-1, -1, -1,  0,  1]), array([0, 1]))
    """
    first, count = {}, 0
    for space in spaces:
        if space not in layout.sizes:
            raise ValueError(f"groups: expected spaces of {sorted(layout.sizes)}, got {space!r}")
        if space in first:
            raise ValueError(f"groups: expected each space once, got {space!r} twice")
        first[space], count = count, count + layout.sizes[space]
    ids = {}
    for array, axes in layout.axes.items():
        if first.keys() & {space for axis in axes for space in axis}:  # without `~`, so counted
            if len(axes) > 2:
                raise ValueError(f"{array}: expected one or two axes for a grouped array, got {len(axes)}")
            ids[array] = _ids_of(layout, array, first)
    return Groups(first, count, ids)


def _ids_of(layout: Layout, array: str, first: Mapping[str, int]) -> tuple[Ids, Ids]:
    shape = layout.shape(array)
    columns = shape[1] if len(shape) == 2 else 1  # a vector is a matrix of one column
    ids = (np.full(shape[0], -1), np.full(columns, -1))
    for axis, along in enumerate(ids[: len(shape)]):
        for space, start, stop, counted in layout.segments(array, axis):
            if counted and space in first:
                along[start:stop] = np.arange(first[space], first[space] + stop - start)
    return ids


def pair_squared_norms(params: Params, groups: Groups) -> Shaped[np.ndarray, "G G"]:
    """Return table[g, h]: the sum of w^2 over the weights whose row is in group g and column in group h.

    The last row and column stand for "no group": the id -1 indexes them. Sums are in float64 or wider. Raises
    ValueError if an array is missing or has another shape.
    """
    matrices = {array: groups.matrix(params, array) for array in groups.ids}
    dtype = np.result_type(np.float64, *(matrix.dtype for matrix in matrices.values()))
    table = np.zeros((groups.count + 1, groups.count + 1), dtype)
    for array, matrix in matrices.items():
        kernels.add_pair_squared_norms(matrix, *groups.ids[array], table)
    return table


def scaled_squared_norms(params: Params, groups: Groups) -> tuple[Shaped[np.ndarray, "G G"], float]:
    """Return the table of `pair_squared_norms` of the weights divided by a unit, and the unit.

    The unit is 1 unless the sum of all squares overflows or vanishes; then it is the power of two next to the
    largest weight. Weights 1e-162 times as large as the unit, or less, count as 0.
    """
    table = pair_squared_norms(params, groups)
    with np.errstate(over="ignore"):
        total = abs(table.sum())
    if 1e-200 < total < 1e300:
        return table, 1.0
    matrices = {array: groups.matrix(params, array) for array in groups.ids}
    largest = max((float(np.abs(matrix).max(initial=0)) for matrix in matrices.values()), default=0.0)
    if largest == 0 or not math.isfinite(largest):
        return table, 1.0
    unit = math.ldexp(1.0, math.frexp(largest)[1] - 1)
    wide = {
        array: np.divide(matrix, unit, dtype=np.result_type(matrix, np.float64))
        for array, matrix in matrices.items()
    }
    return pair_squared_norms(wide, groups), unit


def group_squared_norms(table: Shaped[np.ndarray, "G G"], self_weight: int = 1) -> Shaped[np.ndarray, " G-1"]:
    """Return |w_g|^2 for each group: the row sum of g plus its column sum in the table of `pair_squared_norms`.

    Both sums contain the diagonal entry, the weights from a component to itself. It is counted `self_weight`
    times: once for the norm of a set of weights, twice in the released code.
    """
    return (table.sum(axis=0) + table.sum(axis=1) - (2 - self_weight) * table.diagonal())[:-1]


def group_norms(params: Params, groups: Groups) -> Shaped[np.ndarray, " groups"]:
    """Return the Euclidean norm |w_g| of each group; `groups.split` splits the result by space.

    Raises ValueError if an array is missing or has another shape.

    >>> layout = Layout({"w": (("input",), ("unit",))}, {"input": 2, "unit": 2})
    >>> group_norms({"w": np.array([[3.0, 0.3], [4.0, 0.4]])}, iss_groups(layout, ["unit"]))
    array([5. , 0.5])
    """
    table, unit = scaled_squared_norms(params, groups)
    return unit * np.sqrt(group_squared_norms(table))


def real_numbers(name: str, values) -> Shaped[np.ndarray, "..."]:
    """Return numbers as an array of float64. Raises ValueError unless they are real numbers."""
    array = np.asanyarray(values)
    if isinstance(array, np.ma.MaskedArray) or array.dtype.kind not in "iuf":
        kind = "a masked array" if isinstance(array, np.ma.MaskedArray) else array.dtype
        raise ValueError(f"{name}: expected real numbers, got {kind}")
    return array.astype(np.float64)


def alive(
    params: Params, groups: Groups, readers: Iterable[tuple[str, int]] | None = None
) -> dict[str, Bool[np.ndarray, " components"]]:
    """Return a boolean for each component of each space: whether its group holds a nonzero weight.

    With `readers`, only the weights that read a component count. `readers` is a list of (array, axis) pairs, in
    which the array is a name or a pattern ("lstm*/kernel"). The component is then alive if one of its slices along
    these axes holds a nonzero weight. A component that nothing reads can be removed without changing the outputs,
    whatever its own columns and biases are. Raises ValueError if an axis is not 0 or 1, or a reader matches no
    grouped array.

    >>> layout = Layout({"in": (("x",), ("unit",)), "out": (("unit",), ("y",))}, {"x": 1, "unit": 2, "y": 1})
    >>> params, groups = {"in": np.ones((1, 2)), "out": np.array([[1.0], [0.0]])}, iss_groups(layout, ["unit"])
    >>> alive(params, groups), alive(params, groups, readers=[("out", 0)])
    ({'unit': array([ True,  True])}, {'unit': array([ True, False])})
    """
    pairs = None if readers is None else {pair for reader in readers for pair in _matching(reader, groups)}
    found = np.zeros(groups.count + 1, bool)  # the last entry takes what is in no group
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
        raise ValueError(f"readers: expected axis 0 or 1 for {pattern!r}, got {axis}")
    if not arrays:
        raise ValueError(f"readers: expected a pattern that matches one of {sorted(groups.ids)}, got {pattern!r}")
    return [(array, axis) for array in arrays]
