"""The reasons of a verdict on a pruned LSTM, and of an undecided one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from issref.verify.formats.convert import Checkpoint
from issref.verify.pruned import readers
from issref.verify.pruned.cut import Cut, content
from issref.verify.pruned.defects import Readout
from issref.verify.pruned.matching import spell


def basis(
    before: Checkpoint, layers: Sequence[Mapping[str, Any]], readouts: tuple[Readout, Readout | None] | None
) -> str:
    """Describe the outputs that were compared."""
    only = ""
    if (cut := [layer["layer"] for layer in layers[:-1] if layer["removed"]]) and not readers.known(before):
        only = f"; assumed: only the next layer reads {', '.join(cut)}, and nothing its final states"
    if readouts is None:
        return f"{'the kept' if layers[-1]['removed'] else 'all'} units of the top layer{only}"
    old, new = readouts
    if new is None:
        kept = "the kept units of the top layer"
        return f"{kept}, and which of it {old.name}, its only reader, reads in BEFORE{only}"
    names = old.name if old.name == new.name else f"{old.name} and {new.name}"
    return f"the outputs of {names}, as the only reader of the top layer{only}"


def doubt(before: Checkpoint, layers: Sequence[Mapping[str, Any]], named: Sequence[str]) -> str:
    """Return why units of a layer may have been read by something that the files do not show; "" if not.

    The matrices `named` read the top layer.
    """
    *lower, top = layers
    if before.assumed and (cut := [layer["layer"] for layer in lower if layer["removed"]]):
        return (
            f"the kept units are the same, but that only the next layer reads {', '.join(cut)} is assumed: "
            f"--stack '{before.stack}' confirms the chain"
        )
    unknown = [] if named or not top["removed"] else readers.candidates(before)
    choice = f" ({', '.join(unknown[:8])})" if unknown else ""
    read = (
        f"what read units {spell(top['removed'])} of {top['layer']} is not known; "
        f"--reader NAME{choice} names all arrays that do"
    )
    cut = {layer["layer"]: layer["before"] for layer in layers if layer["removed"]}
    others = _seen(before, layers, named) if before.framework == "onnx" else ""
    if before.framework != "onnx":
        others = readers.unexplained(before, cut, [*named, *unknown])
    why = "; ".join([read] * bool(top["removed"] and not named) + [others] * bool(others))
    return f"the kept units are the same, but {why}" if why else ""


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
