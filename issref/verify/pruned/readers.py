"""Find what reads the top layer of an LSTM: the array that the user names, or that of issref's own models."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from issref.verify.formats import tf1
from issref.verify.formats.cells import GRU
from issref.verify.formats.convert import Checkpoint, widths
from issref.verify.formats.dialect import REFERENCE, reference
from issref.verify.pruned.defects import Readout

# Endings of the names of a matrix and its bias; of matrices that read along axis 1.
BIASES = {"weight": "bias", "kernel": "bias", "softmax_w": "softmax_b", "vars/0": "vars/1"}
_COLUMNS = ("weight", "weight_ih", "W")


class Model(NamedTuple):
    """A model whose program is known: places of its layers, the reader of the top one, and all other arrays."""

    places: tuple[str, ...]
    reader: str
    others: frozenset[str]


MODELS = {
    "issref": Model(
        (REFERENCE.place, reference(GRU).place),
        "softmax/kernel",
        frozenset(("embed/kernel", "softmax/kernel", "softmax/bias")),
    ),
    "tf1": Model(
        (tf1.SPELLING.place,),
        "Model/softmax_w",
        frozenset(("Model/embedding", "Model/softmax_w", "Model/softmax_b")),
    ),
}


def named(found: Checkpoint, names: Sequence[str]) -> Readout:
    """Return the linear maps of these names as one, side by side. Raises ValueError as `read`."""
    maps = [read(found, name) for name in names]
    return Readout(
        " and ".join(names),
        np.concatenate([one.kernel for one in maps], axis=1),
        np.concatenate([one.bias for one in maps]),
    )


def known(found: Checkpoint) -> str | None:
    """Return the reader's name if the file holds a language model of issref or of the released code, else None."""
    model = MODELS.get(found.framework)
    if model is None or not found.stack.endswith(model.places):
        return None
    prefix = next(found.stack.removesuffix(place) for place in model.places if found.stack.endswith(place))
    names = {name.removeprefix(prefix) for name in found.rest if name.startswith(prefix)}
    return prefix + model.reader if model.reader in names and names <= model.others else None


def candidates(found: Checkpoint) -> list[str]:
    """Return the names of the matrices that fit the top layer."""
    return sorted(name for name, values in found.rest.items() if _fits(name, values, widths(found.params)[-1]))


def others(found: Checkpoint) -> list[str]:
    """Return the names of vectors with an entry for each unit of the top layer, as of a normalisation."""
    return sorted(name for name, values in found.rest.items() if values.shape == (widths(found.params)[-1],))


def read(found: Checkpoint, name: str) -> Readout:
    """Return the linear map of this name. Raises ValueError if there is none, or if it misfits the top layer."""
    values, units = found.rest.get(name), widths(found.params)[-1]
    if values is None:
        raise ValueError(f"{found.path}: reader: expected one of {candidates(found)[:8]}, got {name!r}")
    if not _fits(name, values, units):
        wanted = f"a matrix of floating point numbers with an axis of {units}, the units of the top layer"
        raise ValueError(f"{found.path}: {name}: expected {wanted}, got {values.dtype} of shape {values.shape}")
    kernel = values.T if reads_columns(name) else values
    ends = [end for end in BIASES if name.endswith(end)]
    bias = found.rest.get(name.removesuffix(ends[0]) + BIASES[ends[0]]) if ends else None
    bias = bias if bias is not None and bias.shape == kernel.shape[1:] else np.zeros(kernel.shape[1], kernel.dtype)
    if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
        raise ValueError(f"{found.path}: expected finite numbers in {name} and its bias, got others")
    return Readout(name, kernel, bias)


def _fits(name: str, values: np.ndarray, units: int) -> bool:
    return values.ndim == 2 and values.shape[reads_columns(name)] == units and values.dtype.kind == "f"


def reads_columns(name: str) -> bool:
    """Return whether a matrix of this name reads along axis 1, as PyTorch's do."""
    ending = name.replace("/", ".").rpartition(".")[2]
    return ending.partition("_l")[0] in _COLUMNS
