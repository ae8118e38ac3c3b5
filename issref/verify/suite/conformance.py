"""The conformance suite: load the vectors, and run a port on them.

A suite is a folder in `vectors`: manifest.json lists the cases; for each precision, one safetensors file holds the
inputs and one the expected outputs, with tensors named case/name. A port writes its outputs in the same form.
"""

import fnmatch
import functools
import hashlib
import json
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel

from issref.data import download, schema
from issref.iss.layout import Params
from issref.verify.formats import files

VECTORS = Path(__file__).parent / "vectors"
DTYPES = ("float32", "float64")
VERSION = 2  # the latest; all versions in `VECTORS` can be scored

Case = Mapping[str, Any]  # an entry of the manifest
Port = Callable[[str, str, Params, Mapping[str, Any]], Mapping[str, Any]]


class _Manifest(BaseModel):
    suite: int


class Suite(NamedTuple):
    """Cases, with the inputs and expected outputs by precision, then by case/name.

    A Python port is called `calls` times for each case; see `run`.
    """

    version: int
    cases: tuple[Case, ...]
    pitfalls: dict[str, str]
    inputs: dict[str, Params]
    expected: dict[str, Params]
    calls: int = 1

    def of(self, case: Case, dtype: str) -> tuple[Params, Params]:
        """Return the inputs and the expected outputs of a case."""
        inputs, expected = self.inputs[dtype], self.expected[dtype]
        return (
            {key: inputs[f"{case['name']}/{key}"] for key in case["inputs"]},
            {key: expected[f"{case['name']}/{key}"] for key in case["outputs"]},
        )

    def chosen(self, patterns: Iterable[str], *, forward: bool = False) -> "Suite":
        """Return the cases that match a pattern, without gradients if `forward`.

        Raises ValueError if a pattern matches no case, or if there is no pattern.
        """
        if not (patterns := list(patterns)):
            raise ValueError("cases: expected at least one name or pattern, got none")
        names, wanted = [case["name"] for case in self.cases], set()
        for pattern in patterns:
            if not (found := fnmatch.filter(names, pattern)):
                raise ValueError(f"cases: expected a match for one of {', '.join(names)}, got {pattern!r}")
            wanted.update(found)
        cases = (case for case in self.cases if case["name"] in wanted)
        return self._replace(cases=tuple(map(_without_gradients, cases) if forward else cases))


@functools.cache
def load(version: int = VERSION) -> Suite:
    """Return the installed suite. Raises ValueError for an unknown version, or if a file has changed."""
    folder = VECTORS / str(version)
    if not (folder / "manifest.json").is_file():
        known = " or ".join(sorted(path.name for path in VECTORS.iterdir()))
        raise ValueError(f"suite: expected version {known}, got {version}")
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, file in manifest["files"].items():
        found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        if found != file["sha256"]:
            raise ValueError(f"{folder / name}: expected sha256 {file['sha256']}, got {found}")
    inputs, expected = (
        {dtype: files.read(folder / f"{dtype}.{side}.safetensors") for dtype in DTYPES}
        for side in ("inputs", "expected")
    )
    calls = manifest.get("calls", 1)
    return Suite(version, tuple(manifest["cases"]), manifest["pitfalls"], inputs, expected, calls)


def copy_to(folder: Path, version: int = VERSION) -> None:
    """Copy the suite's files to a folder. Raises ValueError unless the folder is new or empty, and as `load`."""
    load(version)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: expected a new or empty folder, got one with files, or a file")
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = not folder.exists()  # else it may be the working directory, which cannot be replaced
    with tempfile.TemporaryDirectory(dir=folder.parent if new else folder) as place:  # whole or not at all
        suite = shutil.copytree(VECTORS / str(version), Path(place) / "suite")
        for part, target in [(suite, folder)] if new else [(one, folder / one.name) for one in suite.iterdir()]:
            part.replace(target)


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
        names = " or ".join(path.name for path in paths.values())
        raise ValueError(
            f"{folder}: expected the outputs of your port, {names} (see README.md there), got neither"
        )
    return found


def run(
    port: Port, suite: Suite, dtypes: Iterable[str], *, trace: bool = False
) -> tuple[dict[str, Params], dict[tuple[str, str], str]]:
    """Return the outputs of a Python port by precision, and the problems of its calls by (precision, case).

    A port is called `suite.calls` times for each case. If that is more than once, a call must change none of its
    inputs, and all calls must give the same outputs within the tolerance. `trace` appends tracebacks.
    """
    outputs, problems = {dtype: {} for dtype in dtypes}, {}
    for dtype, found in outputs.items():
        for case in (case for case in suite.cases if dtype in case["ulp"]):
            try:
                answers = _call(port, suite, case, dtype)
                found |= {f"{case['name']}/{key}": values for key, values in answers.items()}
            except KeyboardInterrupt:
                raise
            except ChangedError as error:
                problems[dtype, case["name"]] = str(error)
            except BaseException as error:  # any exception is the port's, SystemExit too: a verdict on this case
                lines = ("\n", *traceback.format_exception(error)) if trace else ()
                told = f"expected outputs, got {type(error).__name__}: {error}"
                problems[dtype, case["name"]] = "".join((told, *lines)).rstrip()
    return outputs, problems


class ChangedError(Exception):
    """A port changed its inputs, or what it computes from them."""


def _call(port: Port, suite: Suite, case: Case, dtype: str) -> Params:
    """Return the outputs of the last call, copied: a port may use its arrays again."""
    (inputs, _), calls = suite.of(case, dtype), []
    for _ in range(suite.calls):
        given = {key: values.copy() for key, values in inputs.items()}
        answers = port(case["name"], case["op"], dict(given), json.loads(json.dumps(case["keywords"])))
        calls.append({key: native(np.array(values)) for key, values in answers.items()})
        changed = [key for key in inputs if not np.array_equal(given[key], inputs[key])]
        if changed and suite.calls > 1:
            raise ChangedError(f"{changed[0]}: expected the input to be left as it is, got other numbers in it")
    for key, kind in case["outputs"].items():
        first, last = (call.get(key, np.zeros(0)) for call in (calls[0], calls[-1]))
        most = kind.get("ulp", case["ulp"])[dtype]
        if first.shape == last.shape and first.dtype.kind == "f" and ulps(last, first, dtype) > most:
            raise ChangedError(f"{key}: expected the same numbers from every call, got others from the last call")
    return calls[-1]


def native(values: np.ndarray) -> np.ndarray:
    """Return the values in the byte order of this machine."""
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def ulps(found: np.ndarray, expected: np.ndarray, dtype: str) -> float:
    """Return the largest |found - expected|, in units in the last place of the largest |expected|.

    If all of `expected` is zero, return 0 or inf.
    """
    off = np.max(np.abs(found.astype(np.float64) - expected), initial=0)
    largest = np.max(np.abs(expected), initial=0)
    if largest == 0:
        return np.inf if off else 0.0
    with np.errstate(over="ignore"):  # inf: the outputs of a wrong port can be huge
        return float(off / np.spacing(largest.astype(dtype)))


def _without_gradients(case: Case) -> Case:
    return {**case, "outputs": {key: kind for key, kind in case["outputs"].items() if not kind["gradient"]}}
