"""All steps of an LSTM or a GRU; each thread computes all steps of some of the sequences."""

import numpy as np

from issref.kernels.jitted.cells import (
    gru_row,
    gru_row_backward,
    gru_row_backward_reset,
    gru_row_gates,
    lstm_row,
    lstm_row_backward,
)
from issref.kernels.jitted.compiled import jit
from issref.kernels.jitted.products import multiply, packed
from issref.kernels.parallel import parallel_for


def _nanoseconds(weights, sequences, steps):
    return steps * sequences * (weights.size / 45 + 4 * len(weights))


# ---------------------------------------------------------------- an LSTM


@jit
def _lstm_forward(start, stop, gates, panels, lengths, reverse, sums, hidden, h_before, c_before, c_after, h, c):
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
    parallel_for(_lstm_forward, batch, work, gates, panels, lengths, reverse, sums, *results)
    return results


@jit
def _lstm_backward(
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
    parallel_for(_lstm_backward, batch, work, dhidden, *saved, zero, sums, dgates, dh, dc)
    return dgates, dh, dc


# ---------------------------------------------------------------- a GRU


@jit
def _gru_forward(
    start, stop, gates, panels, shift, lengths, reverse, reset_after, read, hidden, h_before, products, h
):
    steps, mine, both = len(gates), slice(start, stop), slice(0, 2 * h.shape[1])
    for step in range(steps):
        t = steps - 1 - step if reverse else step
        multiply(gates[t, mine, both], h[mine], panels[0], gates[t, mine, both])
        for b in range(start, stop):
            h_before[t, b] = h[b]
            products[t, b] = shift
            gru_row_gates(gates[t, b], h[b], reset_after, read[b])
        multiply(products[t, mine], read[mine], panels[1], products[t, mine])
        for b in range(start, stop):
            gru_row(gates[t, b], products[t, b], h_before[t, b], reset_after, hidden[t, b])
            if t < lengths[b]:
                h[b] = hidden[t, b]
            else:
                hidden[t, b] = 0


def gru_forward(gates, h, weights, shift, lengths, reverse, reset_after):
    (steps, batch, _), size = gates.shape, len(shift)
    panels, h = (packed(weights[:, : 2 * size]), packed(weights[:, 2 * size :])), h.copy()
    hidden, h_before, products = (np.empty((steps, *h.shape), h.dtype) for _ in range(3))
    results, read = (hidden, h_before, products, h), np.empty_like(h)
    work = _nanoseconds(weights, batch, steps)
    parallel_for(_gru_forward, batch, work, gates, panels, shift, lengths, reverse, reset_after, read, *results)
    return results


@jit
def _gru_backward(
    start,
    stop,
    dhidden,
    gates,
    h_before,
    products,
    panels,
    lengths,
    reverse,
    reset_after,
    sums,
    dproduct,
    dgates,
    dh,
):
    steps, size, mine = len(gates), dh.shape[1], slice(start, stop)
    for step in range(steps):
        t = step if reverse else steps - 1 - step
        for b in range(start, stop):
            sums[b] = 0
            if t < lengths[b]:
                for k in range(size):
                    dh[b, k] += dhidden[t, b, k]
                saved = gates[t, b], products[t, b], h_before[t, b]
                gru_row_backward(dh[b], *saved, reset_after, dgates[t, b], dproduct[b])
            else:
                dgates[t, b] = 0
                dproduct[b] = 0
        multiply(sums[mine], dproduct[mine], panels[1], sums[mine])
        if not reset_after:
            for b in range(start, stop):
                gru_row_backward_reset(sums[b], gates[t, b, :size], h_before[t, b], dgates[t, b, :size])
        multiply(sums[mine], dgates[t, mine, : 2 * size], panels[0], sums[mine])
        for b in range(start, stop):
            if t < lengths[b]:
                for k in range(size):
                    dh[b, k] += sums[b, k]


def gru_backward(dhidden, dh, gates, h_before, products, weights, lengths, reverse, reset_after):
    (steps, batch, _), size = gates.shape, dh.shape[1]
    panels, dh = (packed(weights[:, : 2 * size].T), packed(weights[:, 2 * size :].T)), dh.copy()
    dgates, sums, dproduct = np.empty(gates.shape, gates.dtype), np.empty_like(dh), np.empty_like(dh)
    saved, work = (gates, h_before, products, panels, lengths, reverse), _nanoseconds(weights, batch, steps)
    parallel_for(_gru_backward, batch, work, dhidden, *saved, reset_after, sums, dproduct, dgates, dh)
    return dgates, dh
