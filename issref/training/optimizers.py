"""Stochastic gradient descent with clipping by the global norm, Adam, and the moving average of the weights."""

import math
from collections.abc import Mapping

import numpy as np


def global_norm(grads: Mapping[str, np.ndarray]) -> float:
    """The Euclidean norm of all gradients taken together."""
    return math.sqrt(sum(float(np.vdot(gradient, gradient)) for gradient in grads.values()))


def clip_scale(norm: float, most: float) -> float:
    """min(1, most / norm): what brings gradients of this global norm to at most `most`.

    Raises FloatingPointError if the norm is not finite, before anything is changed by it.
    """
    if not math.isfinite(norm):
        raise FloatingPointError(f"the gradient's norm is {norm}")
    return most / norm if norm > most else 1.0


def add_weight_decay(grads: dict[str, np.ndarray], params: Mapping[str, np.ndarray], decay: float) -> None:
    """Add the gradient of decay / 2 |w|^2, in place: decay * w for every array."""
    for array, gradient in grads.items():
        gradient += gradient.dtype.type(decay) * params[array]


def sgd(params: Mapping[str, np.ndarray], grads: dict[str, np.ndarray], rate: float) -> dict[str, np.ndarray]:
    """w - rate * gradient for every array. The memory of `grads` becomes that of the result."""
    for array, gradient in grads.items():
        gradient *= -rate
        gradient += params[array]
    return grads


BETAS, EPSILON = (0.9, 0.999), 1e-8  # those of TensorFlow and of the released code


def adam(
    params: Mapping[str, np.ndarray],
    grads: dict[str, np.ndarray],
    first: Mapping[str, np.ndarray],
    second: Mapping[str, np.ndarray],
    rate: float,
    step: int,
) -> dict[str, np.ndarray]:
    """Adam (Kingma and Ba 2015, the form at the end of section 2) for every array, at its update `step`, from 1:

        m <- b1 m + (1 - b1) g,     v <- b2 v + (1 - b2) g^2
        w - rate sqrt(1 - b2^step) / (1 - b1^step) * m / (sqrt(v) + epsilon)

    `first` is m and `second` is v, both changed in place; the memory of `grads` becomes that of the result.
    This is a step in the metric diag(sqrt(v)). A proximal step in the Euclidean metric at rate * strength, which
    may follow it, is therefore not the exact one of Adam's metric, which would shrink each weight of a group by
    another factor; it shrinks a group as a whole, by rate * strength, however large its gradients are.
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
    """a <- decay a + (1 - decay) w for every array, in place: the average of the weights over training steps."""
    for array, a in average.items():
        a += (1 - decay) * (params[array] - a)
