"""Stochastic gradient descent with clipping by the global norm."""

import math
from collections.abc import Mapping

import numpy as np


def global_norm(grads: Mapping[str, np.ndarray]) -> float:
    """The Euclidean norm of all gradients taken together."""
    return math.sqrt(sum(float(np.vdot(gradient, gradient)) for gradient in grads.values()))


def clip_scale(norm: float, most: float) -> float:
    """What to multiply gradients of this global norm by so that it is at most `most`: min(1, most / norm)."""
    return most / norm if norm > most else 1.0


def sgd(params: Mapping[str, np.ndarray], grads: dict[str, np.ndarray], rate: float) -> dict[str, np.ndarray]:
    """w - rate * gradient for every array. The memory of `grads` becomes that of the result."""
    for array, gradient in grads.items():
        gradient *= -rate
        gradient += params[array]
    return grads
