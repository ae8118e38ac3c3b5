"""Comparison of an LSTM before and after pruning: removed units and mistakes are found."""

import json
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save
from strategies import unhooked

from issref import crosscheck
from issref.iss.compact import compact, zero_dead
from issref.iss.layout import Layout
from issref.models import ptb_lstm
from issref.ops.lstm import GATES, lstm
from issref.training import checkpoint
from issref.verify.formats import files, flax, keras, onnx, tf1, torch
from issref.verify.formats.dialect import REFERENCE
from issref.verify.pruned import pairs
from issref.verify.pruned.compare import compare_checkpoints, lines
from issref.verify.pruned.matching import Layer, match, rows_of, spell

rngs = st.integers(0, 2**32 - 1).map(np.random.default_rng)
OUT = 5  # what the readout puts out


@unhooked()
def report(before, after):
    """The report on two dictionaries of arrays; it can be written as JSON and as lines."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{name}.safetensors" for name in ("before", "after")]
        for path, arrays in zip(paths, (before, after), strict=True):
            path.write_bytes(save({name: np.ascontiguousarray(values) for name, values in arrays.items()}))
        found = compare_checkpoints(*paths)
    assert json.loads(json.dumps(found._asdict(), allow_nan=False)) == found._asdict()
    assert all(isinstance(line, str) and "\n" not in line for line in lines(found))
    return found


def kinds(found):
    return [(each["layer"], each["kind"]) for each in found.findings]


def network(widths, readout=True, dialect=REFERENCE):
    """The layout of a stack, and of a softmax that reads it."""
    stack, top = dialect.layout(widths), f"{dialect.cell.space}{len(widths) - 2}"
    axes = {"softmax/kernel": ((top,), ("word",)), "softmax/bias": (("~word",),)} if readout else {}
    return Layout({**stack.axes, **axes}, {**stack.sizes, "word": OUT})


def random_params(layout, rng):
    return {name: rng.standard_normal(layout.shape(name)) for name in layout.axes}


def unread(params, layout, keep, rng):
    """The params with zeros where what is kept, or all, would read a unit that is not kept."""
    params = {name: values.copy() for name, values in params.items()}
    for space, alive in keep.items():
        for array, axis, (_, start, _, _) in layout.occurrences(space):
            if array.endswith("/kernel") and axis == 0:
                me = array.removesuffix("/kernel")
                readers = (
                    np.tile(keep[me], params[array].shape[1] // len(keep[me]))
                    if me in keep and rng.random() < 0.5
                    else slice(None)
                )
                for unit in np.flatnonzero(~alive):
                    params[array][start + unit, readers] = 0
    return params


@unhooked()
def case(rng, least=0, removed=0, layers=(1, 3), readout=None):
    """A random stack, masked and dense, and a choice of units of which some are kept and some removed."""
    widths = [int(rng.integers(1, 5))]
    widths += [int(rng.integers(least + removed + 1, 7)) for _ in range(rng.integers(layers[0], layers[1] + 1))]
    layout = network(widths, rng.random() < 0.5 if readout is None else readout)
    dense, keep = random_params(layout, rng), {}
    for layer, size in enumerate(widths[1:]):
        count = rng.integers(least, size - removed + 1)
        keep[f"lstm{layer}"] = np.isin(np.arange(size), rng.permutation(size)[:count])
    masked = unread(dense, layout, keep, rng)
    kept = {space: np.flatnonzero(alive) for space, alive in keep.items()}
    return SimpleNamespace(layout=layout, widths=widths, dense=dense, masked=masked, keep=keep, kept=kept)


def verdict(drawn, chained=True):
    """What can be decided of a lossless pruning: nothing if what read the removed units is not known."""
    *lower, top = (units.all() for units in drawn.keep.values())
    return True if (top or "softmax/kernel" in drawn.layout.axes) and (chained or all(lower)) else None


def kept_in(found):
    return {layer["layer"]: layer["kept"] for layer in found.layers}


# a pruning that is right
# -----------------------


@given(rngs)
def test_what_nothing_reads_is_removed_without_loss_and_exactly_that_is_named(rng):
    drawn = case(rng)
    found = report(drawn.masked, compact(drawn.masked, drawn.layout, drawn.keep)[0])
    assert found.preserved is verdict(drawn)
    assert found.findings == []
    assert found.relative <= 1e-12
    for layer, (space, alive) in zip(found.layers, drawn.keep.items(), strict=True):
        assert layer == {
            "layer": space, "before": len(alive), "after": alive.sum(),
            "kept": np.flatnonzero(alive).tolist(), "removed": np.flatnonzero(~alive).tolist(),
        }  # fmt: skip
    word = {
        True: "preserved  the kept weights are the same; compared: ",
        None: "UNDECIDED  the kept units are the same, but",
    }
    assert lines(found)[-1].startswith(word[verdict(drawn)])


@given(rngs)
def test_units_in_another_order_are_found(rng):
    drawn = case(rng)
    orders = {space: rng.permutation(units) for space, units in drawn.kept.items()}
    after = {}
    for name, values in drawn.masked.items():
        for axis in range(values.ndim):
            along = [
                start + (orders[space] if space in orders else np.arange(stop - start))
                for space, start, stop, _ in drawn.layout.segments(name, axis)
            ]
            values = values.take(np.concatenate(along), axis)
        after[name] = values
    found = report(drawn.masked, after)
    turned = [space for space, order in orders.items() if sorted(order) != order.tolist()]
    unread = "softmax/kernel" not in drawn.layout.axes and [*orders][-1] in turned
    assert found.preserved is (None if unread else verdict(drawn))
    assert found.findings == []
    assert kept_in(found) == {space: order.tolist() for space, order in orders.items()}
    assert [note.split(":")[0] for note in found.notes if "another order" in note] == turned


@given(rngs, st.sampled_from((np.float16, np.float32)))
def test_a_coarser_dtype_is_no_other_function(rng, dtype):
    drawn = case(rng)
    small, _ = compact(drawn.masked, drawn.layout, drawn.keep)
    found = report(drawn.masked, {name: values.astype(dtype) for name, values in small.items()})
    assert found.preserved is verdict(drawn)
    assert found.findings == []
    assert kept_in(found) == {space: units.tolist() for space, units in drawn.kept.items()}
    assert f"compared in {np.dtype(dtype).name}, the coarser dtype" in found.notes


@given(rngs)
def test_the_rounding_of_a_sum_of_two_biases_is_no_change(rng):
    drawn = case(rng, readout=False)
    before = {name: values.astype("float32") for name, values in torch.from_reference(drawn.masked).items()}
    for name in [name for name in before if "bias_hh" in name]:
        before[name] = rng.standard_normal(before[name].shape).astype("float32")
    wide = torch.to_reference({name: values.astype(float) for name, values in before.items()})
    small, _ = compact(wide, drawn.layout, drawn.keep)
    for name, values in small.items():
        small[name] = np.nextafter(values.astype("float32"), np.float32(np.inf) if "bias" in name else values)
    found = report(before, {name: values.astype("float32") for name, values in small.items()})
    assert found.preserved is verdict(drawn)
    assert found.findings == []
    assert kept_in(found) == {space: units.tolist() for space, units in drawn.kept.items()}


@given(rngs, st.sampled_from((torch, flax, keras, tf1)))
def test_each_spelling_is_read(rng, of):
    drawn = case(rng, readout=False)
    small, _ = compact(drawn.masked, drawn.layout, drawn.keep)
    ways = (
        (of.from_reference(drawn.masked), small, of in (torch, tf1)),
        (drawn.masked, of.from_reference(small), True),
    )
    for before, after, chained in ways:
        found = report(before, after)
        assert found.preserved is verdict(drawn, chained)
        assert kept_in(found) == {space: units.tolist() for space, units in drawn.kept.items()}


def test_a_language_model_before_and_after_is_read_as_train_ptb_writes_it(tmp_path):
    rng, layout = np.random.default_rng(0), ptb_lstm.layout(ptb_lstm.Config(7, 4, (6, 5)))
    keep = {"lstm0": np.arange(6) % 3 > 0, "lstm1": np.arange(5) != 2}
    full = unread(random_params(layout, rng), layout, keep, rng)
    small, small_layout = compact(full, layout, keep)
    checkpoint.save(tmp_path / "checkpoint.safetensors", checkpoint.add_prefix(params=full, state=full))
    checkpoint.save(tmp_path / "model.safetensors", small, layout=json.loads(small_layout.to_json()))
    before, after = tmp_path / "checkpoint.safetensors", tmp_path / "model.safetensors"
    found = compare_checkpoints(before, after, "params/lstm#/*")
    assert found.preserved
    assert found.basis.startswith("the outputs of params/softmax/kernel and softmax/kernel, as the only reader")
    assert found.before.endswith("checkpoint.safetensors: issref params/lstm#/*, 4 -> 6 -> 5, float64")
    assert lines(found)[2:4] == [
        "lstm0      6 -> 4 units, removed 2: 0, 3",
        "lstm1      5 -> 4 units, removed 1: 2",
    ]
    checkpoint.save(tmp_path / "full.safetensors", full)
    found = compare_checkpoints(tmp_path / "full.safetensors", tmp_path / "model.safetensors")
    assert found.preserved
    assert found.basis == "the outputs of softmax/kernel, as the only reader of the top layer"


def test_a_pytorch_model_and_its_onnx_file(tmp_path):
    th = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    drawn = case(np.random.default_rng(1), least=2, removed=2, layers=(2, 2), readout=True)
    small, _ = compact(drawn.masked, drawn.layout, drawn.keep)
    paths = {name: tmp_path / name for name in ("before.pt", "after.pt", "after.onnx")}
    for path, params in ((paths["before.pt"], drawn.masked), (paths["after.pt"], small)):
        state = {f"rnn.{name}": th.tensor(values) for name, values in torch.from_reference(params).items()}
        kernel, bias = th.tensor(params["softmax/kernel"].T), th.tensor(params["softmax/bias"])
        state |= {"decoder.weight": kernel, "decoder.bias": bias, "embed.weight": th.ones(9, drawn.widths[-1])}
        th.save({"model": state}, path)
    onnx.write(paths["after.onnx"], onnx.from_reference(small))
    found = compare_checkpoints(paths["before.pt"], paths["after.pt"])
    assert found.preserved is None
    assert "--reader NAME (model.decoder.weight, model.embed.weight) names all arrays that do" in found.basis
    choices = {"reader": ["model.decoder.weight"], "unrelated": ["*embed*"]}
    found = compare_checkpoints(paths["before.pt"], paths["after.pt"], **choices)
    assert found.preserved is True
    said = "assumed: only the next layer reads lstm0, and nothing its final states"
    assert found.basis == f"the outputs of model.decoder.weight, as the only reader of the top layer; {said}"
    found = compare_checkpoints(paths["before.pt"], paths["after.onnx"], **choices)
    assert found.preserved is True
    assert kept_in(found) == {space: units.tolist() for space, units in drawn.kept.items()}


@given(rngs)
def test_a_unit_that_stays_at_zero_may_be_read(rng):
    drawn = case(rng, least=1, removed=1)
    before = {name: values.copy() for name, values in drawn.dense.items()}
    for me, alive in drawn.keep.items():
        candidate = np.flatnonzero(~alive) + GATES.index("candidate") * len(alive)
        before[f"{me}/kernel"][:, candidate] = 0
        before[f"{me}/bias"][candidate] = 0
    found = report(before, compact(before, drawn.layout, drawn.keep)[0])
    assert found.preserved is verdict(drawn)
    assert found.findings == []
    assert sum("stay at 0" in note for note in found.notes) == len(drawn.keep)


# a pruning that is wrong
# -----------------------


def outputs(params, widths, kept=None):
    """Compute the compared outputs from the same random numbers, with a random state for kept units."""
    rng = np.random.default_rng(pairs.SEED)
    x = rng.standard_normal((pairs.STEPS, pairs.BATCH, widths[0]))
    for me, units in kept.items():
        size = len(params[f"{me}/bias"]) // 4
        states = rng.standard_normal((2, pairs.BATCH, len(units)))
        if size > len(units):
            whole = np.zeros((2, pairs.BATCH, size))
            whole[:, :, units] = states
            states = whole
        (x, _, _), _ = lstm(x, *states, params[f"{me}/kernel"], params[f"{me}/bias"])
    return x @ params["softmax/kernel"] + params["softmax/bias"]


@given(rngs, st.sampled_from(("dense", "masked")), st.sampled_from(GATES))
def test_a_gate_out_of_step_is_named_with_its_units_and_how_much_it_differs(rng, state, gate):
    drawn = case(rng, least=1, removed=1, readout=True)
    before, wrong = getattr(drawn, state), f"lstm{rng.integers(len(drawn.keep))}"
    right = drawn.kept[wrong]
    other = other_choice(rng, drawn, wrong)
    after, _ = compact(before, drawn.layout, drawn.keep)
    units = {name: other if name == gate else right for name in GATES}
    after |= columns_cut(before, drawn, wrong, units)
    found = report(before, after)
    assert found.preserved is False
    assert kept_in(found) == {space: kept.tolist() for space, kept in drawn.kept.items()}
    assert [each for each in found.findings if each["kind"] != "read"] == [
        {
            "layer": wrong, "kind": "gates", "text": found.findings[0]["text"],
            "sets": {name: each.tolist() for name, each in units.items()},
        }
    ]  # fmt: skip
    assert f"{wrong}: gates kept different units" in lines(found)[-3 - len(found.findings) + 1]
    one, two = (outputs(params, drawn.widths, drawn.kept) for params in (before, after))
    np.testing.assert_allclose(found.difference, np.abs(one - two).max(), rtol=1e-9)
    relative = np.abs(one - two).max((0, 1)) / np.abs((one, two)).max((0, 1, 2))
    np.testing.assert_allclose(found.relative, relative.max(), rtol=1e-9)


def columns_cut(before, drawn, me, units):
    """One layer with right rows and its columns cut gate by gate."""
    size = len(drawn.keep[me])
    columns = np.concatenate([units[name] + size * number for number, name in enumerate(GATES)])
    return {
        f"{me}/kernel": before[f"{me}/kernel"][np.ix_(rows_kept(drawn, me), columns)],
        f"{me}/bias": before[f"{me}/bias"][columns],
    }


def rows_kept(drawn, me, below=None, own=None):
    """The rows of a layer's kernel that are to be kept, or others."""
    (_, _, size, _), *_ = drawn.layout.segments(f"{me}/kernel", 0)
    below = drawn.kept.get(f"lstm{int(me[4:]) - 1}", np.arange(size)) if below is None else below
    return np.concatenate((below, size + (drawn.kept[me] if own is None else own)))


def other_choice(rng, drawn, space):
    """As many units of a layer, but others."""
    size, right = len(drawn.keep[space]), drawn.kept[space]
    while True:
        other = np.sort(rng.permutation(size)[: len(right)])
        if not np.array_equal(other, right):
            return other


@given(rngs)
def test_every_gate_cut_in_its_own_way_is_named(rng):
    """As the LSTM pruner of torch.ao does it: rows and columns of each recurrent block and its bias by one choice
    of the gate, weights from the input and their bias by another, readers by the recurrent one of the output gate.
    """
    drawn = case(rng, least=2, removed=2, layers=(1, 1), readout=True)
    size, inputs = len(drawn.keep["lstm0"]), drawn.widths[0]
    x_units, h_units = ({gate: other_choice(rng, drawn, "lstm0") for gate in GATES} for _ in range(2))
    kernel, biases = drawn.dense["lstm0/kernel"], rng.standard_normal((2, 4 * size))
    kernels, sums = [], []
    for gate, first in zip(GATES, range(0, 4 * size, size), strict=True):
        x, h = kernel[:inputs, first : first + size], kernel[inputs:, first : first + size]
        kernels.append(np.vstack((x[:, x_units[gate]], h[np.ix_(h_units[gate], h_units[gate])])))
        sums.append(biases[0, first + x_units[gate]] + biases[1, first + h_units[gate]])
    after = {
        "lstm0/kernel": np.hstack(kernels),
        "lstm0/bias": np.hstack(sums),
        "softmax/kernel": drawn.dense["softmax/kernel"][h_units["output"]],
        "softmax/bias": drawn.dense["softmax/bias"],
    }
    found = report({**drawn.dense, "lstm0/bias": biases.sum(axis=0)}, after)
    assert found.preserved is False
    assert {kind for _, kind in kinds(found)} <= {"gates", "read"}
    sets = {f"x to {gate}": units.tolist() for gate, units in x_units.items()}
    sets |= {f"h to {gate}": units.tolist() for gate, units in h_units.items()}
    if any(not np.array_equal(x_units[gate], h_units[gate]) for gate in GATES):
        assert found.findings[0]["sets"] == sets


@given(rngs)
def test_a_gate_that_reads_no_input_is_told_by_its_recurrent_weights(rng):
    drawn = case(rng, least=2, removed=1, layers=(1, 1))
    drawn.dense["lstm0/kernel"][: drawn.widths[0]] = 0
    units = {**dict.fromkeys(GATES, drawn.kept["lstm0"]), "forget": other_choice(rng, drawn, "lstm0")}
    after, _ = compact(drawn.dense, drawn.layout, drawn.keep)
    found = report(drawn.dense, after | columns_cut(drawn.dense, drawn, "lstm0", units))
    assert found.findings[0]["sets"] == {gate: each.tolist() for gate, each in units.items()}


@given(rngs, st.sampled_from(("dense", "masked")))
def test_recurrent_rows_of_other_units_are_named(rng, state):
    drawn = case(rng, least=1, removed=1)
    before, me = getattr(drawn, state), f"lstm{rng.integers(len(drawn.keep))}"
    own, columns = other_choice(rng, drawn, me), np.tile(drawn.keep[me], 4)
    after, _ = compact(before, drawn.layout, drawn.keep)
    after[f"{me}/kernel"] = before[f"{me}/kernel"][rows_kept(drawn, me, own=own)][:, columns]
    found = report(before, after)
    assert found.preserved is False
    wrong = [each for each in found.findings if each["kind"] != "read"]
    assert [(each["layer"], each["kind"]) for each in wrong] == [(me, "rows")]
    if state == "dense":
        assert wrong[0]["rows"] == own.tolist()
    assert kept_in(found) == {space: units.tolist() for space, units in drawn.kept.items()}


@given(rngs, st.sampled_from(("dense", "masked")))
def test_readers_cut_to_other_units_are_named(rng, state):
    drawn = case(rng, least=1, removed=1, readout=True)
    before, (_, *readers) = getattr(drawn, state), (*drawn.keep, "softmax")
    reader = readers[rng.integers(len(readers))]
    below = list(drawn.keep)[readers.index(reader)]
    other = other_choice(rng, drawn, below)
    after, _ = compact(before, drawn.layout, drawn.keep)
    kernel = before[f"{reader}/kernel"]
    if reader == "softmax":
        after["softmax/kernel"] = kernel[other]
    else:
        after[f"{reader}/kernel"] = kernel[rows_kept(drawn, reader, below=other)][
            :, np.tile(drawn.keep[reader], 4)
        ]
    found = report(before, after)
    assert found.preserved is False
    wrong = [each for each in found.findings if each["kind"] != "read"]
    assert len(wrong) == 1
    if state == "dense":
        layer = "softmax/kernel" if reader == "softmax" else reader
        assert (wrong[0]["layer"], wrong[0]["kind"], wrong[0]["rows"]) == (layer, "readers", other.tolist())


@given(rngs)
def test_biases_that_are_gone_or_of_other_units_are_named(rng):
    drawn = case(rng, least=1, removed=1)
    me, (after, _) = f"lstm{rng.integers(len(drawn.keep))}", compact(drawn.masked, drawn.layout, drawn.keep)
    right = after[f"{me}/bias"]
    after[f"{me}/bias"] = np.zeros_like(right)
    found = report(drawn.masked, after)
    assert found.preserved is False
    assert kinds(found) == [(me, "biases")]
    assert f"all biases are 0, before they were up to {np.abs(right).max():.3g}" in found.findings[0]["text"]
    other = other_choice(rng, drawn, me)
    after[f"{me}/bias"] = drawn.masked[f"{me}/bias"].reshape(4, -1)[:, other].ravel()
    found = report(drawn.masked, after)
    assert found.preserved is False
    assert kinds(found) == 4 * [(me, "biases")]
    assert [each["units"] for each in found.findings] == 4 * [other.tolist()]


@given(rngs)
def test_one_changed_weight_is_found(rng):
    drawn = case(rng, least=1)
    after, _ = compact(drawn.masked, drawn.layout, drawn.keep)
    me = f"lstm{rng.integers(len(drawn.keep))}"
    row, column = (int(rng.integers(size)) for size in after[f"{me}/kernel"].shape)
    after[f"{me}/kernel"][row, column] += 0.125
    found = report(drawn.masked, after)
    gate, unit = divmod(column, len(drawn.kept[me]))
    assert kinds(found) == [(me, "values")]
    values = found.findings[0]
    assert values["largest"] == pytest.approx(0.125)
    assert (values["unit"], values["nearest"]) == (unit, drawn.kept[me][unit])
    assert f"1 of {after[f'{me}/kernel'].size + after[f'{me}/bias'].size} numbers differ" in values["text"]
    assert f"most in the {GATES[gate]} gate of unit {unit}" in values["text"]


@pytest.mark.parametrize("how", ["tuned", "quantised"])
def test_changed_weights_are_matched_to_the_nearest_and_outputs_compared(how):
    rng = np.random.default_rng(0)
    layout = network((6, 12, 10))
    keep = {"lstm0": rng.random(12) < 0.5, "lstm1": rng.random(10) < 0.5}
    before = unread(random_params(layout, rng), layout, keep, rng)
    after, _ = compact(before, layout, keep)
    for name, values in after.items():
        noise = 1e-3 * rng.standard_normal(values.shape)
        after[name] = values + noise if how == "tuned" else np.round(16 * values) / 16
    found = report(before, after)
    assert found.preserved is False
    assert kinds(found) == [("lstm0", "values"), ("lstm1", "values"), ("softmax/kernel", "values")]
    assert kept_in(found) == {space: np.flatnonzero(alive).tolist() for space, alive in keep.items()}
    assert 1e-5 < found.difference / found.largest < 0.1


@given(rngs)
def test_removed_units_that_were_read_are_counted_and_their_largest_weight_named(rng):
    drawn = case(rng, least=1, removed=1, readout=True)
    found = report(drawn.dense, compact(drawn.dense, drawn.layout, drawn.keep)[0])
    assert found.preserved is False
    assert kinds(found) == [(me, "read") for me in drawn.keep]
    for each, (me, alive) in zip(found.findings, drawn.keep.items(), strict=True):
        largest = 0
        for array, axis, (_, start, _, _) in drawn.layout.occurrences(me):
            if array.endswith("/kernel") and axis == 0:
                reader = array.removesuffix("/kernel")
                columns = np.tile(drawn.keep[reader], 4) if reader in drawn.keep else slice(None)
                largest = max(
                    largest, np.abs(drawn.dense[array][start : start + len(alive)][~alive][:, columns]).max()
                )
        assert each["units"] == np.flatnonzero(~alive).tolist()
        assert each["largest"] == pytest.approx(largest)
        assert f"{(~alive).sum()} removed units were read, with weights up to {largest:.3g}" in each["text"]


@given(rngs)
def test_zeros_in_place_are_changed_values(rng):
    drawn = case(rng, least=1, removed=1, readout=True)
    found = report(drawn.dense, drawn.masked)
    assert found.preserved is False
    assert {kind for _, kind in kinds(found)} == {"values"}
    assert all("of these are 0 now" in each["text"] for each in found.findings)
    assert [layer["removed"] for layer in found.layers] == [[] for _ in drawn.keep]
    found = report(drawn.dense, zero_dead(drawn.dense, drawn.layout, drawn.keep))
    assert kept_in(found) == {space: [*range(len(alive))] for space, alive in drawn.keep.items()}


def test_a_changed_weight_that_matters_to_nothing_leaves_the_function():
    drawn = case(np.random.default_rng(3), least=2, removed=1, readout=True)
    dead = {space: np.ones(len(alive), bool) for space, alive in drawn.keep.items()}
    after = {name: values.copy() for name, values in drawn.masked.items()}
    unread_unit = np.flatnonzero(~drawn.keep["lstm0"])[0]
    after["lstm0/bias"][unread_unit] += 1
    found = report(drawn.masked, compact(after, drawn.layout, dead)[0])
    assert found.preserved
    assert kinds(found) == [("lstm0", "values")]
    assert lines(found)[-1].startswith("preserved  weights changed, the outputs did not; compared: the outputs of")


# bad input
# ---------


SMALL = random_params(network((3, 4, 2), readout=False), np.random.default_rng(0))


def spoilt(**changes):
    return {**SMALL, **{name.replace("__", "/"): values for name, values in changes.items()}}


@pytest.mark.parametrize(
    ("after", "sentence"),
    [
        (random_params(network((3, 4), False), np.random.default_rng(1)), "expected 2 layers, as before, got 1"),
        (random_params(network((3, 4, 3), False), np.random.default_rng(1)),
         "expected at most 2 units in lstm1, as before, got 3"),
        (random_params(network((2, 4, 2), False), np.random.default_rng(1)),
         "expected an input of width 3, as before, or components with the same weights, got 2 others"),
        (random_params(network((4, 4, 2), False), np.random.default_rng(1)),
         "expected an input of width 3, as before, got 4"),
        (spoilt(lstm0__bias=np.full(16, np.nan)), "lstm0/bias: expected finite numbers, got 16"),
        (spoilt(lstm0__bias=np.ones(12)), r"lstm0/bias: expected shape \(16,\) for axes .*, got \(12,\)"),
        ({"embed/kernel": np.ones((3, 4))}, "expected an LSTM's .* arrays, with names .*, got embed/kernel"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_compared_are_refused_in_a_sentence(after, sentence):
    with pytest.raises(ValueError, match=rf"^\S*after.safetensors: {sentence}"):
        report(SMALL, after)


def test_a_readout_of_numbers_that_are_not_finite_is_refused():
    arrays = random_params(network((3, 4)), np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"after.safetensors: expected finite numbers in softmax/kernel"):
        report(arrays, {**arrays, "softmax/bias": np.full(OUT, np.inf)})


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    files.write(path, SMALL)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match=f"^{path}: expected a whole safetensors file"):
        compare_checkpoints(path, path)


@pytest.mark.parametrize(
    ("reader", "sentence"),
    [
        ("fc.weight", r"before.safetensors: reader: expected one of \['softmax/kernel'\], got 'fc.weight'"),
        ("softmax/bias", r"softmax/bias: expected a matrix .* an axis of 4, .*, got float64 of shape \(5,\)"),
    ],
)
def test_a_reader_that_is_not_there_or_misfits_is_refused(reader, sentence, tmp_path):
    path = tmp_path / "before.safetensors"
    files.write(path, random_params(network((3, 4)), np.random.default_rng(0)))
    with pytest.raises(ValueError, match=sentence):
        compare_checkpoints(path, path, reader=[reader])


# what the numbers tell
# ---------------------


def test_numbers_that_are_there_twice_tell_nothing_of_their_row():
    old = np.array([[0.5, 0.5, 0.5], [1, 2, 3], [0.5, 4, 5]])
    np.testing.assert_array_equal(rows_of(old[[2, 1]], old), [2, 1])
    np.testing.assert_array_equal(rows_of(old[[0]], old), [-1])
    np.testing.assert_array_equal(rows_of(np.array([[2, 4, 7], [0, 2, 0]]), old), [-1, 1])


def test_no_two_units_are_matched_to_the_same_one():
    old = Layer(np.repeat([[[0.0, 1, 5]]], 4, axis=1), np.zeros((3, 4, 3)), np.zeros((4, 3)))
    new = Layer(np.repeat([[[0.9, 1.2]]], 4, axis=1), np.zeros((2, 4, 2)), np.zeros((4, 2)))
    np.testing.assert_array_equal(match(new, old, np.arange(1)), [1, 0])
    twice = Layer(old.x[:, :, [1, 1, 2]], old.h, old.b)
    np.testing.assert_array_equal(match(Layer(twice.x[:, :, :2], new.h, new.b), twice, np.arange(1)), [0, 1])


def test_units_are_spelled_as_runs():
    assert spell([]) == "none"
    assert spell([0, 1, 2, 5, 7, 8]) == "0-2, 5, 7-8"
    assert spell([3, 1, 2]) == "3, 1-2"
    assert spell(range(0, 60, 2)).endswith("20, 22, and 18 more runs")


# the command
# -----------


def test_the_command_says_what_was_removed_and_that_nothing_changed_or_what_broke(tmp_path, capsys):
    drawn = case(np.random.default_rng(5), least=1, removed=1, layers=(2, 2), readout=True)
    small, _ = compact(drawn.masked, drawn.layout, drawn.keep)
    right, wrong, before = (tmp_path / f"{name}.safetensors" for name in ("right", "wrong", "before"))
    other = {
        **dict.fromkeys(GATES, drawn.kept["lstm1"]),
        "forget": other_choice(np.random.default_rng(0), drawn, "lstm1"),
    }
    out_of_step = {**small, **columns_cut(drawn.masked, drawn, "lstm1", other)}
    for path, arrays in ((before, drawn.masked), (right, small), (wrong, out_of_step)):
        files.write(path, arrays)
    assert crosscheck.main(["pruned", str(before), str(right), "--json", str(tmp_path / "report.json")]) == 0
    said = capsys.readouterr().out
    assert said.splitlines() == lines(compare_checkpoints(before, right))
    assert f"removed {len(drawn.keep['lstm0']) - len(drawn.kept['lstm0'])}: " in said
    assert json.loads((tmp_path / "report.json").read_text()) == compare_checkpoints(before, right)._asdict()
    assert crosscheck.main(["pruned", str(before), str(wrong)]) == 1
    said = capsys.readouterr().out
    assert "lstm1: gates kept different units" in said
    assert "NOT PRESERVED" in said
    assert crosscheck.main(["pruned", str(before), str(tmp_path / "no.pt")]) == 2
    failed = capsys.readouterr()
    assert failed.out == ""
    assert failed.err.startswith(f"issref: {tmp_path / 'no.pt'}: expected ")
    assert failed.err.count("\n") == 1
