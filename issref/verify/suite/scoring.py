"""Score a port's outputs, and report the first output that is wrong.

Errors are in units in the last place of the largest entry of a tensor. Forward outputs come before gradients.
"""

import json
from collections.abc import Iterator, Mapping
from itertools import groupby
from math import isfinite
from typing import Any, NamedTuple

import numpy as np

from issref.iss.groups import iss_groups
from issref.iss.layout import Layout, Params
from issref.iss.penalty import penalty
from issref.training.checkpoint import strip_prefix
from issref.verify.suite.conformance import Case, Suite, ulps

UNANSWERED = "expected outputs, got none"


class Tensor(NamedTuple):
    """An output's error `ulp`, at most `most` in a "pass"; `problem` says why it is a "fail" or "bad"."""

    name: str
    verdict: str
    ulp: float
    most: int
    problem: str = ""


class Score(NamedTuple):
    """The result of a case in one precision.

    The verdict is "pass", "fail", or "bad" if the outputs cannot be compared. `tensor` is the first output that is
    not a pass, or the worst of all, and `problem` the reason; ulp and most are its error and tolerance. An error
    of inf is wrong in any rounding.
    """

    case: str
    op: str
    dtype: str
    verdict: str
    tensor: str
    ulp: float
    most: int
    problem: str
    guards: tuple[str, ...]
    tensors: tuple[Tensor, ...]


def score(suite: Suite, outputs: Mapping[str, Params], problems: Mapping[tuple[str, str], str]) -> list[Score]:
    """Score every case in every precision of `outputs`; `problems` are those that `run` returns."""
    return [
        _score(suite, case, dtype, strip_prefix(found, case["name"]), problems.get((dtype, case["name"]), ""))
        for case in suite.cases
        for dtype, found in outputs.items()
        if dtype in case["ulp"]
    ]


def _score(suite: Suite, case: Case, dtype: str, found: Params, problem: str) -> Score:
    name = case["name"]
    head, guards = (name, case["op"], dtype), tuple(case["guards"])
    if problem or not found:
        return Score(*head, "bad", "", 0.0, case["ulp"][dtype], problem or UNANSWERED, guards, ())
    inputs, expected = suite.of(case, dtype)
    above = _above_minimum(case, dtype, inputs, found, expected)
    tensors = [_tensor(case, key, dtype, found, expected[key], above) for key in in_order(case)]
    unknown = sorted(key for key in found if f"{name}/{key}" not in suite.expected[dtype])
    strange = f"{', '.join(unknown)}: expected one of {', '.join(case['outputs'])}, got another name"
    tensors += [Tensor(key, "bad", 0.0, 0, strange) for key in unknown[:1]]
    verdict = next((one for one in ("bad", "fail") if one in [each.verdict for each in tensors]), "pass")
    wrong = [each for each in tensors if each.verdict != "pass"]
    first = wrong[0] if wrong else max(tensors, key=lambda each: each.ulp / max(each.most, 1))
    return Score(*head, verdict, first.name, first.ulp, first.most, first.problem, guards, tuple(tensors))


def in_order(case: Case) -> list[str]:
    """Return the names of a case's outputs: forward ones, then gradients."""
    return sorted(case["outputs"], key=lambda key: case["outputs"][key]["gradient"])


def _tensor(
    case: Case, key: str, dtype: str, found: Params, expected: np.ndarray, above: Mapping[str, str]
) -> Tensor:
    kind = case["outputs"][key]
    most = kind.get("ulp", case["ulp"])[dtype]
    if problem := _incomparable(key, kind, dtype, found):
        return Tensor(key, "bad", 0.0, most, f"{key}: {problem}")
    ulp = _error(found[key], expected, dtype, case["exact_zeros"])
    if ulp > most:
        return Tensor(key, "fail", ulp, most, f"{key}: expected an error of at most {most} ulp, got {ulp:.3g}")
    if key in above:
        return Tensor(key, "fail", ulp, most, f"{key}: {above[key]}")
    return Tensor(key, "pass", ulp, most)


def _incomparable(key: str, kind: Mapping[str, Any], dtype: str, outputs: Params) -> str:
    wanted = dtype if kind["dtype"] == "float" else kind["dtype"]
    if key not in outputs:
        return f"expected this output, got {', '.join(sorted(outputs))}"
    found = outputs[key]
    if list(found.shape) != kind["shape"]:
        return f"expected shape {tuple(kind['shape'])}, got {found.shape}"
    if str(found.dtype) != wanted:
        return f"expected {wanted}, got {found.dtype}"
    if strange := np.count_nonzero(~np.isfinite(found)):
        return f"expected finite numbers, got {strange} that are infinite or NaN"
    return ""


def _error(found: np.ndarray, expected: np.ndarray, dtype: str, exact_zeros: bool) -> float:
    """Return `ulps`, or inf for a wrong boolean, or for a nonzero number where an exact zero is required."""
    if expected.dtype.kind != "f":
        return 0.0 if np.array_equal(found, expected) else np.inf
    return np.inf if exact_zeros and found[expected == 0].any() else ulps(found, expected, dtype)


def _above_minimum(case: Case, dtype: str, inputs: Params, found: Params, expected: Params) -> dict[str, str]:
    """Return a problem of the grouped arrays of a proximal step if their objective is too far above the minimum.

    The minimum is the best lower bound that any certificate can give, so the distance is a certified gap.
    """
    if "relative_gap" not in case or any(found.get(key, inputs[key]).shape != inputs[key].shape for key in inputs):
        return {}
    keywords, most = case["keywords"], case["relative_gap"][dtype]
    groups = iss_groups(Layout.from_json(json.dumps(keywords["layout"])), keywords["strength"])
    arrays = {key: found.get(key, inputs[key]).astype(np.float64) for key in groups.ids}
    moved = sum(float(np.sum((arrays[key] - inputs[key]) ** 2)) for key in arrays)
    value = moved / 2 + penalty(arrays, groups, groups.spread(keywords["strength"]))[0]
    gap = float(value / expected["objective"] - 1)
    told = f"expected a relative gap of the arrays of at most {most:.3g}, got {gap:.3g}"
    return {} if gap <= most else dict.fromkeys(groups.ids, told)


def lines(suite: Suite, scores: list[Score]) -> Iterator[str]:
    """Yield a table of the errors by case and precision, then the failures, then the pitfalls of failed cases."""
    dtypes = dict.fromkeys(one.dtype for one in scores)
    yield "".join([f"{'case':28}", *(f"{f'{dtype}, ulp':>26}" for dtype in dtypes)])
    for name, row in groupby(scores, key=lambda one: one.case):
        cells = {one.dtype: _cell(one) for one in row}
        yield "".join([f"{name:28}", *(f"{cells.get(dtype, '-'):>26}" for dtype in dtypes)])
    failed = [one for one in scores if one.verdict != "pass"]
    for one in (one for one in failed if one.problem != UNANSWERED):
        yield f"{one.case}, {one.dtype}: {one.problem}"
        yield from _by_verdict(one)
    for dtype in dtypes:
        if names := [one.case for one in failed if one.dtype == dtype and one.problem == UNANSWERED]:
            yield f"unanswered in {dtype}, {len(names)} of {len(suite.cases)} cases: {', '.join(names)}"
    answered = (one for one in failed if one.problem != UNANSWERED)
    yield from (
        f"pitfall: {suite.pitfalls[key]}" for key in dict.fromkeys(k for one in answered for k in one.guards)
    )


def _cell(one: Score) -> str:
    off = f"{one.ulp:.3g} of {one.most:.4g}"
    return {"pass": off, "fail": f"FAIL {off}"}.get(one.verdict, "BAD")


def _by_verdict(one: Score) -> Iterator[str]:
    named = {
        verdict: [each.name for each in one.tensors if each.verdict == verdict]
        for verdict in ("fail", "bad", "pass")
    }
    if one.tensors:
        yield "    " + "; ".join(f"{verdict}: {', '.join(names)}" for verdict, names in named.items() if names)


def as_data(one: Score) -> dict[str, Any]:
    """Return a score for JSON, which has no inf."""
    finite = {"ulp": one.ulp if isfinite(one.ulp) else None}
    tensors = {each.name: each.verdict for each in one.tensors}
    return {**one._asdict(), **finite, "tensors": tensors}
