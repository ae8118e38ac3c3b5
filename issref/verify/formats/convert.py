"""Convert LSTM checkpoints between formats, recognised by a file's suffix and the names of its arrays."""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from issref.iss.layout import Params
from issref.models import ptb_lstm
from issref.training import checkpoint
from issref.verify.formats import files, flax, keras, onnx, tf1, torch
from issref.verify.formats.dialect import REFERENCE, Dialect

READERS = {".pt": torch.read, ".pth": torch.read, ".onnx": onnx.read, ".safetensors": files.read}
TARGETS = {
    ".pt": "torch",
    ".pth": "torch",
    ".onnx": "onnx",
    **{f".{framework}.safetensors": framework for framework in ("torch", "flax", "keras", "tf1")},
    ".safetensors": "issref",
}
MODULES = {"torch": torch, "onnx": onnx, "flax": flax, "keras": keras, "tf1": tf1}
DIALECTS = {framework: module.SPELLING for framework, module in MODULES.items()} | {"issref": REFERENCE}
# An array that identifies a framework, tried in this order; other layers have a "kernel" or "weights" too.
HALLMARKS = {
    "torch": "weight_ih", "onnx": "W", "flax": "ii/kernel", "keras": "recurrent_kernel",
    "tf1": "weights", "issref": "kernel",
}  # fmt: skip
_COMMON = ("tf1", "issref")
_HELD = (np.float16, np.float32, np.float64)


class Checkpoint(NamedTuple):
    """One LSTM of a file: framework, stack ("decoder.lstm.*_l#"), params of issref, and the other arrays."""

    path: Path
    framework: str
    stack: str
    params: Params
    rest: Params


def widths(params: Params) -> list[int]:
    """Return the widths of the input and of each layer of an LSTM."""
    units = [len(params[f"{layer}/bias"]) // 4 for layer in ptb_lstm.spaces(params)]
    return [len(params["lstm0/kernel"]) - units[0], *units]


def describe(found: Checkpoint) -> str:
    """Describe a checkpoint in a line."""
    sizes, dtypes = map(str, widths(found.params)), {values.dtype.name for values in found.params.values()}
    return f"{found.path}: {found.framework} {found.stack}, {' -> '.join(sizes)}, {' and '.join(sorted(dtypes))}"


def load(path: Path | str, stack: str | None = None, *, forget_bias: float = 0.0) -> Checkpoint:
    """Load the LSTM of a .pt, .pth, .onnx or .safetensors file, with the names of any framework or of issref.

    `stack` chooses among several LSTMs, see `Dialect.find`. `forget_bias` is the constant of a TF 1 cell. Raises
    ValueError, naming the file, if it is missing, incomplete or of another kind, or if its LSTM is not a plain one
    or has infinite or NaN weights.
    """
    path = Path(path)
    if path.suffix not in READERS:
        raise ValueError(f"{path}: expected a name that ends in {', '.join(READERS)}, got {path.suffix!r}")
    with _naming(path):
        arrays = READERS[path.suffix](path)
        framework, stack = _recognise(arrays, stack)
        dialect = DIALECTS[framework]
        params = dialect.to_reference(arrays, stack)
    if framework == "issref" and "lstm_cell/" in stack:  # from TensorFlow 1.2 on, with kernel and bias
        framework = "tf1"
    if framework == "tf1":
        params = tf1.to_reference(tf1.from_reference(params), forget_bias=forget_bias)
    return Checkpoint(path, framework, stack, params, _other_arrays(arrays, dialect, stack))


def convert(
    source: Path | str,
    target: Path | str,
    *,
    stack: str | None = None,
    forget_bias: float = 0.0,
    overwrite: bool = False,
) -> list[str]:
    """Write the LSTM of a file, exactly, in the format of the target's suffix, and return remarks for the user.

    Suffixes: .pt and .pth are PyTorch state dicts; .onnx is ONNX; .torch.safetensors, .flax.safetensors,
    .keras.safetensors and .tf1.safetensors use these names; any other .safetensors uses issref's. The file is
    written completely or not at all. Raises ValueError as `load` does; if the target has another suffix, exists
    (unless `overwrite`) or has no folder; or if its format cannot hold the LSTM.
    """
    source, target = Path(source), Path(target)
    framework = _check_target(source, target, overwrite)
    found = load(source, stack, forget_bias=forget_bias)
    if forget_bias and "tf1" not in (found.framework, framework):
        raise ValueError(f"forget_bias: expected a file of tf1, got {found.framework} and {framework}")
    params = _held(found, framework, target)
    with _naming(target):
        _write(framework, target, params, forget_bias)
    remarks = _remarks(found, framework, params, forget_bias)
    return [describe(found), *remarks, f"{target}: written for {framework}"]


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Make errors name the file, also for a package that is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ValueError(f"{path}: expected the package {error.name}, got none installed") from error
    except ValueError as error:
        if str(error).startswith(str(path)):
            raise
        message = str(error)
        raise ValueError(f"{path}: {message if len(message) <= 700 else message[:700] + ' ...'}") from error


def _recognise(names: Iterable[str], stack: str | None) -> tuple[str, str]:
    """Return the framework that uses these names, and the stack of its only or of the chosen LSTM."""
    names = sorted(names)
    for framework, hallmark in HALLMARKS.items():
        pattern = re.compile(rf"(.*[/.]|){re.escape(hallmark)}(_l\d\w*|)")
        places = {_numberless(f"{found[1]}*{found[2]}") for found in map(pattern.fullmatch, names) if found}
        if framework in _COMMON:
            places = {place for place in places if "lstm" in place.lower() or place == stack}
        if stack is None and len(places) > 1:
            raise ValueError(f"expected one LSTM, or a choice by stack, got {sorted(places)}")
        if places and (stack or min(places)) not in places:
            raise ValueError(f"stack: expected one of {sorted(places)}, got {stack!r}")
        if places:
            return framework, stack or min(places)
    found = ", ".join(names[:4]) or "none"
    raise ValueError(f"expected an LSTM's arrays, with names like weight_ih_l0 or lstm0/kernel, got {found}")


def _other_arrays(arrays: Params, dialect: Dialect, stack: str) -> Params:
    used = {_numberless(stack.replace("*", array)) for array in dialect.arrays}
    return {name: values for name, values in arrays.items() if _numberless(name) not in used}


def _numberless(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def _check_target(source: Path, target: Path, overwrite: bool) -> str:
    """Return the framework of the target's suffix. Raises ValueError if the target cannot be written."""
    framework = next((of for suffix, of in TARGETS.items() if target.name.endswith(suffix)), None)
    if framework is None:
        raise ValueError(f"{target}: expected a name that ends in {', '.join(TARGETS)}, got {target.suffix!r}")
    if not target.parent.is_dir():
        raise ValueError(f"{target}: expected a folder to write to, got no {target.parent}")
    if target.exists() and source.exists() and target.samefile(source):
        raise ValueError(f"{target}: expected another file than the source, got the source itself")
    if target.is_dir() or (target.exists() and not overwrite):
        raise ValueError(f"{target}: expected a new file, or leave to overwrite, got one that exists")
    return framework


def _held(found: Checkpoint, framework: str, target: Path) -> Params:
    """Return the params in their widest dtype. Raises ValueError if the format cannot hold them."""
    dtype = np.result_type(*found.params.values())
    if dtype not in _HELD:
        raise ValueError(f"{target}: expected float16, float32 or float64 for {framework}, got {dtype}")
    if framework in ("torch", "onnx") and 0 in widths(found.params):
        raise ValueError(f"{target}: expected widths from 1 up for {framework}, got {widths(found.params)}")
    return {name: values.astype(dtype) for name, values in found.params.items()}


def _write(framework: str, target: Path, params: Params, forget_bias: float) -> None:
    if framework == "issref":
        checkpoint.save(target, params, layout=json.loads(REFERENCE.layout(widths(params)).to_json()))
    elif framework == "tf1":
        tf1.write(target, tf1.from_reference(params, forget_bias=forget_bias))
    else:
        MODULES[framework].write(target, MODULES[framework].from_reference(params))


def _remarks(found: Checkpoint, framework: str, params: Params, forget_bias: float) -> Iterator[str]:
    """Yield remarks on the new file."""
    if len({values.dtype for values in found.params.values()}) > 1:
        yield f"all arrays are written as {params['lstm0/kernel'].dtype}"
    if found.framework in ("torch", "onnx"):
        yield "the two biases of each gate were added up"
    if framework in ("torch", "onnx"):
        yield "the second bias of each gate is zero"
    if framework == "torch" and len(set(widths(params)[1:])) > 1:
        yield "widths differ, so this is an nn.ModuleList with an nn.LSTM for each layer"
    if "tf1" in (found.framework, framework):
        yield f"the forget_bias of the TF 1 cell was taken to be {forget_bias:g} (its default is 1)"
    if found.rest:
        yield f"left out, not part of this LSTM: {', '.join(sorted(found.rest))}"
