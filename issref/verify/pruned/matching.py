"""Which units of an LSTM layer a pruned layer has kept: its numbers tell where they come from."""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from issref.iss.layout import Params
from issref.models import ptb_lstm
from issref.ops.lstm import GATES

Ids = np.ndarray  # positions in the layer before, -1 where unknown


class Layer(NamedTuple):
    """The weights of a layer by gate: x (D, 4, H) reads its input, h (H, 4, H) its own output; b (4, H)."""

    x: np.ndarray
    h: np.ndarray
    b: np.ndarray


class Origin(NamedTuple):
    """The rows and columns of the layer before that the blocks x, h and b of one gate are cut from."""

    x_rows: Ids  # (D,)
    x: Ids  # (H,)
    h_rows: Ids
    h: Ids
    b: Ids


def layers(params: Params) -> list[Layer]:
    """The layers of a stack, from the input up."""
    found = []
    for me in ptb_lstm.spaces(params):
        kernel, bias = params[f"{me}/kernel"], params[f"{me}/bias"].reshape(len(GATES), -1)
        blocks = kernel.reshape(len(kernel), *bias.shape)
        inputs = len(kernel) - bias.shape[1]
        found.append(Layer(blocks[:inputs], blocks[inputs:], bias))
    return found


def cut(layer: Layer, rows: Ids, units: Ids) -> Layer:
    """The layer with these rows of its input and these units alone."""
    return Layer(layer.x[rows][:, :, units], layer.h[units][:, :, units], layer.b[:, units])


def gates(layer: Layer) -> list[Layer]:
    """The four gates of a layer, each with x (D, H), h (H, H) and b (H,)."""
    return [Layer(layer.x[:, gate], layer.h[:, gate], layer.b[gate]) for gate in range(len(GATES))]


def match(new: Layer, old: Layer, below: Ids) -> Ids:
    """The unit of `old` that each unit of `new` was, if its input is the components `below` of that before.

    Units are told by what no cut of their own layer touches: input weights, biases, and the weights with which
    they read themselves. Those of equal numbers are matched in order; what is left over with itself, if the
    widths are equal, and then with the nearest that is left.
    """
    mine, theirs = _signatures(new, new.x), _signatures(old, old.x[below])
    places = defaultdict(deque)
    for unit, numbers in enumerate(theirs):
        places[numbers.tobytes()].append(unit)
    units = np.array([(places.get(numbers.tobytes()) or deque([-1])).popleft() for numbers in mine], int)
    if len(mine) == len(theirs):
        itself = np.setdiff1d(np.flatnonzero(units < 0), units)
        units[itself] = itself
    return _nearest(units, mine, theirs)


def origin(new: Layer, old: Layer) -> Origin:
    """Where the blocks of a gate were cut from, told by their numbers alone, looked up in the block before."""
    x_rows, x = _whence(new.x, old.x)
    h_rows, h = _whence(new.h, old.h)
    return Origin(x_rows, x, h_rows, h, _whence(new.b[None], old.b[None])[1])


def consensus(found: Sequence[Origin]) -> Ids | None:
    """The units that most blocks were cut to, the output gate's if in doubt; None if no block tells."""
    columns = [*(gate.h for gate in reversed(found)), *(gate.x for gate in reversed(found))]
    sets = [tuple(units) for units in columns if is_choice(units)]
    return np.array(Counter(sets).most_common(1)[0][0], int) if sets else None


def filled(found: Origin, new: Layer, old: Layer, below: Ids, units: Ids) -> Origin:
    """The origin of a gate with what is unknown filled in: by its other block, else as it should be."""
    x, h = np.where(found.x < 0, found.h, found.x), np.where(found.h < 0, found.x, found.h)
    x = _complete(x, units, new.x.T, old.x[below].T)
    h = _complete(h, units, new.h.T, old.h[units].T)
    x_rows = _complete(found.x_rows, below, new.x, old.x[:, x])
    h_rows = _complete(found.h_rows, units, new.h, old.h[:, h])
    return Origin(x_rows, x, h_rows, h, np.where(found.b < 0, x, found.b))


def cut_by_gate(old: Layer, found: Sequence[Origin]) -> Layer:
    """The layer that origins state, each gate cut to rows and columns of its own."""
    cuts = [
        Layer(gate.x[np.ix_(of.x_rows, of.x)], gate.h[np.ix_(of.h_rows, of.h)], gate.b[of.b])
        for gate, of in zip(gates(old), found, strict=True)
    ]
    x, h, b = zip(*cuts, strict=True)
    return Layer(np.stack(x, axis=1), np.stack(h, axis=1), np.stack(b))


def rows_of(new: np.ndarray, old: np.ndarray) -> Ids:
    """The rows of a matrix that those of a smaller one are of, all columns kept."""
    return _whence(new, old)[0]


def is_choice(units: Ids) -> bool:
    """Whether all are known, and none is there twice."""
    return bool((units >= 0).all()) and len(set(units.tolist())) == len(units)


def spell(units: Iterable[int], limit: int = 12) -> str:
    """Units as runs, 0-3, 7, of which `limit` are written out."""
    runs: list[list[int]] = []
    for unit in map(int, units):
        if runs and unit == runs[-1][-1] + 1:
            runs[-1][1:] = [unit]
        else:
            runs.append([unit])
    written = ["-".join(map(str, run)) for run in runs]
    return ", ".join(written[:limit] + [f"and {len(runs) - limit} runs more"] * (len(runs) > limit)) or "none"


def _complete(ids: Ids, should: Ids, new: np.ndarray, old: np.ndarray) -> Ids:
    """Rows of a matrix, the unknown filled in: those of zeros by free ones of zeros, others as they should be."""
    ids, zeros = ids.copy(), np.flatnonzero(~old.any(axis=1))
    for row in np.flatnonzero((ids < 0) & ~new.any(axis=1)):
        free = np.setdiff1d(zeros, ids)
        ids[row] = should[row] if should[row] in free or not len(free) else free[0]
    ids = np.where(ids < 0, should, ids)
    return ids if is_choice(ids) else should


def _signatures(layer: Layer, inputs: np.ndarray) -> np.ndarray:
    """(H, 4 (D + 2)): a row for each unit."""
    itself = layer.h.diagonal(axis1=0, axis2=2)
    return np.concatenate((inputs.reshape(4 * len(inputs), layer.b.shape[1]), itself, layer.b)).T


def _nearest(units: Ids, mine: np.ndarray, theirs: np.ndarray) -> Ids:
    """The units with each unknown one matched to the nearest that is free, the nearest of all first."""
    missing, free = np.flatnonzero(units < 0), np.setdiff1d(np.arange(len(theirs)), units)
    one, other = mine[missing], theirs[free]
    distances = (one**2).sum(1)[:, None] + (other**2).sum(1) - 2 * one @ other.T  # squared
    for each in np.argsort(distances.min(axis=1, initial=np.inf)):
        nearest = distances[each].argmin()
        units[missing[each]] = free[nearest]
        distances[:, nearest] = np.inf
    return units


def _whence(new: np.ndarray, old: np.ndarray) -> tuple[Ids, Ids]:
    """The row of `old` that each row of `new` is of, and the same for the columns.

    Each number that `old` has once is looked up in it, and most of a row's must be of one row; zeros and
    numbers that are there twice tell nothing.
    """
    numbers, first, counts = np.unique(old, return_index=True, return_counts=True)
    at = np.searchsorted(numbers[:-1], new)
    told = np.zeros(new.shape, bool) if not old.size else (numbers[at] == new) & (counts[at] == 1) & (new != 0)
    rows, columns = np.divmod(first[at], old.shape[1]) if old.size else (at, at)
    return _majority(np.where(told, rows, -1), new), _majority(np.where(told, columns, -1).T, new.T)


def _majority(votes: Ids, numbers: np.ndarray) -> Ids:
    """Of each row of votes the one that more than half of its nonzero numbers are for, else -1."""
    winners = np.full(len(votes), -1)
    for row, (vote, nonzero) in enumerate(zip(votes, (numbers != 0).sum(axis=1), strict=True)):
        counts = np.bincount(vote[vote >= 0], minlength=1)
        if 2 * counts.max() > nonzero:
            winners[row] = counts.argmax()
    return winners
