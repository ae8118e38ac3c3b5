"""The stacked language models: their gradients, their sizes, and their compaction, which loses nothing."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from issref import Layout, alive, compact, expand, iss_groups, zero_dead
from issref.models import ptb_gru, ptb_lstm
from issref.models.ptb_lstm import Config
from issref.verify.gradcheck import central_differences, check_backward, complex_step, relative_error

SEEDS = st.integers(0, 2**32 - 1).map(np.random.default_rng)
MODELS = {  # each with its layout
    "lstm": (ptb_lstm, ptb_lstm.layout),
    "gru": (ptb_gru, ptb_gru.layout),
    "gru, reset before": (ptb_gru, partial(ptb_gru.layout, reset_after=False)),
}
models = pytest.mark.parametrize("model", MODELS)


class Case:
    """A model with random weights, biases, state, masks and text; everything a step of training has."""

    def __init__(self, model, rng, steps, batch, **config):
        self.rng, self.config = rng, Config(**config)
        self.model, layout = MODELS[model]
        self.layout = layout(self.config)
        self.spaces = self.model.spaces(self.layout.axes)
        self.groups = iss_groups(self.layout, self.spaces)
        self.states = self.model.state_layout(self.layout, batch)
        time = ("time",), ("batch",)
        sizes = {**self.states.sizes, "time": steps}
        self.masked = Layout({space: (*time, (f"~{space}",)) for space in ("embed", *self.spaces)}, sizes)
        self.params, self.state, self.dstate = map(self.normal, (self.layout, self.states, self.states))
        self.masks = self.model.draw_masks(self.config, self.layout.sizes, rng, steps, batch)
        self.tokens, self.targets = rng.integers(self.config.vocabulary, size=(2, steps, batch))
        self.dlogits = rng.standard_normal((steps, batch, self.config.vocabulary))

    def normal(self, layout):
        return {array: self.rng.standard_normal(layout.shape(array)) for array in layout.axes}

    def draw_dead(self, chance):
        """At random, which components live."""
        return {space: self.rng.random(self.layout.sizes[space]) >= chance for space in self.spaces}

    def reading_rows(self, params):
        """(space, rows that read it) twice for each layer: its recurrent rows, and those of what lies above."""
        for me, above in zip(self.spaces, (*self.spaces[1:], "softmax"), strict=True):
            own, reader, size = params[f"{me}/kernel"], params[f"{above}/kernel"], self.layout.sizes[me]
            yield me, own[len(own) - size :]
            yield me, reader[:size]

    def without_readers(self, kept):
        """The params in which nothing reads what is not kept; its columns and biases stay as they are."""
        params = {array: values.copy() for array, values in self.params.items()}
        for space, rows in self.reading_rows(params):
            rows[~kept[space]] = 0
        return params

    def compacted(self, params, state, kept):
        """Params, state, dstate and masks, all cut by the same call."""
        cut = ((params, self.layout), (state, self.states), (self.dstate, self.states))
        masks = compact(self.masks, self.masked, kept)[0] if self.masks else {}
        return *(compact(arrays, layout, kept)[0] for arrays, layout in cut), masks


def cases(least=0, keep=(1.0, 0.5)):
    """The arguments of a Case; made in the test, since checked signatures use up Python's random numbers."""
    return st.fixed_dictionaries(
        {
            "model": st.sampled_from([*MODELS]),
            "rng": SEEDS,
            "steps": st.integers(1, 4),
            "batch": st.integers(1, 3),
            "vocabulary": st.integers(1, 5),
            "embed_size": st.integers(least, 5),
            "hidden_sizes": st.lists(st.integers(least, 6), min_size=1, max_size=4).map(tuple),
            "keep": st.sampled_from(keep),
        }
    )


def assert_same(found, expected, tolerance=1e-12):
    assert {array: values.shape for array, values in found.items()} == {
        array: values.shape for array, values in expected.items()
    }
    assert relative_error(found, expected) <= tolerance


# the gradient
# ------------


@models
@pytest.mark.parametrize(("hidden_sizes", "keep"), [((3,), 1.0), ((1, 2), 0.6), ((2, 1, 2), 0.6)])
def test_the_gradient_of_the_loss_is_that_of_the_complex_step_and_of_central_differences(
    model, hidden_sizes, keep
):
    """In every parameter and the initial state, entry by entry, with masks and a gradient from later windows."""
    sizes = {"vocabulary": 3, "embed_size": 2, "hidden_sizes": hidden_sizes}
    case = Case(model, np.random.default_rng(3), steps=3, batch=2, keep=keep, **sizes)
    inputs = {"tokens": case.tokens, "targets": case.targets, "masks": case.masks}

    def total(arrays):  # what training by windows minimises: this loss plus what later ones make of the state
        params = {array: arrays[array] for array in case.params}
        state = {array: arrays[array] for array in case.state}
        loss, after = case.model.loss(params, state, **inputs)[0]
        return loss + sum(np.sum(case.dstate[array] * values) for array, values in after.items())

    _, backward = case.model.loss(case.params, case.state, **inputs)
    grads, dstate = backward(1.0, case.dstate)
    assert grads.keys() == case.params.keys()
    assert dstate.keys() == case.state.keys()
    at, found = case.params | case.state, grads | dstate
    assert relative_error(found, complex_step(total, at)) <= 1e-12
    assert relative_error(found, central_differences(total, at)) <= 1e-7


@models
@pytest.mark.parametrize("hidden_sizes", [(1,), (6, 3), (2, 5, 3), (1, 2, 3, 4)])
def test_the_loss_is_an_op_of_params_and_state(model, hidden_sizes):
    sizes = {"vocabulary": 7, "embed_size": 4, "hidden_sizes": hidden_sizes}
    case = Case(model, np.random.default_rng(4), steps=5, batch=3, keep=0.6, **sizes)
    inputs = {"tokens": case.tokens, "targets": case.targets, "masks": case.masks}
    check_backward(case.model.loss, (case.params, case.state), rng=case.rng, entries=0, **inputs)


@given(cases(least=1))
def test_without_dstate_backpropagation_stops_at_the_window(drawn):
    case = Case(**drawn)
    inputs = {"tokens": case.tokens, "targets": case.targets, "masks": case.masks}
    _, backward = case.model.loss(case.params, case.state, **inputs)
    zeros = {array: np.zeros_like(values) for array, values in case.state.items()}
    for found, expected in zip(backward(1.0), backward(1.0, zeros), strict=True):
        assert_same(found, expected, tolerance=0)


@given(cases(least=1, keep=(1.0,)), st.integers(0, 4))
def test_two_windows_with_carried_state_are_one(drawn, cut):
    case = Case(**drawn)
    whole, after = case.model.logits(case.params, case.state, tokens=case.tokens)[0]
    first, carried = case.model.logits(case.params, case.state, tokens=case.tokens[:cut])[0]
    second, final = case.model.logits(case.params, carried, tokens=case.tokens[cut:])[0]
    assert_same({"logits": np.concatenate((first, second)), **final}, {"logits": whole, **after})


@models
def test_ten_layers_are_stacked_by_number_and_not_by_letter(model):
    model, layout = MODELS[model]
    axes = layout(Config(3, 2, tuple(range(1, 13)))).axes
    assert model.spaces(axes) == [f"{model.NAME}{index}" for index in range(12)]
    assert model.spaces(sorted(axes)) == [f"{model.NAME}{index}" for index in range(12)]


@given(cases(least=1))
def test_a_model_that_knows_nothing_costs_T_log_V(drawn):
    case = Case(**drawn)
    case.params["softmax/kernel"][:] = 0
    case.params["softmax/bias"][:] = 0.3
    (loss, _), _ = case.model.loss(case.params, case.state, tokens=case.tokens, targets=case.targets)
    np.testing.assert_allclose(loss, len(case.tokens) * np.log(case.config.vocabulary), rtol=1e-13)


# sizes, initial values, masks
# ----------------------------


@pytest.mark.parametrize(
    ("hidden_sizes", "weights", "fewer"),
    [((1500, 1500), 66_022_000, 1), ((373, 315), 21_824_148, 7.487), ((381, 535), 25_190_548, 5.011)],
)
def test_the_paper_counts_the_same_weights_and_multiply_adds(hidden_sizes, weights, fewer):
    layout = ptb_lstm.layout(Config(10_000, 1500, hidden_sizes))
    assert sum(np.prod(layout.shape(array)) for array in layout.axes) == weights
    assert layout.parameters() == weights
    assert round(51_000_000 / ptb_lstm.multiply_adds(layout), 3) == fewer


@models
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_initial_weights_are_uniform_biases_of_layers_zero_and_a_seed_repeats(model, dtype):
    config, (model, layout) = Config(40, 20, (30, 10), init_scale=0.05), MODELS[model]
    layout = layout(config)
    params, same, other = (model.init_params(config, layout, np.random.default_rng(n), dtype) for n in (1, 1, 2))
    layout.check(params)
    for array, values in params.items():
        assert values.dtype == dtype
        np.testing.assert_array_equal(values, same[array])
        if array in (f"{model.NAME}0/bias", f"{model.NAME}1/bias"):
            assert not values.any()
        else:
            assert (values != other[array]).any()
            assert -0.05 <= values.min() < -0.04
            assert 0.05 >= values.max() > 0.04


@models
def test_masks_keep_the_mean_and_are_not_drawn_without_dropout(model):
    config, (model, layout) = Config(5, 30, (40, 20), keep=0.6), MODELS[model]
    sizes = layout(config).sizes
    masks = model.draw_masks(config, sizes, np.random.default_rng(0), 20, 10)
    assert {space: mask.shape for space, mask in masks.items()} == {
        space: (20, 10, sizes[space]) for space in ("embed", f"{model.NAME}0", f"{model.NAME}1")
    }
    for mask in masks.values():
        assert set(np.unique(mask)) == {np.float32(0), np.float32(1) / np.float32(0.6)}
        assert abs(mask.mean() - 1) < 0.05  # the standard deviation of the mean is at most 0.013
        assert len(np.unique(mask, axis=0)) == 20  # fresh at each step
    assert model.draw_masks(Config(keep=1.0), sizes, np.random.default_rng(0), 20, 10) == {}


@given(cases(least=1, keep=(0.5,)))
def test_masks_act_on_each_layer_output_and_never_on_the_carried_state(drawn):
    """A last layer dropped whole leaves the softmax its bias, and the state what it was without that mask."""
    case = Case(**drawn)
    top = case.spaces[-1]
    dropped = {**case.masks, top: np.zeros_like(case.masks[top])}
    kept = {space: mask for space, mask in case.masks.items() if space != top}
    (y, after), _ = case.model.logits(case.params, case.state, tokens=case.tokens, masks=dropped)
    _, expected = case.model.logits(case.params, case.state, tokens=case.tokens, masks=kept)[0]
    np.testing.assert_array_equal(y, np.broadcast_to(case.params["softmax/bias"], y.shape))
    assert_same(after, expected, tolerance=0)


def test_masks_are_drawn_in_the_order_of_the_layers():
    """The random stream does not depend on the order of the sizes, which a file may change."""
    config = Config(5, 3, (4, 2), keep=0.5)
    sizes = ptb_lstm.layout(config).sizes
    drawn, same = (
        ptb_lstm.draw_masks(config, dict(order), np.random.default_rng(0), 2, 3)
        for order in (sizes.items(), reversed(sizes.items()))
    )
    assert_same(same, drawn, tolerance=0)


@given(cases(), st.integers(0, 3))
def test_a_zero_state_is_that_of_the_layout(drawn, batch):
    case = Case(**drawn)
    found = case.model.zero_state(case.params, batch)
    case.model.state_layout(case.layout, batch).check(found)
    assert not any(values.any() for values in found.values())


def test_the_group_of_a_gru_unit_is_five_slices():
    """Three gate columns, the recurrent row, the row that reads it; biases are in no group."""
    layout = ptb_gru.layout(Config(3, 2, (2, 2)))
    ids = iss_groups(layout, ptb_gru.spaces(layout.axes)).ids
    unit = {(array, int(i), int(j)) for array, (rows, columns) in ids.items()
            for i, j in np.argwhere((rows[:, None] == 0) | (columns == 0))}  # fmt: skip
    expected = {("gru0/kernel", row, 2 * gate) for row in range(4) for gate in range(3)}
    expected |= {
        (array, row, column) for array, row in (("gru0/kernel", 2), ("gru1/kernel", 0)) for column in range(6)
    }
    assert unit == expected


# compaction: the same network, smaller
# -------------------------------------


@given(cases(), st.sampled_from((0.0, 0.3, 0.7, 1.0)))
def test_what_nothing_reads_can_go_and_nothing_changes(drawn, chance):
    """Whatever the dead components' own columns, biases and states are: outputs, the survivors' state and
    every gradient that survives stay as they were."""
    case = Case(**drawn)
    kept = case.draw_dead(chance)
    params = case.without_readers(kept)
    found = alive(params, case.groups, readers=case.model.READERS)
    assert found.keys() == kept.keys()
    for space, expected in kept.items():
        np.testing.assert_array_equal(found[space], expected)

    small, small_state, dstate, masks = case.compacted(params, case.state, found)
    back_dstate, _ = expand(dstate, case.states.resized({s: int(k.sum()) for s, k in found.items()}), found)
    (y, after), backward = case.model.logits(params, case.state, tokens=case.tokens, masks=case.masks)
    (small_y, small_after), small_back = case.model.logits(small, small_state, tokens=case.tokens, masks=masks)
    assert_same({"logits": small_y}, {"logits": y})
    assert_same(small_after, compact(after, case.states, found)[0])

    grads, dbefore = backward(case.dlogits, back_dstate)
    small_grads, small_dbefore = small_back(case.dlogits, dstate)
    assert_same(small_grads, compact(grads, case.layout, found)[0])
    assert_same(small_dbefore, compact(dbefore, case.states, found)[0])


@given(cases(), st.sampled_from((0.3, 1.0)))
def test_a_component_whose_whole_group_is_zero_can_go(drawn, chance):
    case = Case(**drawn)
    kept = case.draw_dead(chance)
    biases = {array: values for array, values in case.params.items() if array.endswith("bias")}
    params = zero_dead(case.params, case.layout, kept) | biases  # biases are in no group
    found = alive(params, case.groups)
    for space, expected in kept.items():
        np.testing.assert_array_equal(found[space], expected)
    small, small_state, _, masks = case.compacted(params, case.state, found)
    inputs = {"tokens": case.tokens, "targets": case.targets}
    (loss, after), _ = case.model.loss(params, case.state, **inputs, masks=case.masks)
    (small_loss, small_after), _ = case.model.loss(small, small_state, **inputs, masks=masks)
    np.testing.assert_allclose(small_loss, loss, rtol=1e-12)
    assert_same(small_after, compact(after, case.states, found)[0])


@given(cases(), st.sampled_from((0.3, 1.0)))
def test_expanding_the_compact_model_gives_its_outputs_again(drawn, chance):
    case = Case(**drawn)
    kept = case.draw_dead(chance)
    sizes = {space: int(along.sum()) for space, along in kept.items()}
    small, small_state, _, masks = case.compacted(case.params, case.state, kept)
    large, layout = expand(small, case.layout.resized(sizes), kept)
    large_state, states = expand(small_state, case.states.resized(sizes), kept)
    assert (layout, states) == (case.layout, case.states)
    (y, after), _ = case.model.logits(small, small_state, tokens=case.tokens, masks=masks)
    (large_y, large_after), _ = case.model.logits(large, large_state, tokens=case.tokens, masks=case.masks)
    assert_same({"logits": large_y}, {"logits": y})
    assert_same(large_after, expand(after, case.states.resized(sizes), kept)[0])


@given(cases(), st.sampled_from((0.3, 1.0)))
def test_the_dead_stay_dead_in_training(drawn, chance):
    """Once its weights, biases and state are zero, every gradient into a dead component is exactly zero, and so
    is its next state: no step moves it, so cutting it out loses nothing of what training will do."""
    case = Case(**drawn)
    kept = case.draw_dead(chance)
    params = zero_dead(case.params, case.layout, kept)
    state = zero_dead(case.state, case.states, kept)
    inputs = {"tokens": case.tokens, "targets": case.targets, "masks": case.masks}
    (_, after), backward = case.model.loss(params, state, **inputs)
    grads, _ = backward(1.0, zero_dead(case.dstate, case.states, kept))
    for found, layout in ((grads, case.layout), (after, case.states)):
        assert_same(found, zero_dead(found, layout, kept), tolerance=0)


@given(cases(least=1))
def test_a_single_weight_that_reads_it_keeps_a_component_alive(drawn):
    case = Case(**drawn)
    params = case.without_readers({space: np.zeros(case.layout.sizes[space], bool) for space in case.spaces})
    for space, rows in case.reading_rows(params):
        k, column = case.rng.integers(len(rows)), case.rng.integers(rows.shape[1])
        rows[k, column] = 1e-30
        found = alive(params, case.groups, readers=case.model.READERS)
        rows[k, column] = 0
        assert {(name, unit) for name, along in found.items() for unit in np.flatnonzero(along)} == {(space, k)}


@given(cases(least=1))
def test_what_something_reads_cannot_go(drawn):
    """The other side: cutting a component that is still read changes the outputs."""
    case = Case(**drawn)
    kept = {space: np.ones(case.layout.sizes[space], bool) for space in case.spaces}
    kept[case.rng.choice(case.spaces)][0] = False
    small, small_state, _, _ = case.compacted(case.params, case.state, kept)
    y, _ = case.model.logits(case.params, case.state, tokens=case.tokens)[0]
    small_y, _ = case.model.logits(small, small_state, tokens=case.tokens)[0]
    assert np.max(np.abs(small_y - y)) > 1e-9
