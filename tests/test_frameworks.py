"""Weights of other frameworks convert exactly in both directions, and the frameworks then compute the same."""

import itertools
import os
import pickle
import re
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from issref.iss.compact import compact
from issref.iss.groups import alive, group_norms, iss_groups
from issref.iss.layout import Layout
from issref.models import ptb_lstm
from issref.ops.gru import gru
from issref.ops.lstm import GATES, lstm
from issref.verify.formats import flax, keras, onnx, tf1, torch
from issref.verify.formats.dialect import REFERENCE, convert
from issref.verify.gradcheck import relative_error
from issref.verify.layouts import check_layout, layout_of

MODULES = {"torch": torch, "flax": flax, "keras": keras, "onnx": onnx, "tf1": tf1}
modules = pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
rngs = st.integers(0, 2**32 - 1).map(np.random.default_rng)
widths_of_stacks = st.lists(st.integers(0, 4), min_size=2, max_size=4)  # D, and H of each layer


def random_arrays(layout, rng, dtype=np.float64):
    return {name: rng.standard_normal(layout.shape(name)).astype(dtype) for name in layout.axes}


def random_params(widths, rng, dtype=np.float64):
    """Distinct random weights in every gate, biases too."""
    return random_arrays(REFERENCE.layout(widths), rng, dtype)


def same_bits(one, other):
    assert list(one) == list(other)
    for name, values in one.items():
        assert (values.dtype, values.shape) == (other[name].dtype, other[name].shape)
        assert values.tobytes() == other[name].tobytes(), name


# the conversion
# --------------


def by_hand(params):
    """One layer of params in each framework's arrays, written out."""
    kernel, bias = params["lstm0/kernel"], params["lstm0/bias"]
    i, g, f, o = np.split(kernel[: len(kernel) - len(bias) // 4], 4, axis=1)
    hi, hg, hf, ho = np.split(kernel[len(kernel) - len(bias) // 4 :], 4, axis=1)
    bi, bg, bf, bo = np.split(bias, 4)
    ifgo, h_ifgo, b_ifgo = np.hstack((i, f, g, o)), np.hstack((hi, hf, hg, ho)), np.hstack((bi, bf, bg, bo))
    cell = "Model/RNN/multi_rnn_cell/cell_0/basic_lstm_cell"
    return {
        "torch": {
            "weight_ih_l0": ifgo.T, "weight_hh_l0": h_ifgo.T, "bias_ih_l0": b_ifgo, "bias_hh_l0": 0 * bias,
        },
        "keras": {"lstm0/kernel": ifgo, "lstm0/recurrent_kernel": h_ifgo, "lstm0/bias": b_ifgo},
        "onnx": {
            "lstm0/W": np.hstack((i, o, f, g)).T,
            "lstm0/R": np.hstack((hi, ho, hf, hg)).T,
            "lstm0/B": np.hstack((bi, bo, bf, bg, 0 * bias)),
        },
        "flax": {
            "lstm0/ii/kernel": i, "lstm0/if/kernel": f, "lstm0/ig/kernel": g, "lstm0/io/kernel": o,
            "lstm0/hi/kernel": hi, "lstm0/hf/kernel": hf, "lstm0/hg/kernel": hg, "lstm0/ho/kernel": ho,
            "lstm0/hi/bias": bi, "lstm0/hf/bias": bf, "lstm0/hg/bias": bg, "lstm0/ho/bias": bo,
        },
        "tf1": {f"{cell}/weights": kernel, f"{cell}/biases": bias},
    }  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("widths", [(5, 3), (1, 1), (2, 4)])
def test_arrays_are_those_written_by_hand(name, widths):
    params = random_params(widths, np.random.default_rng(0))
    found, expected = MODULES[name].from_reference(params), by_hand(params)[name]
    assert found.keys() == expected.keys()
    for array, values in expected.items():
        np.testing.assert_array_equal(found[array], values, strict=True)


@modules
@given(rngs, widths_of_stacks, st.sampled_from((np.float16, np.float32, np.float64)))
def test_there_and_back_is_the_same_to_the_bit(module, rng, widths, dtype):
    params = random_params(widths, rng, dtype)
    for values in params.values():
        values[rng.random(values.shape) < 0.4] = rng.choice((0.0, -0.0))
    arrays = module.from_reference(params)
    module.layout(widths).check(arrays)
    same_bits(module.to_reference(arrays), params)


@modules
@given(rngs, widths_of_stacks)
def test_back_and_there_a_second_bias_moves_into_the_first(module, rng, widths):
    arrays = random_arrays(module.layout(widths), rng)
    expected = {name: values.copy() for name, values in arrays.items()}
    for name, values in expected.items():
        if "bias_hh" in name:
            expected[name.replace("hh", "ih")] += values
            values[:] = 0
        elif name.endswith("/B"):
            first, second = np.split(values, 2)
            first += second
            second[:] = 0
    again = module.from_reference(module.to_reference(arrays))
    assert list(again) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(again[name], values, strict=True)


@given(rngs, widths_of_stacks, *2 * [st.sampled_from(list(MODULES))])
def test_from_one_framework_to_another_is_the_way_over_the_reference(rng, widths, one, other):
    source, target = MODULES[one].SPELLING, MODULES[other].SPELLING
    arrays = random_arrays(source.layout(widths), rng)
    same_bits(convert(arrays, source, target), target.from_reference(source.to_reference(arrays)))


def test_the_reference_is_the_language_model_s_layer():
    assert REFERENCE.axes(1, ("lstm0",)) == ptb_lstm.lstm_axes("lstm1", ("lstm0",))
    assert REFERENCE.arrays["kernel"][1] == GATES


def test_the_lstm_layers_of_a_whole_model_are_found():
    config = ptb_lstm.Config(7, 5, (3, 2))
    params = random_arrays(ptb_lstm.layout(config), np.random.default_rng(0))
    layers = {name: values for name, values in params.items() if name.startswith("lstm")}
    same_bits(torch.from_reference(params), torch.from_reference(layers))


def reordered(dialect, order):
    """The dialect with another order of gates."""
    other = dict(zip(GATES, order, strict=True))
    return dialect._replace(
        arrays={
            array: tuple(tuple(other.get(block, block) for block in axis) for axis in axes)
            for array, axes in dialect.arrays.items()
        }
    )


@modules
def test_a_wrong_order_of_gates_shows_in_the_outputs(module):
    rng = np.random.default_rng(1)
    params, inputs = random_params((3, 2, 2), rng), random_inputs((3, 2, 2), 3, 2, rng)
    right, _ = run_reference(params, inputs)
    for order in itertools.permutations(GATES):
        wrong, _ = run_reference(
            reordered(module.SPELLING, order).to_reference(module.from_reference(params)), inputs
        )
        assert (relative_error(wrong, right) > 1e-3) == (order != GATES)


@given(rngs, widths_of_stacks, st.sampled_from((0.0, 1.0, -0.5)))
def test_the_forget_bias_of_a_tf1_cell_is_folded_into_its_biases(rng, widths, forget_bias):
    arrays, inputs = random_arrays(tf1.layout(widths), rng), random_inputs(widths, 3, 2, rng)
    plain, folded = tf1.to_reference(arrays), tf1.to_reference(arrays, forget_bias=forget_bias)
    expected, _ = run_reference(plain, inputs, forget_bias=forget_bias)
    assert relative_error(run_reference(folded, inputs)[0], expected) <= 1e-13
    assert relative_error(tf1.from_reference(folded, forget_bias=forget_bias), arrays) <= 1e-15


# the ISS groups along the frameworks' arrays
# -------------------------------------------


def members(arrays, groups):
    """Return for each group the set of its values."""
    found = [set() for _ in range(groups.count)]
    for array in groups.ids:
        values, (rows, columns) = groups.matrix(arrays, array), groups.ids[array]
        for (row, column), value in np.ndenumerate(values):
            for group in {rows[row], columns[column]} - {-1}:
                found[group].add(value)
    return found


@modules
@given(rngs, widths_of_stacks)
def test_groups_hold_the_same_weights(module, rng, widths):
    params = random_params(widths, rng)
    spaces = [f"lstm{layer}" for layer in range(len(widths) - 1)]
    ours = iss_groups(REFERENCE.layout(widths), spaces)
    theirs = iss_groups(module.layout(widths), spaces)
    arrays = module.from_reference(params)
    assert members(arrays, theirs) == members(params, ours)
    np.testing.assert_allclose(group_norms(arrays, theirs), group_norms(params, ours), rtol=1e-14)


@modules
@given(rngs, widths_of_stacks)
def test_to_convert_the_compacted_is_to_compact_the_converted(module, rng, widths):
    params = random_params(widths, rng)
    kept = {f"lstm{layer}": rng.random(size) < 0.6 for layer, size in enumerate(widths[1:])}
    smaller, _ = compact(params, REFERENCE.layout(widths), kept)
    same_bits(
        module.from_reference(smaller), compact(module.from_reference(params), module.layout(widths), kept)[0]
    )


# what each framework computes
# ----------------------------


def random_inputs(widths, steps, batch, rng, dtype=np.float64):
    """x, and for each layer an initial state that is not zero."""
    shapes = {"x": (steps, batch, widths[0])} | {
        f"lstm{layer}/{part}": (batch, size) for layer, size in enumerate(widths[1:]) for part in "hc"
    }
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def run_reference(params, inputs, cotangents=None, **keywords):
    """({hidden, lstm0/h, lstm0/c, ...}, gradients of sum(cotangent * output) in params and inputs)."""
    below, outputs, backs = inputs["x"], {}, []
    for me in ptb_lstm.spaces(params):
        weights = (params[f"{me}/kernel"], params[f"{me}/bias"])
        (below, *state), back = lstm(below, inputs[f"{me}/h"], inputs[f"{me}/c"], *weights, **keywords)
        outputs |= dict(zip((f"{me}/h", f"{me}/c"), state, strict=True))
        backs.append((me, back))
    if cotangents is None:
        return {"hidden": below, **outputs}, None
    dbelow, gradients = cotangents["hidden"], {}
    for me, back in reversed(backs):
        parts = back(dbelow, cotangents[f"{me}/h"], cotangents[f"{me}/c"])
        dbelow, *parts = parts
        gradients |= dict(zip((f"{me}/h", f"{me}/c", f"{me}/kernel", f"{me}/bias"), parts, strict=True))
    return {"hidden": below, **outputs}, {"x": dbelow, **gradients}


def random_cotangents(params, inputs, rng):
    outputs, _ = run_reference(params, inputs)
    return {name: rng.standard_normal(values.shape).astype(values.dtype) for name, values in outputs.items()}


def run_torch(arrays, inputs, cotangents):
    th, module = pytest.importorskip("torch"), torch.build(arrays)
    given = {name: th.tensor(values, requires_grad=True) for name, values in inputs.items()}
    outputs = forward_torch(th, module, given)
    sum((th.tensor(cotangents[name]) * values).sum() for name, values in outputs.items()).backward()
    weights = torch.arrays({name: values.grad for name, values in module.named_parameters()})
    gradients = {name: values.grad.numpy() for name, values in given.items()}
    return {name: values.detach().numpy() for name, values in outputs.items()}, gradients, weights


def forward_torch(th, module, inputs):
    """Return the outputs of an nn.LSTM, or of a stack of several."""
    below, outputs = inputs["x"], {}
    for part_of_stack in [module] if isinstance(module, th.nn.LSTM) else module:
        mine = [f"lstm{len(outputs) // 2 + n}" for n in range(part_of_stack.num_layers)]
        below, after = part_of_stack(
            below, tuple(th.stack([inputs[f"{me}/{part}"] for me in mine]) for part in "hc")
        )
        outputs |= {f"{me}/{part}": after[i][n] for n, me in enumerate(mine) for i, part in enumerate("hc")}
    return {"hidden": below, **outputs}


def run_flax(arrays, inputs, cotangents, cell="OptimizedLSTMCell"):
    jax, nn = pytest.importorskip("jax"), pytest.importorskip("flax.linen")

    def forward(tree, inputs):
        below, outputs = inputs["x"], {}
        for me, layer in sorted(tree.items()):
            rnn = nn.RNN(getattr(nn, cell)(layer["hi"]["bias"].size), time_major=True, return_carry=True)
            carry = (inputs[f"{me}/c"], inputs[f"{me}/h"])
            (outputs[f"{me}/c"], outputs[f"{me}/h"]), below = rnn.apply(
                {"params": {"cell": layer}}, below, initial_carry=carry
            )
        return {"hidden": below, **outputs}

    @jax.jit
    def outputs_and_gradients(tree, inputs, cotangents):
        outputs, back = jax.vjp(forward, tree, inputs)
        return outputs, *back(cotangents)

    with jax.enable_x64(inputs["x"].dtype == np.float64):
        outputs, of_weights, of_inputs = outputs_and_gradients(flax.build(arrays), inputs, cotangents)
        return flax.arrays(outputs), flax.arrays(of_inputs), flax.arrays(of_weights)


def run_keras(arrays, inputs, cotangents):
    th = pytest.importorskip("torch")
    layers = built_by_keras(arrays)
    given = {name: th.tensor(values, requires_grad=True) for name, values in inputs.items()}
    below, outputs = given["x"].transpose(0, 1), {}
    for number, layer in enumerate(layers):
        me = f"lstm{number}"
        below, outputs[f"{me}/h"], outputs[f"{me}/c"] = layer(below, [given[f"{me}/h"], given[f"{me}/c"]])
    outputs["hidden"] = below.transpose(0, 1)
    sum((th.tensor(cotangents[name]) * values).sum() for name, values in outputs.items()).backward()
    weights = {
        f"lstm{number}/{array}": weight.value.grad.numpy()
        for number, layer in enumerate(layers)
        for array, weight in zip(keras.SPELLING.arrays, layer.weights, strict=False)
    }
    gradients = {name: values.grad.numpy() for name, values in given.items()}
    return {name: values.detach().numpy() for name, values in outputs.items()}, gradients, weights


def built_by_keras(arrays):
    pytest.importorskip("torch")
    os.environ["KERAS_BACKEND"] = "torch"
    pytest.importorskip("keras")
    return keras.build(arrays)


def in_reference(module, gradients):
    """Gradients as those of params: each of two biases has that of their sum, and conversion adds them."""
    halved = {name: values / (1 + bool(re.search("bias_[ih]h", name))) for name, values in gradients.items()}
    return module.to_reference(halved)


RUNS = {
    "torch": (torch, run_torch),
    "flax": (flax, run_flax),
    "flax, plain cell": (flax, lambda *given: run_flax(*given, cell="LSTMCell")),
    "keras": (keras, run_keras),
}
TOLERANCE = {"float64": 5e-15, "float32": 2e-6}  # relative to the largest value compared
STACKS = {
    "one layer": (3, 2, (5, 3)),
    "one step": (1, 2, (3, 4)),
    "one unit": (3, 2, (2, 1)),
    "one of everything": (1, 1, (1, 1)),
    "equal widths": (4, 3, (5, 3, 3)),
    "unequal widths": (3, 2, (4, 2, 5)),
}
stacks = pytest.mark.parametrize(("steps", "batch", "widths"), STACKS.values(), ids=STACKS)
dtypes = pytest.mark.parametrize("dtype", TOLERANCE)


CASES = [
    *itertools.product(("torch", "keras"), STACKS, TOLERANCE),
    *(("flax", stack, "float64") for stack in STACKS),  # each is compiled for a second
    ("flax", "unequal widths", "float32"),
    ("flax, plain cell", "unequal widths", "float64"),
]


@pytest.mark.parametrize(("run", "stack", "dtype"), CASES)
def test_a_framework_computes_the_outputs_and_gradients_of_the_reference(run, stack, dtype):
    (module, run), (steps, batch, widths) = RUNS[run], STACKS[stack]
    rng = np.random.default_rng(0)
    params, inputs = random_params(widths, rng, dtype), random_inputs(widths, steps, batch, rng, dtype)
    cotangents = random_cotangents(params, inputs, rng)
    expected, gradients = run_reference(params, inputs, cotangents)
    found, of_inputs, of_weights = run(module.from_reference(params), inputs, cotangents)
    for values in (*found.values(), *of_weights.values()):
        assert values.dtype == dtype
    assert relative_error(found, expected) <= TOLERANCE[dtype]
    assert relative_error(of_inputs | in_reference(module, of_weights), gradients) <= TOLERANCE[dtype]


def run_onnx(arrays, inputs):
    pytest.importorskip("onnx").checker.check_model(model := onnx.build(arrays))
    return run_session(model.SerializeToString(), inputs)


def run_session(model, inputs):
    session = pytest.importorskip("onnxruntime").InferenceSession(model)
    feeds = {name: values if name == "x" else values[None] for name, values in inputs.items()}
    hidden, *after = session.run(None, feeds)
    names = [output.name.removesuffix("_after") for output in session.get_outputs()[1:]]
    return {"hidden": hidden, **{name: values[0] for name, values in zip(names, after, strict=True)}}


@stacks
def test_onnx_runtime_computes_the_outputs_of_the_reference(steps, batch, widths):
    rng = np.random.default_rng(0)
    params, inputs = random_params(widths, rng, "float32"), random_inputs(widths, steps, batch, rng, "float32")
    expected, _ = run_reference(params, inputs)
    assert relative_error(run_onnx(onnx.from_reference(params), inputs), expected) <= TOLERANCE["float32"]


@stacks
@dtypes
def test_onnx_by_its_own_reference_computes_the_outputs_of_ours(steps, batch, widths, dtype):
    evaluator = pytest.importorskip("onnx.reference").ReferenceEvaluator
    rng = np.random.default_rng(0)
    params, inputs = random_params(widths, rng, dtype), random_inputs(widths, steps, batch, rng, dtype)
    feeds = {name: values if name == "x" else values[None] for name, values in inputs.items()}
    hidden, *after = evaluator(onnx.build(onnx.from_reference(params))).run(None, feeds)
    expected, _ = run_reference(params, inputs)
    found = {"hidden": hidden} | {f"lstm{i // 2}/{'hc'[i % 2]}": values[0] for i, values in enumerate(after)}
    assert relative_error(found, expected) <= TOLERANCE[dtype]


def step_torch(arrays, inputs, cotangents, rate):
    th, module = pytest.importorskip("torch"), torch.build(arrays)
    given = {name: th.tensor(values) for name, values in inputs.items()}
    outputs = forward_torch(th, module, given)
    sum((th.tensor(cotangents[name]) * values).sum() for name, values in outputs.items()).backward()
    th.optim.SGD(module.parameters(), rate).step()
    return torch.arrays(module.state_dict())


def step_flax(arrays, inputs, cotangents, rate):
    *_, slopes = run_flax(arrays, inputs, cotangents)
    optax = pytest.importorskip("optax")
    with pytest.importorskip("jax").enable_x64(True):
        updates, _ = optax.sgd(rate).update(slopes, optax.sgd(rate).init(arrays))
        return flax.arrays(optax.apply_updates(arrays, updates))


@pytest.mark.parametrize(("module", "step", "bias_rate"), [(torch, step_torch, 2), (flax, step_flax, 1)])
def test_a_step_of_gradient_descent_moves_the_weights_as_in_the_reference(module, step, bias_rate):
    """But PyTorch has two biases, both of which move: their sum moves twice as far."""
    rng, widths, rate = np.random.default_rng(0), (4, 3, 2), 0.1
    params, inputs = random_params(widths, rng), random_inputs(widths, 3, 2, rng)
    cotangents = random_cotangents(params, inputs, rng)
    _, gradients = run_reference(params, inputs, cotangents)
    rates = {name: rate * bias_rate if name.endswith("bias") else rate for name in params}
    expected = {name: values - rates[name] * gradients[name] for name, values in params.items()}
    moved = module.to_reference(step(module.from_reference(params), inputs, cotangents, rate))
    assert relative_error(moved, expected) <= TOLERANCE["float64"]


@pytest.mark.parametrize("run", ["torch", "onnx"])
def test_a_pruned_pytorch_model_computes_the_same_in_pytorch_and_onnx(run):
    """A user's 2 x 650 nn.LSTM and softmax in float32: units that nothing reads are cut out, and exported."""
    th = pytest.importorskip("torch")
    rng, size, words = np.random.default_rng(0), 650, 30
    th.manual_seed(0)
    model = th.nn.ModuleDict({"rnn": th.nn.LSTM(size, size, 2), "decoder": th.nn.Linear(size, words)})
    kept = {"lstm0": rng.random(size) < 373 / 1500, "lstm1": rng.random(size) < 315 / 1500}
    with th.no_grad():
        for layer, alive_units in enumerate(kept.values()):
            dead = th.tensor(~alive_units)
            getattr(model["rnn"], f"weight_hh_l{layer}")[:, dead] = 0
            (model["rnn"].weight_ih_l1 if layer == 0 else model["decoder"].weight)[:, dead] = 0
    inputs = random_inputs((size, size, size), 6, 3, rng, "float32")
    state = tuple(th.tensor(np.stack([inputs[f"lstm{layer}/{part}"] for layer in (0, 1)])) for part in "hc")
    expected = model["decoder"](model["rnn"](th.tensor(inputs["x"]), state)[0]).detach().numpy()

    arrays = torch.arrays(model.state_dict())
    params = torch.to_reference(arrays)
    params |= {"softmax/kernel": arrays["decoder.weight"].T, "softmax/bias": arrays["decoder.bias"]}
    axes = REFERENCE.layout((size, size, size)).axes
    softmax = {"softmax/kernel": (("lstm1",), ("word",)), "softmax/bias": (("~word",),)}
    layout = Layout({**axes, **softmax}, {"x": size, "lstm0": size, "lstm1": size, "word": words})
    found = alive(params, iss_groups(layout, kept), ptb_lstm.READERS)
    for space, units in kept.items():
        np.testing.assert_array_equal(found[space], units)
    smaller, _ = compact(params, layout, found)
    fewer = {name: values if name == "x" else values[:, kept[name[:5]]] for name, values in inputs.items()}

    if run == "torch":
        cotangents = {name: np.float32(0) for name in ("hidden", *fewer)}
        assert isinstance(torch.build(torch.from_reference(smaller)), th.nn.ModuleList)
        hidden = run_torch(torch.from_reference(smaller), fewer, cotangents)[0]["hidden"]
    else:
        hidden = run_onnx(onnx.from_reference(smaller), fewer)["hidden"]
    assert hidden.shape[2] == kept["lstm1"].sum()
    np.testing.assert_allclose(hidden @ smaller["softmax/kernel"] + smaller["softmax/bias"], expected, atol=1e-5)


# what models call their arrays
# -----------------------------


def renamed(arrays, before, after):
    return {re.sub(before, after, name): values for name, values in arrays.items()}


PARAMS = random_params((4, 3, 3), np.random.default_rng(3))


@pytest.mark.parametrize(
    ("module", "before", "after"),
    [
        (torch, r"^", "model.rnn."),
        (torch, r"(.*)_l(\d)", r"layers.\2.\1_l0"),
        (torch, r"(.*)_l(\d)", r"\2.\1_l0"),
        (torch, r"(.*)_l(\d)", r"cells.\2.\1"),
        (flax, r"lstm(\d)", r"params/RNN_\1/cell"),
        (flax, r"lstm(\d)", r"OptimizedLSTMCell_\1"),
        (tf1, "^Model/RNN", "Train/Model/RNN/RNN"),
        (onnx, r"lstm(\d)", r"layer1\1"),
        (keras, r"lstm(\d)", r"lstm_\1/lstm_cell"),
    ],
)
def test_a_model_may_name_its_layers_as_it_likes(module, before, after):
    arrays = renamed(module.from_reference(PARAMS), before, after)
    arrays = dict(sorted(arrays.items(), reverse=True)) | {
        "decoder.weight": np.ones(3),
        "Dense_0/scale": np.ones(2),
    }
    same_bits(dict(sorted(module.to_reference(arrays).items())), dict(sorted(PARAMS.items())))


def test_ten_layers_are_in_the_order_of_their_numbers():
    params = random_params((2,) * 12, np.random.default_rng(0))
    arrays = dict(sorted(torch.from_reference(params).items()))
    same_bits(torch.to_reference(arrays), params)


def test_the_directions_of_a_bidirectional_lstm_are_two_stacks():
    th = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    model = th.nn.ModuleDict({"lstm": th.nn.LSTM(4, 3, bidirectional=True, dtype=th.float64)})
    arrays, inputs = torch.arrays(model.state_dict()), random_inputs((4, 3), 5, 2, rng)
    with pytest.raises(ValueError, match=re.escape("got ['lstm.*_l#', 'lstm.*_l#_reverse']")):
        torch.to_reference(arrays)
    zeros = np.zeros((2, 3))
    both = model["lstm"](th.tensor(inputs["x"]))[0].detach().numpy()
    for stack, half in (("lstm.*_l#", both[..., :3]), ("lstm.*_l#_reverse", both[..., 3:])):
        weights = torch.to_reference(arrays, stack).values()
        (hidden, _, _), _ = lstm(inputs["x"], zeros, zeros, *weights, reverse=stack.endswith("reverse"))
        assert relative_error({"hidden": hidden}, {"hidden": half}) <= TOLERANCE["float64"]


def without_biases(arrays):
    return {name: values for name, values in arrays.items() if values.ndim == 2}


@pytest.mark.parametrize("module", [torch, keras, onnx])
def test_layers_without_biases_have_biases_of_zero(module):
    expected = {name: values * (values.ndim > 1) for name, values in PARAMS.items()}
    arrays = without_biases(module.from_reference(PARAMS))
    assert relative_error(module.to_reference(arrays), expected) == 0


@pytest.mark.parametrize("of", ["torch", "keras", "onnx"])
def test_a_framework_s_layers_without_biases_compute_the_same(of):
    rng, widths = np.random.default_rng(0), (4, 3)
    params, inputs = random_params(widths, rng, "float32"), random_inputs(widths, 3, 2, rng, "float32")
    params["lstm0/bias"][:] = 0
    arrays = without_biases(MODULES[of].from_reference(params))
    expected, _ = run_reference(params, inputs)
    cotangents = {name: np.float32(1) for name in expected}
    runs = {"torch": run_torch, "keras": run_keras}
    found = runs[of](arrays, inputs, cotangents)[0] if of in runs else run_onnx(arrays, inputs)
    assert relative_error(found, expected) <= TOLERANCE["float32"]


def spoiled(**changes):
    """The torch arrays of PARAMS with some of them replaced, or left out where the change is None."""
    arrays = torch.from_reference(PARAMS) | changes
    return {name: values for name, values in arrays.items() if values is not None}


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({}, "arrays: expected the arrays weight_ih, weight_hh, bias_ih, bias_hh, got none of them"),
        (spoiled(weight_hh_l1=None), r"weight_hh_l1: expected this array, got \['bias_hh_l1', 'bias_ih_l1', 'w"),
        (spoiled(bias_hh_l0=None), r"bias_hh_l0: expected this array, got \['bias_ih_l0', 'weight_hh_l0', 'w"),
        (spoiled(bias_hh_l0=None, bias_ih_l0=None), "bias_ih_l0: expected this array"),
        (spoiled(weight_ih_l1=np.ones((12, 5))),
         r"weight_ih_l1: expected shape \(12, 3\) for axes \(4 lstm1, lstm0\), got \(12, 5\)"),
        (spoiled(weight_ih_l0=np.ones((9, 4))),
         r"weight_ih_l0: expected shape \(8, 4\) for axes \(4 lstm0, x\), got \(9, 4\)"),
        (spoiled(weight_ih_l0=np.ones(9)), r"weight_ih: expected 2 axes, got shape \(9,\)"),
        (spoiled(bias_ih_l0=np.ones((12, 1))),
         r"bias_ih_l0: expected shape \(12,\) for axes \(4 ~lstm0\), got \(12, 1\)"),
        (spoiled(weight_hh_l1=np.full((12, 3), np.nan)),
         "weight_hh_l1: expected finite numbers, got 36 that are infinite or NaN"),
        (spoiled(bias_ih_l0=np.full(12, -np.inf)), "bias_ih_l0: expected finite numbers, got 12"),
        (spoiled(bias_ih_l0=np.ones(12, int)), "bias_ih_l0: expected floating point numbers, got int64"),
        (spoiled(weight_hr_l0=np.ones((2, 3))), "weight_hr_l0: expected only weight_ih, .* in a plain LSTM"),
        (spoiled(weight_hh_l0_reverse=np.ones((2, 3))), "arrays: expected one LSTM, or a choice by stack"),
        (renamed(PARAMS, "lstm1", "lstm2"), "arrays: expected the arrays weight_ih"),
        (renamed(spoiled(), "_l1", "_l2"), r"expected layers numbered without gaps, .*, got \['\*_l0', '\*_l2'\]"),
        (renamed(spoiled(), r"_l(\d)", r"_l1\1"), r"layers numbered from 0 up, got \['\*_l10', '\*_l11'\]"),
        ({**spoiled(), **renamed(spoiled(), "^", "a.")}, r"choice by stack, got \['\*_l#', 'a\.\*_l#'\]"),
    ],
)  # fmt: skip
def test_arrays_that_are_no_lstm_are_refused_in_a_sentence(arrays, sentence):
    with pytest.raises(ValueError, match=sentence):
        torch.to_reference(arrays)


def test_an_unknown_stack_and_peepholes_are_refused():
    with pytest.raises(ValueError, match=r"stack: expected one of \['\*_l#'\], got 'b.\*_l#'"):
        torch.to_reference(spoiled(), "b.*_l#")
    arrays = tf1.from_reference(PARAMS)
    peephole = next(iter(arrays)).replace("weights", "w_f_diag")
    with pytest.raises(ValueError, match=r"w_f_diag: expected only weights, biases in a plain LSTM"):
        tf1.to_reference({**arrays, peephole: np.ones(3)})
    slots = {name + "/Adam": values for name, values in arrays.items()}
    same_bits(tf1.to_reference({**arrays, **slots}), PARAMS)


# files
# -----


FILES = [
    ("torch", ".pt"), ("torch", ".safetensors"), ("onnx", ".onnx"),
    ("flax", ".safetensors"), ("keras", ".safetensors"), ("tf1", ".safetensors"),
]  # fmt: skip


@pytest.mark.parametrize(("of", "suffix"), FILES)
@pytest.mark.parametrize("widths", [(4, 3, 3), (4, 3, 2)], ids=["equal", "unequal"])
def test_what_is_written_is_read(of, suffix, widths, tmp_path):
    if of in ("torch", "onnx"):
        pytest.importorskip(of)
    module, path = MODULES[of], tmp_path / f"weights{suffix}"
    params = random_params(widths, np.random.default_rng(0), "float32")
    arrays = {name: np.asfortranarray(values) for name, values in module.from_reference(params).items()}
    module.write(path, arrays)
    same_bits(module.to_reference(module.read(path)), params)
    assert [path] == list(tmp_path.iterdir())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=rf"{path}: expected a whole .*, got one that cannot be read \(.+\)$"):
        module.read(path)
    path.unlink()
    with pytest.raises(ValueError, match=f"{path}: expected a whole .*, got no file"):
        module.read(path)


def test_a_checkpoint_that_holds_a_state_dict_somewhere_is_read(tmp_path):
    th, path = pytest.importorskip("torch"), tmp_path / "checkpoint.pt"
    model = th.nn.LSTM(4, 3, 2)
    optimizer = th.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(th.ones(2, 4))[0].sum().backward()
    optimizer.step()
    th.save({"epoch": 3, "model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)
    expected = torch.to_reference(torch.arrays(model.state_dict()))
    same_bits(torch.to_reference(torch.read(path)), expected)
    th.save({name: values.bfloat16() for name, values in model.state_dict().items()}, path)
    assert relative_error(torch.to_reference(torch.read(path)), expected) < 0.01


def test_a_pickle_that_asks_for_more_than_tensors_is_refused(tmp_path):
    th, path = pytest.importorskip("torch"), tmp_path / "model.pt"
    th.save(th.nn.LSTM(2, 2), path)
    with pytest.raises(ValueError, match=f"{path}: expected tensors in dictionaries, .* refuses"):
        torch.read(path)
    th.save([th.ones(3)], path)
    with pytest.raises(ValueError, match="arrays: expected the arrays weight_ih"):
        torch.to_reference(torch.read(path))
    path.write_bytes(pickle.dumps({"weight_ih_l0": print}, protocol=2))
    with pytest.raises(ValueError, match=f"{path}: expected tensors in dictionaries, .* refuses"):
        torch.read(path)


@pytest.mark.parametrize("content", [b"", b"no weights at all" * 9])
@pytest.mark.parametrize("name", ["model.pt", "model.safetensors", "model.onnx"])
def test_a_file_of_something_else_is_refused(name, content, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    of = "onnx" if name.endswith("onnx") else "torch"
    pytest.importorskip(of)
    with pytest.raises(
        ValueError, match=f"{path}: expected|expected the arrays .* of an LSTM|got no recurrent node"
    ):
        MODULES[of].to_reference(MODULES[of].read(path))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras over PyTorch
def test_keras_reads_its_layers_and_refuses_other_activations():
    layers = built_by_keras(keras.from_reference(PARAMS))
    same_bits(keras.arrays(layers), keras.from_reference(PARAMS))
    other = pytest.importorskip("keras").layers.LSTM(3, recurrent_activation="hard_sigmoid")
    with pytest.raises(ValueError, match="expected recurrent_activation 'sigmoid', got 'hard_sigmoid'"):
        keras.arrays([layers[0], other])


def test_flax_s_own_names_are_read():
    jax, nn = pytest.importorskip("jax"), pytest.importorskip("flax.linen")

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            for size in (3, 2):
                x = nn.RNN(nn.OptimizedLSTMCell(size))(x)
            return nn.Dense(5)(x)

    shapes = jax.eval_shape(Model().init, jax.random.key(0), jax.numpy.zeros((1, 2, 4)))
    tree = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    params = flax.to_reference(flax.arrays(tree))
    assert {name: values.shape for name, values in params.items()} == {
        "lstm0/kernel": (7, 12), "lstm0/bias": (12,), "lstm1/kernel": (5, 8), "lstm1/bias": (8,)
    }  # fmt: skip


def other_onnx(change):
    """The ONNX model of PARAMS with a change made to its second LSTM."""
    helper = pytest.importorskip("onnx").helper
    model = onnx.build(onnx.from_reference(PARAMS))
    change(helper, model.graph, next(node for node in model.graph.node if node.name == "lstm1"))
    return model


def attribute(name, value):
    return lambda helper, graph, node: node.attribute.append(helper.make_attribute(name, value))


def relu_between(helper, graph, node):
    graph.node.insert(2, helper.make_node("Relu", [node.input[0]], ["rectified"]))
    node.input[0] = "rectified"


def computed_weights(helper, graph, node):
    graph.node.insert(0, helper.make_node("Neg", [node.input[1]], ["negated"]))
    node.input[1] = "negated"


def fed_weights(helper, graph, node):
    node.input[1] = "w"


def beside(helper, graph, node):
    node.input[0] = "x"


def two_directions(helper, graph, node):
    weights = next(tensor for tensor in graph.initializer if tensor.name == node.input[1])
    weights.dims[0], weights.dims[1] = 2, weights.dims[1] // 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (attribute("direction", "inward"), r"lstm1: expected a direction of .*'bidirectional'\], got b'inward'"),
        (attribute("clip", 3.0), "lstm1: expected clip None, got 3.0"),
        (attribute("input_forget", 1), "lstm1: expected input_forget 0, got 1"),
        (attribute("activations", ["Sigmoid", "Relu", "Tanh"]), "lstm1: expected activations .*, got .*Relu"),
        (lambda _, graph, node: node.input.append("peepholes"), "lstm1: expected no peepholes, got peepholes"),
        (relu_between, r"expected one LSTM, or a choice by stack, got \['lstm0/0/\*', 'lstm1/0/\*'\]"),
        (beside, r"expected one LSTM, or a choice by stack, got \['lstm0/0/\*', 'lstm1/0/\*'\]"),
        (attribute("direction", "reverse"), r"choice by stack, got \['lstm#/\*', 'lstm#_reverse/\*'\]"),
        (computed_weights, "negated: expected weights stored in the file, got ones that Neg computes; .*folding"),
        (fed_weights, "w: expected weights stored in the file, got fed ones"),
        (two_directions, r"lstm1/W: expected one direction along its first axis, got shape \(2, 6, 3\)"),
    ],
)
def test_another_lstm_of_onnx_is_refused_by_name(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        onnx.to_reference(onnx.arrays(other_onnx(change)))


@pytest.mark.parametrize("change", [attribute("layout", 1), attribute("activations", ["Sigmoid", "Tanh", "Tanh"])])
def test_what_says_nothing_about_the_weights_is_read(change):
    same_bits(onnx.to_reference(onnx.arrays(other_onnx(change))), PARAMS)


def test_what_pytorch_exports_to_onnx_is_read(tmp_path):
    th, path = pytest.importorskip("torch"), tmp_path / "exported.onnx"
    pytest.importorskip("onnx")
    module = th.nn.LSTM(4, 3, 2)
    with warnings.catch_warnings(action="ignore"):  # of the exporter, about itself
        th.onnx.export(module, (th.zeros(3, 2, 4),), path, dynamo=False)
    same_bits(onnx.to_reference(onnx.read(path)), torch.to_reference(torch.arrays(module.state_dict())))


# layouts of modules
# ------------------


def torch_recurrent(th, params, name, x):
    """One layer after another, and each direction of it, with the widths of the arrays."""
    for number in range(sum(array.startswith(f"{name}.weight_hh") for array in params)):
        outputs = []
        for suffix in (f"_l{number}", f"_l{number}_reverse"):
            weights = [params.get(f"{name}.{one}{suffix}") for one in TORCH_ORDER]
            weights = [one for one in weights if one is not None]
            if weights:
                y = torch_one_direction(th, name, x.flip(0) if "reverse" in suffix else x, weights)
                outputs.append(y.flip(0) if "reverse" in suffix else y)
        x = th.cat(outputs, -1) if outputs else x
    return x


TORCH_ORDER = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


def torch_one_direction(th, name, x, weights):
    cells = len(weights[0]) // (4 if name == "lstm" else 3)
    if len(weights) % 2:
        return torch_projected(th, x, *weights)
    h = c = x.new_zeros(1, x.shape[1], cells)
    settings = (len(weights) > 3, 1, 0.0, False, False, False)
    return th.lstm(x, (h, c), weights, *settings)[0] if name == "lstm" else th.gru(x, h, weights, *settings)[0]


def torch_projected(th, x, from_input, from_output, bias, other_bias, projection):
    """By hand, since torch.lstm takes as many units as outputs for an LSTM without a projection."""
    h, c, outputs = x.new_zeros(x.shape[1], len(projection)), x.new_zeros(x.shape[1], len(projection.T)), []
    for step in x:
        gates = step @ from_input.T + h @ from_output.T + bias + other_bias
        i, f, g, o = gates.chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh() @ projection.T
        outputs.append(h)
    return th.stack(outputs)


def torch_layers(th, **lstm):
    nn = th.nn
    width = lstm.get("proj_size") or 4
    gru = nn.GRU(width * (1 + lstm.get("bidirectional", False)), 3)
    return {
        "embed": nn.Embedding(7, 5), "lstm": nn.LSTM(5, 4, **lstm), "dropout": nn.Dropout(), "gru": gru,
        "hidden": nn.Linear(3, 4), "relu": nn.ReLU(), "head": nn.Linear(4, 2),
    }  # fmt: skip


def torch_function(th, tokens):
    def function(params):
        params = {name: th.as_tensor(values) for name, values in params.items()}
        x = th.nn.functional.embedding(tokens, params["embed.weight"])
        for name in ("lstm", "gru"):
            x = torch_recurrent(th, params, name, x)
        for name in ("hidden", "head"):
            x = th.nn.functional.linear(
                x.relu() if name == "head" else x, *(params[f"{name}.{part}"] for part in ("weight", "bias"))
            )
        return x.detach().numpy()

    return function


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")  # on some CPUs
@pytest.mark.parametrize(
    "lstm",
    [{}, {"num_layers": 2, "bias": False}, {"bidirectional": True}, {"bidirectional": True, "proj_size": 3}],
)
def test_the_layout_of_pytorch_s_layers_is_complete(lstm):
    th = pytest.importorskip("torch")
    tokens, layers = th.tensor([[1, 2], [3, 4], [6, 0]]), torch_layers(th, **lstm)
    function, described = torch_function(th, tokens), layout_of(layers)
    x = tokens
    for layer in layers.values():
        x = layer.eval()(x)
        x = x[0] if isinstance(x, tuple) else x
    np.testing.assert_allclose(function(described[0]), x.detach().numpy(), rtol=1e-5, atol=1e-6)
    check_layout(function, *described)
    assert {"embed", "lstm_l0", "gru_l0", "hidden"} <= set(described[2])
    assert "head" not in described[2]
    assert np.shares_memory(described[0]["head.weight"], layers["head"].weight.detach().numpy())


def widths_of(params, layout, spaces):
    """The sizes of spaces in params that may have been cut."""
    found = {}
    for array, axes in layout.axes.items():
        for axis, ends in enumerate(axes):
            if len({*ends}) == 1:
                found[ends[0]] = params[array].shape[axis] // len(ends)
    return [found[space] for space in spaces]


def keras_layers(embed, forward, backward, gru, hidden):
    layers = pytest.importorskip("keras").layers
    both = layers.Bidirectional(
        layers.LSTM(forward, return_sequences=True),
        backward_layer=layers.LSTM(backward, return_sequences=True, go_backwards=True),
    )
    head = [layers.Dense(hidden, activation="relu"), layers.Dropout(0.5), layers.Dense(2, activation="softmax")]
    return [layers.Embedding(7, embed), both, layers.GRU(gru), *head]


def run_layers(layers, x):
    for layer in layers:
        x = layer(x)
    return np.asarray(x.detach() if hasattr(x, "detach") else x)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras over PyTorch
def test_the_layout_of_keras_layers_is_complete():
    pytest.importorskip("torch")
    os.environ["KERAS_BACKEND"] = "torch"
    tokens, layers = np.array([[1, 2, 3], [4, 6, 0]]), keras_layers(5, 4, 3, 4, 3)
    run_layers(layers, tokens)  # builds them
    params, layout, spaces, readers = layout_of(layers)

    def function(params):
        smaller, values = keras_layers(*widths_of(params, layout, spaces)), iter(params.values())
        run_layers(smaller, tokens)
        for layer in smaller:
            layer.set_weights([next(values) for _ in layer.weights])
        return run_layers(smaller, tokens)

    np.testing.assert_allclose(function(params), run_layers(layers, tokens), rtol=1e-5, atol=1e-6)
    check_layout(function, params, layout, spaces, readers, trials=1)
    assert [layout.sizes[space] for space in spaces] == [5, 4, 3, 4, 3]


def flax_layers(embed, optimized, plain, gru):
    nnx = pytest.importorskip("flax.nnx")
    rngs = nnx.Rngs(0)
    ways = nnx.LSTMCell(optimized, plain, rngs=rngs), nnx.GRUCell(optimized, gru, rngs=rngs)
    return nnx.Sequential(
        nnx.Embed(7, embed, rngs=rngs),
        nnx.RNN(nnx.OptimizedLSTMCell(embed, optimized, rngs=rngs)),
        nnx.Bidirectional(*map(nnx.RNN, ways)),
        nnx.relu,
        nnx.Linear(plain + gru, 2, rngs=rngs),
    )


def test_the_layout_of_flax_s_layers_is_complete():
    nnx, tokens = pytest.importorskip("flax.nnx"), np.array([[1, 2, 3], [4, 6, 0]])
    module = flax_layers(3, 3, 2, 3)
    params, layout, spaces, readers = layout_of(module)

    def function(params):
        smaller = flax_layers(*widths_of(params, layout, spaces))
        state = nnx.state(smaller, nnx.Param)
        for path, value in nnx.to_flat_state(state):
            value[...] = params["/".join(map(str, path))]
        nnx.update(smaller, state)
        return smaller(tokens)

    np.testing.assert_allclose(function(params), module(tokens), rtol=1e-5, atol=1e-6)
    check_layout(function, params, layout, spaces, readers, trials=1)  # every width is compiled
    assert [layout.sizes[space] for space in spaces] == [3, 3, 2, 3]


def other_torch_layers(th):
    """Layers that are refused, and the sentence."""
    nn, tied = th.nn, th.nn.Linear(5, 7)
    tied.weight = (embedding := nn.Embedding(7, 5)).weight
    plain = "expected a plain embedding, linear, recurrent, dropout or activation layer, got"
    return {
        "norm": ([nn.LSTM(3, 4), nn.LayerNorm(4)], rf"1: {plain} LayerNorm; .* of 1.weight \(4,\), 1.bias \(4,\)"),
        "user's": (
            type("LSTM", (nn.LSTM,), {"__module__": "my"})(2, 2),
            rf"module: {plain} LSTM; .* of weight_ih_l0",
        ),
        "weight norm": (
            nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)),
            f"module: {plain} ParametrizedLinear",
        ),
        "max norm": ({"words": nn.Embedding(7, 5, max_norm=1.0)}, f"words: {plain} Embedding"),
        "softmax between": ([nn.Linear(2, 2), nn.Softmax(-1), nn.Linear(2, 2)], f"1: {plain} Softmax"),
        "tied": ([embedding, nn.LSTM(5, 5), tied], "2.weight: expected an array of its own, got that of 0.weight"),
        "twice": (
            [layer := nn.Linear(2, 2), layer],
            "1.weight: expected an array of its own, got that of 0.weight",
        ),
        "misfit": ([nn.Linear(2, 3), nn.Linear(4, 2)], r"1.weight: expected shape \(2, 3\) for axes"),
        "no layers": ([3], "module: expected layers of PyTorch, Keras or Flax NNX, got list"),
    }


@pytest.mark.parametrize(
    "name",
    ["norm", "user's", "weight norm", "max norm", "softmax between", "tied", "twice", "misfit", "no layers"],
)
def test_layers_of_unknown_layout_are_refused_with_their_arrays(name):
    module, sentence = other_torch_layers(pytest.importorskip("torch"))[name]
    with pytest.raises(ValueError, match=sentence):
        layout_of(module)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras over PyTorch
def test_keras_layers_of_unknown_layout_are_refused():
    pytest.importorskip("torch")
    os.environ["KERAS_BACKEND"] = "torch"
    layers = pytest.importorskip("keras").layers
    with pytest.raises(ValueError, match=r"dense.*: expected a layer that is built, with weights, got one before"):
        layout_of(layers.Dense(2))
    for first in (layers.Dense(3, activation="softmax"), layers.LSTM(3, activation="softmax")):
        first.build((2, 4, 5))
        second = layers.Dense(3)
        second.build((2, 3))
        with pytest.raises(ValueError, match="0: expected a plain embedding"):
            layout_of([first, second])


# a GRU: each framework has an order of gates and biases of its own
# ------------------------------------------------------------------

GRU_STEPS, GRU_BATCH, GRU_INPUTS, GRU_UNITS = 4, 3, 5, 2
ORDER = {"torch": (0, 1, 2), "keras": (1, 0, 2), "onnx": (1, 0, 2)}  # of reset, update, candidate; its own inverse


def gru_arguments(rng, reset_after, dtype):
    steps, batch, inputs, units = GRU_STEPS, GRU_BATCH, GRU_INPUTS, GRU_UNITS
    shapes = ((steps, batch, inputs), (batch, units), (inputs + units, 3 * units), ((3 + reset_after) * units,))
    return tuple(rng.standard_normal(shape).astype(dtype) for shape in shapes)


def in_order(values, framework):
    """The three blocks of columns in a framework's order, and back."""
    blocks = np.split(values, 3, axis=-1)
    return np.concatenate([blocks[k] for k in ORDER[framework]], axis=-1)


def gru_weights(kernel, bias, framework):
    """The kernels of input and state and two biases; the second is zero but for the candidate."""
    first, second = bias[: 3 * GRU_UNITS], np.zeros_like(bias[: 3 * GRU_UNITS])
    second[len(second) - len(bias[3 * GRU_UNITS :]) :] = bias[3 * GRU_UNITS :]
    return [in_order(values, framework) for values in (kernel[:GRU_INPUTS], kernel[GRU_INPUTS:], first, second)]


def gru_gradients(framework, of_input, of_state, of_first, of_second):
    """The gradients of kernel and bias, from those of `gru_weights`."""
    values = [in_order(one, framework) for one in (of_input, of_state, of_first, of_second)]
    return np.concatenate(values[:2]), np.concatenate((values[2], values[3][2 * GRU_UNITS :]))


def gru_in_torch(x, h0, kernel, bias, reset_after, dhidden, dh):
    th = pytest.importorskip("torch")
    layer = th.nn.GRU(GRU_INPUTS, GRU_UNITS, dtype=th.from_numpy(x).dtype)
    for weight, values in zip(layer.parameters(), gru_weights(kernel, bias, "torch"), strict=True):
        weight.data = th.tensor(values.T)
    x, h0 = th.tensor(x, requires_grad=True), th.tensor(h0[None], requires_grad=True)
    outputs = layer(x, h0)
    sum((th.tensor(d) * y).sum() for d, y in zip((dhidden, dh[None]), outputs, strict=True)).backward()
    gradients = [weight.grad.numpy().T for weight in layer.parameters()]
    return (outputs[0], outputs[1][0]), (x.grad, h0.grad[0], *gru_gradients("torch", *gradients))


def gru_in_keras(x, h0, kernel, bias, reset_after, dhidden, dh):
    th = pytest.importorskip("torch")
    os.environ["KERAS_BACKEND"] = "torch"
    layers = pytest.importorskip("keras").layers
    options = {"return_sequences": True, "return_state": True, "reset_after": reset_after}
    layer = layers.GRU(GRU_UNITS, dtype=x.dtype.name, **options)
    x, h0 = th.tensor(x.swapaxes(0, 1).copy(), requires_grad=True), th.tensor(h0, requires_grad=True)
    layer.build(x.shape)
    *kernels, first, second = gru_weights(kernel, bias, "keras")
    layer.set_weights([*kernels, np.stack((first, second)) if reset_after else first])
    hidden, h = layer(x, initial_state=h0)
    ((th.tensor(dhidden.swapaxes(0, 1).copy()) * hidden).sum() + (th.tensor(dh) * h).sum()).backward()
    *kernels, biases = (weight.value.grad.numpy() for weight in layer.weights)
    biases = biases if reset_after else (biases, 0 * biases)
    dkernel, dbias = gru_gradients("keras", *kernels, *biases)
    return (hidden.swapaxes(0, 1), h), (x.grad.swapaxes(0, 1), h0.grad, dkernel, dbias[: len(bias)])


def gru_in_flax(x, h0, kernel, bias, reset_after, dhidden, dh):
    jax, nn = pytest.importorskip("jax"), pytest.importorskip("flax.linen")

    def forward(x, h0, kernel, bias):
        w, u = (dict(zip("rzn", np_split(rows, 3, 1), strict=True)) for rows in np_split(kernel, [GRU_INPUTS], 0))
        b = dict(zip("rznc", np_split(bias, 4, 0), strict=True))
        cell = {f"i{gate}": {"kernel": w[gate], "bias": b[gate]} for gate in "rzn"}
        cell |= {f"h{gate}": {"kernel": u[gate], **({"bias": b["c"]} if gate == "n" else {})} for gate in "rzn"}
        rnn = nn.RNN(nn.GRUCell(GRU_UNITS), time_major=True, return_carry=True)
        h, hidden = rnn.apply({"params": {"cell": cell}}, x, initial_carry=h0)
        return hidden, h

    np_split = jax.numpy.split
    with jax.enable_x64(x.dtype == np.float64):
        outputs, back = jax.vjp(forward, x, h0, kernel, bias)
        return outputs, back((dhidden, dh))


GRUS = {
    "torch": (gru_in_torch, True),
    "keras, reset after": (gru_in_keras, True),
    "keras, reset before": (gru_in_keras, False),
    "flax": (gru_in_flax, True),
}
SINGLE_PRODUCTS = ("keras, reset before",)  # keras.ops.matmul over PyTorch rounds float64 products to float32


@dtypes
@pytest.mark.parametrize("name", GRUS)
def test_a_framework_computes_the_outputs_and_gradients_of_our_gru(name, dtype):
    (framework, reset_after), rng = GRUS[name], np.random.default_rng(0)
    tolerance = TOLERANCE["float32" if name in SINGLE_PRODUCTS else dtype]
    arguments = gru_arguments(rng, reset_after, dtype)
    expected, backward = gru(*arguments, reset_after=reset_after)
    cotangents = [rng.standard_normal(values.shape).astype(dtype) for values in expected]
    for found, exact in zip(
        framework(*arguments, reset_after, *cotangents), (expected, backward(*cotangents)), strict=True
    ):
        found = [np.asarray(values.detach() if hasattr(values, "detach") else values) for values in found]
        assert [values.dtype for values in found] == [dtype] * len(exact)
        assert relative_error(dict(enumerate(found)), dict(enumerate(exact))) <= tolerance


def onnx_gru(kernel, bias, reset_after, direction):
    helper = pytest.importorskip("onnx").helper
    w, u, *biases = gru_weights(kernel, bias, "onnx")
    weights = {"W": w.T, "R": u.T, "B": np.concatenate(biases)}
    node = helper.make_node(
        "GRU", ["x", "W", "R", "B", "lengths", "h0"], ["hidden", "h"],
        hidden_size=GRU_UNITS, linear_before_reset=int(reset_after), direction=direction,
    )  # fmt: skip
    real, whole = pytest.importorskip("onnx").TensorProto.FLOAT, pytest.importorskip("onnx").TensorProto.INT32
    inputs = [helper.make_tensor_value_info(name, real, None) for name in ("x", "h0")]
    inputs.append(helper.make_tensor_value_info("lengths", whole, None))
    outputs = [helper.make_tensor_value_info(name, real, None) for name in ("hidden", "h")]
    stored = [
        pytest.importorskip("onnx").numpy_helper.from_array(values[None].copy(), n)
        for n, values in weights.items()
    ]
    graph = helper.make_graph([node], "gru", inputs, outputs, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("lengths", [[4, 4, 4], [2, 4, 1]])
@pytest.mark.parametrize("reset_after", [True, False])
def test_onnx_runtime_computes_the_outputs_of_our_gru(reset_after, lengths, direction):
    pytest.importorskip("onnx")
    x, h0, kernel, bias = gru_arguments(np.random.default_rng(0), reset_after, np.float32)
    session = pytest.importorskip("onnxruntime").InferenceSession(onnx_gru(kernel, bias, reset_after, direction))
    hidden, h = session.run(None, {"x": x, "h0": h0[None], "lengths": np.array(lengths, np.int32)})
    keywords = {"lengths": np.array(lengths), "reverse": direction == "reverse", "reset_after": reset_after}
    expected, _ = gru(x, h0, kernel, bias, **keywords)
    found = dict(enumerate((hidden[:, 0], h[0])))
    assert relative_error(found, dict(enumerate(expected))) <= TOLERANCE["float32"]
