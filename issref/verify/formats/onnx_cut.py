# pyright: reportMissingImports=false, reportMissingModuleSource=false, reportAttributeAccessIssue=false
"""Cut units out of the recurrent nodes of an ONNX model, and out of the arrays that read them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from issref.verify.formats import onnx_graph
from issref.verify.formats.files import Keep

_STATES = (5, 6)  # inputs of a node
# Nodes that treat each unit by itself, or, along other axes, all alike.
_ALONE = (
    *onnx_graph.PASSING, "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "Tanh", "Sigmoid", "Softplus", "Erf",
)  # fmt: skip
_SHAPES = ("Shape", "Size")
_ALONG = ("Gather", "Slice", "Concat", "ReduceMean", "ReduceMax", "ReduceSum")


def cut(path: Path, keep: Keep, renamed: Mapping[str, str]) -> bytes:
    """Return the content of an .onnx file with some arrays cut, named as `onnx.read_file` names them.

    States that are fed have the new widths; of others, the kept units are gathered. Nothing is `renamed`. Raises
    ValueError if other nodes use these arrays or read the units, or if the shapes in the graph do not fit together
    any more.
    """
    import onnx

    model = onnx.load(path)  # with external data, which is not beside the new file
    if not keep:
        return model.SerializeToString()
    weights, mine, cells, ranks = {}, set(), [], _ranks(model)
    for place, node in _nodes(model.graph).items():
        arrays = [f"{place}/{array}" for array in onnx_graph.arrays(node)]
        names = dict(zip(arrays, node.input[1:4], strict=False))
        weights |= {names[name]: (np.ones(1, bool), *keep[name]) for name in names if name in keep}
        if arrays[1] in keep:
            cells.append((node, keep[arrays[1]][1]))
        mine |= names.keys()
    readers = {name: masks for name, masks in keep.items() if name not in mine}
    _check_uses(model.graph, weights, readers)
    for node, mask in cells:
        _check_read(model.graph, node, _reading(weights, readers, mask), ranks)
    for node, mask in cells:
        _resize(model.graph, node, mask)
    for name, tensor in onnx_graph.tensors(model.graph):
        if masks := (weights | readers).get(name):
            values = onnx.numpy_helper.to_array(tensor)[np.ix_(*masks)]
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    _infer_outputs(model)
    return model.SerializeToString()


def _nodes(graph: Any) -> dict[str, Any]:
    made = {output: node for node in graph.node for output in node.output}
    return onnx_graph.named(onnx_graph.nodes(graph), made)


def _resize(graph: Any, node: Any, mask: np.ndarray) -> None:
    """Set the hidden size of a node, and give it states of this size."""
    from onnx import helper, numpy_helper

    for attribute in node.attribute:
        attribute.i = int(mask.sum()) if attribute.name == "hidden_size" else attribute.i
    fed = {value.name: value for value in graph.input}
    for number, state in enumerate(node.input):
        others = (one for one in graph.node if one is not node)
        if number in _STATES and state in fed and not any(_mentions(one, state) for one in others):
            fed[state].type.tensor_type.shape.dim[-1].dim_value = int(mask.sum())
        elif number in _STATES and state:
            kept, small = f"{node.output[0]}/kept_{number}", f"{node.output[0]}/state_{number}"
            graph.initializer.append(numpy_helper.from_array(np.flatnonzero(mask), kept))
            graph.node.insert(
                [*graph.node].index(node), helper.make_node("Gather", [state, kept], [small], axis=-1)
            )
            node.input[number] = small


def _check_uses(graph: Any, weights: Keep, readers: Keep) -> None:
    """Raise ValueError unless each array is used once, a reader in a product that reads along the axis to cut."""
    for name, masks in {**weights, **readers}.items():
        uses = [(node, node.input[:].index(name)) for node in graph.node if name in node.input]
        if len(uses) != 1 or (
            name in readers and _read_axis(*uses[0]) != [bool(mask.all()) for mask in masks].index(False)
        ):
            what = "one MatMul or Gemm to read it along the units" if name in readers else "one node to use it"
            raise ValueError(f"{name}: expected {what}, got {', '.join(node.op_type for node, _ in uses)}")


def _reading(weights: Keep, readers: Keep, mask: np.ndarray) -> set[str]:
    """Return the arrays that are cut along the axis by which they read, to the units of this mask."""
    inputs = {name: masks[2] for name, masks in weights.items() if len(masks) == 3}
    rows = {name: next(one for one in masks if not one.all()) for name, masks in readers.items()}
    return {name for name, kept in (inputs | rows).items() if np.array_equal(kept, mask)}


def _check_read(graph: Any, cell: Any, cut: set[str], ranks: Mapping[str, int]) -> None:
    """Raise ValueError if units of a cell are outputs, or are read otherwise than by arrays that are cut.

    Nodes in between may treat each unit by itself. Final states may be outputs: they get the new width.
    """
    stored, states = dict(onnx_graph.tensors(graph)), {*cell.output[1:]}
    values = [name for name in cell.output if name]
    for value in values:  # grows
        for node in graph.node:
            if node.op_type in _SHAPES or not _mentions(node, value) or _reads(node, value, cut):
                continue
            if not _apart(node, ranks.get(value, 0), stored):
                wanted = "the next layer or a MatMul or Gemm of a named reader"
                raise ValueError(f"{cell.name}: expected {wanted} to read its units, got {node.op_type}")
            values += {*node.output[:1]}.difference(values)
            states |= {*node.output[:1]} if value in states else set()
    if seen := {value.name for value in graph.output}.intersection(values) - states:
        raise ValueError(f"{cell.name}: expected units that are no output of the graph, got {min(seen)}")


def _mentions(node: Any, value: str) -> bool:
    inner = [one for attribute in node.attribute for one in attribute.g.node]
    return value in node.input or any(_mentions(one, value) for one in inner)


def _reads(node: Any, value: str, cut: set[str]) -> bool:
    """Return whether a layer or a product reads a value by an array that is cut, and in no other way."""
    products = (*onnx_graph.PLAIN, "MatMul", "Gemm")
    return (
        node.op_type in products
        and node.input[1] in cut
        and [*node.input].count(value) == 1
        and (node.input[0] == value)
    )


def _apart(node: Any, rank: int, stored: Mapping[str, Any]) -> bool:
    """Return whether a node mixes no units of a value with so many axes, the last of which is that of units."""
    axes = [[*one.ints] or [one.i] for one in node.attribute if one.name in ("axis", "axes")]
    place = {"Slice": 3, "Gather": 9, "Concat": 9}.get(node.op_type, 1)  # 9: an attribute only
    axes += [onnx_graph.numbers(stored[name]).tolist() for name in node.input[place : place + 1] if name in stored]
    axes += [[0]] if node.op_type == "Gather" and not axes else []
    along = (
        node.op_type in _ALONG and rank and len(axes) == 1 and rank - 1 not in [axis % rank for axis in axes[0]]
    )
    return node.op_type in _ALONE or bool(along)


def _ranks(model: Any) -> dict[str, int]:
    """Return the number of axes of each value whose shape can be inferred."""
    from onnx import shape_inference

    graph = shape_inference.infer_shapes(model).graph
    return {value.name: len(value.type.tensor_type.shape.dim) for value in (*graph.value_info, *graph.output)}


def _read_axis(node: Any, position: int) -> int | None:
    """Return the axis of a node's input along which the node sums, None if that is not known."""
    if position != 1 or node.op_type not in ("MatMul", "Gemm"):
        return None
    return int(any(one.name == "transB" and one.i for one in node.attribute))


def _infer_outputs(model: Any) -> None:
    """Give the outputs their new shapes. Raises ValueError if the shapes in the graph do not fit together."""
    from onnx import shape_inference

    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        inferred = shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:  # of the package
        why = " ".join(str(error).split())[:200]
        hint = "; export the output's last step, out[-1], instead of h_n[-1], which joins all layers"
        what = f"nodes that take any number of units, got {why}" + hint * ("Concat" in why)
        raise ValueError(f"graph: expected {what}") from error
    for value, found in zip(model.graph.output, inferred.graph.output, strict=True):
        value.CopyFrom(found)
