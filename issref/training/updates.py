"""Update rules that make components zero while training: a descent, with one of three penalties or none.

    params, optimizer_state, died = update(params, grads, rate, penalty, optimizer_state)

`grads` is the gradient of the data loss, whose memory is reused; `penalty` is (groups, strengths), with a strength
for each group; `died` masks the groups that became zero in this step and will stay so (empty for a rule that
cuts nothing while training). A rule is built on a descent, SGD or Adam, which clips by the global norm:

    params = descend(params, grads, rate, optimizer_state)

Every rule raises FloatingPointError, before anything changes, for a gradient that is not finite.
"""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from issref.iss.compact import zero_small_weights
from issref.iss.groups import Groups
from issref.iss.layout import Params
from issref.iss.penalty import penalty as group_lasso
from issref.iss.prox import prox
from issref.training.checkpoint import add_prefix, strip_prefix
from issref.training.optimizers import adam, add_weight_decay, clip_scale, global_norm, move_average, sgd

Arrays = dict[str, np.ndarray]


class Penalty(NamedTuple):
    """A group lasso: the groups, and the strength of each."""

    groups: Groups
    strengths: np.ndarray


Descent = Callable[[Params, Params, float, Arrays], Params]
Update = Callable[[Params, Params, float, Penalty, Arrays], tuple[Params, Arrays, np.ndarray]]
NO_GROUPS = np.zeros(0, bool)

# ---------------------------------------------------------------- descents


def clipped_sgd(clip: float) -> Descent:
    """Return stochastic gradient descent:  w - rate * clip(gradient)."""

    def descend(params, grads, rate, optimizer_state):
        return sgd(params, grads, rate * clip_scale(global_norm(grads), clip))

    return descend


def clipped_adam(clip: float | None) -> Descent:
    """Return Adam on the clipped gradient; its step count and its two moments are in the optimizer state."""

    def descend(params, grads, rate, optimizer_state):
        scale = clip_scale(global_norm(grads), clip or math.inf)
        if scale < 1:
            grads = {array: gradient * gradient.dtype.type(scale) for array, gradient in grads.items()}
        optimizer_state["steps"] = optimizer_state["steps"] + 1
        moments = strip_prefix(optimizer_state, "first"), strip_prefix(optimizer_state, "second")
        return adam(params, grads, *moments, rate, int(optimizer_state["steps"][0]))

    return descend


def adam_state(params: Params) -> Arrays:
    """Return Adam's state before the first step, and the moving average of the weights, which begins at them.

    A name with a "/" is that of an array in the shape of a parameter, which pruning cuts like the parameter.
    """
    zeros = {array: np.zeros_like(values) for array, values in params.items()}
    copies = {array: values.copy() for array, values in params.items()}
    moments = add_prefix(first=zeros, second={array: values.copy() for array, values in zeros.items()})
    return {"steps": np.array([0]), **moments, **add_prefix(average=copies)}


# ---------------------------------------------------------------- updates


def dense_update(descend: Descent) -> Update:
    """Return a descent without penalty."""

    def update(params, grads, rate, penalty, optimizer_state):
        return descend(params, grads, rate, optimizer_state), optimizer_state, NO_GROUPS

    return update


def prox_update(descend: Descent) -> Update:
    """Return a descent on the data loss, then the exact proximal step at rate * strength.

    After Adam the proximal step is that of the Euclidean metric, not the exact one of Adam's metric (see `adam`).
    """

    def update(params, grads, rate, penalty, optimizer_state):
        groups, strengths = penalty
        params = descend(params, grads, rate, optimizer_state)
        params, certificate = prox(params, groups, rate * strengths, warm_start=optimizer_state.get("warm_start"))
        died = certificate.dead & ~optimizer_state.get("dead", np.zeros(groups.count, bool))
        state = {**optimizer_state, "warm_start": certificate.warm_start, "dead": certificate.dead}
        return params, state, died

    return update


def released_update(descend: Descent, threshold: float, thresholded: Iterable[str]) -> Update:
    """Return the released code's rule: the penalty's gradient joins the data's before the clip, and after the step
    each weight below the threshold in the arrays `thresholded` is zeroed by itself.

    With Adam the penalty's gradient is normalised together with that of the data.
    """

    def update(params, grads, rate, penalty, optimizer_state):
        _, penalty_grads = group_lasso(params, *penalty, self_weight=2, smoothing=1e-8)
        for array, gradient in penalty_grads.items():
            grads[array] += gradient
        params = descend(params, grads, rate, optimizer_state)
        params |= zero_small_weights({array: params[array] for array in thresholded}, threshold)
        return params, optimizer_state, NO_GROUPS

    return update


def l1_update(descend: Descent, strength: float, threshold: float, unpenalized: str) -> Update:
    """Return the released code's L1: strength * sign(w) joins the gradient of all arrays but one, the embedding,
    before the clip, and after the step every weight below max(threshold, 2 * strength) is zeroed by itself."""

    def update(params, grads, rate, penalty, optimizer_state):
        for array, gradient in grads.items():
            if array != unpenalized:
                gradient += np.sign(params[array]) * gradient.dtype.type(strength)
        params = descend(params, grads, rate, optimizer_state)
        return zero_small_weights(params, max(threshold, 2 * strength)), optimizer_state, NO_GROUPS

    return update


def decayed(update: Update, weight_decay: float) -> Update:
    """Return the update of a loss to which weight_decay / 2 |w|^2 is added, or the update itself at 0."""

    def decayed_update(params, grads, rate, penalty, optimizer_state):
        add_weight_decay(grads, params, weight_decay)
        return update(params, grads, rate, penalty, optimizer_state)

    return decayed_update if weight_decay else update


def averaged(update: Update, decay: float) -> Update:
    """Return the update, followed by an update of the moving average of the weights in the optimizer state."""

    def averaged_update(params, grads, rate, penalty, optimizer_state):
        params, optimizer_state, died = update(params, grads, rate, penalty, optimizer_state)
        move_average(strip_prefix(optimizer_state, "average"), params, decay)
        return params, optimizer_state, died

    return averaged_update
