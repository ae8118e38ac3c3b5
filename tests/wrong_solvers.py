"""Wrong proximal steps: solvers that stop early, guess the dead groups, or lose digits.

A solver has the arguments of `prox.prox`. On the flat weights, `masks[g]` are the weights of group g.
"""

import numpy as np
from wrong import certified, edit, masks_of, replace

from issref import kernels
from issref.iss import dual, groups, prox
from issref.iss.penalty import strengths_of
from issref.verify.suite import reference_port


def flat(params, found):
    """Return all grouped weights as a vector, and a row of `masks` for each group."""
    v = np.concatenate([params[array].ravel() for array in found.ids])
    masks = [np.concatenate([mask.ravel() for _, mask in mine]) for mine in masks_of(found)]
    return v, np.array(masks).reshape(found.count, len(v))


def on_flat(solver):
    """Return a proximal step from solver(v, masks, strengths) -> w."""

    def wrong(params, found, strength, **_):
        w = solver(*flat(params, found), np.broadcast_to(strength, found.count))
        sizes = np.cumsum([params[array].size for array in found.ids])[:-1]
        parts = zip(found.ids, np.split(w, sizes), strict=True)
        return certified(params, {array: part.reshape(params[array].shape) for array, part in parts}, found)

    return wrong


def on_pairs(iterate, dtype=float):
    """Return a proximal step from iterate(squared_norms, strengths, share), which changes share in place."""

    def wrong(params, found, strength, **_):
        squared_norms = dual.shared_squared_norms(params, found).astype(dtype)
        strengths = np.append(strengths_of(strength, found), 0.0).astype(dtype)
        share = np.zeros_like(squared_norms)
        iterate(squared_norms, strengths, share)
        point = dual._certified(squared_norms, strengths, share, 0)
        factors = dual.weight_factors(point)
        after = {a: kernels.scale_by_pair(params[a], *ids, factors) for a, ids in found.ids.items()}
        return certified(params, after, found)

    return wrong


def sweeps(count, dtype=float):
    def iterate(squared_norms, strengths, share):
        for _ in range(count):
            kernels.reference.dual_block_pass(squared_norms, strengths, share)

    return on_pairs(iterate, dtype)


def jacobi(count):
    def iterate(squared_norms, strengths, share):
        for _ in range(count):
            rest = 1 - share.T
            rho = np.sqrt((squared_norms * rest**2).sum(axis=1, keepdims=True))
            best = rest * np.minimum(1, strengths[:, None] / np.where(rho > 0, rho, 1))
            share += (best - share) / 2

    return on_pairs(iterate)


def shrink(rows, strengths):
    norms = np.sqrt((rows**2).sum(axis=1))
    return rows * np.maximum(0, 1 - strengths / np.where(norms > 0, norms, 1))[:, None]


def admm(rounds, rho=1.0):
    def solver(v, masks, strengths):
        z, u = masks * v, np.zeros(masks.shape)
        for _ in range(rounds):
            w = (v + rho * (z - u).sum(axis=0)) / (1 + rho * masks.sum(axis=0))
            z = shrink(masks * w + u, strengths / rho)
            u += masks * w - z
        dead = ~z.any(axis=1)
        return np.where(masks[dead].any(axis=0), 0, w)

    return on_flat(solver)


def reweighted(rounds, epsilon=1e-12):
    def solver(v, masks, strengths):
        w = v
        for _ in range(rounds):
            norms = np.sqrt((masks * w**2).sum(axis=1) + epsilon)
            w = v / (1 + (strengths / norms) @ masks)
        return np.where(masks[norms < 1e-5].any(axis=0), 0, w)

    return on_flat(solver)


def dual_gradient(rounds, step):
    def solver(v, masks, strengths):
        xi = np.zeros(masks.shape)
        for _ in range(rounds):
            xi = xi + step * masks * (v - xi.sum(axis=0))
            norms = np.sqrt((xi**2).sum(axis=1))
            xi *= np.minimum(1, strengths / np.where(norms > 0, norms, 1))[:, None]
        inside = np.sqrt((xi**2).sum(axis=1)) < strengths
        return np.where(masks[inside].any(axis=0), 0, v - xi.sum(axis=0))

    return on_flat(solver)


def subgradient(rounds):
    def solver(v, masks, strengths):
        w = v.copy()
        for k in range(1, rounds + 1):
            norms = np.sqrt((masks * w**2).sum(axis=1))
            w = w - (w - v + (strengths / np.where(norms > 0, norms, np.inf)) @ masks * w) / (k + 1)
        return np.where(masks[norms < 0.02].any(axis=0), 0, w)

    return on_flat(solver)


def dead_by(rule, rounds=2000):
    """Solve exactly for the groups that are alive by rule(norms, strengths)."""

    def solver(v, masks, strengths):
        norms = np.sqrt((masks * v**2).sum(axis=1))
        dead = rule(norms, strengths)
        v = np.where(masks[dead].any(axis=0), 0, v)
        for _ in range(rounds):
            per_group = np.divide(strengths, norms, out=np.zeros_like(norms), where=~dead & (norms > 0))
            w = v / (1 + per_group @ masks)
            norms = np.sqrt((masks * w**2).sum(axis=1))
        return w

    return on_flat(solver)


EXACT = prox.prox


def of_tolerance(tolerance):
    return lambda params, found, strength, **_: EXACT(params, found, strength, tolerance=tolerance)


def in_float32(params, found, strength, **_):
    after, certificate = EXACT({a: values.astype(np.float32) for a, values in params.items()}, found, strength)
    return after, certificate


def of_strength(change):
    """Solve with other strengths: change(strengths, params, groups)."""
    return lambda params, found, strength, **_: EXACT(
        params, found, change(np.broadcast_to(strength, found.count).copy(), params, found)
    )


def afterwards(change):
    """Change the exact result: change(v, w, masks, strengths) -> w."""

    def wrong(params, found, strength, **_):
        (v, masks), (w, _) = flat(params, found), flat(EXACT(params, found, strength)[0], found)
        strengths = np.broadcast_to(strength, found.count)
        return on_flat(lambda *_: change(v, w, masks, strengths))(params, found, strength)

    return wrong


def norms_of(w, masks):
    return np.sqrt((masks * w**2).sum(axis=1))


def revive_exact(v, w, masks, strengths):
    """A group whose norm is its strength, to rounding, is kept."""
    norms = norms_of(v, masks)
    edge = np.abs(norms - strengths) <= 1e-12 * strengths
    return np.where(masks[edge].any(axis=0), v * 1e-12, w)


def one_survives(v, w, masks, strengths):
    if norms_of(w, masks).any():
        return w
    best = np.argmax(norms_of(v, masks) / strengths)
    return np.where(masks[best], 1e-3 * v, 0)


def undo_if_all_die(v, w, masks, strengths):
    return w if w.any() else v


def nan_at_zero(v, w, masks, strengths):
    return np.where(masks[norms_of(v, masks) == 0].any(axis=0), np.nan, w)


def row_first(v, w, masks, strengths):
    """A weight that two groups share is shrunk by the group that comes first only."""
    norms = norms_of(w, masks)
    per_group = np.divide(strengths, norms, out=np.zeros_like(norms), where=norms > 0)
    owner = np.argmax(masks, axis=0)
    return np.where(w == 0, 0, v / (1 + np.where(masks.any(axis=0), per_group[owner], 0)))


def without_overlap(v, w, masks, strengths):
    """Groups of the columns only decide; the shared weights of a dead group survive in the other."""
    dead = norms_of(w, masks) == 0
    both = masks.sum(axis=0) == 2
    return np.where(both & (masks[dead].sum(axis=0) == 1), 0.5 * v, w)


def refit(v, w, masks, strengths):
    return np.where(w == 0, 0, v)


def averaged(v, w, masks, strengths):
    return np.where(w == 0, 0, 0.999 * w + 0.001 * v)


SOLVERS = {
    **{f"prox: {count} sweeps": sweeps(count) for count in (5, 10, 20, 50)},
    **{f"prox: a relative gap of {gap:.0e}": of_tolerance(gap) for gap in (1e-4, 1e-6, 1e-8)},
    "prox: 30 rounds of ADMM": admm(30),
    "prox: 30 rounds of ADMM, rho 4": admm(30, 4.0),
    "prox: 100 reweighted squares": reweighted(100),
    "prox: 1000 reweighted squares, 1e-8 in the norm": reweighted(1000, 1e-8),
    "prox: sweeps in float32 arithmetic": sweeps(400, np.float32),
    "prox: the weights in float32 arithmetic": in_float32,
    "prox: groups die by their own norm only": dead_by(lambda norms, strengths: norms <= strengths),
    "prox: groups die by half their own norm": dead_by(lambda norms, strengths: norms / 2 <= strengths),
    "prox: no group dies": dead_by(lambda norms, strengths: norms < 0, 200),
    "prox: 30 rounds of the fixed point": dead_by(lambda norms, strengths: norms <= strengths, 30),
    "prox: 40 simultaneous passes": jacobi(40),
    "prox: 50 gradient steps on the dual": dual_gradient(50, 0.5),
    "prox: 200 subgradient steps": subgradient(200),
    "prox: the strength of the first space for all": of_strength(lambda s, *_: np.full_like(s, s[0])),
    "prox: the mean strength for all": of_strength(lambda s, *_: np.full_like(s, s.mean())),
    "prox: strengths reversed": of_strength(lambda s, *_: s[::-1]),
    "prox: the strength divided by the root of the gates": of_strength(lambda s, *_: s / 2),
    "prox: the strength times the group's norm": of_strength(lambda s, p, g: s * groups.group_norms(p, g)),
    "prox: the strength squared": of_strength(lambda s, *_: s**2),
    "prox: a group exactly at the strength is kept": afterwards(revive_exact),
    "prox: the strongest group never dies": afterwards(one_survives),
    "prox: nothing is done when all die": afterwards(undo_if_all_die),
    "prox: 0 / 0 at a group of zeros": afterwards(nan_at_zero),
    "prox: shared weights shrunk by the first group only": afterwards(row_first),
    "prox: shared weights of a dead group kept": afterwards(without_overlap),
    "prox: groups chosen exactly, weights not shrunk": afterwards(refit),
    "prox: a thousandth of v left in": afterwards(averaged),
    "prox: small groups die as well": afterwards(
        lambda v, w, masks, strengths: np.where(masks[norms_of(w, masks) < 0.1].any(axis=0), 0, w)
    ),
    "prox: dead weights of 1e-30": afterwards(lambda v, w, masks, strengths: np.where(w == 0, 1e-30, w)),
    "prox: dead weights of 1e-12": afterwards(lambda v, w, masks, strengths: np.where(w == 0, 1e-12 * v, w)),
}


def objective(name, *pairs):
    return {f"prox: {name}": edit("prox", reference_port, "_prox", *pairs)._replace(first="objective")}


OBJECTIVE = {
    **objective("objective in float32", "moved / 2 + penalty(", "np.float32(moved / 2) + penalty("),
    **objective("objective of the weights before", "penalty(after,", "penalty(given,"),
    **objective("objective without the penalty", "moved / 2 + penalty(", "moved / 2 + 0 * penalty("),
    **objective("objective without the distance", "moved / 2 + penalty(", "penalty("),
    **objective("objective off by 1e-9", "moved / 2 + penalty(", "moved / 2 + (1 + 2e-9) * penalty("),
    **objective("objective of the released norms", "groups.spread(strength))[0]",
                "groups.spread(strength), smoothing=1e-8)[0]"),
}  # fmt: skip
ALIVE = {
    "prox: alive by the norm before": edit(
        "prox", reference_port, "_prox", "alive=groups.split(~dead)",
        "alive=groups.split(long_double.shared_squared_norms(given, groups).sum(axis=1)[:-1] ** 0.5"
        " > groups.spread(strength))",
    )._replace(first="alive/*"),
    "prox: dead instead of alive": edit(
        "prox", reference_port, "_prox", "split(~dead)", "split(dead)"
    )._replace(first="alive/*"),
}  # fmt: skip
PROX = {
    **{name: replace("prox", prox, "prox", solver)._replace(first="*kernel") for name, solver in SOLVERS.items()},
    **OBJECTIVE,
    **ALIVE,
}
