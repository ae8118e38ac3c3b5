# pyright: reportMissingImports=false, reportMissingModuleSource=false, reportAttributeAccessIssue=false
"""PyTorch's nn.LSTM and nn.LSTMCell: weight_ih (4H, D), weight_hh (4H, H) and two biases (4H,) in each layer.

Only the sum of the biases matters, but plain gradient descent moves both, and their sum twice as far as the single
bias of the reference. Projections (proj_size) are not supported. Each direction of a bidirectional LSTM is a
separate stack, see `Dialect.find`; of two bidirectional layers, each layer and direction is.
"""

import io
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from issref.iss.layout import Params
from issref.training.checkpoint import write_whole
from issref.verify.formats.cells import GRU
from issref.verify.formats.dialect import Arrays, Dialect, Layer, find
from issref.verify.formats.files import Keep, check_stored, reading, unreadable, widened

GATES = ("input", "forget", "candidate", "output")
SPELLING = Dialect(
    "*_l#",
    {"weight_ih": (GATES, ("x",)), "weight_hh": (GATES, ("h",)), "bias_ih": (GATES,), "bias_hh": (GATES,)},
)
# The reset acts after the product; the candidate's bias in bias_hh is inside the reset.
GRU_GATES = ("reset", "update", "candidate")
SPELLING_GRU = Dialect(
    "*_l#",
    {
        "weight_ih": (GRU_GATES, ("x",)), "weight_hh": (GRU_GATES, ("h",)),
        "bias_ih": (GRU_GATES,), "bias_hh": (("reset", "update", "recurrent"),),
    },
    cell=GRU,
)  # fmt: skip
axes, layout = SPELLING.axes, SPELLING.layout
to_reference, from_reference = SPELLING.to_reference, SPELLING.from_reference


def arrays(state: Mapping[str, Any]) -> Params:
    """Return the tensors of a state dict, also of one in dictionaries and lists of a checkpoint, by dotted names.

    Other values are left out; bfloat16 and similar types, which NumPy lacks, become float32, exactly. Raises
    ValueError for tensors that are not stored number by number, or of other types that NumPy lacks.
    """
    import torch

    tensors = ((name, parent[key]) for name, parent, key in _flat(state))
    return {name: _array(name, value) for name, value in tensors if isinstance(value, torch.Tensor)}


def build(arrays: Arrays):
    """Build one nn.LSTM or nn.GRU if all layers have the same width, else an nn.ModuleList with one for each.

    After compaction, layers have different widths, which one module cannot have. In the list, each module reads
    the output of the previous one.
    """
    from torch import nn

    spelling, layers = find(arrays, (SPELLING_GRU, SPELLING))
    if len({spelling.sizes(layer)["h"] for layer in layers}) == 1:
        return _module(layers, spelling)
    return nn.ModuleList([_module([layer], spelling) for layer in layers])


def read(path: Path | str) -> Params:
    """Return every tensor of a .pt or .safetensors file, as arrays by dotted names.

    Raises ValueError if the file is missing or incomplete, or if it is a pickle of more than tensors in
    dictionaries: such a file could run code, and torch.load(weights_only=True) refuses it.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path)
    if path.suffix == ".safetensors":
        with reading(path, "a whole safetensors file", SafetensorError):
            return arrays(load_file(path))
    return arrays(_load(path))


def cut(path: Path, keep: Keep, renamed: Mapping[str, str]) -> bytes:
    """Return the content of a .pt file with some tensors cut, and under other names where `renamed`.

    Everything else in the file stays as it is.
    """
    import torch

    state, buffer = _load(path), io.BytesIO()
    for name, parent, key in [*_flat(state)]:
        if name in keep:
            for axis, mask in enumerate(keep[name]):
                parent[key] = parent[key].index_select(axis, torch.from_numpy(np.flatnonzero(mask)))
        if name in renamed:
            parent[renamed[name].removeprefix(name.removesuffix(key))] = parent.pop(key)
    torch.save(state, buffer)
    return buffer.getvalue()


def _load(path: Path) -> Any:
    import torch

    try:
        _check_archive(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path}: expected tensors in dictionaries, as of torch.save(model.state_dict(), ...), "
            "got what torch.load(weights_only=True) refuses"
        ) from error
    except Exception as error:  # any exception: bytes that are no pickle may raise anything
        if str(error).startswith(str(path)):
            raise
        raise unreadable(path, "a whole file of torch.save", error) from error


def write(path: Path | str, arrays: Arrays) -> None:
    """Write the state dict of `build(arrays)`, as .safetensors if the path ends so, else with torch.save."""
    import torch
    from safetensors.torch import save

    state, buffer = build(arrays).state_dict(), io.BytesIO()
    if Path(path).suffix == ".safetensors":
        buffer.write(save(dict(state)))
    else:
        torch.save(state, buffer)
    write_whole(Path(path), buffer.getvalue())


def _check_archive(path: Path) -> None:
    """Raise BadZipFile if the file is compressed, ValueError if it is TorchScript, which is a program."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise ValueError(
                    f"{path}: expected a state dict, got a TorchScript program: save it with "
                    f"torch.save(torch.jit.load({path.name!r}).state_dict(), ...) if it is trusted"
                )
            check_stored(path, archive)


def _array(name: str, value: Any) -> np.ndarray:
    import torch

    strided = value.layout == torch.strided and value.device.type != "meta" and not value.is_quantized
    if not strided or value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise ValueError(f"{name}: expected a tensor stored number by number, got {value.dtype} in another form")
    value = value.detach().cpu()
    if value.dtype == torch.bfloat16:
        return widened(value.contiguous().view(torch.int16).numpy().view(np.uint16))
    has = value.dtype in (torch.float16, torch.float32, torch.float64) or not value.is_floating_point()
    try:
        return (value if has else value.float()).numpy()
    except TypeError as error:
        raise ValueError(f"{name}: expected numbers that NumPy has, got {value.dtype}") from error


def _module(layers: list[Layer], spelling: Dialect):
    import torch

    sizes = spelling.sizes(layers[0])
    tensors = {
        f"{array}_l{number}": torch.tensor(values)
        for number, layer in enumerate(layers)
        for array, values in layer.items()
    }
    settings = {"bias": "bias_ih" in layers[0], "dtype": tensors["weight_ih_l0"].dtype}
    module = getattr(torch.nn, spelling.cell.kind)(sizes["x"], sizes["h"], len(layers), **settings)
    module.load_state_dict(tensors)
    return module


def _flat(tree: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield the values of nested dictionaries and lists by dotted names, as a parent and a key there.

    A repeated dictionary or list is visited once.
    """
    stack, visited = [("", [tree], 0)], set()
    while stack:
        path, parent, key = stack.pop()
        part = parent[key]
        if not isinstance(part, Mapping | list | tuple):
            yield path, parent, key
        elif id(part) not in visited:
            visited.add(id(part))
            items = part.items() if isinstance(part, Mapping) else enumerate(part)
            stack += [(f"{path}.{key}" if path else str(key), part, key) for key, _ in reversed([*items])]
