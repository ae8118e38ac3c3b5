"""The released group files are written from layouts and read back with the same groups, sizes and penalty."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import cases, drawn, index_sets, layouts, refused, unhooked

from issref.iss.groups import group_norms, group_squared_norms, iss_groups, pair_squared_norms
from issref.iss.layout import Layout
from issref.iss.penalty import penalty
from issref.models import bidaf, ptb_rhn
from issref.verify.released import bidaf_variables, read_groups, rhn_variables, write_groups

RELEASED = {"self_weight": 2, "smoothing": 1e-8}
SHAPES = {"w": (5, 4), "v": (4, 4), "bias": (4,)}


def shapes_of(layout):
    return {array: layout.shape(array) for array in layout.axes}


def slices(text):
    """Each family as a list of (variable, axis summed away, start, end)."""
    return [
        [(entry["var_name"], entry["axis"], entry["start"], entry["end"]) for entry in family]
        for family in json.loads(text)["groups"]
    ]


def file_of(*families, multi=1.0):
    fields = ("var_name", "axis", "start", "end")
    groups = [[{**dict(zip(fields, entry, strict=True)), "multi": multi} for entry in each] for each in families]
    return json.dumps({"groups": groups})


def sizes(layout, spaces, self_weight):
    """How many weights each group has: the squared norms of weights that are all one."""
    groups = iss_groups(layout, spaces)
    ones = {array: np.ones(layout.shape(array), np.float32) for array in groups.ids}
    return groups.split(group_squared_norms(pair_squared_norms(ones, groups), self_weight))


# ---------------------------------------------------------------- the recurrent highway network


def rhn_slices(width):
    """Method sheet, 3.3: a unit is a column of the embedding, and of each of H_d, T_d a column and the rows that
    read it: the input and the state in micro-layer 0, the state in 1 to 9. Names and order as in the released
    rhns/groups_hidden830.json and groups_hidden1000.json."""
    unit, state = (0, width), (width, 2 * width)
    expected = [("model/embedding", 0, *unit)]
    for matrix in ("model/RHN0/h_0/Linear/Matrix", "model/RHN0/t_0/Linear/Matrix"):
        expected += [(matrix, 1, *unit), (matrix, 1, *state), (matrix, 0, *unit)]
    for layer in range(1, 10):
        for matrix in (f"model/RHN0/h_{layer}/Linear/Matrix", f"model/RHN0/t_{layer}/Linear/Matrix"):
            expected += [(matrix, 1, *unit), (matrix, 0, *unit)]
    return expected


@pytest.mark.parametrize("width", [830, 1000])
def test_the_released_file_comes_out(width):
    text = write_groups(rhn_variables(width, 10), ["width"])
    assert slices(text) == [rhn_slices(width)]
    assert {entry["multi"] for entry in json.loads(text)["groups"][0]} == {1.0}


@pytest.mark.parametrize(("width", "size"), [(830, 46_520), (1000, 54_000)])
def test_group_sizes_of_the_paper(width, size):
    """Every M[k, k], and H_0, T_0 [W + k, k], is counted twice there: 22 weights a group."""
    written = rhn_variables(width, 10)
    layout, spaces = read_groups(file_of(rhn_slices(width)), shapes_of(written))
    assert (sizes(layout, spaces, 2)["group0"] == size).all()
    assert (sizes(layout, spaces, 1)["group0"] == size - 22).all()


@pytest.mark.parametrize(
    ("width", "count"),
    [
        (830, 23_482_400),
        (726, 18_880_192),
        (517, 11_070_698),
        (403, 7_621_058),
        (328, 5_663_408),
        (1000, 32_030_000),
    ],
)
def test_the_parameters_of_the_paper_are_in_the_layout(width, count):
    """Method sheet, section 6: biases too, and narrower by a change of one size."""
    layout = rhn_variables(830, 10).resized({"width": width})
    assert layout.parameters() == count


def test_check_values_of_the_released_penalty():
    """Method sheet, section 6, "RHN tiny", with the layout read back from a file."""
    written = rhn_variables(2, 2, vocabulary=3)
    layout, spaces = read_groups(write_groups(written, ["width"]), shapes_of(written))

    def ramp(rows, per_row, per_column):
        return per_row * (np.arange(rows)[:, None] + 1) + per_column * np.arange(2)

    params = {
        **written.allocate(),
        "model/embedding": ramp(3, 0.1, 0.05),
        "model/RHN0/h_0/Linear/Matrix": ramp(4, 0.03, 0.01),
        "model/RHN0/t_0/Linear/Matrix": ramp(4, -0.02, 0.04),
        "model/RHN0/h_1/Linear/Matrix": ramp(2, 0.05, -0.03),
        "model/RHN0/t_1/Linear/Matrix": ramp(2, 0.02, 0.02),
    }
    layout.check(params)
    groups = iss_groups(layout, spaces)
    assert round(penalty(params, groups, 1.0, **RELEASED)[0], 10) == 1.0416698253
    np.testing.assert_allclose(
        group_squared_norms(pair_squared_norms(params, groups), 2), [0.2238, 0.3233], rtol=1e-14
    )


def apart(arrays, width, depth):
    """Arrays of the model, where H_d and T_d are side by side in one kernel, under the authors' names."""
    found = {"model/embedding": arrays["embed/kernel"]}
    for layer in range(depth):
        kernel = arrays[f"micro{layer}/kernel"]
        found[f"model/RHN0/h_{layer}/Linear/Matrix"] = kernel[:, :width]
        found[f"model/RHN0/t_{layer}/Linear/Matrix"] = kernel[:, width:]
    return found


@given(st.integers(0, 5), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_penalty_and_gradient_are_those_of_the_model_s_layout(width, depth, seed):
    model = ptb_rhn.layout(ptb_rhn.Config(4, width, depth))
    params = drawn(model, np.random.default_rng(seed))
    value, grads = penalty(params, iss_groups(model, ["width"]), 1.0, **RELEASED)
    groups = iss_groups(rhn_variables(width, depth, vocabulary=4), ["width"])
    released_value, released_grads = penalty(apart(params, width, depth), groups, 1.0, **RELEASED)
    assert released_value == pytest.approx(value, rel=1e-13)
    for array, grad in apart(grads, width, depth).items():
        np.testing.assert_allclose(released_grads[array], grad, rtol=1e-12)


# ---------------------------------------------------------------- BiDAF


def bidaf_slices(d):
    """Method sheet, 4.3: for each LSTM its recurrent row, its columns of all gates, and the rows that read it, but
    for the attended rows 10 d to 12 d of g2. Names as in the released bidaf/groups_hidden100.json."""

    def kernel(name):
        return f"main/{name}/basic_lstm_cell/weights"

    def family(name, recurrent, *readers):
        columns = {(kernel(name), 0, gate * d, (gate + 1) * d) for gate in range(4)}
        rows = ((kernel(name), recurrent), *readers)
        return columns | {(variable, 1, start * d, (start + 1) * d) for variable, start in rows}

    g1, g2 = ("g1/fw", "g1/bw"), ("g2/fw", "g2/bw")
    start, end = "main/logits1/first/weights", "main/logits2/first/weights"
    read_by_g1 = [[(kernel(name), way) for name in g1] for way in (0, 1)]
    read_by_g2 = [[(start, way), *((kernel(name), row + way) for row in (8, 12) for name in g2)] for way in (0, 1)]
    return [
        *(family(name, 8, *read_by_g1[way]) for way, name in enumerate(("g0/fw", "g0/bw"))),
        *(family(name, 2, *read_by_g2[way]) for way, name in enumerate(g1)),
        *(family(name, 14, (end, way)) for way, name in enumerate(g2)),
    ]


@pytest.mark.parametrize("size", [100, 150])
def test_the_released_bidaf_file_comes_out(size):
    """As sets: the file's order within a family, own slices first, says nothing."""
    text = write_groups(bidaf_variables(size), bidaf.LEARNED)
    families = slices(text)
    assert [set(family) for family in families] == bidaf_slices(size)
    assert [len(family) for family in families] == [7, 7, 10, 10, 6, 6]
    assert {entry["multi"] for family in json.loads(text)["groups"] for entry in family} == {1.0}


def test_group_sizes_of_the_released_bidaf():
    """Method sheet, 4.3: the code counts the four weights of a component with itself twice. With the attended
    rows, two of 400 columns, g1 has all its readers."""
    written = bidaf_variables(100)
    layout, spaces = read_groups(write_groups(written, bidaf.LEARNED), shapes_of(written), bidaf.LEARNED)
    released = [4800, 4800, 3201, 3201, 6401, 6401]
    assert [set(found) for found in sizes(layout, spaces, 2).values()] == [{size} for size in released]
    assert [set(found) for found in sizes(layout, spaces, 1).values()] == [{size - 4} for size in released]
    whole = [4796, 4796, 3997, 3997, 6397, 6397]
    model = bidaf.layout(bidaf.Config())
    assert [set(found) for found in sizes(model, bidaf.LEARNED, 1).values()] == [{size} for size in whole]


@given(st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_the_penalty_of_the_released_bidaf_is_that_of_the_model_s_released_groups(size, seed):
    model = bidaf.layout(bidaf.Config(3, 2, 4, hidden_size=size), "released")
    params = drawn(model, np.random.default_rng(seed))
    value, _ = penalty(params, iss_groups(model, bidaf.LEARNED), 1.0, **RELEASED)
    names = {"start": "main/logits1/first", "end": "main/logits2/first"}
    named = {
        f"{names.get(name, f'main/{name[:2]}/{name[3:]}/basic_lstm_cell')}/weights": params[f"{name}/kernel"]
        for name in (*bidaf.LEARNED, *names)
    }
    released = iss_groups(bidaf_variables(size), bidaf.LEARNED)
    assert penalty(named, released, 1.0, **RELEASED)[0] == pytest.approx(value, rel=1e-13)


# ---------------------------------------------------------------- round trip


def of_matrices(layout):
    """The layout with its vectors counted nowhere: a file speaks of matrices only."""
    vectors = (array for array, axes in layout.axes.items() if len(axes) == 1)
    bare = {array: (tuple("~" + s.removeprefix("~") for s in layout.axes[array][0]),) for array in vectors}
    with unhooked():
        return Layout({**layout.axes, **bare}, layout.sizes)


def countable(case):
    """The spaces of a case that a file can state: they have a counted segment, or no component."""
    counted = {
        where.segment.space for s in case.spaces for where in case.layout.occurrences(s) if where.segment.counted
    }
    return [space for space in case.spaces if space in counted or not case.layout.sizes[space]]


@given(cases(layouts().map(of_matrices)), st.booleans())
def test_what_is_written_reads_back_as_the_same_groups(case, reverse):
    spaces, shapes = countable(case), shapes_of(case.layout)
    if reverse:  # the order of the variables is the reader's
        shapes = dict(reversed(shapes.items()))
    text = write_groups(case.layout, spaces)
    layout, names = read_groups(text, shapes, spaces)
    assert names == spaces
    assert shapes_of(layout) == shapes
    assert index_sets(layout, spaces) == index_sets(case.layout, spaces)
    norms = (group_norms(case.params, iss_groups(each, spaces)) for each in (layout, case.layout))
    np.testing.assert_allclose(*norms, rtol=1e-14)


@given(cases(layouts().map(of_matrices)))
def test_what_is_read_is_written_as_it_was(case):
    text = write_groups(case.layout, countable(case))
    layout, names = read_groups(text, shapes_of(case.layout))
    assert names == [f"group{n}" for n in range(len(names))]
    assert write_groups(layout, names) == text


@given(cases(layouts().map(of_matrices)), st.integers(1, 4))
def test_a_space_counted_nowhere_is_refused_in_words(case, size):
    """Its size would be lost."""
    layout = Layout({**case.layout.axes, "lost/bias": (("~lost",),)}, {**case.layout.sizes, "lost": size})
    with refused("space 'lost': expected a counted segment, got none"):
        write_groups(layout, [*countable(case), "lost"])


def test_what_no_entry_names_becomes_a_space_of_its_own():
    """In the released BiDAF the attended rows 1000 to 1199 of g2 beside those of the attention."""
    written = bidaf_variables(100)
    layout, _ = read_groups(write_groups(written, bidaf.LEARNED), shapes_of(written))
    kernel = "main/g2/fw/basic_lstm_cell/weights"
    assert [segment.space for segment in layout.segments(kernel, 0) if segment.start in (0, 1000)] == [
        f"in no group: axis 0 of {kernel}, 0:800",
        f"in no group: axis 0 of {kernel}, 1000:1200",
    ]


def test_a_file_has_comments_and_plain_numbers():
    with unhooked():  # the hook wants plain numbers, the layout takes NumPy's too
        layout = Layout({"w": (("a", "b"), ("~b",))}, {"a": np.int64(1), "b": np.int64(2)})
        text = write_groups(layout, ["b"], comments=["b is read, not written"])
    entry = {"var_name": "w", "multi": 1.0, "axis": 1, "start": 1, "end": 3}
    assert json.loads(text) == {"comments": ["b is read, not written"], "groups": [[entry]]}


# ---------------------------------------------------------------- sentences


def test_what_a_file_cannot_say_is_refused_in_words():
    layout = Layout({"v": (("a",),), "w": (("b",), ("~a",))}, {"a": 2, "b": 1})
    with refused("v: expected a matrix, as in every group file, got 1 axes"):
        write_groups(layout, ["a"])
    with refused("groups: expected spaces of ['a', 'b'], got 'c'"):
        write_groups(layout, ["c"])
    assert slices(write_groups(layout, ["b"])) == [[("w", 1, 0, 1)]]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("groups_hidden830.json", "group file: expected JSON, got Invalid JSON: expected value at line 1"),
        ("[" * 100_000, "group file: expected JSON, got Invalid JSON: recursion limit"),
        ("[]", "group file: expected an object, got []"),
        ("{}", "group file, groups: expected a value, got none"),
        ('{"groups": {"w": []}}', "group file, groups: expected a valid array, got {'w': []}"),
        ('{"groups": [""]}', "group file, groups[0]: expected a valid array, got ''"),
        ('{"groups": [[], ["w"]]}', "group file, groups[1][0]: expected an object, got 'w'"),
        (
            '{"groups": [[{"var_name": "w", "axis": 0}]]}',
            "group file, groups[0][0].multi: expected a value, got none",
        ),
        (
            '{"groups": [[{"var_name": "w", "multi": 1, "axis": 0, "start": 0, "end": 2, "a b": 7}]]}',
            "group file, groups[0][0]['a b']: expected no such field, got 7",
        ),
        (
            file_of([("u", 0, 0, 2)]),
            "groups[0][0], 'u': expected a variable of known shape, got none",
        ),
        (file_of([(["w"], 0, 0, 2)]), "groups[0][0].var_name: expected a valid string, got ['w']"),
        (file_of([("bias", 0, 0, 2)]), "groups[0][0], 'bias': expected a matrix, got shape (4,)"),
        (
            file_of([("w", 0, 0, 2)], multi=1.5),
            "groups[0][0], 'w': expected multi 1 (the factor c of a family is sqrt(c) in its strength), got 1.5",
        ),
        (
            file_of([("w", 0, 0, 2), ("w", 2, 0, 2)]),
            "groups[0][1].axis: expected less than or equal to 1, got 2",
        ),
        (file_of([("w", True, 0, 2)]), "groups[0][0].axis: expected a valid integer, got True"),
        (file_of([("w", 0, 0, 2.0)]), "groups[0][0].end: expected a valid integer, got 2.0"),
        (file_of([("w", 0, 3, 5)]), "groups[0][0], 'w': expected a slice of 0:4 for axis 0, got 3:5"),
        (file_of([("w", 1, 4, 6)]), "groups[0][0], 'w': expected a slice of 0:5 for axis 1, got 4:6"),
        (file_of([("w", 0, -1, 2)]), "expected a slice of 0:4 for axis 0, got -1:2"),
        (file_of([("w", 0, 2, 2)]), "expected a slice of 0:4 for axis 0, got 2:2"),
        (file_of([], [("w", 1, 0, 2), ("w", 0, 0, 3)]), "groups[1]: expected slices of one length, got [2, 3]"),
        (
            file_of([("w", 1, 0, 2)], [("v", 1, 0, 2), ("w", 1, 1, 3)]),
            "w: expected slices of rows that do not overlap, got 0:2 and 1:3",
        ),
        (
            file_of([("w", 0, 2, 4), ("w", 0, 2, 4)]),
            "w: expected slices of columns that do not overlap, got 2:4 and 2:4",
        ),
    ],
    ids=itertools.count(),
)
def test_what_is_no_group_file_is_refused_in_words(text, sentence):
    with refused(sentence):
        read_groups(text, SHAPES)


@pytest.mark.parametrize("names", [["a"], ["a", "a"], ["a", "~b"], ["a", "in no group: axis 0 of v, 0:4"], "abc"])
def test_names_of_families_are_as_many_and_different(names):
    text = file_of([("w", 1, 0, 2)], [("w", 0, 0, 3)])
    with refused('spaces: expected 2 different names without "~" or "in no group: ", got '):
        read_groups(text, SHAPES, names)
    assert read_groups(text, SHAPES, ["a", "b"])[1] == ["a", "b"]
