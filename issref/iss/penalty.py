"""The group lasso penalty of ISS and its exact gradient."""

import numpy as np
from jaxtyping import Shaped

from issref import kernels
from issref.iss.groups import Groups, group_energies, pair_energies
from issref.iss.layout import Params

Strength = float | int | np.number | Shaped[np.ndarray, " groups"]


def penalty(
    params: Params, groups: Groups, strength: Strength, *, self_weight: int = 1, smoothing: float = 0.0
) -> tuple[np.ndarray | np.number | float, Params]:
    """R = sum_g strength_g N_g with N_g = sqrt(|w_g|^2 + smoothing), and its gradient in every grouped array.

    dR/dw = w (strength_r / N_r + strength_c / N_c) for a weight whose row is in group r and column in c; where
    both are one group, once. At a zero group the gradient taken is 0, a subgradient. Paper, section 3.2.

    `self_weight=2, smoothing=1e-8` is the released code's convention: weights of a component with itself
    are summed twice, and the root never vanishes. `strength` is one number or one for each group, >= 0.
    Raises ValueError for a strength that does not fit and for an array that is missing or misshapen.

    >>> layout = Layout({"w": (("input",), ("unit",))}, {"input": 2, "unit": 2})
    >>> value, grads = penalty({"w": np.array([[3.0, 0.0], [4.0, 0.0]])}, iss_groups(layout, ["unit"]), 2)
    >>> float(value), grads["w"]
    (10.0, array([[1.2, 0. ],
           [1.6, 0. ]]))
    """
    strengths = strengths_of(strength, groups)
    table = pair_energies(params, groups)
    norms = np.sqrt(group_energies(table, self_weight) + smoothing)
    pull = np.append(np.divide(strengths, norms, out=np.zeros_like(norms), where=norms != 0), 0)
    factors = pull[:, None] + pull
    np.fill_diagonal(factors, self_weight * pull)
    grads = {
        array: kernels.scale_by_pair(groups.matrix(params, array), *ids, factors).reshape(params[array].shape)
        for array, ids in groups.ids.items()
    }
    return strengths @ norms, grads


def strengths_of(strength: Strength, groups: Groups) -> Shaped[np.ndarray, " groups"]:
    """The strength of each group; ValueError unless it is one number or one for each group, none negative."""
    values = np.asarray(strength, np.float64)
    if values.shape not in ((), (groups.count,)):
        raise ValueError(
            f"strength: needs one number or one for each of {groups.count} groups, got {values.shape}"
        )
    if not (values >= 0).all() or np.isinf(values).any():
        raise ValueError(f"strength: needs finite numbers from 0 up, got {values.min()} to {values.max()}")
    return np.broadcast_to(values, groups.count)
