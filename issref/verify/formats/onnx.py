# pyright: reportMissingImports=false, reportMissingModuleSource=false, reportAttributeAccessIssue=false
"""ONNX's LSTM operator: W (1, 4H, D), R (1, 4H, H) and B (1, 8H), which is two biases end to end.

The arrays are W[0], R[0] and B[0], of one direction; of a bidirectional node, W[1] and so on are the backward
one's. Initial states and lengths in a file are not read. ONNX Runtime runs LSTMs of float16 and float32.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from issref.iss.layout import Params
from issref.training.checkpoint import write_whole
from issref.verify.formats import kinds
from issref.verify.formats.dialect import Arrays, Dialect, Layer
from issref.verify.formats.files import reading, widened

GATES = ("input", "output", "forget", "candidate")
SPELLING = Dialect(
    "lstm#/*",
    {"W": (GATES, ("x",)), "R": (GATES, ("h",)), "B": (2 * GATES,)},
    r"\w+#/\*|[^#]*/#/\*",  # the graph shows what a node reads
    assumes=False,
)
axes, layout = SPELLING.axes, SPELLING.layout
to_reference, from_reference = SPELLING.to_reference, SPELLING.from_reference

OPSET, IR_VERSION = 17, 8  # of 2022, for older runtimes
_PLAIN = {"activations": [b"Sigmoid", b"Tanh", b"Tanh"], "input_forget": 0}
_DIRECTIONS = {b"forward": ("",), b"reverse": ("_reverse",), b"bidirectional": ("", "_reverse")}
_SHAPES = ("hidden_size", "layout")
_STATES = {4: "lengths", 5: "initial hidden state", 6: "initial cell state"}  # inputs of a node
_PASSING = ("Squeeze", "Unsqueeze", "Transpose", "Reshape", "Dropout", "Identity", "Cast")
_PEEPHOLES = 7  # the eighth input


def arrays(model: Any) -> Params:
    """Return W, R, B of the LSTM nodes of an onnx.ModelProto: lstm0/W (4H, D), lstm0/R (4H, H), lstm0/B (8H,), ...

    Each node reads the output of the previous one; changes of axes and dropout may be in between. If the nodes are
    several such chains, each has its first node's name: "/decoder/LSTM/0/W". The backward direction is
    "lstm0_reverse/W". Raises ValueError for other activations or variants, for weights that are not stored, and if
    no node of the main graph is an LSTM.
    """
    return read_nodes(model)[0]


def read_nodes(model: Any) -> tuple[Params, dict[str, str]]:
    """Return the arrays, and remarks on stored initial states and lengths, which are left out.

    Raises ValueError as `arrays`.
    """
    made = {output: node for node in model.graph.node for output in node.output}
    stored = dict(_constants(model.graph))
    nodes = [node for node in model.graph.node if node.op_type == "LSTM"]
    if not nodes:
        raise ValueError(f"graph: expected an LSTM node, got {_others(model)}")
    found, notes = {}, {}
    for name, node in _named(nodes, made).items():
        for number, direction in enumerate(_check_plain(node)):
            place = name + direction
            for array, source in zip(SPELLING.arrays, node.input[1:4], strict=False):
                if source:  # B may be left out
                    found[f"{place}/{array}"] = _weights(source, stored, made, _check_plain(node), number)
            if left_out := _left_out(node, made, stored):
                notes[f"{place}/W"] = f"{name}: left out, though the outputs depend on it: {left_out}"
    return found, notes


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
    return read_file(path)[0]


def read_file(path: Path | str) -> tuple[Params, dict[str, str]]:
    """Return what `read_nodes` returns for an .onnx file."""
    import onnx

    with reading(Path(path), "a whole ONNX file", Exception):  # any exception of the package
        return read_nodes(onnx.load(path))


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
    for tensor in graph.initializer:
        yield tensor.name, _values(tensor)
    for node in graph.node:
        if node.op_type == "Constant" and node.output and [one.name for one in node.attribute] == ["value"]:
            yield node.output[0], _values(node.attribute[0].t)


def _values(tensor: Any) -> np.ndarray:
    from onnx import numpy_helper

    values = numpy_helper.to_array(tensor)
    return widened(values.view(np.uint16)) if values.dtype.name == "bfloat16" else values


def _named(nodes: list[Any], made: dict[str, Any]) -> dict[str, Any]:
    """Return the nodes by place: lstm0, lstm1, ... in a single chain, else "name of the first node/0", ..."""
    chains: list[list[Any]] = []
    for node in nodes:
        below = _reads(node, made)
        chain = next((chain for chain in chains if chain[-1].output[:1] == [below]), None)
        chains.append([node]) if chain is None else chain.append(node)
    if len(chains) == 1:
        return {f"lstm{number}": node for number, node in enumerate(chains[0])}
    heads = [chain[0].name or f"LSTM_{number}" for number, chain in enumerate(chains)]
    return {
        f"{head}/{number}": node
        for head, chain in zip(heads, chains, strict=True)
        for number, node in enumerate(chain)
    }


def _others(model: Any) -> str:
    """Describe the recurrent nodes of a model: other kinds, or in branches, loops and functions."""
    graphs, found = [(model.graph.node, "")], []
    graphs += [(function.node, f" in function {function.name}") for function in model.functions]
    for nodes, where in graphs:  # grows
        for node in nodes:
            if known := kinds.recognise([f"op {node.op_type}"]):
                what = "" if known[0].name == node.op_type else f" ({known[0].name})"
                found.append(node.op_type + where + what)
            for attribute in node.attribute:
                for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                    graphs.append((graph.node, f" in {attribute.name} of {node.op_type}"))
    return ", ".join(dict.fromkeys(found)) or "no recurrent node"


def _left_out(node: Any, made: dict[str, Any], stored: dict[str, np.ndarray]) -> str:
    """Describe the stored lengths and states of a node that are not 0, and states that another LSTM computes."""
    parts = []
    for number, what in _STATES.items():
        name = node.input[number] if number < len(node.input) else ""
        if name in stored and (number == 4 or stored[name].any()):
            parts.append(f"stored {what} {name}")
        elif number > 4 and _source(name, made) is not None:
            parts.append(f"{what} of {_source(name, made).name or 'another LSTM'}")
    return ", ".join(parts)


def _check_plain(node: Any) -> tuple[str, ...]:
    """Return the endings of a node's directions. Raises ValueError if it is not a plain LSTM."""
    from onnx.helper import get_attribute_value

    if not (node.input and node.output):
        raise ValueError(
            f"{node.name}: expected an input and an output, got {len(node.input)} and {len(node.output)}"
        )
    values = {attribute.name: get_attribute_value(attribute) for attribute in node.attribute}
    direction = values.pop("direction", b"forward")
    if direction not in _DIRECTIONS:
        raise ValueError(f"{node.name}: expected a direction of {[*_DIRECTIONS]}, got {direction}")
    endings = _DIRECTIONS[direction]
    plain = {**_PLAIN, "activations": len(endings) * _PLAIN["activations"]}
    for name, value in values.items():
        if name not in _SHAPES and value != plain.get(name):
            raise ValueError(f"{node.name}: expected {name} {plain.get(name)}, got {value}")
    if any(node.input[_PEEPHOLES:]):
        raise ValueError(f"{node.name}: expected no peepholes, got {node.input[_PEEPHOLES]}")
    return endings


def _reads(node: Any, made: dict[str, Any]) -> str | None:
    """Return the LSTM output that a node reads, directly or through passing nodes; None if it reads none."""
    name = _passed(node.input[0], made)
    return name if name in made and made[name].op_type == "LSTM" else None


def _source(name: str, made: dict[str, Any]) -> Any:
    """Return the LSTM node that computes a value, or None."""
    name = _passed(name, made)
    return made[name] if name in made and made[name].op_type == "LSTM" else None


def _passed(name: str, made: dict[str, Any]) -> str:
    """Return the value that reaches `name` through passing nodes."""
    passed = set()
    while name in made and made[name].op_type in _PASSING and made[name].input and name not in passed:
        passed.add(name)  # stop in a cycle of nodes
        name = made[name].input[0]
    return name


def _weights(
    name: str, stored: dict[str, np.ndarray], made: dict[str, Any], endings: tuple[str, ...], number: int
) -> np.ndarray:
    """Return stored weights of one direction."""
    if name not in stored:
        how = f"ones that {made[name].op_type} computes" if name in made else "fed ones"
        hint = "; torch.onnx.export(..., do_constant_folding=True) stores them" if name in made else ""
        raise ValueError(f"{name}: expected weights stored in the file, got {how}{hint}")
    if stored[name].shape[:1] != (len(endings),):
        wanted = "one direction" if len(endings) == 1 else "two directions"
        raise ValueError(f"{name}: expected {wanted} along its first axis, got shape {stored[name].shape}")
    return stored[name][number]
