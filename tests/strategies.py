"""What the property tests are drawn from: layouts, params and strengths; and the groups as explicit index sets."""

import contextlib
import re
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import strategies as st
from jaxtyping import config

from issref.iss.groups import Groups, iss_groups
from issref.iss.layout import Layout, Params
from issref.models import ptb_gru, ptb_lstm

# ---------------------------------------------------------------- around the import hook


@contextlib.contextmanager
def unhooked():
    """Without jaxtyping's checks: beartype samples at random, which hypothesis forbids while it draws; and a
    test of a function's own refusal wants that function's words."""
    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        config.update("jaxtyping_disable", before)


@contextlib.contextmanager
def refused(sentence: str):
    """ValueError with these words in it."""
    with unhooked(), pytest.raises(ValueError, match=re.escape(sentence)):
        yield


# ---------------------------------------------------------------- layouts


@st.composite
def stacked_layouts(draw) -> Layout:
    """1 to 4 stacked LSTMs or GRUs, each of any width, 0 too."""
    model = draw(st.sampled_from((ptb_lstm, ptb_gru)))
    widths = draw(st.lists(st.integers(0, 6), min_size=1, max_size=4))
    words, embed = draw(st.integers(1, 7)), draw(st.integers(0, 6))
    with unhooked():
        return model.layout(model.Config(words, embed, tuple(widths)))


@st.composite
def generic_layouts(draw) -> Layout:
    """Vectors and matrices with spaces end to end, repeated, interleaved, on both axes, counted and "~"."""
    sizes = {space: draw(st.integers(0, 4)) for space in "abcd"[: draw(st.integers(1, 4))]}
    space = st.sampled_from([*sizes, *sizes, *("~" + name for name in sizes)])
    axis = st.lists(space, min_size=1, max_size=4).map(tuple)
    arrays = draw(st.lists(st.lists(axis, min_size=1, max_size=2).map(tuple), min_size=1, max_size=4))
    with unhooked():
        return Layout({f"w{k}": axes for k, axes in enumerate(arrays)}, sizes)


def layouts() -> st.SearchStrategy[Layout]:
    return stacked_layouts() | generic_layouts()


@st.composite
def spaces_of(draw, layout: Layout) -> list[str]:
    """What to group: the layers of a stack, or any spaces of a generic layout in any order."""
    with unhooked():
        found = ptb_lstm.spaces(layout.axes)
    return found or draw(st.lists(st.sampled_from(list(layout.sizes)), min_size=1, unique=True))


# ---------------------------------------------------------------- groups, from the definition alone


def labels(layout: Layout, array: str) -> list[list[tuple[str, int]]]:
    """Along each axis, whose component each position is, the space as it is written ("~" and all)."""
    return [
        [(space, k) for space in axis for k in range(layout.sizes[space.removeprefix("~")])]
        for axis in layout.axes[array]
    ]


def index_sets(layout: Layout, spaces: list[str]) -> dict[tuple[str, int], set[tuple[str, int]]]:
    """For each component, the weights of its group as a set of (array, flat index)."""
    sets = {(space, k): set() for space in spaces for k in range(layout.sizes[space])}
    for array in layout.axes:
        along = labels(layout, array)
        for flat, index in enumerate(np.ndindex(*map(len, along))):
            for axis, position in enumerate(index):
                if along[axis][position] in sets:
                    sets[along[axis][position]].add((array, flat))
    return sets


def flat(params: Params, layout: Layout) -> np.ndarray:
    """All weights as one vector."""
    return np.concatenate([params[array].ravel() for array in layout.axes])


def membership(layout: Layout, spaces: list[str]) -> np.ndarray:
    """member[g, e]: whether weight e of `flat` is in group g."""
    sizes = {array: int(np.prod(layout.shape(array))) for array in layout.axes}
    start = dict(zip(sizes, np.cumsum([0, *sizes.values()]).tolist(), strict=False))
    sets = index_sets(layout, spaces).values()
    member = np.zeros((len(sets), sum(sizes.values())), bool)
    for g, weights in enumerate(sets):
        member[g, [start[array] + index for array, index in weights]] = True
    return member


# ---------------------------------------------------------------- params


class Case(NamedTuple):
    """Weights v of a layout, its compiled groups, and the same groups as explicit sets."""

    layout: Layout
    spaces: list[str]
    groups: Groups
    member: np.ndarray
    params: Params

    @property
    def v(self) -> np.ndarray:
        return flat(self.params, self.layout)

    def norms(self, w: np.ndarray) -> np.ndarray:
        """|w_g| for each group, from the explicit sets."""
        return np.sqrt(self.member @ np.abs(w) ** 2)

    def objective(self, w: np.ndarray, strengths: np.ndarray) -> float:
        """1/2 |w - v|^2 + sum_g strength_g |w_g|, from the explicit sets."""
        return 0.5 * np.sum((w - self.v) ** 2) + strengths @ self.norms(w)

    def deadly(self) -> float:
        """max_g sqrt(own + sum_h S[g, h] / 4): every group dies at a strength above it."""
        weight = np.where(self.member.sum(axis=0) == 2, 0.25, 1.0)
        return float(np.sqrt(self.member @ (weight * self.v**2)).max(initial=0))


def drawn(layout: Layout, rng: np.random.Generator, zeros: float = 0.0, spread: float = 1.0) -> Params:
    """Normal weights, each array on its own scale, a share `zeros` of them exactly zero."""
    params = {}
    for array in layout.axes:
        values = rng.normal(size=layout.shape(array)) * spread ** rng.uniform(-1, 1)
        params[array] = values * (rng.random(values.shape) >= zeros)
    return params


def with_dead(params: Params, layout: Layout, dead: set[tuple[str, int]]) -> Params:
    """The params with every slice of some components, counted or not, set to zero."""
    params = {array: values.copy() for array, values in params.items()}
    for array, values in params.items():
        for axis, along in enumerate(labels(layout, array)):
            for position, (space, k) in enumerate(along):
                if (space.removeprefix("~"), k) in dead:
                    values[(slice(None),) * axis + (position,)] = 0
    return params


@st.composite
def params_of(draw, layout: Layout) -> Params:
    """Random weights with random zeros and random dead components."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    zeros, spread, death = (draw(st.sampled_from(few)) for few in ([0, 0, 0.3, 0.95], [1, 3, 30], [0, 0, 0.3, 1]))
    dead = {(space, k) for space, size in layout.sizes.items() for k in range(size) if rng.random() < death}
    with unhooked():
        return with_dead(drawn(layout, rng, zeros, spread), layout, dead)


@st.composite
def cases(draw, layouts: st.SearchStrategy[Layout] | None = None) -> Case:
    layout = draw(stacked_layouts() | generic_layouts() if layouts is None else layouts)
    spaces = draw(spaces_of(layout))
    with unhooked():
        groups, member = iss_groups(layout, spaces), membership(layout, spaces)
    return Case(layout, spaces, groups, member, draw(params_of(layout)))


@st.composite
def strengths_for(draw, case: Case) -> np.ndarray:
    """A strength for each group, from 0 through the usual to where everything dies; equal or mixed."""
    factor = draw(st.sampled_from([0, 1e-6, 1e-3, 0.03, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 1.01]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mixed = {
        "equal": np.ones(case.groups.count),
        "each its own": rng.uniform(0.1, 1, case.groups.count),
        "far apart": 10 ** rng.uniform(-4, 0, case.groups.count),
        "some zero": rng.integers(0, 2, case.groups.count),
    }
    return factor * (case.deadly() or 1.0) * mixed[draw(st.sampled_from(list(mixed)))]


@st.composite
def alive_for(draw, layout: Layout) -> dict[str, np.ndarray]:
    """Any choice of components to keep, over any of the spaces; none and all of them too."""
    rng, share = np.random.default_rng(draw(st.integers(0, 2**32 - 1))), draw(st.sampled_from([0, 0.3, 0.7, 1]))
    named = draw(st.lists(st.sampled_from(list(layout.sizes)), unique=True))
    return {space: rng.random(layout.sizes[space]) < share for space in named}


def dead_of(alive: dict[str, np.ndarray]) -> set[tuple[str, int]]:
    return {(space, k) for space, kept in alive.items() for k in range(len(kept)) if not kept[k]}
