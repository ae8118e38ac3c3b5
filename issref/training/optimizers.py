"""Stochastic gradient descent with clipping by the global norm."""

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
