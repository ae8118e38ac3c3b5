"""Find the known mistake that explains the outputs of an LSTM port."""

import functools
from collections.abc import Iterable, Mapping

import numpy as np

from issref.iss.layout import Params
from issref.training.checkpoint import strip_prefix
from issref.verify.suite.conformance import Suite, load, ulps
from issref.verify.suite.mistakes import MISTAKES, Mistake
from issref.verify.suite.scoring import Score

FORWARD = ("hidden", "h", "c")


def explain(suite: Suite, outputs: Mapping[str, Params], scores: Iterable[Score]) -> list[str]:
    """Return the known mistakes that reproduce a port's outputs in all its LSTM cases.

    Cases without numbers to compare are left out, and at least one case must have failed. If the forward pass is
    wrong, only hidden, h and c are compared: the gradients may be the right ones of the wrong function.
    """
    numbered = [one for one in scores if one.op == "lstm" and one.verdict != "bad"]
    found = {one: strip_prefix(outputs[one.dtype], one.case) for one in numbered}
    forward = {
        one: _near(found[one], strip_prefix(suite.expected[one.dtype], one.case), one, FORWARD) for one in numbered
    }
    names = None if all(forward.values()) else FORWARD
    return [name for name in MISTAKES if _explains(name, suite.version, found, names)]


def _explains(name: str, version: int, found: Mapping[Score, Params], names: Iterable[str] | None) -> bool:
    failed = 0
    for one, outputs in found.items():
        wrong = _wrong(version, one.dtype, one.case)[name]
        if wrong is not None:
            if not _near(outputs, wrong, one, names or outputs):
                return False
            failed += one.verdict == "fail"
    return failed > 0


def _near(found: Params, wanted: Params, one: Score, names: Iterable[str]) -> bool:
    return all(ulps(found[name], wanted[name], one.dtype) <= one.most for name in names)


@functools.cache
def _wrong(version: int, dtype: str, name: str) -> dict[str, Params | None]:
    """Return the outputs of a case with each mistake, None if the shapes do not allow it."""
    suite = load(version)
    keywords = next(case["keywords"] for case in suite.cases if case["name"] == name)
    inputs = strip_prefix(suite.inputs[dtype], name)
    inputs |= {key: values.astype(np.float64) for key, values in inputs.items() if values.dtype.kind == "f"}

    def outputs(mistake: Mistake) -> Params | None:
        try:
            return mistake(inputs, keywords)
        except ValueError:
            return None

    return {key: outputs(mistake) for key, mistake in MISTAKES.items()}
