"""The exact proximal operator of the ISS penalty, whose groups overlap, with a certificate.

    prox(v) = argmin over w of  1/2 |w - v|^2 + sum over groups g of strength_g |w_g|

Every weight lies in at most two groups, that of its row and that of its column. The dual has one copy xi_g of
the weights of each group, |xi_g| <= strength_g, and w = v - sum_g xi_g. Maximising over one xi_g at a time
from zero, xi_g stays proportional to v on all weights that share a pair of groups g, h:

    xi_g = share[g, h] v,      w = (1 - share[g, h] - share[h, g]) v,

so the whole iteration runs on one number for each pair, whatever the number of weights. "No group" is one
more group, the last, with strength 0: the weights of g alone are those it shares with it.
"""

import math
import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Shaped

from issref import kernels
from issref.iss.groups import Groups, pair_energies
from issref.iss.layout import Params
from issref.iss.penalty import Strength, strengths_of

Pairs = Shaped[np.ndarray, "G G"]
SWEEPS, NEWTON_STEPS = 64, 100


class Certificate(NamedTuple):
    """How exact a proximal step is, and what the next one can start from.

    gap: the duality gap, so the weights returned are within sqrt(2 gap) of the exact ones, in the units of w
    (rounding to the dtype of the weights, float32 say, comes on top, and zeros nothing);
    relative_gap: gap over the objective; sweeps: rounds over the groups, Newton steps included; dead: one
    boolean for each group, true where all weights returned are exactly 0 (`groups.split` sorts them by
    space); warm_start: the shares, row g those of xi_g, the last column for its weights in no other group.
    """

    gap: float
    relative_gap: float
    sweeps: int
    dead: Bool[np.ndarray, " groups"]
    warm_start: Shaped[np.ndarray, "G G"]


def block_soft_threshold(v: np.ndarray, strength: float) -> np.ndarray:
    """The proximal operator of strength |v|, one group alone: v max(0, 1 - strength / |v|), in the shape of v.

    >>> block_soft_threshold(np.array([3.0, 4.0]), 1.0), block_soft_threshold(np.array([3.0, 4.0]), 5.0)
    (array([2.4, 3.2]), array([0., 0.]))
    """
    norm = math.hypot(*v.flat)  # np.linalg.norm squares, which underflows below 1e-162
    return v * (1 - strength / norm) if norm > strength else np.zeros_like(v)


def prox(
    params: Params,
    groups: Groups,
    strength: Strength,
    *,
    tolerance: float = 1e-12,
    warm_start: Shaped[np.ndarray, "G G"] | None = None,
) -> tuple[Params, Certificate]:
    """argmin_w 1/2 |w - v|^2 + sum_g strength_g |w_g| for v = params, and its `Certificate`.

    `strength` is one number or one for each group, >= 0: in proximal gradient descent, learning rate times
    lambda. `tolerance` bounds the duality gap relative to the objective; every group that is zero in the
    exact solution is then exactly zero in the result. Arrays in no group are passed through, not copied. If
    the tolerance cannot be reached, a RuntimeWarning says so and the certificate holds the gap that was.
    Raises ValueError for weights that are not finite and for a strength or warm start that does not fit.

    >>> layout = Layout({"w": (("unit",), ("unit",))}, {"unit": 2})  # recurrent: the groups overlap
    >>> w, certificate = prox({"w": np.array([[3.0, 0.2], [0.2, 0.1]])}, iss_groups(layout, ["unit"]), 0.3)
    >>> w["w"], certificate.dead
    (array([[2.7, 0. ],
           [0. , 0. ]]), array([False,  True]))
    """
    strengths = np.append(strengths_of(strength, groups), 0.0)
    energy = _shared_energy(params, groups)
    dual = _solve(energy, strengths, tolerance, _start(warm_start, groups))
    if dual.relative_gap > tolerance:
        found = f"relative duality gap {dual.relative_gap:.1e} after {dual.rounds} rounds"
        warnings.warn(f"prox: needed {tolerance:.1e}, got {found}", RuntimeWarning, stacklevel=2)
    factors = _factors(dual)
    scaled = {
        array: kernels.scale_by_pair(groups.matrix(params, array), *ids, factors).reshape(params[array].shape)
        for array, ids in groups.ids.items()
    }
    return {**params, **scaled}, Certificate(dual.gap, dual.relative_gap, dual.rounds, dual.dead[:-1], dual.share)


def strength_bound(params: Params, gradient: Params, groups: Groups, learning_rate: float) -> float:
    """A strength above which one proximal gradient step from params sets every group to zero.

    With v = params - learning_rate gradient, the dual that splits shared weights half and half, xi_g = v on the
    weights of g alone and v / 2 on those of two groups, gives w = 0, and it fits into the balls of radius
    learning_rate strength if
        strength >= max_g sqrt(own[g] + sum_h S[g, h] / 4) / learning_rate,
    own[g] and S[g, h] being the sums of v^2 over g alone and over both g and h. Sufficient; the smallest such
    strength has no closed form. `gradient` is the one of the step: clipped, where the step clips. Raises
    ValueError for a learning rate that is not above 0 and for arrays that do not fit the groups.
    """
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"strength_bound: needs a learning rate above 0, got {learning_rate}")
    steps = {
        array: groups.matrix(params, array) - learning_rate * groups.matrix(gradient, array)
        for array in groups.ids
    }
    energy = _shared_energy(steps, groups)[:-1]
    return math.sqrt((energy[:, -1] + energy[:, :-1].sum(axis=1) / 4).max(initial=0)) / learning_rate


class _Dual(NamedTuple):
    share: Pairs
    dead: np.ndarray
    norms: np.ndarray
    gap: float
    objective: float
    rounds: int

    @property
    def relative_gap(self) -> float:
        """gap / objective; an objective so small that the gap would have no digits left counts as 1e-280."""
        return self.gap / max(self.objective, 1e-280)


def _shared_energy(params: Params, groups: Groups) -> Pairs:
    """S[g, h]: sum of v^2 over the weights of both g and h; in the last row and column, of g alone."""
    table = pair_energies(params, groups)
    if not np.isfinite(table.sum()):
        raise ValueError("prox: needs finite weights, got inf or nan")
    energy = kernels.plus_transpose(table)
    energy[-1] = energy[:, -1] = energy[-1] + table.diagonal()
    np.fill_diagonal(energy, 0)
    return energy


def _start(warm_start: np.ndarray | None, groups: Groups) -> Pairs:
    shape = (groups.count + 1, groups.count + 1)
    if warm_start is not None and warm_start.shape != shape:
        raise ValueError(f"warm_start: needs shape {shape}, got {warm_start.shape}")
    if warm_start is not None and not np.isfinite(warm_start).all():
        raise ValueError("warm_start: needs finite shares, got inf or nan")
    return np.zeros(shape) if warm_start is None else warm_start.astype(np.float64)


def _solve(energy: Pairs, strengths: np.ndarray, tolerance: float, share: Pairs) -> _Dual:
    """Sweeps, which end after a few rounds at usual strengths; Newton where nearly everything dies."""
    for rounds in range(1, SWEEPS + 1):
        kernels.sweep(energy, strengths, share)
        dual = _certified(energy, strengths, share, rounds)
        if dual.relative_gap <= tolerance:
            return dual
    return _newton(energy, strengths, tolerance, dual)


def _certified(energy: Pairs, strengths: np.ndarray, share: Pairs, rounds: int) -> _Dual:
    """The gap of the weights that `share` gives, with zero in all groups that the gap cannot tell from zero.

    The objective is strongly convex, so |w - w*| <= sqrt(2 gap): a group that is zero in w* has |w_g| below
    that, and is set to zero here. The gap returned is that of the weights with these zeros in them.
    """
    nobody, eps = np.zeros(len(strengths), bool), np.finfo(float).eps
    gap, objective, norms = kernels.duality_gap(energy, strengths, share, nobody)
    within_gap = np.sqrt(2 * max(gap, eps * (strengths @ norms)))  # the sum's own rounding, should it end below 0
    within_rounding = 8 * eps * np.sqrt(energy.sum(axis=1))  # that of 1 - share - share^T
    dead = norms <= np.maximum(within_gap, within_rounding)
    dead[-1] = False
    if dead.any():
        gap, objective, norms = kernels.duality_gap(energy, strengths, share, dead)
    return _Dual(share, dead, norms, max(gap, 0.0), objective, rounds)


def _newton(energy: Pairs, strengths: np.ndarray, tolerance: float, best: _Dual) -> _Dual:
    """Newton's method on the problem in tau_g = |w_g| / strength_g, with a barrier at tau = 0.

    strength |w| = min over tau > 0 of (|w|^2 / tau + strength^2 tau) / 2 is jointly convex, so with w
    eliminated what remains is convex in tau. With a = tau_g, b = tau_h and D = ab + a + b:
        minimise 1/2 sum_pairs S[g, h] (a + b) / D + 1/2 sum_g strength_g^2 tau_g - mu sum_g log tau_g,
        share[g, h] = b / D,   d/da = (strength_g^2 - |xi_g|^2) / 2 - mu / a.
    On the central path every xi_g is inside its ball and the gap is at most mu for each group.
    """
    held = np.flatnonzero(strengths > 0)
    mu = max(best.gap / len(held), np.finfo(float).tiny)
    tau = (best.norms[held] + np.sqrt(2 * mu)) / strengths[held]
    for rounds in range(best.rounds + 1, best.rounds + NEWTON_STEPS + 1):
        change = _newton_step(energy, strengths, held, tau, mu)
        tau = tau * (1 + change * min(1, 0.9 / max(0.9, -change.min())))
        if np.abs(change).max() < 0.5:  # near the central path: certify, then follow it further
            dual = _certified(energy, strengths, _shares(energy, strengths, held, tau), rounds)
            best = min(best, dual, key=lambda one: one.relative_gap)
            if best.relative_gap <= tolerance:
                break
            mu *= 0.1
    return best


def _newton_step(energy: Pairs, strengths: np.ndarray, held: np.ndarray, tau: np.ndarray, mu: float) -> np.ndarray:
    """The relative change of tau: solves (tau H tau) change = -tau gradient, diagonally dominant for every tau."""
    product = np.multiply.outer(tau, tau)
    denominator = product + tau[:, None] + tau
    shared = energy[np.ix_(held, held)]
    alone = energy[held].sum(axis=1) - shared.sum(axis=1)  # with no group, or one of strength 0
    ball = (shared * (tau / denominator) ** 2).sum(axis=1) + alone / (1 + tau) ** 2
    gradient = tau * (strengths[held] ** 2 - ball) / 2 - mu
    curvature = shared * product**2 / denominator**3
    diagonal = (curvature * (1 + tau)).sum(axis=1) + alone * tau**2 / (1 + tau) ** 3 + mu
    return np.linalg.solve(np.diag(diagonal) - curvature, -gradient)


def _shares(energy: Pairs, strengths: np.ndarray, held: np.ndarray, tau: np.ndarray) -> Pairs:
    """share[g, h] = tau_h / D, or 1 / (1 + tau_g) against a group of strength 0, scaled into the dual balls."""
    share = np.zeros_like(energy)
    share[held] = (1 / (1 + tau))[:, None]
    share[np.ix_(held, held)] = tau / (np.multiply.outer(tau, tau) + tau[:, None] + tau)
    rho = np.sqrt((energy * share**2).sum(axis=1))
    return share * np.divide(strengths, rho, out=np.ones_like(rho), where=rho > strengths)[:, None]


def _factors(dual: _Dual) -> Pairs:
    """w = factors[row group, column group] v: a weight of g alone may lie on the diagonal or in the last row."""
    keep = 1 - kernels.plus_transpose(dual.share)
    keep[dual.dead] = 0
    keep[:, dual.dead] = 0
    np.fill_diagonal(keep, keep[-1])
    keep[-1, -1] = 1
    return keep
