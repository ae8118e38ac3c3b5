"""Every op: its derivative, its shapes and dtypes, and its meaning."""

import functools
import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from issref import ops
from issref.ops.attention import (
    attention_flow,
    attention_pool,
    concatenate,
    context_to_query,
    max_over_question,
    multiply,
    similarity,
)
from issref.ops.basic import dropout, embed, linear
from issref.ops.bidirectional import bidirectional
from issref.ops.features import character_convolution, highway
from issref.ops.gru import gru
from issref.ops.losses import cross_entropy, linear_cross_entropy, span_cross_entropy
from issref.ops.lstm import lstm
from issref.ops.rhn import rhn
from issref.verify.gradcheck import check_backward, relative_error

SEEDS = st.integers(0, 2**32 - 1).map(np.random.default_rng)
SIZES = st.integers(1, 4)


def lstm_arguments(rng, steps, batch, inputs, hidden):
    shapes = (
        (steps, batch, inputs), (batch, hidden), (batch, hidden), (inputs + hidden, 4 * hidden), (4 * hidden,)
    )  # fmt: skip
    return tuple(rng.standard_normal(shape) for shape in shapes)


def gru_arguments(rng, steps, batch, inputs, hidden, reset_after=True):
    shapes = (
        (steps, batch, inputs), (batch, hidden), (inputs + hidden, 3 * hidden), ((3 + reset_after) * hidden,)
    )  # fmt: skip
    return tuple(rng.standard_normal(shape) for shape in shapes)


def rhn_arguments(rng, steps, batch, inputs, width, depth):
    """Kernels of about unit gain, so that no depth saturates every gate."""
    rows = [inputs + width, *(depth - 1) * [width]]
    weights = (
        (rng.standard_normal((n, 2 * width)) / max(n, 1) ** 0.5, rng.standard_normal(2 * width)) for n in rows
    )
    x, s0 = rng.standard_normal((steps, batch, inputs)), rng.standard_normal((batch, width))
    return x, s0, *(one for pair in weights for one in pair)


def micro_layers(*sizes):
    return lambda rng: rhn_arguments(rng, *sizes)


RHN_MASKS = {
    "input_mask": np.array([[0, 2.0], [2, 0], [2, 2]]),
    "state_mask": np.array([[2, 2.0, 0], [0, 2, 0], [2] * 3]),
}


def normal(*shapes):
    return lambda rng: tuple(rng.standard_normal(shape) for shape in shapes)


def sequences(*sizes):
    return lambda rng: lstm_arguments(rng, *sizes)


def gru_cases():
    """Yield each case in both conventions of the reset gate."""
    lengths, reverse = {"lengths": np.array([2, 0, 4])}, {"reverse": True}
    sizes = {
        "": ((4, 3, 2, 3), {}), "reverse": ((3, 2, 2, 3), reverse), "lengths": ((4, 3, 2, 3), lengths),
        "lengths, reverse": ((4, 3, 2, 3), lengths | reverse), "one of everything": ((1, 1, 1, 1), {}),
        "no steps": ((0, 2, 3, 2), {}), "no batch": ((3, 0, 3, 2), {}), "width 0": ((3, 2, 3, 0), {}),
        "input width 0": ((3, 2, 0, 2), {}),
    }  # fmt: skip
    for after in (True, False):
        for name, (shape, keywords) in sizes.items():
            make = functools.partial(gru_arguments, **dict(zip(GRU_SIZES, shape, strict=True)), reset_after=after)
            yield (
                f"gru, reset {'after' if after else 'before'}, {name}",
                (gru, make, {"reset_after": after, **keywords}),
            )


def both_ways(steps, batch, inputs, forward, backward):
    kernels = ((inputs + forward, 4 * forward), (inputs + backward, 4 * backward))
    shapes = (one for kernel in kernels for one in (kernel, kernel[1:]))
    return normal((steps, batch, inputs), *shapes)


GRU_SIZES = ("steps", "batch", "inputs", "hidden")
SPAN = {"starts": np.array([0, 3, 1]), "ends": np.array([2, 3, 1]), "lengths": np.array([3, 4, 2])}
LENGTHS = {"lengths": np.array([2, 3, 1])}
TEXTS = {"lengths": np.array([2, 1]), "question_lengths": np.array([1, 3])}

# One line for each case of each op: (op, positional arguments from an rng, keywords).
CASES = {
    "embed": (embed, normal((5, 3)), {"ids": np.array([[4, 0, 4], [2, 4, 0]])}),
    "embed, one word": (embed, normal((1, 1)), {"ids": np.array([0])}),
    "embed, no words": (embed, normal((4, 2)), {"ids": np.zeros((0, 3), int)}),
    "embed, width 0": (embed, normal((4, 0)), {"ids": np.array([[1, 1]])}),
    "linear": (linear, normal((2, 3, 4), (4, 5), (5,)), {}),
    "linear, one of everything": (linear, normal((1, 1, 1), (1, 1), (1,)), {}),
    "linear, a vector": (linear, normal((3,), (3, 2), (2,)), {}),
    "linear, no rows": (linear, normal((0, 3, 4), (4, 5), (5,)), {}),
    "linear, width 0": (linear, normal((2, 3, 0), (0, 5), (5,)), {}),
    "linear, no outputs": (linear, normal((2, 3), (3, 0), (0,)), {}),
    "dropout": (dropout, normal((2, 2, 3)), {"mask": np.array([[[0, 2, 2], [2, 0, 0]]] * 2)}),
    "dropout, one mask for all steps": (dropout, normal((3, 2, 3)), {"mask": np.array([[0, 2, 2], [2, 0, 0]])}),
    "dropout, no mask": (dropout, normal((2, 3)), {"mask": None}),
    "cross_entropy": (cross_entropy, normal((2, 3, 4)), {"targets": np.array([[0, 3, 3], [1, 1, 2]])}),
    "cross_entropy, one of everything": (cross_entropy, normal((1, 1, 1)), {"targets": np.array([[0]])}),
    "linear_cross_entropy": (
        linear_cross_entropy,
        normal((2, 3, 4), (4, 5), (5,)),
        {"targets": np.array([[0, 4, 4], [1, 1, 2]])},
    ),
    "linear_cross_entropy, one of everything": (
        linear_cross_entropy,
        normal((1, 1, 1), (1, 1), (1,)),
        {"targets": np.array([[0]])},
    ),
    "linear_cross_entropy, width 0": (
        linear_cross_entropy,
        normal((2, 1, 0), (0, 3), (3,)),
        {"targets": np.array([[0], [2]])},
    ),
    "linear_cross_entropy, no steps": (
        linear_cross_entropy,
        normal((0, 2, 3), (3, 4), (4,)),
        {"targets": np.zeros((0, 2), int)},
    ),
    "lstm": (lstm, sequences(4, 3, 2, 3), {}),
    "lstm, forget bias": (lstm, sequences(3, 2, 2, 3), {"forget_bias": 1.0}),
    "lstm, reverse": (lstm, sequences(3, 2, 2, 3), {"reverse": True}),
    "lstm, lengths": (lstm, sequences(4, 3, 2, 3), {"lengths": np.array([2, 0, 4])}),
    "lstm, lengths, reverse": (lstm, sequences(4, 3, 2, 3), {"lengths": np.array([2, 0, 4]), "reverse": True}),
    "lstm, one of everything": (lstm, sequences(1, 1, 1, 1), {}),
    "lstm, one step": (lstm, sequences(1, 2, 3, 2), {}),
    "lstm, batch of one": (lstm, sequences(3, 1, 3, 2), {}),
    "lstm, one input": (lstm, sequences(3, 2, 1, 2), {}),
    "lstm, one unit": (lstm, sequences(3, 2, 3, 1), {}),
    "lstm, no steps": (lstm, sequences(0, 2, 3, 2), {}),
    "lstm, no batch": (lstm, sequences(3, 0, 3, 2), {}),
    "lstm, width 0": (lstm, sequences(3, 2, 3, 0), {}),
    "lstm, input width 0": (lstm, sequences(3, 2, 0, 2), {}),
    **dict(gru_cases()),
    **{f"rhn, depth {depth}": (rhn, micro_layers(3, 3, 2, 3, depth), RHN_MASKS) for depth in range(1, 11)},
    "rhn, no masks": (rhn, micro_layers(3, 3, 2, 3, 2), {}),
    "rhn, one of everything": (rhn, micro_layers(1, 1, 1, 1, 1), {}),
    "rhn, no steps": (rhn, micro_layers(0, 2, 3, 2, 2), {}),
    "rhn, no batch": (rhn, micro_layers(2, 0, 3, 2, 2), {}),
    "rhn, width 0": (rhn, micro_layers(2, 2, 3, 0, 2), {}),
    "rhn, input width 0": (rhn, micro_layers(2, 2, 0, 3, 2), {}),
    "letters": (
        character_convolution,
        normal((3, 2, 6, 2), (6, 4), (4,)),
        {"lengths": np.array([[6, 0], [2, 3], [4, 1]])},
    ),
    "letters, fewer than a window": (
        character_convolution,
        normal((3, 2, 1), (4, 3), (3,)),
        {"lengths": np.array([2, 1, 0])},
    ),
    "letters, windows of one": (
        character_convolution,
        normal((2, 4, 3), (3, 2), (2,)),
        {"lengths": np.array([4, 2])},
    ),
    "letters, one of everything": (
        character_convolution,
        normal((1, 1, 1), (1, 1), (1,)),
        {"lengths": np.array([1])},
    ),
    "letters, no words": (character_convolution, normal((0, 3, 2), (4, 3), (3,)), {"lengths": np.zeros(0, int)}),
    "letters, no letters": (character_convolution, normal((3, 0, 2), (4, 3), (3,)), {"lengths": np.zeros(3, int)}),
    "letters, no filters": (
        character_convolution,
        normal((3, 3, 2), (4, 0), (0,)),
        {"lengths": np.array([3, 2, 1])},
    ),
    "highway": (highway, normal((4, 3, 5), (5, 10), (10,)), {}),
    "highway, one of everything": (highway, normal((1, 1), (1, 2), (2,)), {}),
    "highway, no rows": (highway, normal((0, 3), (3, 6), (6,)), {}),
    "highway, width 0": (highway, normal((2, 0), (0, 0), (0,)), {}),
    "similarity": (similarity, normal((5, 3, 2), (4, 3, 2), (6, 1), (1,)), {}),
    "similarity, one of everything": (similarity, normal((1, 1, 1), (1, 1, 1), (3, 1), (1,)), {}),
    "similarity, no context": (similarity, normal((0, 3, 2), (4, 3, 2), (6, 1), (1,)), {}),
    "similarity, no question": (similarity, normal((5, 3, 2), (0, 3, 2), (6, 1), (1,)), {}),
    "similarity, width 0": (similarity, normal((5, 3, 0), (4, 3, 0), (0, 1), (1,)), {}),
    "context to query": (context_to_query, normal((3, 5, 4), (4, 3, 2)), LENGTHS),
    "context to query, one of everything": (
        context_to_query,
        normal((1, 1, 1), (1, 1, 1)),
        {"lengths": np.array([1])},
    ),
    "context to query, no context": (context_to_query, normal((3, 0, 4), (4, 3, 2)), LENGTHS),
    "context to query, width 0": (context_to_query, normal((3, 5, 4), (4, 3, 0)), LENGTHS),
    "max over question": (max_over_question, normal((3, 5, 4)), LENGTHS),
    "max over question, no context": (max_over_question, normal((3, 0, 4)), LENGTHS),
    "attention pool": (attention_pool, normal((5, 3), (5, 3, 2)), LENGTHS),
    "attention pool, one of everything": (attention_pool, normal((1, 1), (1, 1, 1)), {"lengths": np.array([1])}),
    "attention pool, width 0": (attention_pool, normal((5, 3), (5, 3, 0)), LENGTHS),
    "attention pool, no batch": (attention_pool, normal((5, 0), (5, 0, 2)), {"lengths": np.zeros(0, int)}),
    "attention flow": (attention_flow, normal((2, 2, 2), (3, 2, 2), (6, 1), (1,)), TEXTS),
    "multiply": (multiply, normal((4, 3, 2), (4, 3, 2)), {}),
    "multiply, one for all words": (multiply, normal((4, 3, 2), (3, 2)), {}),
    "concatenate": (concatenate, normal((4, 3, 2), (4, 3, 5), (4, 3, 0)), {}),
    "concatenate, one part": (concatenate, normal((3, 2)), {}),
    "span": (span_cross_entropy, normal((4, 3), (4, 3)), SPAN),
    "span, one of everything": (
        span_cross_entropy,
        normal((1, 1), (1, 1)),
        {name: np.array([name == "lengths"], int) for name in SPAN},
    ),
    "both ways": (
        bidirectional,
        both_ways(3, 2, 2, 1, 2),
        {"forward_mask": np.array([[[0.0, 2], [2, 2]]])},
    ),
    "both ways, lengths, masks": (
        bidirectional,
        both_ways(2, 3, 1, 2, 1),
        {"forward_mask": np.ones((2, 3, 1)), "backward_mask": np.array(3 * [2.0, 0]).reshape(2, 3, 1)}
        | {"lengths": np.array([2, 0, 1])},
    ),
    "both ways, one of everything": (bidirectional, both_ways(1, 1, 1, 1, 1), {"forget_bias": 0.0}),
    "both ways, no steps": (bidirectional, both_ways(0, 2, 3, 2, 1), {}),
    "both ways, width 0": (bidirectional, both_ways(3, 2, 3, 0, 2), {}),
}
cases = pytest.mark.parametrize(("op", "arguments", "keywords"), CASES.values(), ids=CASES)


def as_tuple(value):
    return value if isinstance(value, tuple) else (value,)


def run(op, arguments, keywords, *cotangents):
    """Outputs and gradients, as tuples; without cotangents, backward gets ones in the outputs' dtypes."""
    outputs, backward = op(*arguments, **keywords)
    outputs = as_tuple(outputs)
    return outputs, as_tuple(backward(*(cotangents or map(np.ones_like, outputs))))


# the contract of every op
# ------------------------


def test_every_public_op_is_in_the_table():
    modules = [importlib.import_module(f"issref.ops.{found.name}") for found in pkgutil.iter_modules(ops.__path__)]
    found = {
        name
        for module in modules
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    }
    assert found == {op.__name__ for op, _, _ in CASES.values()}


@cases
def test_backward_is_the_transposed_jacobian(op, arguments, keywords):
    rng = np.random.default_rng(1)
    check_backward(op, arguments(rng), rng=rng, **keywords)


@cases
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_outputs_and_gradients_have_the_dtype_of_the_inputs(op, arguments, keywords, dtype):
    inputs = [values.astype(dtype) for values in arguments(np.random.default_rng(2))]
    keywords = {name: value.astype(dtype) if "mask" in name and value is not None else value
                for name, value in keywords.items()}  # fmt: skip
    for value in (value for values in run(op, inputs, keywords) for value in values):
        assert value.dtype == dtype


# the checker itself: what is wrong is named
# ------------------------------------------


def spoiled(name):
    """y = x^2 w with one thing wrong."""
    kept = []

    def square(x, w):
        def backward(dy):
            dx = {"derivative": x, "shape": (x * w)[None]}.get(name, 2 * x * w) * dy
            dw = np.sum(x**2 * dy) + (1e-9 if name == "not linear" else 0)
            if name == "remembers":
                kept.append(dx)
                dx = sum(kept)
            if name == "writes":
                dy *= 2
            return dx if name == "forgets" else (dx, np.asarray(dw))

        return x**2 * w, backward

    return square


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("derivative", r"square: expected an error up to 1e-12 for complex step in x, got 0\.\d+"),
        ("shape", r"square: expected gradients of shape {'w': \(\), 'x': \(3,\)}, got {.*'x': \(1, 3\)}"),
        ("forgets", r"square: expected gradients of x, w, got 1"),
        ("not linear", r"square: expected an error up to 1e-12 for complex step in w, got"),
        ("remembers", r"square: expected an error up to .* in x"),
        ("writes", r"square: expected an error up to 0 for kept values in output 0, got"),
    ],
)
def test_the_checker_names_what_is_wrong(fault, sentence):
    arguments = np.array([1.0, -2.0, 3.0]), np.array(0.7)
    check_backward(spoiled("nothing"), arguments)
    with pytest.raises(ValueError, match=sentence):
        check_backward(spoiled(fault), arguments)


def test_the_checker_sees_every_argument_of_an_op_without_names():
    arguments = np.array([1.0, -2.0, 3.0]), np.array(0.7)
    check_backward(lambda *arguments: spoiled("nothing")(*arguments), arguments)
    with pytest.raises(ValueError, match=r"<lambda>: expected an error up to .* for complex step in argument 1"):
        check_backward(lambda *arguments: spoiled("not linear")(*arguments), arguments)


# lstm and gru
# ------------


def test_the_forget_bias_is_not_rounded_to_the_dtype_of_the_bias():
    kernel, states = np.ones((5, 12)), np.zeros((2, 2, 3))
    x, bias = np.ones((4, 2, 2)), np.zeros(12, int)
    (one, *_), _ = lstm(x, *states, kernel, bias, forget_bias=0.5)
    (other, *_), _ = lstm(x, *states, kernel, bias.astype(float), forget_bias=0.5)
    np.testing.assert_array_equal(one, other)


def plain_lstm(x, h0, c0, kernel, bias, forget_bias=0.0, lengths=None, reverse=False):
    """The equations, one example, one step, one unit at a time; nothing shared with issref."""
    steps, batch, inputs = x.shape
    size = h0.shape[1]
    lengths = [steps] * batch if lengths is None else lengths
    hidden, h_after, c_after = np.zeros((steps, batch, size)), h0.copy(), c0.copy()

    def squash(a):
        return 1 / (1 + math.exp(-a))

    for b in range(batch):
        h, c = list(h0[b]), list(c0[b])
        for t in sorted(range(lengths[b]), reverse=reverse):
            seen = [*x[t, b], *h]
            for k in range(size):
                i, g, f, o = (
                    bias[column] + sum(seen[row] * kernel[row, column] for row in range(inputs + size))
                    for column in range(k, 4 * size, size)
                )
                c[k] = squash(f + forget_bias) * c[k] + squash(i) * math.tanh(g)
                h[k] = squash(o) * math.tanh(c[k])
            hidden[t, b] = h
        h_after[b], c_after[b] = h, c
    return hidden, h_after, c_after


def plain_gru(x, h0, kernel, bias, reset_after=True, lengths=None, reverse=False):
    """The equations, one example, one step, one unit at a time; nothing shared with issref."""
    (steps, batch, inputs), size = x.shape, h0.shape[1]
    lengths = [steps] * batch if lengths is None else lengths
    hidden, h_after = np.zeros((steps, batch, size)), h0.copy()
    units = range(size)

    def read(h, column):
        return sum(h[row] * kernel[inputs + row, column] for row in units)

    def squash(a):
        return 1 / (1 + math.exp(-a))

    for b in range(batch):
        h = list(h0[b])
        for t in sorted(range(lengths[b]), reverse=reverse):
            a = [bias[j] + sum(x[t, b, row] * kernel[row, j] for row in range(inputs)) for j in range(3 * size)]
            r, z = ([squash(a[j + k] + read(h, j + k)) for k in units] for j in (0, size))
            seen = [r[k] * h[k] for k in units]
            if reset_after:
                n = [r[k] * (read(h, 2 * size + k) + bias[3 * size + k]) for k in units]
            else:
                n = [read(seen, 2 * size + k) for k in units]
            n = [math.tanh(a[2 * size + k] + n[k]) for k in units]
            h = [(1 - z[k]) * n[k] + z[k] * h[k] for k in units]
            hidden[t, b] = h
        h_after[b] = h
    return hidden, h_after


class Layer(NamedTuple):
    """A recurrent op: op(x, *states, kernel, bias, lengths=, reverse=, **keywords), and its equations."""

    op: Callable
    arguments: Callable
    plain: Callable
    keywords: dict


LAYERS = {
    "lstm": Layer(lstm, lstm_arguments, plain_lstm, {"forget_bias": (0.0, 1.0, -0.5)}),
    "gru": Layer(gru, gru_arguments, plain_gru, {"reset_after": (True,)}),
    "gru, reset before": Layer(
        gru, functools.partial(gru_arguments, reset_after=False), plain_gru, {"reset_after": (False,)}
    ),
}
layers = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)


@st.composite
def runs(draw, layers=tuple(LAYERS), ragged=(False, True)):
    """An rng, a recurrent op, its arguments and keywords; lengths from 0 to all steps."""
    rng, layer, sizes = draw(SEEDS), LAYERS[draw(st.sampled_from(layers))], [draw(SIZES) for _ in range(4)]
    keywords = {name: draw(st.sampled_from(values)) for name, values in layer.keywords.items()}
    keywords["reverse"] = draw(st.booleans())
    if draw(st.sampled_from(ragged)):
        keywords["lengths"] = rng.integers(0, sizes[0] + 1, sizes[1])
    return rng, layer, layer.arguments(rng, *sizes), keywords


def assert_same(found, expected, tolerance=1e-13):
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
    assert relative_error(dict(enumerate(found)), dict(enumerate(expected))) <= tolerance


def cotangents(rng, arguments):
    x, *states, _, _ = arguments
    shapes = (*x.shape[:2], states[0].shape[1]), *(state.shape for state in states)
    return tuple(rng.standard_normal(shape) for shape in shapes)


@given(runs())
def test_a_recurrent_op_computes_its_equations(case):
    _, layer, arguments, keywords = case
    assert_same(layer.op(*arguments, **keywords)[0], layer.plain(*arguments, **keywords))


@given(runs())
def test_backward_of_a_recurrent_op_in_all_shapes(case):
    rng, layer, arguments, keywords = case
    check_backward(layer.op, arguments, rng=rng, entries=0, **keywords)


@given(runs(ragged=(True,)))
def test_padding_cannot_leak(case):
    rng, (op, *_), arguments, keywords = case
    x, *rest = arguments
    states = rest[:-2]
    padded = np.arange(len(x))[:, None] >= keywords["lengths"]
    other = np.where(padded[..., None], 100 * rng.standard_normal(x.shape), x)
    dhidden, *dstates = cotangents(rng, arguments)
    noise = np.where(padded[..., None], rng.standard_normal(dhidden.shape), dhidden)
    outputs, gradients = run(op, arguments, keywords, dhidden, *dstates)
    same_outputs, same_gradients = run(op, (other, *rest), keywords, noise, *dstates)
    assert_same(same_outputs, outputs)
    assert_same(same_gradients, gradients)
    assert (outputs[0][padded] == 0).all()
    assert (gradients[0][padded] == 0).all()
    empty = keywords["lengths"] == 0
    for found, before in zip((*outputs[1:], *gradients[1:-2]), (*states, *dstates), strict=True):
        np.testing.assert_array_equal(found[empty], before[empty])


def prefixes_reversed(values, lengths):
    """Each sequence reversed within its own length; the padding after it stays."""
    turned = values.copy()
    for b, length in enumerate(lengths):
        turned[:length, b] = values[:length, b][::-1]
    return turned


@given(runs())
def test_reverse_is_the_layer_of_the_reversed_sequence(case):
    rng, (op, *_), (x, *rest), keywords = case
    lengths = keywords.get("lengths", np.full(x.shape[1], len(x)))
    dhidden, *dstate = cotangents(rng, (x, *rest))
    turned_x, turned_dhidden = prefixes_reversed(x, lengths), prefixes_reversed(dhidden, lengths)
    (hidden, *state), (dx, *gradients) = run(op, (x, *rest), keywords, dhidden, *dstate)
    other = {**keywords, "reverse": not keywords["reverse"]}
    (turned, *same_state), (turned_dx, *same) = run(op, (turned_x, *rest), other, turned_dhidden, *dstate)
    assert_same((prefixes_reversed(turned, lengths), *same_state), (hidden, *state))
    assert_same((prefixes_reversed(turned_dx, lengths), *same), (dx, *gradients))


@given(runs())
def test_a_batch_of_one_is_that_example_of_a_batch(case):
    rng, (op, *_), arguments, keywords = case
    x, *states, kernel, bias = arguments
    dhidden, *dstates = cotangents(rng, arguments)
    (hidden, *after), (dx, *dbefore, dkernel, dbias) = run(op, arguments, keywords, dhidden, *dstates)
    summed = [np.zeros_like(dkernel), np.zeros_like(dbias)]
    for b in range(x.shape[1]):
        one, of = np.s_[:, b : b + 1], np.s_[b : b + 1]
        alone = {**keywords, **({"lengths": keywords["lengths"][of]} if "lengths" in keywords else {})}
        inputs = x[one], *(state[of] for state in states), kernel, bias
        outputs, gradients = run(op, inputs, alone, dhidden[one], *(dstate[of] for dstate in dstates))
        assert_same(outputs, (hidden[one], *(state[of] for state in after)))
        assert_same(gradients[:-2], (dx[one], *(dstate[of] for dstate in dbefore)))
        summed = [total + part for total, part in zip(summed, gradients[-2:], strict=True)]
    assert_same(summed, (dkernel, dbias))


@given(runs(ragged=(False,)), st.integers(0, 4))
def test_two_halves_with_carried_state_are_the_whole(case, cut):
    rng, (op, *_), arguments, keywords = case
    x, *states, kernel, bias = arguments
    dhidden, *dstates = cotangents(rng, arguments)
    whole, gradients = run(op, arguments, keywords, dhidden, *dstates)
    parts = [np.s_[:cut], np.s_[cut:]]
    first, second = reversed(parts) if keywords["reverse"] else parts
    (hidden1, *carried), back1 = op(x[first], *states, kernel, bias, **keywords)
    (hidden2, *last), back2 = op(x[second], *carried, kernel, bias, **keywords)
    dx2, *dcarried, dkernel2, dbias2 = back2(dhidden[second], *dstates)
    dx1, *dbefore, dkernel1, dbias1 = back1(dhidden[first], *dcarried)

    def joined(one, two):
        return np.concatenate((two, one) if keywords["reverse"] else (one, two))

    assert_same((joined(hidden1, hidden2), *last), whole)
    assert_same((joined(dx1, dx2), *dbefore, dkernel1 + dkernel2, dbias1 + dbias2), gradients)


@layers
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(SEEDS)
def test_saturated_gates_stay_finite(layer, dtype, rng):
    """h is between values of tanh and its first value, c is at most one more at each step."""
    x, *rest = (values.astype(dtype) for values in layer.arguments(rng, 3, 2, 3, 4))
    far = x * dtype(rng.choice((1e2, 1e4, 1e30)))
    keywords = {name: values[0] for name, values in layer.keywords.items()}
    (hidden, *after), gradients = run(layer.op, (far, *rest), keywords)
    for values in (hidden, *after, *gradients):
        assert np.isfinite(values).all()
    for state, before in zip(after, rest, strict=False):
        assert (np.abs(state) <= (np.abs(before) + 3) * (1 + 4 * np.finfo(dtype).eps)).all()
    assert (
        np.abs(hidden) <= np.maximum(1, np.abs(rest[0]) * (layer.op is gru)) * (1 + 4 * np.finfo(dtype).eps)
    ).all()


@given(SEEDS, SIZES, SIZES, SIZES, SIZES)
def test_a_gru_whose_reset_gates_are_open_is_the_same_in_both_conventions(rng, steps, batch, inputs, hidden):
    x, h0, kernel, bias = gru_arguments(rng, steps, batch, inputs, hidden)
    bias[:hidden] = 750.0
    before = np.concatenate((bias[: 2 * hidden], bias[2 * hidden : 3 * hidden] + bias[3 * hidden :]))
    assert_same(gru(x, h0, kernel, before, reset_after=False)[0], gru(x, h0, kernel, bias)[0])


@given(SEEDS, SIZES, SIZES, SIZES, SIZES, st.booleans())
def test_a_gru_whose_update_gates_are_open_keeps_its_state(rng, steps, batch, inputs, hidden, after):
    x, h0, kernel, bias = gru_arguments(rng, steps, batch, inputs, hidden, after)
    bias[hidden : 2 * hidden] = 750.0
    (hidden_states, h), _ = gru(x, h0, kernel, bias, reset_after=after)
    rounding = 2 * steps * np.finfo(float).eps * (1 + np.abs(h0).max())  # of n + (h - n), where |n| <= 1
    np.testing.assert_allclose(hidden_states, np.broadcast_to(h0, hidden_states.shape), rtol=0, atol=rounding)
    np.testing.assert_array_equal(h, hidden_states[-1])


# rhn
# ---


def plain_rhn(x, s0, *weights, input_mask=None, state_mask=None):
    """The equations, one example, one step, one micro-layer, one unit at a time; nothing shared with issref."""
    (steps, batch, inputs), width = x.shape, s0.shape[1]
    hidden, last = np.zeros((steps, batch, width)), s0.copy()
    input_mask = np.ones((batch, inputs)) if input_mask is None else input_mask
    state_mask = np.ones((batch, width)) if state_mask is None else state_mask
    for b in range(batch):
        s = list(s0[b])
        for t in range(steps):
            for d in range(len(weights) // 2):
                kernel, bias = weights[2 * d : 2 * d + 2]
                u = [s[k] * state_mask[b, k] for k in range(width)]
                if d == 0:
                    u = [x[t, b, k] * input_mask[b, k] for k in range(inputs)] + u
                sums = [bias[j] + sum(u[row] * kernel[row, j] for row in range(len(u))) for j in range(2 * width)]
                for k in range(width):
                    h, carry = math.tanh(sums[k]), 1 - 1 / (1 + math.exp(-sums[width + k]))
                    s[k] = h * (1 - carry) + s[k] * carry
            hidden[t, b] = s
        last[b] = s
    return hidden, last


@st.composite
def rhn_runs(draw):
    """An rng, the arguments of an RHN of depth 1 to 4, and masks or none."""
    rng, (steps, batch, inputs, width, depth) = draw(SEEDS), [draw(SIZES) for _ in range(5)]
    shapes = {"input_mask": (batch, inputs), "state_mask": (batch, width)}
    masks = {name: 2.0 * rng.integers(0, 2, shape) for name, shape in shapes.items() if draw(st.booleans())}
    return rng, rhn_arguments(rng, steps, batch, inputs, width, depth), masks


@given(rhn_runs())
def test_rhn_computes_its_equations(case):
    _, arguments, masks = case
    assert_same(rhn(*arguments, **masks)[0], plain_rhn(*arguments, **masks))


@given(rhn_runs())
def test_backward_of_the_rhn_in_all_shapes(case):
    rng, arguments, masks = case
    check_backward(rhn, arguments, rng=rng, entries=0, **masks)


@given(rhn_runs(), st.integers(0, 4))
def test_two_halves_of_an_rhn_with_carried_state_are_the_whole(case, cut):
    rng, (x, s0, *weights), masks = case
    dhidden, ds = rng.standard_normal((*x.shape[:2], s0.shape[1])), rng.standard_normal(s0.shape)
    (hidden, s), (dx, ds0, *dweights) = run(rhn, (x, s0, *weights), masks, dhidden, ds)
    (first, carried), back1 = rhn(x[:cut], s0, *weights, **masks)
    (second, last), back2 = rhn(x[cut:], carried, *weights, **masks)
    dx2, dcarried, *dweights2 = back2(dhidden[cut:], ds)
    dx1, dfirst, *dweights1 = back1(dhidden[:cut], dcarried)
    assert_same((np.concatenate((first, second)), last), (hidden, s))
    summed = (one + two for one, two in zip(dweights1, dweights2, strict=True))
    assert_same((np.concatenate((dx1, dx2)), dfirst, *summed), (dx, ds0, *dweights))


@given(rhn_runs(), st.integers(0, 1))
def test_transform_gates_closed_carry_the_state_and_open_replace_it(case, opened):
    """Carry is 1 - t: with t = 0 the undropped state passes every micro-layer, with t = 1 only candidates do."""
    _, (x, s0, *weights), masks = case
    for bias in weights[1::2]:
        bias[len(bias) // 2 :] = (-750.0, 750.0)[opened]
    (hidden, s), _ = rhn(x, s0, *weights, **masks)
    if opened:
        other, _ = rhn(x, s0 + 1e3 * (masks.get("state_mask", np.ones_like(s0)) == 0), *weights, **masks)
        assert_same((hidden, s), other)  # what dropout hides of s0 reaches nothing: nothing is carried
    else:
        assert_same((hidden, s), (np.broadcast_to(s0, hidden.shape), s0))


@pytest.mark.parametrize("far", [1.0, 1e4, 1e30])
def test_a_deep_rhn_with_saturated_gates_stays_finite_in_float32(far):
    """Ten micro-layers, 200 steps: the state stays between candidates in [-1, 1], all gradients finite."""
    x, s0, *weights = (
        values.astype(np.float32) for values in rhn_arguments(np.random.default_rng(5), 200, 2, 6, 6, 10)
    )
    s0 = np.tanh(s0)
    weights = [values * np.float32(far) for values in weights]
    (hidden, s), gradients = run(rhn, (x, s0, *weights), {})
    assert (np.abs(hidden) <= 1 + 1e-5).all()
    for values in (hidden, s, *gradients):
        assert values.dtype == np.float32
        assert np.isfinite(values).all()


# embedding, linear map, dropout
# ------------------------------


def test_embed_adds_up_the_rows_of_equal_ids():
    y, backward = embed(np.array([[1.0, 2], [3, 4], [5, 6]]), ids=np.array([[2, 0], [2, 2]]))
    np.testing.assert_array_equal(y, [[[5, 6], [1, 2]], [[5, 6], [5, 6]]])
    np.testing.assert_array_equal(backward(np.arange(8.0).reshape(2, 2, 2)), [[2, 3], [0, 0], [10, 13]])


def test_linear_of_width_0_is_its_bias():
    y, _ = linear(np.zeros((2, 3, 0)), np.zeros((0, 4)), np.arange(4.0))
    np.testing.assert_array_equal(y, np.broadcast_to(np.arange(4.0), (2, 3, 4)))


def test_dropout_without_a_mask_changes_nothing():
    x = np.arange(3.0)
    y, backward = dropout(x, mask=None)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(backward(x), x)


# cross-entropy
# -------------


@st.composite
def predictions(draw):
    rng, steps, batch, words = draw(SEEDS), draw(SIZES), draw(SIZES), draw(st.integers(1, 30))
    logits = draw(st.sampled_from((0.0, 1.0, 30.0))) * rng.standard_normal((steps, batch, words))
    return logits, rng.integers(words, size=(steps, batch))


@given(predictions())
def test_cross_entropy_is_minus_log_softmax_over_steps_and_mean_over_batch(case):
    logits, targets = case
    exact = np.exp(logits.astype(np.longdouble))
    probability = np.take_along_axis(exact, targets[..., None], axis=-1)[..., 0] / exact.sum(axis=-1)
    loss, _ = cross_entropy(logits, targets=targets)
    np.testing.assert_allclose(loss, -np.log(probability).sum(axis=0).mean(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
@given(rng=SEEDS, steps=SIZES, batch=SIZES, inputs=st.integers(0, 5), words=st.integers(1, 80))
def test_linear_cross_entropy_is_the_cross_entropy_of_a_linear_map(dtype, rng, steps, batch, inputs, words):
    shapes = (steps, batch, inputs), (inputs, words), (words,)
    x, kernel, bias = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    targets = rng.integers(words, size=(steps, batch))
    loss, backward = linear_cross_entropy(x, kernel, bias, targets=targets)
    logits, linear_backward = linear(x, kernel, bias)
    expected, cross_backward = cross_entropy(logits, targets=targets)
    found = (np.array(loss), *backward(1.5))
    for array, exact in zip(found, (np.array(expected), *linear_backward(cross_backward(1.5))), strict=True):
        assert array.dtype == exact.dtype
        np.testing.assert_array_equal(array, exact)  # the same products and sums in the same order


@given(predictions(), st.floats(-100, 100))
def test_cross_entropy_does_not_see_a_shift(case, shift):
    logits, targets = case
    loss, backward = cross_entropy(logits, targets=targets)
    shifted, shifted_backward = cross_entropy(logits + shift, targets=targets)
    np.testing.assert_allclose(shifted, loss, rtol=1e-12, atol=1e-11)
    np.testing.assert_allclose(shifted_backward(1.0), backward(1.0), rtol=0, atol=1e-12)
    # softmax is exp(x - s): x and s round by |x|, s and the sum here by the number of words, exp by 1.5 units
    rounding = np.finfo(float).eps * (4 + 2 * logits.shape[-1] + 3 * np.abs(logits).max(initial=0))
    np.testing.assert_allclose(backward(1.0).sum(axis=-1), 0, atol=rounding)


@given(SIZES, SIZES, st.integers(1, 50), st.floats(-5, 5))
def test_uniform_logits_cost_T_log_V(steps, batch, words, value):
    loss, _ = cross_entropy(np.full((steps, batch, words), value), targets=np.zeros((steps, batch), int))
    np.testing.assert_allclose(loss, steps * np.log(words), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_logits_cost_their_distance(dtype):
    logits = np.array([[[1e30, 0, -1e30]], [[-1e30, 1e4, 0]]], dtype)
    loss, backward = cross_entropy(logits, targets=np.array([[0], [2]]))
    assert loss == 1e4
    np.testing.assert_allclose(backward(1.0), [[[0, 0, 0]], [[0, 1, -1]]], atol=1e-30)


# both ways, words, attention
# ---------------------------


@given(runs(layers=("lstm",)))
def test_both_ways_are_an_lstm_and_its_reverse_from_a_zero_state(case):
    rng, _, (x, h0, _, *weights), keywords = case
    lengths, zero, others = keywords.get("lengths"), np.zeros_like(h0), both_ways(1, 1, x.shape[2], 3, 3)(rng)[3:]
    y, _ = bidirectional(x, *weights, *others, lengths=lengths)
    ways = (
        plain_lstm(x, state, state, *way, forget_bias=1.0, lengths=lengths, reverse=reverse)[0]
        for state, way, reverse in ((zero, weights, False), (np.zeros((len(h0), 3)), others, True))
    )
    assert_same((y,), (np.concatenate(list(ways), axis=-1),))


@st.composite
def spellings(draw):
    """An rng, words of 0 to 7 letters followed by noise, a kernel, a bias and the lengths."""
    rng, (words, letters, size, filters, width) = draw(SEEDS), (draw(SIZES) for _ in range(5))
    letters = draw(st.integers(letters, 7))
    arrays = ((words, letters, size), (width * size, filters), (filters,))
    return rng, tuple(rng.standard_normal(shape) for shape in arrays), rng.integers(0, letters + 1, words)


@given(spellings())
def test_the_convolution_is_the_best_window_inside_a_word(case):
    _, (x, kernel, bias), lengths = case
    width = len(kernel) // x.shape[2]
    expected = np.zeros((len(x), len(bias)))
    for n, length in enumerate(lengths):
        word = [*x[n, :length], *max(0, width - length) * [np.zeros(x.shape[2])]]
        windows = [np.concatenate(word[p : p + width]) for p in range(len(word) - width + 1)]
        expected[n] = np.max([np.maximum(window @ kernel + bias, 0) for window in windows], axis=0)
    assert_same((character_convolution(x, kernel, bias, lengths=lengths)[0],), (expected,))


@given(spellings(), st.integers(0, 3))
def test_what_stands_behind_a_word_is_seen_nowhere(case, more):
    rng, (x, kernel, bias), lengths = case
    padded = np.arange(x.shape[1] + more) >= lengths[:, None]
    other = np.concatenate((x, np.zeros((len(x), more, x.shape[2]))), axis=1)
    other = np.where(padded[..., None], 100 * rng.standard_normal(other.shape), other)
    dy = rng.standard_normal((len(x), len(bias)))
    outputs, (dx, *dweights) = run(character_convolution, (x, kernel, bias), {"lengths": lengths}, dy)
    same, (dother, *dsame) = run(character_convolution, (other, kernel, bias), {"lengths": lengths}, dy)
    assert_same((*same, dother[:, : x.shape[1]], *dsame), (*outputs, dx, *dweights))
    assert (dother[padded] == 0).all()


def test_a_highway_carries_where_its_gate_is_shut_and_transforms_where_it_is_open():
    x, kernel = np.array([[1.0, -2.0]]), np.zeros((2, 4))
    y, _ = highway(x, kernel, np.array([5.0, -5.0, -50.0, 50.0]))
    np.testing.assert_allclose(y, [[1.0, 0.0]], atol=1e-15)
    np.testing.assert_allclose(highway(x, kernel, np.array([3.0, 3.0, 0, 0]))[0], [[2.0, 0.5]])


def plain_attention(h, u, kernel, bias):
    """One example: every pair's [h, u, h * u] written out."""
    pairs = np.array([[np.concatenate((ht, uj, ht * uj)) for uj in u] for ht in h])
    s = (pairs @ kernel)[..., 0] + bias
    seen = np.exp(s) / np.exp(s).sum(axis=1, keepdims=True) @ u
    focus = np.exp(s.max(axis=1)) / np.exp(s.max(axis=1)).sum() @ h
    return np.concatenate((h, seen, h * seen, h * focus), axis=1)


@st.composite
def pairs_of_texts(draw):
    rng, (steps, words, batch, size) = draw(SEEDS), (draw(SIZES) for _ in range(4))
    shapes = ((steps, batch, size), (words, batch, size), (3 * size, 1), (1,))
    lengths = {"lengths": rng.integers(1, steps + 1, batch), "question_lengths": rng.integers(1, words + 1, batch)}
    return rng, tuple(rng.standard_normal(shape) for shape in shapes), lengths


@given(pairs_of_texts())
def test_attention_is_each_example_s_own_and_padding_cannot_leak(case):
    rng, (h, u, *weights), keywords = case
    p, backward = attention_flow(h, u, *weights, **keywords)
    beyond = [np.arange(len(x))[:, None] >= n for x, n in zip((h, u), keywords.values(), strict=True)]
    for b, (n, m) in enumerate(zip(*keywords.values(), strict=True)):
        assert_same((p[:n, b],), (plain_attention(h[:n, b], u[:m, b], *weights),))
    other_h, other_u = (
        np.where(padded[..., None], 100 * rng.standard_normal(x.shape), x)
        for padded, x in zip(beyond, (h, u), strict=True)
    )
    other, other_backward = attention_flow(other_h, other_u, *weights, **keywords)
    dp = np.where(beyond[0][..., None], 0, rng.standard_normal(p.shape))
    gradients = backward(dp)
    assert_same(other_backward(dp), gradients)
    assert (other[~beyond[0]] == p[~beyond[0]]).all()
    for padded, gradient in zip(beyond, gradients, strict=False):
        assert (gradient[padded] == 0).all()


@given(SEEDS, SIZES, SIZES)
def test_the_loss_of_a_span_is_that_of_each_example_s_own_positions(rng, steps, batch):
    lengths = rng.integers(1, steps + 1, batch)
    starts, ends = rng.integers(lengths), rng.integers(lengths)
    start, end, noise = rng.standard_normal((3, steps, batch))
    spans, beyond = {"starts": starts, "ends": ends, "lengths": lengths}, np.arange(steps)[:, None] >= lengths
    loss, backward = span_cross_entropy(start, end, **spans)
    alone = [
        np.log(np.exp(logits[:n, b]).sum()) - logits[aims[b], b]
        for logits, aims in ((start, starts), (end, ends))
        for b, n in enumerate(lengths)
    ]
    np.testing.assert_allclose(loss, np.sum(alone) / batch, rtol=1e-13, atol=1e-15)
    for far in (1e6 * noise, np.full_like(noise, np.inf), -1e30):
        same, same_backward = span_cross_entropy(*(np.where(beyond, far, one) for one in (start, end)), **spans)
        assert same == loss
        for gradient, expected in zip(same_backward(2.0), backward(2.0), strict=True):
            np.testing.assert_array_equal(gradient, expected)
            assert (gradient[beyond] == 0).all()


@layers
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize("wrong", ["h0", "c0", "kernel", "bias", "lengths"])
def test_a_recurrent_op_refuses_shapes_that_do_not_fit(layer, dtype, wrong):
    """The compiled loops do not check bounds, and outside pytest no type checker does."""
    unchecked = inspect.unwrap(layer.op)
    names = [
        name for name in ("x", "h0", "c0", "kernel", "bias") if name in inspect.signature(unchecked).parameters
    ]
    arrays = layer.arguments(np.random.default_rng(0), 3, 2, 4, 5)
    given = dict(zip(names, arrays, strict=True)) | {"lengths": np.array([3, 2])}
    given = {name: values.astype(dtype) if name != "lengths" else values for name, values in given.items()}
    given |= {name: values[0] for name, values in layer.keywords.items()}
    unchecked(**given)
    if wrong in given:
        with pytest.raises(ValueError, match=f"{unchecked.__name__}: expected shape .* of {wrong}"):
            unchecked(**{**given, wrong: given[wrong][1:]})
