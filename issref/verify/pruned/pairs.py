"""An LSTM before and after pruning: what the kept units read, and how much the outputs differ."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from issref.ops import gru
from issref.ops.lstm import lstm
from issref.verify.formats.convert import Checkpoint
from issref.verify.formats.files import eps, rounded
from issref.verify.pruned import matching
from issref.verify.pruned.defects import Finding, Kept, Readout, removed_but_read, silent
from issref.verify.pruned.matching import Layer

STEPS, BATCH, SEED = 20, 4, 0


class Pair(NamedTuple):
    """Both models in float64, rounded to the coarser dtype of the two files.

    `readouts` are the linear maps that read the top layer, the second None if it has none of this size.
    """

    old: list[Layer]
    new: list[Layer]
    readouts: tuple[Readout, Readout | None] | None
    dtype: str

    @property
    def names(self) -> list[str]:
        """The names of the layers, from the input up."""
        return [
            f"{'gru' if layer.h.shape[1] == len(gru.GATES) else 'lstm'}{n}" for n, layer in enumerate(self.old)
        ]


def alike(before: Checkpoint, after: Checkpoint, readouts: tuple[Readout, Readout | None] | None) -> Pair:
    """Return the layers and readouts of two checkpoints in the coarser dtype of both."""
    dtype = max((min(found.dtypes, key=eps) for found in (before, after)), key=eps)

    def of(readout: Readout) -> Readout:
        return Readout(readout.names, rounded(readout.kernel, dtype), rounded(readout.bias, dtype))

    old, new = (
        matching.layers({name: rounded(values, dtype) for name, values in found.params.items()})
        for found in (before, after)
    )
    return Pair(old, new, readouts and (of(readouts[0]), readouts[1] and of(readouts[1])), dtype)


def removed_reads(pair: Pair, kept: Sequence[Kept]) -> list[Finding]:
    """Return a finding for each layer of which kept units, or the readout, read removed ones."""
    inputs = kept[0].units
    reading = {pair.names[0]: pair.old[0].x[:, :, kept[1].units]}
    removed = np.setdiff1d(np.arange(len(pair.old[0].x)), inputs)
    findings = removed_but_read("input", removed, reading, "component")
    for number, old in enumerate(pair.old):
        removed = np.setdiff1d(np.flatnonzero(~silent(old)), kept[number + 1].units)
        findings += removed_but_read(pair.names[number], removed, readers(pair, kept, number), "unit")
    return findings


def readers(pair: Pair, kept: Sequence[Kept], number: int) -> dict[str, np.ndarray]:
    """Return the weights by which kept units and the readout read a layer, with a row for each old unit."""
    found = {pair.names[number]: pair.old[number].h[:, :, kept[number + 1].units]}
    if number + 1 < len(pair.old):
        found[pair.names[number + 1]] = pair.old[number + 1].x[:, :, kept[number + 2].units]
    elif pair.readouts:
        found[pair.readouts[0].name] = pair.readouts[0].kernel
    return found


def difference(pair: Pair, units: Sequence[np.ndarray]) -> tuple[float, float, float]:
    """Return the largest difference between the outputs, that relative to its own output, and the largest output.

    Each output is compared with its own largest number, so that none hides behind larger ones.
    """
    rng = np.random.default_rng(SEED)
    x = rng.standard_normal((STEPS, BATCH, len(pair.old[0].x)))
    small = [rng.standard_normal((2, BATCH, len(mine))) for mine in units[1:]]
    large = [np.zeros((2, BATCH, layer.b.shape[1])) for layer in pair.old]
    for whole, part, mine in zip(large, small, units[1:], strict=True):
        whole[:, :, mine] = part
    one, other = _hidden(pair.old, x, large), _hidden(pair.new, x[:, :, units[0]], small)
    old, new = pair.readouts or (None, None)
    if old and new:
        one, other = one @ old.kernel + old.bias, other @ new.kernel + new.bias
    else:
        one = one[:, :, units[-1]]
    gaps = np.abs(one - other).max(axis=(0, 1), initial=0)
    sizes = np.abs((one, other)).max(axis=(0, 1, 2), initial=0)
    relative = np.divide(gaps, sizes, out=np.zeros_like(gaps), where=gaps > 0)
    return float(gaps.max(initial=0)), float(relative.max(initial=0)), float(sizes.max(initial=0))


def _hidden(layers: Sequence[Layer], x: np.ndarray, states: Sequence[np.ndarray]) -> np.ndarray:
    for layer, (h, c) in zip(layers, states, strict=True):
        kernel = np.concatenate((layer.x, layer.h))
        weights = kernel.reshape(len(kernel), math.prod(kernel.shape[1:])), layer.b.ravel()
        if kernel.shape[1] == len(gru.GATES):
            (x, *_), _ = gru.gru(x, h, *weights, reset_after=len(layer.b) > len(gru.GATES))
        else:
            (x, *_), _ = lstm(x, h, c, *weights)
    return x
