"""A verdict rests on what was read: the axis of a reader, the graph of ONNX, arrays beside a known model."""

import numpy as np
import pytest

from issref.verify.formats import files
from issref.verify.pruned import cut
from issref.verify.pruned.compare import compare_checkpoints
from issref.verify.pruned.readers import reads_columns
from issref.verify.pruned.shrink import shrink


@pytest.mark.parametrize(
    "name",
    ["fc.weight", "attn.q_proj_weight", "fc.weight_orig", "fc.weight_v", "d.weight_ih_l0", "a.W",
     "fc.parametrizations.weight.original"],
)  # fmt: skip
def test_matrices_of_pytorch_read_along_axis_1(name):
    assert reads_columns(name)


@pytest.mark.parametrize(
    "name", ["softmax/kernel", "Model/softmax_w", "d/weights", "layers/dense/vars/0", "onnx::MatMul_9"]
)
def test_other_matrices_read_along_axis_0(name):
    assert not reads_columns(name)


def onnx_file(path, read):
    """Two layers of 4 units: unit 3 of lstm0 is not read by lstm1, unit 2 of lstm1 not by fc.

    `read`: of both layers, fc reads the final states one after the other, the last of them, or the sum of outputs;
    or it reads lstm1 alone, and both layers start from one state that is fed.
    """
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    stored, width = {"one": np.array([1]), "fc": rng.standard_normal((4, 5))}, 3
    states = ["", "", "start"] if read == "fed" else []
    for layer, dead in enumerate((3, 2)):
        stored[f"W{layer}"] = rng.standard_normal((1, 16, width))
        stored[f"R{layer}"] = rng.standard_normal((1, 16, 4))
        stored[f"R{layer}"][:, :, dead], width = 0, 4
    stored["W1"][:, :, 3] = stored["fc"][2] = 0
    make = helper.make_node
    nodes = [
        make("LSTM", ["x", "W0", "R0", *states], ["y0", "h0"], name="a", hidden_size=4),
        make("Squeeze", ["y0", "one"], ["s0"]),
        make("LSTM", ["s0", "W1", "R1", *states], ["y1", "h1"], name="b", hidden_size=4),
        make("Squeeze", ["y1", "one"], ["s1"]),
        *{
            "states": [make("Concat", ["h0", "h1"], ["z"], axis=0)],
            "last": [make("Concat", ["h0", "h1"], ["h"], axis=0), make("Gather", ["h", "one"], ["z"], axis=0)],
            "sum": [make("Add", ["s0", "s1"], ["z"])],
            "fed": [make("Identity", ["s1"], ["z"])],
        }[read],
        make("MatMul", ["z", "fc"], ["out"]),
    ]
    ends, value_info = [("x", 3), ("out", 5)] + [("start", 4)] * bool(states), helper.make_tensor_value_info
    info = [value_info(name, TensorProto.FLOAT, (None, 2, size)) for name, size in ends]
    weights = [numpy_helper.from_array(v if name == "one" else v.astype("f4"), name) for name, v in stored.items()]
    graph = helper.make_graph(nodes, "g", [*info[:1], *info[2:]], info[1:2], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_a_reader_cut_to_the_units_of_one_layer_reads_no_other_layer(tmp_path):
    source = onnx_file(tmp_path / "a.onnx", "states")
    with pytest.raises(ValueError, match="a: expected the next layer"):
        shrink(source, tmp_path / "b.onnx", reader=["fc"])
    assert not (tmp_path / "b.onnx").exists()


def test_the_last_of_the_final_states_of_two_layers_is_refused_with_a_way_out(tmp_path):
    source = onnx_file(tmp_path / "a.onnx", "last")
    with pytest.raises(ValueError, match=r"export the output's last step, out\[-1\], instead of h_n\[-1\]"):
        shrink(source, tmp_path / "b.onnx", keep={"lstm1": [0, 1, 3]}, reader=["fc"])
    assert not (tmp_path / "b.onnx").exists()


def test_a_state_fed_to_two_layers_keeps_its_width(tmp_path):
    """Each layer gathers its own units of it."""
    ort, source = pytest.importorskip("onnxruntime"), onnx_file(tmp_path / "a.onnx", "fed")
    assert shrink(source, tmp_path / "b.onnx", reader=["fc"])[0].preserved
    rng = np.random.default_rng(1)
    fed = {"x": rng.standard_normal((6, 2, 3)).astype("f4"), "start": rng.standard_normal((1, 2, 4)).astype("f4")}
    before, after = (ort.InferenceSession(tmp_path / name).run(None, fed)[0] for name in ("a.onnx", "b.onnx"))
    assert np.abs(after - before).max() < 1e-5


def test_pruned_sees_in_the_graph_what_else_reads_the_units(tmp_path):
    onnx = pytest.importorskip("onnx")
    from onnx import numpy_helper

    model, keep = onnx.load(onnx_file(tmp_path / "a.onnx", "sum")), np.array([0, 1, 2])
    rows = (keep + 4 * np.arange(4)[:, None]).ravel()
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        small = {"W0": lambda v: v[:, rows], "R0": lambda v: v[:, rows][:, :, keep], "W1": lambda v: v[:, :, keep]}
        tensor.CopyFrom(numpy_helper.from_array(small.get(tensor.name, lambda v: v)(values), tensor.name))
    model.graph.node[0].attribute[0].i = 3
    onnx.save(model, tmp_path / "b.onnx")
    report = compare_checkpoints(tmp_path / "a.onnx", tmp_path / "b.onnx")
    assert report.preserved is None
    assert "Add" in report.basis


def test_an_array_beside_a_known_model_is_asked_for(tmp_path):
    rng, place = np.random.default_rng(0), "m/Model/RNN/multi_rnn_cell/cell_0/basic_lstm_cell/"
    arrays = {place + "kernel": rng.standard_normal((12, 32)), place + "bias": np.zeros(32)}
    arrays |= {"m/Model/softmax_w": rng.standard_normal((8, 9)), "m/Model/softmax_b": np.zeros(9)}
    arrays["m/Model/softmax_w"][3] = arrays[place + "kernel"][7] = 0
    files.write(tmp_path / "a.safetensors", arrays)
    assert shrink(tmp_path / "a.safetensors", tmp_path / "b.safetensors")[0].preserved
    files.write(tmp_path / "a.safetensors", arrays | {"aux/w": np.ones((8, 5))})
    with pytest.raises(ValueError, match="aux/w"):
        shrink(tmp_path / "a.safetensors", tmp_path / "c.safetensors")


def test_with_nothing_to_cut_a_graph_takes_its_external_data_along(tmp_path):
    onnx = pytest.importorskip("onnx")
    source, other = onnx_file(tmp_path / "in.onnx", "fed"), tmp_path / "other"
    model = onnx.load(source)
    (tmp_path / "data").mkdir()
    onnx.save(
        onnx.load(source),
        tmp_path / "data" / "in.onnx",
        save_as_external_data=True,
        location="in.data",
        size_threshold=0,
    )
    other.mkdir()
    shrink(tmp_path / "data" / "in.onnx", other / "out.onnx", {"lstm0": [0, 1, 2, 3]})
    assert [path.name for path in other.iterdir()] == ["out.onnx"]
    assert onnx.load(other / "out.onnx").graph.node == model.graph.node
    for one, two in zip(model.graph.initializer, onnx.load(other / "out.onnx").graph.initializer, strict=True):
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(one), onnx.numpy_helper.to_array(two))


def test_an_error_of_the_new_file_names_it(tmp_path, monkeypatch):
    source, target = onnx_file(tmp_path / "in.onnx", "fed"), tmp_path / "out.onnx"
    monkeypatch.setitem(cut.CUTTERS, ".onnx", lambda *_: b"damaged")
    with pytest.raises(ValueError, match=f"^{target}: expected a whole ONNX file"):
        shrink(source, target, {"lstm0": [0]})
