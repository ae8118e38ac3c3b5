"""Write the conformance vectors: `python -m issref.verify.suite.generate [FOLDER]`, by default in place.

Inputs are drawn from seeds, and rounded for float32. Outputs are computed from them in long double and rounded to
float64, for float32 too, so that a port is compared with exact values and not with rounded ones.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from issref.iss.layout import Params
from issref.training.checkpoint import add_prefix, write_whole
from issref.verify.suite.case import Case
from issref.verify.suite.cases import CASES
from issref.verify.suite.conformance import DTYPES, VECTORS, VERSION
from issref.verify.suite.pitfalls import PITFALLS
from issref.verify.suite.reference_port import answer

CALLS = 2  # of a Python port for each case


def write(folder: Path) -> None:
    """Write all vectors and their manifest: the same bytes each time on one machine."""
    from safetensors.numpy import save

    folder.mkdir(parents=True, exist_ok=True)
    files, cases = {}, []
    for dtype in DTYPES:  # float64 last: it has all cases
        mine = {name: case for name, case in CASES.items() if dtype in case.ulp}
        inputs, outputs = {}, {}
        for name, case in mine.items():
            inputs[name], outputs[name] = compute(name, case, dtype)
        cases = [describe(name, case, inputs[name], outputs[name]) for name, case in mine.items()]
        for side, arrays in (("inputs", inputs), ("expected", outputs)):
            content = save({name: np.array(values, order="C") for name, values in add_prefix(**arrays).items()})
            files[f"{dtype}.{side}.safetensors"] = {"sha256": hashlib.sha256(content).hexdigest()}
            write_whole(folder / f"{dtype}.{side}.safetensors", content)
    head = json.dumps({"suite": VERSION, "calls": CALLS, "files": files, "pitfalls": PITFALLS}, indent=1)
    rows = ",\n  ".join(map(json.dumps, cases))  # a line for each case
    write_whole(folder / "manifest.json", f'{head[:-2]},\n "cases": [\n  {rows}\n ]\n}}\n'.encode())


def compute(name: str, case: Case, dtype: str) -> tuple[Params, Params]:
    """Return the inputs of a case in a precision, and its outputs, rounded to float64."""
    inputs = _cast(case.inputs(name), dtype)
    return inputs, _cast(answer(name, case.op, _cast(inputs, "longdouble"), case.keywords), "float64")


def describe(name: str, case: Case, inputs: Params, outputs: Params) -> dict[str, Any]:
    """Return the manifest's entry of a case."""
    gap = {} if case.relative_gap is None else {"relative_gap": case.relative_gap}
    return {
        "name": name,
        "op": case.op,
        "keywords": case.keywords,
        "inputs": {key: _kind(values) for key, values in inputs.items()},
        "outputs": {key: _output(case, key, values, inputs) for key, values in outputs.items()},
        "ulp": case.ulp,
        **gap,
        "exact_zeros": "exact zeros" in case.pitfalls,
        "guards": list(case.pitfalls),
    }


def _output(case: Case, name: str, values: np.ndarray, inputs: Params) -> dict[str, Any]:
    """Return the entry of an output. A gradient is named d/array, or d before the name of an input."""
    scope, _, own = name.rpartition("/")
    gradient = scope == "d" or scope.startswith("d/") or f"{scope}/{own[1:]}".lstrip("/") in inputs
    ulp = {"ulp": case.ulps[name]} if name in case.ulps else {}
    return {**_kind(values), "gradient": gradient, **ulp}


def _cast(arrays: Params, dtype: str) -> Params:
    return {name: values.astype(dtype) if values.dtype.kind == "f" else values for name, values in arrays.items()}


def _kind(values: np.ndarray) -> dict[str, Any]:
    return {"shape": list(values.shape), "dtype": "float" if values.dtype.kind == "f" else values.dtype.name}


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else VECTORS / str(VERSION))
