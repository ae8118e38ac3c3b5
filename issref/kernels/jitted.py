"""The loops of `reference`, compiled by numba for float32 and float64."""

import numba
import numpy as np

from issref.kernels.elementary import ONE, exp, sigmoid, tanh

TILE = 64  # columns of a table taken at a time: a whole one, read alone, misses the cache at every entry

# contract: a * b + c rounded once; reassoc: a sum kept in several lanes. Both move last digits only.
_loop = numba.njit(cache=True, error_model="numpy", fastmath={"contract"})
_sum_loop = numba.njit(cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})

# ---------------------------------------------------------------- groups of weights


@_loop
def _scatter_squares(row, columns, energies):
    for j in range(row.size):
        energies[columns[j]] += np.float64(row[j]) * np.float64(row[j])


@_sum_loop
def _sum_of_squares(row):
    total = 0.0
    for j in range(row.size):
        total += np.float64(row[j]) * np.float64(row[j])
    return total


@_loop
def add_pair_energies(weights, rows, columns, table):
    one_group = columns.size > 0 and (columns == columns[0]).all()
    for i in range(rows.size):
        if one_group:  # a softmax row: ten thousand weights into one sum
            table[rows[i], columns[0]] += _sum_of_squares(weights[i])
        else:
            _scatter_squares(weights[i], columns, table[rows[i]])


@_loop
def _scale(row, factor, scaled):
    for j in range(row.size):
        scaled[j] = factor * row[j]


@_loop
def scale_by_pair(weights, rows, columns, factors):
    scaled = np.empty_like(weights)
    one_group = columns.size > 0 and (columns == columns[0]).all()
    for i in range(rows.size):
        factor = factors[rows[i]]
        if one_group:
            _scale(weights[i], weights.dtype.type(factor[columns[0]]), scaled[i])
        else:
            for j in range(columns.size):
                scaled[i, j] = weights[i, j] * factor[columns[j]]
    return scaled


# ---------------------------------------------------------------- the proximal operator's dual (iss.prox)


@_sum_loop
def _remaining_energy(energy, rest):
    total = 0.0
    for h in range(rest.size):
        total += energy[h] * rest[h] * rest[h]
    return total


@_loop
def _columns(table, start, stop):
    columns = np.empty((stop - start, len(table)), table.dtype)
    for h in range(len(table)):
        for g in range(stop - start):
            columns[g, h] = table[h, start + g]
    return columns


@_loop
def plus_transpose(table):
    result, size = np.empty_like(table), len(table)
    for start in range(0, size, TILE):
        columns = _columns(table, start, min(start + TILE, size))
        for g in range(len(columns)):
            for h in range(size):
                result[start + g, h] = table[start + g, h] + columns[g, h]
    return result


@_loop
def sweep(energy, strength, share):
    size = len(strength)
    for start in range(0, size, TILE):
        rests = ONE - _columns(share, start, min(start + TILE, size))
        for k in range(len(rests)):
            g, rest = start + k, rests[k]
            rho = np.sqrt(_remaining_energy(energy[g], rest))
            shrink = 1.0 if rho <= strength[g] else strength[g] / rho
            for h in range(size):
                share[g, h] = shrink * rest[h]
            for later in range(k + 1, len(rests)):  # whose columns were taken before this row changed
                rests[later, g] = ONE - share[g, start + later]


@_sum_loop
def duality_gap(energy, strength, share, dead):
    norms = np.empty(len(strength), energy.dtype)
    gap = objective = 0.0
    for g in range(norms.size):
        if g % TILE == 0:
            columns = _columns(share, g, min(g + TILE, norms.size))
        column = columns[g % TILE]
        kept = moved = aligned = cut = 0.0
        for h in range(norms.size):
            rest = 1 - share[g, h] - column[h]
            keep = 0.0 if dead[g] or dead[h] else rest
            kept += energy[g, h] * keep * keep
            moved += energy[g, h] * (1 - keep) * (1 - keep)
            aligned += energy[g, h] * share[g, h] * keep
            cut += energy[g, h] * (keep - rest) * (keep - rest)
        norms[g] = np.sqrt(kept)
        gap += strength[g] * norms[g] - aligned + cut / 4  # each pair stands in the table twice
        objective += strength[g] * norms[g] + moved / 4
    return gap, objective, norms


# ---------------------------------------------------------------- one step of an LSTM (ops.lstm)


@_loop
def _apply_sigmoid(x, y):
    for k in range(x.size):
        y[k] = sigmoid(x[k])


@_loop
def _apply_tanh(x, y):
    for k in range(x.size):
        y[k] = tanh(x[k])


@_loop
def lstm_cell(preactivation, cell):
    batch, hidden = cell.shape
    gates, next_cell, output = np.empty_like(preactivation), np.empty_like(cell), np.empty_like(cell)
    for b in range(batch):  # loops over slices from 0: LLVM vectorises those
        a, gate = preactivation[b], gates[b]
        _apply_sigmoid(a[:hidden], gate[:hidden])
        _apply_tanh(a[hidden : 2 * hidden], gate[hidden : 2 * hidden])
        _apply_sigmoid(a[2 * hidden :], gate[2 * hidden :])
        i, g, f, o = gate[:hidden], gate[hidden : 2 * hidden], gate[2 * hidden : 3 * hidden], gate[3 * hidden :]
        before, after, out = cell[b], next_cell[b], output[b]
        for k in range(hidden):
            after[k] = f[k] * before[k] + i[k] * g[k]
            out[k] = o[k] * tanh(after[k])
    return gates, next_cell, output


@_loop
def lstm_cell_backward(dhidden, dcell, gates, previous, cell):
    batch, hidden = cell.shape
    dpreactivation, dprevious = np.empty_like(gates), np.empty_like(cell)
    for b in range(batch):
        gate, da = gates[b], dpreactivation[b]
        i, g, f, o = gate[:hidden], gate[hidden : 2 * hidden], gate[2 * hidden : 3 * hidden], gate[3 * hidden :]
        di, dg, df, do = da[:hidden], da[hidden : 2 * hidden], da[2 * hidden : 3 * hidden], da[3 * hidden :]
        dh, dc, before, after, dbefore = dhidden[b], dcell[b], previous[b], cell[b], dprevious[b]
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
    return dpreactivation, dprevious


# ---------------------------------------------------------------- one micro-layer of a highway network (ops.rhn)


@_loop
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


@_loop
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


# ---------------------------------------------------------------- embedding and softmax (ops.basic, ops.losses)


@_loop
def add_rows(table, ids, rows):
    for n in range(ids.size):
        for k in range(rows.shape[1]):
            table[ids[n], k] += rows[n, k]


@_sum_loop
def _sum_exp(row, shift):
    total = row.dtype.type(0)
    for k in range(row.size):
        total += exp(row[k] - shift)
    return total


@_loop
def log_sum_exp(logits, shift):
    result = np.empty_like(shift)
    for n in range(len(logits)):
        result[n] = shift[n] + np.log(_sum_exp(logits[n], shift[n]))
    return result


@_loop
def softmax_minus_target(logits, log_sum, targets, scale):
    gradient = np.empty_like(logits)
    scale = logits.dtype.type(scale)
    for n in range(len(logits)):
        for k in range(logits.shape[1]):
            gradient[n, k] = scale * exp(logits[n, k] - log_sum[n])
        gradient[n, targets[n]] -= scale
    return gradient
