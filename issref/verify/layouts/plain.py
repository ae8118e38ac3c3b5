"""The layers of PyTorch, Keras and Flax NNX whose layout is known, by the names of their classes."""

from typing import Any, NamedTuple

from issref.iss.layout import Axis

GATES = {"LSTM": 4, "OptimizedLSTMCell": 4, "GRU": 3, "GRUCell": 3, "RNN": 1, "SimpleRNN": 1, "LSTMCell": 1}
ELEMENTWISE = {
    *("Dropout", "SpatialDropout1D", "Identity", "ReLU", "LeakyReLU", "ELU", "GELU", "SiLU", "Sigmoid", "Tanh"),
    *("linear", "identity", "relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "hard_sigmoid", "tanh"),
}
SOFTMAX = {"Softmax", "LogSoftmax", "softmax", "log_softmax"}  # only at the end: it reads all components


class Described(NamedTuple):
    """The spaces along each axis of a layer's arrays, and of its output."""

    axes: dict[str, tuple[Axis, ...]]
    outputs: Axis


def kind(layer: Any) -> str:
    """Return the name of a framework's own class or of a function, empty for a user's class."""
    own = type(layer).__module__.split(".")[0] in ("torch", "keras", "flax")
    return type(layer).__name__ if own else getattr(layer, "__name__", "")


def elementwise(name: str, last: bool) -> bool:
    """Return whether an operation without weights, by name, treats each component alone, or is at the end."""
    return name in ELEMENTWISE or (last and name in SOFTMAX)


def end_to_end(directions: list[Described | None]) -> Described | None:
    """Return both directions of a layer as one, None if one of them is unknown."""
    known = [one for one in directions if one is not None]
    if len(known) < len(directions):
        return None
    return Described(
        {array: axes for one in known for array, axes in one.axes.items()},
        tuple(space for one in known for space in one.outputs),
    )
