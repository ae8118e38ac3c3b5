"""Shapes of a layout add up, JSON round-trips, and arrays that do not fit are refused."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import labels, layouts, refused, unhooked

from issref.iss.layout import Layout
from issref.models import ptb_lstm

TINY = Layout(
    {"lstm0/kernel": (("embed", "lstm0"), 4 * ("lstm0",)), "lstm0/bias": (4 * ("~lstm0",),)},
    {"embed": 3, "lstm0": 4},
)


# ---------------------------------------------------------------- theorems


def test_the_layout_of_an_lstm():
    assert TINY.shape("lstm0/kernel") == (7, 16)
    assert TINY.shape("lstm0/bias") == (16,)
    assert [tuple(segment) for segment in TINY.segments("lstm0/kernel", 0)] == [
        ("embed", 0, 3, True),
        ("lstm0", 3, 7, True),
    ]
    assert [tuple(segment) for segment in TINY.segments("lstm0/bias", 0)] == [
        ("lstm0", 4 * gate, 4 * gate + 4, False) for gate in range(4)
    ]
    assert TINY.spell("lstm0/kernel") == "embed + lstm0, 4 lstm0"


def test_the_layout_of_the_paper():
    """Two layers of 1500 units, embedding width 1500, 10,000 words: 66.022 million parameters."""
    layout = ptb_lstm.layout(ptb_lstm.Config(10_000, 1500, (1500, 1500)))
    assert layout.shape("lstm0/kernel") == layout.shape("lstm1/kernel") == (3000, 6000)
    assert sum(np.prod(layout.shape(array)) for array in layout.axes) == 66_022_000
    small = layout.resized({"lstm0": 373, "lstm1": 315})
    assert sum(np.prod(small.shape(array)) for array in small.axes) == 21_824_148
    assert layout.sizes["lstm0"] == 1500


@given(layouts())
def test_shapes_add_up(layout):
    for array, axes in layout.axes.items():
        assert layout.shape(array) == tuple(map(len, labels(layout, array)))
        assert len(axes) == len(layout.shape(array))


@given(layouts())
def test_json_round_trips(layout):
    assert Layout.from_json(layout.to_json()) == layout
    assert list(json.loads(layout.to_json())["axes"]) == list(layout.axes)


def test_numpy_sizes_round_trip():
    with unhooked():
        layout = Layout({"w": (("a",),)}, {"a": np.int64(3)})
    assert Layout.from_json(layout.to_json()) == layout


@given(layouts())
def test_occurrences_tile_each_axis(layout):
    """Sorted by position, the occurrences of all spaces give each axis as written, without gap or overlap."""
    found = {(array, axis): [] for array, axes in layout.axes.items() for axis in range(len(axes))}
    for space in layout.sizes:
        for array, axis, (name, start, stop, counted) in layout.occurrences(space):
            assert name == space
            spelled = space if counted else "~" + space
            found[array, axis] += [(start + k, (spelled, k)) for k in range(stop - start)]
    for (array, axis), placed in found.items():
        assert sorted(placed) == list(enumerate(labels(layout, array)[axis]))


@given(layouts(), st.sampled_from([np.float32, np.float64, np.complex128]))
def test_what_is_allocated_is_zero_and_fits(layout, dtype):
    params = layout.allocate(dtype)
    layout.check(params)
    assert all(values.dtype == dtype and not values.any() for values in params.values())


@given(layouts(), st.data())
def test_resizing_changes_the_sizes_named_and_nothing_else(layout, data):
    sizes = data.draw(st.dictionaries(st.sampled_from(list(layout.sizes)), st.integers(0, 9)))
    resized = layout.resized(sizes)
    assert resized.axes == layout.axes
    assert resized.sizes == {space: sizes.get(space, size) for space, size in layout.sizes.items()}


@given(layouts(), st.data())
def test_a_misfit_is_refused_by_its_name(layout, data):
    params = layout.allocate()
    array = data.draw(st.sampled_from(list(params)))
    axis = data.draw(st.integers(0, params[array].ndim - 1))
    longer = [length + (a == axis) for a, length in enumerate(params[array].shape)]
    params[array] = np.zeros(longer)
    with refused(
        f"{array}: expected shape {layout.shape(array)} for axes ({layout.spell(array)}), got {tuple(longer)}"
    ):
        layout.check(params)


# ---------------------------------------------------------------- error messages


def test_a_wrong_shape_is_refused_in_words():
    params = {"lstm0/kernel": np.zeros((5, 8)), "lstm0/bias": np.zeros(16)}
    with refused("lstm0/kernel: expected shape (7, 16) for axes (embed + lstm0, 4 lstm0), got (5, 8)"):
        TINY.check(params)


def test_missing_and_unknown_arrays_are_refused_in_words():
    with refused("params: expected the arrays of the layout, got missing: ['lstm0/bias'], unknown: none"):
        TINY.check({"lstm0/kernel": np.zeros((7, 16))})
    with refused("params: expected the arrays of the layout, got missing: none, unknown: ['extra']"):
        TINY.check({**TINY.allocate(), "extra": np.zeros(1)})


@pytest.mark.parametrize(
    ("axes", "sizes", "sentence"),
    [
        ({"w": (("a", "b"),)}, {"a": 1}, "w: expected a size for space 'b', got ['a']"),
        ({"w": (("~b",),)}, {"a": 1}, "w: expected a size for space 'b', got ['a']"),
        ({"w": ("ab",)}, {"a": 1, "b": 1}, "w: expected a tuple of spaces for each axis, got the string 'ab'"),
        ({"w": (("a",),)}, {"a": -1}, "space 'a': expected a whole number from 0 to 2^31 - 1 as size, got -1"),
        (
            {"w": (("a",),)},
            {"a": 2**31},
            "space 'a': expected a whole number from 0 to 2^31 - 1 as size, got 2147483648",
        ),
        ({"w": (("a",),)}, {"a": 1.5}, "space 'a': expected a whole number from 0 to 2^31 - 1 as size, got 1.5"),
        ({"w": (("a",),)}, {"a": True}, "space 'a': expected a whole number from 0 to 2^31 - 1 as size, got True"),
    ],
)
def test_a_bad_layout_is_refused_in_words(axes, sizes, sentence):
    with refused(sentence):
        Layout(axes, sizes)


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", '{"axes": {}}', '{"axes": {"w": 3}, "sizes": {}}'])
def test_json_that_is_no_layout_is_refused_in_words(text):
    with refused(f"layout: expected JSON with axes and sizes, got {text!r}"):
        Layout.from_json(text)


def test_json_of_a_bad_layout_is_refused_in_words():
    with refused("w: expected a size for space 'a', got []"):
        Layout.from_json('{"axes": {"w": [["a"]]}, "sizes": {}}')


def test_resizing_to_a_bad_size_is_refused_in_words():
    with refused("space 'lstm0': expected a whole number from 0 to 2^31 - 1 as size, got -2"):
        TINY.resized({"lstm0": -2})
