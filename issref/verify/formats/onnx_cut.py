# pyright: reportMissingImports=false, reportMissingModuleSource=false, reportAttributeAccessIssue=false
"""Cut units out of the recurrent nodes of an ONNX model, and out of the arrays that read them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from issref.verify.formats import onnx_graph
from issref.verify.formats.files import Keep

_STATES = (5, 6)  # inputs of a node


def cut(path: Path, keep: Keep, renamed: Mapping[str, str]) -> bytes:
    """Return the content of an .onnx file with some arrays cut, named as `onnx.read_file` names them.

    States that are fed have the new widths; of others, the kept units are gathered. Nothing is `renamed`. Raises
    ValueError if other nodes use these arrays, or if the shapes in the graph do not fit together any more.
    """
    import onnx

    model = onnx.load(path)
    weights, mine = {}, set()
    for place, node in _nodes(model.graph).items():
        arrays = [f"{place}/{array}" for array in onnx_graph.arrays(node)]
        names = dict(zip(arrays, node.input[1:4], strict=False))
        weights |= {names[name]: (np.ones(1, bool), *keep[name]) for name in names if name in keep}
        if arrays[1] in keep:
            _resize(model.graph, node, keep[arrays[1]][1])
        mine |= names.keys()
    readers = {name: masks for name, masks in keep.items() if name not in mine}
    _check_uses(model.graph, weights, readers)
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
        if number in _STATES and state in fed:
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
        raise ValueError(f"graph: expected nodes that take any number of units, got {why}") from error
    for value, found in zip(model.graph.output, inferred.graph.output, strict=True):
        value.CopyFrom(found)
