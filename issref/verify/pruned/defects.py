"""Find what went wrong in the pruning of an LSTM, from the weights of its layers before and after."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from issref.verify.pruned import matching
from issref.verify.pruned.matching import Ids, Layer, Provenance, spell

Finding = dict[str, Any]  # {"layer", "kind", "text", ...}
Sets = set[tuple[int, ...]]
ROUNDING = 4  # in eps of the largest bias: two sums of the same two biases may differ by so much


class Readout(NamedTuple):
    """The linear map that reads the top layer: y = h kernel + bias, kernel (H, K), bias (K,).

    Its matrices `names` lie side by side.
    """

    names: tuple[str, ...]
    kernel: np.ndarray
    bias: np.ndarray

    @property
    def name(self) -> str:
        """The names of its matrices as text."""
        return " and ".join(self.names)


class Kept(NamedTuple):
    """The units of a layer that were kept, and the different choices of units in its blocks: one, if all agree."""

    units: Ids
    sets: Sets


def compare_layer(name: str, new: Layer, old: Layer, inputs: Kept, eps: float) -> tuple[Kept, list[Finding]]:
    """Return the kept units of a layer and the findings, given the kept components of its input."""
    kept = matching.match(new, old, inputs.units)
    if same(new, matching.cut(old, inputs.units, kept), eps):
        return Kept(kept, {_key(kept)}), []
    gates = matching.gate_names(new)
    pairs = [*zip(matching.gates(new), matching.gates(old), strict=True)]
    found = [matching.provenance(*pair) for pair in pairs]
    agreed = matching.consensus(found)
    kept = kept if agreed is None else agreed
    found = [matching.filled(one, *pair, inputs.units, kept) for one, pair in zip(found, pairs, strict=True)]
    mine = Kept(kept, {_key(units) for gate in found for units in (gate.x, gate.h)})
    findings = [
        *_out_of_step(name, gates, found),
        *_other_rows(name, "rows", "recurrent rows", [gate.h_rows for gate in found], mine.sets),
        *_other_rows(name, "readers", "rows that read the input", [gate.x_rows for gate in found], inputs.sets),
        *_other_biases(name, gates, found),
        *_changed(name, new, _expected(new, old, found), kept, eps),
    ]
    return mine, findings


def compare_readout(new: Readout, old: Readout, top: Kept, eps: float) -> list[Finding]:
    """Return the findings about the linear map that reads the top layer."""
    rows = matching.rows_of(new.kernel, old.kernel)
    rows = rows if matching.is_choice(rows) else top.units
    findings = [*_other_rows(old.name, "readers", "rows", [rows], top.sets)]
    gaps = [np.abs(new.kernel - old.kernel[rows]), _bias_gap(new.bias, old.bias, eps)]
    if text := _extent(gaps, new[1:]):
        findings.append(finding(old.name, "values", text))
    return findings


def removed_but_read(name: str, removed: Ids, readers: Mapping[str, np.ndarray], what: str) -> list[Finding]:
    """Return a finding for removed units, or components of the input, that were read.

    `readers` are the weights (H, ...) by which the kept units and the readout read them, by name.
    """
    largest = {
        reader: np.abs(weights[removed]).max(axis=tuple(range(1, weights.ndim)), initial=0)
        for reader, weights in readers.items()
    }
    read = np.any([weights > 0 for weights in largest.values()], axis=0)
    if not read.any():
        return []
    reader = max(largest, key=lambda each: largest[each].max())
    unit, weight = int(removed[largest[reader].argmax()]), float(largest[reader].max())
    text = f"{read.sum()} removed {what}s were read, with weights up to {weight:.3g}, of {what} {unit} in {reader}"
    return [finding(name, "read", text, units=removed[read].tolist(), largest=weight)]


def silent(layer: Layer) -> np.ndarray:
    """Return the units that stay at 0 from a zero state, because their candidate is tanh(0)."""
    candidate = matching.gates(layer)[matching.gate_names(layer).index("candidate")]
    return ~np.any([weights.any(axis=0) for weights in candidate], axis=0)


def same(new: Layer, expected: Layer, eps: float) -> bool:
    """Return whether the weights are equal, and the biases too, up to the rounding of a sum."""
    return not any(gap.any() for gap in _gaps(new, expected, eps))


def finding(layer: str, kind: str, text: str, **data: Any) -> Finding:
    """Return a finding about a layer: its kind, a text for people, and its data."""
    return {"layer": layer, "kind": kind, "text": f"{layer}: {text}", **data}


def _out_of_step(name: str, gates: Sequence[str], found: Sequence[Provenance]) -> Iterator[Finding]:
    together = all(np.array_equal(of.x, of.h) for of in found)
    columns = {
        source + gate: _key(units)
        for gate, of in zip(gates, found, strict=True)
        for source, units in ({"": of.x} if together else {"x to ": of.x, "h to ": of.h}).items()
    }
    if len(sets := {*columns.values()}) > 1:
        by_units = {units: ", ".join(gate for gate in columns if columns[gate] == units) for units in sorted(sets)}
        text = "; ".join(f"{which}: {spell(units)}" for units, which in by_units.items())
        data = {gate: list(units) for gate, units in columns.items()}
        yield finding(name, "gates", f"gates kept different units: {text}", sets=data)


def _other_rows(name: str, kind: str, what: str, ids: Iterable[Ids], sets: Sets) -> Iterator[Finding]:
    for rows in sorted({_key(rows) for rows in ids} - sets):
        kept = " or ".join(spell(units) for units in sorted(sets))
        yield finding(name, kind, f"{what} of units {spell(rows)} were kept, expected {kept}", rows=list(rows))


def _other_biases(name: str, gates: Sequence[str], found: Sequence[Provenance]) -> Iterator[Finding]:
    for gate, of in zip(gates, found, strict=True):
        if _key(of.b) not in {_key(of.x), _key(of.h)}:
            text = f"biases of units {spell(of.b)} were kept in the {gate} gate, expected {spell(of.x)}"
            yield finding(name, "biases", text, gate=gate, units=of.b.tolist())


def _expected(new: Layer, old: Layer, found: Sequence[Provenance]) -> Layer:
    """Return the old layer cut by provenance. Biases of gates with two different choices are taken from `new`."""
    expected, torn = matching.cut_by_gate(old, found), [[_key(of.x) != _key(of.h)] for of in found]
    torn += [torn[-1]] * (len(new.b) - len(torn))  # the second bias of a GRU's candidate
    return expected._replace(b=np.where(torn, new.b, expected.b))


def _changed(name: str, new: Layer, expected: Layer, kept: Ids, eps: float) -> Iterator[Finding]:
    if expected.b.any() and not new.b.any():
        yield finding(name, "biases", f"all biases are 0, before they were up to {np.abs(expected.b).max():.3g}")
        expected = expected._replace(b=new.b)
    gaps = _gaps(new, expected, eps)
    if text := _extent(gaps, new):
        by_gate = [[part.max(axis=0, initial=0) for part in one] for one in matching.gates(gaps)]
        worst = np.max(by_gate, axis=1)
        gate, unit = np.unravel_index(worst.argmax(), worst.shape)
        text += f", most in the {matching.gate_names(new)[gate]} gate of unit {unit}, "
        text += f"matched with unit {kept[unit]} before"
        yield finding(name, "values", text, largest=float(worst.max()), unit=int(unit), nearest=int(kept[unit]))


def _extent(gaps: Iterable[np.ndarray], numbers: Iterable[np.ndarray]) -> str:
    """Describe how many numbers differ and by how much; empty if none does."""
    gap = np.concatenate([each.ravel() for each in gaps])
    zero = np.concatenate([each.ravel() for each in numbers]) == 0
    count, zeros = np.count_nonzero(gap), np.count_nonzero((gap > 0) & zero)
    text = f"{count} of {gap.size} numbers differ, by at most {gap.max(initial=0):.3g}"
    text += f", and {zeros} of these are 0 now" if zeros else ""
    return text if count else ""


def _gaps(new: Layer, expected: Layer, eps: float) -> Layer:
    """Return |new - expected| of each array of a layer, with 0 for biases that differ by rounding."""
    return Layer(np.abs(new.x - expected.x), np.abs(new.h - expected.h), _bias_gap(new.b, expected.b, eps))


def _bias_gap(new: np.ndarray, expected: np.ndarray, eps: float) -> np.ndarray:
    gap = np.abs(new - expected)
    return np.where(gap > ROUNDING * eps * np.abs(expected).max(initial=0), gap, 0)


def _key(units: Ids) -> tuple[int, ...]:
    return tuple(units.tolist())
