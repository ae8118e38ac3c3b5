"""How the pruning of an LSTM went wrong, told by the numbers of its layers: findings in words and as data."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from issref.ops.lstm import GATES
from issref.verify.pruned import matching
from issref.verify.pruned.matching import Ids, Layer, Origin, spell

Finding = dict[str, Any]  # {"layer", "kind", "says", ...}
Sets = set[tuple[int, ...]]
CANDIDATE = GATES.index("candidate")
ROUNDING = 4  # in eps of an array's largest number: by how much two sums of the same two biases may differ


class Readout(NamedTuple):
    """What reads the top layer: y = h kernel + bias, kernel (H, K), bias (K,)."""

    name: str
    kernel: np.ndarray
    bias: np.ndarray


class Kept(NamedTuple):
    """The units of a layer that were kept, and every choice of units in it: one, if it was cut as a whole."""

    units: Ids
    sets: Sets


def compare(me: str, new: Layer, old: Layer, below: Kept, eps: float) -> tuple[Kept, list[Finding]]:
    """The units kept of a layer whose input is that of the layer before cut to `below`, and what is wrong."""
    kept = matching.match(new, old, below.units)
    if same(new, matching.cut(old, below.units, kept), eps):
        return Kept(kept, {_key(kept)}), []
    pairs = [*zip(matching.gates(new), matching.gates(old), strict=True)]
    found = [matching.origin(*pair) for pair in pairs]
    told = matching.consensus(found)
    kept = kept if told is None else told
    found = [matching.filled(one, *pair, below.units, kept) for one, pair in zip(found, pairs, strict=True)]
    mine = Kept(kept, {_key(units) for gate in found for units in (gate.x, gate.h)})
    findings = [
        *_out_of_step(me, found),
        *_other_rows(me, "rows", "recurrent rows", [gate.h_rows for gate in found], mine.sets),
        *_other_rows(me, "readers", "rows that read the input", [gate.x_rows for gate in found], below.sets),
        *_other_biases(me, found),
        *_changed(me, new, _expected(new, old, found), kept, eps),
    ]
    return mine, findings


def compare_readouts(new: Readout, old: Readout, top: Kept, eps: float) -> list[Finding]:
    """What is wrong with the cut of what reads the top layer."""
    rows = matching.rows_of(new.kernel, old.kernel)
    rows = rows if matching.is_choice(rows) else top.units
    findings = [*_other_rows(old.name, "readers", "rows", [rows], top.sets)]
    gaps = [_gaps(new.kernel, old.kernel[rows], eps), _gaps(new.bias, old.bias, eps)]
    if text := _extent(gaps, new[1:]):
        findings.append(finding(old.name, "values", text))
    return findings


def removed_but_read(me: str, old: Layer, kept: Ids, readers: Mapping[str, np.ndarray]) -> list[Finding]:
    """Removed units that are not silent: `readers` are the weights (H, ...) with which what is kept reads them."""
    removed = np.setdiff1d(np.flatnonzero(~silent(old)), kept)
    largest = {
        name: np.abs(weights[removed]).max(axis=tuple(range(1, weights.ndim)), initial=0)
        for name, weights in readers.items()
    }
    read = np.any([weights > 0 for weights in largest.values()], axis=0)
    if not read.any():
        return []
    name = max(largest, key=lambda each: largest[each].max())
    unit, weight = int(removed[largest[name].argmax()]), float(largest[name].max())
    text = f"{read.sum()} removed units were read, with weights up to {weight:.3g}, of unit {unit} in {name}"
    return [finding(me, "read", text, units=removed[read].tolist(), largest=weight)]


def silent(layer: Layer) -> np.ndarray:
    """Units that stay at 0 from a zero state: nothing moves their candidate, c_t = f c_{t-1} + i tanh(0)."""
    return ~(layer.x[:, CANDIDATE].any(axis=0) | layer.h[:, CANDIDATE].any(axis=0) | (layer.b[CANDIDATE] != 0))


def same(new: Layer, expected: Layer, eps: float) -> bool:
    """Whether the numbers are equal, but for the rounding of a sum."""
    return not any(_gaps(one, other, eps).any() for one, other in zip(new, expected, strict=True))


def finding(layer: str, kind: str, text: str, **data: Any) -> Finding:
    """One thing that was found in a layer: its kind, a sentence that says it, and the numbers behind it."""
    return {"layer": layer, "kind": kind, "says": f"{layer}: {text}", **data}


def _out_of_step(me: str, found: Sequence[Origin]) -> Iterator[Finding]:
    together = all(np.array_equal(of.x, of.h) for of in found)
    columns = {
        source + gate: _key(units)
        for gate, of in zip(GATES, found, strict=True)
        for source, units in ({"": of.x} if together else {"x to ": of.x, "h to ": of.h}).items()
    }
    if len(sets := {*columns.values()}) > 1:
        whose = {units: ", ".join(gate for gate in columns if columns[gate] == units) for units in sorted(sets)}
        text = "; ".join(f"{gates}: {spell(units)}" for units, gates in whose.items())
        data = {gate: list(units) for gate, units in columns.items()}
        yield finding(me, "gates", f"gates pruned out of step, which kept other units: {text}", sets=data)


def _other_rows(me: str, kind: str, what: str, ids: Iterable[Ids], sets: Sets) -> Iterator[Finding]:
    for rows in sorted({_key(rows) for rows in ids} - sets):
        kept = " or ".join(spell(units) for units in sorted(sets))
        yield finding(me, kind, f"{what} are those of units {spell(rows)}, kept are {kept}", rows=list(rows))


def _other_biases(me: str, found: Sequence[Origin]) -> Iterator[Finding]:
    for gate, of in zip(GATES, found, strict=True):
        if _key(of.b) not in {_key(of.x), _key(of.h)}:
            text = f"biases of the {gate} gate are those of units {spell(of.b)}, kept are {spell(of.x)}"
            yield finding(me, "biases", text, gate=gate, units=of.b.tolist())


def _expected(new: Layer, old: Layer, found: Sequence[Origin]) -> Layer:
    """The layer that origins state; where a gate has two, its bias, a sum of one of each, is taken as it is."""
    expected, torn = matching.cut_by_gate(old, found), [[_key(of.x) != _key(of.h)] for of in found]
    return expected._replace(b=np.where(torn, new.b, expected.b))


def _changed(me: str, new: Layer, expected: Layer, kept: Ids, eps: float) -> Iterator[Finding]:
    if expected.b.any() and not new.b.any():
        yield finding(me, "biases", f"all biases are 0, which were up to {np.abs(expected.b).max():.3g}")
        expected = expected._replace(b=new.b)
    gaps = [_gaps(one, other, eps) for one, other in zip(new, expected, strict=True)]
    if text := _extent(gaps, new):
        worst = np.max([gap.reshape(-1, *new.b.shape).max(axis=0, initial=0) for gap in gaps], axis=0)
        gate, unit = np.unravel_index(worst.argmax(), worst.shape)
        text += f", most in the {GATES[gate]} gate of unit {unit}, which is nearest to unit {kept[unit]} before"
        yield finding(me, "values", text, largest=float(worst.max()), unit=int(unit), nearest=int(kept[unit]))


def _extent(gaps: Iterable[np.ndarray], numbers: Iterable[np.ndarray]) -> str:
    """How many numbers differ and by how much; nothing if none does."""
    gap = np.concatenate([each.ravel() for each in gaps])
    zero = np.concatenate([each.ravel() for each in numbers]) == 0
    count, zeros = np.count_nonzero(gap), np.count_nonzero((gap > 0) & zero)
    text = f"{count} of {gap.size} numbers differ, by at most {gap.max(initial=0):.3g}"
    text += f", and {zeros} of these are 0 now" if zeros else ""
    return text if count else ""


def _gaps(new: np.ndarray, expected: np.ndarray, eps: float) -> np.ndarray:
    """|new - expected|, and 0 where that is rounding."""
    gap = np.abs(new - expected)
    return np.where(gap > ROUNDING * eps * np.abs(expected).max(initial=0), gap, 0)


def _key(units: Ids) -> tuple[int, ...]:
    return tuple(units.tolist())
