"""Is this layout complete? Try it on random weights, and find the array that was forgotten.

The layout of a network is right if components whose readers are zero can be removed without changing the outputs:
every slice of the component is in the layout, and every weight that reads it is among the readers. A normalisation
over components (LayerNorm) changes with their number, so no layout is right for it.
"""

from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from issref.iss.groups import alive, iss_groups
from issref.iss.layout import Layout, Params
from issref.verify.layouts.claim import Claim, Dead, Trial, draw_dead, draw_trial
from issref.verify.layouts.modules import layout_of
from issref.verify.layouts.repairs import repairs

__all__ = ["check_layout", "layout_of"]

MOST_REPAIRS = 3  # named in the message
UNEXPLAINED = {  # by the beginning of the change: advice where no repair is found
    "outputs of shape": "the outputs must not contain the components themselves",
    "a difference": "removal is not lossless if an operation without weights reads a component, as the mean of a "
    "LayerNorm does",
    "": "no change of one axis, space or reader makes the layout complete",
}


def check_layout(
    function: Callable[[Params], Any],
    params: Params,
    layout: Layout,
    spaces: Iterable[str],
    readers: Iterable[tuple[str, int]],
    *,
    rng: np.random.Generator | None = None,
    trials: int = 3,
) -> None:
    """Raise ValueError, naming space, component, change and likely array, unless the layout is complete.

    `function(params)` returns arrays, or tuples or dictionaries of arrays. Its widths follow the arrays in params,
    and equal params give equal outputs. It should use each weight: an LSTM needs two time steps or more. Only the
    shapes and dtypes of params matter (float64 checks best): in each trial the weights are random, biases too.
    Random components of each space, and of all spaces together, are removed with `compact` after the weights that
    read them (`readers`, as in `issref.alive`) have been set to zero; the outputs must stay equal.

    Raises ValueError also if params, spaces and readers do not fit the layout, a space has only one component, or
    the outputs are not finite.

    >>> axes = {"rnn": (("input", "unit"), ("unit",)), "out": (("unit",), ("class",))}
    >>> layout = Layout(axes, {"input": 2, "unit": 3, "class": 2})
    >>> def network(params):
    ...     h = np.zeros(len(params["out"]))
    ...     for x in np.eye(2):
    ...         h = np.tanh(np.concatenate((x, h)) @ params["rnn"])
    ...     return h @ params["out"]
    >>> check_layout(network, layout.allocate(), layout, ["unit"], [("rnn", 0), ("out", 0)])
    """
    spaces, claim = list(spaces), Claim(function, layout, tuple(readers))
    _check(params, claim, spaces)
    rng = np.random.default_rng(0) if rng is None else rng
    for _ in range(trials):
        trial = draw_trial(function, params, rng)
        for tried in (*([space] for space in spaces), spaces):
            dead = draw_dead(layout, tried, rng)
            if change := claim.change(trial, dead):
                raise ValueError(_explain(claim, trial, dead, change, rng))
    alive(params, iss_groups(layout, spaces), claim.readers)  # raises ValueError if it cannot use the readers


def _check(params: Params, claim: Claim, spaces: list[str]) -> None:
    """Raise ValueError if params, layout, spaces and readers do not belong together."""
    layout = claim.layout
    layout.check(params)
    iss_groups(layout, spaces)
    if not spaces:
        raise ValueError("spaces: expected one space or more, got none")
    for space in spaces:
        if layout.sizes[space] < 2:
            raise ValueError(f"space {space!r}: expected two components or more, got {layout.sizes[space]}")
    for pattern, axis in claim.readers:
        if not any(axis in range(len(layout.axes[array])) for array in layout.axes if fnmatchcase(array, pattern)):
            raise ValueError(f"readers: expected an axis of one of the arrays, got {(pattern, axis)}")


def _explain(claim: Claim, trial: Trial, dead: Dead, change: str, rng: np.random.Generator) -> str:
    """Return the message: space, component, change, and what would make the layout complete."""
    for space, component, one in _single(dead):
        if alone := claim.change(trial, one):
            dead, change = one, alone
            which = f"space {space!r}: expected the same outputs without component {component}"
            break
    else:
        space = next(iter(dead))
        which = f"spaces {list(dead)}: expected the same outputs without some components of each"

    def holds(other: Claim) -> bool:
        sets = ({space: dead[space]}, *(draw_dead(claim.layout, [space], rng) for _ in range(3)))
        return not any(other.change(trial, one) for one in sets)

    if found := repairs(claim, space, holds)[:MOST_REPAIRS]:
        advice = f"the layout is complete with {', or with '.join(found)}"
    else:
        advice = next(words for begin, words in UNEXPLAINED.items() if change.startswith(begin))
    return f"{which}, whose readers are zero, got {change}; {advice}"


def _single(dead: Dead) -> Iterator[tuple[str, int, Dead]]:
    for space, mask in dead.items():
        for component in np.flatnonzero(mask):
            yield space, int(component), {space: np.arange(len(mask)) == component}
