"""A checkpoint with units cut out of its LSTM and of the arrays that read it: the content of the smaller file."""

import re
from typing import NamedTuple

import numpy as np

from issref.iss.compact import Alive, keep_masks
from issref.iss.layout import Layout
from issref.verify.formats import files, hdf5_cut, names, onnx_cut, torch
from issref.verify.formats.cells import GRU, cell_of
from issref.verify.formats.convert import Checkpoint
from issref.verify.pruned import readers

CUTTERS = {
    ".pt": torch.cut, ".pth": torch.cut, ".onnx": onnx_cut.cut, ".keras": hdf5_cut.cut, ".h5": hdf5_cut.cut,
    ".safetensors": files.cut,
}  # fmt: skip


class Cut(NamedTuple):
    """Units to cut out of a checkpoint: masks of the units by layer, and the arrays that read the top layer."""

    found: Checkpoint
    alive: Alive
    readers: tuple[str, ...]


def content(cut: Cut) -> bytes:
    """Return the content of the smaller file."""
    found, layout = cut.found, _layout(cut)
    every = {name: keep_masks(layout, name, cut.alive) for name in layout.axes}
    if found.framework == "keras" and cell_of(found.params) == GRU:  # rows of two biases
        every |= {
            name: (np.ones(2, bool), mask[: len(mask) // 2])
            for name, (mask, *more) in every.items()
            if name.endswith("bias") and not more
        }
    keep = {
        source: masks
        for name, masks in every.items()
        if not all(mask.all() for mask in masks)
        for source in found.sources.get(name, (name,))
    }
    if not keep and found.path.suffix != ".onnx":  # which may keep arrays in files of its own
        return found.path.read_bytes()
    return CUTTERS[found.path.suffix](found.path, keep, renamed(cut))


def _layout(cut: Cut) -> Layout:
    """Return the layout of all arrays to cut: of the LSTM and its readers."""
    axes, sizes, top = dict(cut.found.layout.axes), dict(cut.found.layout.sizes), [*cut.alive][-1]
    for name in cut.readers:
        by_row = ((top,), (f"{name} outputs",))
        axes[name] = by_row[::-1] if readers.reads_columns(name) else by_row
        sizes[f"{name} outputs"] = cut.found.rest[name].shape[not readers.reads_columns(name)]
    return Layout(axes, sizes)


def renamed(cut: Cut) -> dict[str, str]:
    """Return new names for the layers of one nn.LSTM that now differ in width, as in an nn.ModuleList."""
    starts, new = {names.prefix(place) for place in cut.found.layers}, {}
    if cut.found.framework != "torch" or len(starts) > 1 or len({mask.sum() for mask in cut.alive.values()}) == 1:
        return {}
    (start,) = starts
    for number, layer in enumerate(cut.found.layers.values()):
        for name in layer.values():
            for source in cut.found.sources[name]:
                end = source.removeprefix(start)
                new[source] = f"{start}{number}.{re.sub(rf'_l{number}(?=_|$)', '_l0', end)}"
    return new
