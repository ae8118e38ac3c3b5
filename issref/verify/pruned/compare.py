"""Compare the LSTMs of two checkpoints, before and after pruning."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from issref.models import ptb_lstm
from issref.verify.formats.cells import LSTM, cell_of
from issref.verify.formats.convert import Checkpoint, describe, load, widths
from issref.verify.formats.files import eps
from issref.verify.pruned import matching, pairs, readers, verdict
from issref.verify.pruned.defects import (
    Finding,
    Kept,
    Readout,
    compare_layer,
    compare_readout,
    silent,
)
from issref.verify.pruned.matching import spell
from issref.verify.pruned.pairs import Pair

EXACT = 1e-12  # of the largest output: allows another order of summation in float64
ROUNDED = 64  # in eps of the files' dtype: allows other sums of two biases, if all other weights are equal


class Report(NamedTuple):
    """The result of `compare_checkpoints`, of plain types: its `_asdict()` is JSON.

    preserved: None if what the files hold does not decide it; `basis` is what the verdict rests on.
    layers: {"layer", "before", "after", "kept", "removed"}: numbers of units; old numbers of the kept units, in
    their new order, and of the removed ones.
    findings: {"layer", "kind", "text", ...}. The four "gates", the recurrent "rows", the "readers" in the next
    layer or the "biases" kept other units; "values" changed; removed units were "read".
    difference: the largest difference between the outputs; `relative`: to the largest number of the same output;
    `largest`: the largest number of all outputs.
    """

    before: str
    after: str
    preserved: bool | None
    basis: str
    layers: list[dict[str, Any]]
    findings: list[Finding]
    notes: list[str]
    difference: float
    relative: float
    largest: float


def compare_checkpoints(
    before: Path | str,
    after: Path | str,
    stack: str | None = None,
    stack_after: str | None = None,
    *,
    reader: Sequence[str] = (),
    reader_after: Sequence[str] = (),
    unrelated: Sequence[str] = (),
    forget_bias: float | None = None,
) -> Report:
    """Compare the LSTMs of two files, of any format that `convert.load` reads, and return a report.

    Units are matched by their weights, from the input up; every other difference is a finding. The function is
    preserved if the outputs are equal, on random input and from a random state of the kept units, with the others
    at 0. The outputs come from the linear maps that read the top layer: the arrays `reader`, or the softmax of a
    language model of issref or of the released code. Which other arrays read it cannot be seen in a file; the
    outputs are then the kept units of the top layer, and nothing is decided if some were removed; nor if other
    arrays may hold units of a layer that was cut, unless their names match one of `unrelated`, "embed*".
    `forget_bias` is the constant of TF 1 cells. Raises ValueError as `load` does, and if the numbers of layers
    differ, or if there are more units or inputs after, or readers with another number of outputs.
    """
    one, other = (load(*each, forget_bias=forget_bias) for each in ((before, stack), (after, stack_after)))
    one = readers.without(one, unrelated, reader)
    _check_comparable(one, other)
    if {one.framework, other.framework} > {"tf1"} and cell_of(one.params) == LSTM and forget_bias is None:
        text = "the forget_bias of its TF 1 cell, 1 by default there, is taken to be 0; --forget-bias changes this"
        one, other = (
            each._replace(notes=(*each.notes, *[text] * (each.framework == "tf1"))) for each in (one, other)
        )
    pair = pairs.alike(one, other, _readouts(one, other, reader, reader_after))
    return report(one, other, pair, *_compare_all(pair, other))


def report(
    one: Checkpoint, other: Checkpoint, pair: Pair, kept: Sequence[Kept], findings: list[Finding]
) -> Report:
    """Compare the outputs of both models, given what was kept of the input and of each layer, and all findings."""
    difference, relative, largest = pairs.difference(pair, [each.units for each in kept])
    tolerance = EXACT if findings else max(EXACT, ROUNDED * eps(pair.dtype))
    layers = [*_layers(pair, kept)]
    preserved = relative <= tolerance and not _read_unseen(pair, findings)
    doubt = verdict.doubt(one, layers, pair.readouts)
    return Report(
        describe(one),
        describe(other),
        None if preserved and doubt else preserved,
        doubt if preserved and doubt else verdict.basis(one, other, layers, pair.readouts),
        layers,
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
        f"outputs    differ by at most {report.difference:.3g} (the largest number is {report.largest:.3g}), "
        f"relative to its own largest number each by {report.relative:.3g} ({pairs.STEPS} random steps, batch "
        f"{pairs.BATCH}, in float64)"
    )
    changed = "weights changed, the outputs did not" if report.findings else "the kept weights are the same"
    word = {True: f"preserved  {changed}; compared: ", False: "NOT PRESERVED  compared: ", None: "UNDECIDED  "}
    return [*written, word[report.preserved] + report.basis]


def _check_comparable(before: Checkpoint, after: Checkpoint) -> None:
    old, new = widths(before.params), widths(after.params)
    if len(old) != len(new):
        raise ValueError(f"{after.path}: expected {len(old) - 1} layers, as before, got {len(new) - 1}")
    if old[0] < new[0]:
        raise ValueError(f"{after.path}: expected an input of width {old[0]}, as before, got {new[0]}")
    cell, other = cell_of(before.params), cell_of(after.params)
    if cell != other:
        raise ValueError(f"{after.path}: expected {cell.describe()}, as before, got {other.describe()}")
    for layer, was, now in zip(ptb_lstm.spaces(before.params), old[1:], new[1:], strict=True):
        if now > was:
            raise ValueError(f"{after.path}: expected at most {was} units in {layer}, as before, got {now}")


def _readouts(
    before: Checkpoint, after: Checkpoint, reader: Sequence[str], reader_after: Sequence[str]
) -> tuple[Readout, Readout | None] | None:
    """Return what reads before, and what does after if it has as many outputs; None if none is known.

    Raises ValueError if what reads after has another number of outputs, unless it is a recurrent layer.
    """
    if not (names := reader or readers.known(before)):
        return None
    same = reader if after.rest.keys() >= {*reader} else ()
    old, names_after = readers.named(before, names), reader_after or readers.known(after) or same
    new = readers.named(after, names_after) if names_after else None
    if new and new.bias.shape != old.bias.shape:
        if not all(map(readers.recurrent, names_after)):  # their own units may have been cut as well
            outputs = f"{len(old.bias)} outputs, as before, got {len(new.bias)}"
            raise ValueError(f"{after.path}: {new.name}: expected {outputs}")
        return old, None
    return old, new


def _compare_all(pair: Pair, after: Checkpoint) -> tuple[list[Kept], list[Finding]]:
    """Return what was kept of the input and of each layer, and all findings."""
    inputs = _inputs(pair, after)
    kept, findings = [Kept(inputs, {tuple(inputs.tolist())})], []
    for number, (old, new) in enumerate(zip(pair.old, pair.new, strict=True)):
        layer, found = compare_layer(pair.names[number], new, old, kept[-1], eps(pair.dtype))
        kept, findings = [*kept, layer], [*findings, *found]
    if pair.readouts and pair.readouts[1]:
        findings += compare_readout(pair.readouts[1], pair.readouts[0], kept[-1], eps(pair.dtype))
    return kept, [*findings, *pairs.removed_reads(pair, kept)]


def _inputs(pair: Pair, after: Checkpoint) -> np.ndarray:
    """Return the kept components of the input. Raises ValueError if they cannot be found by their weights."""
    (old, *_), (new, *_) = pair.old, pair.new
    inputs = np.arange(len(old.x)) if len(old.x) == len(new.x) else matching.inputs_of(new, old)
    if inputs is None:
        wanted = f"an input of width {len(old.x)}, as before, or components with the same weights"
        raise ValueError(f"{after.path}: expected {wanted}, got {len(new.x)} others")
    return inputs


def _read_unseen(pair: Pair, findings: Sequence[Finding]) -> bool:
    """Return whether the top layer's removed units were read by a readout that the outputs leave out."""
    unseen, top = pair.readouts is not None and pair.readouts[1] is None, pair.names[-1]
    return unseen and any((each["kind"], each["layer"]) == ("read", top) for each in findings)


def _layers(pair: Pair, kept: Sequence[Kept]) -> Iterator[dict[str, Any]]:
    for number, (old, mine) in enumerate(zip(pair.old, kept[1:], strict=True)):
        units = old.b.shape[1]
        removed = np.setdiff1d(np.arange(units), mine.units).tolist()
        yield {
            "layer": pair.names[number], "before": units, "after": len(mine.units),
            "kept": mine.units.tolist(), "removed": removed,
        }  # fmt: skip


def _changed(name: str, before: Checkpoint, after: Checkpoint) -> bool:
    """Return whether both hold an array of this name, shape and dtype, with different numbers."""
    old, new = before.rest[name], after.rest.get(name)
    if new is None or (old.shape, old.dtype) != (new.shape, new.dtype):
        return False
    return old.tobytes() != new.tobytes()


def _notes(pair: Pair, kept: Sequence[Kept], before: Checkpoint, after: Checkpoint) -> Iterator[str]:
    """Yield remarks on the comparison."""
    yield from (f"{name}: {note}" for name, each in (("before", before), ("after", after)) for note in each.notes)
    if len({*before.dtypes, *after.dtypes}) > 1:
        yield f"compared in {pair.dtype}, the coarser dtype"
    compared = {
        each for one in pair.readouts or () if one for name in one.names for each in (name, readers.bias_of(name))
    }
    if others := sorted(name for name in before.rest.keys() - compared if _changed(name, before, after)):
        yield f"not compared, though they have other numbers now: {', '.join(others[:8])}"
    if len(kept[0].units) < len(pair.old[0].x):
        yield f"of the input, components {spell(kept[0].units)} were kept, found by their weights"
    for number, (old, mine) in enumerate(zip(pair.old, kept[1:], strict=True)):
        if (np.diff(mine.units) < 0).any():
            yield f"{pair.names[number]}: units are in another order, {spell(mine.units)}"
        rest = np.setdiff1d(np.flatnonzero(silent(old)), mine.units)
        if any(weights[rest].any() for weights in pairs.readers(pair, kept, number).values()):
            yield f"{pair.names[number]}: some removed units were read, but stay at 0 from a zero state"
