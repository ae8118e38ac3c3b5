"""The reasons of a verdict on a pruned LSTM, and of an undecided one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from issref.verify.formats.convert import Checkpoint
from issref.verify.pruned import readers
from issref.verify.pruned.cut import Cut, content
from issref.verify.pruned.defects import Readout
from issref.verify.pruned.matching import spell

Readouts = tuple[Readout, Readout | None] | None


def basis(before: Checkpoint, after: Checkpoint, layers: Sequence[Mapping[str, Any]], readouts: Readouts) -> str:
    """Describe the outputs that were compared."""
    only = ""
    if (changed := [each["layer"] for each in layers[:-1] if _changed(each)]) and not readers.known(before):
        only = f"; assumed: only the next layer reads {', '.join(changed)}, and nothing its final states"
    if readouts is None:
        return f"{'the kept' if layers[-1]['removed'] else 'all'} units of the top layer{only}"
    old, new = readouts
    if new is None:
        kept = "the kept units of the top layer"
        return f"{kept}, and which of it {old.name}, its only reader, reads in BEFORE{only}"
    names = old.name if old.name == new.name else f"{old.name} and {new.name}"
    return f"the outputs of {names}{_lacking(before, after, old, new)}, as the only reader of the top layer{only}"


def doubt(before: Checkpoint, layers: Sequence[Mapping[str, Any]], readouts: Readouts) -> str:
    """Return why units of a layer may have been read by something that the files do not show; "" if not."""
    *lower, top = layers
    if before.assumed and (changed := [layer["layer"] for layer in lower if _changed(layer)]):
        return (
            f"the kept units are the same, but that only the next layer reads {', '.join(changed)} is assumed: "
            f"--stack '{before.stack}' confirms the chain"
        )
    named = readouts[0].names if readouts else ()
    unknown = [] if named or not _changed(top) else readers.candidates(before)
    why = [_unread(top, readouts, unknown), _elsewhere(before, layers, named, unknown)]
    return f"the kept units are the same, but {'; '.join(filter(None, why))}" if any(why) else ""


def _changed(layer: Mapping[str, Any]) -> bool:
    """Return whether units were removed, or are in another order."""
    return layer["kept"] != [*range(layer["before"])]


def _unread(top: Mapping[str, Any], readouts: Readouts, unknown: Sequence[str]) -> str:
    """Say what about the reader of the top layer is not known; "" if nothing is missing."""
    choice = f" ({', '.join(unknown[:8])})" if unknown else ""
    ask = f"--reader NAME{choice} names all arrays that do"
    if top["removed"] and not readouts:
        return f"what read units {spell(top['removed'])} of {top['layer']} is not known; {ask}"
    if top["kept"] == sorted(top["kept"]) or (readouts and readouts[1]):
        return ""
    if readouts:
        ask = f"--reader-after NAME names what {readouts[0].name} is called there"
    return f"whether what reads {top['layer']} in AFTER follows the new order of its units is not known; {ask}"


def _elsewhere(
    before: Checkpoint, layers: Sequence[Mapping[str, Any]], named: Sequence[str], unknown: Sequence[str]
) -> str:
    """Describe the other arrays that may hold units that were removed or moved; "" if none does."""
    widths = {layer["layer"]: layer["before"] for layer in layers if _changed(layer)}
    moved = any(layer["kept"] != sorted(layer["kept"]) for layer in layers)
    seen = _seen(before, layers, named) if before.framework == "onnx" else ""
    if before.framework == "onnx" and not moved:
        return seen
    return seen or readers.unexplained(before, widths, [*named, *unknown])


def _lacking(before: Checkpoint, after: Checkpoint, old: Readout, new: Readout) -> str:
    """Say for which readers no bias was found by name, and so none was compared."""
    lacking = {
        name
        for found, one in ((before, old), (after, new))
        for name in one.names
        if not readers.has_bias(found, name)
    }
    return f" (no bias was found for {', '.join(sorted(lacking))})" if lacking else ""


def _seen(before: Checkpoint, layers: Sequence[Mapping[str, Any]], named: Sequence[str]) -> str:
    """Describe what else reads the removed units in the graph of an ONNX file; "" if nothing does."""
    if layers[-1]["removed"] and not named:
        return ""
    alive = {one["layer"]: ~np.isin(np.arange(one["before"]), one["removed"]) for one in layers}
    try:
        content(Cut(before, alive, tuple(named)))
    except ValueError as error:
        return str(error)
    return ""
