"""The backward of an embedding and the softmax, row by row; a step of gradient descent, entry by entry."""

import numpy as np

from issref.kernels import reference
from issref.kernels.jitted.compiled import inlined, inlined_sum, jit
from issref.kernels.jitted.vector_math import exp, reordered
from issref.kernels.parallel import parallel_for


@jit
def add_rows(table, ids, rows):
    for n in range(ids.size):
        for k in range(rows.shape[1]):
            table[ids[n], k] += rows[n, k]


@inlined
def _largest(row):
    """Return the largest entry of a row; LLVM vectorises this search among integers only."""
    largest = reordered(row[0])
    for k in range(row.size):
        key = reordered(row[k])
        largest = key if key > largest else largest
    return reordered(largest)


@inlined_sum
def _sum_exp(row, shift):
    total = row.dtype.type(0)
    for k in range(row.size):
        total += exp(row[k] - shift)
    return total


@jit
def _log_sum_exp(start, stop, logits, result):
    for n in range(start, stop):
        shift = _largest(logits[n])
        result[n] = shift + np.log(_sum_exp(logits[n], shift))


def log_sum_exp(logits):
    result = np.empty(len(logits), logits.dtype)
    parallel_for(_log_sum_exp, len(logits), 0.4 * logits.size, logits, result)
    return result


@jit
def _softmax_minus_target(start, stop, logits, log_sum, targets, scale, gradient):
    for n in range(start, stop):
        row, slope, shift = logits[n], gradient[n], log_sum[n]
        for k in range(row.size):
            slope[k] = scale * exp(row[k] - shift)
        slope[targets[n]] -= scale


def softmax_minus_target(logits, log_sum, targets, scale):
    gradient, scale = np.empty_like(logits), logits.dtype.type(scale)
    parallel_for(_softmax_minus_target, len(logits), 0.6 * logits.size, logits, log_sum, targets, scale, gradient)
    return gradient


@jit
def _descend(start, stop, weights, gradient, rate):
    for k in range(start, stop):
        gradient[k] = weights[k] - rate * gradient[k]


def descend(weights, gradient, rate):
    if weights.flags.c_contiguous and gradient.flags.c_contiguous:
        flat, rate = (weights.reshape(-1), gradient.reshape(-1)), gradient.dtype.type(rate)
        parallel_for(_descend, gradient.size, 0.4 * gradient.size, *flat, rate)
    else:
        reference.descend(weights, gradient, rate)
