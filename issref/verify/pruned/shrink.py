"""Cut units out of the LSTM of a checkpoint: those that nothing reads, or all but those to keep."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from issref.iss.compact import Alive
from issref.models.ptb_lstm import spaces
from issref.training.checkpoint import from_json, read_whole, write_whole
from issref.verify.formats import files, names
from issref.verify.formats.cells import Several, cell_of
from issref.verify.formats.convert import Checkpoint, load, naming, widths
from issref.verify.pruned import matching, pairs, readers
from issref.verify.pruned.compare import Report, report
from issref.verify.pruned.cut import Cut, content, renamed
from issref.verify.pruned.defects import Kept, Readout

# The sizes in the user's code, for inputs d and units h; {d} and {h} are numbers.
SIZES = {
    "torch": "input_size={d}, hidden_size={h}",
    "keras": "units={h}",
    "flax": "features={h}, of NNX in_features={d}, hidden_features={h}",
    "tf1": "num_units={h}",
    "issref": "no change, widths come from the arrays",
    "onnx": "no change; states fed to it alone, and its final states, have {h} columns; other initial states stay",
}
INPUTS = {"torch": "in_features={h}", "flax": "in_features={h} of NNX"}  # of a reader


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
    found = _load(source, stack)
    _check_separate(found)
    found = readers.without(found, unrelated, reader)
    chosen = tuple(reader) or readers.known(found)
    readout = readers.named(found, chosen) if chosen else None
    alive = _alive(found, readout) if keep is None else _kept(found, keep, readout)
    cut = Cut(found, alive, chosen)
    with naming(source):
        written = content(cut)
        _check_explained(cut)
    judged = _report(cut, target, readout, written)
    write_whole(target, written)
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


def _load(source: Path, stack: str | None) -> Checkpoint:
    """Load the checkpoint. Raises ValueError as `load`, but does not advise to choose one of two directions."""
    try:
        return load(source, stack)
    except ValueError as error:
        found = error.__cause__.stacks if isinstance(error.__cause__, Several) else []
        if not (both := [one for one in found if names.twin(one) in found]):
            raise
        others = [one for one in found if one not in both]
        choice = f" (--stack for one of {others})" if others else ""
        wanted = f"an LSTM or GRU of one direction{choice}"
        why = "which have one width and are not cut"
        raise ValueError(f"{source}: expected {wanted}, got both directions of {both}, {why}") from error


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


def _report(cut: Cut, target: Path, readout: Readout | None, content: bytes) -> Report:
    """Compare the outputs of the checkpoint and of the smaller one, read from its content."""
    others = {name: cut.found.rest[name] for name in cut.readers}  # none of the rest holds the units
    found, stack = cut.found._replace(rest=others), cut.found.stack
    if renamed(cut):
        stack = names.prefix(stack) + "#.*_l#"
    with TemporaryDirectory() as folder:
        written = Path(folder) / target.name
        written.write_bytes(content)
        try:
            after = load(written, stack)
        except ValueError as error:
            raise ValueError(str(error).replace(str(written), str(target))) from error
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
    if cut.found.framework != "onnx":  # whose graph shows it
        yield from _assumed(cut, {layer: len(mask) for layer, mask in smaller.items()})
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


def _assumed(cut: Cut, smaller: Mapping[str, int]) -> Iterator[str]:
    """Yield what was assumed of other matrices, whose widths do not decide what they read."""
    top = [*cut.alive][-1]
    if others := readers.assumed(cut.found, smaller, cut.readers):
        verb, which = ("reads" if len(others) == 1 else "read"), " and ".join(smaller)
        yield f"assumed    {', '.join(others)} {verb} {top}, not {which}, though the widths fit"
    for name in cut.readers if top in smaller and not readers.known(cut.found) else ():
        if len({*cut.found.rest[name].shape}) == 1:
            yield f"assumed    {name} reads along axis {int(readers.reads_columns(name))}, by its name"


def _changes(cut: Cut, smaller: Alive) -> Iterator[str]:
    """Yield the new sizes of the modules in the user's code."""
    found, sizes = cut.found, [widths(cut.found.params)[0], *(int(mask.sum()) for mask in cut.alive.values())]
    modules = [names.prefix(place).rstrip("/.") or "LSTM" for place in found.layers]
    if others := renamed(cut):
        parts = ", ".join(f"nn.{cell_of(found.params).kind}({d}, {h})" for d, h in pairwise(sizes))
        names_now = f"each reads the one before, as {next(iter(others.values()))}"
        yield f"{modules[0]}: nn.ModuleList([{parts}]), in which {names_now}"
    elif found.framework == "torch" and len({*modules}) == 1:
        yield f"{modules[0]}: hidden_size={sizes[-1]}"
    else:
        for module, new, old in zip(modules, pairwise(sizes), pairwise(widths(found.params)), strict=True):
            if new != old:
                yield f"{module}: {SIZES[found.framework].format(d=new[0], h=new[1])}"
    if found.framework in INPUTS and [*cut.alive][-1] in smaller:
        for name in cut.readers:
            size = "input_size={h}" if readers.recurrent(name) else INPUTS[found.framework]
            yield f"{name}: {size.format(h=sizes[-1])}"
