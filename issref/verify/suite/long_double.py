"""What float64 stops short of, in long double: the clip, the proximal step, and the updates made of them.

Everything else of issref runs in long double as it is. With the dead groups known, the proximal step is where, for
the weights that are left,  w - v + sum over their groups g of strength_g w / |w_g| = 0,  that is

    w = v / (1 + strength_g / N_g + strength_h / N_h),   N_g = |w_g|,

one equation for each group, whose fixed point is iterated from |v_g|.
"""

import numpy as np

from issref.iss.compact import zero_small_weights
from issref.iss.groups import Groups, pair_energies
from issref.iss.layout import Params
from issref.iss.penalty import penalty
from issref.iss.prox import prox as certified_prox
from issref.kernels.reference import scale_by_pair

ROUNDS, EPSILON = 20_000, np.finfo(np.longdouble).eps


def global_norm(grads: Params) -> np.longdouble:
    """The Euclidean norm of all gradients taken together."""
    return np.sqrt(sum(np.sum(np.square(gradient, dtype=np.longdouble)) for gradient in grads.values()))


def shared_energy(params: Params, groups: Groups) -> np.ndarray:
    """S[g, h]: the sum of v^2 over the weights of both g and h; in the last row and column, of g alone."""
    table = pair_energies(params, groups)
    energy = table + table.T
    energy[-1] = energy[:, -1] = energy[-1] + table.diagonal()
    np.fill_diagonal(energy, 0)
    return energy


def prox(params: Params, groups: Groups, strength) -> tuple[Params, np.ndarray]:
    """argmin_w 1/2 |w - v|^2 + sum_g strength_g |w_g|, and which groups are zero in it.

    Raises ArithmeticError if the fixed point is not reached, as with a group that is about to die.
    """
    double = {array: values.astype(np.float64) for array, values in params.items()}
    dead = np.append(certified_prox(double, groups, strength)[1].dead, False)
    energy, strengths = shared_energy(params, groups), np.append(strength, 0)
    norms, before = np.where(dead, 0, np.sqrt(energy.sum(axis=1))), np.inf
    for _ in range(ROUNDS):
        if np.abs(norms - before).max() <= 2 * EPSILON * norms.max():
            break
        pull = np.divide(strengths, norms, out=np.zeros_like(norms), where=norms > 0)
        keep = np.where(dead[:, None] | dead, 0, 1 / (1 + pull[:, None] + pull))
        norms, before = np.sqrt((energy * keep**2).sum(axis=1)), norms
    else:
        raise ArithmeticError(f"proximal step: expected a fixed point, got none in {ROUNDS} rounds")
    np.fill_diagonal(keep, keep[-1])
    keep[-1, -1] = 1
    moved = {array: scale_by_pair(params[array], *ids, keep) for array, ids in groups.ids.items()}
    return {**params, **moved}, dead[:-1]


def dense_update(params: Params, grads: Params, rate: float, clip: float) -> Params:
    """w - rate * clip(gradient)."""
    scale = rate * min(1, clip / global_norm(grads))
    return {array: params[array] - scale * gradient for array, gradient in grads.items()}


def prox_update(params: Params, grads: Params, rate: float, clip: float, groups: Groups, strength, _):
    """As `updates.prox_update`: a clipped gradient step on the data loss, then the proximal step."""
    return prox(dense_update(params, grads, rate, clip), groups, rate * strength)


def released_update(
    params: Params, grads: Params, rate, clip, groups: Groups, strength, threshold, small
) -> Params:
    """As `updates.released_update`: the penalty's gradient added, the sum clipped, small weights zeroed."""
    _, pulls = penalty(params, groups, strength, self_weight=2, smoothing=1e-8)
    summed = {array: gradient + pulls.get(array, 0) for array, gradient in grads.items()}
    params = dense_update(params, summed, rate, clip)
    return {**params, **zero_small_weights({array: params[array] for array in small}, threshold)}
