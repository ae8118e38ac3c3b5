"""The ways to make zeros while training: one update of the parameters each.

`grads` is the gradient of the data loss and is used up. Those of `update` are stochastic gradient descent,
clipped by the global norm, those of `adam_update` are Adam; they differ in how the penalty acts. `strength` has
one value for each group.
"""

import math
from collections.abc import Iterable

import numpy as np

from issref.iss.compact import Alive, zero_small_weights
from issref.iss.groups import Groups
from issref.iss.layout import Layout, Params
from issref.iss.penalty import penalty
from issref.iss.prox import Certificate, prox
from issref.ptb.settings import Settings
from issref.squad.settings import SquadSettings
from issref.training.checkpoint import part
from issref.training.optimizers import adam, add_weight_decay, clip_scale, global_norm, move_average, sgd
from issref.training.state import Progress

ADAM = ("average", "first", "second")  # what Adam's state holds, each a copy of the params in shape


def update(settings: Settings, at: Progress, grads: Params, rate: float, groups: Groups, spared: str) -> Alive:
    """One update of at.params by the method. Returns who lives, if components have died for good, else nothing.

    After penalty_epochs a share of the strength is left; with none the method is dense. `spared` is the array that
    --method l1 leaves alone, the embedding.
    Raises FloatingPointError, before anything changes, for a gradient that is not finite.
    """
    clip, threshold = settings.clip, settings.threshold
    pressure = settings.pressure(at.epoch)
    if settings.weight_decay:
        add_weight_decay(grads, at.params, settings.weight_decay)
    match settings.method if pressure else "dense":
        case "prox":
            strength = groups.spread(settings.strengths(list(groups.first))) * pressure
            at.params, certificate = prox_update(
                at.params, grads, rate, clip, groups, strength, at.prox.get("warm_start")
            )
            return _living(at, groups, certificate, settings.shrink)
        case "released":
            strength = groups.spread(settings.strengths(list(groups.first))) * pressure
            small = groups.ids if settings.model == "rhn" else at.params  # the released RHN spares the biases
            at.params = released_update(at.params, grads, rate, clip, groups, strength, threshold, small)
        case "l1":
            strength = settings.l1_strength * pressure
            at.params = l1_update(at.params, grads, rate, clip, strength, threshold, spared)
        case "dense":
            at.params = dense_update(at.params, grads, rate, clip)
    return {}


def adam_update(
    settings: SquadSettings, at: Progress, grads: Params, rate: float, step: int, groups: Groups
) -> Alive:
    """One update of at.params by Adam and the method, then of their moving average; at.state is its `adam_state`.

    `step` counts the updates, from 1; after penalty_steps of them the method is dense. Returns and raises what
    `update` does. The proximal step is that of the Euclidean metric at rate * strength, not the exact one of
    Adam's metric (see `adam`). With the released method the penalty's gradient goes through Adam, which normalises
    it together with that of the data.
    """
    average, first, second = (part(at.state, name) for name in ADAM)
    method = settings.method if step <= (settings.penalty_steps or settings.steps) else "dense"
    strength = groups.spread(settings.strengths(list(groups.first)))
    if method == "released":
        for array, pull in penalty(at.params, groups, strength, self_weight=2, smoothing=1e-8)[1].items():
            grads[array] += pull
    scale = clip_scale(global_norm(grads), settings.clip or math.inf)
    if scale < 1:
        grads = {array: gradient * gradient.dtype.type(scale) for array, gradient in grads.items()}
    at.params, living = adam(at.params, grads, first, second, rate, step), {}
    if method == "prox":
        at.params, certificate = prox(at.params, groups, rate * strength, warm_start=at.prox.get("warm_start"))
        living = _living(at, groups, certificate, settings.shrink)
    if method == "released":
        at.params = zero_small_weights(at.params, settings.threshold)
    move_average(average, at.params, settings.average)
    return living


def adam_state(layout: Layout) -> Layout:
    """The layout of what Adam carries along with the params: their moving average and two moments, which `compact`
    cuts, and `zero_dead` zeroes, as it does them."""
    copies = {f"{name}/{array}": axes for name in ADAM for array, axes in layout.axes.items()}
    return Layout(copies, layout.sizes)


def _living(at: Progress, groups: Groups, certificate: Certificate, shrink: bool) -> Alive:
    """Who lives after a proximal step, if components have died in it, else nothing; its warm start is kept."""
    at.prox = {"warm_start": certificate.warm_start}
    known = 0 if shrink else sum(int((~kept).sum()) for kept in at.alive.values())
    return groups.split(~certificate.dead) if certificate.dead.sum() > known else {}


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
