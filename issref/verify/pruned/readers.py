"""Find what reads the top layer of an LSTM: the array that the user names, or that of issref's own models.

A file does not show what its other arrays do: every one that may hold units to cut must be named by the user.
"""

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np

from issref.models.ptb_lstm import spaces
from issref.verify.formats import tf1
from issref.verify.formats.cells import GRU
from issref.verify.formats.convert import Checkpoint, widths
from issref.verify.formats.dialect import REFERENCE, reference
from issref.verify.pruned.defects import Readout

# Endings of the names of a matrix and its bias; of matrices that read along axis 1.
BIASES = {"weight": "bias", "weights": "biases", "kernel": "bias", "softmax_w": "softmax_b", "vars/0": "vars/1"}
_COLUMNS = re.compile(
    r"(?:^|\.)(?:(?:\w+_)?weight(?:_ih(?:_l\w+)?|_l\w+|_orig|_mask|_raw|_v)?|W|weight\.original[01]?)$"
)
_ENDS = (1, 2, 3, 4)  # copies of the units end to end: both directions; queries, keys and values; gates


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
        tuple(names),
        np.concatenate([one.kernel for one in maps], axis=1),
        np.concatenate([one.bias for one in maps]),
    )


def known(found: Checkpoint) -> tuple[str, ...]:
    """Return the reader's name if the file holds a language model of issref or of the released code, else none."""
    model = MODELS.get(found.framework)
    if model is None or not found.stack.endswith(model.places):
        return ()
    prefix = next(found.stack.removesuffix(place) for place in model.places if found.stack.endswith(place))
    names = {name.removeprefix(prefix) for name in found.rest if name.startswith(prefix)}
    return (prefix + model.reader,) if model.reader in names and names <= model.others else ()


def candidates(found: Checkpoint) -> list[str]:
    """Return the names of the matrices that fit the top layer."""
    return sorted(name for name, values in found.rest.items() if _fits(name, values, widths(found.params)[-1]))


def without(found: Checkpoint, unrelated: Sequence[str], named: Sequence[str]) -> Checkpoint:
    """Return a checkpoint without arrays whose names match a pattern, but with the readers `named`.

    Raises ValueError if no name matches a pattern.
    """
    for pattern in unrelated:
        if not any(fnmatchcase(name, pattern) for name in found.rest):
            wanted = f"names or patterns of {', '.join([*found.rest][:8]) or 'other arrays'}"
            raise ValueError(f"{found.path}: unrelated: expected {wanted}, got {pattern!r}")
    rest = {
        name: values
        for name, values in found.rest.items()
        if name in named or not any(fnmatchcase(name, one) for one in unrelated)
    }
    return found._replace(rest=rest)


def unexplained(found: Checkpoint, cut: Mapping[str, int], named: Sequence[str]) -> str:
    """Describe the other arrays that may hold units of the layers to cut, given with their widths; "" if none.

    An axis as long as a layer, or up to 4 times as long, may hold its units, unless the array is a reader in
    `named`, or belongs to a model that is known. If the top layer is not cut, a matrix that may read it is no such
    array.
    """
    layers, lengths = " and ".join(cut), _lengths(cut)
    explained = {*named, *map(bias_of, named), *assumed(found, cut, named)}
    for reader in known(found):
        start = reader.removesuffix(MODELS[found.framework].reader)
        explained |= {name for name in found.rest if name.startswith(start)}
    left = [
        f"{name} {values.shape}"
        for name, values in sorted(found.rest.items())
        if lengths.intersection(values.shape) and name not in explained
    ]
    if not left or (known(found) and found.framework == "issref"):  # beside its params, training holds moments
        return ""
    more = f" and {len(left) - 8} more" * (len(left) > 8)
    return (
        f"expected --reader or --unrelated for each array with an axis of 1 to {_ENDS[-1]} times the units of "
        f"{layers}, got neither for {', '.join(left[:8])}{more}; units under a normalisation, in a sum or in tied "
        "weights cannot be cut without a change of the outputs"
    )


def assumed(found: Checkpoint, cut: Mapping[str, int], named: Sequence[str]) -> list[str]:
    """Return the matrices that may hold units to cut, but are taken to read the top layer, which is not cut."""
    others = candidates(found) if spaces(found.params)[-1] not in cut else []
    return [name for name in others if name not in named and _lengths(cut).intersection(found.rest[name].shape)]


def _lengths(cut: Mapping[str, int]) -> set[int]:
    return {width * ends for width in cut.values() for ends in _ENDS}


def read(found: Checkpoint, name: str) -> Readout:
    """Return the linear map of this name. Raises ValueError if there is none, or if it misfits the top layer."""
    values, units = found.rest.get(name), widths(found.params)[-1]
    if values is None:
        raise ValueError(f"{found.path}: reader: expected one of {candidates(found)[:8]}, got {name!r}")
    if not _fits(name, values, units):
        axis = int(reads_columns(name))
        which = f"an axis of {units}, the units of the top layer, as axis {axis}, along which this name reads"
        wanted = f"a matrix of floating point numbers with {which}"
        raise ValueError(f"{found.path}: {name}: expected {wanted}, got {values.dtype} of shape {values.shape}")
    kernel = values.T if reads_columns(name) else values
    bias = found.rest[bias_of(name)] if has_bias(found, name) else np.zeros(kernel.shape[1], kernel.dtype)
    if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
        raise ValueError(f"{found.path}: expected finite numbers in {name} and its bias, got others")
    return Readout((name,), kernel, bias)


def has_bias(found: Checkpoint, name: str) -> bool:
    """Return whether a bias that fits the matrix is stored under a name like its own."""
    bias = found.rest.get(bias_of(name))
    return bias is not None and bias.shape == (found.rest[name].shape[1 - reads_columns(name)],)


def recurrent(name: str) -> bool:
    """Return whether the name is that of the input weights of a recurrent layer in PyTorch."""
    return re.search(r"weight_ih(_l\d+)?(_reverse)?$", name) is not None


def bias_of(name: str) -> str:
    """Return the name of the bias of a matrix; "" if its own does not tell."""
    return next((name.removesuffix(end) + bias for end, bias in BIASES.items() if name.endswith(end)), "")


def _fits(name: str, values: np.ndarray, units: int) -> bool:
    return values.ndim == 2 and values.shape[reads_columns(name)] == units and values.dtype.kind == "f"


def reads_columns(name: str) -> bool:
    """Return whether a matrix of this name reads along axis 1, as PyTorch's do."""
    return _COLUMNS.search(name.replace("/", ".")) is not None
