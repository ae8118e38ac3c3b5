"""The exact proximal operator of the ISS penalty, with a certificate of its accuracy.

    prox(v) = argmin over w of  1/2 |w - v|^2 + sum over groups g of strength_g |w_g|

It trades the distance from v against the group norms, and sets whole groups to exactly zero. For one group
alone it is `block_soft_threshold`. Groups of ISS overlap: a weight is in the group of its row and in that of its
column. Then no formula is known, and shrinking one group after another gives a wrong result. `iss.dual` solves the
problem, with one number for each pair of groups. Tutorial: tutorials/4_proximal_steps.py.
"""

import math
import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Shaped

from issref import kernels
from issref.iss.dual import Pairs, shared_squared_norms, solve, weight_factors
from issref.iss.groups import Groups, real_numbers
from issref.iss.layout import Params, check_array
from issref.iss.penalty import Strength, strengths_of

MOST = 1e150  # a strength beyond it, in the unit of the weights, kills every group; its square must be finite


class Certificate(NamedTuple):
    """The accuracy of a proximal step, and the start for the next one.

    gap: the duality gap. The weights returned are within sqrt(2 gap) of the exact ones, in the units of w.
    Rounding to the dtype of the weights, say float32, adds to this error; it sets no group to zero. relative_gap:
    gap / objective. sweeps: rounds over the groups, Newton steps included. dead: for each group, whether all its
    weights are exactly 0; `groups.split` splits it by space. warm_start: the table `share` of `iss.dual`, to start
    from in the next step.
    """

    gap: float
    relative_gap: float
    sweeps: int
    dead: Bool[np.ndarray, " groups"]
    warm_start: Shaped[np.ndarray, "G G"]


def block_soft_threshold(v: np.ndarray, strength: float) -> np.ndarray:
    """Return the proximal operator of strength |v| for one group: v max(0, 1 - strength / |v|), in the shape of v.

    Raises ValueError if a weight or the strength is not finite, or the strength is below 0.

    >>> block_soft_threshold(np.array([3.0, 4.0]), 1.0), block_soft_threshold(np.array([3.0, 4.0]), 5.0)
    (array([2.4, 3.2]), array([0., 0.]))
    """
    check_array("block_soft_threshold", v)
    norm = math.hypot(*real_numbers("block_soft_threshold", v).flat)  # np.linalg.norm squares, which underflows
    if not np.isfinite(v).all():
        raise ValueError("block_soft_threshold: expected finite weights, got inf or nan")
    if not 0 <= real_numbers("strength", strength) < math.inf:
        raise ValueError(f"strength: expected a finite number from 0 up, got {strength}")
    return v * (1 - float(strength) / norm) if norm > strength else np.zeros_like(v)


def prox(
    params: Params,
    groups: Groups,
    strength: Strength,
    *,
    tolerance: float = 1e-12,
    warm_start: Shaped[np.ndarray, "G G"] | None = None,
) -> tuple[Params, Certificate]:
    """Return argmin_w 1/2 |w - v|^2 + sum_g strength_g |w_g| for v = params, and its `Certificate`.

    `strength` is one number or one for each group, >= 0: learning rate times lambda in proximal gradient descent.
    `tolerance` bounds the duality gap relative to the objective. A group that is zero in the exact solution is
    exactly zero in the result. Arrays without a group are returned as they are, not copied. `warm_start` may hold
    any finite numbers; they are clipped to the range 0 to 1, which the solution is in. If the tolerance cannot be
    reached, a RuntimeWarning is issued, and the certificate holds the gap that was reached. Raises ValueError if a
    weight is not finite, or if the strength or the warm start does not fit the groups.

    >>> layout = Layout({"w": (("unit",), ("unit",))}, {"unit": 2})  # recurrent: the groups overlap
    >>> w, certificate = prox({"w": np.array([[3.0, 0.2], [0.2, 0.1]])}, iss_groups(layout, ["unit"]), 0.3)
    >>> w["w"], certificate.dead
    (array([[2.7, 0. ],
           [0. , 0. ]]), array([False,  True]))
    """
    squared_norms, unit = shared_squared_norms(params, groups)
    strengths = np.append(strengths_of(strength, groups), 0.0)  # the last is that of "no group"
    dual = solve(
        squared_norms, np.minimum(strengths, MOST * unit) / unit, tolerance, _first_share(warm_start, groups)
    )
    if not dual.relative_gap <= tolerance:
        found = f"{dual.relative_gap:.1e} after {dual.rounds} rounds"
        message = f"prox: expected a relative duality gap of at most {tolerance:.1e}, got {found}"
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    factors = weight_factors(dual)
    scaled = {
        array: kernels.scale_by_pair(groups.matrix(params, array), *ids, factors).reshape(params[array].shape)
        for array, ids in groups.ids.items()
    }
    gap = float(dual.gap) * unit * unit
    return {**params, **scaled}, Certificate(gap, dual.relative_gap, dual.rounds, dual.dead[:-1], dual.share)


def strength_bound(params: Params, gradient: Params, groups: Groups, learning_rate: float) -> float:
    """Return a strength at and above which one proximal gradient step from params sets every group to zero.

    Let v = params - learning_rate gradient. In the dual, choose xi_g = v on the weights in g alone, and v / 2 on
    the weights of two groups. Then w = 0, and every |xi_g| <= learning_rate strength if

        strength >= max_g sqrt(own[g] + sum_h S[g, h] / 4) / learning_rate,

    where own[g] and S[g, h] are the sums of v^2 over the weights in g alone and in both g and h. The bound is
    sufficient; the smallest such strength has no closed form. `gradient` is the gradient of the step: the clipped
    one if the step clips. Raises ValueError if the learning rate is not above 0 or an array does not fit the
    groups.
    """
    if not 0 < real_numbers("learning_rate", learning_rate) < math.inf:
        raise ValueError(f"strength_bound: expected a learning rate above 0, got {learning_rate}")
    steps = {
        array: groups.matrix(params, array) - learning_rate * groups.matrix(gradient, array)
        for array in groups.ids
    }
    squared_norms, unit = shared_squared_norms(steps, groups)
    shared, alone = squared_norms[:-1, :-1], squared_norms[:-1, -1]
    return math.sqrt((alone + shared.sum(axis=1) / 4).max(initial=0)) * unit / learning_rate


def _first_share(warm_start: np.ndarray | None, groups: Groups) -> Pairs:
    shape = (groups.count + 1, groups.count + 1)
    if warm_start is None:
        return np.zeros(shape)
    share = real_numbers("warm_start", warm_start)
    if share.shape != shape:
        raise ValueError(f"warm_start: expected shape {shape}, got {share.shape}")
    if not np.isfinite(share).all():
        raise ValueError("warm_start: expected finite shares, got inf or nan")
    return share.clip(0, 1, out=share)  # every solution is in this range
