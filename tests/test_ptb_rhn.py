"""The highway language model: its gradient, its sizes, PyTorch's opinion of it, and its compaction."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_ptb_lstm import SEEDS, assert_same

from issref import alive, compact, expand, group_norms, iss_groups, penalty, zero_dead
from issref.models import ptb_rhn
from issref.models.ptb_rhn import Config
from issref.verify.gradcheck import central_differences, check_backward, complex_step, relative_error

DROPS = {"drop_word": 0.3, "drop_input": 0.4, "drop_state": 0.3, "drop_output": 0.4}
NO_DROPS = dict.fromkeys(DROPS, 0.0)


class Case:
    """A model with random weights, biases, state, masks and text; everything a step of training has."""

    def __init__(self, rng, steps, batch, **config):
        self.rng, self.config = rng, Config(**config)
        self.layout = ptb_rhn.layout(self.config)
        self.groups = iss_groups(self.layout, ptb_rhn.spaces(self.layout.axes))
        self.states = ptb_rhn.state_layout(self.layout, batch)
        self.params, self.state, self.dstate = map(self.normal, (self.layout, self.states, self.states))
        self.masks = ptb_rhn.draw_masks(self.config, dict(self.layout.sizes), rng, steps, batch)
        self.masked = ptb_rhn.mask_layout(self.layout, self.masks)
        self.tokens, self.targets = rng.integers(self.config.vocabulary, size=(2, steps, batch))
        self.dlogits = rng.standard_normal((steps, batch, self.config.vocabulary))
        self.inputs = {"tokens": self.tokens, "targets": self.targets, "masks": self.masks}

    def normal(self, layout):
        return {array: self.rng.standard_normal(layout.shape(array)) for array in layout.axes}

    def draw_dead(self, chance):
        return {"width": self.rng.random(self.config.width) >= chance}

    def without_readers(self, kept):
        """The params in which nothing reads what is not kept; its columns and biases stay as they are."""
        params, dead = {array: values.copy() for array, values in self.params.items()}, ~kept["width"]
        for d in range(self.config.depth):
            params[f"micro{d}/kernel"][np.tile(dead, 2 if d == 0 else 1)] = 0
        if self.config.tied:
            params["embed/kernel"][:, dead] = 0
        else:
            params["softmax/kernel"][dead] = 0
        return params

    def cut(self, kept, *arrays):
        """Params, states and masks, all cut by the same call."""
        layouts = {"embed/kernel": self.layout, "rhn/s": self.states}
        return [
            compact(one, next((lay for name, lay in layouts.items() if name in one), self.masked), kept)[0]
            for one in arrays
        ]


def cases(least=0, drops=(NO_DROPS, DROPS)):
    """The arguments of a Case; made in the test, since checked signatures use up Python's random numbers."""
    sizes = {
        "rng": SEEDS,
        "steps": st.integers(1, 4),
        "batch": st.integers(1, 3),
        "vocabulary": st.integers(1, 5),
        "width": st.integers(least, 6),
        "depth": st.integers(1, 4),
        "tied": st.booleans(),
    }
    return st.builds(lambda sizes, drops: sizes | drops, st.fixed_dictionaries(sizes), st.sampled_from(drops))


# the gradient
# ------------


@pytest.mark.parametrize(("depth", "tied"), [*((depth, True) for depth in range(1, 11)), (1, False), (3, False)])
def test_the_gradient_of_the_loss_is_that_of_the_complex_step(depth, tied):
    """In every parameter and the initial state, entry by entry, with every mask and a gradient from the future."""
    case = Case(np.random.default_rng(3), steps=3, batch=2, vocabulary=3, width=2, depth=depth, tied=tied, **DROPS)
    assert set(case.masks) == {"word", "input", "state", "output"}

    def total(arrays):  # what training by windows minimises: this loss plus what later ones make of the state
        params = {array: arrays[array] for array in case.params}
        loss, after = ptb_rhn.loss(params, {"rhn/s": arrays["rhn/s"]}, **case.inputs)[0]
        return loss + np.sum(case.dstate["rhn/s"] * after["rhn/s"])

    _, backward = ptb_rhn.loss(case.params, case.state, **case.inputs)
    grads, dstate = backward(1.0, case.dstate)
    at, found = case.params | case.state, grads | dstate
    assert found.keys() == at.keys()
    assert relative_error(found, complex_step(total, at)) <= 1e-12
    if depth in (1, 3):
        assert relative_error(found, central_differences(total, at)) <= 1e-7


@pytest.mark.parametrize(("width", "depth", "tied"), [(1, 1, True), (5, 2, False), (4, 3, True)])
def test_the_loss_is_an_op_of_params_and_state(width, depth, tied):
    sizes = {"vocabulary": 7, "width": width, "depth": depth, "tied": tied}
    case = Case(np.random.default_rng(4), steps=5, batch=3, **sizes, **DROPS)
    check_backward(ptb_rhn.loss, (case.params, case.state), rng=case.rng, entries=0, **case.inputs)


def test_an_independent_network_by_autograd_agrees_in_loss_and_every_gradient():
    """The equations of the released code written in PyTorch with separate H and T matrices; every mask on."""
    torch = pytest.importorskip("torch")
    case = Case(np.random.default_rng(7), steps=5, batch=3, vocabulary=6, width=4, depth=3, **DROPS)
    width, depth = case.config.width, case.config.depth
    leaves = {name: torch.tensor(values, requires_grad=True) for name, values in case.params.items()}
    s0 = torch.tensor(case.state["rhn/s"], requires_grad=True)
    masks = {name: torch.tensor(mask.astype(np.float64)) for name, mask in case.masks.items()}
    tokens, targets = torch.tensor(case.tokens), torch.tensor(case.targets)
    seen = {}  # the noise of each word of each sequence: that of its first occurrence
    for t, b in np.ndindex(*case.tokens.shape):
        seen.setdefault((b, case.tokens[t, b]), masks["word"][t, b])

    s, loss = s0, torch.zeros((), dtype=torch.float64)
    for t in range(len(tokens)):
        noise = torch.stack([seen[b, case.tokens[t, b]] for b in range(tokens.shape[1])])
        x = leaves["embed/kernel"][tokens[t]] * noise[:, None] * masks["input"]
        for d in range(depth):
            kernel, bias = leaves[f"micro{d}/kernel"], leaves[f"micro{d}/bias"]
            u = s * masks["state"]
            u = torch.cat((x, u), dim=1) if d == 0 else u
            h = torch.tanh(u @ kernel[:, :width] + bias[:width])
            transform = torch.sigmoid(u @ kernel[:, width:] + bias[width:])
            s = h * transform + s * (1 - transform)
        logits = (s * masks["output"]) @ leaves["embed/kernel"].T + leaves["softmax/bias"]
        loss = loss + torch.nn.functional.cross_entropy(logits, targets[t])  # mean over the batch
    (loss + (torch.tensor(case.dstate["rhn/s"]) * s).sum()).backward()

    (found, after), backward = ptb_rhn.loss(case.params, case.state, **case.inputs)
    grads, dstate = backward(1.0, case.dstate)
    assert float(found) == pytest.approx(loss.item(), rel=1e-13)
    np.testing.assert_allclose(after["rhn/s"], s.detach().numpy(), rtol=1e-13)
    assert_same(grads | dstate, {name: leaf.grad.numpy() for name, leaf in {**leaves, "rhn/s": s0}.items()}, 1e-13)


@given(cases(least=1, drops=(NO_DROPS,)), st.integers(0, 4))
def test_two_windows_with_carried_state_are_one(drawn, cut):
    case = Case(**drawn)
    whole, after = ptb_rhn.logits(case.params, case.state, tokens=case.tokens)[0]
    first, carried = ptb_rhn.logits(case.params, case.state, tokens=case.tokens[:cut])[0]
    second, final = ptb_rhn.logits(case.params, carried, tokens=case.tokens[cut:])[0]
    assert_same({"logits": np.concatenate((first, second)), **final}, {"logits": whole, **after})


def test_the_order_of_the_arrays_does_not_matter():
    """Ten micro-layers are stacked by number, whatever order a file has kept them in."""
    case = Case(np.random.default_rng(1), 2, 2, vocabulary=4, width=3, depth=12, **NO_DROPS)
    (expected, _), _ = ptb_rhn.loss(case.params, case.state, **case.inputs)
    by_letter = {array: case.params[array] for array in sorted(case.params)}
    assert ptb_rhn.loss(by_letter, case.state, **case.inputs)[0][0] == expected


# word dropout
# ------------


@given(SEEDS, st.integers(1, 6), st.integers(1, 3), st.integers(1, 4))
def test_a_word_is_dropped_by_type_in_each_sequence(rng, steps, batch, words):
    noise, tokens = rng.random((steps, batch)), rng.integers(words, size=(steps, batch))
    found, first = ptb_rhn.by_type(noise, tokens), {}
    for t, b in np.ndindex(steps, batch):
        assert found[t, b] == first.setdefault((b, tokens[t, b]), noise[t, b])


def test_masks_keep_the_mean_one_for_each_sequence_and_are_not_drawn_without_dropout():
    config, rng = Config(width=300, **DROPS), np.random.default_rng(0)
    masks = ptb_rhn.draw_masks(config, {"width": 300}, rng, 35, 50)
    shapes = {"word": (35, 50), "input": (50, 300), "state": (50, 300), "output": (50, 300)}
    assert {name: mask.shape for name, mask in masks.items()} == shapes
    for name, mask in masks.items():
        drop = getattr(config, f"drop_{name}")
        assert set(np.unique(mask)) == {np.float32(0), np.float32(1) / np.float32(1 - drop)}
        assert abs(mask.mean() - 1) < 0.06  # four standard deviations of the smallest mask's mean
    assert ptb_rhn.draw_masks(Config(**NO_DROPS), {"width": 300}, rng, 35, 50) == {}


# sizes, initial values, penalty
# ------------------------------


@pytest.mark.parametrize(
    ("width", "parameters"),
    [
        (830, 23_482_400),
        (726, 18_880_192),
        (517, 11_070_698),
        (403, 7_621_058),
        (328, 5_663_408),
        (1000, 32_030_000),
    ],
)
def test_the_paper_counts_the_same_parameters(width, parameters):
    assert ptb_rhn.layout(Config(width=width)).parameters() == parameters


def test_multiply_adds_count_the_softmax_once_tied_or_not():
    tied, untied = (ptb_rhn.layout(Config(vocabulary=50, width=7, depth=2, tied=tied)) for tied in (True, False))
    assert ptb_rhn.multiply_adds(tied) == ptb_rhn.multiply_adds(untied) == 14 * 14 + 7 * 14 + 7 * 50
    assert untied.parameters() - tied.parameters() == 7 * 50


def test_the_released_convention_gives_the_check_values():
    """method: two micro-layers of width 2, three words; the matrices H and T side by side."""
    i, j = np.arange(4)[:, None], np.arange(2)
    layout = ptb_rhn.layout(Config(vocabulary=3, width=2, depth=2))
    params = layout.allocate()
    params["embed/kernel"] = 0.1 * (i[:3] + 1) + 0.05 * j
    params["micro0/kernel"] = np.hstack((0.03 * (i + 1) + 0.01 * j, -0.02 * (i + 1) + 0.04 * j))
    params["micro1/kernel"] = np.hstack((0.05 * (i[:2] + 1) - 0.03 * j, 0.02 * (i[:2] + 1) + 0.02 * j))
    groups = iss_groups(layout, ["width"])
    value, _ = penalty(params, groups, 1.0, self_weight=2, smoothing=1e-8)
    assert float(value) == pytest.approx(1.0416698253, abs=1e-10)
    squares = [penalty(params, groups, np.eye(2)[k], self_weight=2)[0] ** 2 for k in range(2)]
    np.testing.assert_allclose(squares, [0.2238, 0.3233], rtol=1e-12)


@pytest.mark.parametrize(("width", "counted"), [(830, 46_520), (1000, 54_000)])
def test_a_group_has_as_many_weights_as_the_released_one(width, counted):
    """22 of them are of a component with itself; the released code counts those twice."""
    layout = ptb_rhn.layout(Config(width=width))
    ones = {array: np.broadcast_to(np.float64(1), layout.shape(array)) for array in layout.axes}
    norms = group_norms(ones, iss_groups(layout, ["width"]))
    np.testing.assert_allclose(norms**2, counted - 22, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_initial_weights_are_uniform_transform_biases_constant_and_a_seed_repeats(dtype):
    config = Config(50, 30, 2, tied=False, init_scale=0.05, transform_bias=-3.0)
    layout = ptb_rhn.layout(config)
    params, same, other = (ptb_rhn.init_params(config, layout, np.random.default_rng(n), dtype) for n in (1, 1, 2))
    layout.check(params)
    for array, values in params.items():
        assert values.dtype == dtype
        np.testing.assert_array_equal(values, same[array])
        assert (values != other[array]).any()
        drawn = values[:30] if array.startswith("micro") and array.endswith("bias") else values
        assert np.abs(drawn).max() <= 0.05
        assert np.abs(drawn).max() > 0.035
    for d in (0, 1):
        np.testing.assert_array_equal(params[f"micro{d}/bias"][30:], -3.0)


# compaction: the same network, narrower
# --------------------------------------


@given(cases(), st.sampled_from((0.0, 0.3, 0.7, 1.0)))
def test_what_nothing_reads_can_go_and_nothing_changes(drawn, chance):
    """Embedding, input, state of all micro-layers and output shrink together; outputs, the survivors' state and
    every gradient that survives stay as they were, whatever the biases."""
    case = Case(**drawn)
    kept = case.draw_dead(chance)
    params = case.without_readers(kept)
    found = alive(params, case.groups, readers=ptb_rhn.readers_of(case.layout))
    np.testing.assert_array_equal(found["width"], kept["width"])
    small, small_layout = compact(params, case.layout, found)
    left = int(kept["width"].sum())
    assert small_layout == ptb_rhn.layout(Config(**{**vars(case.config), "width": left}))
    small_state, dstate, masks = case.cut(found, case.state, case.dstate, case.masks)
    back_dstate, _ = expand(dstate, case.states.resized({"width": left}), found)

    inputs = {"tokens": case.tokens}
    (y, after), backward = ptb_rhn.logits(params, case.state, **inputs, masks=case.masks)
    (small_y, small_after), small_back = ptb_rhn.logits(small, small_state, **inputs, masks=masks)
    assert_same({"logits": small_y}, {"logits": y})
    assert_same(small_after, *case.cut(found, after))
    grads, dbefore = backward(case.dlogits, back_dstate)
    small_grads, small_dbefore = small_back(case.dlogits, dstate)
    grads, dbefore = case.cut(found, grads, dbefore)
    assert_same(small_grads | small_dbefore, grads | dbefore)


@given(cases(), st.sampled_from((0.3, 1.0)))
def test_the_dead_stay_dead_in_training(drawn, chance):
    """Once its weights, both biases and state are zero, every gradient into a dead component is exactly zero, and
    so is its next state: no step moves it."""
    case = Case(**drawn)
    kept = case.draw_dead(chance)
    params, state = zero_dead(case.params, case.layout, kept), zero_dead(case.state, case.states, kept)
    (_, after), backward = ptb_rhn.loss(params, state, **case.inputs)
    grads, _ = backward(1.0, zero_dead(case.dstate, case.states, kept))
    for found, layout in ((grads, case.layout), (after, case.states)):
        assert_same(found, zero_dead(found, layout, kept), tolerance=0)


@given(cases(least=1))
def test_a_single_weight_that_reads_it_keeps_a_component_alive(drawn):
    """One weight of a tied embedding too, because the softmax reads it; untied, the embedding reads nothing."""
    case = Case(**drawn)
    width, k = case.config.width, int(case.rng.integers(case.config.width))
    params = case.without_readers({"width": np.zeros(width, bool)})
    rows = {f"micro{d}/kernel": k for d in range(case.config.depth)}
    reading = [("micro0/kernel", (width + k, 0)), *((array, (row, 0)) for array, row in rows.items())]
    embedded = ("embed/kernel", (0, k))
    reading.append(embedded if case.config.tied else ("softmax/kernel", (k, 0)))
    for array, index in (*reading, embedded):
        before, params[array][index] = params[array][index], 1e-30
        found = alive(params, case.groups, readers=ptb_rhn.readers_of(case.layout))["width"]
        params[array][index] = before
        assert np.flatnonzero(found).tolist() == ([k] if (array, index) in reading else [])
