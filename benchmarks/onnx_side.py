# pyright: reportMissingImports=false
"""The same language model as an ONNX graph (Gather, an LSTM a layer, MatMul, Add), run by ONNX Runtime."""

from collections.abc import Callable
from itertools import count

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from benchmarks.timing import THREADS
from issref.iss.layout import Params
from issref.verify.formats import onnx as dialect


def graph(params: Params) -> bytes:
    """tokens (T, B) in, logits (T, B, V) out, from a zero state."""
    stored = {name: params[name] for name in ("embed/kernel", "softmax/kernel", "softmax/bias")}
    stored["directions"] = np.array([1])
    nodes, x = [helper.make_node("Gather", ["embed/kernel", "tokens"], ["x"])], "x"
    arrays = dialect.from_reference(params)
    for me in (f"lstm{layer}" for layer in count()):
        if f"{me}/W" not in arrays:
            break
        weights = {f"{me}/{part}": arrays[f"{me}/{part}"][None] for part in "WRB"}
        size = weights[f"{me}/R"].shape[-1]
        nodes += [
            helper.make_node("LSTM", [x, *weights], [f"{me}/y"], hidden_size=size),
            helper.make_node("Squeeze", [f"{me}/y", "directions"], [f"{me}/hidden"]),
        ]
        stored, x = stored | weights, f"{me}/hidden"
    nodes += [
        helper.make_node("MatMul", [x, "softmax/kernel"], ["products"]),
        helper.make_node("Add", ["products", "softmax/bias"], ["logits"]),
    ]
    tokens = helper.make_tensor_value_info("tokens", TensorProto.INT64, ("T", "B"))
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ("T", "B", len(params["softmax/bias"])))
    initial = [numpy_helper.from_array(values, name) for name, values in stored.items()]
    whole = helper.make_graph(nodes, "language_model", [tokens], [logits], initial)
    opset = [helper.make_opsetid("", dialect.OPSET)]
    return helper.make_model(whole, opset_imports=opset, ir_version=dialect.IR_VERSION).SerializeToString()


def evaluation(params: Params, tokens: np.ndarray, threads: int = THREADS) -> Callable[[], np.ndarray]:
    """The logits of a window from a zero state, at a call."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(graph(params), options, providers=["CPUExecutionProvider"])
    feed = {"tokens": tokens.astype(np.int64)}
    return lambda: session.run(["logits"], feed)[0]
