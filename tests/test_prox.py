"""The proximal operator: all properties that follow from its definition, with groups as explicit sets of weights.

A certified gap puts the weights returned within sqrt(2 gap) of the exact ones, so no tolerance here is a guess:
`radius` is that distance, with the last digits of the gap itself added.
"""

import importlib.util
import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import Case, cases, drawn, flat, membership, refused, stacked_layouts, strengths_for

from issref import kernels
from issref.iss import dual
from issref.iss.groups import alive, group_norms, iss_groups
from issref.iss.layout import Layout
from issref.iss.penalty import penalty
from issref.iss.prox import block_soft_threshold, prox, strength_bound
from issref.models import ptb_lstm

ROUNDS = dual.SWEEPS + dual.NEWTON_STEPS
HERE = Path(__file__).parent
ORACLE = json.loads((HERE / "data/prox_oracle.json").read_text())


def lstm_case(seed: int, words: int, embed: int, *widths: int) -> Case:
    config = ptb_lstm.Config(words, embed, widths)
    layout = ptb_lstm.layout(config)
    spaces = ptb_lstm.spaces(layout.axes)
    params = drawn(layout, np.random.default_rng(seed))
    return Case(layout, spaces, iss_groups(layout, spaces), membership(layout, spaces), params)


def solved(case: Case, strengths, **options):
    """The weights as one vector, and the certificate."""
    params, certificate = prox(case.params, case.groups, strengths, **options)
    return flat(params, case.layout), certificate


def radius(case: Case, certificate) -> float:
    """The distance from the exact solution that the certificate allows."""
    return np.sqrt(2 * certificate.gap + 1e-15 * np.sum(case.v**2)) + 1e-300


def scaled(params, factor):
    return {array: factor * values for array, values in params.items()}


def duals(case: Case, share: np.ndarray) -> np.ndarray:
    """xi[g, e] = share[g, h] v[e], with h the other group of weight e, or none, the last."""
    xi = np.zeros(case.member.shape)
    for e in np.flatnonzero(case.member.any(axis=0)):
        g, h = [*np.flatnonzero(case.member[:, e]), -1][:2]
        xi[g, e] = share[g, h] * case.v[e]
        if h >= 0:
            xi[h, e] = share[h, g] * case.v[e]
    return xi


def shared_squared_norms(case: Case) -> np.ndarray:
    """S[g, h], the squared norm of the weights in both g and h; the last row and column: in g alone."""
    squares = case.member * case.v**2
    own = squares @ (case.member.sum(axis=0) == 1)
    shared = squares @ case.member.T
    np.fill_diagonal(shared, 0)
    return np.block([[shared, own[:, None]], [own, np.zeros((1, 1))]])


# ---------------------------------------------------------------- the definition


@given(cases(), st.data())
def test_the_gap_bounds_the_objective_of_everything_nearby(case, data):
    """No other weights, near or far, do better by more than the gap (the problem is convex)."""
    strengths = data.draw(strengths_for(case))
    w, certificate = solved(case, strengths)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    best = case.objective(w, strengths)
    for size in (1e-6, 1e-3, 0.1, 1.0):
        for direction in (rng.normal(size=w.shape), w, rng.normal(size=w.shape) * (rng.random(w.shape) < 0.1)):
            other = w + size * direction
            assert case.objective(other, strengths) >= best - certificate.gap - 1e-14 * best


@given(cases(), st.data())
def test_the_relative_gap_is_the_gap_over_the_objective_of_the_explicit_sets(case, data):
    strengths = data.draw(strengths_for(case))
    w, certificate = solved(case, strengths)
    objective = case.objective(w, strengths)
    assert certificate.relative_gap <= 1e-12
    if certificate.gap > 0:
        assert certificate.gap / certificate.relative_gap == pytest.approx(objective, rel=1e-9)


@given(cases(), st.data())
def test_three_point_inequality(case, data):
    """F(u) >= F(w*) + |u - w*|^2 / 2 for every u: F is strongly convex."""
    strengths = data.draw(strengths_for(case))
    w, certificate = solved(case, strengths)
    u = flat(drawn(case.layout, np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))), case.layout)
    best, there = case.objective(w, strengths), case.objective(u, strengths)
    nearest = max(np.linalg.norm(u - w) - radius(case, certificate), 0)
    assert there >= best - certificate.gap + nearest**2 / 2 - 1e-12 * there


@given(cases(), st.data())
def test_non_expansive(case, data):
    """Between random points, near ones and scaled ones."""
    strengths, rng = data.draw(strengths_for(case)), np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    size = data.draw(st.sampled_from([1e-3, 0.1, 1.0]))
    noise = drawn(case.layout, rng)
    other = case._replace(params={array: v + size * noise[array] for array, v in case.params.items()})
    (w, one), (u, two) = solved(case, strengths), solved(other, strengths)
    allowed = radius(case, one) + radius(other, two)
    assert np.linalg.norm(w - u) <= np.linalg.norm(case.v - other.v) + allowed


@given(cases(), st.data())
def test_what_is_taken_away_lies_in_the_sum_of_the_dual_balls(case, data):
    """v - w = sum_g xi_g, |xi_g| <= strength_g, xi_g on the weights of g; <w, v - w> = sum_g strength_g |w_g|."""
    strengths = data.draw(strengths_for(case))
    w, certificate = solved(case, strengths)
    xi = duals(case, certificate.warm_start)
    assert (np.linalg.norm(xi, axis=1) <= strengths * (1 + 1e-12) + 1e-300).all()
    assert np.linalg.norm(case.v - w - xi.sum(axis=0)) <= radius(case, certificate)
    slack = certificate.gap + np.linalg.norm(w) * radius(case, certificate)
    assert abs(w @ (case.v - w) - strengths @ case.norms(w)) <= slack


@given(cases(), st.floats(1e-3, 1e3), st.data())
def test_scaling_weights_and_strengths_scales_the_result(case, a, data):
    strengths = data.draw(strengths_for(case))
    w, one = solved(case, strengths)
    larger = case._replace(params=scaled(case.params, a))
    u, two = solved(larger, a * strengths)
    assert np.linalg.norm(u - a * w) <= a * radius(case, one) + radius(larger, two)


# ---------------------------------------------------------------- special cases in closed form


@given(cases(), st.booleans())
def test_the_identity_at_strength_zero(case, zero):
    if zero:
        case = case._replace(params=case.layout.allocate())
    for strength in (0.0, np.zeros(case.groups.count)):
        w, certificate = solved(case, strength)
        np.testing.assert_array_equal(w, case.v)
        assert certificate.gap == 0
        assert certificate.sweeps == 1


@given(cases(), st.floats(0, 10))
def test_nothing_comes_from_nothing(case, strength):
    w, certificate = solved(case._replace(params=case.layout.allocate()), strength)
    assert not w.any()
    assert certificate.gap == certificate.relative_gap == 0
    assert certificate.dead.all()


@pytest.mark.parametrize("strength", [0.3, np.float64(0.3), np.float64(9.0)])
def test_block_soft_thresholding_keeps_the_dtype(strength):
    assert block_soft_threshold(np.array([3, 4], np.float32), strength).dtype == np.float32


@given(cases(), st.data())
def test_one_space_alone_on_one_axis_is_block_soft_thresholding(case, data):
    """Groups that share no weight: columns of matrices, and vectors, of one space."""
    layout = Layout({"w": (("b",), ("a",)), "u": (("a", "b"),), "x": (("~a", "a", "a"), ("b",))}, {"a": 4, "b": 3})
    groups = iss_groups(layout, ["a"])
    params = drawn(layout, np.random.default_rng(data.draw(st.integers(0, 2**32 - 1))))
    strengths = np.array(data.draw(st.lists(st.floats(0, 6), min_size=4, max_size=4)))
    found, certificate = prox(params, groups, strengths)
    v, w = flat(params, layout), flat(found, layout)
    member = membership(layout, ["a"])
    assert (member.sum(axis=0) <= 1).all()
    expected = v.copy()
    for weights, strength in zip(member, strengths, strict=True):
        expected[weights] = block_soft_threshold(v[weights], strength)
    np.testing.assert_allclose(w, expected, rtol=1e-12, atol=1e-6)
    assert np.linalg.norm(w - expected) <= np.sqrt(2 * certificate.gap + 1e-15 * np.sum(v**2))
    assert certificate.sweeps == 1


@given(st.lists(st.floats(-3, 3), max_size=5), st.floats(0, 5))
def test_block_soft_thresholding_minimises_its_objective(values, strength):
    """At w != 0 the gradient w - v + strength w / |w| is 0; at 0, |v| <= strength."""
    v = np.array(values)
    w = block_soft_threshold(v, strength)
    if w.any():
        np.testing.assert_allclose(w + strength * (w / math.hypot(*w)), v, rtol=1e-9, atol=1e-9)
    else:
        assert math.hypot(*v) <= strength * (1 + 1e-15)


@given(cases(), st.sampled_from([1 + 1e-9, 1.5, 100.0]))
def test_everything_dies_above_a_known_strength(case, factor):
    """max_g sqrt(own + sum_h S[g, h] / 4): shared weights split half and half fit into the dual balls."""
    assume(case.deadly() > 0)
    w, certificate = solved(case, factor * case.deadly())
    assert certificate.dead.all()
    assert not w[case.member.any(axis=0)].any()


def test_below_that_strength_something_may_live():
    """The bound is attained where nothing is shared: just below it, one group is alive."""
    case = lstm_case(0, 50, 3, 1)
    assert not solved(case, 0.999 * case.deadly())[1].dead.any()
    assert solved(case, 1.001 * case.deadly())[1].dead.all()


@given(cases(), st.integers(0, 2**32 - 1), st.sampled_from([1e-3, 1.0, 20.0]))
def test_one_step_above_the_strength_bound_kills_everything(case, seed, rate):
    gradient = drawn(case.layout, np.random.default_rng(seed))
    bound = strength_bound(case.params, gradient, case.groups, rate)
    after = case._replace(params={array: w - rate * gradient[array] for array, w in case.params.items()})
    assert rate * bound == pytest.approx(after.deadly(), rel=1e-12)  # the formula, from the explicit sets
    w, certificate = solved(after, rate * bound * (1 + 1e-9))
    assert certificate.dead.all()
    assert not w[case.member.any(axis=0)].any()


def test_the_strength_bound_is_attained_where_nothing_is_shared():
    case = lstm_case(0, 50, 3, 1)
    gradient = drawn(case.layout, np.random.default_rng(1))
    bound = strength_bound(case.params, gradient, case.groups, 0.5)
    after = case._replace(params={array: w - 0.5 * gradient[array] for array, w in case.params.items()})
    assert not solved(after, 0.5 * 0.999 * bound)[1].dead.any()
    assert solved(after, 0.5 * 1.001 * bound)[1].dead.all()


@pytest.mark.parametrize("rate", [0.0, -1.0, np.inf, np.nan])
def test_the_strength_bound_needs_a_learning_rate(rate):
    case = lstm_case(0, 5, 3, 2)
    with refused(f"strength_bound: expected a learning rate above 0, got {rate}"):
        strength_bound(case.params, case.params, case.groups, rate)


def test_the_strength_bound_needs_the_gradient_of_every_group():
    case = lstm_case(0, 5, 3, 2)
    with refused("lstm0/kernel: expected this grouped array in params, got ['embed/kernel']"):
        strength_bound(case.params, {"embed/kernel": case.params["embed/kernel"]}, case.groups, 1.0)


# ---------------------------------------------------------------- the overlap is real


def test_one_block_threshold_after_another_is_not_the_prox():
    """Nor are the two factors multiplied: on a two-layer network both cost more."""
    case, strength = lstm_case(5, 4, 3, 3, 3), 2.5
    strengths = np.full(6, strength)
    w, certificate = solved(case, strengths)
    after = case.v.copy()
    for weights in case.member:
        after[weights] = block_soft_threshold(after[weights], strength)
    factors = np.maximum(0, 1 - strength / case.norms(case.v))
    multiplied = case.v * np.where(case.member, factors[:, None], 1).prod(axis=0)
    assert certificate.relative_gap < 1e-12
    assert case.objective(after, strengths) > 1.001 * case.objective(w, strengths)
    assert case.objective(multiplied, strengths) > 1.001 * case.objective(w, strengths)


# ---------------------------------------------------------------- the certificate


@given(cases(), st.sampled_from([1e-4, 1e-2, 1.0]), st.booleans(), st.data())
def test_the_gap_of_wrong_weights_bounds_their_excess_and_their_distance(case, size, kill, data):
    """Feasible shares that are not optimal, as after one sweep from anywhere, and groups zeroed by hand."""
    strengths, rng = data.draw(strengths_for(case)), np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    w, certificate = solved(case, strengths)
    share = certificate.warm_start + size * rng.random(certificate.warm_start.shape)
    squared_norms, padded = shared_squared_norms(case), np.append(strengths, 0.0)
    kernels.dual_block_pass(squared_norms, padded, share)
    dead = np.append(kill & (rng.random(case.groups.count) < 0.2), False)
    gap, objective, norms = kernels.duality_gap(squared_norms, padded, share, dead)
    u = (case.v - duals(case, share).sum(axis=0)) * ~case.member[dead[:-1]].any(axis=0)
    there, digits = case.objective(u, strengths), 1e-15 * np.sum(case.v**2) + 1e-300
    assert objective == pytest.approx(there, rel=1e-12)
    np.testing.assert_allclose(norms[:-1], case.norms(u), rtol=1e-12, atol=1e-12 * np.linalg.norm(case.v))
    assert there - case.objective(w, strengths) <= gap + digits
    assert np.linalg.norm(u - w) <= np.sqrt(2 * max(gap, 0) + digits) + radius(case, certificate)


def test_the_gap_after_few_rounds_is_positive():
    case = lstm_case(1, 4, 3, 4, 4)
    strengths = np.full(8, 0.8 * case.deadly())
    exact, _ = solved(case, strengths, tolerance=1e-14)
    for tolerance in (1e-1, 1e-3, 1e-6):
        rough, certificate = solved(case, strengths, tolerance=tolerance)
        assert 0 < certificate.relative_gap <= tolerance
        excess = case.objective(rough, strengths) - case.objective(exact, strengths)
        assert 0 < excess <= certificate.gap
        assert 0 < np.linalg.norm(rough - exact) <= np.sqrt(2 * certificate.gap)


@given(cases(), st.sampled_from([1e-12, 1e-6, 1e-2]), st.data())
def test_dead_groups_are_exactly_zero_and_nothing_else_is_said_to_be(case, tolerance, data):
    strengths = data.draw(strengths_for(case))
    params, certificate = prox(case.params, case.groups, strengths, tolerance=tolerance)
    w = flat(params, case.layout)
    for weights, dead in zip(case.member, certificate.dead, strict=True):
        assert dead == (not w[weights].any())
    alive_of = alive(params, case.groups)
    for space, dead in case.groups.split(certificate.dead).items():
        np.testing.assert_array_equal(dead, ~alive_of[space])
    case.layout.check(params)


@given(cases(), st.data())
def test_a_large_strength_keeps_groups_dead_and_changes_no_other(case, data):
    """The result is as if the weights of these groups had been zero before, and no group had a large strength."""
    strengths = data.draw(strengths_for(case))
    dead = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1))).random(case.groups.count) < 0.4
    large = data.draw(st.sampled_from([1, 1e3])) * max(case.norms(case.v).max(initial=0), 1e-300)
    w, certificate = solved(case, np.where(dead, large, strengths))
    zero, params, stop = case.member[dead].any(axis=0), {}, 0
    for array, values in case.params.items():
        start, stop = stop, stop + values.size
        params[array] = np.where(zero[start:stop].reshape(values.shape), 0, values)
    before = case._replace(params=params)
    expected, other = solved(before, strengths)
    assert certificate.dead[dead].all()
    assert np.linalg.norm(w - expected) <= radius(case, certificate) + radius(before, other)


@given(cases(), st.data())
def test_weights_in_no_group_pass_through(case, data):
    params, _ = prox(case.params, case.groups, data.draw(strengths_for(case)))
    free = ~case.member.any(axis=0)
    np.testing.assert_array_equal(flat(params, case.layout)[free], case.v[free])
    for array in params.keys() - case.groups.ids.keys():
        assert params[array] is case.params[array]


def test_weights_in_no_group_pass_through_beside_a_group_of_zeros():
    layout = Layout({"w": (("a", "~a"), ("a", "~a"))}, {"a": 1})
    groups, params = iss_groups(layout, ["a"]), {"w": np.array([[0.0, 0], [0, 3]])}
    for strength in (0.0, 1.0):
        np.testing.assert_array_equal(prox(params, groups, strength)[0]["w"], params["w"])


@given(cases(), st.data())
def test_no_weight_changes_sign_or_grows_and_the_input_is_left_alone(case, data):
    before = case.v
    w, _ = solved(case, data.draw(strengths_for(case)))
    np.testing.assert_array_equal(case.v, before)
    assert (w * case.v >= 0).all()
    assert (np.abs(w) <= np.abs(case.v) * (1 + 1e-9)).all()


# ---------------------------------------------------------------- warm starts


@given(cases(), st.data())
def test_a_warm_start_gives_the_same_answer_in_no_more_rounds(case, data):
    strengths = data.draw(strengths_for(case))
    cold, first = solved(case, strengths)
    warm, second = solved(case, strengths, warm_start=first.warm_start)
    assert np.linalg.norm(warm - cold) <= radius(case, first) + radius(case, second)
    assert second.sweeps <= first.sweeps


@given(cases(), st.data())
def test_any_warm_start_gives_the_same_answer_and_is_left_alone(case, data):
    """Shares of another problem, or random ones: they cost rounds, not exactness."""
    strengths, rng = data.draw(strengths_for(case)), np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    start = rng.uniform(-1, 2, (case.groups.count + 1,) * 2)
    before = start.copy()
    (cold, first), (warm, second) = solved(case, strengths), solved(case, strengths, warm_start=start)
    assert np.linalg.norm(warm - cold) <= radius(case, first) + radius(case, second)
    np.testing.assert_array_equal(start, before)


def test_a_warm_start_saves_rounds_along_a_path_of_training():
    case, rng = lstm_case(2, 6, 4, 5, 5), np.random.default_rng(0)
    _, last = solved(case, 0.5 * case.deadly())
    noise = drawn(case.layout, rng)
    after = case._replace(params={array: v + 1e-6 * noise[array] for array, v in case.params.items()})
    cold, warm = solved(after, 0.5 * case.deadly()), solved(after, 0.5 * case.deadly(), warm_start=last.warm_start)
    assert warm[1].sweeps < cold[1].sweeps


# ---------------------------------------------------------------- where nearly everything dies


def critical(case: Case, profile: np.ndarray) -> float:
    """The smallest multiple of `profile` at which everything dies, by bisection."""
    low, high = 0.0, case.deadly() / profile.min()
    for _ in range(40):
        middle = (low + high) / 2
        dead = solved(case, middle * profile, tolerance=1e-14)[1].dead.all()
        low, high = (low, middle) if dead else (middle, high)
    return high


@pytest.fixture(scope="module", params=["equal strengths", "each its own", "three layers"])
def hard(request):
    """A case, a profile of strengths, and the multiple of it at which everything dies."""
    case = lstm_case(3, 20, 5, 4, 4, 4) if request.param == "three layers" else lstm_case(3, 20, 5, 8, 8)
    profile = np.ones(case.groups.count)
    if request.param == "each its own":
        profile = np.random.default_rng(1).uniform(0.5, 1.5, case.groups.count)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a tolerance of 1e-14 may be below what doubles hold
        return case, profile, critical(case, profile)


OFF = (1e-2, 1e-4, 1e-6)


def test_the_prox_is_exact_just_above_and_just_below_the_deadly_strength(hard):
    """To its tolerance, without a warning (they are errors here), by Newton where sweeps would take thousands."""
    case, profile, deadly = hard
    rounds = []
    for factor in [1 + off for off in OFF] + [1 - off for off in OFF]:
        w, certificate = solved(case, factor * deadly * profile)
        rounds.append(certificate.sweeps)
        assert certificate.relative_gap <= 1e-12
        assert certificate.dead.all() or factor < 1
        again, second = solved(case, factor * deadly * profile, warm_start=certificate.warm_start)
        assert np.linalg.norm(w - again) <= radius(case, certificate) + radius(case, second)
    assert max(rounds) > dual.SWEEPS
    assert max(rounds) < ROUNDS
    assert not solved(case, (1 - 1e-2) * deadly * profile)[1].dead.all()


@pytest.mark.parametrize(("seed", "strength"), [(39, 3.794145), (45, 4.515537), (55, 4.60999)])
def test_the_prox_is_exact_where_the_last_groups_alive_are_tiny(seed, strength):
    """Norms of 1e-7 |v|: a relative gap of 1e-12 cannot tell them from zero, but zeroing them is not within it."""
    case = lstm_case(seed, 3, 2, 2, 2)
    for off in (0, 1e-9, -1e-9, 1e-7, -1e-7, 1e-6, -1e-6):
        assert solved(case, strength * (1 + off))[1].relative_gap <= 1e-12


def test_sweeps_alone_and_newton_agree(hard, monkeypatch):
    """Newton's answer against ten thousand sweeps, and against Newton from the first round on."""
    case, profile, deadly = hard
    strengths = 0.99 * deadly * profile
    w, certificate = solved(case, strengths)
    assert certificate.sweeps > dual.SWEEPS
    monkeypatch.setattr(dual, "SWEEPS", 10_000)
    swept, sweeps = solved(case, strengths)
    assert certificate.sweeps < sweeps.sweeps < 10_000
    monkeypatch.setattr(dual, "SWEEPS", 1)
    newton, steps = solved(case, strengths)
    for other, its in ((swept, sweeps), (newton, steps)):
        assert np.linalg.norm(w - other) <= radius(case, certificate) + radius(case, its)


@given(cases(stacked_layouts()), st.data())
def test_newton_alone_solves_every_case(case, data):
    """One sweep, then Newton: from tiny strengths to deadly ones, zeros among them."""
    strengths = data.draw(strengths_for(case))
    swept, sweeps = solved(case, strengths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dual, "SWEEPS", 1)
        newton, steps = solved(case, strengths)
    assert steps.sweeps < 1 + dual.NEWTON_STEPS
    assert np.linalg.norm(newton - swept) <= radius(case, sweeps) + radius(case, steps)


@pytest.mark.parametrize("tolerance", [0.0, 1e-40])
def test_a_tolerance_out_of_reach_is_said_with_the_gap_that_was_reached(tolerance):
    case = lstm_case(3, 20, 5, 8, 8)
    strengths = np.full(16, 0.9 * case.deadly())
    with pytest.warns(
        RuntimeWarning, match=r"^prox: expected a relative duality gap of at most \S+, got "
    ) as caught:
        params, certificate = prox(case.params, case.groups, strengths, tolerance=tolerance)
    w = flat(params, case.layout)
    assert 0 < certificate.relative_gap < 1e-13
    (warning,) = caught
    found = f"got {certificate.relative_gap:.1e} after {certificate.sweeps} rounds"
    assert str(warning.message) == f"prox: expected a relative duality gap of at most {tolerance:.1e}, {found}"
    usual, second = solved(case, strengths)
    assert np.linalg.norm(w - usual) <= radius(case, certificate) + radius(case, second)


# ---------------------------------------------------------------- other inputs


@given(cases(), st.data())
def test_float32_weights_give_float32_results_close_to_the_exact_ones(case, data):
    strengths = data.draw(strengths_for(case))
    single = {array: values.astype(np.float32) for array, values in case.params.items()}
    double = {array: values.astype(np.float64) for array, values in single.items()}
    found, one = prox(single, case.groups, strengths)
    exact, two = prox(double, case.groups, strengths)
    assert {values.dtype for values in found.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(one.dead, two.dead)
    for array in found:
        np.testing.assert_allclose(found[array], exact[array], rtol=3e-7, atol=1e-40)


@given(cases(), st.data())
def test_one_number_is_one_for_each_group(case, data):
    strength = data.draw(st.floats(0, 1)) * case.deadly()
    one, each = solved(case, strength), solved(case, np.full(case.groups.count, strength))
    np.testing.assert_array_equal(one[0], each[0])


@given(cases(), st.data())
def test_groups_of_strength_zero_hold_nothing(case, data):
    """As if these groups did not exist: weights in them alone stay, shared ones shrink by the other group only."""
    strengths = data.draw(strengths_for(case))
    space = data.draw(st.sampled_from(case.spaces))
    strengths[:] = np.where(np.arange(len(strengths)) - case.groups.first[space] >= 0, strengths, 0)
    strengths[case.groups.first[space] + case.layout.sizes[space] :] = 0
    w, one = solved(case, strengths)
    fewer = case._replace(groups=iss_groups(case.layout, [space]), spaces=[space])
    u, two = solved(fewer, strengths[case.groups.first[space] :][: fewer.groups.count])
    assert np.linalg.norm(w - u) <= radius(case, one) + radius(case, two)


def test_spaces_of_width_zero_are_legal():
    for widths in ((0,), (0, 3), (3, 0), (2, 0, 2)):
        case = lstm_case(0, 3, 2, *widths)
        w, certificate = solved(case, 0.3 * (case.deadly() or 1))
        assert certificate.dead.shape == (sum(widths),)
        assert w.shape == case.v.shape


# ---------------------------------------------------------------- a conic solver, an independent oracle


def oracle_case(stored) -> tuple[Case, np.ndarray]:
    layout = Layout.from_json(json.dumps(stored["layout"]))
    sizes = [int(np.prod(layout.shape(array))) for array in layout.axes]
    pieces = np.split(np.array(stored["v"]), np.cumsum(sizes)[:-1])
    params = {array: piece.reshape(layout.shape(array)) for array, piece in zip(layout.axes, pieces, strict=True)}
    spaces = stored["spaces"]
    case = Case(layout, spaces, iss_groups(layout, spaces), membership(layout, spaces), params)
    return case, np.array(stored["strengths"])


@pytest.mark.parametrize("stored", ORACLE, ids=[stored["name"] for stored in ORACLE])
def test_agrees_with_a_conic_solver(stored):
    case, strengths = oracle_case(stored)
    w, certificate = solved(case, strengths)
    conic = np.array(stored["w"])
    size = np.linalg.norm(case.v)
    assert np.linalg.norm(w - conic) <= 1e-6 * size
    assert case.objective(w, strengths) <= case.objective(conic, strengths) + certificate.gap
    norms = case.norms(conic)
    assert (norms[certificate.dead] <= 1e-6 * size).all()


def test_the_stored_answers_come_from_the_script_beside_them():
    pytest.importorskip("cvxpy")
    pytest.importorskip("clarabel")
    spec = importlib.util.spec_from_file_location("make_prox_oracle", HERE / "make_prox_oracle.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    made = script.make(script.CASES[0])
    assert made["v"] == ORACLE[0]["v"]
    assert made["strengths"] == ORACLE[0]["strengths"]
    np.testing.assert_allclose(made["w"], ORACLE[0]["w"], atol=1e-5)


# ---------------------------------------------------------------- error messages


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused_in_words(bad):
    case = lstm_case(0, 3, 2, 2)
    case.params["lstm0/kernel"][1, 1] = bad
    with refused("prox: expected finite weights, got inf or nan"):
        prox(case.params, case.groups, 0.1)


def test_a_warm_start_of_another_shape_is_refused_in_words():
    case = lstm_case(0, 3, 2, 2)
    with refused("warm_start: expected shape (3, 3), got (2, 2)"):
        prox(case.params, case.groups, 0.1, warm_start=np.zeros((2, 2)))


@pytest.mark.parametrize("strength", [-1.0, np.nan, np.inf, np.ones(3)])
def test_a_bad_strength_is_refused_in_words(strength):
    case = lstm_case(0, 3, 2, 2)
    with refused("strength: expected "):
        prox(case.params, case.groups, strength)


def test_a_missing_or_misshapen_array_is_refused_in_words():
    case = lstm_case(0, 3, 2, 2)
    with refused("lstm0/kernel: expected shape (4, 8) for its groups, got (8, 4)"):
        prox({**case.params, "lstm0/kernel": np.zeros((8, 4))}, case.groups, 0.1)
    with refused("lstm0/kernel: expected this grouped array in params, got ['softmax/kernel']"):
        prox({"softmax/kernel": case.params["softmax/kernel"]}, case.groups, 0.1)


# ---------------------------------------------------------------- numbers near the ends of float64


FAR = st.sampled_from([-1000, -700, -530, 480, 511, 700, 950])  # 2^-1000 ... 2^950; squares end at 2^-1074, 2^1024


def shifted(params, exponent):
    return {array: np.ldexp(values, exponent) for array, values in params.items()}


@given(cases(), FAR, st.data())
def test_prox_and_norms_are_homogeneous_wherever_numbers_are_finite(case, exponent, data):
    """prox at 2^k strength of 2^k v is 2^k times prox at strength of v; powers of two round nothing."""
    strengths = data.draw(strengths_for(case))
    far = shifted(case.params, exponent)
    w, certificate = solved(case, strengths)
    u, again = prox(far, case.groups, np.ldexp(strengths, exponent))
    back = flat(shifted(u, -exponent), case.layout)
    assert np.linalg.norm(back - w) <= 2 * radius(case, certificate)
    assert again.relative_gap <= 1e-12
    norms, far_norms = group_norms(case.params, case.groups), group_norms(far, case.groups)
    np.testing.assert_allclose(np.ldexp(far_norms, -exponent), norms, rtol=8 * np.finfo(float).eps)
    (value, grads), (far_value, far_grads) = (penalty(one, case.groups, 1.0) for one in (case.params, far))
    assert np.ldexp(far_value, -exponent) == pytest.approx(value, rel=1e-14)
    for array, slopes in grads.items():  # of degree 0
        np.testing.assert_allclose(far_grads[array], slopes, rtol=64 * np.finfo(float).eps)


@pytest.mark.parametrize("weight", [1e-200, 1e-154, 1e154, 1e300])
def test_smoothing_neither_overflows_nor_swallows_the_weights(weight):
    case = lstm_case(0, 3, 2, 2)
    params = {array: np.full(values.shape, weight) for array, values in case.params.items()}
    size = group_norms(params, case.groups)
    value, _ = penalty(params, case.groups, 1.0, smoothing=1e-8)
    assert value == pytest.approx(np.hypot(size, 1e-4).sum(), rel=1e-14)


@pytest.mark.parametrize("far", [1e10, 1e155, 1e308, -1e308])
def test_a_warm_start_however_far_gives_the_same_answer(far):
    case = lstm_case(0, 3, 2, 2)
    start = np.full((3, 3), far)
    (cold, first), (warm, second) = solved(case, 0.5), solved(case, 0.5, warm_start=start)
    assert np.linalg.norm(warm - cold) <= radius(case, first) + radius(case, second)


def test_a_gap_that_is_no_number_is_reported(monkeypatch):
    case = lstm_case(0, 3, 2, 2)
    monkeypatch.setattr("issref.iss.prox.solve", lambda *given: dual.solve(*given)._replace(gap=math.nan))
    with pytest.warns(RuntimeWarning, match=r"expected a relative duality gap of at most .*, got nan"):
        prox(case.params, case.groups, 0.1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_group_alone_refuses_weights_that_are_not_finite(bad):
    with refused("block_soft_threshold: expected finite weights, got inf or nan"):
        block_soft_threshold(np.array([1.0, bad]), 0.5)
    with refused("strength: expected a finite number from 0 up"):
        block_soft_threshold(np.ones(2), bad)


STRANGE = [10**400, 1j, "1", np.ma.masked_array([1.0], [True]), np.array([1j]), None, [10**30]]


@pytest.mark.parametrize("strange", STRANGE, ids=str)
def test_numbers_of_other_kinds_are_refused_in_words(strange):
    case = lstm_case(0, 3, 2, 2)
    for call in (
        lambda: prox(case.params, case.groups, strange),
        lambda: penalty(case.params, case.groups, strange),
        lambda: strength_bound(case.params, case.params, case.groups, strange),
        lambda: case.groups.spread({"lstm0": 1j if isinstance(strange, np.ndarray) else strange}),
        lambda: block_soft_threshold(np.ones(2), strange),
    ):
        with refused(": expected real numbers, got "):
            call()


@pytest.mark.parametrize("kind", [complex, np.ma.asarray, np.ndarray.tolist, lambda values: values.astype(int)])
def test_weights_of_other_kinds_are_refused_in_words(kind):
    case = lstm_case(0, 3, 2, 2)
    convert = kind if kind is not complex else lambda values: values.astype(complex)
    params = {array: convert(values) for array, values in case.params.items()}
    with refused("expected "):
        prox(params, case.groups, 0.1)
    if kind is not complex:  # the complex step needs these
        with refused("expected "):
            group_norms(params, case.groups)
