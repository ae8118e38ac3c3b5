"""The dual of the proximal step: sweeps, Newton's method, and a bound on the error of the result.

The problem: for weights v and groups that overlap, find the w that minimises

    P(w) = 1/2 |w - v|^2 + sum over groups g of strength_g |w_g|.

Its dual: a norm is a maximum over a ball, strength_g |w_g| = max of <xi_g, w> over all |xi_g| <= strength_g, where
xi_g has one entry for each weight of group g. For fixed xi, the best w is v - sum_g xi_g. What remains is

    maximise  D(xi) = 1/2 |v|^2 - 1/2 |v - sum_g xi_g|^2  over all xi with |xi_g| <= strength_g.

One block: if all other xi_h are fixed and u = v - sum over h != g of xi_h, on the weights of g, then the best xi_g
is the projection of u onto its ball, xi_g = u min(1, strength_g / |u|). One such step for each group is a *sweep*.

One number for each pair: from xi = 0 on, xi_g stays a multiple of v on all weights that are in both g and h,

    xi_g = share[g, h] v,      w = (1 - share[g, h] - share[h, g]) v.

So the iteration works on the table `share` and on the squared norms S[g, h], the sum of v^2 over the weights in
both g and h, however many weights there are. "No group" is treated as one more group,
the last, of strength 0: the weights in g alone are the weights that g shares with it.

The bound: P(w) >= D(xi) for all w and all xi in their balls, so gap = P(w) - D(xi) bounds how far P(w) is from the
minimum. P is strongly convex, so |w - w*| <= sqrt(2 gap) for the exact solution w*.

Tutorials: tutorials/4_proximal_steps.py (dual, sweeps, gap) and tutorials/5_newton_and_warm_starts.py.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

from issref import kernels
from issref.iss.groups import Groups, scaled_squared_norms
from issref.iss.layout import Params

Pairs = Shaped[np.ndarray, "G G"]
SWEEPS, NEWTON_STEPS = 64, 100  # upper limits


class Dual(NamedTuple):
    """A point of the dual and its weights: w = (1 - share - share^T) v, and 0 in the dead groups.

    norms: |w_g|; gap: P(w) - D(xi); objective: P(w); rounds: sweeps and Newton steps so far.
    """

    share: Pairs
    dead: np.ndarray
    norms: np.ndarray
    gap: float
    objective: float
    rounds: int

    @property
    def relative_gap(self) -> float:
        """gap / objective; an objective below 1e-280 counts as 1e-280, where the gap has no digits left."""
        return self.gap / max(self.objective, 1e-280)


def shared_squared_norms(params: Params, groups: Groups) -> tuple[Pairs, float]:
    """Return S[g, h], the sum of v^2 over the weights in both g and h; the last row and column: in g alone.

    v are the weights in the unit that is returned with it, see `scaled_squared_norms`. Raises ValueError if a
    weight is not finite or not real.
    """
    table, unit = scaled_squared_norms(params, groups)
    if np.iscomplexobj(table):
        raise ValueError("prox: expected real weights, got complex ones")
    if not np.isfinite(table.sum()):
        raise ValueError("prox: expected finite weights, got inf or nan")
    squared_norms = kernels.plus_transpose(table)
    # The weights from a component to itself lie on the diagonal of the table, but in one group alone.
    squared_norms[-1] = squared_norms[:, -1] = squared_norms[-1] + table.diagonal()
    np.fill_diagonal(squared_norms, 0)
    return squared_norms, unit


def solve(squared_norms: Pairs, strengths: np.ndarray, tolerance: float, share: Pairs) -> Dual:
    """Maximise the dual from `share`, which is overwritten, until relative_gap <= tolerance.

    A few sweeps are enough at usual strengths. Newton's method follows where groups are about to die, because
    sweeps converge slowly there. If neither reaches the tolerance, the smallest gap is returned.
    """
    for rounds in range(1, SWEEPS + 1):
        kernels.dual_block_pass(squared_norms, strengths, share)
        dual = _certified(squared_norms, strengths, share, rounds)
        if dual.relative_gap <= tolerance:
            return dual
    return _newton(squared_norms, strengths, tolerance, dual)


def weight_factors(dual: Dual) -> Pairs:
    """Return factors with w = factors[row group, column group] v, for `kernels.scale_by_pair`.

    The last row and column stand for "no group". The weights from a component to itself are in its group alone,
    so the diagonal holds the same factors as the last row. Weights in no group at all have the factor 1.
    """
    factors = 1 - kernels.plus_transpose(dual.share)
    factors[dual.dead] = 0
    factors[:, dual.dead] = 0
    np.fill_diagonal(factors, factors[-1])
    factors[-1, -1] = 1
    return factors


def _certified(squared_norms: Pairs, strengths: np.ndarray, share: Pairs, rounds: int) -> Dual:
    """Set to zero every group whose norm is within the error bound, and return the gap of the weights that result.

    A group that is zero in the exact solution w* has |w_g| <= |w - w*| <= sqrt(2 gap). So every group with a norm
    up to that is set to zero; the gap is then computed again, with these zeros.
    """
    none_dead, eps = np.zeros(len(strengths), bool), np.finfo(float).eps
    gap, objective, norms = kernels.duality_gap(squared_norms, strengths, share, none_dead)
    within_gap = np.sqrt(2 * max(gap, eps * (strengths @ norms)))  # rounding in the sum may make the gap too small
    within_rounding = 8 * eps * np.sqrt(squared_norms.sum(axis=1))  # of 1 - share - share^T
    dead = norms <= np.maximum(within_gap, within_rounding)
    dead[-1] = False
    if dead.any():
        gap, objective, norms = kernels.duality_gap(squared_norms, strengths, share, dead)
    return Dual(share, dead, norms, max(gap, 0.0), objective, rounds)


def _newton(squared_norms: Pairs, strengths: np.ndarray, tolerance: float, best: Dual) -> Dual:
    """Newton's method for tau_g = |w_g| / strength_g, with a barrier at tau = 0.

    strength |w| = min over tau > 0 of (|w|^2 / tau + strength^2 tau) / 2, which is convex in w and tau together.
    For fixed tau the best w is known, and what remains is convex in tau. With D = tau_g tau_h + tau_g + tau_h:

        minimise  1/2 sum over pairs of S[g, h] (tau_g + tau_h) / D + 1/2 sum_g strength_g^2 tau_g
                  - mu sum_g log tau_g,
        share[g, h] = tau_h / D,      d/dtau_g = (strength_g^2 - |xi_g|^2) / 2 - mu / tau_g.

    At the minimum for a given mu, the *central path*, every xi_g is inside its ball, and the gap is at most mu for
    each group. mu is lowered tenfold from one certified point to the next.
    """
    penalized = np.flatnonzero(strengths > 0)
    mu = max(best.gap / len(penalized), np.finfo(float).tiny)
    tau = (best.norms[penalized] + np.sqrt(2 * mu)) / strengths[penalized]
    for rounds in range(best.rounds + 1, best.rounds + NEWTON_STEPS + 1):
        change = _newton_step(squared_norms, strengths, penalized, tau, mu)
        tau = tau * (1 + change * min(1, 0.9 / max(0.9, -change.min())))  # tau stays above 0
        if np.abs(change).max() < 0.5:  # near the central path: certify, then lower mu
            share = _shares(squared_norms, strengths, penalized, tau)
            dual = _certified(squared_norms, strengths, share, rounds)
            best = min(best, dual, key=lambda each: each.relative_gap)
            if best.relative_gap <= tolerance:
                break
            mu *= 0.1
    return best


def _newton_step(
    squared_norms: Pairs, strengths: np.ndarray, penalized: np.ndarray, tau: np.ndarray, mu: float
) -> np.ndarray:
    """Return the relative change of tau, the solution of (tau H tau) change = -tau gradient.

    The matrix is diagonally dominant for every tau.
    """
    product = np.multiply.outer(tau, tau)
    denominator = product + tau[:, None] + tau
    shared = squared_norms[np.ix_(penalized, penalized)]
    alone = squared_norms[penalized].sum(axis=1) - shared.sum(axis=1)  # with no group, or one of strength 0
    xi_squared = (shared * (tau / denominator) ** 2).sum(axis=1) + alone / (1 + tau) ** 2
    gradient = tau * (strengths[penalized] ** 2 - xi_squared) / 2 - mu
    curvature = shared * product**2 / denominator**3
    diagonal = (curvature * (1 + tau)).sum(axis=1) + alone * tau**2 / (1 + tau) ** 3 + mu
    return np.linalg.solve(np.diag(diagonal) - curvature, -gradient)


def _shares(squared_norms: Pairs, strengths: np.ndarray, penalized: np.ndarray, tau: np.ndarray) -> Pairs:
    """Return share[g, h] = tau_h / D, or 1 / (1 + tau_g) if h has strength 0, scaled to |xi_g| <= strength_g."""
    share = np.zeros_like(squared_norms)
    share[penalized] = (1 / (1 + tau))[:, None]
    share[np.ix_(penalized, penalized)] = tau / (np.multiply.outer(tau, tau) + tau[:, None] + tau)
    xi_norms = np.sqrt((squared_norms * share**2).sum(axis=1))
    into_ball = np.divide(strengths, xi_norms, out=np.ones_like(xi_norms), where=xi_norms > strengths)
    return share * into_ball[:, None]
