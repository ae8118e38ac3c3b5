# pyright: reportMissingImports=false, reportMissingModuleSource=false, reportAttributeAccessIssue=false
"""PyTorch's nn.LSTM and nn.LSTMCell: weight_ih (4H, D), weight_hh (4H, H) and two biases (4H,) in each layer.

Only the sum of the biases matters; but under plain gradient descent both move, and their sum twice as far as the
one bias of the reference. Projections (proj_size) are refused; a direction of a bidirectional LSTM is a stack of
its own, see `Dialect.find`.
"""

import io
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from issref.iss.layout import Params
from issref.training.checkpoint import write_whole
from issref.verify.frameworks.dialect import Arrays, Dialect, Layer
from issref.verify.frameworks.files import reading

GATES = ("input", "forget", "candidate", "output")
SPELLING = Dialect(
    "*_l#",
    {"weight_ih": (GATES, ("x",)), "weight_hh": (GATES, ("h",)), "bias_ih": (GATES,), "bias_hh": (GATES,)},
)
axes, layout = SPELLING.axes, SPELLING.layout
to_reference, from_reference = SPELLING.to_reference, SPELLING.from_reference


def arrays(state: Mapping[str, Any]) -> Params:
    """A state dict, alone or somewhere in a checkpoint's dictionaries, as arrays by dotted names.

    What is no tensor is left out; bfloat16, which NumPy lacks, becomes float32, exactly.
    """
    import torch

    found = {name: value.detach().cpu() for name, value in _flat(state) if isinstance(value, torch.Tensor)}
    return {name: (each.float() if each.dtype == torch.bfloat16 else each).numpy() for name, each in found.items()}


def build(arrays: Arrays):
    """One nn.LSTM if all layers are of one width, else an nn.ModuleList of an nn.LSTM for each layer.

    Compaction leaves widths unequal, which one nn.LSTM cannot have; then each module reads the output of the
    one before.
    """
    from torch import nn

    layers = SPELLING.find(arrays)
    if len({SPELLING.sizes(layer)["h"] for layer in layers}) == 1:
        return _lstm(layers)
    return nn.ModuleList([_lstm([layer]) for layer in layers])


def read(path: Path | str) -> Params:
    """The arrays of a .pt or .safetensors file: every tensor in it, under dotted names.

    Raises ValueError if the file is not there, is not whole, or, as a pickle, asks for more than tensors in
    dictionaries: such a file could run code, and torch.load(weights_only=True) refuses it.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path)
    if path.suffix == ".safetensors":
        with reading(path, "a whole safetensors file", SafetensorError):
            return arrays(load_file(path))
    with reading(path, "a whole file of torch.save", RuntimeError, EOFError, KeyError):
        try:
            return arrays(torch.load(path, map_location="cpu", weights_only=True))
        except pickle.UnpicklingError as error:
            raise ValueError(
                f"{path}: needs tensors in dictionaries, as of torch.save(model.state_dict(), ...), "
                "found what torch.load(weights_only=True) refuses"
            ) from error


def write(path: Path | str, arrays: Arrays) -> None:
    """The state dict of `build(arrays)`, as .safetensors if the path says so, else as of torch.save."""
    import torch
    from safetensors.torch import save

    state, buffer = build(arrays).state_dict(), io.BytesIO()
    if Path(path).suffix == ".safetensors":
        buffer.write(save(dict(state)))
    else:
        torch.save(state, buffer)
    write_whole(Path(path), buffer.getvalue())


def _lstm(layers: list[Layer]):
    import torch

    sizes = SPELLING.sizes(layers[0])
    tensors = {
        f"{array}_l{number}": torch.tensor(values)
        for number, layer in enumerate(layers)
        for array, values in layer.items()
    }
    lstm = torch.nn.LSTM(
        sizes["x"], sizes["h"], len(layers), bias="bias_ih" in layers[0], dtype=tensors["weight_ih_l0"].dtype
    )
    lstm.load_state_dict(tensors)
    return lstm


def _flat(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(tree, Mapping):
        yield path, tree
        return
    for key, part in tree.items():
        yield from _flat(part, f"{path}.{key}" if path else str(key))
