"""One step of an LSTM or a GRU and one micro-layer of a highway network, after the matrix products."""

import numpy as np

from issref.kernels.jitted.compiled import inlined, jit
from issref.kernels.jitted.vector_math import ONE, sigmoid, tanh

# ---------------------------------------------------------------- one step of an LSTM (ops.lstm)


@inlined
def _apply_sigmoid(x, y):
    for k in range(x.size):
        y[k] = sigmoid(x[k])


@inlined
def _apply_tanh(x, y):
    for k in range(x.size):
        y[k] = tanh(x[k])


@inlined
def lstm_row(a, before, gate, after, out):
    hidden = before.size  # loops over slices from 0: LLVM vectorises those
    _apply_sigmoid(a[:hidden], gate[:hidden])
    _apply_tanh(a[hidden : 2 * hidden], gate[hidden : 2 * hidden])
    _apply_sigmoid(a[2 * hidden :], gate[2 * hidden :])
    i, g, f, o = gate[:hidden], gate[hidden : 2 * hidden], gate[2 * hidden : 3 * hidden], gate[3 * hidden :]
    for k in range(hidden):
        after[k] = f[k] * before[k] + i[k] * g[k]
        out[k] = o[k] * tanh(after[k])


@inlined
def lstm_row_backward(dh, dc, gate, before, after, da, dbefore):
    hidden = before.size
    i, g, f, o = gate[:hidden], gate[hidden : 2 * hidden], gate[2 * hidden : 3 * hidden], gate[3 * hidden :]
    di, dg, df, do = da[:hidden], da[hidden : 2 * hidden], da[2 * hidden : 3 * hidden], da[3 * hidden :]
    for k in range(hidden):
        squashed = tanh(after[k])
        do[k] = dh[k] * squashed * o[k] * (ONE - o[k])
        dbefore[k] = dc[k] + dh[k] * o[k] * (ONE - squashed * squashed)
    for k in range(hidden):
        di[k] = dbefore[k] * g[k] * i[k] * (ONE - i[k])
        dg[k] = dbefore[k] * i[k] * (ONE - g[k] * g[k])
    for k in range(hidden):
        df[k] = dbefore[k] * before[k] * f[k] * (ONE - f[k])
        dbefore[k] = dbefore[k] * f[k]


@jit
def lstm_cell(preactivation, cell):
    gates, next_cell, output = np.empty_like(preactivation), np.empty_like(cell), np.empty_like(cell)
    for b in range(len(cell)):
        lstm_row(preactivation[b], cell[b], gates[b], next_cell[b], output[b])
    return gates, next_cell, output


@jit
def lstm_cell_backward(dhidden, dcell, gates, previous, cell):
    dpreactivation, dprevious = np.empty_like(gates), np.empty_like(cell)
    for b in range(len(cell)):
        lstm_row_backward(dhidden[b], dcell[b], gates[b], previous[b], cell[b], dpreactivation[b], dprevious[b])
    return dpreactivation, dprevious


# ---------------------------------------------------------------- one step of a GRU (ops.gru)


@inlined
def gru_row_gates(gate, before, reset_after, read):
    hidden = before.size
    _apply_sigmoid(gate[: 2 * hidden], gate[: 2 * hidden])
    r = gate[:hidden]
    for k in range(hidden):
        read[k] = before[k] if reset_after else r[k] * before[k]


@inlined
def gru_row(gate, product, before, reset_after, after):
    hidden = before.size
    r, z, n = gate[:hidden], gate[hidden : 2 * hidden], gate[2 * hidden :]
    for k in range(hidden):
        n[k] += r[k] * product[k] if reset_after else product[k]
    _apply_tanh(n, n)
    for k in range(hidden):
        after[k] = n[k] + z[k] * (before[k] - n[k])


@inlined
def gru_row_backward(dh, gate, product, before, reset_after, da, dproduct):
    hidden = before.size
    r, z, n = gate[:hidden], gate[hidden : 2 * hidden], gate[2 * hidden :]
    dr, dz, dn = da[:hidden], da[hidden : 2 * hidden], da[2 * hidden :]
    for k in range(hidden):
        dn[k] = dh[k] * (ONE - z[k]) * (ONE - n[k] * n[k])
        dz[k] = dh[k] * (before[k] - n[k]) * z[k] * (ONE - z[k])
        dh[k] *= z[k]
    for k in range(hidden):
        dproduct[k] = dn[k] * r[k] if reset_after else dn[k]
        dr[k] = dn[k] * product[k] * r[k] * (ONE - r[k])  # replaced if the reset acts before the product


@inlined
def gru_row_backward_reset(dread, gate, before, dr):
    for k in range(before.size):
        r = gate[k]
        dr[k] = dread[k] * before[k] * r * (ONE - r)
        dread[k] *= r


# ---------------------------------------------------------------- one micro-layer of a highway network (ops.rhn)


@jit
def highway_cell(preactivation, state):
    batch, width = state.shape
    gates, next_state = np.empty_like(preactivation), np.empty_like(state)
    for b in range(batch):
        a, gate = preactivation[b], gates[b]
        _apply_tanh(a[:width], gate[:width])
        _apply_sigmoid(a[width:], gate[width:])
        h, t, before, after = gate[:width], gate[width:], state[b], next_state[b]
        for k in range(width):
            after[k] = before[k] + t[k] * (h[k] - before[k])
    return gates, next_state


@jit
def highway_cell_backward(dstate, gates, previous):
    batch, width = previous.shape
    dpreactivation, dprevious = np.empty_like(gates), np.empty_like(previous)
    for b in range(batch):
        gate, da = gates[b], dpreactivation[b]
        h, t, dh, dt = gate[:width], gate[width:], da[:width], da[width:]
        ds, before, dbefore = dstate[b], previous[b], dprevious[b]
        for k in range(width):
            dh[k] = ds[k] * t[k] * (ONE - h[k] * h[k])
            dt[k] = ds[k] * (h[k] - before[k]) * t[k] * (ONE - t[k])
            dbefore[k] = ds[k] * (ONE - t[k])
    return dpreactivation, dprevious
