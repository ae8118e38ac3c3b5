"""Groups are the sets of weights the paper defines, found here by plain loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import cases, generic_layouts, index_sets, labels, layouts, refused, spaces_of

from issref.iss.groups import Groups, alive, group_norms, group_squared_norms, iss_groups, pair_squared_norms
from issref.iss.layout import Layout
from issref.models import ptb_lstm

TINY = ptb_lstm.layout(ptb_lstm.Config(3, 2, (2, 2)))
TINY_GROUPS = iss_groups(TINY, ("lstm0", "lstm1"))


def sets_from_ids(groups: Groups) -> list[set[tuple[str, int]]]:
    """The groups as sets, from the ids: weight (i, j) is in the group of row i and in that of column j."""
    sets = [set() for _ in range(groups.count)]
    for array, (rows, columns) in groups.ids.items():
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                for g in {row, column} - {-1}:
                    sets[g].add((array, i * len(columns) + j))
    return sets


def sizes_from_ids(groups: Groups, self_weight: int) -> np.ndarray:
    """The number of weights in each group, from the ids alone: rows times columns."""
    sizes = np.zeros(groups.count + 1, int)
    for rows, columns in groups.ids.values():
        np.add.at(sizes, rows, len(columns))
        np.add.at(sizes, columns, len(rows))
        both = np.bincount(rows[rows >= 0], minlength=len(sizes)) * np.bincount(
            columns[columns >= 0], minlength=len(sizes)
        )
        sizes -= (2 - self_weight) * both
    return sizes[:-1]


# ---------------------------------------------------------------- which weights


@given(layouts(), st.data())
def test_ids_equal_the_explicit_index_sets(layout, data):
    spaces = data.draw(spaces_of(layout))
    groups = iss_groups(layout, spaces)
    expected = index_sets(layout, spaces)
    assert sets_from_ids(groups) == list(expected.values())
    assert [groups.first[space] + k for space, k in expected] == list(range(groups.count))


def test_the_group_of_an_lstm_unit_is_six_slices():
    """Method sheet, 2.3: four gate columns, the recurrent row, the row that reads it."""
    expected = {("lstm0/kernel", 8 * row + 2 * gate) for row in range(4) for gate in range(4)}
    expected |= {("lstm0/kernel", 8 * 2 + column) for column in range(8)}
    expected |= {("lstm1/kernel", column) for column in range(8)}
    assert sets_from_ids(TINY_GROUPS)[0] == expected
    assert not any("bias" in array or "embed" in array for array in TINY_GROUPS.ids)


@pytest.mark.parametrize(("self_weight", "sizes"), [(2, (24_000, 28_000)), (1, (23_996, 27_996))])
def test_sizes_of_the_paper(self_weight, sizes):
    layout = ptb_lstm.layout(ptb_lstm.Config(10_000, 1500, (1500, 1500)))
    groups = iss_groups(layout, ("lstm0", "lstm1"))
    assert groups.count == 3000
    for found, size in zip(groups.split(sizes_from_ids(groups, self_weight)).values(), sizes, strict=True):
        assert (found == size).all()


def test_a_vector_is_counted_like_a_matrix_of_one_column():
    layout = Layout({"w": (("a", "~a", "b"),)}, {"a": 2, "b": 1})
    groups = iss_groups(layout, ("b", "a"))
    np.testing.assert_allclose(group_norms({"w": np.array([3.0, 4, 5, 6, 7])}, groups), [7, 3, 4], rtol=1e-15)


# ---------------------------------------------------------------- norms


@given(cases())
def test_norms_equal_those_over_the_sets(case):
    np.testing.assert_allclose(group_norms(case.params, case.groups), case.norms(case.v), rtol=1e-13)


@given(cases())
def test_self_weights_are_counted_as_often_as_asked(case):
    """Twice: the norm of own columns squared, plus that of own rows, as the released code adds them."""
    by_rows_and_columns = np.zeros(case.groups.count)
    for array, values in case.params.items():
        for axis, along in enumerate(labels(case.layout, array)):
            for position, (space, k) in enumerate(along):
                if space in case.groups.first:
                    slice_ = values.take(position, axis)
                    by_rows_and_columns[case.groups.first[space] + k] += np.sum(slice_**2)
    table = pair_squared_norms(case.params, case.groups)
    np.testing.assert_allclose(group_squared_norms(table, 2), by_rows_and_columns, rtol=1e-12)
    np.testing.assert_allclose(group_squared_norms(table, 1), case.norms(case.v) ** 2, rtol=1e-12, atol=1e-300)


@given(cases(), st.integers(0, 2**32 - 1))
def test_relabelling_components_permutes_norms(case, seed):
    rng = np.random.default_rng(seed)
    order = {space: rng.permutation(size) for space, size in case.layout.sizes.items()}
    moved = dict(case.params)
    for array, axes in case.layout.axes.items():
        for axis in range(len(axes)):
            where = np.arange(case.layout.shape(array)[axis])
            for space, start, stop, _ in case.layout.segments(array, axis):
                where[start:stop] = start + order[space]
            moved[array] = moved[array].take(where, axis)
    before, after = (case.groups.split(group_norms(params, case.groups)) for params in (case.params, moved))
    for space in case.spaces:
        np.testing.assert_allclose(after[space], before[space][order[space]], rtol=1e-13)


@given(cases())
def test_norms_of_float32_are_summed_in_float64(case):
    params = {array: values.astype(np.float32) for array, values in case.params.items()}
    exact = {array: values.astype(np.float64) for array, values in params.items()}
    found = group_norms(params, case.groups)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, group_norms(exact, case.groups), rtol=1e-13)


# ---------------------------------------------------------------- one value for each group, or for each space


@given(layouts(), st.data())
def test_split_sorts_by_space_and_spread_is_its_inverse_on_constants(layout, data):
    spaces = data.draw(spaces_of(layout))
    groups = iss_groups(layout, spaces)
    parts = groups.split(np.arange(groups.count))
    assert list(parts) == spaces
    assert [len(parts[space]) for space in spaces] == [layout.sizes[space] for space in spaces]
    np.testing.assert_array_equal(np.concatenate(list(parts.values())), np.arange(groups.count))
    values = {space: float(index + 1) for index, space in enumerate(spaces)}
    for space, part in groups.split(groups.spread(values)).items():
        assert (part == values[space]).all()


def test_spread_refuses_to_guess():
    with refused("spread: expected a value for each of ['lstm0', 'lstm1'], got ['lstm1']"):
        TINY_GROUPS.spread({"lstm1": 3.0})


# ---------------------------------------------------------------- alive


@given(cases())
def test_alive_is_where_the_group_is_not_all_zero(case):
    found = alive(case.params, case.groups)
    assert list(found) == case.spaces
    np.testing.assert_array_equal(np.concatenate(list(found.values())), (case.member & (case.v != 0)).any(axis=1))


@given(cases(), st.data())
def test_alive_by_readers_is_where_a_slice_along_them_is_not_all_zero(case, data):
    pairs = [(array, axis) for array in case.groups.ids for axis in range(len(case.layout.axes[array]))]
    readers = data.draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    expected = np.zeros(case.groups.count, bool)
    for array, axis in readers:
        for position, (space, k) in enumerate(labels(case.layout, array)[axis]):
            if space in case.groups.first and case.params[array].take(position, axis).any():
                expected[case.groups.first[space] + k] = True
    found = alive(case.params, case.groups, readers)
    np.testing.assert_array_equal(np.concatenate(list(found.values())), expected)


def test_a_pattern_names_every_array_it_matches():
    params = TINY.allocate()
    params["lstm0/kernel"][3, 0] = 1  # read by the recurrence: unit 1 of layer 0
    params["lstm1/kernel"][0, 0] = 1  # read by the layer above: unit 0 of layer 0
    params["softmax/kernel"][1, 2] = 1  # unit 1 of layer 1
    by_readers = alive(params, TINY_GROUPS, ptb_lstm.READERS)
    np.testing.assert_array_equal(by_readers["lstm0"], [True, True])
    np.testing.assert_array_equal(by_readers["lstm1"], [False, True])
    by_name = alive(params, TINY_GROUPS, [("lstm1/kernel", 0)])
    np.testing.assert_array_equal(by_name["lstm0"], [True, False])
    by_group = alive(params, TINY_GROUPS)
    np.testing.assert_array_equal(by_group["lstm1"], [True, True])  # column 0 of its kernel is unit 0's


def test_a_unit_that_nothing_reads_is_dead_by_readers_whatever_its_columns():
    params = TINY.allocate()
    params["lstm1/kernel"][:2] = 1  # columns of both units of layer 1, rows that read layer 0
    np.testing.assert_array_equal(alive(params, TINY_GROUPS, ptb_lstm.READERS)["lstm1"], [False, False])
    np.testing.assert_array_equal(alive(params, TINY_GROUPS)["lstm1"], [True, True])


@pytest.mark.parametrize("widths", [(2, 0), (0,)])
def test_readers_of_a_layer_of_width_zero_are_legal(widths):
    layout = ptb_lstm.layout(ptb_lstm.Config(3, 2, widths))
    found = alive(layout.allocate(), iss_groups(layout, ptb_lstm.spaces(layout.axes)), ptb_lstm.READERS)
    assert [len(mask) for mask in found.values()] == list(widths)


def test_no_spaces_are_no_groups():
    groups = iss_groups(TINY, ())
    assert groups.count == 0
    assert alive(TINY.allocate(), groups) == {}


# ---------------------------------------------------------------- error messages


def test_a_reader_that_matches_nothing_is_refused_in_words():
    names = ["lstm0/kernel", "lstm1/kernel", "softmax/kernel"]
    with refused(f"readers: expected a pattern that matches one of {names}, got 'lstm9*'"):
        alive(TINY.allocate(), TINY_GROUPS, [("lstm9*", 0)])
    with refused(f"readers: expected a pattern that matches one of {names}, got 'lstm0/bias'"):
        alive(TINY.allocate(), TINY_GROUPS, [("lstm0/bias", 0)])


def test_an_unknown_space_is_refused_in_words():
    with refused("groups: expected spaces of ['embed', 'lstm0', 'lstm1', 'word'], got 'lstm2'"):
        iss_groups(TINY, ("lstm0", "lstm2"))


def test_a_grouped_array_of_three_axes_is_refused_in_words():
    layout = Layout({"w": (("a",), ("a",), ("a",)), "mask": (("~a",), ("~a",), ("~a",))}, {"a": 2})
    with refused("w: expected one or two axes for a grouped array, got 3"):
        iss_groups(layout, ("a",))


@given(generic_layouts(), st.data())
def test_three_axes_without_a_counted_space_are_in_no_group(layout, data):
    """Dropout masks, say: (T, B, ~lstm0)."""
    spaces = data.draw(spaces_of(layout))
    mask = {"mask": ((f"~{spaces[0]}",), (f"~{spaces[0]}",), (f"~{spaces[0]}",))}
    with_mask = Layout({**layout.axes, **mask}, layout.sizes)
    assert iss_groups(with_mask, spaces).ids.keys() == iss_groups(layout, spaces).ids.keys()


@pytest.mark.parametrize("ask", [group_norms, alive, pair_squared_norms])
def test_a_missing_or_misshapen_array_is_refused_in_words(ask):
    params = TINY.allocate()
    with refused("softmax/kernel: expected shape (2, 3) for its groups, got (3, 2)"):
        ask({**params, "softmax/kernel": np.zeros((3, 2))}, TINY_GROUPS)
    del params["lstm1/kernel"]
    with refused(
        "lstm1/kernel: expected this grouped array in params, got ['embed/kernel', 'lstm0/bias', 'lstm0/kernel'"
    ):
        ask(params, TINY_GROUPS)
