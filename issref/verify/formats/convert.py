"""LSTM checkpoints between formats: what a file holds is told by its suffix and the names of its arrays."""

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
# The array that tells a framework, looked for in this order; "kernel" and "weights" name other layers too.
HALLMARKS = {
    "torch": "weight_ih", "onnx": "W", "flax": "ii/kernel", "keras": "recurrent_kernel",
    "tf1": "weights", "issref": "kernel",
}  # fmt: skip
_COMMON = ("tf1", "issref")
_HELD = (np.float16, np.float32, np.float64)


class Checkpoint(NamedTuple):
    """One LSTM of a file: whose names it has, where it stands ("decoder.lstm.*_l#"), the LSTM as params of
    issref, and the arrays beside it under their own names."""

    path: Path
    framework: str
    stack: str
    params: Params
    rest: Params


def widths(params: Params) -> list[int]:
    """How wide the input and each layer of an LSTM is."""
    units = [len(params[f"{me}/bias"]) // 4 for me in ptb_lstm.spaces(params)]
    return [len(params["lstm0/kernel"]) - units[0], *units]


def describe(found: Checkpoint) -> str:
    """What was recognised, in a line."""
    sizes, dtypes = map(str, widths(found.params)), {values.dtype.name for values in found.params.values()}
    return f"{found.path}: {found.framework} {found.stack}, {' -> '.join(sizes)}, {' and '.join(sorted(dtypes))}"


def load(path: Path | str, stack: str | None = None, *, forget_bias: float = 0.0) -> Checkpoint:
    """The LSTM of a .pt, .pth, .onnx or .safetensors file, in any spelling of `frameworks` or that of issref.

    More than one LSTM in a file needs `stack`, as `Dialect.find` says. `forget_bias` is the constant of a TF 1
    cell. Raises ValueError, naming the file, for one of another suffix or content, not there, not whole, or
    whose LSTM is no plain, finite one.
    """
    path = Path(path)
    if path.suffix not in READERS:
        raise ValueError(f"{path}: expected a name that ends in {', '.join(READERS)}, got {path.suffix!r}")
    with _naming(path):
        arrays = READERS[path.suffix](path)
        framework, stack = _recognise(arrays, stack)
        spelling = DIALECTS[framework]
        params = spelling.to_reference(arrays, stack)
    if framework == "issref" and "lstm_cell/" in stack:  # from TensorFlow 1.2 on, with kernel and bias
        framework = "tf1"
    if framework == "tf1":
        params = tf1.to_reference(tf1.from_reference(params), forget_bias=forget_bias)
    return Checkpoint(path, framework, stack, params, _beside(arrays, spelling, stack))


def convert(
    source: Path | str,
    target: Path | str,
    *,
    stack: str | None = None,
    forget_bias: float = 0.0,
    overwrite: bool = False,
) -> list[str]:
    """Write the LSTM of a file in the format that the target's name says, exactly; what was done, in lines.

    Suffixes: .pt and .pth, a PyTorch state dict; .onnx; .torch.safetensors, .flax.safetensors,
    .keras.safetensors, .tf1.safetensors, arrays under these names; else .safetensors, under those of issref.
    The file is whole or not there. Raises ValueError as `load` does, for a target of another suffix, one that
    is there, unless it may be overwritten, one in no folder, and for what its format cannot hold.
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
    return [describe(found), *remarks, f"{target}: written, for {framework}"]


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors name the file; a package that is missing is one."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ValueError(f"{path}: expected the package {error.name}, got none installed") from error
    except ValueError as error:
        if str(error).startswith(str(path)):
            raise
        said = str(error)
        raise ValueError(f"{path}: {said if len(said) <= 700 else said[:700] + ' ...'}") from error


def _recognise(names: Iterable[str], stack: str | None) -> tuple[str, str]:
    """The framework whose names these are, and the place of its one LSTM, or of the one that is meant."""
    names = sorted(names)
    for framework, hallmark in HALLMARKS.items():
        spelling = re.compile(rf"(.*[/.]|){re.escape(hallmark)}(_l\d\w*|)")
        places = {_numberless(f"{found[1]}*{found[2]}") for found in map(spelling.fullmatch, names) if found}
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


def _beside(arrays: Params, spelling: Dialect, stack: str) -> Params:
    used = {_numberless(stack.replace("*", array)) for array in spelling.arrays}
    return {name: values for name, values in arrays.items() if _numberless(name) not in used}


def _numberless(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def _check_target(source: Path, target: Path, overwrite: bool) -> str:
    """The framework that the target's name says; ValueError unless it can be written there."""
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
    """The params in one dtype, the widest of theirs; ValueError if the format cannot hold them."""
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
    """What a reader of the new file should know."""
    if len({values.dtype for values in found.params.values()}) > 1:
        yield f"all is written as {params['lstm0/kernel'].dtype}"
    if found.framework in ("torch", "onnx"):
        yield "the two biases of each gate are added up"
    if framework in ("torch", "onnx"):
        yield "of the two biases of each gate, the second is zero"
    if framework == "torch" and len(set(widths(params)[1:])) > 1:
        yield "widths differ, so this is an nn.ModuleList of an nn.LSTM for each layer"
    if "tf1" in (found.framework, framework):
        yield f"the constant forget_bias of the TF 1 cell is taken to be {forget_bias:g} (1 is its default)"
    if found.rest:
        yield f"left out, being no part of this LSTM: {', '.join(sorted(found.rest))}"
