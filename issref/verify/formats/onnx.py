# pyright: reportMissingImports=false, reportMissingModuleSource=false, reportAttributeAccessIssue=false
"""ONNX's LSTM operator: W (1, 4H, D), R (1, 4H, H) and B (1, 8H), which is two biases end to end.

The arrays are W[0], R[0] and B[0], of one direction; of a bidirectional node, W[1] and so on are the backward
one's. Initial states and lengths in a file are not read. ONNX Runtime runs LSTMs of float16 and float32.
"""

from pathlib import Path
from typing import Any

import numpy as np

from issref.iss.layout import Params
from issref.training.checkpoint import write_whole
from issref.verify.formats import onnx_graph
from issref.verify.formats.cells import GRU, GRU_RESET_BEFORE, LSTM
from issref.verify.formats.dialect import Arrays, Dialect, Layer, find
from issref.verify.formats.files import reading

GATES = ("input", "output", "forget", "candidate")
SPELLING = Dialect(
    "lstm#/*",
    {"W": (GATES, ("x",)), "R": (GATES, ("h",)), "B": (2 * GATES,)},
    r"\w+#/\*|[^#]*/#/\*",  # the graph shows what a node reads
    assumes=False,
)
GRU_GATES = ("update", "reset", "candidate")
_GRU = (GRU_GATES, ("x",)), (GRU_GATES, ("h",))
SPELLING_GRU = SPELLING._replace(
    place="gru#/*",
    arrays=dict(zip("WRB", (*_GRU, ((*GRU_GATES, "update", "reset", "recurrent"),)), strict=True)),
    cell=GRU,
)
# The names of W and R for linear_before_reset 0: without a bias, nothing else would tell the conventions apart.
SPELLING_GRU_BEFORE = SPELLING._replace(
    place="gru#/*",
    arrays=dict(zip(("W_before", "R_before", "B"), (*_GRU, (2 * GRU_GATES,)), strict=True)),
    cell=GRU_RESET_BEFORE,
)
axes, layout = SPELLING.axes, SPELLING.layout
to_reference, from_reference = SPELLING.to_reference, SPELLING.from_reference

OPSET, IR_VERSION = 17, 8  # of 2022, for older runtimes


def arrays(model: Any) -> Params:
    """Return W, R, B of the LSTM nodes of an onnx.ModelProto: lstm0/W (4H, D), lstm0/R (4H, H), lstm0/B (8H,), ...

    Each node reads the output of the previous one; changes of axes and dropout may be in between. If the nodes are
    several such chains, each has its first node's name: "/decoder/LSTM/0/W". The backward direction is
    "lstm0_reverse/W". Raises ValueError for other activations or variants, for weights that are not stored, and if
    no node of the main graph is an LSTM.
    """
    return read_nodes(model)[0]


def read_nodes(model: Any) -> tuple[Params, dict[str, str], Params]:
    """Return the arrays, remarks on stored initial states and lengths, which are left out, and the other arrays of
    floating point numbers that the main graph stores.

    Raises ValueError as `arrays`.
    """
    made = {output: node for node in model.graph.node for output in node.output}
    stored = {name: onnx_graph.numbers(tensor) for name, tensor in onnx_graph.tensors(model.graph)}
    if not (nodes := onnx_graph.nodes(model.graph)):
        raise ValueError(f"graph: expected an LSTM or GRU node, got {onnx_graph.recurrent(model)}")
    found, notes = {}, {}
    for name, node in onnx_graph.named(nodes, made).items():
        endings = onnx_graph.check_plain(node)
        for number, direction in enumerate(endings):
            place = name + direction
            for array, source in zip(onnx_graph.arrays(node), node.input[1:4], strict=False):
                if source:  # B may be left out
                    found[f"{place}/{array}"] = onnx_graph.weights(source, stored, made, endings, number)
            remarks = ["runs backwards in time, which its arrays do not show"] if direction else []
            if left_out := onnx_graph.left_out(node, made, stored):
                remarks.append(f"left out, though the outputs depend on it: {left_out}")
            if remarks:
                notes[f"{place}/{onnx_graph.arrays(node)[0]}"] = f"{name}: {'; '.join(remarks)}"
    used = {name for node in nodes for name in node.input}
    others = {name: values for name, values in stored.items() if name not in used and values.dtype.kind == "f"}
    return found, notes, others


def build(arrays: Arrays):
    """Build an onnx.ModelProto of the stack, time major.

    Inputs: x (T, B, D), then lstm0/h, lstm0/c (1, B, H) and so on. Outputs: hidden (T, B, H) of the top layer,
    then lstm0/h_after, lstm0/c_after (1, B, H) and so on.
    """
    from onnx import helper, numpy_helper

    spelling, found = find(arrays, (SPELLING_GRU, SPELLING_GRU_BEFORE, SPELLING))
    layers, name, parts = dict(enumerate(found)), spelling.cell.space, _parts(spelling)
    kind = helper.np_dtype_to_tensor_dtype(np.result_type(*layers[0].values()))
    units = [spelling.sizes(layer)["h"] for layer in layers.values()]

    def wires(when: str, first: str, width: int):
        states = {f"{name}{n}/{part}{when}": (1, "B", units[n]) for n in layers for part in parts}
        shapes = {first: ("T", "B", width), **states}
        return [helper.make_tensor_value_info(name, kind, shape) for name, shape in shapes.items()]

    stored = {f"{name}{n}/{array}": values[None] for n, layer in layers.items() for array, values in layer.items()}
    stored["directions"] = np.array([1])
    graph = helper.make_graph(
        [node for n, layer in layers.items() for node in _nodes(n, layer, spelling)],
        name,
        wires("", "x", spelling.sizes(layers[0])["x"]),
        wires("_after", f"{name}{len(units) - 1}/hidden", units[-1]),
        [numpy_helper.from_array(values, name) for name, values in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def read(path: Path | str) -> Params:
    """Return the arrays of an .onnx file. Raises ValueError if it is missing or incomplete, and as `arrays`."""
    return read_file(path)[0]


def read_file(path: Path | str) -> tuple[Params, dict[str, str], Params]:
    """Return what `read_nodes` returns for an .onnx file."""
    import onnx

    with reading(Path(path), "a whole ONNX file", Exception):  # any exception of the package
        return read_nodes(onnx.load(path))


def write(path: Path | str, arrays: Arrays) -> None:
    """Write `build(arrays)` as an .onnx file, completely or not at all."""
    write_whole(Path(path), build(arrays).SerializeToString())


def _parts(spelling: Dialect) -> str:
    return "hc" if spelling.cell == LSTM else "h"


def _nodes(number: int, layer: Layer, spelling: Dialect) -> list[Any]:
    from onnx.helper import make_node

    kind = spelling.cell.space
    name, inputs = f"{kind}{number}", f"{kind}{number - 1}/hidden" if number else "x"
    weights = [f"{name}/{array}" if array in layer else "" for array in spelling.arrays]
    states, after = ([f"{name}/{part}{end}" for part in _parts(spelling)] for end in ("", "_after"))
    more = {} if spelling.cell == LSTM else {"linear_before_reset": int(spelling.cell == GRU)}
    size = spelling.sizes(layer)["h"]
    node = make_node(
        spelling.cell.kind,
        [inputs, *weights, "", *states],
        [f"{name}/y", *after],
        name=name,
        hidden_size=size,
        **more,
    )
    return [node, make_node("Squeeze", [f"{name}/y", "directions"], [f"{name}/hidden"])]
