# pyright: reportMissingImports=false, reportMissingModuleSource=false, reportAttributeAccessIssue=false
"""ONNX's LSTM operator: W (1, 4H, D), R (1, 4H, H) and B (1, 8H), which is two biases end to end.

The arrays are W[0], R[0] and B[0], of one direction. The initial states of a file are not read.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from issref.iss.layout import Params
from issref.training.checkpoint import write_whole
from issref.verify.formats.dialect import Arrays, Dialect, Layer
from issref.verify.formats.files import reading

GATES = ("input", "output", "forget", "candidate")
SPELLING = Dialect("lstm#/*", {"W": (GATES, ("x",)), "R": (GATES, ("h",)), "B": (2 * GATES,)})
axes, layout = SPELLING.axes, SPELLING.layout
to_reference, from_reference = SPELLING.to_reference, SPELLING.from_reference

OPSET, IR_VERSION = 17, 8  # of 2022, for older runtimes
_PLAIN = {"direction": b"forward", "activations": [b"Sigmoid", b"Tanh", b"Tanh"], "input_forget": 0}
_SHAPES = ("hidden_size", "layout")
_PASSING = ("Squeeze", "Unsqueeze", "Transpose", "Reshape", "Dropout", "Identity", "Cast")
_PEEPHOLES = 7  # the eighth input


def arrays(model: Any) -> Params:
    """Return W, R, B of the LSTM nodes of an onnx.ModelProto: lstm0/W (4H, D), lstm0/R (4H, H), lstm0/B (8H,), ...

    Each node reads the output of the previous one; changes of axes and dropout may be in between. Raises
    ValueError for any other chain, direction, activation or variant, and for weights that are not stored.
    """
    made = {output: node for node in model.graph.node for output in node.output}
    stored = dict(_constants(model.graph))
    found, previous = {}, None
    for number, node in enumerate(node for node in model.graph.node if node.op_type == "LSTM"):
        _check_plain(node)
        if _reads(node, made) != previous:
            raise ValueError(f"{node.name}: expected the LSTM before it as input, got {node.input[0]}")
        previous = node.output[0]
        for array, name in zip(SPELLING.arrays, node.input[1:4], strict=False):
            if name:  # B may be left out
                found[f"lstm{number}/{array}"] = _one_direction(name, stored)
    return found


def build(arrays: Arrays):
    """Build an onnx.ModelProto of the stack, time major.

    Inputs: x (T, B, D), then lstm0/h, lstm0/c (1, B, H) and so on. Outputs: hidden (T, B, H) of the top layer,
    then lstm0/h_after, lstm0/c_after (1, B, H) and so on.
    """
    from onnx import helper, numpy_helper

    layers = dict(enumerate(SPELLING.find(arrays)))
    kind = helper.np_dtype_to_tensor_dtype(layers[0]["W"].dtype)
    units = [SPELLING.sizes(layer)["h"] for layer in layers.values()]

    def wires(when: str, first: str, width: int):
        states = {f"lstm{n}/{part}{when}": (1, "B", units[n]) for n in layers for part in "hc"}
        shapes = {first: ("T", "B", width), **states}
        return [helper.make_tensor_value_info(name, kind, shape) for name, shape in shapes.items()]

    stored = {f"lstm{n}/{array}": values[None] for n, layer in layers.items() for array, values in layer.items()}
    stored["directions"] = np.array([1])
    graph = helper.make_graph(
        [node for n, layer in layers.items() for node in _nodes(n, layer)],
        "lstm",
        wires("", "x", SPELLING.sizes(layers[0])["x"]),
        wires("_after", f"lstm{len(units) - 1}/hidden", units[-1]),
        [numpy_helper.from_array(values, name) for name, values in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def read(path: Path | str) -> Params:
    """Return the arrays of an .onnx file. Raises ValueError if it is missing or incomplete, and as `arrays`."""
    import onnx

    with reading(Path(path), "a whole ONNX file", Exception):  # any exception of the package
        return arrays(onnx.load(path))


def write(path: Path | str, arrays: Arrays) -> None:
    """Write `build(arrays)` as an .onnx file, completely or not at all."""
    write_whole(Path(path), build(arrays).SerializeToString())


def _nodes(number: int, layer: Layer) -> list[Any]:
    from onnx.helper import make_node

    name, inputs = f"lstm{number}", f"lstm{number - 1}/hidden" if number else "x"
    weights = [f"{name}/{array}" if array in layer else "" for array in SPELLING.arrays]
    states, after = [f"{name}/h", f"{name}/c"], [f"{name}/h_after", f"{name}/c_after"]
    lstm = make_node(
        "LSTM", [inputs, *weights, "", *states], [f"{name}/y", *after], name=name, hidden_size=len(layer["R"].T)
    )
    return [lstm, make_node("Squeeze", [f"{name}/y", "directions"], [f"{name}/hidden"])]


def _constants(graph: Any) -> Iterator[tuple[str, np.ndarray]]:
    from onnx import numpy_helper

    for tensor in graph.initializer:
        yield tensor.name, numpy_helper.to_array(tensor)
    for node in graph.node:
        if node.op_type == "Constant" and node.output and [one.name for one in node.attribute] == ["value"]:
            yield node.output[0], numpy_helper.to_array(node.attribute[0].t)


def _check_plain(node: Any) -> None:
    from onnx.helper import get_attribute_value

    if not (node.input and node.output):
        raise ValueError(
            f"{node.name}: expected an input and an output, got {len(node.input)} and {len(node.output)}"
        )
    for attribute in node.attribute:
        value = get_attribute_value(attribute)
        if attribute.name not in _SHAPES and value != _PLAIN.get(attribute.name):
            raise ValueError(f"{node.name}: expected {attribute.name} {_PLAIN.get(attribute.name)}, got {value}")
    if any(node.input[_PEEPHOLES:]):
        raise ValueError(f"{node.name}: expected no peepholes, got {node.input[_PEEPHOLES]}")


def _reads(node: Any, made: dict[str, Any]) -> str | None:
    """Return the LSTM output that a node reads, directly or through passing nodes; None if it reads none."""
    name, passed = node.input[0], set()
    while name in made and made[name].op_type in _PASSING and made[name].input and name not in passed:
        passed.add(name)  # stop in a cycle of nodes
        name = made[name].input[0]
    return name if name in made and made[name].op_type == "LSTM" else None


def _one_direction(name: str, stored: dict[str, np.ndarray]) -> np.ndarray:
    if name not in stored:
        raise ValueError(f"{name}: expected weights stored in the file, got computed or fed ones")
    if stored[name].shape[:1] != (1,):
        raise ValueError(f"{name}: expected one direction along its first axis, got shape {stored[name].shape}")
    return stored[name][0]
