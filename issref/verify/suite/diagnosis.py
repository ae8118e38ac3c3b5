"""Find where a port goes wrong, and the known mistake or the pattern that explains it."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from issref.iss.layout import Params
from issref.training.checkpoint import strip_prefix
from issref.verify.suite.conformance import Case, Suite, load, ulps
from issref.verify.suite.other_mistakes import OTHERS
from issref.verify.suite.patterns import Wrong, patterns
from issref.verify.suite.porters import SINGLE, pairs
from issref.verify.suite.scoring import UNANSWERED, Score, in_order

Port = Callable[[Params, Mapping[str, Any]], Params]
WIDER = 4096  # units in the last place
FLOAT32 = 2.0**-27, 2.0**-19  # the median of the relative errors of float32 arithmetic


class Finding(NamedTuple):
    """The first wrong output of an op: `first`, in `failed` of `cases` cases.

    `mistakes` are the known ones that reproduce all cases of the op. If there is none, `patterns` tell what the
    first wrong output has to do with the expected one in all cases in which it is wrong.
    """

    op: str
    first: str
    failed: int
    cases: int
    mistakes: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the finding in words."""
        begin = f"{self.op}: wrong from {self.first} on" if self.first else f"{self.op}: no outputs"
        told = [f"{self.op}: {mistake}" for mistake in self.mistakes]
        told += [f"{self.op}: {self.first} is {pattern}" for pattern in self.patterns]
        return [f"{begin}, in {self.failed} of {self.cases} cases", *told]


class _Seen(NamedTuple):
    """A case with the outputs of the port."""

    case: Case
    score: Score
    found: Params
    inputs: Params
    expected: Params

    def near(self, outputs: Params, names: Iterable[str]) -> bool:
        """Whether the port's outputs are these; a mistake may make numbers cancel, so the tolerance is wider."""
        return all(
            self.found[name].shape == outputs[name].shape
            and ulps(self.found[name], outputs[name], self.score.dtype) <= max(self.most(name), WIDER)
            for name in names
        )

    def most(self, name: str) -> int:
        return self.case["outputs"][name].get("ulp", self.case["ulp"])[self.score.dtype]


def explain(suite: Suite, outputs: Mapping[str, Params], scores: Iterable[Score]) -> list[Finding]:
    """Return a finding for each op that fails, in the widest precision in which it does."""
    scores = list(scores)
    wrong = sorted((one for one in scores if _is_wrong(one)), key=lambda one: one.dtype)
    return [
        _explain(suite, outputs[dtype], [one for one in scores if (one.op, one.dtype) == (op, dtype)])
        for op, dtype in {one.op: one.dtype for one in wrong}.items()
    ]


def _is_wrong(one: Score) -> bool:
    return one.verdict != "pass" and one.problem != UNANSWERED


def _explain(suite: Suite, outputs: Params, scores: list[Score]) -> Finding:
    cases, dtype = {case["name"]: case for case in suite.cases}, scores[0].dtype
    wrong = [one for one in scores if _is_wrong(one)]
    first = min((key for one in wrong for key in _begins(cases[one.case], one)), default=(0, 0, ""))[2]
    finding = Finding(scores[0].op, first, len(wrong), len(scores))
    if spoiled := {_spoiled(cases[one.case], one) for one in wrong} - {""}:
        return finding._replace(patterns=tuple(sorted(spoiled)))
    whole = (
        one for one in scores if one.tensors and all(f"{one.case}/{each.name}" in outputs for each in one.tensors)
    )
    comparable = sorted(
        whole, key=lambda one: (one.verdict == "pass", _steps(suite.of(cases[one.case], dtype)[0]))
    )
    seen = [
        _Seen(cases[one.case], one, strip_prefix(outputs, one.case), *suite.of(cases[one.case], dtype))
        for one in comparable
    ]
    if not seen or seen[0].score.verdict == "pass":
        return finding
    raised = [one.case for one in wrong if not one.tensors and "NotImplementedError" not in one.problem]
    mistakes = _mistakes(suite.version, seen, raised)
    return finding._replace(mistakes=mistakes) if mistakes else finding._replace(patterns=_patterns(seen, first))


def _begins(case: Case, one: Score) -> Iterator[tuple[bool, int, str]]:
    """Yield where a case goes wrong, if it says so: gradients after forward outputs, then the order of outputs."""
    name = one.tensor or one.problem.partition(":")[0]
    if name in case["outputs"]:
        yield case["outputs"][name]["gradient"], in_order(case).index(name), name
    elif name in case["inputs"]:
        yield False, -1, name


def _spoiled(case: Case, one: Score) -> str:
    """Return what is wrong with the calls of a port, whose outputs are then not compared."""
    name = one.problem.partition(":")[0]
    if one.tensors or name not in {**case["inputs"], **case["outputs"]}:
        return ""
    return "not the same in every call" if name in case["outputs"] else "an input that the port overwrites"


def _mistakes(version: int, seen: list[_Seen], raised: list[str]) -> tuple[str, ...]:
    """Return the known mistakes that reproduce all cases, and whose shapes do not allow those that raised.

    If a forward output is wrong, only forward outputs are compared.
    """
    op, dtype = seen[0].score.op, seen[0].score.dtype
    forward = [[key for key, kind in one.case["outputs"].items() if not kind["gradient"]] for one in seen]
    right = all(one.near(one.expected, names) for one, names in zip(seen, forward, strict=True))
    names = [list(one.case["outputs"]) for one in seen] if right else forward
    for depth in range(2 if op == "lstm" else 1):
        found = [
            one
            for one, port in _candidates(depth, version, seen[0], names[0]).items()
            if _explains(port, one, version, seen, names)
            if not any(_predicted(port, one, version, dtype, case) for case in raised)
        ]
        if found:
            return tuple(found)
    return ("computed in float32",) if _in_float32(seen) else ()


def _table(op: str, depth: int) -> Mapping[str, Port]:
    """Return the known mistakes of an op, or, of depth 1, their pairs."""
    return OTHERS.get(op, {}) if op != "lstm" else pairs() if depth else SINGLE


def _candidates(depth: int, version: int, one: _Seen, names: list[str]) -> dict[str, Port]:
    """Return the mistakes that reproduce the first wrong output of a case, or do not have its shapes."""
    op, name = one.score.op, one.score.tensor if one.score.tensor in names else names[0]
    table = _table(op, depth)
    if op != "lstm":
        return dict(table)
    numbers = _numbers(depth, version, one.score.dtype, one.score.case, name)
    if one.found[name].size != numbers.shape[1]:
        return {}
    off, scale = np.abs(numbers - one.found[name].ravel()).max(axis=1), np.abs(numbers).max(axis=1)
    out = off > 2 * WIDER * np.finfo(one.score.dtype).eps * scale  # not for NaN
    return {mistake: port for mistake, port, no in zip(table, table.values(), out, strict=True) if not no}


@functools.cache
def _numbers(depth: int, version: int, dtype: str, case: str, name: str) -> np.ndarray:
    """Return an output of a case of the LSTM with each mistake, in a row each; NaN if shapes do not allow it."""
    rows = [_predicted(port, mistake, version, dtype, case) for mistake, port in _table("lstm", depth).items()]
    size = next(row[name].size for row in rows if row is not None)
    return np.array([np.full(size, np.nan) if row is None else row[name].ravel() for row in rows])


def _explains(port: Port, name: str, version: int, seen: list[_Seen], names: list[list[str]]) -> bool:
    failed = 0
    for one, keys in zip(seen, names, strict=True):
        outputs = _predicted(port, name, version, one.score.dtype, one.score.case)
        if outputs is not None:
            if not one.near(outputs, keys):
                return False
            failed += one.score.verdict != "pass"
    return failed > 0


PREDICTED: dict[tuple, Params | None] = {}


def _predicted(port: Port, name: str, version: int, dtype: str, case: str) -> Params | None:
    """Return the outputs of a case with a mistake, None if the shapes do not allow it."""
    suite = load(version)
    entry = next(one for one in suite.cases if one["name"] == case)
    if (key := (entry["op"], name, version, dtype, case)) not in PREDICTED:
        inputs, _ = suite.of(entry, dtype)
        inputs |= {name: values.astype(np.float64) for name, values in inputs.items() if values.dtype.kind == "f"}
        try:
            with np.errstate(all="ignore"):
                PREDICTED[key] = port(inputs, entry["keywords"])
        except ValueError:
            PREDICTED[key] = None
    return PREDICTED[key]


def _steps(inputs: Params) -> int:
    return len(inputs.get("x", ()))


def _in_float32(seen: list[_Seen]) -> bool:
    """Whether the errors of float64 outputs are as large as the errors of float32 arithmetic."""
    if seen[0].score.dtype != "float64":
        return False
    errors = np.array(
        [
            np.max(np.abs(one.found[name] - expected)) / largest
            for one in seen
            for name, expected in one.expected.items()
            if one.found[name].shape == expected.shape
            if expected.dtype.kind == "f" and (largest := np.max(np.abs(expected), initial=0))
        ]
    )
    large = errors[errors > 2.0**-40]
    return len(large) > len(errors) / 2 and FLOAT32[0] <= np.median(large) <= FLOAT32[1] and large.max() < 1e-2


def _patterns(seen: list[_Seen], first: str) -> tuple[str, ...]:
    """Return the patterns that an output follows in all cases in which it is wrong."""
    found = [
        patterns(
            Wrong(
                first,
                one.found[first],
                one.expected[first],
                one.inputs,
                one.expected,
                one.score.dtype,
                one.most(first),
            )
        )
        for one in seen
        if any((each.name, each.verdict) == (first, "fail") for each in one.score.tensors)
    ]
    return tuple(sorted(set.intersection(*found))) if found else ()
