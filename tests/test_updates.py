"""Update rules, pruning, and the state and the recorder of a run, on a small language model."""

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from issref import compact, expand, iss_groups, prox
from issref.iss.compact import zero_small_weights
from issref.iss.penalty import penalty as group_lasso
from issref.models import ptb_lstm as model
from issref.training import updates
from issref.training.checkpoint import add_prefix, strip_prefix
from issref.training.optimizers import adam
from issref.training.pruning import cut_out, draw_masks, zero_out
from issref.training.recorder import Recorder
from issref.training.runs import Failed
from issref.training.state import RunState, all_alive, current_layout, full_params
from issref.training.updates import (
    Penalty,
    adam_state,
    averaged,
    clipped_adam,
    clipped_sgd,
    decayed,
    dense_update,
    l1_update,
    prox_update,
    released_update,
)

CONFIG = model.Config(vocabulary=7, embed_size=3, hidden_sizes=(5, 4), keep=0.5)
LAYOUT = model.layout(CONFIG)
GROUPS = iss_groups(LAYOUT, model.spaces(LAYOUT.axes))
RULES = {
    "dense": dense_update,
    "prox": prox_update,
    "released": partial(released_update, threshold=0.05, thresholded=LAYOUT.axes),
    "l1": partial(l1_update, strength=0.01, threshold=0.05, unpenalized=model.EMBEDDING),
}
DESCENTS = {"sgd": clipped_sgd(1.0), "adam": clipped_adam(1.0)}
each_rule = pytest.mark.parametrize("rule", RULES)
each_descent = pytest.mark.parametrize("descent", DESCENTS)


def arrays(seed, dtype=np.float64, scale=1.0):
    rng = np.random.default_rng(seed)
    return {name: (scale * rng.normal(size=LAYOUT.shape(name))).astype(dtype) for name in LAYOUT.axes}


def copied(named):
    return {name: values.copy() for name, values in named.items()}


def same(one, other):
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name], strict=True, err_msg=name)


def close(one, other, rtol=1e-12):
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_allclose(values, other[name], rtol=rtol, atol=1e-15, err_msg=name)


def penalty_of(strength):
    return Penalty(GROUPS, np.full(GROUPS.count, strength))


def state_for(descent, params):
    return adam_state(params) if descent == "adam" else {}


def clipped(grads, most=1.0):
    norm = math.sqrt(sum(float((gradient**2).sum()) for gradient in grads.values()))
    return {name: gradient * min(1, most / norm) for name, gradient in grads.items()}


def stepped(params, grads, rate):
    return {name: values - rate * grads[name] for name, values in params.items()}


# ---------------------------------------------------------------- the contract of every rule


@each_descent
@each_rule
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_rule_returns_new_params_its_state_and_who_has_died(rule, descent, dtype):
    params = arrays(0, dtype)
    before, state = copied(params), state_for(descent, params)
    update = RULES[rule](DESCENTS[descent])
    after, state, died = update(params, arrays(1, dtype), 0.1, penalty_of(0.5), state)
    same(params, before)
    assert after.keys() == params.keys()
    for name, values in after.items():
        assert (values.shape, values.dtype) == (params[name].shape, params[name].dtype)
        assert np.isfinite(values).all()
    assert any((values != params[name]).any() for name, values in after.items())
    assert isinstance(state, dict)
    assert died.dtype == bool
    assert died.shape == ((GROUPS.count,) if rule == "prox" else (0,))
    assert not died.any()
    after, _, died = update(after, arrays(2, dtype), 0.1, penalty_of(0.5), state)  # a step follows a step
    assert after.keys() == params.keys()
    assert not died.any()


@each_descent
@each_rule
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(rule, descent, bad):
    params, grads = arrays(0), arrays(1)
    grads["lstm1/kernel"][0, 0] = bad
    state = state_for(descent, params)
    before, state_before = copied(params), copied(state)
    with pytest.raises(FloatingPointError, match="the gradient's norm is"):
        averaged(RULES[rule](DESCENTS[descent]), 0.9)(params, grads, 0.1, penalty_of(0.5), state)
    same(params, before)
    same(state, state_before)


# ---------------------------------------------------------------- each rule by its equation


@given(seed=st.integers(0, 99), most=st.floats(0.1, 100))
def test_the_dense_rule_is_clipped_gradient_descent_whatever_the_penalty(seed, most):
    params, grads = arrays(seed), arrays(seed + 100)
    expected = stepped(params, clipped(grads, most), 0.1)
    after, state, _ = dense_update(clipped_sgd(most))(params, grads, 0.1, penalty_of(9.0), {})
    close(after, expected)
    assert state == {}


@each_descent
@each_rule
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weight_decay_joins_the_datas_gradient_before_all_else(rule, descent, dtype):
    """Before the penalty's gradient and the clip, bit for bit."""
    params, grads, decay = arrays(0, dtype), arrays(1, dtype), dtype(0.3)
    summed = {name: gradient + decay * params[name] for name, gradient in grads.items()}
    update, states = RULES[rule](DESCENTS[descent]), [state_for(descent, params) for _ in range(2)]
    expected, state, _ = update(params, summed, 0.1, penalty_of(0.5), states[0])
    after, other, died = decayed(update, 0.3)(params, grads, 0.1, penalty_of(0.5), states[1])
    same(after, expected)
    same(other, state)
    assert died.shape == ((GROUPS.count,) if rule == "prox" else (0,))
    assert decayed(update, 0.0) is update


@given(seed=st.integers(0, 99))
def test_the_proximal_rule_is_the_step_and_the_exact_proximal_step(seed):
    params, grads = arrays(seed, scale=0.3), arrays(seed + 100)
    strengths = np.random.default_rng(seed).uniform(0, 20, GROUPS.count)
    expected, certificate = prox(stepped(params, clipped(grads), 0.1), GROUPS, 0.1 * strengths)
    after, state, died = prox_update(clipped_sgd(1.0))(params, grads, 0.1, Penalty(GROUPS, strengths), {})
    close(after, expected, rtol=1e-9)
    np.testing.assert_array_equal(died, certificate.dead)
    np.testing.assert_array_equal(state["dead"], certificate.dead)
    np.testing.assert_allclose(state["warm_start"], certificate.warm_start, atol=1e-9)


def test_a_group_is_newly_dead_once():
    rule, strong = prox_update(clipped_sgd(1.0)), penalty_of(0.0)
    strong.strengths[[1, 6]] = 1e3
    params, state, died = rule(arrays(0), arrays(1), 0.1, strong, {})
    assert np.flatnonzero(died).tolist() == [1, 6]
    strong.strengths[2] = 1e3
    params, state, died = rule(params, arrays(2), 0.1, strong, state)
    assert np.flatnonzero(died).tolist() == [2]
    assert np.flatnonzero(state["dead"]).tolist() == [1, 2, 6]


@given(seed=st.integers(0, 99), some=st.booleans())
def test_the_released_rule_clips_the_sum_and_zeroes_small_weights_one_by_one(seed, some):
    params, grads = arrays(seed), arrays(seed + 100)
    thresholded = ["lstm0/kernel", "softmax/kernel"] if some else list(LAYOUT.axes)
    _, penalty_grads = group_lasso(params, *penalty_of(0.5), self_weight=2, smoothing=1e-8)
    summed = {name: gradient + penalty_grads.get(name, 0) for name, gradient in grads.items()}
    expected = stepped(params, clipped(summed), 0.1)
    expected |= zero_small_weights({name: expected[name] for name in thresholded}, 0.2)
    after, _, _ = released_update(clipped_sgd(1.0), 0.2, thresholded)(params, grads, 0.1, penalty_of(0.5), {})
    close(after, expected)
    assert any((values == 0).any() for values in after.values())
    assert all(values.all() for name, values in after.items() if name not in thresholded)


@given(seed=st.integers(0, 99), strength=st.sampled_from([0.01, 0.3]))
def test_the_l1_rule_penalizes_all_but_the_embedding_and_zeroes_at_twice_its_strength(seed, strength):
    params, grads = arrays(seed), arrays(seed + 100)
    summed = {
        name: gradient + (name != model.EMBEDDING) * strength * np.sign(params[name])
        for name, gradient in grads.items()
    }
    expected = zero_small_weights(stepped(params, clipped(summed), 0.1), max(0.1, 2 * strength))
    update = l1_update(clipped_sgd(1.0), strength, 0.1, model.EMBEDDING)
    close(update(params, grads, 0.1, penalty_of(9.0), {})[0], expected)


@given(seed=st.integers(0, 99), most=st.none() | st.floats(0.1, 100))
def test_clipped_adam_is_adam_on_the_clipped_gradient_and_counts_its_steps(seed, most):
    params, history = arrays(seed), [arrays(seed + 100), arrays(seed + 200)]
    expected, state = params, adam_state(params)
    moments = [{name: np.zeros_like(values) for name, values in params.items()} for _ in range(2)]
    descend, after = clipped_adam(most), params
    for step, grads in enumerate(history, start=1):
        expected = adam(expected, clipped(grads, most or math.inf), *moments, 0.1, step)
        after = descend(after, copied(grads), 0.1, state)
        assert state["steps"].tolist() == [step]
    close(after, expected)
    close(strip_prefix(state, "first"), moments[0])
    close(strip_prefix(state, "second"), moments[1])


@each_rule
def test_the_average_follows_the_rule_and_changes_nothing_else(rule):
    params = arrays(0)
    alone, averaging = adam_state(params), adam_state(params)
    same(strip_prefix(averaging, "average"), params)
    plain = RULES[rule](clipped_adam(1.0))
    after, alone, _ = plain(params, arrays(1), 0.1, penalty_of(0.5), alone)
    other, averaging, _ = averaged(plain, 0.75)(params, arrays(1), 0.1, penalty_of(0.5), averaging)
    same(other, after)
    expected = {name: 0.75 * values + 0.25 * after[name] for name, values in params.items()}
    close(strip_prefix(averaging, "average"), expected)
    for name in alone.keys() - add_prefix(average=params).keys():
        np.testing.assert_array_equal(averaging[name], alone[name])


def test_adam_state_shares_no_memory():
    params = arrays(0)
    state = adam_state(params)
    for array in state.values():
        array += 1
    same(params, arrays(0))
    same(strip_prefix(state, "second"), {name: np.ones_like(values) for name, values in params.items()})
    assert updates.NO_GROUPS.shape == (0,)


# ---------------------------------------------------------------- the layout of a run


def run_of(params, alive=None):
    masks = alive or all_alive(LAYOUT, list(GROUPS.first))
    return RunState(params, model.state_layout(LAYOUT, 2).allocate(), np.random.default_rng(0), masks)


def some_alive(size):
    return st.lists(st.booleans(), min_size=size, max_size=size).filter(any).map(np.array)


masks = st.tuples(*(some_alive(LAYOUT.sizes[space]) for space in GROUPS.first)).map(
    lambda found: dict(zip(GROUPS.first, found, strict=True))
)


@given(seed=st.integers(0, 99), alive=masks)
def test_the_layout_of_a_run_is_found_from_its_params_and_masks(seed, alive):
    params = arrays(seed)
    small, layout = compact(params, LAYOUT, alive)
    run = run_of(small, alive)
    assert current_layout(run, LAYOUT) == layout
    same(full_params(run, LAYOUT), expand(small, layout, alive)[0])
    kept = run_of(params, alive)  # --no-shrink: the masks know the dead, the arrays are whole
    assert current_layout(kept, LAYOUT) == LAYOUT
    same(full_params(kept, LAYOUT), params)


def test_params_that_fit_neither_layout_are_refused():
    run = run_of(arrays(0))
    run.params["lstm0/kernel"] = run.params["lstm0/kernel"][:, :-4]
    for ask in (current_layout, full_params):
        with pytest.raises(ValueError, match=r"lstm0/kernel: .*\(8, 20\).*\(8, 16\)"):
            ask(run, LAYOUT)


def test_a_run_with_a_missing_or_another_array_is_refused():
    run = run_of(arrays(0))
    del run.params["lstm0/bias"]
    with pytest.raises(ValueError, match="lstm0/bias"):
        current_layout(run, LAYOUT)
    run.params |= {"lstm0/bias": arrays(0)["lstm0/bias"], "lstm9/bias": np.zeros(3)}
    with pytest.raises(ValueError, match="lstm9/bias"):
        current_layout(run, LAYOUT)


# ---------------------------------------------------------------- pruning

STATE_LAYOUT = partial(model.state_layout, batch=2)


def stepping(seed, alive):
    """A run some of whose components are to be cut: of these every array but the biases is zero."""
    rng = np.random.default_rng(seed)
    params, layout = arrays(seed), STATE_LAYOUT(LAYOUT)
    run = run_of(params)
    run.state = {name: rng.normal(size=layout.shape(name)) for name in layout.axes}
    run.optimizer_state = adam_state(params) | add_prefix(
        first=arrays(seed + 1), second=arrays(seed + 2, scale=0.0)
    )
    dead = ~np.concatenate([alive[space] for space in GROUPS.first])
    share = rng.random((GROUPS.count + 1, GROUPS.count + 1))
    run.optimizer_state |= {"warm_start": share, "dead": dead}
    return run


@given(seed=st.integers(0, 99), alive=masks)
def test_cutting_out_and_zeroing_are_the_same_but_for_the_zeros(seed, alive):
    cut, kept = stepping(seed, alive), stepping(seed, alive)
    layout = cut_out(cut, LAYOUT, alive, state_layout=STATE_LAYOUT)
    assert zero_out(kept, LAYOUT, alive, state_layout=STATE_LAYOUT) == LAYOUT
    assert layout == current_layout(cut, LAYOUT)
    same(cut.alive, alive)
    same(kept.alive, alive)
    same(full_params(cut, LAYOUT), kept.params)
    state_layout = STATE_LAYOUT(layout)
    same(expand(cut.state, state_layout, alive)[0], kept.state)
    for copy in ("first", "second", "average"):
        same(
            expand(strip_prefix(cut.optimizer_state, copy), layout, alive)[0],
            strip_prefix(kept.optimizer_state, copy),
        )
    keep = np.append(np.concatenate([alive[space] for space in GROUPS.first]), True)
    full = kept.optimizer_state["warm_start"]
    np.testing.assert_array_equal(cut.optimizer_state["warm_start"], full[np.ix_(keep, keep)])
    assert not cut.optimizer_state["dead"].any()
    assert cut.optimizer_state["dead"].shape == (keep.sum() - 1,)


@given(seed=st.integers(0, 20), first=masks, second=masks)
def test_two_cuts_are_one(seed, first, second):
    both = {space: first[space] & second[space] for space in first}
    if not all(mask.any() for mask in both.values()):
        return
    twice, once = stepping(seed, first), stepping(seed, first)
    layout = cut_out(twice, LAYOUT, first, state_layout=STATE_LAYOUT)
    rest = {space: second[space][first[space]] for space in first}
    layout = cut_out(twice, layout, rest, state_layout=STATE_LAYOUT)
    assert cut_out(once, LAYOUT, both, state_layout=STATE_LAYOUT) == layout
    for arrays_of in ("params", "state", "alive", "optimizer_state"):
        same(getattr(twice, arrays_of), getattr(once, arrays_of))


@pytest.mark.parametrize("prune", [cut_out, zero_out])
def test_a_space_without_components_stops_the_run(prune):
    alive = {"lstm0": np.zeros(5, bool), "lstm1": np.ones(4, bool)}
    with pytest.raises(Failed, match="all components of lstm0 have died, which a new run with a"):
        prune(stepping(0, alive), LAYOUT, alive, state_layout=STATE_LAYOUT)


def test_a_space_that_dies_out_in_two_steps_stops_a_run_that_keeps_its_zeros():
    alive = [{"lstm0": np.arange(5) != n, "lstm1": np.ones(4, bool)} for n in range(5)]
    run = stepping(0, alive[0])
    for mask in alive[:-1]:
        zero_out(run, LAYOUT, mask, state_layout=STATE_LAYOUT)
    with pytest.raises(Failed, match="all components of lstm0"):
        zero_out(run, LAYOUT, alive[-1], state_layout=STATE_LAYOUT)


def test_dropout_masks_do_not_depend_on_what_is_cut():
    alive = {"lstm0": np.arange(5) > 1, "lstm1": np.arange(4) > 0}
    cut, kept = stepping(0, alive), stepping(0, alive)
    layout = cut_out(cut, LAYOUT, alive, state_layout=STATE_LAYOUT)
    zero_out(kept, LAYOUT, alive, state_layout=STATE_LAYOUT)
    small, full = (draw_masks(run, of, model, CONFIG, 3, 2) for run, of in ((cut, layout), (kept, LAYOUT)))
    same(small, compact(full, model.mask_layout(LAYOUT, full), alive)[0])
    assert any(values.shape != full[name].shape for name, values in small.items())
    assert cut.rng.bit_generator.state == kept.rng.bit_generator.state


def test_training_on_cut_arrays_is_training_on_zeros():
    """Nine steps with deaths: cut out or kept as zeros, the params are the same but for rounding."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 7, (9, 2, 4, 2))
    update, initial = prox_update(clipped_sgd(5.0)), model.init_params(CONFIG, LAYOUT, rng)
    strengths, ends = np.tile([0.1, 0.25, 0.4], 3), []
    for prune in (cut_out, zero_out):
        run, layout, deaths = run_of(copied(initial)), LAYOUT, 0
        for text, targets in tokens:
            groups = iss_groups(layout, model.spaces(layout.axes))
            alive = np.concatenate([*run.alive.values()])
            penalty = Penalty(groups, strengths[alive] if prune is cut_out else strengths)
            drops = draw_masks(run, layout, model, CONFIG, 4, 2)
            (_, run.state), backward = model.loss(run.params, run.state, tokens=text, targets=targets, masks=drops)
            grads, _ = backward(1.0)
            run.params, run.optimizer_state, died = update(run.params, grads, 0.2, penalty, run.optimizer_state)
            if died.any():
                layout, deaths = prune(run, layout, groups.split(~died), state_layout=STATE_LAYOUT), deaths + 1
        ends.append((run, deaths))
    (cut, deaths), (kept, as_many) = ends
    assert deaths == as_many > 1
    same(cut.alive, kept.alive)
    close(full_params(cut, LAYOUT), kept.params, rtol=1e-9)


# ---------------------------------------------------------------- the recorder


def recorder():
    return Recorder(lambda loss_sum, count: {"train_loss": loss_sum / count}, "words", 1)


def test_a_compared_pruning_records_the_difference_it_made():
    measured, run = recorder(), run_of(arrays(0))
    run.step = 4
    outputs = iter([np.array([1.0, 2.0]), np.array([1.5, 1.25]), np.zeros(2), np.zeros(2)])
    alive = {"lstm0": np.arange(5) > 1, "lstm1": np.ones(4, bool)}
    asked = []

    def prune(*given):
        asked.append(given)
        return "layout"

    compared = measured.compared(prune, lambda given: next(outputs))
    assert [compared(run, LAYOUT, alive), compared(run, LAYOUT, alive)] == ["layout"] * 2
    assert asked == [(run, LAYOUT, alive)] * 2
    counts = {"lstm0": 3, "lstm1": 4}
    assert measured.cuts == [
        {"step": 5, "alive": counts, "max_output_difference": 0.75},
        {"step": 5, "alive": counts, "max_output_difference": 0.0},
    ]
    measured.steps = 5
    measured.record(run, 1.0, GROUPS, LAYOUT)
    measured.end_epoch(run, 0.1)
    assert measured.cuts == []
    assert measured.all_cuts() == {"count": 2, "max_output_difference": 0.75}


def test_a_pruning_that_fails_records_nothing():
    def prune(*given):
        raise Failed("all have died")

    measured = recorder()
    with pytest.raises(Failed):
        measured.compared(prune, lambda run: np.zeros(1))(run_of(arrays(0)), LAYOUT, {})
    assert measured.cuts == []
    assert measured.all_cuts() == {"count": 0, "max_output_difference": 0.0}


@pytest.mark.parametrize("steps", [1, 7, 50, 130])
def test_the_curve_of_an_epoch_has_its_first_and_last_step_and_about_fifty_more(steps):
    measured, run = recorder(), run_of(arrays(0))
    measured.steps = steps
    for run.step in range(steps):
        measured.record(run, run.step + 1.0, GROUPS, LAYOUT)
    found = [point["step"] for point in measured.trace]
    assert found[0] == 1
    assert found[-1] == steps
    assert len(found) == len(set(found)) <= 50 * 2
    for point in measured.trace:  # the mean of 1, 2, ... step
        assert point["train_loss"] == pytest.approx((point["step"] + 1) / 2)
        assert point["alive"] == {"lstm0": 5, "lstm1": 4}
    assert measured.scores == {"loss": (steps + 1) / 2, "train_loss": (steps + 1) / 2}
    row = measured.end_epoch(run, 0.5, valid_loss=3.0)
    assert (row["epoch"], row["learning_rate"], row["valid_loss"]) == (1, 0.5, 3.0)
    assert (measured.loss_sum, measured.trace) == (0.0, [])
    assert not measured.is_lowest("valid_loss", 3.0)
    assert measured.is_lowest("valid_loss", 2.9)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_refused(loss):
    with pytest.raises(FloatingPointError, match=f"the loss is {loss}"):
        recorder().record(run_of(arrays(0)), loss, GROUPS, LAYOUT)
