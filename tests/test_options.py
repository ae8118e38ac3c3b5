"""Settings: bounds, messages, and the ways they are written down and read."""

import json
import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from issref.ptb import settings as ptb
from issref.squad import settings as squad
from issref.training.checkpoint import write_json
from issref.training.options import (
    Count,
    DropProbability,
    Finite,
    InvalidSettings,
    KeepProbability,
    Natural,
    NonNegative,
    Options,
    Positive,
    Share,
    strengths,
)

KINDS = {"ptb": ptb.Settings, "squad": squad.SquadSettings}
PRESETS = {
    f"{kind} {name}": preset
    for kind, table in (("ptb", ptb.PRESETS), ("squad", squad.PRESETS))
    for name, preset in table.items()
}
each_preset = pytest.mark.parametrize("name", PRESETS)
each_kind = pytest.mark.parametrize("kind", KINDS.values())

# ---------------------------------------------------------------- written down and read

shared = {
    "method": st.sampled_from(["prox", "released", "dense"]),
    "strength": st.floats(0, 1e3).map(lambda value: (value,)),
    "threshold": st.floats(0, 1),
    "shrink": st.booleans(),
    "batch": st.integers(1, 100),
    "learning_rate": st.floats(1e-9, 1e3),
    "keep": st.floats(0, 1, exclude_min=True),
    "data_dir": st.none() | st.text(),
    "seed": st.integers(0, 2**63),
    "dtype": st.sampled_from(["float32", "float64"]),
    "threads": st.none() | st.integers(1, 64),
}
changes = st.fixed_dictionaries({}, optional=shared)


@given(name=st.sampled_from(sorted(PRESETS)), leaves=changes)
def test_settings_come_back_from_every_form(name, leaves):
    settings = PRESETS[name].replaced(**leaves)
    kind = type(settings)
    assert settings.flat() == {**PRESETS[name].flat(), **leaves}
    assert kind.from_flat(settings.flat()) == settings
    assert kind.from_dict(settings.to_dict()) == settings
    assert kind.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    assert kind.from_flat(json.loads(json.dumps(settings.flat()))) == settings
    assert hash(kind.from_dict(settings.to_dict())) == hash(settings)
    assert PRESETS[name].changed(settings) == {
        leaf for leaf in leaves if leaves[leaf] != PRESETS[name].flat()[leaf]
    }


@each_preset
def test_settings_survive_json(name, tmp_path):
    write_json(tmp_path / "config.json", PRESETS[name].to_dict())
    assert type(PRESETS[name]).read(tmp_path / "config.json") == PRESETS[name]


@each_kind
def test_each_leaf_is_one_flag(kind):
    parts = kind().to_dict()
    leaves = [name for fields in parts.values() for name in fields]
    assert len(leaves) == len(set(leaves)) == len(kind().flat())
    for part in parts:
        for name, field in type(getattr(kind(), part)).model_fields.items():
            assert not isinstance(getattr(getattr(kind(), part), name), Options)
            assert field.default is not None or type(None) in get_args(field.annotation), name


def test_settings_cannot_be_changed():
    settings = ptb.Settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.schedule.batch = 3
    settings.replaced(batch=3)
    assert settings == ptb.Settings()


# ---------------------------------------------------------------- unknown leaves


@each_kind
def test_an_unknown_leaf_is_refused_everywhere(kind):
    with pytest.raises(KeyError, match=r"settings: expected leaves of \w+, got \['momentum'\]"):
        kind().replaced(momentum=0.9)
    version = f"settings: expected settings of {kind.COMMAND} in this version"
    with pytest.raises(ValueError, match=rf"{version} of issref, got others \(--momentum\)"):
        kind.from_flat({**kind().flat(), "momentum": 0.9})
    assert kind.from_flat({"seed": 3}) == kind().replaced(seed=3)  # a leaf that is not given has its default
    for fields in ({"momentum": 0.9}, {"schedule": {"momentum": 0.9}}):
        with pytest.raises(ValueError, match=f"{version} of issref, got others .--momentum: expected "):
            kind.from_dict(fields)
        with pytest.raises(InvalidSettings, match="--momentum: expected a setting of this command, got an"):
            kind(**fields)


def test_settings_of_another_command_are_refused():
    with pytest.raises(ValueError, match="settings: expected settings of train_squad in this version of issref"):
        squad.SquadSettings.from_dict(ptb.Settings().to_dict())
    with pytest.raises(ValueError, match="settings: expected settings of train_ptb in this version"):
        ptb.Settings.from_flat(squad.SquadSettings().flat())


@pytest.mark.parametrize("fields", [{"schedule": None}, {"schedule": 3}, {"schedule": [1]}, {"run": {"seed": []}}])
def test_parts_of_another_type_are_refused(fields):
    with pytest.raises(ValueError, match="settings: expected settings of train_ptb in this version of issref"):
        ptb.Settings.from_dict(fields)


# ---------------------------------------------------------------- bounds


class Sample(Options):
    """A leaf of each type."""

    count: Count = 1
    natural: Natural = 0
    positive: Positive = 1.0
    non_negative: NonNegative = 0.0
    finite: Finite = 0.0
    keep: KeepProbability = 1.0
    drop: DropProbability = 0.0
    share: Share = 0.0


NO_NUMBERS = ("many", None, [], {})
GOOD = {
    "count": (1, 10**12),
    "natural": (0, 10**12),
    "positive": (5e-324, 1e308),
    "non_negative": (0.0, 1e308),
    "finite": (-1e308, 0, 1e308),
    "keep": (5e-324, 1),
    "drop": (0, 1 - 2**-53),
    "share": (0, 1),
}
BAD = {
    "count": (0, -1, 1.5, math.nan, math.inf),
    "natural": (-1, 0.5, math.nan, math.inf),
    "positive": (0, -5e-324, math.nan, math.inf, -math.inf),
    "non_negative": (-5e-324, math.nan, math.inf, -math.inf),
    "finite": (math.nan, math.inf, -math.inf),
    "keep": (0, -0.5, 1 + 2**-52, math.nan, math.inf),
    "drop": (-5e-324, 1, math.nan, math.inf),
    "share": (-5e-324, 1 + 2**-52, math.nan, math.inf, -math.inf),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in GOOD.items() for value in values])
def test_a_bound_itself_is_allowed(name, value):
    assert getattr(Sample(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD.items() for value in (*values, *NO_NUMBERS)]
)
def test_a_value_out_of_bounds_is_refused_with_its_flag_and_itself(name, value):
    with pytest.raises(InvalidSettings) as error:
        Sample(**{name: value})
    said = str(error.value)
    assert said.startswith(f"--{name.replace('_', '-')}: expected ")
    assert said.endswith(f", got {value}")
    assert "\n" not in said


def leaves_of(kind, types):
    return [name for name, value in kind().flat().items() if type(value) in types]


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in KINDS.values() for name in leaves_of(kind, (int, float))]
)
def test_every_number_of_a_command_has_bounds(kind, name):
    with pytest.raises(InvalidSettings, match=f"--{name.replace('_', '-')}: expected "):
        kind().replaced(**{name: math.nan})
    if name != "transform_bias":
        with pytest.raises(InvalidSettings, match=f"--{name.replace('_', '-')}: expected "):
            kind().replaced(**{name: -1})


@pytest.mark.parametrize(
    ("leaves", "said"),
    [
        ({"batch": 0}, "--batch: expected a number greater than or equal to 1, got 0"),
        ({"learning_rate": math.nan}, "--learning-rate: expected a finite number, got nan"),
        ({"learning_rate": 0}, "--learning-rate: expected a number greater than 0, got 0"),
        ({"hidden_sizes": (200, -3)}, "--hidden-sizes: expected a number greater than or equal to 1, got -3"),
        ({"init_scale": math.inf}, "--init-scale: expected a finite number, got inf"),
        ({"strength": (-1.0,)}, "--strength: expected a number greater than or equal to 0, got -1.0"),
        ({"keep": 1.5}, "--keep: expected a number less than or equal to 1, got 1.5"),
        ({"drops": (0.1, 0.1)}, "--drops: expected "),
        ({"method": "magic"}, "--method: expected 'prox', 'released', 'l1' or 'dense', got magic"),
        ({"dtype": "int8"}, "--dtype: expected 'float32' or 'float64', got int8"),
        ({"model": "gru2"}, "--model: expected "),
        ({"embed_size": 0}, "--embed-size: expected a number greater than or equal to 1, got 0"),
        ({"penalty_epochs": 0}, "--penalty-epochs: expected a number greater than or equal to 1, got 0"),
        ({"clip": 0}, "--clip: expected a number greater than 0, got 0"),
    ],
)
def test_impossible_settings_are_refused_in_a_sentence(leaves, said):
    with pytest.raises(InvalidSettings) as error:
        ptb.Settings().replaced(**leaves)
    assert str(error.value).startswith(said)


@pytest.mark.parametrize(
    ("leaves", "said"),
    [
        ({"hidden_sizes": ()}, "--hidden-sizes: expected a width for each layer, got none"),
        ({"strength": (1.0, 2.0, 3.0)}, "--strength: expected one number or one for each of 2 layers, got 3"),
        ({"strength": ()}, "--strength: expected one number or one for each of 2 layers, got 0"),
        ({"final_penalty_scale": 0.4}, "--final-penalty-scale: expected --penalty-epochs too, got 0.4 alone"),
        ({"model": "rhn"}, "--hidden-sizes: expected one width, for the embedding of --model rhn too, got "),
        ({"method": "released", "strength": (1.0,) * 3}, "--strength: expected one number or one for each of 2 "),
    ],
)
def test_settings_that_contradict_each_other_are_refused_when_they_are_checked_or_read(leaves, said):
    """Not before: on the command line one flag comes after the other."""
    settings = ptb.Settings().replaced(**leaves)
    for ask in (settings.check, lambda: ptb.Settings.from_dict(settings.to_dict())):
        with pytest.raises(ValueError) as error:  # noqa: PT011
            ask()
        assert str(error.value).startswith(said)


def test_a_strength_for_each_layer_is_needed_by_those_who_read_it_alone():
    for method in ("dense", "l1"):
        ptb.Settings().replaced(method=method, hidden_sizes=(5, 4, 3), strength=(1.0, 2.0)).check()
    with pytest.raises(ValueError, match="--strength: expected one number or one for each of 6 layers, got 2"):
        squad.SquadSettings().replaced(strength=(1.0, 2.0)).check()


@each_preset
def test_presets_do_not_contradict_themselves(name):
    PRESETS[name].check()


def test_the_rate_of_an_epoch_and_the_scale_of_the_penalty():
    penalty = ptb.PenaltyOptions(penalty_epochs=2, final_penalty_scale=0.25)
    assert [penalty.scale(epoch) for epoch in range(4)] == [1, 1, 0.25, 0.25]
    assert [ptb.PenaltyOptions(penalty_epochs=2).scale(epoch) for epoch in (1, 2)] == [1, 0]
    assert ptb.PenaltyOptions().scale(10**6) == 1
    acting = squad.PenaltyOptions(penalty_steps=3)
    assert [acting.acts(step) for step in (0, 2, 3)] == [True, True, False]
    assert squad.PenaltyOptions().acts(10**6)


@given(st.integers(0, 5), st.integers(1, 5), st.floats(0, 1))
def test_a_linear_rate_is_flat_and_then_falls_in_a_straight_line_to_0(flat, falling, part):
    schedule = ptb.ScheduleOptions(schedule="linear", flat_epochs=flat, epochs=flat + falling, learning_rate=3.0)
    assert schedule.rate(flat * part) == 3
    assert schedule.rate(flat + falling * part) == pytest.approx(3 * (1 - part), abs=1e-14)
    middles = sum(schedule.rate(epoch + 0.5) for epoch in range(flat + falling))
    assert middles == pytest.approx(3 * (flat + falling / 2))  # what a sweep takes for the sum over all steps


@given(st.integers(1, 5), st.integers(0, 5), st.floats(0, 1))
def test_a_linear_rate_does_not_fall_if_no_epoch_is_left(epochs, more, part):
    schedule = ptb.ScheduleOptions(schedule="linear", epochs=epochs, flat_epochs=epochs + more, learning_rate=3.0)
    assert schedule.rate(epochs * part) == 3


@given(st.floats(0, 7.99))
def test_the_other_rates_change_between_epochs_only(epoch):
    for schedule in (ptb.ScheduleOptions(epochs=8), ptb.ScheduleOptions(epochs=8, schedule="staircase")):
        assert schedule.rate(epoch) == schedule.rate(int(epoch))


@given(st.lists(st.floats(0, 9), max_size=5), st.lists(st.text(min_size=1), unique=True, min_size=1, max_size=5))
def test_a_strength_is_for_all_spaces_or_for_each(values, spaces):
    if len(values) not in (1, len(spaces)):
        with pytest.raises(ValueError, match=f"--strength: expected one number or one for each of {len(spaces)} "):
            strengths(tuple(values), spaces)
    else:
        found = strengths(tuple(values), spaces)
        assert list(found) == spaces
        assert list(found.values()) == (values if len(values) > 1 else values * len(spaces))
