"""Files as frameworks write them: Keras' archives, graphs of ONNX, states of Flax NNX, containers of PyTorch."""

import json
import os
import re
import warnings
import zipfile

import numpy as np
import pytest

from issref.models import bidaf
from issref.ops.lstm import lstm
from issref.training import checkpoint
from issref.verify.formats import files, flax, hdf5, keras, onnx, torch
from issref.verify.formats.convert import convert, load
from issref.verify.formats.dialect import REFERENCE
from issref.verify.formats.stored import plain


def random_params(sizes, seed=0):
    layout, rng = REFERENCE.layout(sizes), np.random.default_rng(seed)
    return {name: rng.standard_normal(layout.shape(name)).astype("float32") for name in layout.axes}


ONE, TWO = random_params((4, 3)), random_params((4, 3, 2))


def same(params, expected):
    assert params.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(params[name], values, strict=True)


# Keras
# -----


@pytest.fixture(scope="module")
def layers():
    pytest.importorskip("torch")
    pytest.importorskip("h5py")
    os.environ["KERAS_BACKEND"] = "torch"
    return pytest.importorskip("keras").layers


@pytest.fixture
def model(layers):
    import keras as package

    lstms = [layers.LSTM(3, return_sequences=True), layers.LSTM(2, dropout=0.5)]
    model = package.Sequential([package.Input((7, 4)), *lstms, layers.Dense(3)])
    for number, layer in enumerate(lstms):
        arrays = keras.from_reference(TWO)
        layer.set_weights([arrays[f"lstm{number}/{array}"] for array in keras.SPELLING.arrays])
    return model


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5", "model.h5"])
def test_keras_own_files_are_read(name, model, tmp_path):
    path = tmp_path / name
    model.save_weights(path) if "weights" in name else model.save(path)
    found = load(path)
    same(found.params, TWO)
    assert found.framework == "keras"
    assert found.assumed
    assert ("assumed Keras' own activations: this file has no settings" in found.notes) == ("weights" in name)
    assert len([other for other in found.rest if "dense" in other]) == 2
    whole = path.read_bytes()
    for size in (0, 100, len(whole) // 2):
        path.write_bytes(whole[:size])
        with pytest.raises(
            ValueError, match=f"{path}: expected a whole file of Keras, got one that cannot be read"
        ):
            load(path)
    path.unlink()
    with pytest.raises(ValueError, match=f"{path}: expected a whole file of Keras, got no file"):
        load(path)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"recurrent_activation": "hard_sigmoid"},
            "other: expected recurrent_activation 'sigmoid', got 'hard_sig",
        ),
        ({"activation": "relu"}, "other: expected activation 'tanh', got 'relu'"),
        ({"go_backwards": True}, "other: expected go_backwards False, got True"),
    ],
)
@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_an_lstm_of_keras_with_other_settings_is_refused(name, settings, sentence, layers, tmp_path):
    import keras as package

    package.Sequential([package.Input((7, 4)), layers.LSTM(3, name="other", **settings)]).save(tmp_path / name)
    with pytest.raises(ValueError, match=f"{tmp_path / name}: {sentence}"):
        load(tmp_path / name)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_bidirectional_layer_of_keras_is_two_and_a_simple_one_is_none(layers, tmp_path):
    import keras as package

    path = tmp_path / "model.keras"
    package.Sequential([package.Input((7, 4)), layers.Bidirectional(layers.LSTM(3))]).save(path)
    with pytest.raises(
        ValueError, match=r"choice by stack, got \['layers/bidirectional/backward_layer/cell/\*', '"
    ):
        load(path)
    assert load(path, "layers/bidirectional/forward_layer/cell").params["lstm0/kernel"].shape == (7, 12)
    package.Sequential([package.Input((7, 4)), layers.SimpleRNN(3)]).save(path)
    with pytest.raises(ValueError, match=r"recurrent_kernel of . blocks? \(RNN\)"):
        load(path)


def test_arrays_that_take_more_memory_than_their_file_are_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "packed.h5", "w") as file:
        file.create_dataset("lstm/kernel", (10**6, 10**6), "f4", chunks=(100, 100))  # nothing is written
    with pytest.raises(ValueError, match="lstm/kernel: expected numbers stored one by one"):
        load(tmp_path / "packed.h5")
    with zipfile.ZipFile(tmp_path / "packed.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(hdf5.WEIGHTS, bytes(10**6))
    with pytest.raises(ValueError, match="expected a whole file of Keras, got one that cannot be read"):
        load(tmp_path / "packed.keras")


def test_settings_are_found_at_any_depth():
    lstm = {"class_name": "LSTM", "config": {"name": "deep", "activation": "relu"}}
    for config in ({"layers": [lstm]}, {"config": {"layers": [{"config": {"layer": lstm}}]}}, [[lstm]]):
        with pytest.raises(ValueError, match="deep: expected activation 'tanh', got 'relu'"):
            hdf5.check_settings(config)
    backward = {"class_name": "LSTM", "config": {"go_backwards": True}}
    cell = {
        "class_name": "RNN",
        "config": {"name": "rnn", "go_backwards": True, "cell": {"class_name": "LSTMCell"}},
    }
    with pytest.raises(ValueError, match="rnn: expected go_backwards False, got True"):
        hdf5.check_settings({"layers": [cell]})
    hdf5.check_settings({"class_name": "Bidirectional", "config": {"layer": {}, "backward_layer": cell}})
    hdf5.check_settings({"class_name": "Bidirectional", "config": {"layer": {}, "backward_layer": backward}})


# ONNX
# ----


@pytest.fixture(scope="module")
def package():
    return pytest.importorskip("onnx")


def lstm_node(package, name, x, out, *more, **attributes):
    weights = [f"{name}.{array}" for array in "WRB"]
    outputs = [f"{out}.all", out, f"{out}.c"]  # a decoder reads the last hidden state
    return package.helper.make_node("LSTM", [x, *weights, *more], outputs, name=name, hidden_size=3, **attributes)


def graph_of(package, nodes, stored, name="g"):
    inputs = [package.helper.make_tensor_value_info(name, 1, None) for name in ("x", "y")]
    tensors = [package.numpy_helper.from_array(values, name) for name, values in stored.items()]
    return package.helper.make_graph(nodes, name, inputs, [], tensors)


def written(package, path, *graph):
    opset = [package.helper.make_opsetid("", 17)]
    package.save(package.helper.make_model(graph_of(package, *graph), opset_imports=opset), path)
    return path


def weights(name, params, directions=1):
    arrays = onnx.from_reference(params)
    return {f"{name}.{array}": np.stack(directions * [arrays[f"lstm0/{array}"]]) for array in "WRB"}


def test_stored_lengths_and_states_are_said_to_be_left_out(package, tmp_path):
    states = {"lengths": np.array([5, 3], np.int32), "h": np.ones((1, 2, 3), "f4"), "c": np.zeros((1, 2, 3), "f4")}
    node = lstm_node(package, "here", "x", "out", *states)
    path = written(package, tmp_path / "in.onnx", [node], weights("here", ONE) | states)
    same(load(path).params, ONE)
    remark = (
        "lstm0: left out, though the outputs depend on it: stored lengths lengths, stored initial hidden state h"
    )
    assert remark in convert(path, tmp_path / "out.safetensors")
    path = written(package, tmp_path / "in.onnx", [lstm_node(package, "here", "x", "out")], weights("here", ONE))
    assert load(path).notes == ()


@pytest.mark.parametrize(
    "names", [("/encoder/LSTM", "/decoder/LSTM"), ("lstm0", "lstm1"), ("/LSTM", "/LSTM_1"), ("", "")]
)
def test_one_of_several_nodes_is_chosen_by_name(names, package, tmp_path):
    other = random_params((4, 3), 1)
    first = lstm_node(package, "one", "x", "a")
    second = lstm_node(package, "two", "y", "b", "", "a", "a.c")
    first.name, second.name = names
    path = written(package, tmp_path / "in.onnx", [first, second], weights("one", ONE) | weights("two", other))
    with pytest.raises(ValueError, match=r"expected one LSTM, or a choice by stack, got \['"):
        load(path)
    names = [name or f"LSTM_{number}" for number, name in enumerate(names)]
    for name, params in zip(names, (ONE, other), strict=True):
        same(load(path, name).params, params)
    assert "initial hidden state of " in load(path, names[1]).notes[0]
    assert load(path, names[0]).notes == ()


def test_a_learned_initial_state_is_found_behind_nodes_that_copy_or_cut_it(package, tmp_path):
    make, one = package.helper.make_node, np.array([1])
    ways = {
        "Expand": [make("Expand", ["state", "shape"], ["h"])],
        "Tile": [make("Tile", ["state", "shape"], ["h"])],
        "Slice": [make("Slice", ["state", "one", "shape"], ["h"])],
        "Gather": [make("Gather", ["state", "one"], ["g"]), make("Unsqueeze", ["g", "one"], ["h"])],
    }
    for nodes in ways.values():
        for state, wanted in ((np.ones((1, 1, 3), "f4"), 1), (np.zeros((1, 1, 3), "f4"), 0)):
            stored = weights("here", ONE) | {"state": state, "one": one, "shape": np.array([1, 2, 1])}
            graph = [*nodes, lstm_node(package, "here", "x", "out", "", "h")], stored
            notes = load(written(package, tmp_path / "in.onnx", *graph)).notes
            assert len(notes) == wanted
            assert not wanted or notes[0].endswith("depend on it: stored initial hidden state state")


def test_a_direction_that_the_arrays_do_not_show_is_named(package, tmp_path):
    states = {"lengths": np.array([5, 3], np.int32)}
    for more, remark in (([], ""), (["lengths"], "; left out, though the outputs depend on it: stored lengths")):
        node = lstm_node(package, "here", "x", "out", *more, direction="reverse")
        (note,) = load(written(package, tmp_path / "in.onnx", [node], weights("here", ONE) | states)).notes
        assert note.startswith(f"lstm0: runs backwards in time, which its arrays do not show{remark}")


def test_both_directions_of_a_node_are_read(package, tmp_path):
    node = lstm_node(
        package, "here", "x", "out", direction="bidirectional", activations=2 * ["Sigmoid", "Tanh", "Tanh"]
    )
    stored = weights("here", ONE, 2)
    stored["here.B"][1] += 1
    path = written(package, tmp_path / "in.onnx", [node], stored)
    same(load(path, "lstm#/*").params, ONE)
    added = load(path, "lstm#_reverse/*").params["lstm0/bias"] - ONE["lstm0/bias"]
    np.testing.assert_allclose(added, 2, rtol=4 * np.finfo("f4").eps * (1 + np.abs(ONE["lstm0/bias"]).max()))


def test_another_recurrent_node_or_an_lstm_elsewhere_is_named(package, tmp_path):
    path, helper = tmp_path / "in.onnx", package.helper
    for op, said in (
        ("RNN", "RNN"),
        ("DynamicQuantizeLSTM", r"DynamicQuantizeLSTM \(quantised LSTM\)"),
    ):
        written(package, path, [helper.make_node(op, ["x"], ["y"])], {})
        with pytest.raises(ValueError, match=f"{path}: graph: expected an LSTM or GRU node, got {said}$"):
            load(path)
    branch = graph_of(package, [lstm_node(package, "here", "x", "out")], weights("here", ONE), "branch")
    for op, parts in (("If", ("then_branch", "else_branch")), ("Loop", ("body",))):
        written(package, path, [helper.make_node(op, ["x"], ["y"], **dict.fromkeys(parts, branch))], {})
        with pytest.raises(
            ValueError, match=f"graph: expected an LSTM or GRU node, got LSTM in {min(parts)} of {op}"
        ):
            load(path)
    written(package, path, [helper.make_node("Relu", ["x"], ["y"])], {})
    with pytest.raises(ValueError, match="graph: expected an LSTM or GRU node, got no recurrent node"):
        load(path)


def test_weights_that_the_graph_computes_are_refused_with_the_way_to_store_them(tmp_path):
    th, path = pytest.importorskip("torch"), tmp_path / "in.onnx"
    pytest.importorskip("onnx")
    with warnings.catch_warnings(action="ignore"):  # of the exporter, about itself
        th.onnx.export(th.nn.LSTM(4, 3), (th.zeros(3, 2, 4),), path, dynamo=False, do_constant_folding=False)
    with pytest.raises(ValueError, match=r"got ones that Unsqueeze computes; .*do_constant_folding=True"):
        load(path)


def test_what_onnx_runtime_does_not_run_is_said(package, tmp_path):
    for dtype in ("float32", "float64"):
        files.write(tmp_path / "in.safetensors", {name: values.astype(dtype) for name, values in ONE.items()})
        told = convert(tmp_path / "in.safetensors", tmp_path / "out.onnx", overwrite=True)
        assert ("ONNX Runtime has no LSTM in float64: a float32 copy runs there" in told) == (dtype == "float64")


# Flax NNX, PyTorch
# -----------------

TOLERANCE = 2e-6  # in float32, as in test_frameworks.py


@pytest.mark.parametrize("cell", ["LSTMCell", "OptimizedLSTMCell"])
def test_a_cell_of_flax_nnx_computes_the_outputs_of_the_reference(cell):
    jax, nnx = pytest.importorskip("jax"), pytest.importorskip("flax.nnx")
    module = getattr(nnx, cell)(4, 3, rngs=nnx.Rngs(0))
    params = load_arrays(flax.arrays(nnx.state(module)))
    x, zeros = np.random.default_rng(0).standard_normal((3, 2, 4)).astype("f4"), np.zeros((2, 3), "f4")
    (hidden, _, _), _ = lstm(x, zeros, zeros, params["lstm0/kernel"], params["lstm0/bias"])
    carry = (zeros, zeros)
    with jax.default_matmul_precision("highest"):
        for step, expected in zip(x, hidden, strict=True):
            carry, found = module(carry, step)
            np.testing.assert_allclose(found, expected, atol=TOLERANCE)


def load_arrays(arrays):
    arrays, *_ = plain(arrays)
    dialect = flax.NNX if any("dense_i" in name for name in arrays) else flax.SPELLING
    return dialect.to_reference(arrays)


def test_a_state_dict_in_a_list_is_read_and_torchscript_is_refused(tmp_path):
    th, path = pytest.importorskip("torch"), tmp_path / "in.pt"
    lstm = th.nn.LSTM(4, 3)
    th.save([{"epoch": 3}, (lstm.state_dict(), [1.0])], path)
    same(load(path).params, torch.to_reference(torch.arrays(lstm.state_dict())))
    assert load(path).stack == "#.#.*_l#"
    with warnings.catch_warnings(action="ignore"):  # torch.jit is deprecated
        th.jit.script(lstm).save(path)
    with pytest.raises(
        ValueError, match=rf"{path}: expected a state dict, got a TorchScript program: save it with"
    ):
        load(path)


def test_bfloat16_of_pytorch_is_named_and_exact(tmp_path):
    th, path = pytest.importorskip("torch"), tmp_path / "in.pt"
    state = {name: values.bfloat16() for name, values in th.nn.LSTM(4, 3).state_dict().items()}
    th.save(state, path)
    found = load(path)
    assert found.dtypes == ("bfloat16",)
    same(found.params, torch.to_reference({name: values.float().numpy() for name, values in state.items()}))


def test_each_direction_of_bidaf_s_layers_can_be_named(tmp_path):
    layout, rng = bidaf.layout(bidaf.Config(10, 4, 5, 2, 3, 3, 3)), np.random.default_rng(0)
    params = {name: rng.standard_normal(layout.shape(name)).astype("float32") for name in layout.axes}
    checkpoint.save(tmp_path / "model.safetensors", params, layout=json.loads(layout.to_json()))
    places = [f"{layer}.{way}/*" for layer in ("g0", "g1", "g2", "h") for way in ("bw", "fw")]
    with pytest.raises(ValueError, match=re.escape(f"choice by stack, got {places}")):
        load(tmp_path / "model.safetensors")
    for place in places:
        found = load(tmp_path / "model.safetensors", place)
        assert found.framework == "issref"
        assert found.notes == ()
        np.testing.assert_array_equal(found.params["lstm0/kernel"], params[place.replace("*", "kernel")])
