"""The penalty: numbers of the method sheet, its gradient by two kinds of difference, the properties of a norm."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import cases, drawn, flat, labels, refused, strengths_for

from issref.iss.groups import group_norms, iss_groups
from issref.iss.penalty import penalty
from issref.models import ptb_lstm

RELEASED = {"self_weight": 2, "smoothing": 1e-8}
conventions = st.sampled_from([{}, RELEASED, {"self_weight": 2}, {"smoothing": 1e-3}])
TINY = ptb_lstm.layout(ptb_lstm.Config(3, 2, (2, 2)))
TINY_GROUPS = iss_groups(TINY, ("lstm0", "lstm1"))


def tiny() -> dict[str, np.ndarray]:
    """Method sheet, section 6, "PTB tiny"."""

    def ramp(shape, per_row, per_column):
        return per_row * (np.arange(shape[0])[:, None] + 1) - per_column * np.arange(shape[1])

    kernels = {"lstm0/kernel": ramp((4, 8), 0.1, 0.05), "lstm1/kernel": ramp((4, 8), 0.07, 0.02)}
    return {**TINY.allocate(), **kernels, "softmax/kernel": ramp((2, 3), 0.2, 0.3)}


def along(params, direction, step):
    """params + step * direction."""
    return {array: params[array] + step * direction[array] for array in params}


def inner(one, other):
    """<one, other> over the arrays of the second."""
    return sum(np.sum(one[array] * other[array]) for array in other)


# ---------------------------------------------------------------- the numbers of the method sheet


def test_check_values_of_the_released_convention():
    value, grads = penalty(tiny(), TINY_GROUPS, 1.0, **RELEASED)
    assert round(value, 10) == 3.6769239566
    kernel0, kernel1, softmax = (grads[array] for array in ("lstm0/kernel", "lstm1/kernel", "softmax/kernel"))
    assert round(kernel0[0, 1], 10) == 0.0498506714
    assert round(kernel0[2, 1], 10) == 0.5275814610  # two groups
    assert round(kernel0[2, 0], 10) == 0.6679874497  # with itself, counted twice
    assert round(kernel1[0, 1], 10) == 0.1097710774
    assert round(softmax[1, 2], 10) == -0.2164218264


def test_check_values_of_the_squared_norms():
    """The value is the sum of the roots of the four squared norms of the sheet; without the second count, less."""
    squares = np.array([0.8068, 1.0060, 0.7252, 0.8540])
    assert penalty(tiny(), TINY_GROUPS, 1.0, self_weight=2)[0] == pytest.approx(np.sqrt(squares).sum(), abs=1e-14)
    params = tiny()
    selves = [sum(params[f"lstm{layer}/kernel"][2 + unit, unit::2] ** 2) for layer in (0, 1) for unit in (0, 1)]
    np.testing.assert_allclose(group_norms(params, TINY_GROUPS) ** 2, squares - selves, rtol=1e-14)


def test_check_values_at_initialisation():
    """Method sheet 2.3, in expectation: U(+-0.04), 1500 units a layer, E[w^2] = 0.04^2 / 3, scaled down by 10."""
    config = ptb_lstm.Config(1000, 150, (150, 150), init_scale=0.04)
    layout = ptb_lstm.layout(config)
    params = ptb_lstm.init_params(config, layout, np.random.default_rng(0))
    groups = iss_groups(layout, ("lstm0", "lstm1"))
    norms = groups.split(group_norms(params, groups))
    assert norms["lstm0"].mean() == pytest.approx(3.578 / np.sqrt(10), rel=2e-3)
    assert norms["lstm1"].mean() == pytest.approx(3.864 / np.sqrt(10), rel=2e-3)


# ---------------------------------------------------------------- value and gradient


@given(cases(), conventions, st.data())
def test_the_value_is_the_sum_over_explicit_sets(case, convention, data):
    strengths = data.draw(strengths_for(case))
    again = (case.member & (np.add(*both_axes(case)) == 2)) * (convention.get("self_weight", 1) - 1)
    squares = (case.member + again) @ case.v**2 + convention.get("smoothing", 0)
    value, _ = penalty(case.params, case.groups, strengths, **convention)
    assert value == pytest.approx(strengths @ np.sqrt(squares), rel=1e-12, abs=1e-300)


def both_axes(case):
    """For each group and weight: whether the row of the weight is in the group, and whether its column is."""
    by_axis = [[], []]
    for array, axes in case.layout.axes.items():
        written, shape = labels(case.layout, array), case.layout.shape(array)
        for axis in (0, 1):
            own = np.zeros((case.groups.count, *shape), bool)
            for position, (space, k) in enumerate(written[axis] if axis < len(axes) else []):
                if space in case.groups.first:
                    own[(case.groups.first[space] + k, *(slice(None),) * axis, position)] = True
            by_axis[axis].append(own.reshape(case.groups.count, case.params[array].size))
    return [np.concatenate(parts, axis=1).astype(int) for parts in by_axis]


@given(cases(), conventions, st.data())
def test_the_gradient_equals_the_complex_step(case, convention, data):
    """Im R(w + i h e) / h = dR/dw to about machine precision: no difference is taken."""
    strengths, h = data.draw(strengths_for(case)), 1e-30
    params = {array: values + 0j for array, values in case.params.items()}
    _, grads = penalty(case.params, case.groups, strengths, **convention)
    largest = max((np.abs(grad).max(initial=0) for grad in grads.values()), default=0)
    for array, index in some_weights(case, grads, data):
        moved = params[array].copy()
        moved[index] += 1j * h
        value, _ = penalty({**params, array: moved}, case.groups, strengths, **convention)
        assert abs(value.imag / h - grads[array][index]) <= 1e-12 * largest


@given(cases(), conventions, st.data())
def test_the_gradient_equals_central_differences(case, convention, data):
    """Away from zero groups, where the norm has a corner."""
    assume(convention.get("smoothing") == 1e-3 or case.norms(case.v).min(initial=1) > 1e-2)
    strengths, h = data.draw(strengths_for(case)), 1e-5
    _, grads = penalty(case.params, case.groups, strengths, **convention)
    for array, index in some_weights(case, grads, data):
        direction = {name: np.zeros_like(values) for name, values in case.params.items()}
        direction[array][index] = 1
        up, down = (
            penalty(along(case.params, direction, step), case.groups, strengths, **convention)[0]
            for step in (h, -h)
        )
        assert abs((up - down) / (2 * h) - grads[array][index]) <= 1e-7 * (1 + strengths.sum())


def some_weights(case, grads, data):
    """Up to five grouped weights that are not zero, so that no group of theirs is."""
    found = [(array, tuple(index)) for array in grads for index in np.argwhere(case.params[array])]
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    return [found[k] for k in rng.permutation(len(found))[:5]]


# ---------------------------------------------------------------- what a sum of norms satisfies


@given(cases(), st.sampled_from([{}, {"self_weight": 2}]), st.data())
def test_homogeneous_of_degree_one(case, convention, data):
    strengths, scale = data.draw(strengths_for(case)), data.draw(st.floats(1e-3, 1e3))
    value, grads = penalty(case.params, case.groups, strengths, **convention)
    assert inner(case.params, grads) == pytest.approx(value, rel=1e-12)
    scaled = {array: scale * values for array, values in case.params.items()}
    scaled_value, scaled_grads = penalty(scaled, case.groups, strengths, **convention)
    assert scaled_value == pytest.approx(scale * value, rel=1e-12)
    for array in grads:
        np.testing.assert_allclose(scaled_grads[array], grads[array], rtol=1e-11)


@given(cases(), conventions, st.floats(0, 1), st.integers(0, 2**32 - 1), st.data())
def test_convex_along_segments_and_above_its_tangents(case, convention, t, seed, data):
    strengths = data.draw(strengths_for(case))
    other = drawn(case.layout, np.random.default_rng(seed))
    difference = along(other, case.params, -1)
    (here, grads), (there, _), (between, _) = (
        penalty(params, case.groups, strengths, **convention)
        for params in (case.params, other, along(case.params, difference, t))
    )
    slack = 1e-12 * (here + there)
    assert between <= (1 - t) * here + t * there + slack
    assert there >= here + inner(difference, grads) - slack  # the gradient at zero groups is a subgradient


@given(cases(), st.data())
def test_linear_in_the_strengths_and_one_number_is_one_for_each(case, data):
    strengths = data.draw(strengths_for(case))
    value, grads = penalty(case.params, case.groups, strengths)
    doubled, doubled_grads = penalty(case.params, case.groups, 2 * strengths)
    assert doubled == 2 * value
    for array in grads:
        np.testing.assert_array_equal(doubled_grads[array], 2 * grads[array])
    same, same_grads = penalty(case.params, case.groups, 0.7)
    each, each_grads = penalty(case.params, case.groups, np.full(case.groups.count, 0.7))
    assert same == pytest.approx(each, rel=1e-14)
    for array in same_grads:
        np.testing.assert_array_equal(same_grads[array], each_grads[array])


def test_a_group_of_strength_zero_pulls_at_nothing():
    _, grads = penalty(tiny(), TINY_GROUPS, TINY_GROUPS.spread({"lstm0": 0.0, "lstm1": 1.0}))
    assert not grads["lstm0/kernel"].any()
    assert grads["lstm1/kernel"][:, 0].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_gradients_have_the_dtype_of_their_weights(dtype):
    params = {array: values.astype(dtype) for array, values in tiny().items()}
    value, grads = penalty(params, TINY_GROUPS, 1.0, **RELEASED)
    assert float(value) == pytest.approx(3.6769239566, rel=1e-6)
    assert {grad.dtype for grad in grads.values()} == {np.dtype(dtype)}


# ---------------------------------------------------------------- zero groups


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128, np.longdouble])
@pytest.mark.parametrize("convention", [{}, {"self_weight": 2}, RELEASED])
def test_a_zero_group_has_zero_gradient_and_no_warning(dtype, convention):
    """All zero, and one unit zero beside live ones; filterwarnings=error is on."""
    value, grads = penalty(TINY.allocate(dtype), TINY_GROUPS, 1.0, **convention)
    assert value == pytest.approx(4 * np.sqrt(convention.get("smoothing", 0)))
    assert not any(grad.any() for grad in grads.values())
    params = {array: values.astype(dtype) for array, values in tiny().items()}
    params["lstm0/kernel"][2] = params["lstm0/kernel"][:, 0::2] = params["lstm1/kernel"][0] = 0
    _, grads = penalty(params, TINY_GROUPS, 1.0, **convention)
    for array, grad in grads.items():
        assert np.isfinite(grad).all()
        np.testing.assert_array_equal(grad == 0, params[array] == 0)


# ---------------------------------------------------------------- error messages


@pytest.mark.parametrize(
    ("strength", "sentence"),
    [
        (np.ones(3), "strength: expected one number or one for each of 4 groups, got shape (3,)"),
        (np.ones((4, 1)), "strength: expected one number or one for each of 4 groups, got shape (4, 1)"),
        (-1.0, "strength: expected finite numbers from 0 up, got -1.0 to -1.0"),
        (np.array([0, 1, -2, 0.5]), "strength: expected finite numbers from 0 up, got -2.0 to 1.0"),
        (np.inf, "strength: expected finite numbers from 0 up, got inf to inf"),
        (np.nan, "strength: expected finite numbers from 0 up, got nan to nan"),
    ],
)
def test_a_bad_strength_is_refused_in_words(strength, sentence):
    with refused(sentence):
        penalty(tiny(), TINY_GROUPS, strength)


def test_a_misshapen_array_is_refused_in_words():
    with refused("softmax/kernel: expected shape (2, 3) for its groups, got (2, 4)"):
        penalty({**tiny(), "softmax/kernel": np.zeros((2, 4))}, TINY_GROUPS, 1.0)


def test_flat_is_the_order_of_the_layout():
    """The vector that all explicit sums here run over holds every weight once."""
    assert flat(tiny(), TINY).sum() == pytest.approx(sum(values.sum() for values in tiny().values()))
