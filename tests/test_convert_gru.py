"""GRUs are read and written in both conventions of the reset gate, or refused by formats that have only one."""

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import unhooked
from test_convert_kinds import ONE
from test_pruned import network, random_params, unread

from issref import crosscheck
from issref.iss.compact import compact
from issref.ops.gru import gru
from issref.verify.formats import files, flax, keras, onnx, tf1, torch
from issref.verify.formats.cells import GRU, GRU_RESET_BEFORE, LSTM
from issref.verify.formats.convert import convert, load
from issref.verify.formats.dialect import reference
from issref.verify.formats.dialects import DIALECTS
from issref.verify.pruned.compare import compare_checkpoints

SPELLINGS = [(name, dialect) for name, dialect in DIALECTS if dialect.cell in (GRU, GRU_RESET_BEFORE)]
TARGETS = {GRU: ("torch", "flax", "keras", "onnx"), GRU_RESET_BEFORE: ("keras", "tf1", "onnx")}


def drawn(cell, widths=(2, 3, 4), seed=0):
    return random_params(reference(cell).layout(widths), np.random.default_rng(seed))


@given(st.sampled_from(SPELLINGS), st.lists(st.integers(1, 4), min_size=2, max_size=4), st.integers(0, 2**32 - 1))
def test_every_dialect_holds_a_gru_exactly(spelling, widths, seed):
    _, dialect = spelling
    params = drawn(dialect.cell, widths, seed)
    if dialect is flax.NNX_GRU:  # it has no bias inside the reset
        params = {name: values * (not name.endswith("bias")) for name, values in params.items()}
    again = dialect.to_reference(dialect.from_reference(params), dialect.place)
    assert again.keys() == params.keys()
    for name, values in params.items():
        np.testing.assert_array_equal(again[name], values, strict=True)


@pytest.mark.parametrize("cell", TARGETS)
def test_a_file_is_converted_to_each_format_and_back(cell, tmp_path):
    params = drawn(cell)
    files.write(tmp_path / "a.safetensors", params)
    for target in TARGETS[cell]:
        if target in ("torch", "onnx"):
            pytest.importorskip(target)
        there = tmp_path / ("b.onnx" if target == "onnx" else f"b.{target}.safetensors")
        convert(tmp_path / "a.safetensors", there)
        found = load(there)
        assert found.framework == target
        convert(there, tmp_path / "c.safetensors", overwrite=True)
        again = load(tmp_path / "c.safetensors")
        assert again.framework == "issref"
        for name, values in params.items():
            np.testing.assert_array_equal(found.params[name], values, strict=True)
            np.testing.assert_array_equal(again.params[name], values, strict=True)


REFUSED = {
    "b.torch.safetensors": "before the product (onnx, keras, tf1, issref), got torch, whose GRU has it after",
    "b.flax.safetensors": "before the product (onnx, keras, tf1, issref), got flax, whose GRU has it after",
    "b.tf1.safetensors": "after the product (torch, onnx, flax, keras, issref), got tf1, whose GRU has it before",
}


@pytest.mark.parametrize("target", REFUSED)
def test_a_format_without_the_convention_is_refused_in_one_sentence(target, tmp_path, capsys):
    files.write(tmp_path / "a.safetensors", drawn(GRU if "tf1" in target else GRU_RESET_BEFORE))
    assert crosscheck.main(["convert", str(tmp_path / "a.safetensors"), str(tmp_path / target)]) == 2
    error = capsys.readouterr().err
    assert f"expected a format for a GRU whose reset acts {REFUSED[target]}" in error
    assert error.count("\n") == 1
    assert not (tmp_path / target).exists()


def test_without_a_choice_an_lstm_is_read_before_a_gru(tmp_path):
    lstms = {f"a.{name}": values for name, values in torch.from_reference(ONE).items()}
    grus = {f"b.{name}": values for name, values in torch.SPELLING_GRU.from_reference(drawn(GRU, (2, 3))).items()}
    files.write(tmp_path / "in.safetensors", lstms | grus)
    assert load(tmp_path / "in.safetensors").stack == "a.*_l#"
    assert load(tmp_path / "in.safetensors", "b.*_l0").params.keys() == {"gru0/kernel", "gru0/bias"}


def test_the_two_biases_of_keras_are_rows(tmp_path):
    arrays = keras.SPELLING_GRU.from_reference(drawn(GRU, (2, 3)))
    keras.write(tmp_path / "in.safetensors", arrays)
    assert files.read(tmp_path / "in.safetensors")["gru0/bias"].shape == (2, 9)
    arrays["gru0/bias"] = arrays["gru0/bias"].reshape(3, 6)
    files.write(tmp_path / "in.safetensors", arrays)
    with unhooked(), pytest.raises(ValueError, match="gru0/bias: expected shape"):
        load(tmp_path / "in.safetensors")


@pytest.mark.parametrize("cell", TARGETS)
def test_a_pruned_gru_is_told_from_another_one(cell, tmp_path):
    rng, layout = np.random.default_rng(0), network((2, 3, 4), dialect=reference(cell))
    keep = {"gru0": np.arange(3) != 1, "gru1": np.arange(4) != 1}
    before = unread(random_params(layout, rng), layout, keep, rng)
    after, _ = compact(before, layout, keep)
    embed = {"embed/kernel": np.ones((5, 2))}
    paths = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    for path, arrays in zip(paths, (before, after), strict=True):
        files.write(path, arrays | embed)
    report = compare_checkpoints(*paths)
    assert report.preserved is True
    assert not report.findings
    assert [each["removed"] for each in report.layers] == [[1], [1]]
    rolled = np.roll(before["gru0/kernel"], 3, axis=1)  # another order of the gates
    scaled = {"gru1/bias": np.roll(after["gru1/bias"], 1), "gru0/kernel": after["gru0/kernel"] * 1.5}
    for wrong in (before | {"gru0/kernel": rolled}, after | scaled):
        files.write(paths[1], wrong | embed)
        report = compare_checkpoints(*paths)
        assert report.preserved is False
        assert report.findings


def test_pruned_refuses_two_conventions_of_the_reset(tmp_path):
    for name, cell in (("a", GRU), ("b", GRU_RESET_BEFORE)):
        files.write(tmp_path / f"{name}.safetensors", drawn(cell))
    wanted = "expected GRU, reset after the product, as before, got GRU, reset before the product"
    with unhooked(), pytest.raises(ValueError, match=wanted):
        compare_checkpoints(tmp_path / "a.safetensors", tmp_path / "b.safetensors")


# each table against its framework: another order of gates or biases gives other outputs
# ---------------------------------------------------------------------------------------


def in_torch(arrays, x):
    th = pytest.importorskip("torch")
    x = th.tensor(x)
    for layer in torch.build(arrays):
        x, _ = layer(x)
    return x.detach().numpy()


def in_keras(arrays, x):
    pytest.importorskip("torch")
    os.environ.setdefault("KERAS_BACKEND", "torch")
    pytest.importorskip("keras")
    x = x.swapaxes(0, 1)
    for layer in keras.build(arrays):
        x, _ = layer(x)
    return np.asarray(x.detach()).swapaxes(0, 1)


def in_flax(arrays, x):
    jax, nn = pytest.importorskip("jax"), pytest.importorskip("flax.linen")
    with jax.default_matmul_precision("highest"):
        for cell in flax.build(arrays).values():
            units = len(cell["hn"]["bias"])
            x = nn.RNN(nn.GRUCell(units), time_major=True).apply({"params": {"cell": cell}}, x)
    return np.asarray(x)


def in_nnx(arrays, x):
    jax, nnx = pytest.importorskip("jax"), pytest.importorskip("flax.nnx")
    with jax.default_matmul_precision("highest"):
        for name, weights in flax.build(arrays).items():
            inputs, units = weights["dense_i"]["kernel"].shape[0], weights["dense_h"]["kernel"].shape[0]
            cell, h = nnx.GRUCell(inputs, units, rngs=nnx.Rngs(0)), np.zeros((x.shape[1], units), "float32")
            nnx.update(cell, nnx.State(weights))
            assert flax.arrays(nnx.state(cell)).keys() == {f"{one}" for one in below(arrays, name)}
            hidden = []
            for step in x:
                h, _ = cell(h, step)
                hidden.append(h)
            x = np.array(hidden)
    return x


def below(arrays, name):
    return [one.removeprefix(f"{name}/") for one in arrays if one.startswith(f"{name}/")]


def in_onnx(arrays, x):
    pytest.importorskip("onnx")
    session = pytest.importorskip("onnxruntime").InferenceSession(onnx.build(arrays).SerializeToString())
    _, *states = session.get_inputs()
    zeros = {state.name: np.zeros((1, x.shape[1], state.shape[2]), "float32") for state in states}
    return session.run(None, {"x": x, **zeros})[0]


def in_tf1(arrays, x):
    """TensorFlow's GRUCell, as its source has it, in NumPy."""

    def sigmoid(values):
        return 1 / (1 + np.exp(-values))

    for layer in tf1.SPELLING_GRU_BEFORE.find(arrays):
        h, hidden = np.zeros((x.shape[1], len(layer["candidate/bias"])), "float32"), []
        for step in x:
            gates = sigmoid(np.concatenate((step, h), 1) @ layer["gates/kernel"] + layer["gates/bias"])
            r, u = np.split(gates, 2, axis=1)
            c = np.tanh(np.concatenate((step, r * h), 1) @ layer["candidate/kernel"] + layer["candidate/bias"])
            h = u * h + (1 - u) * c
            hidden.append(h)
        x = np.array(hidden)
    return x


FORWARD = {"torch": in_torch, "keras": in_keras, "flax": in_flax, "onnx": in_onnx, "tf1": in_tf1}


OTHERS = [number for number, (framework, _) in enumerate(SPELLINGS) if framework != "issref"]


@pytest.mark.parametrize("number", OTHERS)
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_framework_computes_the_outputs_of_a_converted_gru(number):
    framework, dialect = SPELLINGS[number]
    params = {name: values.astype("float32") for name, values in drawn(dialect.cell, (3, 4, 5)).items()}
    for layer, units in (("gru0", 4), ("gru1", 5)):
        if dialect is flax.NNX_GRU:  # it has no bias inside the reset
            params[f"{layer}/bias"][3 * units :] = 0
    x = hidden = np.random.default_rng(1).standard_normal((4, 2, 3)).astype("float32")
    for layer, units in (("gru0", 4), ("gru1", 5)):
        weights = params[f"{layer}/kernel"], params[f"{layer}/bias"]
        (hidden, _), _ = gru(hidden, np.zeros((2, units), "f4"), *weights, reset_after=dialect.cell == GRU)
    forward = in_nnx if dialect is flax.NNX_GRU else FORWARD[framework]
    found = forward(dialect.from_reference(params), x)
    terms = sum(np.abs(values).sum() for values in params.values())  # at most this is summed up in a step
    assert np.abs(found - hidden).max() <= 4 * 2 * np.finfo("float32").eps * terms


def test_what_arrays_of_keras_without_settings_do_not_show_is_named(tmp_path):
    own = "assumed Keras' own activations: this file has no settings"
    reset = "assumed reset_after=True: without a bias the arrays do not show it"
    for cell, bias, expected in ((GRU, True, [own]), (GRU, False, [own, reset]), (LSTM, False, [own])):
        count = len(cell.gates) * 3
        arrays = {"kernel": np.ones((2, count)), "recurrent_kernel": np.ones((3, count))}
        arrays |= {"bias": np.ones((2, count))} if bias else {}
        files.write(tmp_path / "in.safetensors", {f"{cell.space}/{name}": of for name, of in arrays.items()})
        assert [*load(tmp_path / "in.safetensors").notes] == expected
