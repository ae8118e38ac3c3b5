"""All steps of an LSTM; each thread computes all steps of some of the sequences."""

import numpy as np

from issref.kernels.jitted.cells import lstm_row, lstm_row_backward
from issref.kernels.jitted.compiled import jit
from issref.kernels.jitted.products import multiply, packed
from issref.kernels.parallel import parallel_for


def _nanoseconds(weights, sequences, steps):
    return steps * sequences * (weights.size / 45 + 4 * len(weights))


@jit
def _forward(start, stop, gates, panels, lengths, reverse, sums, hidden, h_before, c_before, c_after, h, c):
    steps, mine = len(gates), slice(start, stop)
    for step in range(steps):
        t = steps - 1 - step if reverse else step
        multiply(gates[t, mine], h[mine], panels, sums[mine])
        for b in range(start, stop):
            h_before[t, b] = h[b]
            c_before[t, b] = c[b]
            lstm_row(sums[b], c[b], gates[t, b], c_after[t, b], hidden[t, b])
            if t < lengths[b]:
                h[b] = hidden[t, b]
                c[b] = c_after[t, b]
            else:
                hidden[t, b] = 0


def lstm_forward(gates, h, c, weights, lengths, reverse):
    steps, batch, _ = gates.shape
    panels, h, c = packed(weights), h.copy(), c.copy()
    hidden, h_before, c_before, c_after = (np.empty((steps, *h.shape), h.dtype) for _ in range(4))
    results, sums = (hidden, h_before, c_before, c_after, h, c), np.empty(gates.shape[1:], h.dtype)
    work = _nanoseconds(weights, batch, steps)
    parallel_for(_forward, batch, work, gates, panels, lengths, reverse, sums, *results)
    return results


@jit
def _backward(
    start, stop, dhidden, gates, c_before, c_after, panels, lengths, reverse, zero, sums, dgates, dh, dc
):
    steps, mine = len(gates), slice(start, stop)
    dcell = np.empty_like(dc[0])
    for step in range(steps):
        t = step if reverse else steps - 1 - step
        for b in range(start, stop):
            if t < lengths[b]:
                for k in range(dh.shape[1]):
                    dh[b, k] += dhidden[t, b, k]
                dcell[:] = dc[b]
                lstm_row_backward(dh[b], dcell, gates[t, b], c_before[t, b], c_after[t, b], dgates[t, b], dc[b])
            else:
                dgates[t, b] = 0
        multiply(zero[mine], dgates[t, mine], panels, sums[mine])
        for b in range(start, stop):
            if t < lengths[b]:
                dh[b] = sums[b]


def lstm_backward(dhidden, dh, dc, gates, c_before, c_after, weights, lengths, reverse):
    steps, batch, _ = gates.shape
    panels, dh, dc = packed(weights.T), dh.copy(), dc.copy()
    dgates, zero, sums = np.empty(gates.shape, gates.dtype), np.zeros_like(dh), np.empty_like(dh)
    saved = gates, c_before, c_after, panels, lengths, reverse
    work = _nanoseconds(weights, batch, steps)
    parallel_for(_backward, batch, work, dhidden, *saved, zero, sums, dgates, dh, dc)
    return dgates, dh, dc
