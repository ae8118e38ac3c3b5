# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
"""Keras: Embedding, Dense, LSTM, GRU, SimpleRNN, Bidirectional. A matrix reads along axis 0."""

from typing import Any

from issref.iss.layout import Axis, Params
from issref.verify.layouts.plain import GATES, Described, elementwise, end_to_end, kind

READS = 0


def read(name: str, layer: Any) -> Params:
    """Return the arrays of a layer by path: "lstm/lstm_cell/kernel". Raises ValueError if it is not built yet."""
    if not getattr(layer, "built", True):
        raise ValueError(
            f"{layer.name}: expected a layer that is built, with weights, got one before its first call"
        )
    from keras import ops

    return {weight.path: ops.convert_to_numpy(weight) for weight in getattr(layer, "weights", ())}


def describe(name: str, layer: Any, inputs: Axis, last: bool) -> Described | None:
    """Return the axes of a layer's arrays, None if they are unknown."""
    if kind(layer) == "Bidirectional" and layer.merge_mode == "concat":
        ways = (layer.forward_layer, layer.backward_layer)
        return end_to_end([_weighted(way, f"{layer.name} {way.name}", inputs) for way in ways])
    if kind(layer) == "Activation" or elementwise(kind(layer), last):
        return Described({}, inputs) if _activation(layer, last) else None
    return _weighted(layer, layer.name, inputs) if _activation(layer, last) else None


def _activation(layer: Any, last: bool) -> bool:
    names = (
        getattr(getattr(layer, name, None), "__name__", "tanh") for name in ("activation", "recurrent_activation")
    )
    return all(elementwise(name, last and kind(layer) in ("Activation", "Dense")) for name in names)


def _weighted(layer: Any, units: str, inputs: Axis) -> Described | None:
    """Return the axes of a layer with weights, each of which has a name in Keras and a path that is its own."""
    own, cut, gates = (units,), (f"~{units}",), GATES.get(kind(layer), 1)
    match kind(layer):
        case "Embedding":
            roles = {"embeddings": ((f"{units} word",), own)}
        case "Dense":
            roles = {"kernel": (inputs, own), "bias": (cut,)}
        case "LSTM" | "GRU" | "SimpleRNN":
            bias = (gates * cut,)
            bias = (("two biases",), *bias) if getattr(layer, "reset_after", False) else bias
            roles = {"kernel": (inputs, gates * own), "recurrent_kernel": (own, gates * own), "bias": bias}
        case _:
            return None
    return Described({weight.path: roles[weight.name] for weight in layer.weights if weight.name in roles}, own)
