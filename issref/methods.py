"""The ways to make zeros while training: one update of the parameters each.

`grads` is the gradient of the data loss and is used up. All are stochastic gradient descent, clipped by the
global norm; they differ in how the penalty acts. `strength` has one value for each group.
"""

from collections.abc import Iterable

import numpy as np

from issref.iss.compact import Alive, zero_small_weights
from issref.iss.groups import Groups
from issref.iss.layout import Params
from issref.iss.penalty import penalty
from issref.iss.prox import Certificate, prox
from issref.training.optimizers import add_weight_decay, clip_scale, global_norm, sgd
from issref.training.progress import Progress
from issref.training.settings import Settings


def update(settings: Settings, at: Progress, grads: Params, rate: float, groups: Groups, spared: str) -> Alive:
    """One update of at.params by the method. Returns who lives, if components have died for good, else nothing.

    `spared` is the array that --method l1 leaves alone, the embedding. Raises FloatingPointError, before
    anything changes, for a gradient that is not finite.
    """
    clip, threshold = settings.clip, settings.threshold
    if settings.weight_decay:
        add_weight_decay(grads, at.params, settings.weight_decay)
    match settings.method:
        case "prox":
            strength = groups.spread(settings.strengths(list(groups.first)))
            at.params, certificate = prox_update(
                at.params, grads, rate, clip, groups, strength, at.prox.get("warm_start")
            )
            at.prox = {"warm_start": certificate.warm_start}
            known = 0 if settings.shrink else sum(int((~kept).sum()) for kept in at.alive.values())
            return groups.split(~certificate.dead) if certificate.dead.sum() > known else {}
        case "released":
            strength = groups.spread(settings.strengths(list(groups.first)))
            small = groups.ids if settings.model == "rhn" else at.params  # the released RHN spares the biases
            at.params = released_update(at.params, grads, rate, clip, groups, strength, threshold, small)
        case "l1":
            at.params = l1_update(at.params, grads, rate, clip, settings.l1_strength, threshold, spared)
        case "dense":
            at.params = dense_update(at.params, grads, rate, clip)
    return {}


def dense_update(params: Params, grads: Params, rate: float, clip: float) -> Params:
    """w - rate * clip(gradient)."""
    return sgd(params, grads, rate * clip_scale(global_norm(grads), clip))


def prox_update(
    params: Params, grads: Params, rate: float, clip: float, groups: Groups, strength, warm_start
) -> tuple[Params, Certificate]:
    """A clipped gradient step on the data loss, then the exact proximal step at rate * strength."""
    params = dense_update(params, grads, rate, clip)
    return prox(params, groups, rate * strength, warm_start=warm_start)


def released_update(
    params: Params,
    grads: Params,
    rate: float,
    clip: float,
    groups: Groups,
    strength,
    threshold: float,
    small: Iterable[str],
) -> Params:
    """The released code: the penalty's gradient is added, the sum clipped, then the weights below the threshold in
    the arrays `small` zeroed one by one."""
    _, pulls = penalty(params, groups, strength, self_weight=2, smoothing=1e-8)
    for array, pull in pulls.items():
        grads[array] += pull
    params = dense_update(params, grads, rate, clip)
    return {**params, **zero_small_weights({array: params[array] for array in small}, threshold)}


def l1_update(
    params: Params, grads: Params, rate: float, clip: float, strength: float, threshold: float, spared: str
) -> Params:
    """L1 as the released code has it: strength * sign(w) added for all but the embedding, then the threshold."""
    for array, gradient in grads.items():
        if array != spared:
            gradient += np.sign(params[array]) * gradient.dtype.type(strength)
    return zero_small_weights(dense_update(params, grads, rate, clip), max(threshold, 2 * strength))
