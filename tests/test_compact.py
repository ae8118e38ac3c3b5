"""Compaction: which entries are removed, and its inverse; the networks test that outputs stay the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import alive_for, cases, dead_of, labels, refused, unhooked, with_dead

from issref.iss.compact import compact, expand, zero_dead, zero_small_weights
from issref.iss.groups import alive as alive_of
from issref.iss.layout import Layout
from issref.models import ptb_lstm

TINY = ptb_lstm.layout(ptb_lstm.Config(3, 2, (2, 2)))
FIRST = {"lstm0": np.array([True, False])}


def same(one, other):
    """Equal keys, order, dtypes, shapes and values."""
    assert list(one) == list(other)
    for array in one:
        assert one[array].dtype == other[array].dtype
        np.testing.assert_array_equal(one[array], other[array], strict=True)


def biased(case):
    """The case's params with no zero in them, so that every removed weight matters."""
    return {array: np.where(values == 0, 0.5, values) for array, values in case.params.items()}


def test_an_array_without_axes_is_kept_as_an_array():
    layout = Layout({"scale": (), "bias": (("~unit",),)}, {"unit": 2})
    params, mask = {"scale": np.array(3.0), "bias": np.arange(2.0)}, {"unit": np.array([False, True])}
    small, small_layout = compact(params, layout, mask)
    assert isinstance(small["scale"], np.ndarray)
    small["scale"][()] = 4.0
    assert params["scale"] == 3.0
    full, _ = expand(small, small_layout, mask)
    assert full["scale"] == 4.0


# ---------------------------------------------------------------- what is cut


@given(cases(), st.data())
def test_what_is_left_is_the_alive_positions_of_each_axis(case, data):
    alive = data.draw(alive_for(case.layout))
    dead, params = dead_of(alive), biased(case)
    smaller, layout = compact(params, case.layout, alive)
    layout.check(smaller)
    for array, values in params.items():
        for axis, along in enumerate(labels(case.layout, array)):
            positions = [i for i, (space, k) in enumerate(along) if (space.removeprefix("~"), k) not in dead]
            values = values.take(positions, axis)
        np.testing.assert_array_equal(smaller[array], values, strict=True)


@given(cases(), st.data())
def test_sizes_shrink_by_exactly_the_dead(case, data):
    alive = data.draw(alive_for(case.layout))
    smaller, layout = compact(case.params, case.layout, alive)
    assert layout.axes == case.layout.axes
    for space, size in case.layout.sizes.items():
        assert layout.sizes[space] == size - sum(name == space for name, _ in dead_of(alive))
    assert Layout.from_json(layout.to_json()) == layout
    assert list(smaller) == list(case.params)


def test_a_unit_of_the_first_layer_is_six_slices_and_four_biases():
    """Method sheet, 2.5: rows and columns that stay, by hand."""
    params = TINY.allocate()
    for values in params.values():
        values.flat = np.arange(values.size)
    smaller, layout = compact(params, TINY, FIRST)
    assert layout.sizes == {"word": 3, "embed": 2, "lstm0": 1, "lstm1": 2}
    np.testing.assert_array_equal(smaller["lstm0/kernel"], params["lstm0/kernel"][:3, 0::2])
    np.testing.assert_array_equal(smaller["lstm0/bias"], params["lstm0/bias"][0::2])
    np.testing.assert_array_equal(smaller["lstm1/kernel"], params["lstm1/kernel"][[0, 2, 3]])
    for array in ("embed/kernel", "lstm1/bias", "softmax/kernel", "softmax/bias"):
        np.testing.assert_array_equal(smaller[array], params[array])


def test_weights_at_the_size_of_the_paper():
    """(373, 315) of (1500, 1500) units, width one hundredth: every count follows from the layout."""
    layout = ptb_lstm.layout(ptb_lstm.Config(100, 15, (15, 15)))
    rng = np.random.default_rng(0)
    alive = {"lstm0": rng.permutation(15) < 4, "lstm1": rng.permutation(15) < 3}
    smaller, _ = compact(layout.allocate(), layout, alive)
    lstm0, lstm1, softmax = (15 + 4) * 16 + 16, (4 + 3) * 12 + 12, 3 * 100 + 100
    assert sum(values.size for values in smaller.values()) == 100 * 15 + lstm0 + lstm1 + softmax


@given(cases(), st.sampled_from([0, 1]))
def test_all_dead_and_all_alive_are_legal(case, share):
    alive = {space: np.full(size, bool(share)) for space, size in case.layout.sizes.items()}
    smaller, layout = compact(case.params, case.layout, alive)
    layout.check(smaller)
    assert sum(layout.sizes.values()) == share * sum(case.layout.sizes.values())
    if share:
        assert layout == case.layout
        same(smaller, case.params)


def test_states_and_masks_are_cut_by_the_same_call():
    """The batch is not cut; h and c lose the same units as the kernels; an array may have three axes."""
    states = ptb_lstm.state_layout(TINY, batch=3)
    axes = {**states.axes, "mask": (("batch",), ("batch",), ("~lstm0",))}
    layout = Layout(axes, states.sizes)
    rng = np.random.default_rng(0)
    arrays = {array: rng.normal(size=layout.shape(array)) for array in layout.axes}
    smaller, after = compact(arrays, layout, FIRST)
    after.check(smaller)
    for array, values in arrays.items():
        expected = values if array.startswith("lstm1") else values[..., :1]
        np.testing.assert_array_equal(smaller[array], expected, strict=True)
    same(expand(smaller, after, FIRST)[0], zero_dead(arrays, layout, FIRST))


# ---------------------------------------------------------------- there and back


@given(cases(), st.data())
def test_expand_inverts_compact_where_the_dead_are_zero(case, data):
    alive = data.draw(alive_for(case.layout))
    with unhooked():
        params = with_dead(biased(case), case.layout, dead_of(alive))
    larger, layout = expand(*compact(params, case.layout, alive), alive)
    assert layout == case.layout
    same(larger, params)


@given(cases(), st.data())
def test_compact_inverts_expand(case, data):
    alive = data.draw(alive_for(case.layout))
    smaller, layout = compact(biased(case), case.layout, alive)
    again, same_layout = compact(*expand(smaller, layout, alive), alive)
    assert same_layout == layout
    same(again, smaller)


@given(cases(), st.data())
def test_zeroing_the_dead_is_compact_then_expand_and_nothing_more(case, data):
    alive = data.draw(alive_for(case.layout))
    params = biased(case)
    zeroed = zero_dead(params, case.layout, alive)
    same(zeroed, expand(*compact(params, case.layout, alive), alive)[0])
    same(zeroed, with_dead(params, case.layout, dead_of(alive)))
    same(zero_dead(zeroed, case.layout, alive), zeroed)


@given(cases(), st.data())
def test_two_compactions_are_one(case, data):
    first = data.draw(alive_for(case.layout))
    once, layout = compact(case.params, case.layout, first)
    second = data.draw(alive_for(layout))
    both = {space: np.ones(size, bool) for space, size in case.layout.sizes.items()} | {
        space: mask.copy() for space, mask in first.items()
    }
    for space, mask in second.items():
        both[space][both[space]] = mask
    twice, last = compact(once, layout, second)
    at_once, expected = compact(case.params, case.layout, both)
    assert last == expected
    same(twice, at_once)


@given(cases())
def test_cutting_what_is_dead_by_groups_leaves_only_alive_ones(case):
    """No counted weight is lost, and cutting once is enough."""
    alive = alive_of(case.params, case.groups)
    smaller, layout = compact(case.params, case.layout, alive)
    assert sum(layout.sizes[space] for space in case.spaces) == sum(mask.sum() for mask in alive.values())
    same(compact(smaller, layout, {space: np.ones(layout.sizes[space], bool) for space in alive})[0], smaller)
    larger, _ = expand(smaller, layout, alive)
    for array, axes in case.layout.axes.items():
        if not any(space.startswith("~") for axis in axes for space in axis):
            np.testing.assert_array_equal(larger[array], case.params[array])


@given(cases(), st.data(), st.sampled_from([np.float32, np.complex64, np.int64]))
def test_dtypes_are_kept_and_results_share_no_memory(case, data, dtype):
    alive = data.draw(alive_for(case.layout))
    params = {array: values.astype(dtype) for array, values in case.params.items()}
    smaller, layout = compact(params, case.layout, alive)
    larger, _ = expand(smaller, layout, alive)
    zeroed = zero_dead(params, case.layout, alive)
    for result in (smaller, larger, zeroed):
        assert {values.dtype for values in result.values()} == {np.dtype(dtype)}
    for array in params:
        assert not np.shares_memory(smaller[array], params[array])
        assert not np.shares_memory(larger[array], smaller[array])


def test_zeros_replace_even_what_is_not_a_number():
    params = {array: np.full(values.shape, np.nan) for array, values in TINY.allocate().items()}
    zeroed = zero_dead(params, TINY, FIRST)
    assert (zeroed["lstm0/bias"][1::2] == 0).all()
    assert np.isnan(zeroed["lstm0/bias"][0::2]).all()


# ---------------------------------------------------------------- single weights


@given(cases(), st.floats(0, 3))
def test_small_weights_are_those_strictly_below_the_threshold(case, threshold):
    zeroed = zero_small_weights(case.params, threshold)
    assert list(zeroed) == list(case.params)
    for array, values in case.params.items():
        small = np.abs(values) < threshold
        np.testing.assert_array_equal(zeroed[array][~small], values[~small])
        assert not zeroed[array][small].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_weight_at_the_threshold_stays(dtype):
    """The released code's strict less-than (method sheet, 2.5)."""
    threshold = float(dtype(1e-4))
    edge = np.array([threshold, -threshold, np.nextafter(dtype(threshold), dtype(0)), 0, 1, -1], dtype)
    zeroed = zero_small_weights({"w": edge}, threshold)["w"]
    np.testing.assert_array_equal(zeroed, np.where(np.arange(6) == 2, 0, edge).astype(dtype), strict=True)


# ---------------------------------------------------------------- error messages


@pytest.mark.parametrize("cut", [compact, zero_dead])
@pytest.mark.parametrize(
    ("alive", "sentence"),
    [
        (
            {"lstm9": np.ones(2, bool)},
            "alive: expected spaces of ['embed', 'lstm0', 'lstm1', 'word'], got 'lstm9'",
        ),
        ({"lstm0": np.ones(3, bool)}, "alive: expected 2 booleans for 'lstm0', got bool (3,)"),
        ({"lstm0": np.ones((2, 1), bool)}, "alive: expected 2 booleans for 'lstm0', got bool (2, 1)"),
        ({"lstm0": np.array([0, 1])}, "alive: expected 2 booleans for 'lstm0', got int64 (2,)"),
    ],
)
def test_an_alive_that_misfits_is_refused_in_words(cut, alive, sentence):
    with refused(sentence):
        cut(TINY.allocate(), TINY, alive)


@pytest.mark.parametrize("cut", [compact, zero_dead])
def test_params_that_misfit_are_refused_in_words(cut):
    with refused("lstm0/bias: expected shape (8,) for axes (4 ~lstm0), got (4,)"):
        cut({**TINY.allocate(), "lstm0/bias": np.zeros(4)}, TINY, FIRST)


def test_an_expansion_that_misfits_is_refused_in_words():
    smaller, layout = compact(TINY.allocate(), TINY, FIRST)
    with refused("alive: expected 1 components of 'lstm0' alive, got 2"):
        expand(smaller, layout, {"lstm0": np.ones(2, bool)})
    with refused("lstm0/bias: expected shape (4,) for axes (4 ~lstm0), got (8,)"):
        expand({**smaller, "lstm0/bias": np.zeros(8)}, layout, FIRST)


@pytest.mark.parametrize(
    ("alive", "sentence"),
    [
        (
            {"lstm9": np.ones(2, bool)},
            "alive: expected spaces of ['embed', 'lstm0', 'lstm1', 'word'], got 'lstm9'",
        ),
        ({"lstm0": np.array([0, 1])}, "alive: expected 2 booleans for 'lstm0', got int64 (2,)"),
        ({"lstm0": np.array([[True], [False]])}, "alive: expected 2 booleans for 'lstm0', got bool (2, 1)"),
    ],
)
def test_an_expansion_by_an_alive_that_misfits_is_refused_in_words(alive, sentence):
    smaller, layout = compact(TINY.allocate(), TINY, FIRST)
    with refused(sentence):
        expand(smaller, layout, alive)
