"""Arrays that may hold units of a cut layer are named by the user, or nothing is written and nothing decided."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import refused, unhooked
from test_pruned import network, random_params, unread

from issref import crosscheck
from issref.iss.compact import compact
from issref.verify.formats import files, torch
from issref.verify.pruned.shrink import shrink

rngs = st.integers(0, 2**32 - 1).map(np.random.default_rng)
KEEP = {"lstm0": np.arange(7) > 1, "lstm1": np.arange(7) < 6}


def model(rng, keep=KEEP):
    """A PyTorch model of two layers of 7 units whose dead units fc does not read, and the one without them."""
    layout = network([3, 7, 7])
    dense = unread(random_params(layout, rng), layout, keep, rng)
    small, _ = compact(dense, layout, keep)
    return tuple(
        {f"lstm.{name}": values for name, values in torch.from_reference(params).items()}
        | {"fc.weight": params["softmax/kernel"].T, "fc.bias": params["softmax/bias"]}
        for params in (dense, small)
    )


@given(rngs, st.lists(st.integers(1, 30), min_size=1, max_size=3))
def test_an_array_with_an_axis_of_one_to_four_times_the_units_is_named_or_nothing_is_written(rng, shape):
    widths, other = rng.integers(2, 5, 2).tolist(), rng.standard_normal(shape)
    layout = network([1, *widths])
    keep = {f"lstm{n}": np.arange(size) >= rng.integers(0, 2) for n, size in enumerate(widths)}
    arrays = unread(random_params(layout, rng), layout, keep, rng) | {"other": other}
    lengths = {len(mask) * ends for mask in keep.values() if not mask.all() for ends in (1, 2, 3, 4)}
    choices = {"stack": "lstm#/*", "reader": ["softmax/kernel"]}
    with unhooked(), tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "a.safetensors", Path(folder) / "b.safetensors"
        files.write(source, arrays)
        reads = keep["lstm1"].all() and len(shape) == 2 and shape[0] == widths[1]  # a layer that is not cut
        if lengths.intersection(shape) and not reads:
            with refused(f"got neither for other {tuple(shape)};"):
                shrink(source, target, **choices)
            assert not target.exists()
            choices["unrelated"] = ["o*r"]
        report, _ = shrink(source, target, **choices)
        np.testing.assert_array_equal(files.read(target)["other"], other)
    assert report.preserved


OTHERS = {
    "a layer norm": {"norm.weight": (7,), "norm.bias": (7,)},
    "a batch norm": {"bn.running_mean": (7,), "bn.running_var": (7,)},
    "an attention projection": {"attention.query.weight": (7, 7)},
    "queries, keys and values": {"attention.in_proj_bias": (21,)},
    "a layer with rows of its own": {"proj.weight": (7, 4)},
    "both directions": {"head.weight": (2, 14)},
    "an embedding added to the outputs": {"embed.weight": (9, 7)},
    "a learned initial state": {"h0": (2, 1, 7)},
    "a decoder with the encoder's states": {"decoder.weight_ih_l0": (28, 5)},
    "a convolution": {"conv.weight": (4, 7, 3)},
    "moments of an optimiser": {"optimizer.state.0.exp_avg": (28, 3)},
}


@pytest.mark.parametrize("name", OTHERS)
def test_each_relative_is_named_in_one_sentence_until_the_user_explains_it(name, tmp_path, capsys):
    before, after = model(np.random.default_rng(0))
    more = {one: np.ones(shape) for one, shape in OTHERS[name].items()}
    source, small, target = (tmp_path / f"{one}.safetensors" for one in ("in", "small", "out"))
    files.write(source, before | more)
    files.write(small, after | more)
    shrinking = ["shrink", str(source), str(target), "--dead", "--reader", "fc.weight"]
    comparing = ["pruned", str(source), str(small), "--reader", "fc.weight"]
    comparing += ["--stack", "lstm.*_l#", "--stack-after", "lstm.*_l#"]
    shrinking += ["--stack", "lstm.*_l#"]
    got = "got neither for " + ", ".join(f"{one} {shape}" for one, shape in sorted(OTHERS[name].items()))
    assert crosscheck.main(shrinking) == 2
    error = capsys.readouterr().err
    assert got in error
    assert error.count("\n") == 1
    assert not target.exists()
    assert crosscheck.main(comparing) == 2
    out = capsys.readouterr().out
    assert "UNDECIDED  the kept units are the same, but expected --reader or --unrelated for each array" in out
    assert got in out
    unrelated = ["--unrelated", *more]
    assert crosscheck.main([*shrinking, *unrelated]) == 0
    assert crosscheck.main([*comparing, *unrelated]) == 0


def test_a_matrix_that_may_read_a_layer_that_stays_is_not_asked_for(tmp_path):
    """Without a reader the top layer stays, and one of its width may be its reader; a vector may be a norm's."""
    before, _ = model(np.random.default_rng(0), KEEP | {"lstm1": np.ones(7, bool)})
    source, target = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    files.write(source, before)
    assert crosscheck.main(["shrink", str(source), str(target), "--dead"]) == 0
    files.write(source, before | {"norm.weight": np.ones(7)})
    assert crosscheck.main(["shrink", str(source), str(target), "--dead", "--overwrite"]) == 2


def test_weights_tied_to_the_reader_are_asked_for(tmp_path, capsys):
    before, _ = model(np.random.default_rng(0))
    source, target = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    files.write(source, before | {"embed.weight": before["fc.weight"]})
    assert crosscheck.main(["shrink", str(source), str(target), "--dead", "--reader", "fc.weight"]) == 2
    assert "got neither for embed.weight (5, 7); units under a normalisation" in capsys.readouterr().err


def test_the_bias_of_a_reader_is_as_wide_as_its_outputs(tmp_path):
    before, _ = model(np.random.default_rng(0))
    before["fc.weight"], before["fc.bias"] = np.ones((7, 1)) * KEEP["lstm1"], np.ones(7)
    source, target = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    files.write(source, before)
    assert crosscheck.main(["shrink", str(source), str(target), "--dead", "--reader", "fc.weight"]) == 0


def test_masks_of_a_reader_are_part_of_it_and_both_arrays_are_cut(tmp_path, capsys):
    before, _ = model(np.random.default_rng(0))
    weight, mask = before.pop("fc.weight") + 1, np.ones((5, 7)) * KEEP["lstm1"]
    arrays = before | {"fc.weight_orig": weight, "fc.weight_mask": mask}
    arrays |= {"fc.bias_orig": arrays.pop("fc.bias"), "fc.bias_mask": np.ones(5)}
    source, target = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    files.write(source, arrays)
    assert crosscheck.main(["shrink", str(source), str(target), "--dead", "--reader", "fc.weight"]) == 0
    assert "change     fc.weight: in_features=6\n" in capsys.readouterr().out
    for part in ("orig", "mask"):
        kept = arrays[f"fc.weight_{part}"][:, KEEP["lstm1"]]
        np.testing.assert_array_equal(files.read(target)[f"fc.weight_{part}"], kept)


def test_what_is_assumed_of_matrices_whose_width_fits_two_layers_is_printed(tmp_path, capsys):
    """Without --reader the top layer stays, and a matrix of its width is taken to read it, not the lower layer."""
    before, _ = model(np.random.default_rng(0), KEEP | {"lstm1": np.ones(7, bool)})
    source, target = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    files.write(source, before | {"skip.weight": np.ones((2, 7))})
    shrinking = ["shrink", str(source), str(target), "--dead", "--overwrite"]
    assert crosscheck.main(shrinking) == 0
    assert "assumed    fc.weight, skip.weight read lstm1, not lstm0, though the" in capsys.readouterr().out
    assert crosscheck.main([*shrinking, "--reader", "fc.weight", "skip.weight"]) == 0
    assert ", not lstm0" not in capsys.readouterr().out


@pytest.mark.parametrize(("name", "axis"), [("fc.weight", 1), ("head/kernel", 0)])
def test_the_axis_of_a_reader_is_named_where_its_shape_does_not_show_it(name, axis, tmp_path, capsys):
    before, _ = model(np.random.default_rng(0))
    del before["fc.weight"], before["fc.bias"]
    square = np.ones((7, 7))
    square[(slice(None), 6) if axis else 6] = 0
    source, target = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    shrinking = ["shrink", str(source), str(target), "--dead", "--reader", name]
    files.write(source, before | {name: square})
    assert crosscheck.main(shrinking) == 0
    assert f"assumed    {name} reads along axis {axis}, by its name" in capsys.readouterr().out
    files.write(source, before | {name: np.ones((5, 7) if axis == 0 else (7, 5))})
    assert crosscheck.main([*shrinking, "--overwrite"]) == 2
    wanted = f"an axis of 7, the units of the top layer, as axis {axis}, along which this name reads, got"
    assert wanted in capsys.readouterr().err


def test_the_new_size_of_a_recurrent_reader_is_its_input_size(tmp_path, capsys):
    before, _ = model(np.random.default_rng(0))
    decoder = {f"decoder.{name}": np.ones(shape) * mask for name, shape, mask in (
        ("weight_ih_l0", (8, 7), KEEP["lstm1"]), ("weight_hh_l0", (8, 2), 1), ("bias_ih_l0", 8, 1),
        ("bias_hh_l0", 8, 1))}  # fmt: skip
    source, target = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    files.write(source, before | decoder)
    words = ["--dead", "--stack", "lstm.*_l#", "--reader", "fc.weight", "decoder.weight_ih_l0"]
    assert crosscheck.main(["shrink", str(source), str(target), *words]) == 0
    out = capsys.readouterr().out
    assert "change     decoder.weight_ih_l0: input_size=6\n" in out
    assert "change     fc.weight: in_features=6\n" in out


def test_a_width_of_0_is_cut(tmp_path):
    before, _ = model(np.random.default_rng(0))
    before["lstm.weight_ih_l0"] = np.zeros((28, 0))
    source, target = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    files.write(source, before)
    assert crosscheck.main(["shrink", str(source), str(target), "--dead", "--reader", "fc.weight"]) == 0
    assert {values.shape for name, values in files.read(target).items() if "weight_ih_l0" in name} >= {(20, 0)}
