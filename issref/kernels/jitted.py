"""The loops of `reference`, compiled by numba for float32 and float64; the only file that imports numba.

numba has no vectorised tanh or exp, so both are built here from one polynomial that LLVM turns into vector
code. With n = round(x / ln 2) and r = x - n ln 2, |r| <= ln(2) / 2,

    exp(x) = 2^n (1 + p(r)),    expm1(x) = 2^n p(r) + (2^n - 1),    p(r) = r + r^2/2! + r^3/3! + ...

the Taylor series cut at degree 7 (float32) or 13 (float64), where its remainder is below half a unit in the
last place. Then tanh(x) = e / (e + 2) with e = expm1(2x), and sigmoid(x) = 1 / (1 + exp(-x)). tanh(0) is
exactly 0, NaN stays NaN; the largest errors are stated and held in tests/test_kernels.py.
"""

import math
from decimal import Decimal

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

# contract: a * b + c rounded once; reassoc: a sum kept in several lanes. Both move last digits only.
_loop = numba.njit(cache=True, error_model="numpy", fastmath={"contract"})
_sum_loop = numba.njit(cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})

# ---------------------------------------------------------------- exp, tanh, sigmoid

LN2 = Decimal("0.693147180559945309417232121458176568075500134360255254120680")
ONE, TWO = np.int8(1), np.int8(2)  # int8, because numba makes float32 + int64 a float64
FORMATS = {types.float32: (np.float32, 23, 16, 7, 87), types.float64: (np.float64, 52, 32, 13, 708)}


@intrinsic
def _power_of_two(typing_context, shifted):
    """2^n from n + 1.5 * 2^(mantissa bits): the low bits of that sum hold n; move them to the exponent."""
    width, mantissa, bias = (32, 23, 127) if shifted == types.float32 else (64, 52, 1023)

    def codegen(context, builder, signature, arguments):
        integer = ir.IntType(width)
        n = builder.bitcast(arguments[0], integer)
        exponent = builder.shl(n, ir.Constant(integer, mantissa))
        return builder.bitcast(
            builder.add(exponent, ir.Constant(integer, bias << mantissa)), context.get_value_type(shifted)
        )

    return shifted(shifted), codegen


def _exp_parts(x):
    """2^n and p(r) of x, which is first clipped to where 2^n is a normal number."""


@overload(_exp_parts, jit_options={"fastmath": {"contract"}, "error_model": "numpy"})
def _exp_parts_of(x):
    dtype, mantissa, bits, degree, most = FORMATS[x]
    high_ln2 = round(LN2 * 2**bits) / 2**bits  # few bits, so that n * high_ln2 is exact
    shift, per_ln2 = dtype(1.5 * 2**mantissa), dtype(1 / float(LN2))
    high, low, least, most = dtype(high_ln2), dtype(LN2 - Decimal(high_ln2)), dtype(-most), dtype(most)
    c2, c3, c4, c5, c6, c7 = (dtype(1 / math.factorial(k)) for k in range(2, 8))
    c8, c9, c10, c11, c12, c13 = (dtype(1 / math.factorial(k)) for k in range(8, 14))

    def parts7(x):
        x = most if x > most else x
        x = least if x < least else x
        shifted = x * per_ln2 + shift
        n = shifted - shift
        r = (x - n * high) - n * low
        tail = c2 + r * (c3 + r * (c4 + r * (c5 + r * (c6 + r * c7))))
        return _power_of_two(shifted), r + r * r * tail

    def parts13(x):
        x = most if x > most else x
        x = least if x < least else x
        shifted = x * per_ln2 + shift
        n = shifted - shift
        r = (x - n * high) - n * low
        end = c8 + r * (c9 + r * (c10 + r * (c11 + r * (c12 + r * c13))))
        tail = c2 + r * (c3 + r * (c4 + r * (c5 + r * (c6 + r * (c7 + r * end)))))
        return _power_of_two(shifted), r + r * r * tail

    return parts7 if degree == 7 else parts13


@_loop
def exp(x):
    """exp(x) for |x| <= 87 (float32) or 708 (float64); outside, the value at that bound."""
    scale, p = _exp_parts(x)
    return scale + scale * p


@_loop
def tanh(x):
    """tanh(x) = e / (e + 2) with e = expm1(2x); exactly 0 at 0."""
    scale, p = _exp_parts(x + x)
    e = scale * p + (scale - ONE)
    return e / (e + TWO)


@_loop
def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return ONE / (ONE + exp(-x))


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
def sweep(energy, strength, share, visit):
    rest = np.empty(len(strength), share.dtype)
    for g in visit:
        for h in range(rest.size):
            rest[h] = ONE - share[h, g]
        rho = np.sqrt(_remaining_energy(energy[g], rest))
        shrink = 1.0 if rho <= strength[g] else strength[g] / rho
        for h in range(rest.size):
            share[g, h] = shrink * rest[h]


@_sum_loop
def duality_gap(energy, strength, share, dead):
    norms = np.empty(len(strength), energy.dtype)
    gap = objective = 0.0
    for g in range(norms.size):
        kept = moved = aligned = cut = 0.0
        for h in range(norms.size):
            rest = 1 - share[g, h] - share[h, g]
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
