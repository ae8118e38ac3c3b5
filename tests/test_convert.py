"""Conversion of checkpoints between formats is exact to the bit; bad input gives one line."""

import json
import os
import pickle
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from issref import crosscheck
from issref.iss.layout import Layout
from issref.training import checkpoint
from issref.verify.formats import dialect, files, flax, keras, onnx, tf1, torch
from issref.verify.formats.convert import convert, load, widths
from issref.verify.formats.dialect import REFERENCE

MODULES = {"torch": torch, "onnx": onnx, "flax": flax, "keras": keras, "tf1": tf1}
SUFFIXES = {
    ".pt": "torch", ".pth": "torch", ".torch.safetensors": "torch", ".onnx": "onnx", ".flax.safetensors": "flax",
    ".keras.safetensors": "keras", ".tf1.safetensors": "tf1", ".safetensors": "issref",
}  # fmt: skip


def random_params(sizes, dtype="float32"):
    layout, rng = REFERENCE.layout(sizes), np.random.default_rng(0)
    return {name: rng.standard_normal(layout.shape(name)).astype(dtype) for name in layout.axes}


PARAMS, UNEQUAL = random_params((4, 3, 3)), random_params((4, 3, 2), "float64")


def write(path, params):
    """Write a file in the format of its suffix, with that framework's module."""
    framework = next(of for suffix, of in SUFFIXES.items() if path.name.endswith(suffix))
    if framework in ("torch", "onnx"):
        pytest.importorskip(framework)
    if framework == "issref":
        save_file(params, path)
    else:
        MODULES[framework].write(path, MODULES[framework].from_reference(params))
    return path


def same_bits(one, other):
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name], strict=True)


WAYS = [(source, target, UNEQUAL) for source in SUFFIXES if source != ".pth" for target in SUFFIXES]
WAYS += [(".pth", target, PARAMS) for target in SUFFIXES] + [
    (".safetensors", target, PARAMS) for target in SUFFIXES
]


@pytest.mark.parametrize(("source", "target", "params"), WAYS)
def test_every_way_is_the_conversion_of_the_arrays(source, target, params, tmp_path):
    before, after = write(tmp_path / f"in{source}", params), tmp_path / f"out{target}"
    expected = write(tmp_path / f"expected{target}", params)
    told = convert(before, after)
    assert told[0].startswith(f"{before}: {SUFFIXES[source]} ")
    assert told[-1] == f"{after}: written for {SUFFIXES[target]}"
    same_bits(load(after).params, params)
    assert {path.name for path in tmp_path.iterdir()} == {before.name, after.name, expected.name}
    if SUFFIXES[target] in ("torch", "onnx"):
        read = MODULES[SUFFIXES[target]].read
        same_bits(read(after), read(expected))
    else:
        same_bits(files.read(after), files.read(expected))


def test_what_was_done_is_said(tmp_path):
    path = tmp_path / "model.safetensors"
    arrays = {f"rnn.{name}": values for name, values in torch.from_reference(UNEQUAL).items()}
    save_file({**arrays, "decoder.weight": np.ones((5, 2)), "decoder.bias": np.ones(5)}, path)
    assert convert(path, tmp_path / "out.safetensors") == [
        f"{path}: torch rnn.*_l#, 4 -> 3 -> 2, float64",
        "the two biases of each gate were added up",
        "left out, not part of this LSTM: decoder.bias, decoder.weight",
        f"{tmp_path / 'out.safetensors'}: written for issref",
    ]
    pytest.importorskip("torch")
    assert convert(tmp_path / "out.safetensors", tmp_path / "out.pt")[1:3] == [
        "the second bias of each gate is zero",
        "widths differ, so this is an nn.ModuleList with an nn.LSTM for each layer",
    ]


def test_what_issref_writes_has_its_layout(tmp_path):
    convert(write(tmp_path / "in.keras.safetensors", UNEQUAL), tmp_path / "out.safetensors")
    params, about = checkpoint.load(tmp_path / "out.safetensors")
    layout = Layout.from_json(json.dumps(about["layout"]))
    assert layout == REFERENCE.layout((4, 3, 2))
    layout.check(params)


# what is recognised
# ------------------


def named(arrays, path):
    save_file({name: np.ascontiguousarray(values) for name, values in arrays.items()}, path)
    return load(path)


def under(prefix, arrays):
    return {prefix + name: values for name, values in arrays.items()}


def renamed(arrays, *pairs):
    for old, new in pairs:
        arrays = {name.replace(old, new): values for name, values in arrays.items()}
    return arrays


DENSE = {"dense/kernel": np.ones((3, 8)), "dense/bias": np.ones(8)}
MODEL = {"embed/kernel": np.ones((7, 4)), "softmax/kernel": np.ones((3, 12)), "softmax/bias": np.ones(12)}


@pytest.mark.parametrize(
    ("arrays", "framework", "stack"),
    [
        (torch.from_reference(PARAMS), "torch", "*_l#"),
        (under("encoder.", torch.from_reference(PARAMS)), "torch", "encoder.*_l#"),
        ({**keras.from_reference(PARAMS), **DENSE}, "keras", "lstm#/*"),
        (renamed(flax.from_reference(PARAMS), ("lstm", "OptimizedLSTMCell_")) | DENSE, "flax",
         "OptimizedLSTMCell_#/*"),
        (tf1.from_reference(PARAMS), "tf1", "Model/RNN/multi_rnn_cell/cell_#/basic_lstm_cell/*"),
        (renamed(tf1.from_reference(PARAMS), ("weights", "kernel"), ("biases", "bias")) | DENSE, "tf1",
         "Model/RNN/multi_rnn_cell/cell_#/basic_lstm_cell/*"),
        ({**PARAMS, **MODEL}, "issref", "lstm#/*"),
        (checkpoint.add_prefix(params={**PARAMS, **MODEL}, state={"lstm0/h": np.ones((2, 3))}), "issref",
         "params/lstm#/*"),
    ],
)  # fmt: skip
def test_the_names_tell_the_framework(arrays, framework, stack, tmp_path):
    found = named(arrays, tmp_path / "model.safetensors")
    assert (found.framework, found.stack) == (framework, stack)
    same_bits(found.params, PARAMS)
    assert widths(found.params) == [4, 3, 3]
    parts = ("dense", "embed", "softmax", "params/embed", "params/softmax", "state")
    assert found.rest.keys() == {name for name in arrays if name.startswith(parts)}


def test_of_two_lstms_one_is_chosen(tmp_path):
    path, other = tmp_path / "model.safetensors", random_params((3, 2))
    both = under("encoder.", torch.from_reference(PARAMS)) | under("decoder.", torch.from_reference(other))
    save_file({name: np.ascontiguousarray(values) for name, values in both.items()}, path)
    with pytest.raises(
        ValueError, match=rf"{path}: arrays: expected one LSTM, or a choice by stack, got \['decoder"
    ):
        load(path)
    with pytest.raises(ValueError, match=rf"{path}: stack: expected one of \['decoder.*, got 'x.\*_l#'$"):
        load(path, "x.*_l#")
    same_bits(load(path, "encoder.*_l#").params, PARAMS)
    convert(path, tmp_path / "out.safetensors", stack="decoder.*_l#")
    same_bits(load(tmp_path / "out.safetensors").params, other)


def test_any_name_is_taken_if_it_is_given(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(renamed(PARAMS, ("lstm", "cell")), path)
    with pytest.raises(ValueError, match="expected an LSTM's or a GRU's arrays, with names like"):
        load(path)
    same_bits(load(path, "cell#/*").params, PARAMS)


def test_the_forget_bias_of_a_tf1_cell_goes_in_and_out(tmp_path):
    source = write(tmp_path / "in.tf1.safetensors", UNEQUAL)
    told = convert(source, tmp_path / "out.safetensors", forget_bias=1.0)
    assert "the forget_bias of the TF 1 cell was taken to be 1 (its default is 1)" in told
    same_bits(load(tmp_path / "out.safetensors").params, tf1.to_reference(files.read(source), forget_bias=1.0))
    convert(tmp_path / "out.safetensors", tmp_path / "back.tf1.safetensors", forget_bias=1.0)
    for name, values in files.read(tmp_path / "back.tf1.safetensors").items():
        np.testing.assert_allclose(values, files.read(source)[name], rtol=1e-14, atol=1e-15)
    with pytest.raises(ValueError, match="forget_bias: expected a file of tf1 with an LSTM, got issref and keras"):
        convert(tmp_path / "out.safetensors", tmp_path / "out.keras.safetensors", forget_bias=1.0)


def test_layers_of_several_dtypes_are_written_in_the_widest(tmp_path):
    mixed = {name: values.astype("float64" if "lstm1" in name else "float32") for name, values in PARAMS.items()}
    told = convert(write(tmp_path / "in.safetensors", mixed), tmp_path / "out.keras.safetensors")
    assert told[0].endswith("float32 and float64")
    assert told[1] == "all arrays are written as float64"
    same_bits(load(tmp_path / "out.keras.safetensors").params, {n: v.astype("float64") for n, v in PARAMS.items()})


# what is refused
# ---------------


@pytest.fixture
def source(tmp_path):
    return write(tmp_path / "in.safetensors", PARAMS)


def refused(source, target, sentence, **choices):
    """Expect ValueError with this text, and no new file in the folder."""
    before = {path: path.read_bytes() for path in source.parent.iterdir() if path.is_file()}
    with pytest.raises(ValueError, match=sentence) as raised:
        convert(source, target, **choices)
    assert "\n" not in str(raised.value)
    assert {path: path.read_bytes() for path in source.parent.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("name", ["out", "out.h5", "out.keras", "out.npz", "out.safetensor"])
def test_a_target_of_unknown_suffix_is_refused(name, source, tmp_path):
    refused(
        source, tmp_path / name, rf"^{tmp_path / name}: expected a name that ends in \.pt, .*\.safetensors, got"
    )


def test_a_source_of_unknown_suffix_is_refused(tmp_path):
    path = tmp_path / "model.npz"
    path.write_bytes(b"")
    refused(path, tmp_path / "out.safetensors", rf"^{path}: expected a name that ends in .*, got '\.npz'")


def test_a_file_is_never_written_over_itself_and_another_only_with_leave(source, tmp_path):
    there = write(tmp_path / "there.keras.safetensors", UNEQUAL)
    os.link(source, tmp_path / "linked.keras.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    for leave in (False, True):
        for itself in (source, tmp_path / "linked.keras.safetensors"):
            refused(source, itself, f"^{itself}: expected another file than", overwrite=leave)
        refused(source, tmp_path / "folder.safetensors", "expected a file to write, got a folder", overwrite=leave)
    refused(source, there, f"^{there}: expected a new file, or leave to overwrite, got one that exists")
    convert(source, there, overwrite=True)
    same_bits(load(there).params, PARAMS)


def test_a_target_in_no_folder_is_refused(source, tmp_path):
    refused(
        source, tmp_path / "no" / "out.safetensors", f"expected a folder to write to, got no {tmp_path / 'no'}"
    )


def test_the_file_is_whole_or_not_there(source, tmp_path, monkeypatch):
    def full(_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for target in ("out.safetensors", "out.keras.safetensors"):
        with pytest.raises(OSError, match="no space left"):
            convert(source, tmp_path / target)
        assert [*tmp_path.iterdir()] == [source]


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".onnx"])
def test_a_source_that_is_not_there_or_not_whole_is_refused(suffix, tmp_path):
    path = write(tmp_path / f"in{suffix}", PARAMS)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(
        path, tmp_path / "out.safetensors", rf"^{path}: expected a whole .*, got one that cannot be read \(.+\)$"
    )
    path.unlink()
    refused(path, tmp_path / "out.safetensors", f"^{path}: expected a whole .*, got no file")


def test_a_pickle_that_needs_more_than_weights_is_refused(tmp_path):
    pytest.importorskip("torch")
    path = tmp_path / "in.pt"
    path.write_bytes(pickle.dumps({"weight_ih_l0": print}, protocol=2))
    refused(path, tmp_path / "out.safetensors", f"^{path}: expected tensors in dictionaries, .* refuses$")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"lstm0/bias": np.full(12, np.nan)}, "lstm0/bias: expected finite numbers, got 12"),
        ({"lstm0/bias": np.ones(8)}, r"lstm0/bias: expected shape \(12,\) for axes .*, got \(8,\)"),
        ({"lstm0/kernel": np.ones(8)}, "kernel: expected 2 axes, got shape"),
        ({"lstm3/kernel": np.ones((6, 12)), "lstm3/bias": np.ones(12)}, "expected layers numbered without gaps"),
        ({"lstm0/kernel": np.ones((7, 12), np.int64)}, "lstm0/kernel: expected floating point numbers, got int64"),
    ],
)
def test_what_is_no_lstm_is_refused_under_the_file_s_name(change, sentence, tmp_path):
    path = tmp_path / "in.safetensors"
    save_file({**PARAMS, **change}, path)
    refused(path, tmp_path / "out.keras.safetensors", f"^{path}: (arrays: )?{sentence}")


@pytest.mark.parametrize("arrays", [{}, MODEL], ids=["empty", "no LSTM"])
def test_a_file_without_an_lstm_is_refused(arrays, tmp_path):
    save_file(arrays, path := tmp_path / "in.safetensors")
    found = ", ".join(sorted(arrays)) or "none"
    refused(
        path,
        tmp_path / "out.keras.safetensors",
        f"^{path}: expected an LSTM's or a GRU's arrays, with .*, got {found}$",
    )


@pytest.mark.parametrize("target", ["out.pt", "out.onnx"])
def test_what_a_format_cannot_hold_is_refused(target, tmp_path):
    path, target = tmp_path / "in.safetensors", tmp_path / target
    save_file(random_params((4, 3, 0)), path)
    refused(path, target, rf"^{target}: expected widths from 1 up for \w+, got \[4, 3, 0\]")
    convert(path, tmp_path / "out.keras.safetensors")


@pytest.mark.parametrize(("name", "whole"), [("-00001-of-00002", False), ("-00001-of-00001", True), ("", True)])
def test_a_shard_is_not_taken_for_the_model(name, whole, tmp_path):
    path = tmp_path / f"model{name}.safetensors"
    files.write(path, torch.from_reference(PARAMS))
    if whole:
        assert load(path).framework == "torch"
        return
    with pytest.raises(ValueError, match=f"^{path}: expected one file with all arrays, got one of 2 shards: join"):
        load(path)


def test_complex_numbers_are_refused(tmp_path):
    for name, values in (arrays := torch.from_reference(PARAMS)).items():
        files.write(tmp_path / "in.safetensors", arrays | {name: values.astype(np.complex64)})
        with pytest.raises(ValueError, match=f"{name}: expected floating point numbers, got complex64"):
            load(tmp_path / "in.safetensors")


def test_numbers_that_numpy_has_not_are_refused(tmp_path):
    path, data = tmp_path / "in.safetensors", {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}
    header = json.dumps({"weight_ih_l0": data}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    refused(path, tmp_path / "out.safetensors", rf"^{path}: expected numbers that NumPy has, got .*F8_E4M3")


@pytest.mark.parametrize(("suffix", "package"), [(".pt", "torch"), (".onnx", "onnx")])
def test_a_package_that_is_missing_is_named(suffix, package, source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    (there := tmp_path / f"there{suffix}").write_bytes(b"")
    sentence = f"expected the package {package}, got none installed"
    refused(there, tmp_path / "out.safetensors", f"^{there}: {sentence}")
    refused(source, tmp_path / f"out{suffix}", f"^{tmp_path}/out{suffix}: {sentence}")


# the command
# -----------


def test_the_command_converts_and_says_so_or_refuses_in_a_sentence(source, tmp_path, capsys):
    target = tmp_path / "out.keras.safetensors"
    assert crosscheck.main(["convert", str(source), str(target)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{source}: issref lstm#/*, 4 -> 3 -> 3, float32",
        f"{target}: written for keras",
    ]
    same_bits(load(target).params, PARAMS)
    assert crosscheck.main(["convert", str(source), str(target)]) == 2
    failed = capsys.readouterr()
    assert failed.out == ""
    assert failed.err.startswith(f"issref: {target}: expected a new file")
    assert failed.err.count("\n") == 1
    assert crosscheck.main(["convert", str(source), str(target), "--overwrite"]) == 0


@pytest.mark.filterwarnings("ignore:overflow encountered in add:RuntimeWarning")
def test_biases_whose_sum_is_not_finite_are_refused():
    layer = {f"l.{name}_l0": np.ones((8, 2)) for name in ("weight_ih", "weight_hh")}
    layer |= {f"l.{name}_l0": np.full(8, 1e308) for name in ("bias_ih", "bias_hh")}
    with pytest.raises(ValueError, match=r"bias: expected finite numbers, got 8 that are infinite or NaN"):
        dialect.convert(layer, torch.SPELLING, REFERENCE)
