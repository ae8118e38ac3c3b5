# pyright: reportMissingImports=false, reportMissingModuleSource=false, reportAttributeAccessIssue=false
"""The graph of an ONNX model: its recurrent nodes, what each reads, and the arrays that it stores."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from issref.verify.formats import kinds
from issref.verify.formats.files import widened

PLAIN = {
    "LSTM": {"activations": [b"Sigmoid", b"Tanh", b"Tanh"], "input_forget": 0},
    "GRU": {"activations": [b"Sigmoid", b"Tanh"]},
}
_DIRECTIONS = {b"forward": ("",), b"reverse": ("_reverse",), b"bidirectional": ("", "_reverse")}
_KNOWN = ("hidden_size", "layout", "linear_before_reset")
_STATES = {4: "lengths", 5: "initial hidden state", 6: "initial cell state"}  # inputs of a node
PASSING = ("Squeeze", "Unsqueeze", "Transpose", "Reshape", "Dropout", "Identity", "Cast")
_PARTS = ("Expand", "Tile", "Slice", "Gather")  # of a state: copies of it, or a part
_PEEPHOLES = 7  # the eighth input


def tensors(graph: Any) -> Iterator[tuple[str, Any]]:
    """Yield the stored tensors of a graph by name: initializers and the values of Constant nodes."""
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for node in graph.node:
        if node.op_type == "Constant" and node.output and [one.name for one in node.attribute] == ["value"]:
            yield node.output[0], node.attribute[0].t


def numbers(tensor: Any) -> np.ndarray:
    """Return a stored tensor as an array; bfloat16 becomes float32."""
    from onnx import numpy_helper

    values = numpy_helper.to_array(tensor)
    return widened(values.view(np.uint16)) if values.dtype.name == "bfloat16" else values


def nodes(graph: Any) -> list[Any]:
    """Return the LSTM nodes of a graph, its GRU nodes if it has none."""
    found = [node for node in graph.node if node.op_type in PLAIN]
    return [node for node in found if node.op_type == "LSTM"] or found


def arrays(node: Any) -> tuple[str, str, str]:
    """Return the names of the weights of a node, others for a GRU with linear_before_reset 0."""
    after = any(one.name == "linear_before_reset" and one.i for one in node.attribute)
    return ("W", "R", "B") if after or node.op_type == "LSTM" else ("W_before", "R_before", "B")


def named(nodes: list[Any], made: dict[str, Any]) -> dict[str, Any]:
    """Return the nodes by place: lstm0, lstm1, ... in a single chain, else "name of the first node/0", ..."""
    chains: list[list[Any]] = []
    for node in nodes:
        below = _reads(node, made)
        chain = next((chain for chain in chains if chain[-1].output[:1] == [below]), None)
        chains.append([node]) if chain is None else chain.append(node)
    if len(chains) == 1:
        return {f"{node.op_type.lower()}{number}": node for number, node in enumerate(chains[0])}
    heads = [chain[0].name or f"{chain[0].op_type}_{number}" for number, chain in enumerate(chains)]
    return {
        f"{head}/{number}": node
        for head, chain in zip(heads, chains, strict=True)
        for number, node in enumerate(chain)
    }


def recurrent(model: Any) -> str:
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


def left_out(node: Any, made: dict[str, Any], stored: dict[str, np.ndarray]) -> str:
    """Describe the stored lengths and states of a node that are not 0, and states that another LSTM computes."""
    parts = []
    for number, what in _STATES.items():
        name = _passed(node.input[number], made, (*PASSING, *_PARTS)) if number < len(node.input) else ""
        if name in stored and (number == 4 or stored[name].any()):
            parts.append(f"stored {what} {name}")
        elif number > 4 and _source(name, made) is not None:
            parts.append(f"{what} of {_source(name, made).name or 'another node'}")
    return ", ".join(parts)


def check_plain(node: Any) -> tuple[str, ...]:
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
    plain = {**PLAIN[node.op_type], "activations": len(endings) * PLAIN[node.op_type]["activations"]}
    for name, value in values.items():
        if name not in _KNOWN and value != plain.get(name):
            raise ValueError(f"{node.name}: expected {name} {plain.get(name)}, got {value}")
    if any(node.input[_PEEPHOLES:]):
        raise ValueError(f"{node.name}: expected no peepholes, got {node.input[_PEEPHOLES]}")
    return endings


def _reads(node: Any, made: dict[str, Any]) -> str | None:
    """Return the LSTM output that a node reads, directly or through passing nodes; None if it reads none."""
    name = _passed(node.input[0], made)
    return name if name in made and made[name].op_type == node.op_type else None


def _source(name: str, made: dict[str, Any]) -> Any:
    """Return the recurrent node that computes a value, or None."""
    name = _passed(name, made)
    return made[name] if name in made and made[name].op_type in PLAIN else None


def _passed(name: str, made: dict[str, Any], passing: tuple[str, ...] = PASSING) -> str:
    """Return the value that reaches `name` through passing nodes."""
    passed = set()
    while name in made and made[name].op_type in passing and made[name].input and name not in passed:
        passed.add(name)  # stop in a cycle of nodes
        name = made[name].input[0]
    return name


def weights(
    name: str, stored: dict[str, np.ndarray], made: dict[str, Any], endings: tuple[str, ...], number: int
) -> np.ndarray:
    """Return stored weights of one direction. Raises ValueError if they are not stored, or for other shapes."""
    if name not in stored:
        how = f"ones that {made[name].op_type} computes" if name in made else "fed ones"
        hint = "; torch.onnx.export(..., do_constant_folding=True) stores them" if name in made else ""
        raise ValueError(f"{name}: expected weights stored in the file, got {how}{hint}")
    if stored[name].shape[:1] != (len(endings),):
        wanted = "one direction" if len(endings) == 1 else "two directions"
        raise ValueError(f"{name}: expected {wanted} along its first axis, got shape {stored[name].shape}")
    return stored[name][number]
