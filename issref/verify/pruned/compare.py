"""Compare the LSTMs of two checkpoints, before and after pruning."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from issref.ops.lstm import lstm
from issref.verify.formats.convert import Checkpoint, describe, load, widths
from issref.verify.pruned import matching
from issref.verify.pruned.defects import (
    Finding,
    Kept,
    Readout,
    compare_layer,
    compare_readout,
    removed_but_read,
    silent,
)
from issref.verify.pruned.matching import Layer, spell

STEPS, BATCH, SEED = 20, 4, 0
EXACT = 1e-12  # of the largest output: allows another order of summation in float64
ROUNDED = 64  # in eps of the files' dtype: allows other sums of two biases, if all other weights are equal
READOUTS = {"weight": "bias", "kernel": "bias", "softmax_w": "softmax_b"}  # endings of names


class Report(NamedTuple):
    """The result of `compare_checkpoints`, of plain types: its `_asdict()` is JSON.

    layers: {"layer", "before", "after", "kept", "removed"}: numbers of units; old numbers of the kept units, in
    their new order, and of the removed ones.
    findings: {"layer", "kind", "text", ...}. The four "gates", the recurrent "rows", the "readers" in the next
    layer or the "biases" kept other units; "values" changed; removed units were "read".
    difference: the largest difference between the outputs, `relative` to the `largest` output.
    """

    before: str
    after: str
    preserved: bool
    layers: list[dict[str, Any]]
    findings: list[Finding]
    notes: list[str]
    difference: float
    relative: float
    largest: float


class _Pair(NamedTuple):
    """Both models in float64, rounded to the coarser dtype of the two files."""

    old: list[Layer]
    new: list[Layer]
    readouts: tuple[Readout, Readout] | None
    dtype: np.dtype


def compare_checkpoints(
    before: Path | str, after: Path | str, stack: str | None = None, stack_after: str | None = None
) -> Report:
    """Compare the LSTMs of two files, of any format that `convert.load` reads, and return a report.

    Units are matched by their weights, from the input up; every other difference is a finding. The function is
    preserved if the outputs are equal, on random input and from a random state of the kept units, with the others
    at 0. The outputs come from the linear map that reads the top layer, if both files have one, otherwise from
    the kept units of the top layer. Raises ValueError as `load` does, and if the numbers of layers or the widths
    of the input differ, or if there are more units after than before.
    """
    one, other = load(before, stack), load(after, stack_after)
    _check_comparable(one, other)
    pair = _alike(one, other)
    kept, findings = _compare_all(pair)
    difference, largest = _difference(pair, [each.units for each in kept])
    relative = difference / largest if difference else 0.0
    tolerance = EXACT if findings else max(EXACT, ROUNDED * float(np.finfo(pair.dtype).eps))
    return Report(
        describe(one),
        describe(other),
        relative <= tolerance,
        [*_layers(pair, kept)],
        findings,
        [*_notes(pair, kept, one, other)],
        difference,
        relative,
        largest,
    )


def lines(report: Report) -> list[str]:
    """Return a report as lines of text."""
    written = [f"before     {report.before}", f"after      {report.after}"]
    for layer in report.layers:
        removed = f"removed {len(layer['removed'])}: {spell(layer['removed'])}" if layer["removed"] else "all kept"
        written.append(f"{layer['layer']:<11}{layer['before']} -> {layer['after']} units, {removed}")
    written += [f"note       {note}" for note in report.notes]
    written += [f"found      {each['text']}" for each in report.findings]
    written.append(
        f"outputs    differ by at most {report.difference:.3g}, relative to the largest ({report.largest:.3g}) "
        f"{report.relative:.3g} ({STEPS} random steps, batch {BATCH}, in float64)"
    )
    changed = "weights changed, the outputs did not" if report.findings else "nothing else changed"
    return [*written, f"preserved  {changed}" if report.preserved else "NOT PRESERVED"]


def _check_comparable(before: Checkpoint, after: Checkpoint) -> None:
    old, new = widths(before.params), widths(after.params)
    if len(old) != len(new):
        raise ValueError(f"{after.path}: expected {len(old) - 1} layers, as before, got {len(new) - 1}")
    if old[0] != new[0]:
        raise ValueError(f"{after.path}: expected an input of width {old[0]}, as before, got {new[0]}")
    for number, (was, now) in enumerate(zip(old[1:], new[1:], strict=True)):
        if now > was:
            raise ValueError(f"{after.path}: expected at most {was} units in lstm{number}, as before, got {now}")


def _alike(before: Checkpoint, after: Checkpoint) -> _Pair:
    dtypes = [np.result_type(*found.params.values()) for found in (before, after)]
    dtype = max(dtypes, key=lambda each: np.finfo(each).eps)

    def rounded(values: np.ndarray) -> np.ndarray:
        return values.astype(dtype).astype(np.float64)

    old, new = (
        matching.layers({name: rounded(values) for name, values in found.params.items()})
        for found in (before, after)
    )
    readouts = [_readout(found) for found in (before, after)]
    one, other = (each and Readout(each.name, rounded(each.kernel), rounded(each.bias)) for each in readouts)
    both = (one, other) if one and other and one.bias.shape == other.bias.shape else None
    return _Pair(old, new, both, dtype)


def _readout(found: Checkpoint) -> Readout | None:
    """Return the one matrix with a bias that has a row for each unit of the top layer, else None."""
    candidates = []
    for name, values in found.rest.items():
        for end, bias_end in READOUTS.items():
            bias = found.rest.get(name.removesuffix(end) + bias_end) if name.endswith(end) else None
            kernel = values.T if end == "weight" else values
            if bias is not None and kernel.shape == (widths(found.params)[-1], *bias.shape):
                candidates.append(Readout(name, kernel, bias))
    if len(candidates) != 1:
        return None
    if not all(np.isfinite(values).all() for values in candidates[0][1:]):
        raise ValueError(f"{found.path}: expected finite numbers in {candidates[0].name} and its bias, got others")
    return candidates[0]


def _compare_all(pair: _Pair) -> tuple[list[Kept], list[Finding]]:
    """Return what was kept of the input and of each layer, and all findings."""
    eps, everything = float(np.finfo(pair.dtype).eps), np.arange(len(pair.old[0].x))
    kept, findings = [Kept(everything, {tuple(everything.tolist())})], []
    for number, (old, new) in enumerate(zip(pair.old, pair.new, strict=True)):
        layer, found = compare_layer(f"lstm{number}", new, old, kept[-1], eps)
        kept, findings = [*kept, layer], [*findings, *found]
    if pair.readouts:
        findings += compare_readout(pair.readouts[1], pair.readouts[0], kept[-1], eps)
    for number, old in enumerate(pair.old):
        findings += removed_but_read(f"lstm{number}", old, kept[number + 1].units, _readers(pair, kept, number))
    return kept, findings


def _readers(pair: _Pair, kept: Sequence[Kept], number: int) -> dict[str, np.ndarray]:
    """Return the weights by which kept units and the readout read a layer, with a row for each old unit."""
    readers = {f"lstm{number}": pair.old[number].h[:, :, kept[number + 1].units]}
    if number + 1 < len(pair.old):
        readers[f"lstm{number + 1}"] = pair.old[number + 1].x[:, :, kept[number + 2].units]
    elif pair.readouts:
        readers[pair.readouts[0].name] = pair.readouts[0].kernel
    return readers


def _difference(pair: _Pair, units: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return the largest difference between the outputs, and the largest output."""
    rng = np.random.default_rng(SEED)
    x = rng.standard_normal((STEPS, BATCH, len(pair.old[0].x)))
    small = [rng.standard_normal((2, BATCH, len(mine))) for mine in units[1:]]
    large = [np.zeros((2, BATCH, layer.b.shape[1])) for layer in pair.old]
    for whole, part, mine in zip(large, small, units[1:], strict=True):
        whole[:, :, mine] = part
    one, other = _hidden(pair.old, x, large), _hidden(pair.new, x, small)
    if pair.readouts:
        one, other = (h @ each.kernel + each.bias for h, each in zip((one, other), pair.readouts, strict=True))
    else:
        one = one[:, :, units[-1]]
    return float(np.abs(one - other).max(initial=0)), float(np.abs((one, other)).max(initial=0))


def _hidden(layers: Sequence[Layer], x: np.ndarray, states: Sequence[np.ndarray]) -> np.ndarray:
    for layer, (h, c) in zip(layers, states, strict=True):
        kernel = np.concatenate((layer.x, layer.h))
        (x, *_), _ = lstm(x, h, c, kernel.reshape(len(kernel), layer.b.size), layer.b.ravel())
    return x


def _layers(pair: _Pair, kept: Sequence[Kept]) -> Iterator[dict[str, Any]]:
    for number, (old, mine) in enumerate(zip(pair.old, kept[1:], strict=True)):
        units = old.b.shape[1]
        removed = np.setdiff1d(np.arange(units), mine.units).tolist()
        yield {
            "layer": f"lstm{number}", "before": units, "after": len(mine.units),
            "kept": mine.units.tolist(), "removed": removed,
        }  # fmt: skip


def _notes(pair: _Pair, kept: Sequence[Kept], *found: Checkpoint) -> Iterator[str]:
    """Yield remarks on the comparison."""
    if len({values.dtype for each in found for values in each.params.values()}) > 1:
        yield f"compared in {pair.dtype.name}, the coarser dtype"
    for number, (old, mine) in enumerate(zip(pair.old, kept[1:], strict=True)):
        if (np.diff(mine.units) < 0).any():
            yield f"lstm{number}: units are in another order, {spell(mine.units)}"
        rest = np.setdiff1d(np.flatnonzero(silent(old)), mine.units)
        if any(weights[rest].any() for weights in _readers(pair, kept, number).values()):
            yield f"lstm{number}: some removed units were read, but stay at 0 from a zero state"
    if pair.readouts:
        yield f"outputs are computed with {pair.readouts[0].name}, which reads the top layer"
    else:
        yield "outputs are the kept units of the top layer: no single matrix in both files reads it"
