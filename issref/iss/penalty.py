"""The group lasso penalty of ISS and its exact gradient.

    R(w) = sum over groups g of strength_g |w_g|

Each norm |w_g| has a slope of 1 in the direction of w_g however small the group is, so the penalty drives whole
groups to zero, where a squared norm would only make them small. Tutorial: tutorials/2_the_penalty.py.
"""

import numpy as np
from jaxtyping import Shaped

from issref import kernels
from issref.iss.groups import Groups, group_squared_norms, real_numbers, scaled_squared_norms
from issref.iss.layout import Params

Strength = float | int | np.number | Shaped[np.ndarray, " groups"]


def penalty(
    params: Params, groups: Groups, strength: Strength, *, self_weight: int = 1, smoothing: float = 0.0
) -> tuple[np.ndarray | np.number | float, Params]:
    """Return R = sum_g strength_g N_g with N_g = sqrt(|w_g|^2 + smoothing), and its gradient per grouped array.

    A weight whose row is in group r and whose column is in group c has the gradient

        dR/dw = w (strength_r / N_r + strength_c / N_c)        dR/dw = w strength_r / N_r  if r = c

    and a row or column in no group adds no term. At a group of zeros the gradient is 0, one of the subgradients.
    `strength` is one number or one for each group, >= 0. Paper, section 3.2.

    `self_weight=2, smoothing=1e-8` is the convention of the released code: the weights from a component to itself
    are counted twice, and the root is never 0. Raises ValueError if the strength does not fit the groups, or if an
    array is missing or has another shape.

    >>> layout = Layout({"w": (("input",), ("unit",))}, {"input": 2, "unit": 2})
    >>> value, grads = penalty({"w": np.array([[3.0, 0.0], [4.0, 0.0]])}, iss_groups(layout, ["unit"]), 2)
    >>> float(value), grads["w"]
    (10.0, array([[1.2, 0. ],
           [1.6, 0. ]]))
    """
    strengths = strengths_of(strength, groups)
    table, unit = scaled_squared_norms(params, groups)
    base = max(unit, 1.0) if smoothing else unit  # the smoothing must not overflow either
    norms = base * np.sqrt(group_squared_norms(table, self_weight) * (unit / base) ** 2 + smoothing / base / base)
    per_group = np.divide(strengths, norms, out=np.zeros_like(norms), where=norms != 0)
    # factors[r, c] scales the weights of the pair r, c. The last row and column are "no group" (id -1), whose term
    # is 0. On the diagonal, r and c are one group, which holds its weights once (or, as released, twice).
    per_group = np.append(per_group, 0)
    factors = per_group[:, None] + per_group
    np.fill_diagonal(factors, self_weight * per_group)
    grads = {
        array: kernels.scale_by_pair(groups.matrix(params, array), *ids, factors).reshape(params[array].shape)
        for array, ids in groups.ids.items()
    }
    return strengths @ norms, grads


def strengths_of(strength: Strength, groups: Groups) -> Shaped[np.ndarray, " groups"]:
    """Return the strength of each group from one number or one for each group.

    Raises ValueError if the shape does not fit or a strength is negative or not finite.
    """
    values = real_numbers("strength", strength)
    if values.shape not in ((), (groups.count,)):
        raise ValueError(
            f"strength: expected one number or one for each of {groups.count} groups, got shape {values.shape}"
        )
    if not (values >= 0).all() or np.isinf(values).any():
        raise ValueError(f"strength: expected finite numbers from 0 up, got {values.min()} to {values.max()}")
    return np.broadcast_to(values, groups.count)
