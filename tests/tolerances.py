"""How far rounding may move what a test compares, so that no bound depends on the order in which a processor sums.

A product of matrices and a sum round otherwise with every width of the vectors, every BLAS and every number of
threads, and over the steps of a training run that grows by a factor which only the run knows. It is measured.
"""

import numpy as np

ROUNDING = 64 * np.finfo(np.float64).eps  # of a sum of some hundred terms of size one, whatever its order


def nudged(untrained, steps):
    """`untrained`, but its weights are moved by `steps` units of rounding, each up or down at random: all that the
    steps of a run may round, at once and at the start, where it has the longest way to grow."""

    def moved(model, config, settings):
        params, layout, drawing = untrained(model, config, settings)
        rng = np.random.default_rng(0)
        for values in params.values():
            values *= 1 + steps * np.finfo(values.dtype).eps * rng.choice((-1, 1), values.shape)
        return params, layout, drawing

    return moved


def largest_difference(one, other):
    """Over all entries of arrays by name."""
    assert one.keys() == other.keys()
    return max(np.abs(values - other[array]).max(initial=0) for array, values in one.items())
