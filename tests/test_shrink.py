"""Units are cut out of checkpoints: exactly the dead ones, in every array; what is assumed or changes is said."""

import importlib
import json
import os
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import unhooked
from test_pruned import network, random_params, unread

from issref import crosscheck
from issref.iss.compact import compact
from issref.models.ptb_lstm import spaces
from issref.ops.gru import gru
from issref.ops.lstm import lstm
from issref.training import checkpoint
from issref.verify.formats import files, flax, keras, torch
from issref.verify.formats.cells import GRU, LSTM, cell_of
from issref.verify.formats.convert import load
from issref.verify.formats.dialect import REFERENCE, reference
from issref.verify.formats.dialects import DIALECTS
from issref.verify.pruned.compare import lines
from issref.verify.pruned.shrink import shrink

rngs = st.integers(0, 2**32 - 1).map(np.random.default_rng)
EPS = np.finfo(float).eps
FRAMEWORKS = [(name, dialect) for name, dialect in DIALECTS if name != "onnx"]
READERS = {"torch": "fc.weight", "tf1": "Model/softmax_w"}  # others: softmax/kernel
OTHERS = {"norm/scale": np.arange(7, dtype="float16"), "words": np.arange(77).reshape(7, 11)}  # no layer's width


def under(start, arrays):
    return {start + name: values for name, values in arrays.items()}


def spelled(framework, params, dialect=None):
    """The arrays of a language model as a framework names them, with others of any dtype."""
    dialect = dialect or next(one for name, one in DIALECTS if name == framework)
    head = {READERS.get(framework, "softmax/kernel"): params["softmax/kernel"]}
    if framework == "torch":
        head = {name: values.T for name, values in head.items()}
    arrays = dialect.from_reference(params)
    if (framework, dialect.cell) == ("keras", GRU):
        arrays = {name: keras.stored(name, values, arrays) for name, values in arrays.items()}
    return under("lstm." if framework == "torch" else "", arrays) | head | OTHERS


def drawn(rng, cell=LSTM):
    """A random stack, in which nothing reads some random units of each layer, and masks of the others."""
    widths = [int(rng.integers(1, 4)), *(int(n) for n in rng.integers(2, 6, rng.integers(1, 4)))]
    layout = network(widths, dialect=reference(cell))
    sizes = {space: layout.sizes[space] for space in spaces(layout.axes)}
    keep = {space: rng.permutation(size) >= rng.integers(0, size) for space, size in sizes.items()}
    return unread(random_params(layout, rng), layout, keep, rng), layout, keep


def outputs(params, framework, arrays, rng):
    """What the reader puts out for random input."""
    cell, (first, *_) = cell_of(params), spaces(params)
    units = params[f"{first}/kernel"].shape[1] // len(cell.gates)
    x = rng.standard_normal((4, 2, len(params[f"{first}/kernel"]) - units))
    for layer in spaces(params):
        kernel, bias = params[f"{layer}/kernel"], params[f"{layer}/bias"]
        zero = np.zeros((2, kernel.shape[1] // len(cell.gates)))
        if cell == LSTM:
            (x, *_), _ = lstm(x, zero, zero, kernel, bias)
        else:
            (x, _), _ = gru(x, zero, kernel, bias, reset_after=cell == GRU)
    head = arrays[READERS.get(framework, "softmax/kernel")]
    return x @ (head.T if framework == "torch" else head)


@given(rngs, st.sampled_from(FRAMEWORKS))
def test_exactly_the_dead_units_are_cut_and_the_outputs_stay(rng, spelling):
    framework, dialect = spelling
    params, layout, keep = drawn(rng, dialect.cell)
    for name, mask in keep.items():
        if dialect is flax.NNX_GRU:  # it has no bias inside the reset
            params[f"{name}/bias"][3 * len(mask) :] = 0
    arrays, (seed,) = spelled(framework, params, dialect), rng.integers(0, 2**32, 1)
    small, _ = compact(params, layout, keep)
    stack = f"lstm.{dialect.place}" if framework == "torch" else dialect.place
    choices = {"reader": [READERS.get(framework, "softmax/kernel")], "stack": stack}
    with unhooked(), tempfile.TemporaryDirectory() as folder:
        one, two, three = (Path(folder) / f"{name}.safetensors" for name in "abc")
        files.write(one, arrays)
        report, _ = shrink(one, two, **choices)
        if framework == "torch" and len({mask.sum() for mask in keep.values()}) > 1:
            choices["stack"] = "lstm.#.*_l#"
        after, cut = load(two, choices["stack"]), files.read(two)
        again, remarks = shrink(two, three, **choices)
        assert two.read_bytes() == three.read_bytes()
    assert report.preserved
    assert not report.findings
    assert again.preserved
    assert "change     none" in remarks
    assert {each["layer"]: each["kept"] for each in report.layers} == {
        space: np.flatnonzero(mask).tolist() for space, mask in keep.items()
    }
    for name, values in after.params.items():
        np.testing.assert_array_equal(values, small[name], strict=True)
    for name, values in OTHERS.items():
        np.testing.assert_array_equal(cut[name], values, strict=True)
    dense, less = (
        outputs(each, framework, of, np.random.default_rng(seed)) for each, of in ((params, arrays), (small, cut))
    )
    size = sum(np.abs(values).sum() for values in params.values())
    assert np.abs(dense - less).max() <= 4 * 40 * EPS * size  # sums of other order, over 4 steps


@given(rngs, st.sampled_from([LSTM, GRU]))
def test_the_units_from_which_no_path_of_weights_leads_to_the_reader_are_dead(rng, cell):
    """A unit that only dead ones read is dead too: in a ring, in chains, by one gate, and through layers."""
    params, layout, keep = drawn(rng, cell)
    params = {
        name: values * (rng.random(values.shape) < rng.uniform(0.05, 0.3)) for name, values in params.items()
    }
    ends = np.cumsum([layout.sizes["x"], *map(len, keep.values())]).tolist()
    reads = np.eye(ends[-1] + 1)  # [a, b]: b reads a; the last one is the reader
    for start, mine, end, layer in zip([0, *ends], ends, ends[1:], keep, strict=False):
        kernel = params[f"{layer}/kernel"]
        kernel[0, 0] = 1  # so that each layer has a unit that is alive
        gates = kernel.reshape(len(kernel), len(cell.gates), end - mine)
        reads[start:end, mine:end] += gates.any(axis=1)
    params["softmax/kernel"][0, 0] = 1
    reads[mine:end, -1] = params["softmax/kernel"].any(axis=1)
    alive = np.linalg.matrix_power(reads, len(reads))[:, -1] > 0
    with unhooked(), tempfile.TemporaryDirectory() as folder:
        one, two = (Path(folder) / f"{name}.safetensors" for name in "ab")
        files.write(one, spelled("issref", params, reference(cell)))
        report, _ = shrink(one, two, reader=["softmax/kernel"])
    assert [each["kept"] for each in report.layers] == [
        np.flatnonzero(alive[start:end]).tolist() for start, end in pairwise(ends)
    ]
    assert report.preserved


@given(rngs)
def test_a_kept_set_without_units_that_are_read_is_another_function(rng):
    layout = network([2, 3, 4])
    params = random_params(layout, rng)
    keep = {"lstm0": [0, 2], "lstm1": [3, 0, 1]}
    small, _ = compact(params, layout, {"lstm0": np.arange(3) != 1, "lstm1": np.arange(4) != 2})
    with unhooked(), tempfile.TemporaryDirectory() as folder:
        one, two = (Path(folder) / f"{name}.safetensors" for name in "ab")
        files.write(one, spelled("issref", params))
        report, _ = shrink(one, two, keep, reader=["softmax/kernel"])
        after = load(two)
    assert report.preserved is False
    assert report.difference > 0
    assert [each["kind"] for each in report.findings] == ["read", "read"]
    assert "NOT PRESERVED  compared: the outputs of softmax/kernel" in lines(report)[-1]
    for name, values in after.params.items():
        np.testing.assert_array_equal(values, small[name], strict=True)


# what is known, and what is not
# ------------------------------


@pytest.fixture
def source(tmp_path):
    """Two layers of PyTorch and a linear map; units 1 of lstm0 and 2 of lstm1 are dead."""
    rng, layout = np.random.default_rng(0), network([2, 3, 3])
    keep = {"lstm0": np.arange(3) != 1, "lstm1": np.arange(3) != 2}
    arrays = spelled("torch", unread(random_params(layout, rng), layout, keep, rng))
    files.write(tmp_path / "in.safetensors", arrays)
    return tmp_path / "in.safetensors"


def changed(source, more=None, without=()):
    arrays = {name: values for name, values in files.read(source).items() if name not in without}
    files.write(source, arrays | (more or {}))
    return source


def run(source, *words):
    return crosscheck.main(["shrink", str(source), str(source.with_name("out.safetensors")), *map(str, words)])


def test_without_a_reader_the_top_layer_is_not_judged(source, capsys):
    assert run(source, "--dead") == 0
    out = capsys.readouterr().out
    assert "removed 1: 1" in out
    assert "not cut    lstm1: what reads it is not known; --reader NAME (fc.weight) names all arrays" in out
    assert load(source.with_name("out.safetensors"), "lstm.#.*_l#").params["lstm1/bias"].shape == (12,)


def test_what_changes_in_the_code_is_printed(source, capsys):
    assert run(source, "--dead", "--reader", "fc.weight") == 0
    out = capsys.readouterr().out
    assert "change     lstm: hidden_size=2\n" in out
    assert "change     fc.weight: in_features=2\n" in out
    assert "assumed    besides the next layer and fc.weight, nothing reads the units of lstm0 and lstm1" in out
    keep = source.with_name("keep.json")
    keep.write_text('{"lstm0": [2]}')
    assert run(source, "--keep", keep, "--overwrite") == 1
    assert "nn.ModuleList([nn.LSTM(2, 1), nn.LSTM(1, 3)])" in capsys.readouterr().out


def test_two_readers_are_read_side_by_side(source):
    rng = np.random.default_rng(1)
    changed(source, {"value.weight": rng.standard_normal((1, 3))})
    assert run(source, "--dead", "--reader", "fc.weight", "value.weight") == 0  # value reads unit 2: it stays
    after = files.read(source.with_name("out.safetensors"))
    assert after["lstm.1.weight_hh_l0"].shape == (12, 3)
    assert after["value.weight"].shape == (1, 3)


def test_a_chain_that_is_assumed_is_cut_only_by_the_user(tmp_path, capsys):
    rng, layout = np.random.default_rng(0), network([2, 3, 3])
    keep = {"lstm0": np.arange(3) != 1, "lstm1": np.ones(3, bool)}
    source = tmp_path / "in.safetensors"
    files.write(source, spelled("flax", unread(random_params(layout, rng), layout, keep, rng)))
    assert run(source, "--dead") == 0
    assert "not cut    lstm0: that only the next layer reads it is assumed" in capsys.readouterr().out
    assert run(source, "--dead", "--stack", "lstm#/*", "--overwrite") == 0
    assert "change     lstm0: features=2, of NNX in_features=2, hidden_features=2" in capsys.readouterr().out
    (tmp_path / "keep.json").write_text('{"lstm0": [0, 2]}')
    assert run(source, "--keep", tmp_path / "keep.json", "--overwrite") == 2
    assert "UNDECIDED" in capsys.readouterr().out


def test_a_model_of_issref_keeps_a_checksum_and_a_layout_that_fit(tmp_path):
    rng, layout = np.random.default_rng(0), network([2, 3, 4])
    masks = {"lstm0": np.arange(3) != 1, "lstm1": np.arange(4) != 2}
    params = unread(random_params(layout, rng), layout, masks, rng)
    alive = {"lstm0": [True, False, True, True], "lstm1": 4 * [True]}
    about = {"layout": json.loads(layout.to_json()), "alive": alive, "words": ["a"]}
    checkpoint.save(tmp_path / "in.safetensors", params, **about)
    assert run(tmp_path / "in.safetensors", "--dead", "--reader", "softmax/kernel") == 0
    small, now = checkpoint.load(tmp_path / "out.safetensors")
    expected, resized = compact(params, layout, masks)
    assert now == {
        "layout": json.loads(resized.to_json()), "words": ["a"],
        "alive": {"lstm0": [True, False, False, True], "lstm1": [True, True, False, True]},
    }  # fmt: skip
    for name, values in expected.items():
        np.testing.assert_array_equal(small[name], values, strict=True)


def test_numbers_that_numpy_lacks_and_metadata_stay_as_they_are(source):
    from safetensors import deserialize, safe_open

    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name, part in deserialize(source.read_bytes()):
        if bits := part["dtype"] == "F64":
            part["data"] = np.frombuffer(part["data"], "<f8").astype("<f4").view("<u2")[1::2].tobytes()
        ends = [len(body), len(body) + len(part["data"])]
        header[name] = {"dtype": "BF16" if bits else part["dtype"], "shape": part["shape"], "data_offsets": ends}
        body += part["data"]
    text = json.dumps(header).encode()
    source.write_bytes(len(text).to_bytes(8, "little") + text + body)
    before = load(source)
    assert before.dtypes == ("bfloat16",)
    assert run(source, "--dead", "--reader", "fc.weight") == 0
    target = source.with_name("out.safetensors")
    assert load(target).dtypes == ("bfloat16",)
    with safe_open(target, "np") as file:
        assert file.metadata() == {"format": "pt"}
    keep = {"lstm0": np.arange(3) != 1, "lstm1": np.arange(3) != 2}
    expected, _ = compact(before.params, REFERENCE.layout((2, 3, 3)), keep)
    for name, values in load(target).params.items():
        np.testing.assert_array_equal(values, expected[name])


def test_masks_of_pruned_weights_are_cut_too(source):
    arrays = files.read(source)
    mask = np.ones(arrays["lstm.weight_hh_l0"].shape)
    changed(
        source,
        {"lstm.weight_hh_l0_orig": arrays["lstm.weight_hh_l0"] + 0, "lstm.weight_hh_l0_mask": mask},
        without=["lstm.weight_hh_l0"],
    )
    assert run(source, "--dead", "--reader", "fc.weight") == 0
    after = files.read(source.with_name("out.safetensors"))
    assert after["lstm.weight_hh_l0_orig"].shape == after["lstm.weight_hh_l0_mask"].shape == (8, 2)


def test_of_a_layer_that_reaches_no_output_one_unit_is_left(source, capsys):
    changed(source, {"fc.weight": np.zeros((5, 3))})
    assert run(source, "--dead", "--reader", "fc.weight") == 0
    assert "note       lstm1: one unit is left, the fewest" in capsys.readouterr().out


REVERSE = {f"{array}_l0_reverse": np.ones(shape) for array, shape in {
    "weight_ih": (12, 2), "weight_hh": (12, 3), "bias_ih": 12, "bias_hh": 12}.items()}  # fmt: skip
REFUSALS = {
    "--dead --keep": (["--dead", "--keep", "keep.json"], "expected one of --dead and --keep, got both"),
    "neither": ([], "expected one of --dead and --keep, got none"),
    "reader unknown": (["--dead", "--reader", "no"], "reader: expected one of ['fc.weight'], got 'no'"),
    "reader misfit": (["--dead", "--reader", "norm/scale"], "norm/scale: expected a matrix of floating point"),
    "top without reader": (
        '{"lstm1": [0]}',
        "reader: expected the array that alone reads lstm1, of ['fc.weight']",
    ),
    "no such layer": ('{"lstm2": [0]}', "keep: expected layers of ['lstm0', 'lstm1'], got 'lstm2'"),
    "no units": ('{"lstm0": []}', "keep: expected different units of 0 to 2 of lstm0, at least one, got []"),
    "a layer twice": ('{"lstm0": [0], "lstm0": [1]}', "expected each name once, got 'lstm0' twice"),
    "a unit twice": ('{"lstm0": [1, 1]}', "keep: expected different units of 0 to 2 of lstm0"),
    "true is no unit": ('{"lstm0": [true]}', "keep: expected different units of 0 to 2 of lstm0"),
    "no such unit": ('{"lstm0": [3]}', "keep: expected different units of 0 to 2 of lstm0, at least one, got [3]"),
    "a negative unit": ('{"lstm0": [-1]}', "keep: expected different units of 0 to 2 of lstm0"),
    "no list": ('{"lstm0": 3}', "keep: expected different units of 0 to 2 of lstm0, at least one, got 3"),
    "no object": ("[]", 'keep.json: expected {"lstm0": [0, 2, 3]}, got []'),
    "no file": (["--keep", "no.json"], "issref: no.json: expected a JSON file, got none\n"),
    "no JSON": ("{", "keep.json: expected JSON, got something else"),
    "unrelated unknown": (
        ["--dead", "--unrelated", "norm/*", "no"],
        "unrelated: expected names or patterns of fc.weight, norm/scale, words, got 'no'",
    ),
    "one layer of two": (["--dead", "--stack", "lstm.*_l0"], "expected all layers of a module and one direction"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_is_one_sentence_and_writes_nothing(name, source, capsys, monkeypatch):
    words, sentence = REFUSALS[name]
    monkeypatch.chdir(source.parent)
    if isinstance(words, str):
        (source.parent / "keep.json").write_text(words)
        words = ["--keep", "keep.json"]
    assert run(source, *words) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert not source.with_name("out.safetensors").exists()
    assert not [*source.parent.glob("*.partial")]


@pytest.mark.parametrize("fails", ["report", "write_whole"])
def test_a_run_that_fails_leaves_the_old_file_as_it_was(fails, source, monkeypatch):
    def full(*_):
        raise OSError("no space left on device")

    target = source.with_name("out.safetensors")
    target.write_bytes(b"old")
    place = (
        (importlib.import_module("issref.verify.pruned.shrink"), "report") if fails == "report" else (os, "fsync")
    )
    monkeypatch.setattr(*place, full)
    assert run(source, "--dead", "--overwrite") == 2
    assert target.read_bytes() == b"old"
    assert {path.name for path in source.parent.iterdir()} == {source.name, target.name}


def test_a_bidirectional_layer_has_one_width(tmp_path, capsys):
    params = {name: values.copy() for name, values in torch.from_reference(
        random_params(REFERENCE.layout((2, 3)), np.random.default_rng(0))).items()}  # fmt: skip
    files.write(tmp_path / "in.safetensors", params | REVERSE)
    assert run(tmp_path / "in.safetensors", "--dead") == 2  # no advice to choose one direction
    error = capsys.readouterr().err
    assert "of one direction, got both directions of ['*_l#', '*_l#_reverse'], which have one width" in error
    assert error.count("\n") == 1
    files.write(tmp_path / "in.safetensors", params | REVERSE | under("top.", params))
    assert run(tmp_path / "in.safetensors", "--dead") == 2
    assert "(--stack for one of ['top.*_l#']), got both directions of" in capsys.readouterr().err
    assert run(tmp_path / "in.safetensors", "--dead", "--stack", "top.*_l0") == 0
    assert run(tmp_path / "in.safetensors", "--dead", "--stack", "*_l0", "--overwrite") == 2
    assert "got *_l0 without *_l0_reverse" in capsys.readouterr().err
    shapes = {"kernel": (2, 12), "recurrent_kernel": (3, 12), "bias": 12}
    one, other = (f"bidirectional/{direction}_lstm/lstm_cell" for direction in ("forward", "backward"))
    arrays = {f"{place}/{array}": np.ones(shape) for place in (one, other) for array, shape in shapes.items()}
    files.write(tmp_path / "in.safetensors", arrays)
    assert run(tmp_path / "in.safetensors", "--dead", "--stack", f"{one}/*", "--overwrite") == 2
    assert f"got {one}/* without {other}/*" in capsys.readouterr().err


def test_the_target_is_a_new_file_of_the_same_format(source, capsys):
    assert crosscheck.main(["shrink", str(source), str(source), "--dead"]) == 2
    assert f"{source}: expected another file than {source}, got the same one" in capsys.readouterr().err
    assert crosscheck.main(["shrink", str(source), str(source.with_name("no") / "out.safetensors"), "--dead"]) == 2
    assert "expected a folder to write to, got no " in capsys.readouterr().err
    assert crosscheck.main(["shrink", str(source), str(source.parent), "--dead"]) == 2
    assert "expected a file to write, got a folder" in capsys.readouterr().err
    assert crosscheck.main(["shrink", str(source), str(source.with_name("out.pt")), "--dead"]) == 2
    assert "expected a name that ends in .safetensors, as the source, got '.pt'" in capsys.readouterr().err
    assert run(source, "--dead") == 0
    assert run(source, "--dead") == 2
    assert run(source, "--dead", "--overwrite") == 0


@pytest.mark.parametrize("name", ["in.safetensors", "out.safetensors", "keep.json", "no/report.json", "link"])
def test_a_report_replaces_no_file_of_the_command(name, source, capsys):
    (keep := source.with_name("keep.json")).write_text('{"lstm0": [0, 2]}')
    os.link(source, source.with_name("link"))
    report, before = source.parent / name, {path: path.read_bytes() for path in source.parent.iterdir()}
    assert run(source, "--keep", keep, "--json", report) == 2
    error = capsys.readouterr().err
    assert f"{report}: expected another file than" in error or "expected a folder to write to, got no" in error
    assert error.count("\n") == 1
    assert before == {path: path.read_bytes() for path in source.parent.iterdir()}
    after = source.with_name("after.safetensors")
    after.write_bytes(source.read_bytes())
    for file in (source, after):
        assert crosscheck.main(["pruned", str(source), str(after), "--json", str(file)]) == 2
    assert after.read_bytes() == before[source]
