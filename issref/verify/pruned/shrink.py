"""Cut units out of the LSTM of a checkpoint: those that nothing reads, or all but those to keep."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from issref.iss.compact import Alive, keep_masks
from issref.iss.layout import Layout
from issref.models.ptb_lstm import spaces
from issref.training.checkpoint import from_json, read_whole, write_whole
from issref.verify.formats import files, hdf5_cut, names, onnx_cut, torch
from issref.verify.formats.cells import GRU, cell_of
from issref.verify.formats.convert import Checkpoint, load, naming, widths
from issref.verify.pruned import matching, pairs, readers
from issref.verify.pruned.compare import Report, report
from issref.verify.pruned.defects import Kept, Readout

CUTTERS = {
    ".pt": torch.cut, ".pth": torch.cut, ".onnx": onnx_cut.cut, ".keras": hdf5_cut.cut, ".h5": hdf5_cut.cut,
    ".safetensors": files.cut,
}  # fmt: skip
# The sizes in the user's code, for inputs d and units h; {d} and {h} are numbers.
SIZES = {
    "torch": "input_size={d}, hidden_size={h}",
    "keras": "units={h}",
    "flax": "features={h}, of NNX in_features={d}, hidden_features={h}",
    "tf1": "num_units={h}",
    "issref": "no change, widths come from the arrays",
    "onnx": "no change but of states that are fed, which have {h} columns",
}
INPUTS = {"torch": "in_features={h}", "flax": "in_features={h} of NNX"}  # of a reader


class Cut(NamedTuple):
    """Units to cut out of a checkpoint: masks of the units by layer, and the arrays that read the top layer."""

    found: Checkpoint
    alive: Alive
    readers: tuple[str, ...]


def shrink(
    source: Path | str,
    target: Path | str,
    keep: Mapping[str, Sequence[int]] | None = None,
    *,
    stack: str | None = None,
    reader: Sequence[str] = (),
    unrelated: Sequence[str] = (),
    overwrite: bool = False,
) -> tuple[Report, list[str]]:
    """Write a checkpoint with fewer units, and return a report on it and remarks for the user.

    `keep` are the units to keep of some layers, {"lstm0": [0, 2]}; without it, units are cut that no output
    depends on: what reads them is zero, or a cut unit. The matrices `reader` alone read the top layer; if none is
    named or known, the top layer is not cut. Other arrays are copied; names of those that may hold units of a
    cut layer must match one in `unrelated`, "embed*". The file has the source's format, and is written completely
    or not at all. Raises ValueError as `load` does, for layers that cannot have widths of their own, for arrays
    that may hold the units, and for units or a target that do not fit.
    """
    source, target = Path(source), Path(target)
    files.check_new(target, overwrite, source)
    if target.suffix != source.suffix:
        raise ValueError(
            f"{target}: expected a name that ends in {source.suffix}, as the source, got {target.suffix!r}"
        )
    found = load(source, stack)
    _check_separate(found)
    found = readers.without(found, unrelated, reader)
    chosen = tuple(reader) or readers.known(found)
    readout = readers.named(found, chosen) if chosen else None
    alive = _alive(found, readout) if keep is None else _kept(found, keep, readout)
    cut = Cut(found, alive, chosen)
    with naming(source):
        _check_explained(cut)
        content = _content(cut)
    judged = _report(cut, target, readout, content)
    write_whole(target, content)
    return judged, [*_remarks(cut, keep is None)]


def kept_units(path: Path) -> dict[str, list[int]]:
    """Return the units to keep in a JSON file. Raises ValueError if it holds something else."""
    text = read_whole(path, "a JSON file")
    try:
        keep = from_json(text)
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON, got something else ({error})") from error
    if not isinstance(keep, dict):
        raise ValueError(f'{path}: expected {{"lstm0": [0, 2, 3]}}, got {str(keep)[:60]}')
    return keep


def _check_separate(found: Checkpoint) -> None:
    """Raise ValueError if the file has other layers or directions in the same modules, which share one width."""
    others = names.places(found.rest, {array for layer in found.layers.values() for array in layer})
    starts, twins = {names.prefix(one) for one in found.layers}, {names.twin(one) for one in found.layers}
    if shared := [place for place in others if place in twins or names.prefix(place) in starts]:
        raise ValueError(
            f"{found.path}: expected all layers of a module and one direction, since they have one width, "
            f"got {found.stack} without {', '.join(shared)}"
        )


def _check_explained(cut: Cut) -> None:
    """Raise ValueError if another array may hold the units to cut. ONNX's graph shows what reads them."""
    smaller = {layer: len(mask) for layer, mask in cut.alive.items() if not mask.all()}
    if cut.found.framework != "onnx" and (why := readers.unexplained(cut.found, smaller, cut.readers)):
        raise ValueError(why)


def _alive(found: Checkpoint, readout: Readout | None) -> Alive:
    """Return the units of each layer on which an output depends; all where it is not known what reads them."""
    layers = matching.layers(found.params)
    read = np.ones(len(layers[-1].h), bool) if readout is None else readout.kernel.any(axis=1)
    alive = {}
    for number, name in reversed([*enumerate(spaces(found.params))]):
        alive[name] = mine = _reached(layers[number].h, np.asarray(read))
        below = layers[number].x[:, :, mine].any(axis=(1, 2))  # of lstm0, the input
        read = np.ones(len(below), bool) if found.assumed else below
    return dict(reversed(alive.items()))


def _reached(weights: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """Return the units that are alive, or that such a unit reads by recurrent weights; the first if none is."""
    while (grown := np.logical_or(alive, weights[:, :, alive].any(axis=(1, 2)))).sum() > alive.sum():
        alive = grown
    return alive if alive.any() else np.arange(len(alive)) == 0


def _kept(found: Checkpoint, keep: Mapping[str, Sequence[int]], readout: Readout | None) -> Alive:
    """Return masks of the units to keep. Raises ValueError for others than the file has."""
    layers = zip(spaces(found.params), widths(found.params)[1:], strict=True)
    alive = {layer: np.ones(units, bool) for layer, units in layers}
    for layer, units in keep.items():
        if layer not in alive:
            raise ValueError(f"{found.path}: keep: expected layers of {[*alive]}, got {layer!r}")
        size = len(alive[layer])
        whole = isinstance(units, list | tuple) and all(type(one) is int and 0 <= one < size for one in units)
        if not whole or not units or len({*units}) < len(units):
            wanted = f"different units of 0 to {size - 1} of {layer}, at least one"
            raise ValueError(f"{found.path}: keep: expected {wanted}, got {str(units)[:60]}")
        alive[layer] = np.isin(np.arange(size), units)
    if readout is None and not alive[layer := [*alive][-1]].all():
        wanted = f"the array that alone reads {layer}, of {readers.candidates(found)[:8]}"
        raise ValueError(f"{found.path}: reader: expected {wanted}, got none")
    return alive


def _content(cut: Cut) -> bytes:
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
    return CUTTERS[found.path.suffix](found.path, keep, _renamed(cut)) if keep else found.path.read_bytes()


def _layout(cut: Cut) -> Layout:
    """Return the layout of all arrays to cut: of the LSTM and its readers."""
    axes, sizes, top = dict(cut.found.layout.axes), dict(cut.found.layout.sizes), [*cut.alive][-1]
    for name in cut.readers:
        by_row = ((top,), (f"{name} outputs",))
        axes[name] = by_row[::-1] if readers.reads_columns(name) else by_row
        sizes[f"{name} outputs"] = cut.found.rest[name].shape[not readers.reads_columns(name)]
    return Layout(axes, sizes)


def _renamed(cut: Cut) -> dict[str, str]:
    """Return new names for the layers of one nn.LSTM that now differ in width, as in an nn.ModuleList."""
    starts, renamed = {names.prefix(place) for place in cut.found.layers}, {}
    if cut.found.framework != "torch" or len(starts) > 1 or len({mask.sum() for mask in cut.alive.values()}) == 1:
        return {}
    (start,) = starts
    for number, layer in enumerate(cut.found.layers.values()):
        for name in layer.values():
            for source in cut.found.sources[name]:
                end = source.removeprefix(start)
                renamed[source] = f"{start}{number}.{re.sub(rf'_l{number}(?=_|$)', '_l0', end)}"
    return renamed


def _report(cut: Cut, target: Path, readout: Readout | None, content: bytes) -> Report:
    """Compare the outputs of the checkpoint and of the smaller one, read from its content."""
    others = {name: cut.found.rest[name] for name in cut.readers}  # none of the rest holds the units
    found, stack = cut.found._replace(rest=others), cut.found.stack
    if _renamed(cut):
        stack = names.prefix(stack) + "#.*_l#"
    with TemporaryDirectory() as folder:
        written = Path(folder) / target.name
        written.write_bytes(content)
        after = load(written, stack)
    pair = pairs.alike(found, after, readout and (readout, readers.named(after, cut.readers)))
    units = np.arange(widths(found.params)[0]), *map(np.flatnonzero, cut.alive.values())
    kept = [Kept(each, set()) for each in units]
    return report(found, after._replace(path=target, notes=()), pair, kept, pairs.removed_reads(pair, kept))


def _remarks(cut: Cut, dead: bool) -> Iterator[str]:
    """Yield what changes in the user's code, what was assumed, what was not cut, and why."""
    smaller = {layer: mask for layer, mask in cut.alive.items() if not mask.all()}
    yield from (f"change     {text}" for text in _changes(cut, smaller)) if smaller else ("change     none",)
    *lower, top = cut.alive
    if smaller:
        reading = ["the next layer"] * bool(smaller.keys() & {*lower}) + [*cut.readers] * (top in smaller)
        only = f"besides {' and '.join(reading)}, nothing reads the units of {' and '.join(smaller)}"
        yield f"assumed    {only} or their final states"
    if dead and cut.found.assumed:
        how = f"--stack '{cut.found.stack}' confirms the chain"
        yield f"not cut    {', '.join(lower)}: that only the next layer reads it is assumed; {how}"
    if dead and not cut.readers:
        names = ", ".join(readers.candidates(cut.found)[:8]) or "none of the right width"
        yield f"not cut    {top}: what reads it is not known; --reader NAME ({names}) names all arrays that do"
    yield from (
        f"note       {layer}: one unit is left, the fewest" for layer, mask in smaller.items() if mask.sum() == 1
    )
    yield "copied     all other arrays"


def _changes(cut: Cut, smaller: Alive) -> Iterator[str]:
    """Yield the new sizes of the modules in the user's code."""
    found, sizes = cut.found, [widths(cut.found.params)[0], *(int(mask.sum()) for mask in cut.alive.values())]
    modules = [names.prefix(place).rstrip("/.") or "LSTM" for place in found.layers]
    if renamed := _renamed(cut):
        parts = ", ".join(f"nn.{cell_of(found.params).kind}({d}, {h})" for d, h in pairwise(sizes))
        names_now = f"each reads the one before, as {next(iter(renamed.values()))}"
        yield f"{modules[0]}: nn.ModuleList([{parts}]), in which {names_now}"
    elif found.framework == "torch" and len({*modules}) == 1:
        yield f"{modules[0]}: hidden_size={sizes[-1]}"
    else:
        for module, new, old in zip(modules, pairwise(sizes), pairwise(widths(found.params)), strict=True):
            if new != old:
                yield f"{module}: {SIZES[found.framework].format(d=new[0], h=new[1])}"
    if found.framework in INPUTS and [*cut.alive][-1] in smaller:
        yield from (f"{name}: {INPUTS[found.framework].format(h=sizes[-1])}" for name in cut.readers)
