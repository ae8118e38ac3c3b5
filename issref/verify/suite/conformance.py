"""The conformance suite: load the vectors and score a port's outputs.

A suite is a folder in `vectors`: manifest.json lists the cases; for each precision, one safetensors file holds the
inputs and one the expected outputs, with tensors named case/name. A port writes its outputs in the same form.
Errors are in units in the last place of the largest entry of a tensor.
"""

import copy
import fnmatch
import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel

from issref.data import download, schema
from issref.iss.layout import Params
from issref.training.checkpoint import strip_prefix
from issref.verify.formats import files

VECTORS = Path(__file__).parent / "vectors"
DTYPES = ("float32", "float64")
VERSION = 1

Case = Mapping[str, Any]  # an entry of the manifest
Port = Callable[[str, str, Params, Mapping[str, Any]], Mapping[str, Any]]


class _Manifest(BaseModel):
    suite: int


class Suite(NamedTuple):
    """Cases, with the inputs and expected outputs by precision, then by case/name."""

    version: int
    cases: tuple[Case, ...]
    pitfalls: dict[str, str]
    inputs: dict[str, Params]
    expected: dict[str, Params]

    def chosen(self, patterns: Iterable[str], *, forward: bool = False) -> "Suite":
        """Return the cases that match a pattern, without gradients if `forward`.

        Raises ValueError if a pattern matches no case.
        """
        names, wanted = [case["name"] for case in self.cases], set()
        for pattern in patterns:
            if not (found := fnmatch.filter(names, pattern)):
                raise ValueError(f"cases: expected a match for one of {', '.join(names)}, got {pattern!r}")
            wanted.update(found)
        cases = (case for case in self.cases if case["name"] in wanted)
        return self._replace(cases=tuple(map(_without_gradients, cases) if forward else cases))


class Score(NamedTuple):
    """The result of a case in one precision.

    The verdict is "pass", "fail", or "bad" if the outputs cannot be compared, for the reason `problem`. The error
    `ulp`, at most `most` if the case passes, is that of the worst output, `tensor`; inf is wrong in any rounding.
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


@functools.cache
def load(version: int = VERSION) -> Suite:
    """Return the installed suite. Raises ValueError for an unknown version, or if a file has changed."""
    folder = VECTORS / str(version)
    if not (folder / "manifest.json").is_file():
        raise ValueError(f"suite: expected version {VERSION}, got {version}")
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, file in manifest["files"].items():
        found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        if found != file["sha256"]:
            raise ValueError(f"{folder / name}: expected sha256 {file['sha256']}, got {found}")
    inputs, expected = (
        {dtype: files.read(folder / f"{dtype}.{side}.safetensors") for dtype in DTYPES}
        for side in ("inputs", "expected")
    )
    return Suite(version, tuple(manifest["cases"]), manifest["pitfalls"], inputs, expected)


def copy_to(folder: Path, version: int = VERSION) -> None:
    """Copy the suite's files to a folder. Raises ValueError unless the folder is new or empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: expected a new or empty folder, got one with files, or a file")
    shutil.copytree(VECTORS / str(version), folder, dirs_exist_ok=True)


def version_in(folder: Path) -> int:
    """Return the version of the suite in a folder that `copy_to` wrote. Raises ValueError if there is none."""
    path = folder / "manifest.json"
    return schema.parse(str(path), _Manifest, download.read(path)).suite


def outputs_in(folder: Path) -> dict[str, Params]:
    """Return a port's outputs by precision, read from float32.outputs.safetensors and float64.outputs.safetensors.

    One of the two files may be missing. Raises ValueError if both are.
    """
    paths = {dtype: folder / f"{dtype}.outputs.safetensors" for dtype in DTYPES}
    found = {dtype: files.read(path) for dtype, path in paths.items() if path.exists()}
    if not found:
        raise ValueError(f"{folder}: expected {' or '.join(path.name for path in paths.values())}, got neither")
    return found


def run(port: Port, suite: Suite, dtypes: Iterable[str]) -> tuple[dict[str, Params], dict[tuple[str, str], str]]:
    """Return the outputs of a Python port by precision, and its exceptions' messages by (precision, case)."""
    outputs, raised = {dtype: {} for dtype in dtypes}, {}
    for dtype, found in outputs.items():
        for case in suite.cases:
            name, inputs = case["name"], strip_prefix(suite.inputs[dtype], case["name"])
            copied = {key: values.copy() for key, values in inputs.items()}
            try:
                answers = port(name, case["op"], copied, copy.deepcopy(case["keywords"]))
                found |= {f"{name}/{key}": np.asarray(values) for key, values in answers.items()}
            except Exception as error:  # any exception is the port's, and a verdict on this case
                raised[dtype, name] = f"expected outputs, got {type(error).__name__}: {error}"
    return outputs, raised


def score(suite: Suite, outputs: Mapping[str, Params], raised: Mapping[tuple[str, str], str]) -> list[Score]:
    """Score every case in every precision of `outputs`."""
    return [
        _score(
            case,
            dtype,
            strip_prefix(found, name),
            strip_prefix(suite.expected[dtype], name),
            raised.get((dtype, name)),
        )
        for name, case in ((case["name"], case) for case in suite.cases)
        for dtype, found in outputs.items()
    ]


def ulps(found: np.ndarray, expected: np.ndarray, dtype: str) -> float:
    """Return the largest |found - expected|, in units in the last place of the largest |expected|.

    If all of `expected` is zero, return 0 or inf.
    """
    off = np.max(np.abs(found.astype(np.float64) - expected), initial=0)
    largest = np.max(np.abs(expected), initial=0)
    if largest == 0:
        return np.inf if off else 0.0
    return float(off / np.spacing(largest.astype(dtype)))


def lines(suite: Suite, scores: list[Score]) -> Iterator[str]:
    """Yield a table of the largest errors by case and precision, then failures, then pitfalls of failed cases."""
    dtypes, cells = dict.fromkeys(one.dtype for one in scores), {}
    for one in scores:
        off = f"{one.ulp:.3g} of {one.most:.4g}"
        cells.setdefault(one.case, []).append({"pass": off, "fail": f"FAIL {off}"}.get(one.verdict, "BAD"))
    yield "".join([f"{'case':24}", *(f"{f'{dtype}, ulp':>26}" for dtype in dtypes)])
    for name, row in cells.items():
        yield "".join([f"{name:24}", *(f"{cell:>26}" for cell in row)])
    guards = {}
    for one in scores:
        if one.verdict != "pass":
            off = f"{one.tensor}: expected an error of at most {one.most} ulp, got {one.ulp:.3g}"
            yield f"{one.case}, {one.dtype}: {one.problem or off}"
            guards |= dict.fromkeys(one.guards)
    yield from (f"pitfall: {suite.pitfalls[key]}" for key in guards)


def _score(case: Case, dtype: str, found: Params, expected: Params, raised: str | None) -> Score:
    name, most, verdict, tensor, worst = case["name"], case["ulp"][dtype], "bad", "", 0.0
    problem = raised or next(_problems(case["outputs"], dtype, found, expected), "")
    if not problem:
        errors = {key: _error(found[key], expected[key], dtype, case["exact_zeros"]) for key in case["outputs"]}
        tensor = max(errors, key=lambda key: errors[key])
        worst, verdict = errors[tensor], "pass" if errors[tensor] <= most else "fail"
    return Score(name, case["op"], dtype, verdict, tensor, worst, most, problem, tuple(case["guards"]))


def _error(found: np.ndarray, expected: np.ndarray, dtype: str, exact_zeros: bool) -> float:
    """Return `ulps`, or inf for a wrong boolean, or for a nonzero number where an exact zero is required."""
    if expected.dtype.kind != "f":
        return 0.0 if np.array_equal(found, expected) else np.inf
    return np.inf if exact_zeros and found[expected == 0].any() else ulps(found, expected, dtype)


def _problems(outputs: Mapping[str, Any], dtype: str, found: Params, expected: Params) -> Iterator[str]:
    """Yield the reasons why outputs cannot be compared."""
    for key, kind in outputs.items():
        wanted = dtype if kind["dtype"] == "float" else kind["dtype"]
        if key not in found:
            yield f"{key}: expected this output, got {', '.join(sorted(found)) or 'no outputs'}"
        elif list(found[key].shape) != kind["shape"]:
            yield f"{key}: expected shape {tuple(kind['shape'])}, got {found[key].shape}"
        elif str(found[key].dtype) != wanted:
            yield f"{key}: expected {wanted}, got {found[key].dtype}"
        elif strange := np.count_nonzero(~np.isfinite(found[key])):
            yield f"{key}: expected finite numbers, got {strange} that are infinite or NaN"
    for key in sorted(found.keys() - expected.keys()):
        yield f"{key}: expected one of {', '.join(outputs)}, got another name"


def _without_gradients(case: Case) -> Case:
    return {**case, "outputs": {key: kind for key, kind in case["outputs"].items() if not kind["gradient"]}}
