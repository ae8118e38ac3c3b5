"""Convert LSTM checkpoints between formats, recognised by a file's suffix and the names of its arrays."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from issref.iss.layout import Layout, Params
from issref.models import ptb_lstm
from issref.training import checkpoint
from issref.verify.formats import files, hdf5, keras, kinds, onnx, stored, tf1, torch
from issref.verify.formats.cells import GRU, GRU_RESET_BEFORE, LSTM, OtherKind, cell_of
from issref.verify.formats.dialect import Dialect
from issref.verify.formats.dialects import DIALECTS, MODULES
from issref.verify.formats.names import Places, Stack
from issref.verify.formats.stored import Sources

READERS = {
    ".pt": torch.read, ".pth": torch.read, ".onnx": onnx.read_file, ".keras": keras.read_model,
    ".h5": keras.read_model, ".safetensors": files.read,
}  # fmt: skip
TARGETS = {
    ".pt": "torch",
    ".pth": "torch",
    ".onnx": "onnx",
    **{f".{framework}.safetensors": framework for framework in ("torch", "flax", "keras", "tf1")},
    ".safetensors": "issref",
}
# The names of issref's language models and BiDAF; other kernels are TensorFlow 1's, from 1.2 on.
_OWN = re.compile(r"(params/)?((?:lstm|gru)(\d+|#)|[a-z]+(\d+|#)?\.(fw|bw))/\*")


class Checkpoint(NamedTuple):
    """One LSTM of a file.

    framework, stack ("decoder.lstm.*_l#"); params of issref; the other arrays; the dtypes in which the file holds
    the LSTM; the number of biases of a gate; whether the chain of its layers is assumed; remarks on what was
    assumed or computed; the places of its layers; the layout of its arrays by name, with spaces lstm0, lstm1, ...;
    the names that its reader gives to the arrays of which each one is made.
    """

    path: Path
    framework: str
    stack: str
    params: Params
    rest: Params
    dtypes: tuple[str, ...]
    biases: int
    assumed: bool
    notes: tuple[str, ...]
    layers: Places
    layout: Layout
    sources: Sources


def widths(params: Params) -> list[int]:
    """Return the widths of the input and of each layer of an LSTM."""
    kernels = [params[f"{layer}/kernel"] for layer in ptb_lstm.spaces(params)]
    units = [kernel.shape[1] // len(cell_of(params).gates) for kernel in kernels]
    return [len(kernels[0]) - units[0], *units]


def describe(found: Checkpoint) -> str:
    """Describe a checkpoint in a line."""
    sizes = " -> ".join(map(str, widths(found.params)))
    return f"{found.path}: {found.framework} {found.stack}, {sizes}, {' and '.join(found.dtypes)}"


def load(path: Path | str, stack: str | None = None, *, forget_bias: float | None = None) -> Checkpoint:
    """Load the LSTM of a .pt, .pth, .onnx, .keras, .h5 or .safetensors file, in the names of any framework.

    `stack` chooses among several LSTMs, see `Dialect.find`. `forget_bias` is the constant of a TF 1 cell. Raises
    ValueError, naming the file, if it is missing, incomplete or of another kind, or if its LSTM is not a plain one
    or has infinite or NaN weights.
    """
    path = Path(path)
    if path.suffix not in READERS:
        raise ValueError(f"{path}: expected a name that ends in {', '.join(READERS)}, got {path.suffix!r}")
    with naming(path):
        files.check_whole(path)
        source = READERS[path.suffix](path)
        source, read_notes, others = source if isinstance(source, tuple) else (source, {}, {})
        arrays, notes, sources = stored.plain(source)
        framework, dialect, chosen = _recognise(arrays, stack)
        params = dialect.to_reference(arrays, chosen.name)
    if framework == "issref" and not _OWN.fullmatch(chosen.name):
        framework = "tf1"
    if framework == "tf1" and dialect.cell == LSTM:
        params = tf1.to_reference(tf1.from_reference(params), forget_bias=forget_bias or 0.0)
    assumed = hdf5.assumed(path, dialect.cell, dialect.biases(chosen)) if framework == "keras" else ()
    used = {name for layer in chosen.layers.values() for name in layer.values()}
    return Checkpoint(
        path,
        framework,
        chosen.name,
        params,
        {name: values for name, values in arrays.items() if name not in used} | others,
        tuple(sorted({files.stored_dtype(arrays[name]) for name in used})),
        dialect.biases(chosen),
        chosen.assumed,
        (*_chain(chosen), *assumed, *(text for name, text in (read_notes | notes).items() if name in used)),
        chosen.layers,
        dialect.layout_of(arrays, chosen),
        sources,
    )


def _chain(chosen: Stack) -> list[str]:
    """Return the remark on an assumed chain."""
    if not chosen.assumed:
        return []
    layers = ", ".join(place.partition("*")[0].rstrip("/.") for place in chosen.layers)
    how = "their numbers and widths fit; --stack chooses one of them, or this chain"
    return [f"assumed that {layers} are a chain, in which each reads the one before: {how}"]


def convert(
    source: Path | str,
    target: Path | str,
    *,
    stack: str | None = None,
    forget_bias: float | None = None,
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
    if forget_bias and ("tf1" not in (found.framework, framework) or cell_of(found.params) != LSTM):
        raise ValueError(
            f"forget_bias: expected a file of tf1 with an LSTM, got {found.framework} and {framework}"
        )
    params = _held(found, framework, target)
    with naming(target):
        _write(framework, target, params, forget_bias or 0.0)
    remarks = _remarks(found, framework, params, forget_bias)
    return [describe(found), *remarks, f"{target}: written for {framework}"]


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file in errors. Raises ValueError for them, also if a package is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ValueError(f"{path}: expected the package {error.name}, got none installed") from error
    except ValueError as error:
        if str(error).startswith(str(path)):
            raise
        message = str(error)
        raise ValueError(f"{path}: {message if len(message) <= 700 else message[:700] + ' ...'}") from error


def _recognise(arrays: Params, stack: str | None) -> tuple[str, Dialect, Stack]:
    """Return the framework and the dialect that use these names, LSTMs first, and the layers."""
    others = []
    for framework, dialect in DIALECTS:
        if dialect.places(arrays, stack) and (stack or framework in (others or [(framework,)])[0]):
            try:
                return framework, dialect, dialect.choose(arrays, stack)
            except OtherKind as error:
                others.append((framework, error))
    if others:
        raise others[0][1]
    wanted = "expected an LSTM's or a GRU's arrays, with names like weight_ih_l0 or lstm0/kernel"
    if found := kinds.of_names(sorted(arrays)):
        kind, sign = found
        remedy = f"; {kind.remedy}" if kind.remedy else ""
        raise ValueError(f"{wanted}, got {sign} ({kind.name}){remedy}")
    raise ValueError(f"{wanted}, got {', '.join(sorted(arrays)[:4]) or 'none'}")


def _check_target(source: Path, target: Path, overwrite: bool) -> str:
    """Return the framework of the target's suffix. Raises ValueError if the target cannot be written."""
    framework = next((of for suffix, of in TARGETS.items() if target.name.endswith(suffix)), None)
    if framework is None:
        raise ValueError(f"{target}: expected a name that ends in {', '.join(TARGETS)}, got {target.suffix!r}")
    files.check_new(target, overwrite, source)
    return framework


def _held(found: Checkpoint, framework: str, target: Path) -> Params:
    """Return the params in their widest dtype. Raises ValueError if the format cannot hold them."""
    dtype = np.result_type(*found.params.values())
    if framework in ("torch", "onnx") and 0 in widths(found.params):
        raise ValueError(f"{target}: expected widths from 1 up for {framework}, got {widths(found.params)}")
    return {name: values.astype(dtype) for name, values in found.params.items()}


def _write(framework: str, target: Path, params: Params, forget_bias: float) -> None:
    cell = cell_of(params)
    dialects = {own.cell: own for name, own in reversed(DIALECTS) if name == framework}  # the first of each cell
    if cell not in dialects:
        others = ", ".join(dict.fromkeys(name for name, own in DIALECTS if own.cell == cell))
        has, lacks = ("before", "after") if cell == GRU_RESET_BEFORE else ("after", "before")
        wanted = f"a format for a GRU whose reset acts {has} the product ({others})"
        raise ValueError(f"expected {wanted}, got {framework}, whose GRU has it {lacks}")
    if framework == "issref":
        checkpoint.save(target, params, layout=json.loads(dialects[cell].layout(widths(params)).to_json()))
    elif framework == "tf1" and cell == LSTM:
        tf1.write(target, tf1.from_reference(params, forget_bias=forget_bias))
    else:
        MODULES[framework].write(target, dialects[cell].from_reference(params))


def _remarks(found: Checkpoint, framework: str, params: Params, forget_bias: float | None) -> Iterator[str]:
    """Yield remarks on the new file."""
    yield from found.notes
    written, cell = np.result_type(*params.values()).name, cell_of(params)
    if found.dtypes != (written,):
        yield f"all arrays are written as {written}"
    which = "each gate" if cell != GRU else "reset and update"
    if found.biases > 1:
        yield f"the two biases of {which} were added up"
    if framework in ("torch", "onnx"):
        yield f"the second bias of {which} is zero"
    if framework == "torch" and len(set(widths(params)[1:])) > 1:
        yield f"widths differ, so this is an nn.ModuleList with an nn.{cell.kind} for each layer"
    if framework == "onnx" and written == "float64":
        yield f"ONNX Runtime has no {cell.kind} in float64: a float32 copy runs there"
    if cell == LSTM and "tf1" in (found.framework, framework):
        given = "" if forget_bias is not None else "; --forget-bias gives another"
        yield f"the forget_bias of the TF 1 cell was taken to be {forget_bias or 0:g} (its default is 1){given}"
    if found.rest:
        yield f"left out, not part of this LSTM: {', '.join(sorted(found.rest))}"
