"""BiDAF: its equations, gradient, padding and sizes, and its compaction, which the released groups break."""

import math

import jaxtyping
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_ptb_lstm import SEEDS, assert_same

from issref import alive, compact, group_norms, iss_groups, zero_dead
from issref.models import bidaf
from issref.models.bidaf import LEARNED, Config, Text
from issref.verify.gradcheck import check_backward, relative_error

SMALL = {"trainable": 3, "word_size": 2, "characters": 4, "char_size": 2, "char_width": 3, "filters": 2}


@pytest.fixture(scope="module", autouse=True)
def bare_backwards():
    """Making the checked signature of each backward anew takes longer than the model; test_ops does it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jaxtyping, "jaxtyped", lambda **_: lambda function: function)
        yield


class Case:
    """A model with random weights, biases, masks and texts of random lengths: all that a step of training has."""

    def __init__(self, rng, steps=5, words=4, batch=3, letters=4, hidden_size=2, groups="all", **config):
        self.rng, self.config = rng, Config(**{**SMALL, "hidden_size": hidden_size, **config})
        self.layout = bidaf.layout(self.config, groups)
        self.spaces = bidaf.spaces(self.layout.axes)
        self.groups = iss_groups(self.layout, self.spaces)
        self.params = {array: rng.standard_normal(self.layout.shape(array)) for array in self.layout.axes}
        self.vectors = rng.standard_normal((6, self.config.word_size))
        self.context, self.question = self.text(steps, batch, letters), self.text(words, batch, letters)
        shapes = (text.characters.shape for text in (self.context, self.question))
        self.masks = bidaf.draw_masks(self.config, self.layout.sizes, rng, *shapes)
        self.masked = bidaf.mask_layout(self.layout, self.masks)
        self.ends = rng.integers(self.context.lengths)
        self.starts = rng.integers(self.ends + 1)
        self.valid = np.arange(steps)[:, None] < self.context.lengths
        self.cotangents = rng.standard_normal((2, steps, batch))

    def text(self, steps, batch, letters):
        lengths = self.rng.integers(1, steps + 1, batch)
        words = self.rng.integers(self.config.trainable + 6, size=(steps, batch))
        characters = self.rng.integers(1, self.config.characters, size=(steps, batch, letters))
        spelled = np.arange(letters) < self.rng.integers(1, letters + 1, (steps, batch, 1))
        return Text(words, np.where(spelled, characters, 0), lengths)

    @property
    def texts(self):
        return {"context": self.context, "question": self.question, "vectors": self.vectors}

    @property
    def inputs(self):
        return {**self.texts, "starts": self.starts, "ends": self.ends, "masks": self.masks}

    def run(self, params=None, masks=None, **texts):
        """Both logits (T, B), and the gradients of a random direction of them."""
        found, backward = bidaf.logits(
            self.params if params is None else params, **{**self.texts, **texts}, masks=masks
        )
        steps = len(found[0]) - self.cotangents.shape[1]
        return np.stack(found), backward(*np.pad(self.cotangents, ((0, 0), (0, steps), (0, 0))))

    def draw_dead(self, chance):
        return {space: self.rng.random(self.layout.sizes[space]) >= chance for space in self.spaces}

    def without_readers(self, kept):
        """The params in which no counted row reads what is not kept; columns and biases stay as they are."""
        params = {array: values.copy() for array, values in self.params.items()}
        for space in self.spaces:
            for array, axis, (_, start, stop, counted) in self.layout.occurrences(space):
                if axis == 0 and counted:
                    params[array][start:stop][~kept[space]] = 0
        return params


def cases(**fixed):
    """The arguments of a Case; made in the test, since checked signatures use up Python's random numbers."""
    sizes = {
        "rng": SEEDS,
        "steps": st.integers(1, 5),
        "words": st.integers(1, 4),
        "batch": st.integers(1, 3),
        "letters": st.integers(1, 5),
        "hidden_size": st.integers(1, 3),
        "keep": st.sampled_from((1.0, 0.5)),
    }
    return st.fixed_dictionaries(sizes | {name: st.just(value) for name, value in fixed.items()})


# the equations
# -------------


def squash(x):
    return 1 / (1 + np.exp(-x))


def plain_logits(params, case, b):
    """Question b alone, without padding, masks or batches: the equations of method, 4.1; shares nothing."""

    def highways(x):
        for name in ("highway0", "highway1"):
            sums = x @ params[f"{name}/kernel"] + params[f"{name}/bias"]
            gate = squash(sums[len(x) :])
            x = gate * np.maximum(sums[: len(x)], 0) + (1 - gate) * x
        return x

    def word(index, letters):
        table = np.concatenate((params["words/kernel"], case.vectors))
        kernel, size = params["convolution/kernel"], case.config.char_size
        spelled = params["characters/kernel"][letters[letters > 0]].ravel()
        spelled = np.pad(spelled, (0, max(0, len(kernel) - len(spelled))))
        windows = [spelled[p : p + len(kernel)] for p in range(0, len(spelled) - len(kernel) + 1, size)]
        features = np.maximum(np.array(windows) @ kernel + params["convolution/bias"], 0).max(axis=0)
        return highways(np.concatenate((features, table[index])))

    def one_way(name, xs):
        kernel, bias, outputs = params[f"{name}/kernel"], params[f"{name}/bias"], []
        h = c = np.zeros(len(bias) // 4)
        for x in xs:
            i, g, f, o = np.split(np.concatenate((x, h)) @ kernel + bias, 4)
            c = squash(f + 1) * c + squash(i) * np.tanh(g)
            h = squash(o) * np.tanh(c)
            outputs.append(h)
        return outputs

    def both_ways(name, xs):
        return np.hstack((one_way(f"{name}.fw", xs), one_way(f"{name}.bw", xs[::-1])[::-1]))

    def softmax(x):
        return np.exp(x) / np.exp(x).sum()

    def read(text):
        n = text.lengths[b]
        return [word(*pair) for pair in zip(text.words[:n, b], text.characters[:n, b], strict=True)]

    h, u = both_ways("h", read(case.context)), both_ways("h", read(case.question))
    w, shift = params["attention/kernel"][:, 0], params["attention/bias"]
    s = np.array([[np.concatenate((ht, uj, ht * uj)) @ w + shift[0] for uj in u] for ht in h])
    seen = np.array([softmax(row) @ u for row in s])
    focus = softmax(s.max(axis=1)) @ h
    p0 = np.hstack((h, seen, h * seen, h * focus))
    g1 = both_ways("g1", both_ways("g0", p0))
    start = np.hstack((g1, p0)) @ params["start/kernel"][:, 0] + params["start/bias"]
    a = np.tile(softmax(start) @ g1, (len(g1), 1))
    g2 = both_ways("g2", np.hstack((p0, g1, a, g1 * a)))
    return start, np.hstack((g2, p0)) @ params["end/kernel"][:, 0] + params["end/bias"]


@given(cases(keep=1.0))
def test_the_logits_are_those_of_the_equations_one_question_at_a_time(drawn):
    case = Case(**drawn)
    found, _ = bidaf.logits(case.params, **case.texts)
    loss, _ = bidaf.loss(case.params, **case.inputs)
    costs = []
    for b, n in enumerate(case.context.lengths):
        for logits, expected, at in zip(
            found, plain_logits(case.params, case, b), (case.starts, case.ends), strict=True
        ):
            np.testing.assert_allclose(logits[:n, b], expected, rtol=1e-10, atol=1e-12)
            assert (logits[n:, b] == bidaf.MASKED_LOGIT).all()
            costs.append(np.log(np.exp(expected).sum()) - expected[at[b]])
    np.testing.assert_allclose(loss, 2 * np.mean(costs), rtol=1e-10, atol=1e-12)


# the gradient
# ------------


@pytest.mark.parametrize("keep", [1.0, 0.6])
@pytest.mark.parametrize("sizes", [(5, 4, 3, 4), (1, 1, 1, 1), (3, 5, 2, 7)])
def test_the_loss_is_an_op_of_the_params(sizes, keep):
    """Of all params end to end, as one vector: a fault in one of them is seen along a random direction of all."""
    case = Case(np.random.default_rng(4), *sizes, hidden_size=3, keep=keep)
    assert len(case.masks) == (0 if keep == 1 else 12)
    ends = np.cumsum([values.size for values in case.params.values()])[:-1]

    def loss(vector):
        parts = zip(case.params.items(), np.split(vector, ends), strict=True)
        found, backward = bidaf.loss({array: part.reshape(v.shape) for (array, v), part in parts}, **case.inputs)

        def joined(dfound):
            grads = backward(dfound)
            assert grads.keys() == case.params.keys()
            return np.concatenate([grads[array].ravel() for array in case.params])

        return found, joined

    vector = np.concatenate([values.ravel() for values in case.params.values()])
    check_backward(loss, (vector,), rng=case.rng, entries=0)


@given(cases())
def test_both_logits_have_the_slope_that_the_backward_says_along_any_direction(drawn):
    case = Case(**drawn)
    v = {array: case.rng.standard_normal(values.shape) for array, values in case.params.items()}

    def f(params):
        logits, _ = bidaf.logits(params, **case.texts, masks=case.masks)
        return sum(np.sum((g * y)[case.valid]) for g, y in zip(case.cotangents, logits, strict=True))

    _, grads = case.run(masks=case.masks)
    slopes = [np.sum(grads[array] * v[array]) for array in v]
    scale = sum(np.sum(np.abs(grads[array] * v[array])) for array in v)
    complex_slope = np.imag(f({array: case.params[array] + 1e-30j * v[array] for array in v})) / 1e-30
    assert abs(complex_slope - sum(slopes)) <= 1e-12 * scale


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_have_the_dtype_of_the_params(dtype):
    case = Case(np.random.default_rng(5), keep=0.5)
    params = {array: values.astype(dtype) for array, values in case.params.items()}
    loss, backward = bidaf.loss(params, **case.inputs)
    exact, exact_backward = bidaf.loss(case.params, **case.inputs)
    grads = backward(dtype(1))
    assert {values.dtype for values in (loss, *grads.values())} == {np.dtype(dtype)}
    assert loss == pytest.approx(exact, rel=1e-5)
    assert relative_error(grads, exact_backward(1.0)) <= 1e-3


# padding and batches
# -------------------


def padded_anew(case, text, steps, letters):
    """The same text with any ids past its lengths, and `steps` words and `letters` more of padding."""
    longer = (text.words.shape[0] + steps, text.words.shape[1])
    words = case.rng.integers(-99, 99, size=longer)
    characters = case.rng.integers(-99, 99, size=(*longer, text.characters.shape[2] + letters))
    for b, n in enumerate(text.lengths):
        words[:n, b] = text.words[:n, b]
        characters[:n, b] = 0
        characters[:n, b, : text.characters.shape[2]] = text.characters[:n, b]
    return Text(words, characters, text.lengths)


@given(cases(keep=1.0), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
def test_padding_cannot_leak(drawn, steps, words, letters):
    """Whatever stands past a text's words and a word's letters, and however much: logits and gradients stay."""
    case = Case(**drawn)
    logits, grads = case.run()
    context, question = padded_anew(case, case.context, steps, letters), padded_anew(case, case.question, words, 0)
    case.cotangents = np.where(case.valid, case.cotangents, 1e3)
    other, same = case.run(context=context, question=question)
    assert_same({"logits": other[:, : len(case.valid)]}, {"logits": logits})
    assert (other[:, len(case.valid) :] == bidaf.MASKED_LOGIT).all()
    assert_same(same, grads)


@given(cases())
def test_a_batch_of_one_is_that_example_of_a_batch(drawn):
    case = Case(**drawn)
    logits, grads = case.run(masks=case.masks)
    total, cotangents = {array: np.zeros_like(values) for array, values in case.params.items()}, case.cotangents
    for b in range(len(case.starts)):
        one = np.s_[:, b : b + 1]
        context, question = (
            Text(text.words[one], text.characters[one], text.lengths[b : b + 1])
            for text in (case.context, case.question)
        )
        case.cotangents = cotangents[:, :, b : b + 1]
        masks = {name: mask[one] for name, mask in case.masks.items()}
        alone, parts = case.run(masks=masks, context=context, question=question)
        assert_same({"logits": alone}, {"logits": logits[:, :, b : b + 1]})
        total = {array: total[array] + parts[array] for array in total}
    assert_same(total, grads)


# masks, initial values, answers
# ------------------------------


def test_masks_keep_the_mean_one_and_the_context_is_read_without():
    config = Config(10, 30, 20, filters=30, hidden_size=20)
    layout = bidaf.layout(config)
    masks = bidaf.draw_masks(config, layout.sizes, np.random.default_rng(0), (12, 10, 9), (6, 10, 7))
    assert {name: mask.shape for name, mask in masks.items()} == {
        "context/letters": (12, 10, 9, 8),
        "question/letters": (6, 10, 7, 8),
        **dict.fromkeys(("h.fw", "h.bw"), (6, 10, 60)),  # the contextual LSTM where it reads the question
        **dict.fromkeys(("g0.fw", "g0.bw"), (12, 10, 160)),
        **dict.fromkeys(("g1.fw", "g1.bw"), (12, 10, 40)),
        **dict.fromkeys(("g2.fw", "g2.bw"), (12, 10, 280)),
        **dict.fromkeys(("start", "end"), (12, 10, 200)),
    }
    for mask in masks.values():
        assert set(np.unique(mask)) == {np.float32(0), np.float32(1) / np.float32(0.8)}
        assert abs(mask.mean() - 1) < 4 * 0.5 / mask.size**0.5
    assert (masks["g0.fw"] != masks["g0.bw"]).any()
    bidaf.mask_layout(layout, masks).check(masks)
    assert bidaf.draw_masks(Config(keep=1.0), layout.sizes, np.random.default_rng(0), (1, 1, 1), (1, 1, 1)) == {}
    assert bidaf.mask_layout(layout, {}).axes == {}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_initial_kernels_are_glorot_s_words_normal_biases_zero_and_a_seed_repeats(dtype):
    config = Config(trainable=200, word_size=50, characters=60, filters=40, hidden_size=30)
    layout = bidaf.layout(config)
    params, same, other = (bidaf.init_params(config, layout, np.random.default_rng(n), dtype) for n in (1, 1, 2))
    layout.check(params)
    fans = {"convolution": 5 * 8 + 5 * 40, "highway0": 2 * 90, "g0.fw": 240 + 30 + 120, "start": 60 + 240 + 1}
    for array, values in params.items():
        assert values.dtype == dtype
        np.testing.assert_array_equal(values, same[array])
        name, part = array.split("/")
        assert part == "kernel" or not values.any()
        if name in fans and part == "kernel":
            limit = math.sqrt(6 / fans[name])
            assert 0.97 * limit < np.abs(values).max() <= limit * (1 + 1e-6)
        if part == "kernel":
            assert (values != other[array]).any()
    assert abs(params["words/kernel"].std() - 1) < 0.02


@given(SEEDS, st.integers(1, 6), st.sampled_from((1.0, 1000.0)))
def test_the_best_span_is_the_likeliest_of_all_that_do_not_end_before_they_start(rng, steps, scale):
    start, end = (scale * rng.standard_normal((2, steps, 3))).astype(rng.choice((np.float32, np.float64)))
    start[rng.integers(1, steps + 1) :, 0] = end[rng.integers(1, steps + 1) :, 1] = bidaf.MASKED_LOGIT
    first, last = (x - np.logaddexp.reduce(x.astype(np.longdouble), axis=0) for x in (start, end))
    starts, ends, probability = bidaf.best_span(start, end)
    for b in range(3):
        best = max((first[i, b] + last[j, b], -i, -j) for j in range(steps) for i in range(j + 1))
        assert first[starts[b], b] + last[ends[b], b] == pytest.approx(float(best[0]), abs=1e-9)
        assert probability[b] == pytest.approx(float(np.exp(best[0])), rel=1e-9, abs=1e-300)
        assert starts[b] <= ends[b]


# sizes
# -----


def weights_of_groups(groups):
    layout = bidaf.layout(Config(), groups)
    ones = {array: np.broadcast_to(np.float64(1), layout.shape(array)) for array in layout.axes}
    compiled = iss_groups(layout, bidaf.spaces(layout.axes))
    return {
        space: set(np.rint(norms**2).astype(int))
        for space, norms in compiled.split(group_norms(ones, compiled)).items()
    }


def test_a_group_has_all_its_readers_and_the_released_one_lacks_eight_hundred():
    """method, 4.3; its code counts twice the four weights of a component with itself, which a set has once."""
    sizes = {"g0.fw": 4800, "g0.bw": 4800, "g1.fw": 3201, "g1.bw": 3201, "g2.fw": 6401, "g2.bw": 6401}
    assert weights_of_groups("released") == {space: {size - 4} for space, size in sizes.items()}
    attended = {"g1.fw": 2 * 400, "g1.bw": 2 * 400}  # two rows of 400 columns
    assert weights_of_groups("all") == {
        space: {size - 4 + attended.get(space, 0)} for space, size in sizes.items()
    }


def test_the_fixed_part_is_the_paper_s():
    """method, section 6."""
    layout = bidaf.layout(Config(trainable=7, characters=11))
    assert layout.parameters() == 2_570_703 + 8 * 11 + 100 * 7
    assert bidaf.layout(Config(7, characters=11), "released").parameters() == layout.parameters()
    assert bidaf.multiply_adds(layout) == 2 * 400 * (900 + 300 + 1500) + 2 * 1000


# method, 7.3: units left; millions of weights as computed there, as the paper prints them, of the compact model
TABLE = {
    (100, 95, 78, 82, 71, 52): (2.082, 2.08, 2.062),
    (84, 90, 38, 46, 34, 21): (1.478, 1.48, 1.453),
    (54, 47, 22, 30, 18, 12): (1.029, 1.03, 1.011),
    (52, 50, 19, 26, 15, 12): (1.013, 1.01, 0.996),
    (87, 81, 87, 92, 74, 96): (2.286, 2.29, 2.272),
    (51, 33, 42, 58, 37, 26): (1.173, 1.17, 1.147),
    (20, 33, 40, 38, 31, 16): (0.951, 0.95, 0.928),
    (23, 22, 35, 35, 25, 14): (0.876, 0.88, 0.855),
}


@pytest.mark.parametrize("units", TABLE)
def test_the_weights_of_the_paper_are_those_outside_its_dead_groups(units):
    """And outside the biases of dead components; attended rows stay, which the compact model has not. The two
    vocabularies are not stated there: these make the 2.686M of the dense model, which all eight rows bear out."""
    layout = bidaf.layout(Config(trainable=1133, characters=254), "released")
    assert round(layout.parameters() / 1e6, 3) == 2.686
    groups = iss_groups(layout, LEARNED)
    dead = np.concatenate([*(np.arange(100) >= left for left in units), [False]])  # -1 is in no group
    weights = sum(np.sum(~dead[rows]) * np.sum(~dead[columns]) for rows, columns in groups.ids.values())
    others = sum(math.prod(layout.shape(array)) for array in layout.axes if array not in groups.ids)
    counted = (weights + others - 4 * dead.sum()) / 1e6
    compacted = layout.resized(dict(zip(LEARNED, units, strict=True))).parameters() / 1e6
    assert (round(counted, 3), round(counted, 2), round(compacted, 3)) == TABLE[units]


# compaction: the same network, smaller
# -------------------------------------


@given(cases(), st.sampled_from((0.0, 0.3, 0.7, 1.0)))
def test_what_nothing_reads_can_go_and_nothing_changes(drawn, chance):
    """Both logits and every gradient that survives, with masks, whatever the biases."""
    case = Case(**drawn)
    kept = case.draw_dead(chance)
    params = case.without_readers(kept)
    found = alive(params, case.groups, readers=bidaf.readers_of(case.layout))
    for space in case.spaces:
        np.testing.assert_array_equal(found[space], kept[space])
    small, small_layout = compact(params, case.layout, found)
    assert small_layout == case.layout.resized({space: int(each.sum()) for space, each in kept.items()})
    masks = compact(case.masks, case.masked, found)[0]
    logits, grads = case.run(params, masks=case.masks)
    small_logits, small_grads = case.run(small, masks=masks)
    assert_same({"logits": small_logits}, {"logits": logits})
    assert_same(small_grads, compact(grads, case.layout, found)[0])


@pytest.mark.parametrize("groups", ["all", "released"])
def test_the_released_groups_change_the_answer_and_ours_do_not(groups):
    """A component of g1 that is all zero by the released groups has a bias, so an output, and the attended rows
    still read it. Without every third component the end's logits move by up to 0.38; they spread by 0.28."""
    case = Case(np.random.default_rng(6), steps=30, words=6, batch=8, hidden_size=10, groups=groups)
    params = {array: v.copy() if array.endswith("bias") else v / 3 for array, v in case.params.items()}
    for space in ("g1.fw", "g1.bw"):
        for array, axis, (_, start, stop, counted) in case.layout.occurrences(space):
            if counted:  # the whole group, columns too
                params[array].swapaxes(0, axis)[start:stop:3] = 0
    found = alive(params, case.groups)
    gone = [0, 3, 6, 9]
    assert {space: np.flatnonzero(~each).tolist() for space, each in found.items() if not each.all()} == {
        "g1.fw": gone,
        "g1.bw": gone,
    }
    before, after = (case.run(one)[0][:, case.valid] for one in (params, compact(params, case.layout, found)[0]))
    moved = np.abs(before - after).max(axis=1)
    assert moved[0] <= 1e-12  # the start reads no attended row
    assert moved[1] <= 1e-12 if groups == "all" else round(moved[1], 2) == 0.38
    assert groups == "all" or round(before[1].std(), 2) == 0.28


@given(cases(), st.sampled_from((0.3, 1.0)))
def test_the_dead_stay_dead_in_training(drawn, chance):
    """Once its weights and biases are zero, every gradient into a dead component is exactly zero."""
    case = Case(**drawn)
    kept = case.draw_dead(chance)
    _, grads = case.run(zero_dead(case.params, case.layout, kept), masks=case.masks)
    assert_same(grads, zero_dead(grads, case.layout, kept), tolerance=0)


@pytest.mark.parametrize("space", LEARNED)
def test_a_single_weight_that_reads_it_keeps_a_component_alive(space):
    case = Case(np.random.default_rng(7))
    params = case.without_readers({name: np.zeros(2, bool) for name in LEARNED})
    rows = [
        (array, start)
        for array, axis, (_, start, _, counted) in case.layout.occurrences(space)
        if counted and not axis
    ]
    assert len(rows) == {"g0": 3, "g1": 8, "g2": 2}[space[:2]]
    for array, start in rows:
        params[array][start + 1, 0] = 1e-30
        found = alive(params, case.groups, readers=bidaf.READERS)
        params[array][start + 1, 0] = 0
        assert {name: np.flatnonzero(each).tolist() for name, each in found.items() if each.any()} == {space: [1]}
