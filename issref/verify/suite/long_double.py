"""The clip, the proximal step and the updates in long double, where issref's own stop at float64.

Everything else in issref runs in long double unchanged. Once the dead groups are known, the proximal step solves
w - v + sum over groups g of strength_g w / |w_g| = 0  for the other weights, that is

    w = v / (1 + strength_g / N_g + strength_h / N_h),   N_g = |w_g|,

one equation for each group. Their fixed point is found by iteper_groupn from |v_g|.
"""

import numpy as np

from issref.iss.compact import zero_small_weights
from issref.iss.groups import Groups, pair_squared_norms
from issref.iss.layout import Params
from issref.iss.penalty import penalty
from issref.iss.prox import prox as certified_prox
from issref.kernels.reference import scale_by_pair

ROUNDS, EPSILON = 20_000, np.finfo(np.longdouble).eps


def global_norm(grads: Params) -> np.longdouble:
    """Return the Euclidean norm of all gradients together."""
    return np.sqrt(sum(np.sum(np.square(gradient, dtype=np.longdouble)) for gradient in grads.values()))


def shared_squared_norms(params: Params, groups: Groups) -> np.ndarray:
    """Return S[g, h], the sum of v^2 over the weights in both g and h; the last row and column hold g alone."""
    table = pair_squared_norms(params, groups)
    squared_norms = table + table.T
    squared_norms[-1] = squared_norms[:, -1] = squared_norms[-1] + table.diagonal()
    np.fill_diagonal(squared_norms, 0)
    return squared_norms


def prox(params: Params, groups: Groups, strength) -> tuple[Params, np.ndarray]:
    """Return argmin_w 1/2 |w - v|^2 + sum_g strength_g |w_g|, and a mask of the groups that are zero in it.

    Raises ArithmeticError if the fixed point is not reached, for example with a group that is close to zero.
    """
    double = {array: values.astype(np.float64) for array, values in params.items()}
    dead = np.append(certified_prox(double, groups, strength)[1].dead, False)
    squared_norms, strengths = shared_squared_norms(params, groups), np.append(strength, 0)
    norms, before = np.where(dead, 0, np.sqrt(squared_norms.sum(axis=1))), np.inf
    for _ in range(ROUNDS):
        if np.abs(norms - before).max() <= 2 * EPSILON * norms.max():
            break
        per_group = np.divide(strengths, norms, out=np.zeros_like(norms), where=norms > 0)
        keep = np.where(dead[:, None] | dead, 0, 1 / (1 + per_group[:, None] + per_group))
        norms, before = np.sqrt((squared_norms * keep**2).sum(axis=1)), norms
    else:
        raise ArithmeticError(f"proximal step: expected a fixed point, got none in {ROUNDS} rounds")
    np.fill_diagonal(keep, keep[-1])
    keep[-1, -1] = 1
    moved = {array: scale_by_pair(params[array], *ids, keep) for array, ids in groups.ids.items()}
    return {**params, **moved}, dead[:-1]


def dense_update(params: Params, grads: Params, rate: float, clip: float) -> Params:
    """Return w - rate * clip(gradient)."""
    scale = rate * min(1, clip / global_norm(grads))
    return {array: params[array] - scale * gradient for array, gradient in grads.items()}


def prox_update(params: Params, grads: Params, rate: float, clip: float, groups: Groups, strength, _):
    """Return the parameters after a clipped gradient step and a proximal step; see `updates.prox_update`."""
    return prox(dense_update(params, grads, rate, clip), groups, rate * strength)


def released_update(
    params: Params, grads: Params, rate, clip, groups: Groups, strength, threshold, small
) -> Params:
    """Return the parameters after the update of the released code; see `updates.released_update`."""
    _, penalty_grads = penalty(params, groups, strength, self_weight=2, smoothing=1e-8)
    summed = {array: gradient + penalty_grads.get(array, 0) for array, gradient in grads.items()}
    params = dense_update(params, summed, rate, clip)
    return {**params, **zero_small_weights({array: params[array] for array in small}, threshold)}
