"""Checkpoints of the frameworks are cut: each loads the result at the smaller size, with the same outputs."""

import json
import os

import numpy as np
import pytest

from issref import crosscheck
from issref.verify.formats.convert import load
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
    pytest.importorskip("torch")
    pytest.importorskip("h5py")
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")

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
    found = load(source)
    reader = next(name for name, values in found.rest.items() if values.shape == (5, 2))
    target = run(source, "--dead", "--stack", found.stack, "--reader", reader)
    if "weights" in suffix:
        (target := target.rename(target.with_suffix(".weights.h5")))
        small = network(3)
        small.load_weights(target)
    else:
        small = keras.models.load_model(target)
    assert small.count_params() == network(3).count_params()
    close(np.asarray(small.predict(X, verbose=0)), before)


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
