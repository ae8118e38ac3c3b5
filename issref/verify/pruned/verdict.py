"""The reasons of a verdict on a pruned LSTM, and of an undecided one."""

from collections.abc import Mapping, Sequence
from typing import Any

from issref.verify.formats.convert import Checkpoint
from issref.verify.pruned import readers
from issref.verify.pruned.defects import Readout
from issref.verify.pruned.matching import spell


def basis(layers: Sequence[Mapping[str, Any]], readouts: tuple[Readout, Readout | None] | None) -> str:
    """Describe the outputs that were compared."""
    if readouts is None:
        return f"{'the kept' if layers[-1]['removed'] else 'all'} units of the top layer"
    old, new = readouts
    if new is None:
        return f"the kept units of the top layer, and which of it {old.name}, its only reader, reads in BEFORE"
    names = old.name if old.name == new.name else f"{old.name} and {new.name}"
    return f"the outputs of {names}, as the only reader of the top layer"


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
    others = readers.unexplained(before, cut, [*named, *unknown])
    why = "; ".join([read] * bool(top["removed"] and not named) + [others] * bool(others))
    return f"the kept units are the same, but {why}" if why else ""
