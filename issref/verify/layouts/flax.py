# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
"""Flax NNX: Embed, Linear, RNN of an LSTM or GRU cell, Bidirectional. A matrix reads along axis 0."""

from typing import Any

import numpy as np

from issref.iss.layout import Axis, Params
from issref.verify.layouts.plain import GATES, Described, elementwise, end_to_end, kind

READS = 0


def read(name: str, layer: Any) -> Params:
    """Return the arrays of a layer by path: "layers/1/cell/dense_i/kernel"."""
    from flax import nnx

    state = nnx.state(layer, nnx.Param) if isinstance(layer, nnx.Module) else {}
    found = nnx.to_flat_state(state) if state else ()
    return {"/".join(map(str, (*filter(None, [name]), *path))): np.asarray(value[...]) for path, value in found}


def describe(name: str, layer: Any, inputs: Axis, last: bool) -> Described | None:
    """Return the axes of a layer's arrays, None if they are unknown."""
    slash, units = f"{name}/" if name else "", name or "units"
    match kind(layer):
        case "Bidirectional" if layer.merge_fn is type(layer).__init__.__kwdefaults__["merge_fn"]:
            ways = ("forward_rnn", "backward_rnn")
            return end_to_end([describe(f"{slash}{way}", getattr(layer, way), inputs, last) for way in ways])
        case "Embed":
            return Described({f"{slash}embedding": ((f"{units} word",), (units,))}, (units,))
        case "Linear":
            bias = {f"{slash}bias": ((f"~{units}",),)} if layer.use_bias else {}
            return Described({f"{slash}kernel": (inputs, (units,)), **bias}, (units,))
        case "RNN" if kind(layer.cell) in GATES:
            return _cell(f"{slash}cell/", layer.cell, units, inputs)
        case other:
            return Described({}, inputs) if elementwise(other, last) else None


def _cell(slash: str, cell: Any, units: str, inputs: Axis) -> Described | None:
    """Return the axes of a cell: maps from the input begin with "i" or "dense_i", from the output with "h"."""
    gates = GATES[kind(cell)] if hasattr(cell, "dense_i") else 1
    axes = {}
    for array in read("", cell):
        source = (units,) if array.removeprefix("dense_").startswith("h") else inputs
        axes[slash + array] = (source, gates * (units,)) if array.endswith("kernel") else (gates * (f"~{units}",),)
    functions = (getattr(cell, name) for name in ("gate_fn", "activation_fn"))
    return Described(axes, (units,)) if all(elementwise(kind(one), False) for one in functions) else None
