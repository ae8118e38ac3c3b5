"""Only a plain LSTM is read: other recurrent layers are refused by kind, parts of weights are put together."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from issref.verify.formats import files, flax, keras, kinds, tf1, torch
from issref.verify.formats.convert import convert, load
from issref.verify.formats.dialect import REFERENCE


def random_params(sizes, seed=0):
    layout, rng = REFERENCE.layout(sizes), np.random.default_rng(seed)
    return {name: rng.standard_normal(layout.shape(name)) for name in layout.axes}


PARAMS, OTHER = random_params((4, 3, 3)), random_params((4, 3), seed=1)
ONE = random_params((4, 3), seed=2)


def under(prefix, arrays):
    return {prefix + name: values for name, values in arrays.items()}


def ones(**shapes):
    return {name: np.ones(shape) for name, shape in shapes.items()}


def loaded(arrays, folder, stack=None, **keywords):
    save_file({name: np.ascontiguousarray(values) for name, values in arrays.items()}, folder / "in.safetensors")
    return load(folder / "in.safetensors", stack, **keywords)


def same(found, expected):
    assert found.params.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found.params[name], values, strict=True)


# kinds
# -----

ROW = np.ones((2, 1))
LSTM = under("rnn.", torch.from_reference(ONE))
CELL = "rnn/lstm_cell/"
TF1 = {CELL + "kernel": np.ones((7, 12)), CELL + "bias": np.ones(12)}
KERAS = {"a/lstm_cell/kernel": np.ones((4, 12)), "a/lstm_cell/recurrent_kernel": np.ones((3, 12))}
OTHERS = {
    # PyTorch
    "RNN": under("rnn.", ones(weight_ih_l0=(4, 4), weight_hh_l0=(4, 4), bias_ih_l0=4, bias_hh_l0=4)),
    "LSTM with projections": under(
        "rnn.", ones(weight_ih_l0=(12, 4), weight_hh_l0=(12, 2), bias_ih_l0=12, bias_hh_l0=12, weight_hr_l0=(2, 3))
    ),
    "layer-normalised LSTM": LSTM | {"rnn.ln_ih.weight": np.ones(12)},
    "layer-normalised LSTM, one word": LSTM | {"rnn.layernorm_i": np.ones(12)},
    "layer-normalised LSTM, saved alone": torch.from_reference(ONE) | {"norm_hh.bias": np.ones(12)},
    "LSTM with peepholes": LSTM | {"rnn.weight_ci": np.ones(3)},
    "quantised LSTM": LSTM | {"rnn.weight_ih_l0_scale": np.ones(1)},
    "reparametrised LSTM, weight norm": {
        name.replace("weight_hh_l0", "weight_hh_l0_v"): values for name, values in LSTM.items()
    } | {"rnn.weight_hh_l0_g": np.ones((12, 1))},
    "reparametrised LSTM, all": {
        name.replace("weight_", "parametrizations.weight_").replace("h_l0", "h_l0.original"): values
        for name, values in LSTM.items()
    },
    "reparametrised LSTM, alone": under("", {
        name.replace("weight_hh_l0", "parametrizations.weight_hh_l0.original0"): values
        for name, values in torch.from_reference(ONE).items()
    }),
    # TensorFlow 1
    "LSTM with projections, TF 1": TF1 | {CELL + "projection/kernel": np.ones((3, 4))},
    "LSTM with projections, no bias": {CELL + "kernel": np.ones((5, 8)), CELL + "projection/kernel": ROW},
    "layer-normalised LSTM, TF 1": {CELL + "kernel": np.ones((7, 12)), CELL + "input/gamma": np.ones(3)},
    "LSTM with peepholes, TF 1": TF1 | {CELL + "w_f_diag": np.ones(3)},
    "CuDNN LSTM": {"cudnn_lstm/opaque_kernel": np.ones(99)},
    # Keras
    "RNN, Keras": {"a/kernel": np.ones((4, 4)), "a/recurrent_kernel": np.ones((4, 4)), "a/bias": np.ones(4)},
    "CuDNN LSTM, Keras": KERAS | {"a/lstm_cell/bias": np.ones(24)},
    "layer-normalised LSTM, Keras": KERAS | {"a/lstm_cell/kernel_norm/gamma:0": np.ones(12)},
    # Flax
    "convolutional LSTM": {"cell/ih/kernel": np.ones((1, 3, 12)), "cell/hh/kernel": np.ones((1, 3, 12))},
}  # fmt: skip


@pytest.mark.parametrize("which", OTHERS)
def test_another_recurrent_layer_is_refused_by_kind(which, tmp_path):
    kind = which.split(",")[0]
    with pytest.raises(ValueError, match=rf"in.safetensors: .*expected .*, got .* \({kind}\)") as raised:
        loaded(OTHERS[which], tmp_path)
    assert "\n" not in str(raised.value)
    if kind == "reparametrised LSTM":
        assert "remove_weight_norm or remove_spectral_norm makes it plain" in str(raised.value)


def test_every_kind_of_the_table_is_tested_and_only_lstm_and_gru_are_read():
    assert {kind.name for kind in kinds.KINDS} == {which.split(",")[0] for which in OTHERS} | {
        "LSTM", "GRU", "LSTM with coupled gates",
    }  # fmt: skip
    assert [kind.name for kind in kinds.KINDS if kind.reads] == ["GRU", "LSTM"]


@pytest.mark.parametrize("which", ["RNN", "layer-normalised LSTM", "LSTM with projections"])
def test_another_layer_is_never_offered_as_an_lstm_next_to_one(which, tmp_path):
    arrays = OTHERS[which] | under("plain.", torch.from_reference(OTHER))
    same(loaded(arrays, tmp_path), OTHER)
    with pytest.raises(ValueError, match=rf"\({which}\)"):
        loaded(arrays, tmp_path, "rnn.*_l#")


def test_an_unknown_array_below_a_cell_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"rnn.zoneout: expected only weight_ih, .* in a plain LSTM, got another"):
        loaded(LSTM | {"rnn.zoneout": np.ones(3)}, tmp_path)
    slots = {f"{name}/Adam": values for name, values in TF1.items()} | {CELL + "seed_generator/state": np.ones(2)}
    assert loaded(TF1 | slots, tmp_path).framework == "tf1"


# weights in parts
# ----------------


@pytest.mark.parametrize("prefix", ["", "model.rnn."])
@pytest.mark.parametrize(
    "masked", [["weight_ih_l0"], ["weight_hh_l1", "bias_ih_l0"], ["weight_ih_l0", "weight_hh_l0"]]
)
def test_a_masked_weight_is_original_times_mask(prefix, masked, tmp_path):
    rng, arrays = np.random.default_rng(0), torch.from_reference(PARAMS)
    expected = dict(arrays)
    for name in masked:
        mask = (rng.random(arrays[name].shape) < 0.5).astype(float)
        expected[name] = arrays[name] * mask
        arrays |= {f"{name}_orig": arrays.pop(name), f"{name}_mask": mask}
    found = loaded(under(prefix, arrays), tmp_path)
    same(found, torch.to_reference(expected))
    assert set(found.notes) == {
        f"{prefix}{name} is {prefix}{name}_orig times {prefix}{name}_mask" for name in masked
    }
    assert found.stack == f"{prefix}*_l#"
    for ending in ("_orig", "_mask"):
        with pytest.raises(ValueError, match=r"stack: expected one of \['[\w.]*\*_l#'\]"):
            loaded(under(prefix, arrays), tmp_path, f"{prefix}*_l#{ending}")


@pytest.mark.parametrize("raw", ["rnns.0.module.weight_hh_l0_raw", "rnns.0.weight_hh_l0_raw"])
@pytest.mark.parametrize("copy", [True, False], ids=["with a dropped-out copy", "alone"])
def test_the_raw_weight_of_a_weight_drop_is_the_weight(raw, copy, tmp_path):
    arrays = under("rnns.0.module.", torch.from_reference(ONE))
    weight = arrays.pop("rnns.0.module.weight_hh_l0")
    arrays |= {raw: weight} | ({"rnns.0.module.weight_hh_l0": 0 * weight} if copy else {})
    found = loaded(arrays, tmp_path)
    same(found, ONE)
    assert found.notes == (f"rnns.0.module.weight_hh_l0 is {raw}, the weight without dropout",)
    assert found.rest == {}


def test_a_mask_of_another_shape_or_next_to_the_weight_is_refused(tmp_path):
    parts = {"rnn.weight_hh_l0_orig": np.ones((12, 3)), "rnn.weight_hh_l0_mask": np.ones((12, 3))}
    with pytest.raises(ValueError, match=r"weight_hh_l0_mask: expected only .* \(reparametrised LSTM\)"):
        loaded(LSTM | parts, tmp_path)
    alone = {name: values for name, values in LSTM.items() if "weight_hh" not in name}
    with pytest.raises(ValueError, match=r"weight_hh_l0_mask: expected shape \(12, 3\), got \(3,\)"):
        loaded(alone | {**parts, "rnn.weight_hh_l0_mask": np.ones(3)}, tmp_path)


# several LSTMs
# -------------


def numbered(start, separator, *stacks):
    return {k: v for n, one in enumerate(stacks, start) for k, v in under(f"lstm{n}{separator}", one).items()}


def test_a_chain_of_modules_is_said_and_each_can_be_named(tmp_path):
    one, two = random_params((4, 3)), random_params((3, 2), seed=1)
    arrays = numbered(1, ".", torch.from_reference(one), torch.from_reference(two))
    found = loaded(arrays, tmp_path)
    assert found.assumed
    assert found.notes[0].startswith("assumed that lstm1, lstm2 are a chain")
    assert convert(tmp_path / "in.safetensors", tmp_path / "out.safetensors")[1] == found.notes[0]
    same(loaded(arrays, tmp_path, "lstm2.*_l#"), two)
    same(loaded(arrays, tmp_path, "lstm1"), one)
    chain = loaded(arrays, tmp_path, "lstm#.*_l#")
    assert (chain.assumed, chain.notes) == (False, ())
    same(chain, found.params)


def cells(of, *places):
    """One layer for each place and width of its input."""
    found = {}
    for place, width in places:
        params = random_params((width, 3))
        layer = of.from_reference(params) if of else params
        found |= {f"{place}/{name.partition('/')[2]}": values for name, values in layer.items()}
    return found


@pytest.mark.parametrize(
    ("arrays", "choices"),
    [
        (numbered(1, ".", torch.from_reference(ONE), torch.from_reference(OTHER)), ["lstm1.*_l#", "lstm2.*_l#"]),
        (numbered(1, ".", torch.from_reference(PARAMS), torch.from_reference(random_params((3, 3, 3)))),
         ["lstm1.*_l#", "lstm2.*_l#"]),
        ({**torch.from_reference(ONE), **{f"{k}_reverse": v for k, v in torch.from_reference(OTHER).items()},
          **{name.replace("_l0", "_l1") + end: values for end in ("", "_reverse")
             for name, values in torch.from_reference(random_params((6, 3))).items()}},
         ["*_l0", "*_l0_reverse", "*_l1", "*_l1_reverse"]),
        (cells(keras, ("bidirectional/forward_lstm/lstm_cell", 4), ("bidirectional/backward_lstm/lstm_cell", 4),
               ("bidirectional_1/forward_lstm/lstm_cell", 3), ("bidirectional_1/backward_lstm/lstm_cell", 3)),
         [f"bidirectional{n}/{way}_lstm/lstm_cell/*" for n in ("", "_1") for way in ("backward", "forward")]),
        (cells(None, ("g0.fw", 8), ("g0.bw", 8), ("g1.fw", 6), ("g1.bw", 6), ("g2.fw", 3), ("g2.bw", 3)),
         [f"{g}.{way}/*" for g in ("g0", "g1", "g2") for way in ("bw", "fw")]),
    ],
    ids=["side by side", "two stacks", "two directions, two layers", "Keras, directions added up", "BiDAF"],
)  # fmt: skip
def test_what_is_no_chain_is_offered_one_by_one(arrays, choices, tmp_path):
    with pytest.raises(ValueError, match="expected one LSTM, or a choice by stack, got ") as raised:
        loaded(arrays, tmp_path)
    assert sorted(listed(str(raised.value))) == sorted(choices)
    for choice in choices:
        found = loaded(arrays, tmp_path, choice)
        assert found.stack == choice
        place = choice.replace("#", "0")
        chosen = {name for name in arrays if name not in found.rest}
        assert all(name.startswith(place.split("*")[0]) for name in chosen)
    with pytest.raises(ValueError, match="stack: expected one of"):
        loaded(arrays, tmp_path, "nothing/*")


def listed(message):
    return [part.strip("' ") for part in message.rpartition("[")[2].rstrip("]").split(",")]


# names
# -----


def keras_2(names):
    return {
        f"{name}/{name}/{cell}/{array.split('/')[1]}:0": values
        for layer, (name, cell) in enumerate(names)
        for array, values in keras.from_reference(PARAMS).items()
        if array.startswith(f"lstm{layer}/")
    }


@pytest.mark.parametrize(
    "names",
    [
        [("lstm", "lstm_cell"), ("lstm_1", "lstm_cell")],
        [("lstm", "lstm_cell"), ("lstm_1", "lstm_cell_1")],
        [("lstm_1", "cell"), ("lstm_2", "cell")],
        [("lstm_9", "lstm_cell_19"), ("lstm_10", "lstm_cell_20")],
    ],
)
def test_keras_counts_its_layers_in_one_or_more_places(names, tmp_path):
    found = loaded(keras_2(names), tmp_path)
    same(found, PARAMS)
    assert found.assumed
    last = f"{names[1][0]}/{names[1][0]}/{names[1][1]}/*"
    same(
        loaded(keras_2(names), tmp_path, last), {k.replace("1", "0"): v for k, v in PARAMS.items() if "lstm1" in k}
    )


def test_one_name_with_and_without_a_colon_is_refused(tmp_path):
    with pytest.raises(ValueError, match="a/kernel: expected one array of this name, got a/kernel:0 too"):
        loaded(ones(**{"a/kernel": 3, "a/kernel:0": 3}), tmp_path)


@pytest.mark.parametrize("place", ["rnn/lstm/", "bidirectional_rnn/fw/", "encoder/my_lstm/"])
def test_a_kernel_of_another_name_than_issref_s_is_tensorflow_s(place, tmp_path):
    arrays = under(place, {"kernel": ONE["lstm0/kernel"], "bias": ONE["lstm0/bias"]})
    found = loaded(arrays, tmp_path)
    assert found.framework == "tf1"
    same(found, ONE)
    remarks = convert(tmp_path / "in.safetensors", tmp_path / "out.safetensors")
    assert (
        "the forget_bias of the TF 1 cell was taken to be 0 (its default is 1); --forget-bias gives another"
        in remarks
    )
    shifted = {**ONE, "lstm0/bias": tf1.to_reference(tf1.from_reference(ONE), forget_bias=1.0)["lstm0/bias"]}
    same(loaded(arrays, tmp_path, forget_bias=1.0), shifted)


def test_a_dense_layer_below_a_module_called_lstm_is_no_lstm(tmp_path):
    dense = {"my_lstm/dense/kernel": np.ones((7, 12)), "my_lstm/dense/bias": np.ones(12)}
    found = loaded(dense | under("my_lstm/", {f"rnn/{name}": v for name, v in ONE.items()}), tmp_path)
    assert found.stack == "my_lstm/rnn/lstm#/*"


@pytest.mark.parametrize("cell", ["LSTMCell", "OptimizedLSTMCell"])
def test_flax_nnx_is_read(cell, tmp_path):
    parts = flax.from_reference(ONE)
    arrays = {name.replace("/if/", "/if_/"): values for name, values in parts.items()}
    if cell == "OptimizedLSTMCell":
        gates = (
            [parts[f"lstm0/i{gate}/kernel"] for gate in "ifgo"],
            [parts[f"lstm0/h{gate}/kernel"] for gate in "ifgo"],
        )
        bias = np.concatenate([parts[f"lstm0/h{gate}/bias"] for gate in "ifgo"])
        arrays = {"lstm0/dense_i/kernel": np.hstack(gates[0]), "lstm0/dense_h/kernel": np.hstack(gates[1])}
        arrays["lstm0/dense_h/bias"] = bias
    same(loaded(under("cell/", arrays), tmp_path), ONE)


def test_no_biases_are_not_said_to_be_added_up(tmp_path):
    arrays = {name: values for name, values in torch.from_reference(ONE).items() if values.ndim == 2}
    for given, said in ((arrays, False), (torch.from_reference(ONE), True)):
        loaded(given, tmp_path)
        remarks = convert(tmp_path / "in.safetensors", tmp_path / "out.safetensors", overwrite=True)
        assert ("the two biases of each gate were added up" in remarks) == said


# bfloat16
# --------


def bfloat16_file(arrays):
    """The bytes of a safetensors file of bfloat16."""
    header, data = {}, b""
    for name, values in arrays.items():
        content = (values.astype(np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
        offsets = [len(data), len(data) + len(content)]
        header[name] = {"dtype": "BF16", "shape": values.shape, "data_offsets": offsets}
        data += content
    head = json.dumps(header).encode()
    return len(head).to_bytes(8, "little") + head + data


def test_bfloat16_is_read_from_safetensors_and_named(tmp_path):
    arrays = torch.from_reference(ONE).items()
    exact = {name: files.rounded(values, "bfloat16").astype("float32") for name, values in arrays}
    (tmp_path / "in.safetensors").write_bytes(bfloat16_file(exact))
    found = load(tmp_path / "in.safetensors")
    assert found.dtypes == ("bfloat16",)
    same(found, torch.to_reference(exact))
    told = convert(tmp_path / "in.safetensors", tmp_path / "out.safetensors")
    assert told[0].endswith("4 -> 3, bfloat16")
    assert told[1] == "all arrays are written as float32"


def test_rounding_to_bfloat16_is_to_the_nearest_ties_to_even():
    step = 2.0**-7
    np.testing.assert_array_equal(
        files.rounded(np.array([1, 1 + step / 2, 1 + 1.5 * step, 1 + 0.6 * step, -1 - 0.4 * step, 0]), "bfloat16"),
        [1, 1, 1 + 2 * step, 1 + step, -1, 0],
    )
    assert files.eps("bfloat16") == step
