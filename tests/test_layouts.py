"""A right layout passes; a wrong one is refused, and the array that was forgotten is named."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import RIGHT, Network, X, run_lstm, softmax
from strategies import labels, refused, unhooked

from issref.iss.compact import compact
from issref.iss.groups import alive, iss_groups
from issref.iss.layout import Layout
from issref.models import bidaf
from issref.models.ptb_lstm import lstm_axes
from issref.verify.layouts import check_layout
from issref.verify.layouts.claim import differences, draw_trial, outputs_of

SMALL = [name for name in RIGHT if name != "bidaf"]
seeds = st.integers(0, 2**32 - 1)


def check(network, **keywords):
    with unhooked():
        check_layout(network.function, network.params, *network[1:], **keywords)


def message_of(network, **keywords):
    with pytest.raises(ValueError, match="expected") as caught:
        check(network, **keywords)
    return str(caught.value)


def with_axes(network, axes=None, **sizes):
    """The network with other axes of some arrays."""
    layout = Layout({**network.layout.axes, **(axes or {})}, {**network.layout.sizes, **sizes})
    return network._replace(layout=layout)


def without_reader(name, place):
    """A right network whose readers are written one by one, without (array, axis)."""
    return RIGHT[name]._replace(readers=tuple(one for one in places(RIGHT[name]) if one != place))


def places(network):
    """All (array, axis) that read, for the patterns among the readers."""
    return [
        (array, axis)
        for pattern, axis in network.readers
        for array in network.layout.axes
        if re.fullmatch(pattern.replace("*", ".*").replace("?", "."), array)
    ]


# ---------------------------------------------------------------- right layouts


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_layout_passes(name):
    check(RIGHT[name])


@pytest.mark.parametrize("name", ["torch", "crnn", "gru"])
def test_a_right_layout_passes_in_single_precision(name):
    params = RIGHT[name].layout.allocate(np.float32)
    check_layout(RIGHT[name].function, params, *RIGHT[name][1:])


@given(st.sampled_from(list(RIGHT)), seeds, st.data())
def test_any_components_that_nothing_reads_can_be_removed(name, seed, data):
    """What passing promises, for any set of dead components, which `alive` finds."""
    function, layout, spaces, readers = RIGHT[name]
    dead = {space: data.draw(st.sets(st.integers(0, layout.sizes[space] - 2))) for space in spaces}
    with unhooked():
        params, tolerances = draw_trial(function, RIGHT[name].params, np.random.default_rng(seed))
        for array, axis in places(RIGHT[name]):
            along = np.moveaxis(params[array], axis, 0)
            for position, (space, component) in enumerate(labels(layout, array)[axis]):
                if component in dead.get(space, ()):
                    along[position] = 0
        masks = alive(params, iss_groups(layout, spaces), readers)
        assert {space: set(np.flatnonzero(~mask)) for space, mask in masks.items()} == dead
        smaller, _ = compact(params, layout, masks)
        changes = differences(outputs_of(function(params)), outputs_of(function(smaller)))
        assert all(change <= most for change, most in zip(changes, tolerances, strict=True))


# ---------------------------------------------------------------- wrong layouts, by theorem


@given(st.sampled_from(SMALL), st.data())
def test_every_slice_that_is_forgotten_is_found_and_its_array_named(name, data):
    """One segment of one array gets a space of its own, of the right size."""
    network = RIGHT[name]
    where = [one for space in network.spaces for one in network.layout.occurrences(space)]
    array, axis, segment = data.draw(st.sampled_from(where))
    axes = [list(spaces) for spaces in network.layout.axes[array]]
    axes[axis][network.layout.segments(array, axis).index(segment)] = "other"
    wrong = with_axes(network, {array: tuple(map(tuple, axes))}, other=segment.stop - segment.start)
    found, advice = message_of(wrong).split("; the layout is complete with ")
    assert f"{segment.space!r}: expected the same outputs without component" in found
    assert re.search(rf"{re.escape(array)}( as \(|$)", advice)


@given(st.sampled_from(SMALL), st.data())
def test_every_reader_that_is_forgotten_is_found_and_named(name, data):
    place = data.draw(st.sampled_from(places(RIGHT[name])))
    counted = [s.space for s in RIGHT[name].layout.segments(*place) if s.space in RIGHT[name].spaces]
    if counted:
        advice = message_of(without_reader(name, place)).split("; ")[1]
        assert advice == f"the layout is complete with {place} among the readers"


@given(st.sampled_from(["crnn", "sequence to sequence"]))
def test_every_order_of_two_inputs_but_one_is_refused(name):
    rows = RIGHT[name].layout.axes["out"][0]
    advice = message_of(with_axes(RIGHT[name], {"out": (rows[::-1], ("y",))})).split("; ")[1]
    assert advice == f"the layout is complete with out as ({' + '.join(rows)}, y)"


# ---------------------------------------------------------------- wrong layouts, planted


def two_spaces(name, arrays):
    """A network whose one space "h" has another name in some arrays."""
    named, layout = {"h": "g", "~h": "~g"}, RIGHT[name].layout
    renamed = {
        array: tuple(tuple(named.get(space, space) for space in axis) for axis in layout.axes[array])
        for array in arrays
    }
    network = with_axes(RIGHT[name], renamed, g=layout.sizes["h"])
    return network._replace(spaces=("h", "g"))


def on_lstm(function, **arrays):
    """A network of one LSTM "h", further arrays, and a function of its outputs and the params."""
    layout = Layout({**lstm_axes("h", ("x",)), **arrays}, {"x": 3, "h": 4, "y": 2})
    readers = (("h/kernel", 0), *((array, 0) for array in arrays if array == "out"))
    return Network(lambda params: function(run_lstm(params, "h", X), params), layout, ("h",), readers)


def normalise(x):
    return (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)


def by_unit(*arrays):
    """An LSTM whose gates are stored unit by unit in some arrays."""

    def function(params):
        changed = {array: np.moveaxis(_reshaped(params[array]), -1, -2) for array in arrays}
        return RIGHT["lstm"].function({**params, **{a: v.reshape(params[a].shape) for a, v in changed.items()}})

    return RIGHT["lstm"]._replace(function=function)


def _reshaped(values):
    return values.reshape(*values.shape[:-1], values.shape[-1] // 4, 4)


OUT = (("h",), ("y",))
NOT_LOSSLESS = (
    "removal is not lossless if an operation without weights reads a component, as the mean of a LayerNorm"
)
PLANTED = {
    "the softmax does not read": (without_reader("lstm", ("softmax/kernel", 0)), "('softmax/kernel', 0)"),
    "the next layer does not read": (without_reader("stacked", ("lstm1/kernel", 0)), "('lstm1/kernel', 0)"),
    "the tied matrix does not read": (without_reader("tied", ("embed", 1)), "('embed', 1)"),
    "the convolution does not read": (without_reader("convolution after", ("conv", 0)), "('conv', 0)"),
    "a small output beside a large one": (
        on_lstm(lambda h, p: (1e6 * h @ p["out"], 1e-6 * h @ p["peek"]), out=OUT, peek=OUT)._replace(
            readers=(("h/kernel", 0), ("out", 0))
        ),
        "('peek', 0)",
    ),
    "the wrong axis reads": (
        RIGHT["torch"]._replace(readers=(("weight_ih*", 1), ("weight_hh*", 0), ("out", 0))),
        "('weight_hh_l0', 1)",
    ),
    "the attended rows are not counted": (
        RIGHT["bidaf"]._replace(layout=bidaf.layout(bidaf.Config(6, 4, 7, 2, 2, 3, 3), groups="released")),
        "g2.fw/kernel as (h.fw + ",
    ),
    "the softmax rows are something else": (
        with_axes(RIGHT["lstm"], {"softmax/kernel": (("other",), ("word",))}, other=4),
        "softmax/kernel as (lstm0, word)",
    ),
    "the bias is not cut": (
        with_axes(RIGHT["lstm"], {"lstm0/bias": (("other",),)}, other=16),
        "lstm0/bias as (4 ~lstm0)",
    ),
    "the second bias is not cut": (
        with_axes(RIGHT["gru"], {"c": (("other",),)}, other=12),
        "c as (3 ~h)",
    ),
    "the recurrent rows are taken for input": (
        with_axes(RIGHT["lstm"], {"lstm0/kernel": (("other",), 4 * ("lstm0",))}, other=7),
        "lstm0/kernel as (not lstm0 + lstm0, 4 lstm0)",
    ),
    "the windows of a convolution are not cut": (
        with_axes(RIGHT["convolution after"], {"conv": (("other",), ("f",))}, other=12),
        "conv as (3 h, f)",
    ),
    "the classes are taken for units": (
        with_axes(on_lstm(lambda h, p: (h @ p["out"])[..., 0], out=OUT), {"out": (("h",), ("h",))}, h=4),
        "out as (h, not h)",
    ),
    "the axes are exchanged": (
        with_axes(RIGHT["gru"], {"out": (("h",), ("y",))}, y=4),
        "out as (y, h)",
    ),
    "the directions are exchanged": (
        with_axes(RIGHT["crnn"], {"out": (("bw", "fw"), ("y",))}),
        "out as (fw + bw, y)",
    ),
    "gates unit by unit": (
        by_unit("lstm0/kernel", "lstm0/bias"),
        "the blocks of 'lstm0' end to end, not unit by unit, in lstm0/kernel (axis 1), lstm0/bias (axis 0)",
    ),
    "gates of a bias unit by unit": (
        by_unit("lstm0/bias"),
        "the blocks of 'lstm0' end to end, not unit by unit, in lstm0/bias (axis 0)",
    ),
    "a residual sum of two spaces": (
        two_spaces("residual", ["b/kernel", "b/bias"]),
        "'h' and 'g' as one space in b/kernel, b/bias",
    ),
    "a sum of both directions": (
        two_spaces("directions summed", ["bw/kernel", "bw/bias"]),
        "'h' and 'g' as one space in bw/kernel, bw/bias",
    ),
    "a tied matrix of two spaces": (
        two_spaces("tied", ["h/kernel", "h/bias"]),
        "'h' and 'g' as one space in h/kernel, h/bias",
    ),
    "a layer normalisation": (on_lstm(lambda h, p: normalise(h) @ p["out"], out=OUT), NOT_LOSSLESS),
    "a softmax over units": (on_lstm(lambda h, p: softmax(h.T).T @ p["out"], out=OUT), NOT_LOSSLESS),
    "a mean over units": (on_lstm(lambda h, p: h.mean(axis=-1)), NOT_LOSSLESS),
    "a product of outputs": (
        on_lstm(lambda h, p: np.einsum("sbh,tbh->stb", h, h)),
        "h/bias as (4 h) and ('h/bias', 0) among the readers and ('h/kernel', 1)",
    ),
    "the outputs are units": (on_lstm(lambda h, p: h), "the outputs must not contain the components themselves"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_is_found(mistake):
    network, words = PLANTED[mistake]
    advice = message_of(network).split("; ")[1]
    assert advice.removeprefix("the layout is complete with ").startswith(words)


def test_a_message_names_space_component_and_difference():
    words = (
        r"space 'lstm0': expected the same outputs without component \d, whose readers are zero, got a difference "
    )
    assert re.match(words + r"of [\d.e-]+; the layout is", message_of(PLANTED["the softmax does not read"][0]))


def test_a_network_that_cannot_run_without_a_component_is_refused():
    """No exception of the network is hidden: its words are part of the message."""

    def function(params):
        if len(params["h/bias"]) != 16:
            raise KeyError("sixteen\n gates")
        return run_lstm(params, "h", X) @ params["out"]

    message = message_of(on_lstm(None, out=OUT)._replace(function=function))
    assert "got KeyError: 'sixteen" in message
    assert "; no change of one axis, space or reader makes the layout complete" in message


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"function": lambda params: 1.0},
            "function: expected finite outputs that depend on params, got a differen",
        ),
        (
            {"function": lambda params: [np.nan]},
            "function: expected finite outputs that depend on params, got a diff",
        ),
        ({"spaces": ()}, "spaces: expected one space or more, got none"),
        ({"spaces": ("lstm9",)}, "groups: expected spaces of ['embed', 'lstm0', 'word'], got 'lstm9'"),
        ({"readers": (("softmax*", 2),)}, "readers: expected an axis of one of the arrays, got ('softmax*', 2)"),
        ({"readers": (("softmx*", 0),)}, "readers: expected an axis of one of the arrays, got ('softmx*', 0)"),
        ({"readers": (*RIGHT["lstm"].readers, ("embed*", 0))}, "readers: expected a pattern that matches one of"),
    ],
)
def test_what_cannot_be_checked_is_refused(change, sentence):
    with refused(sentence):
        check(RIGHT["lstm"]._replace(**change))


def test_a_space_of_one_component_is_refused():
    one = RIGHT["tied"].layout.resized({"h": 1})
    with refused("space 'h': expected two components or more, got 1"):
        check(RIGHT["tied"]._replace(layout=one))


def test_params_that_misfit_are_refused():
    with refused(
        "params: expected the arrays of the layout, got missing: ['bias', 'h/bias', 'h/kernel'], unknown: none"
    ):
        check_layout(RIGHT["tied"].function, {"embed": np.ones((6, 4))}, *RIGHT["tied"][1:])


def test_dropout_is_refused():
    rng = np.random.default_rng(0)

    def function(params):
        y = RIGHT["lstm"].function(params)
        return y * rng.integers(0, 2, y.shape)

    with refused("function: expected equal outputs for equal params (no dropout), got a difference of"):
        check(RIGHT["lstm"]._replace(function=function))


def test_params_are_not_changed_and_integers_are_kept():
    """A masked logit may be infinite."""
    params = {**RIGHT["tied"].params, "steps": np.array(3)}
    layout = Layout({**RIGHT["tied"].layout.axes, "steps": ()}, RIGHT["tied"].layout.sizes)

    def function(params):
        assert params["steps"] == 3
        params["embed"] *= 1  # on arrays of its own
        y = RIGHT["tied"].function(params)
        y[0] = -np.inf
        return y

    check_layout(function, params, layout, *RIGHT["tied"][2:])
    assert not any(values.any() for array, values in params.items() if array != "steps")
