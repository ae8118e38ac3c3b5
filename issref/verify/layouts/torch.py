"""PyTorch: nn.Embedding, nn.Linear, nn.LSTM, nn.GRU, nn.RNN. A matrix reads along axis 1."""

from typing import Any

from issref.iss.layout import Axis, Params
from issref.verify.formats.torch import arrays
from issref.verify.layouts.plain import GATES, Described, elementwise, kind

READS = 1


def read(name: str, layer: Any) -> Params:
    """Return the arrays of a layer by the names of a state dict: "lstm.weight_ih_l0"."""
    dot = f"{name}." if name else ""
    return arrays({f"{dot}{key}": values for key, values in layer.state_dict().items()})


def describe(name: str, layer: Any, inputs: Axis, last: bool) -> Described | None:
    """Return the axes of a layer's arrays, None if they are unknown."""
    dot, units = f"{name}." if name else "", name or "units"
    match kind(layer):
        case "Embedding" if layer.max_norm is None:  # a norm reads all components
            return Described({f"{dot}weight": ((f"{units} word",), (units,))}, (units,))
        case "Linear":
            bias = {f"{dot}bias": ((f"~{units}",),)} if layer.bias is not None else {}
            return Described({f"{dot}weight": ((units,), inputs), **bias}, (units,))
        case "LSTM" | "GRU" | "RNN":
            return _recurrent(dot, units, layer, inputs)
        case other:
            return Described({}, inputs) if elementwise(other, last) else None


def _recurrent(dot: str, units: str, layer: Any, inputs: Axis) -> Described:
    axes, gates = {}, GATES[kind(layer)]
    for number in range(layer.num_layers):
        outputs = ()
        for suffix in (f"_l{number}", f"_l{number}_reverse")[: 1 + layer.bidirectional]:
            cells = output = f"{units}{suffix}"
            if layer.proj_size:
                output = f"{cells} projected"
                axes[f"{dot}weight_hr{suffix}"] = ((output,), (cells,))
            axes[f"{dot}weight_ih{suffix}"] = (gates * (cells,), inputs)
            axes[f"{dot}weight_hh{suffix}"] = (gates * (cells,), (output,))
            if layer.bias:
                axes |= {f"{dot}bias_{which}{suffix}": (gates * (f"~{cells}",),) for which in ("ih", "hh")}
            outputs += (output,)
        inputs = outputs
    return Described(axes, inputs)
