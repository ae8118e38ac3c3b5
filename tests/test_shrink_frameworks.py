"""Checkpoints of the frameworks are cut: each loads the result at the smaller size, with the same outputs."""

import json
import os
import zipfile

import numpy as np
import pytest
from test_pruned import network, random_params, unread

from issref import crosscheck
from issref.verify.formats.cells import GRU, LSTM
from issref.verify.formats.convert import load
from issref.verify.formats.dialect import reference
from issref.verify.formats.onnx import SPELLING, SPELLING_GRU, build
from issref.verify.pruned.shrink import shrink

DEAD = {0: [1, 4], 1: [0, 3]}  # of 5 units in each of two layers
TOLERANCE = 1e-5
rng = np.random.default_rng(0)
X = rng.standard_normal((2, 7, 3)).astype("float32")  # batch, time, D


def run(source, *words, code=0):
    target = source.with_name(f"out{source.suffix}")
    assert crosscheck.main(["shrink", str(source), str(target), *words]) == code
    return target


def close(one, other):
    assert np.abs(one - other).max() <= TOLERANCE


def keras_on_torch():
    for package in ("torch", "h5py"):
        pytest.importorskip(package)
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return pytest.importorskip("keras")


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_pytorch_loads_the_smaller_state_dict(kind, tmp_path, capsys):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    rnn, fc = getattr(nn, kind)(3, 5, 2, batch_first=True), nn.Linear(5, 2)
    with torch.no_grad():
        for number, dead in DEAD.items():
            getattr(rnn, f"weight_hh_l{number}")[:, dead] = 0
        rnn.weight_ih_l1[:, DEAD[0]] = 0
        fc.weight[:, DEAD[1]] = 0
        before = fc(rnn(torch.tensor(X))[0]).numpy()
    model = nn.ModuleDict({"rnn": rnn, "fc": fc})
    torch.save({"model": model.state_dict(), "step": 3}, tmp_path / "in.pt")
    target = run(tmp_path / "in.pt", "--dead", "--reader", "model.fc.weight")
    assert "change     model.rnn: hidden_size=3\n" in capsys.readouterr().out
    small = nn.ModuleDict({"rnn": getattr(nn, kind)(3, 3, 2, batch_first=True), "fc": nn.Linear(3, 2)})
    found = torch.load(target, weights_only=True)
    small.load_state_dict(found["model"])
    assert found["step"] == 3
    with torch.no_grad():
        close(small["fc"](small["rnn"](torch.tensor(X))[0]).numpy(), before)
    target = run(tmp_path / "in.pt", "--dead", "--overwrite")  # only the lower layer: the widths differ
    assert f"nn.ModuleList([nn.{kind}(3, 3), nn.{kind}(3, 5)])" in capsys.readouterr().out
    parts = nn.ModuleList([getattr(nn, kind)(3, 3, batch_first=True), getattr(nn, kind)(3, 5, batch_first=True)])
    small = nn.ModuleDict({"rnn": parts, "fc": nn.Linear(5, 2)})
    small.load_state_dict(torch.load(target, weights_only=True)["model"])
    with torch.no_grad():
        close(small["fc"](parts[1](parts[0](torch.tensor(X))[0])[0]).numpy(), before)


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".weights.h5"])
@pytest.mark.parametrize(("kind", "settings"), [("LSTM", {}), ("GRU", {}), ("GRU", {"reset_after": False})])
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_keras_loads_the_smaller_model(kind, settings, suffix, tmp_path):
    keras, h5py = keras_on_torch(), pytest.importorskip("h5py")

    def network(units):
        layers = [getattr(keras.layers, kind)(units, return_sequences=True, **settings) for _ in range(2)]
        return keras.Sequential([keras.Input((7, 3)), *layers, keras.layers.Dense(2)])

    model, cells = network(5), 4 if kind == "LSTM" else 3
    for number, layer in enumerate(model.layers):
        kernel, *others = layer.get_weights()
        if number:
            kernel[DEAD[number - 1]] = 0
        if number < 2:
            others[0][DEAD[number]] = 0
            others[1] += rng.standard_normal(others[1].shape).astype("float32")
            assert others[0].shape == (5, 5 * cells)
        layer.set_weights([kernel, *others])
    before = np.asarray(model.predict(X, verbose=0))
    source = tmp_path / f"in{suffix}"
    model.save_weights(source) if "weights" in suffix else model.save(source)
    if suffix != ".keras":
        with h5py.File(source, "r+") as file:
            file.visititems(lambda name, item: item.attrs.__setitem__("note", name))
    found = load(source)
    reader = next(name for name, values in found.rest.items() if values.shape == (5, 2))
    target = run(source, "--dead", "--stack", found.stack, "--reader", reader)
    if suffix != ".keras":
        with h5py.File(target) as file:
            noted = {}
            file.visititems(lambda name, item: noted.update({name: item.attrs.get("note")}))
        assert noted == {name: name for name in noted}
    if "weights" in suffix:
        (target := target.rename(target.with_suffix(".weights.h5")))
        small = network(3)
        small.load_weights(target)
    else:
        small = keras.models.load_model(target)
    assert small.count_params() == network(3).count_params()
    close(np.asarray(small.predict(X, verbose=0)), before)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_settings_of_keras_that_do_not_fit_the_smaller_arrays_are_refused(tmp_path, capsys):
    """Of a model within the model, and of the user's own class, whose settings do not list its layers."""
    keras, source = keras_on_torch(), tmp_path / "in.keras"
    head = keras.Sequential([keras.layers.Dense(2)])
    keras.Sequential([keras.Input((7, 3)), keras.layers.LSTM(5), head]).save(source)
    (tmp_path / "keep.json").write_text('{"lstm0": [0]}')
    reader = next(name for name, values in load(source).rest.items() if values.shape == (5, 2))
    words = "--keep", str(tmp_path / "keep.json"), "--reader", reader
    run(source, *words, code=2)  # an inner model notes the width of its input
    assert "config.json: expected no inner model with an input of width 5" in capsys.readouterr().err
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(source, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, b'{"class_name": "Mine", "config": {}}' if name == "config.json" else content)
    target = run(source, *words, code=2)
    assert "config.json: expected one layer of 5 units named as one of [" in capsys.readouterr().err
    assert not target.exists()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_keras_model_with_the_moments_of_its_optimizer_is_refused(tmp_path, capsys):
    """The moments have the old widths: Keras would not load them into the smaller model."""
    keras, source = keras_on_torch(), tmp_path / "in.keras"
    model = keras.Sequential([keras.Input((7, 3)), keras.layers.LSTM(5), keras.layers.Dense(2)])
    model.compile("adam", "mse")
    model.fit(X, np.zeros((2, 2)), verbose=0)
    model.save(source)
    (tmp_path / "keep.json").write_text('{"lstm0": [0]}')
    reader = next(name for name, values in load(source).rest.items() if values.shape == (5, 2))
    words = "--keep", str(tmp_path / "keep.json"), "--reader", reader
    target = run(source, *words, code=2)
    assert "optimizer: expected a model without its optimizer's moments" in capsys.readouterr().err
    assert not target.exists()
    keras.models.load_model(source, compile=False).save(source)  # the way out that the message names
    assert run(source, *words, code=1).exists()  # units that were read are gone, as wanted


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("state", ["fed", "computed", "fixed"])
@pytest.mark.filterwarnings("ignore")
def test_onnx_runtime_runs_the_smaller_graph(kind, state, tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.fc = getattr(torch.nn, kind)(3, 5, 2), torch.nn.Linear(5, 2)

        def forward(self, x, h=None):
            states = h if h is None or kind == "GRU" else (h, h)
            return self.fc(self.rnn(x, states)[0])

    model = Model().eval()
    with torch.no_grad():
        for number, dead in DEAD.items():
            getattr(model.rnn, f"weight_hh_l{number}")[:, dead] = 0
        model.rnn.weight_ih_l1[:, DEAD[0]] = 0
        model.fc.weight[:, DEAD[1]] = 0
    x = X.transpose(1, 0, 2)
    dynamic = {"input_names": ["x"], "dynamic_axes": {"x": {1: "B"}}} if state == "computed" else {}
    arguments = (torch.tensor(x), torch.zeros(2, 2, 5)) if state == "fed" else (torch.tensor(x),)
    torch.onnx.export(model, arguments, tmp_path / "in.onnx", dynamo=False, **dynamic)

    def outputs(path, units):
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [one.name for one in session.get_inputs()]
        return session.run(None, dict(zip(names, (x, np.zeros((2, 2, 5), "float32")), strict=False)))[0]

    reader = next(name for name, values in load(tmp_path / "in.onnx").rest.items() if values.shape == (5, 2))
    target = run(tmp_path / "in.onnx", "--dead", "--reader", reader)
    found = load(target)
    assert [values.shape[-1] for name, values in found.params.items() if name.endswith("kernel")] == 2 * [
        3 * (4 if kind == "LSTM" else 3)
    ]
    close(outputs(target, 3), outputs(tmp_path / "in.onnx", 5))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_tied_dictionary_and_other_numbers_stay_in_a_state_dict(dtype, tmp_path):
    torch = pytest.importorskip("torch")
    state = torch.nn.ModuleDict({"rnn": torch.nn.LSTM(3, 5, dtype=getattr(torch, dtype))}).state_dict()
    torch.save({"model": state, "ema": state, "names": ("a", 1)}, tmp_path / "in.pt")
    (tmp_path / "fc.json").write_text(json.dumps({"lstm0": [0, 1, 2, 3, 4]}))
    run(tmp_path / "in.pt", "--keep", str(tmp_path / "fc.json"))
    found = torch.load(tmp_path / "out.pt", weights_only=True)
    assert found["names"] == ("a", 1)
    state["fc.weight"] = torch.ones(2, 5, dtype=getattr(torch, dtype))
    torch.save({"model": state, "ema": state, "names": ("a", 1)}, tmp_path / "in.pt")
    report, _ = shrink(tmp_path / "in.pt", tmp_path / "b.pt", {"lstm0": [0, 3]}, reader=["model.fc.weight"])
    found = torch.load(tmp_path / "b.pt", weights_only=True)
    assert report.preserved is False
    assert found["ema"] is found["model"]
    assert found["model"]["rnn.weight_hh_l0"].dtype == getattr(torch, dtype)
    assert torch.equal(found["model"]["fc.weight"], torch.ones(2, 2, dtype=getattr(torch, dtype)))


# ONNX: the graph shows what reads the units
# ------------------------------------------


def saved(path, cell, between=(), states="fed", product=("MatMul", {})):
    """Write two layers, nodes (op, inputs, attributes) that read "h", and a product with "fc" of shape (5, 5)."""
    onnx, helper, numpy_helper = (pytest.importorskip(f"onnx{end}") for end in ("", ".helper", ".numpy_helper"))
    rng, layout = np.random.default_rng(0), network([3, 5, 5], dialect=reference(cell))
    keep = {f"{cell.space}{n}": ~np.isin(np.arange(5), dead) for n, dead in DEAD.items()}
    params = unread(random_params(layout, rng), layout, keep, rng)
    params = {name: values.astype("float32") for name, values in params.items()}
    dialect = SPELLING if cell == LSTM else SPELLING_GRU
    model = build(dialect.from_reference(params))
    graph, arrays = model.graph, {"fc": params["softmax/kernel"], "ones": np.ones(5, "float32")}
    graph.node[-1].output[0] = graph.output[0].name = "h0"
    if states == "stored":
        arrays |= {one.name: rng.standard_normal((1, 2, 5)).astype("float32") for one in graph.input[1:]}
        del graph.input[1:]
    arrays |= {"zero": np.array([0]), "last": np.array([-1]), "end": np.array([9]), "flat": np.array([-1, 5])}
    for number, (op, inputs, attributes) in enumerate(between):
        names = [f"h{number}" if name == "h" else name for name in inputs]
        graph.node.append(helper.make_node(op, names, [f"h{number + 1}"], **attributes))
    op, attributes = product
    graph.node.append(helper.make_node(op, [f"h{len(between)}", "fc"], ["y"], **attributes))
    graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in arrays.items())
    graph.output[0].CopyFrom(helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None))
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return path


def put_out(path, kept):
    """What ONNX Runtime computes, from random states in which only `kept` units are, layer by layer."""
    session = pytest.importorskip("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    draw, fed = np.random.default_rng(1), {"x": X.transpose(1, 0, 2)}
    for one in session.get_inputs()[1:]:
        units = kept[int(one.name.partition("/")[0][-1])]
        state = draw.standard_normal((1, 2, 5)).astype("float32")[:, :, units]
        assert one.shape == [1, "B", len(units)]
        fed[one.name] = state
    return session.run(["y"], fed)[0]


APART = {
    "nothing": [],
    "an activation": [("Relu", ["h"], {})],
    "batch first": [("Transpose", ["h"], {"perm": [1, 0, 2]})],
    "the last step": [("Gather", ["h", "last"], {}), ("Squeeze", ["h", "zero"], {})],
    "some steps": [("Slice", ["h", "last", "end", "zero"], {})],
    "the mean over time": [("ReduceMean", ["h"], {"axes": [0]})],
    "steps twice": [("Concat", ["h", "h"], {"axis": 0})],
}


@pytest.mark.parametrize("cell", [LSTM, GRU], ids=["LSTM", "GRU"])
@pytest.mark.parametrize(("between", "states"), [*((name, "fed") for name in APART), ("nothing", "stored")])
def test_nodes_that_treat_each_unit_apart_are_passed(between, states, cell, tmp_path):
    source = saved(tmp_path / "in.onnx", cell, APART[between], states)
    target = run(source, "--dead", "--reader", "fc")
    found = load(target)
    assert [found.params[f"{cell.space}{n}/kernel"].shape[1] for n in DEAD] == 2 * [3 * len(cell.gates)]
    kept = [np.setdiff1d(np.arange(5), dead) for dead in DEAD.values()]
    close(put_out(target, kept), put_out(source, 2 * [np.arange(5)]))


MIXED = {
    "a normalisation": ([("LayerNormalization", ["h", "ones"], {})], "got LayerNormalization"),
    "a mean over units": ([("ReduceMean", ["h"], {"axes": [-1]})], "got ReduceMean"),
    "a choice of units": ([("Gather", ["h", "last"], {"axis": 2})], "got Gather"),
    "a slice of unknown axes": ([("Slice", ["h", "last", "end"], {})], "got Slice"),
    "a sum": ([("Add", ["h", "ones"], {})], "got Add"),
    "a softmax": ([("Softmax", ["h"], {})], "got Softmax"),
    "attention": ([("MatMul", ["h", "ones"], {})], "got MatMul"),
    "tied": ([("Mul", ["fc", "fc"], {})], "fc: expected one MatMul or Gemm to read it along the units, got"),
    "a fixed width": (
        [("Reshape", ["h", "flat"], {})],
        "graph: expected nodes that take any number of units, got",
    ),
}


@pytest.mark.parametrize("name", MIXED)
def test_nodes_that_mix_units_are_refused_in_one_sentence(name, tmp_path, capsys):
    between, sentence = MIXED[name]
    run(saved(tmp_path / "in.onnx", LSTM, between), "--dead", "--reader", "fc", code=2)
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out.onnx").exists()


def test_units_that_are_outputs_or_read_along_the_other_axis_stay(tmp_path, capsys):
    onnx = pytest.importorskip("onnx")
    source = saved(tmp_path / "in.onnx", LSTM)
    model = onnx.load(source)
    model.graph.output.add().name = "h0"
    onnx.save(model, source)
    run(source, "--dead", "--reader", "fc", code=2)
    assert "lstm1: expected units that are no output of the graph, got h0" in capsys.readouterr().err
    run(source, "--dead")  # the layer below may be cut
    branch = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["h0"], ["inner"])], "branch", [],
        [onnx.helper.make_tensor_value_info("inner", onnx.TensorProto.FLOAT, None)],
    )  # fmt: skip
    model.graph.output[-1].name = "seen"
    model.graph.input.append(onnx.helper.make_tensor_value_info("flag", onnx.TensorProto.BOOL, []))
    model.graph.node.append(
        onnx.helper.make_node("If", ["flag"], ["seen"], then_branch=branch, else_branch=branch)
    )
    onnx.save(model, source)
    run(source, "--dead", "--reader", "fc", "--overwrite", code=2)
    assert "a MatMul or Gemm of a named reader to read its units, got If" in capsys.readouterr().err
    steps = [("Gather", ["h", "last"], {}), ("Squeeze", ["h", "zero"], {})]
    saved(source, LSTM, steps, product=("Gemm", {"transB": 1}))
    run(source, "--dead", "--reader", "fc", "--overwrite", code=2)
    assert "fc: expected one MatMul or Gemm to read it along the units, got Gemm" in capsys.readouterr().err


def test_final_states_that_are_outputs_get_the_new_width(tmp_path):
    onnx = pytest.importorskip("onnx")
    source = saved(tmp_path / "in.onnx", LSTM)
    model = onnx.load(source)
    model.graph.node.append(onnx.helper.make_node("Identity", ["lstm1/h_after"], ["final"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("final", onnx.TensorProto.FLOAT, [1, "B", 5]))
    onnx.save(model, source)
    final = onnx.load(run(source, "--dead", "--reader", "fc")).graph.output[-1]
    assert (final.name, final.type.tensor_type.shape.dim[-1].dim_value) == ("final", 3)
