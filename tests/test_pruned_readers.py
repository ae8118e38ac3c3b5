"""No verdict rests on a guess: what reads a layer is named, or known from the model, or nothing is decided."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_pruned import case, random_params, report, unread

from issref import crosscheck
from issref.iss.compact import compact
from issref.verify.formats import files, flax, keras, tf1, torch
from issref.verify.formats.dialect import REFERENCE
from issref.verify.pruned.compare import compare_checkpoints
from issref.verify.pruned.matching import inputs_of, layers

rngs = st.integers(0, 2**32 - 1).map(np.random.default_rng)
KEEP = {"lstm0": np.array([True, False, True, True, False])}


def pruned(widths=(3, 5), keep=KEEP, seed=0):
    """An LSTM whose removed units nothing of its own reads, before and after."""
    rng, layout = np.random.default_rng(seed), REFERENCE.layout(widths)
    before = unread(random_params(layout, rng), layout, keep, rng)
    return before, compact(before, layout, keep)[0]


def under(prefix, params):
    return {f"{prefix}.{name}": values for name, values in torch.from_reference(params).items()}


def head(name, units, keep, rng, zero=True):
    """A linear map (4, H) that reads only kept units, before and after."""
    weight = rng.standard_normal((4, units))
    weight[:, ~keep] *= not zero
    return {f"{name}.weight": weight, f"{name}.bias": np.ones(4)}, {
        f"{name}.weight": weight[:, keep],
        f"{name}.bias": np.ones(4),
    }


def written(folder, before, after):
    paths = folder / "before.safetensors", folder / "after.safetensors"
    for path, arrays in zip(paths, (before, after), strict=True):
        files.write(path, arrays)
    return paths


@pytest.mark.parametrize("between", ["none", "LayerNorm", "BatchNorm", "second head", "without a bias"])
def test_an_array_of_the_right_width_is_no_reader_unless_it_is_named(between, tmp_path):
    before, after = pruned()
    old, new = head("fc", 5, KEEP["lstm0"], np.random.default_rng(1))
    if between in ("LayerNorm", "BatchNorm"):
        for part in ("weight", "bias", "running_mean")[: 2 + (between == "BatchNorm")]:
            old[f"norm.{part}"] = np.arange(5.0)
            new[f"norm.{part}"] = np.arange(5.0)[KEEP["lstm0"]]
    elif between == "second head":
        for all_of, other in zip(
            (old, new), head("value", 5, KEEP["lstm0"], np.random.default_rng(2)), strict=True
        ):
            all_of |= other
    elif between == "without a bias":
        del old["fc.bias"], new["fc.bias"]
    paths = written(tmp_path, under("lstm", before) | old, under("lstm", after) | new)
    found = compare_checkpoints(*paths)
    assert found.preserved is None
    assert found.difference == 0
    assert "what read units 1, 4 of lstm0 is not known; --reader NAME (fc.weight" in found.basis
    assert ("got neither for norm.bias (5,), " in found.basis) == (between in ("LayerNorm", "BatchNorm"))
    found = compare_checkpoints(*paths, reader=["fc.weight"])
    if between not in ("none", "without a bias"):
        assert found.preserved is None
        assert "expected --reader or --unrelated for each array" in found.basis
        return
    assert found.preserved is True
    lacking = " (no bias was found for fc.weight)" * (between == "without a bias")
    assert found.basis == f"the outputs of fc.weight{lacking}, as the only reader of the top layer"


def test_two_heads_are_read_side_by_side(tmp_path):
    before, after = pruned()
    old, new = under("lstm", before), under("lstm", after)
    for number, name in enumerate(("fc", "value")):
        one, other = head(name, 5, KEEP["lstm0"], np.random.default_rng(number), zero=name == "fc")
        old, new = old | one, new | other
    paths = written(tmp_path, old, new)
    assert compare_checkpoints(*paths, reader=["fc.weight"]).preserved is None
    found = compare_checkpoints(*paths, reader=["fc.weight", "value.weight"])
    assert found.preserved is False
    assert found.basis == "the outputs of fc.weight and value.weight, as the only reader of the top layer"


def test_a_new_order_of_units_that_their_reader_may_not_follow_is_undecided(tmp_path):
    before, after = pruned()
    order, fc = np.array([2, 0, 1]), head("fc", 5, KEEP["lstm0"], np.random.default_rng(1))
    turned = {
        "lstm0/kernel": after["lstm0/kernel"].copy(),
        "lstm0/bias": after["lstm0/bias"].reshape(4, 3)[:, order].ravel(),
    }
    turned["lstm0/kernel"] = (
        turned["lstm0/kernel"].reshape(6, 4, 3)[[0, 1, 2, *3 + order]][:, :, order].reshape(6, 12)
    )
    followed = {**fc[1], "fc.weight": fc[1]["fc.weight"][:, order]}

    def judged(old, new, head, **choices):
        return compare_checkpoints(
            *written(tmp_path, under("lstm", old) | fc[0], under("lstm", new) | head), **choices
        )

    for new, preserved in ((followed, True), (fc[1], False)):
        assert judged(before, turned, new, reader=["fc.weight"]).preserved is preserved
        assert judged(before, turned, new).preserved is None
    alone = judged(before, turned, {}, reader=["fc.weight"])
    assert alone.preserved is None
    assert alone.basis.endswith(
        "new order of its units is not known; --reader-after NAME names what fc.weight is called there"
    )
    same = compare_checkpoints(*written(tmp_path, under("lstm", after), under("lstm", turned)))
    assert same.preserved is None  # nothing was removed
    assert "whether what reads lstm0 in AFTER follows the new order of its units" in same.basis


def test_a_new_order_in_a_lower_layer_that_a_normalisation_may_not_follow_is_undecided(tmp_path):
    rng, layout = np.random.default_rng(0), REFERENCE.layout((3, 5, 4))
    before, order = random_params(layout, rng), np.array([1, 0, 2, 3, 4])
    after = {name: values.copy() for name, values in before.items()}
    after["lstm0/bias"] = before["lstm0/bias"].reshape(4, 5)[:, order].ravel()
    after["lstm0/kernel"] = (
        before["lstm0/kernel"].reshape(8, 4, 5)[[0, 1, 2, *3 + order]][:, :, order].reshape(8, 20)
    )
    after["lstm1/kernel"] = before["lstm1/kernel"][[*order, 5, 6, 7, 8]]
    paths = written(tmp_path, under("rnn", before), under("rnn", after))
    assert compare_checkpoints(*paths).preserved is True
    norm = {"norm.weight": np.arange(5.0)}
    found = compare_checkpoints(*written(tmp_path, under("rnn", before) | norm, under("rnn", after) | norm))
    assert found.preserved is None
    assert "norm.weight (5,)" in found.basis


def test_a_reader_of_another_number_of_outputs_is_refused(tmp_path, capsys):
    before, after = pruned()
    old, new = head("fc", 5, KEEP["lstm0"], np.random.default_rng(1))
    new = {name: values[:3] for name, values in new.items()}
    paths = written(tmp_path, under("lstm", before) | old, under("lstm", after) | new)
    assert crosscheck.main(["pruned", *map(str, paths), "--reader", "fc.weight"]) == 2
    assert "after.safetensors: fc.weight: expected 4 outputs, as before, got 3" in capsys.readouterr().err


@pytest.mark.parametrize("size", [1, 1e-9])
def test_a_head_does_not_hide_behind_one_of_larger_outputs(size, tmp_path):
    before, after = pruned()
    rng, large = np.random.default_rng(1), head("fc", 5, KEEP["lstm0"], np.random.default_rng(2))
    small = [{name: size * values for name, values in one.items()} for one in head("value", 5, KEEP["lstm0"], rng)]
    small[1]["value.weight"] *= 1.5
    old, new = (one | other for one, other in zip(large, small, strict=True))
    paths = written(tmp_path, under("lstm", before) | old, under("lstm", after) | new)
    found = compare_checkpoints(*paths, reader=["fc.weight", "value.weight"])
    assert found.preserved is False
    assert found.relative > 1e-3


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("change", ["one step", "the smallest are zero"])
def test_no_changed_weight_is_taken_for_rounding(dtype, change):
    """In bfloat16 a step is up to 0.8% of a weight; only the sum of two biases may be rounded in another way."""
    before, after = pruned()
    before, after = (
        {name: files.rounded(values, dtype) for name, values in one.items()} for one in (before, after)
    )
    kernel = after["lstm0/kernel"]
    if change == "one step":
        kernel[0] = files.rounded(kernel[0] * (1 + files.eps(dtype)), dtype)
    else:
        kernel[np.abs(kernel) <= np.quantile(np.abs(kernel[kernel != 0]), 0.03)] = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "stored_dtype", lambda values: dtype)
        found = report(before, after)
    assert found.preserved is False
    assert {each["kind"] for each in found.findings} == {"values"}


def test_other_arrays_with_other_numbers_are_named(tmp_path):
    before, _ = pruned()
    old = under("lstm", before) | {"embed.weight": np.ones((7, 3)), "fc.weight": np.ones((2, 5)), "n": np.array(1)}
    new = old | {"embed.weight": np.zeros((7, 3)), "fc.weight": np.zeros((2, 5))}
    found = compare_checkpoints(*written(tmp_path, old, new))
    assert found.notes == ["not compared, though they have other numbers now: embed.weight, fc.weight"]
    found = compare_checkpoints(*written(tmp_path, old, new), reader=["fc.weight"])
    assert found.preserved is False
    assert found.notes == ["not compared, though they have other numbers now: embed.weight"]


def test_the_forget_bias_of_a_tf1_cell_is_said_or_given(tmp_path):
    """A port that forgot the 1 is the same function only if the cell had none."""
    _, params = pruned()
    right, wrong = tf1.from_reference(params, forget_bias=1.0), tf1.from_reference(params)
    for stored, bias, preserved in (
        (wrong, None, True),
        (right, None, False),
        (right, 1.0, True),
        (wrong, 1.0, False),
    ):
        found = compare_checkpoints(*written(tmp_path, stored, under("lstm", params)), forget_bias=bias)
        assert found.preserved is preserved
        assert any("forget_bias of its TF 1 cell" in note for note in found.notes) == (bias is None)
    masked = under("lstm", params)
    masked["lstm.weight_ih_l0_orig"] = masked.pop("lstm.weight_ih_l0")
    masked["lstm.weight_ih_l0_mask"] = np.ones_like(masked["lstm.weight_ih_l0_orig"])
    notes = compare_checkpoints(*written(tmp_path, wrong, masked)).notes
    assert sum("TF 1 cell" in note for note in notes) == sum("mask" in note for note in notes) == 1


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_kept_components_of_the_input_are_found_in_a_coarse_dtype(dtype):
    """Most numbers occur more than once."""
    rng, layout = np.random.default_rng(0), REFERENCE.layout((50, 40))
    before = {name: files.rounded(values, dtype) for name, values in random_params(layout, rng).items()}
    kept = np.sort(rng.permutation(50)[:30])
    after = {**before, "lstm0/kernel": before["lstm0/kernel"][[*kept, *range(50, 90)]]}
    np.testing.assert_array_equal(inputs_of(layers(after)[0], layers(before)[0]), kept)


def test_a_named_reader_that_reads_removed_units_is_found(tmp_path):
    before, after = pruned()
    old, new = head("fc", 5, KEEP["lstm0"], np.random.default_rng(1), zero=False)
    paths = written(tmp_path, under("lstm", before) | old, under("lstm", after) | new)
    assert compare_checkpoints(*paths, reader=["fc.weight"]).preserved is False
    paths = written(tmp_path, under("lstm", before) | old, under("lstm", after))
    found = compare_checkpoints(
        *paths, reader=["fc.weight"]
    )  # AFTER lacks it: its weights decide, not its outputs
    assert found.preserved is False
    assert found.difference == 0
    assert [each["kind"] for each in found.findings] == ["read"]


def test_if_no_unit_was_removed_every_reader_reads_the_same(tmp_path):
    before, _ = pruned()
    found = compare_checkpoints(*written(tmp_path, under("lstm", before), under("lstm", before)))
    assert found.preserved is True
    assert found.basis == "all units of the top layer"


def test_a_language_model_with_other_arrays_is_not_taken_for_issref_s(tmp_path):
    before, after = pruned()
    softmax = {"softmax/kernel": np.zeros((5, 4)), "softmax/bias": np.ones(4)}
    cut = {**softmax, "softmax/kernel": softmax["softmax/kernel"][KEEP["lstm0"]]}
    assert report(before | softmax, after | cut).preserved is True
    assert (
        report(before | softmax | {"norm/scale": np.ones(5)}, after | cut | {"norm/scale": np.ones(3)}).preserved
        is None
    )


@pytest.mark.parametrize("of", [torch, flax, keras])
def test_that_separate_modules_are_a_chain_is_said_and_decides_nothing(of, tmp_path):
    rng, layout, keep = np.random.default_rng(3), REFERENCE.layout((3, 5, 4)), {**KEEP, "lstm1": np.ones(4, bool)}
    before = unread(random_params(layout, rng), layout, keep, rng)
    after = compact(before, layout, keep)[0]
    old, new = (
        {name.replace("_l1", "_l0"): values for name, values in each.items()}
        if of is not torch
        else {f"rnn{name[-1]}.{name[:-1]}0": values for name, values in each.items()}
        for each in (of.from_reference(before), of.from_reference(after))
    )
    paths = written(tmp_path, old, new)
    found = compare_checkpoints(*paths)
    assert found.preserved is None
    assert sum("are a chain" in note for note in found.notes) == 2
    stack = found.basis.split("'")[1]
    assert found.basis.endswith(f"is assumed: --stack '{stack}' confirms the chain")
    assert compare_checkpoints(*paths, stack).preserved is True
    assert (
        compare_checkpoints(*written(tmp_path, of.from_reference(before), of.from_reference(before))).preserved
        is True
    )


@given(rngs)
def test_kept_components_of_the_input_are_found_by_their_weights(rng):
    drawn = case(rng, least=1, readout=True)
    size, before = drawn.widths[0], {name: values.copy() for name, values in drawn.masked.items()}
    kept = np.flatnonzero(rng.random(size) < 0.6)
    before["lstm0/kernel"][np.setdiff1d(np.arange(size), kept)] = 0
    after, _ = compact(before, drawn.layout, drawn.keep)
    after["lstm0/kernel"] = np.delete(after["lstm0/kernel"], np.setdiff1d(np.arange(size), kept), axis=0)
    found = report(before, after)
    assert found.preserved is True
    assert found.findings == []
    if len(kept) < size:
        np.testing.assert_array_equal(inputs_of(layers(after)[0], layers(before)[0]), kept)
        before["lstm0/kernel"][np.setdiff1d(np.arange(size), kept)[0]] = 0.25
        found = report(before, after)
        assert found.preserved is False
        assert [(each["layer"], each["kind"]) for each in found.findings] == [("input", "read")]


def test_an_encoder_and_a_decoder_of_equal_width_are_each_judged_by_what_reads_them(tmp_path, capsys):
    """The decoder's softmax fits the encoder too; the decoder's input was cut with the encoder's units."""
    rng, keep, kept = np.random.default_rng(0), np.arange(5) < 3, np.arange(5) > 0
    one, two = REFERENCE.layout((3, 5)), REFERENCE.layout((5, 5))
    encoder = unread(random_params(one, rng), one, {"lstm0": keep}, rng)
    decoder = unread(random_params(two, rng), two, {"lstm0": kept}, rng)
    decoder["lstm0/kernel"][:5][~keep] = 0
    small = compact(decoder, two, {"lstm0": kept})[0]
    small["lstm0/kernel"] = np.delete(small["lstm0/kernel"], np.flatnonzero(~keep), axis=0)
    old, new = head("out", 5, kept, rng)
    before, after = written(
        tmp_path,
        under("encoder", encoder) | under("decoder", decoder) | old,
        under("encoder", compact(encoder, one, {"lstm0": keep})[0]) | under("decoder", small) | new,
    )

    def judged(stack, *reader):
        words = ["pruned", str(before), str(after), "--stack", stack, "--stack-after", stack, *reader]
        return crosscheck.main([*words, "--json", str(tmp_path / "report.json")]), capsys.readouterr().out

    code, said = judged("encoder.*_l#")
    assert code == 2
    assert said.splitlines()[-1].startswith(
        "UNDECIDED  the kept units are the same, but what read units 3-4 of lstm0"
    )
    assert json.loads((tmp_path / "report.json").read_text())["preserved"] is None
    others = ["--unrelated", "decoder.*", "out.*"]
    code, said = judged(
        "encoder", *others, "--reader", "decoder.weight_ih_l0"
    )  # the decoder's own units were cut too
    assert code == 0
    assert "which of it decoder.weight_ih_l0, its only reader, reads in BEFORE" in said
    code, said = judged("decoder.*_l#", "--reader", "out.weight", "--unrelated", "encoder.*")
    assert code == 0
    assert "of the input, components 0-2 were kept, found by their weights" in said
    assert judged("encoder", "--reader", "out.weight")[0] == 2  # has 4 columns in AFTER, not the encoder's 3


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_cast_model_is_compared_in_the_coarser_dtype(dtype, tmp_path):
    th = pytest.importorskip("torch")
    state = th.nn.LSTM(4, 3).state_dict()
    th.save(state, tmp_path / "full.pt")
    th.save({name: values.to(getattr(th, dtype)) for name, values in state.items()}, tmp_path / "cast.pt")
    found = compare_checkpoints(tmp_path / "full.pt", tmp_path / "cast.pt")
    assert found.preserved is True
    assert found.findings == []
    assert found.notes == [f"compared in {dtype}, the coarser dtype"]
    state["weight_hh_l0"][0, 0] += 1
    th.save(state, tmp_path / "full.pt")
    assert compare_checkpoints(tmp_path / "full.pt", tmp_path / "cast.pt").preserved is False
