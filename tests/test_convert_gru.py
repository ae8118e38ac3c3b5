"""GRUs are read and written in both conventions of the reset gate, or refused by formats that have only one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import unhooked
from test_convert_kinds import ONE
from test_pruned import network, random_params, unread

from issref import crosscheck
from issref.iss.compact import compact
from issref.verify.formats import files, flax, keras, torch
from issref.verify.formats.cells import GRU, GRU_RESET_BEFORE
from issref.verify.formats.convert import convert, load
from issref.verify.formats.dialect import reference
from issref.verify.formats.dialects import DIALECTS
from issref.verify.pruned.compare import compare_checkpoints

SPELLINGS = [(name, dialect) for name, dialect in DIALECTS if dialect.cell in (GRU, GRU_RESET_BEFORE)]
TARGETS = {GRU: ("torch", "flax", "keras"), GRU_RESET_BEFORE: ("keras", "tf1")}


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
        if target == "torch":
            pytest.importorskip("torch")
        there = tmp_path / f"b.{target}.safetensors"
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
