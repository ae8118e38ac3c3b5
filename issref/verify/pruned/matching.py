"""Match the units of a pruned LSTM layer with the units of the layer before, by their weights."""

import math
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from issref.iss.layout import Params
from issref.models import ptb_lstm
from issref.ops import gru, lstm
from issref.verify.formats.cells import cell_of

Ids = np.ndarray  # positions in the layer before pruning, -1 if unknown


class Layer(NamedTuple):
    """The weights of a layer by gate: of the input x (D, 4, H), of its own output h (H, 4, H), biases b (4, H).

    A GRU has 3 gates. Its candidate, the last one, has two biases if the reset acts after the product.
    """

    x: np.ndarray
    h: np.ndarray
    b: np.ndarray


class Provenance(NamedTuple):
    """The rows and columns of the old layer from which the blocks x, h and b of one gate were cut."""

    x_rows: Ids  # (D,)
    x: Ids  # (H,)
    h_rows: Ids
    h: Ids
    b: Ids


def layers(params: Params) -> list[Layer]:
    """Return the layers of a stack, from the input up."""
    found = []
    for layer in ptb_lstm.spaces(params):
        kernel, count = params[f"{layer}/kernel"], len(cell_of(params).gates)
        units = kernel.shape[1] // count
        blocks, inputs = kernel.reshape(len(kernel), count, units), len(kernel) - units
        bias = params[f"{layer}/bias"].reshape(len(cell_of(params).biases), units)
        found.append(Layer(blocks[:inputs], blocks[inputs:], bias))
    return found


def gate_names(layer: Layer) -> tuple[str, ...]:
    """Return the names of a layer's gates."""
    return {len(one.GATES): one.GATES for one in (lstm, gru)}[layer.h.shape[1]]


def cut(layer: Layer, rows: Ids, units: Ids) -> Layer:
    """Return the layer with only these rows of its input and these units."""
    return Layer(layer.x[rows][:, :, units], layer.h[units][:, :, units], layer.b[:, units])


def gates(layer: Layer) -> list[Layer]:
    """Return the gates of a layer, each with x (D, H), h (H, H) and b (1, H), or (2, H) for two biases."""
    ends = [*range(1, layer.h.shape[1]), len(layer.b)]
    return [Layer(layer.x[:, gate], layer.h[:, gate], layer.b[gate:end]) for gate, end in enumerate(ends)]


def match(new: Layer, old: Layer, inputs: Ids) -> Ids:
    """Return for each unit of `new` the same unit of `old`; `inputs` are the kept components of the old input.

    Units are compared by their weights that no cut of units changes: input weights, biases, and the weights from a
    unit to itself. Units with equal weights are matched in order. The others are matched with the unit of the same
    position, if the layers have the same width, then with the nearest free unit.
    """
    mine, theirs = _signatures(new, new.x), _signatures(old, old.x[inputs])
    units = _in_order(mine, theirs)
    if len(mine) == len(theirs):
        itself = np.setdiff1d(np.flatnonzero(units < 0), units)
        units[itself] = itself
    return _nearest(units, mine, theirs)


def inputs_of(new: Layer, old: Layer) -> Ids | None:
    """Return for each input component of `new` the one of `old` with the same weights; None if one has others.

    Components that nothing reads any more are matched with the free ones that are read least.
    """
    mine, theirs = (layer.x.reshape(len(layer.x), math.prod(layer.x.shape[1:])) for layer in (new, old))
    rows, columns = _locate_rows_and_columns(mine, theirs)
    unread = ~mine.any(axis=1)
    if not is_choice(rows[~unread]):  # the numbers of a coarse dtype occur too often to tell a row
        units = match(new._replace(x=new.x[:0]), old, np.arange(0))
        columns = np.concatenate([units + len(old.h) * gate for gate in range(old.h.shape[1])])
        rows = _in_order(mine, theirs[:, columns])
    if not is_choice(rows[~unread]):
        return None
    free = np.setdiff1d(np.arange(len(theirs)), rows)
    sizes = np.abs(theirs[np.ix_(free, columns[columns >= 0])]).sum(axis=1)
    rows[unread] = np.sort(free[np.argsort(sizes, kind="stable")[: unread.sum()]])
    return rows


def provenance(new: Layer, old: Layer) -> Provenance:
    """Return where the blocks of a gate were cut from, found by looking up their numbers in the old blocks."""
    x_rows, x = _locate_rows_and_columns(new.x, old.x)
    h_rows, h = _locate_rows_and_columns(new.h, old.h)
    return Provenance(x_rows, x, h_rows, h, _locate_rows_and_columns(new.b, old.b)[1])


def consensus(found: Sequence[Provenance]) -> Ids | None:
    """Return the units of most blocks, of the output gate's if there is a tie, None if no block is certain."""
    columns = [*(gate.h for gate in reversed(found)), *(gate.x for gate in reversed(found))]
    sets = [tuple(units) for units in columns if is_choice(units)]
    return np.array(Counter(sets).most_common(1)[0][0], int) if sets else None


def filled(found: Provenance, new: Layer, old: Layer, inputs: Ids, units: Ids) -> Provenance:
    """Return the provenance of a gate with unknown rows and columns from its other block, or as they should be."""
    x, h = np.where(found.x < 0, found.h, found.x), np.where(found.h < 0, found.x, found.h)
    x = _complete(x, units, new.x.T, old.x[inputs].T)
    h = _complete(h, units, new.h.T, old.h[units].T)
    x_rows = _complete(found.x_rows, inputs, new.x, old.x[:, x])
    h_rows = _complete(found.h_rows, units, new.h, old.h[:, h])
    return Provenance(x_rows, x, h_rows, h, np.where(found.b < 0, x, found.b))


def cut_by_gate(old: Layer, found: Sequence[Provenance]) -> Layer:
    """Return the old layer with each gate cut to the rows and columns of its provenance."""
    cuts = [
        Layer(gate.x[np.ix_(of.x_rows, of.x)], gate.h[np.ix_(of.h_rows, of.h)], gate.b[:, of.b])
        for gate, of in zip(gates(old), found, strict=True)
    ]
    x, h, b = zip(*cuts, strict=True)
    return Layer(np.stack(x, axis=1), np.stack(h, axis=1), np.concatenate(b))


def rows_of(new: np.ndarray, old: np.ndarray) -> Ids:
    """Return for each row of a smaller matrix the row of the old one, if all columns were kept."""
    return _locate_rows_and_columns(new, old)[0]


def is_choice(units: Ids) -> bool:
    """Return whether all units are known and different."""
    return bool((units >= 0).all()) and len(set(units.tolist())) == len(units)


def spell(units: Iterable[int], limit: int = 12) -> str:
    """Return units as text in runs, "0-3, 7", at most `limit` of them."""
    runs: list[list[int]] = []
    for unit in map(int, units):
        if runs and unit == runs[-1][-1] + 1:
            runs[-1][1:] = [unit]
        else:
            runs.append([unit])
    written = ["-".join(map(str, run)) for run in runs]
    return ", ".join(written[:limit] + [f"and {len(runs) - limit} more runs"] * (len(runs) > limit)) or "none"


def _complete(ids: Ids, should: Ids, new: np.ndarray, old: np.ndarray) -> Ids:
    """Fill in unknown rows of a matrix: a row of zeros by a free row of zeros, others as they should be."""
    ids, zeros = ids.copy(), np.flatnonzero(~old.any(axis=1))
    for row in np.flatnonzero((ids < 0) & ~new.any(axis=1)):
        free = np.setdiff1d(zeros, ids)
        ids[row] = should[row] if should[row] in free or not len(free) else free[0]
    ids = np.where(ids < 0, should, ids)
    return ids if is_choice(ids) else should


def _signatures(layer: Layer, inputs: np.ndarray) -> np.ndarray:
    """Return the weights (H, 4 (D + 2)) of an LSTM to compare, a row for each unit."""
    itself = layer.h.diagonal(axis1=0, axis2=2)
    return np.concatenate((inputs.reshape(math.prod(inputs.shape[:2]), layer.b.shape[1]), itself, layer.b)).T


def _in_order(mine: np.ndarray, theirs: np.ndarray) -> Ids:
    """Return for each row of `mine` the equal row of `theirs`, equal ones in order; -1 if none is left."""
    places = defaultdict(deque)
    for row, numbers in enumerate(theirs + 0.0):  # -0 is 0
        places[numbers.tobytes()].append(row)
    return np.array([(places.get(numbers.tobytes()) or deque([-1])).popleft() for numbers in mine + 0.0], int)


def _nearest(units: Ids, mine: np.ndarray, theirs: np.ndarray) -> Ids:
    """Match each unknown unit with the nearest free one, the nearest pair first."""
    missing, free = np.flatnonzero(units < 0), np.setdiff1d(np.arange(len(theirs)), units)
    one, other = mine[missing], theirs[free]
    distances = (one**2).sum(1)[:, None] + (other**2).sum(1) - 2 * one @ other.T  # squared
    for each in np.argsort(distances.min(axis=1, initial=np.inf)):
        nearest = distances[each].argmin()
        units[missing[each]] = free[nearest]
        distances[:, nearest] = np.inf
    return units


def _locate_rows_and_columns(new: np.ndarray, old: np.ndarray) -> tuple[Ids, Ids]:
    """Return for each row of `new` the row of `old` that it was cut from, and the same for the columns.

    Each number of `new` is looked up in `old`, except zeros and numbers that `old` has twice. A row is located if
    more than half of its nonzero numbers are in one row of `old`.
    """
    numbers, first, counts = np.unique(old, return_index=True, return_counts=True)
    at = np.searchsorted(numbers[:-1], new)
    matched = np.zeros(new.shape, bool) if not old.size else (numbers[at] == new) & (counts[at] == 1) & (new != 0)
    rows, columns = np.divmod(first[at], old.shape[1]) if old.size else (at, at)
    return _majority(np.where(matched, rows, -1), new), _majority(np.where(matched, columns, -1).T, new.T)


def _majority(votes: Ids, numbers: np.ndarray) -> Ids:
    """Return the majority of each row of votes, -1 if it is at most half of the nonzero numbers."""
    winners = np.full(len(votes), -1)
    for row, (vote, nonzero) in enumerate(zip(votes, (numbers != 0).sum(axis=1), strict=True)):
        counts = np.bincount(vote[vote >= 0], minlength=1)
        if 2 * counts.max() > nonzero:
            winners[row] = counts.argmax()
    return winners
