"""Stochastic gradient descent with clipping by the global norm, Adam, and the moving average of the weights."""

import math
from collections.abc import Mapping

import numpy as np

from issref import kernels


def global_norm(grads: Mapping[str, np.ndarray]) -> float:
    """Return the Euclidean norm of all gradients taken together."""
    return math.sqrt(sum(float(np.vdot(gradient, gradient)) for gradient in grads.values()))


def clip_scale(norm: float, most: float) -> float:
    """Return min(1, most / norm), the factor that clips gradients of this global norm to `most`.

    Raises FloatingPointError if the norm is not finite.
    """
    if not math.isfinite(norm):
        raise FloatingPointError(f"the gradient's norm is {norm}")
    return most / norm if norm > most else 1.0


def add_weight_decay(grads: dict[str, np.ndarray], params: Mapping[str, np.ndarray], decay: float) -> None:
    """Add the gradient of decay / 2 |w|^2, in place: decay * w for every array."""
    for array, gradient in grads.items():
        gradient += gradient.dtype.type(decay) * params[array]


def sgd(params: Mapping[str, np.ndarray], grads: dict[str, np.ndarray], rate: float) -> dict[str, np.ndarray]:
    """Return w - rate * gradient for every array. The result reuses the memory of `grads`."""
    for array, gradient in grads.items():
        kernels.descend(params[array], gradient, rate)
    return grads


BETAS, EPSILON = (0.9, 0.999), 1e-8  # as in TensorFlow and in the released code


def adam(
    params: Mapping[str, np.ndarray],
    grads: dict[str, np.ndarray],
    first: Mapping[str, np.ndarray],
    second: Mapping[str, np.ndarray],
    rate: float,
    step: int,
) -> dict[str, np.ndarray]:
    """Return the params after step number `step` of Adam (Kingma and Ba 2015, the form at the end of section 2):

        m <- b1 m + (1 - b1) g,     v <- b2 v + (1 - b2) g^2
        w - rate sqrt(1 - b2^step) / (1 - b1^step) * m / (sqrt(v) + epsilon)

    Steps count from 1. `first` is m and `second` is v, both updated in place; the result reuses the memory of
    `grads`. This is a step in the metric diag(sqrt(v)). A proximal step in the Euclidean metric at rate * strength
    after it is therefore not the exact one of Adam's metric, which would scale each weight of a group differently;
    it shrinks a group as a whole, by rate * strength, however large its gradients are.
    """
    (b1, b2), correction = BETAS, math.sqrt(1 - BETAS[1] ** step) / (1 - BETAS[0] ** step)
    for array, gradient in grads.items():
        m, v = first[array], second[array]
        m *= b1
        m += (1 - b1) * gradient
        v *= b2
        v += (1 - b2) * gradient**2
        np.sqrt(v, out=gradient)
        gradient += EPSILON
        np.divide(m, gradient, out=gradient)
        gradient *= -rate * correction
        gradient += params[array]
    return grads


def move_average(average: Mapping[str, np.ndarray], params: Mapping[str, np.ndarray], decay: float) -> None:
    """Update the moving average of the weights in place:  a <- decay a + (1 - decay) w  for every array."""
    for array, a in average.items():
        a += (1 - decay) * (params[array] - a)
