"""Squared norms and scaling by pairs of groups, and the dual of the proximal operator."""

import numpy as np

from issref.kernels.jitted.compiled import inlined, inlined_sum, jit, jit_sum
from issref.kernels.jitted.vector_math import ONE

TILE = 64  # columns copied at a time: reading a table column by column would miss the cache at every entry

# ---------------------------------------------------------------- groups of weights


@inlined
def _scatter_squares(row, columns, table_row):
    for j in range(row.size):
        table_row[columns[j]] += np.float64(row[j]) * np.float64(row[j])


@inlined_sum
def _sum_of_squares(row):
    total = 0.0
    for j in range(row.size):
        total += np.float64(row[j]) * np.float64(row[j])
    return total


@jit
def add_pair_squared_norms(weights, rows, columns, table):
    one_group = columns.size > 0 and (columns == columns[0]).all()
    for i in range(rows.size):
        if one_group:  # a row of the softmax: ten thousand weights in one sum
            table[rows[i], columns[0]] += _sum_of_squares(weights[i])
        else:
            _scatter_squares(weights[i], columns, table[rows[i]])


@inlined
def _scale(row, factor, scaled):
    for j in range(row.size):
        scaled[j] = factor * row[j]


@jit
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


# ---------------------------------------------------------------- the proximal operator's dual (iss.dual)


@inlined_sum
def _rest_squared_norm(squared_norms, rest):
    total = 0.0
    for h in range(rest.size):
        total += squared_norms[h] * rest[h] * rest[h]
    return total


@inlined
def _columns(table, start, stop):
    columns = np.empty((stop - start, len(table)), table.dtype)
    for h in range(len(table)):
        for g in range(stop - start):
            columns[g, h] = table[h, start + g]
    return columns


@jit
def plus_transpose(table):
    result, size = np.empty_like(table), len(table)
    for start in range(0, size, TILE):
        columns = _columns(table, start, min(start + TILE, size))
        for g in range(len(columns)):
            for h in range(size):
                result[start + g, h] = table[start + g, h] + columns[g, h]
    return result


@jit
def dual_block_pass(squared_norms, strength, share):
    size = len(strength)
    for start in range(0, size, TILE):
        rests = ONE - _columns(share, start, min(start + TILE, size))
        for k in range(len(rests)):
            g, rest = start + k, rests[k]
            rho = np.sqrt(_rest_squared_norm(squared_norms[g], rest))
            shrink = 1.0 if rho <= strength[g] else strength[g] / rho
            for h in range(size):
                share[g, h] = shrink * rest[h]
            for later in range(k + 1, len(rests)):  # their columns were copied before this row changed
                rests[later, g] = ONE - share[g, start + later]


@jit_sum
def duality_gap(squared_norms, strength, share, dead):
    norms = np.empty(len(strength), squared_norms.dtype)
    gap = objective = 0.0
    for g in range(norms.size):
        if g % TILE == 0:
            columns = _columns(share, g, min(g + TILE, norms.size))
        column = columns[g % TILE]
        squared = moved = aligned = cut = 0.0
        for h in range(norms.size):
            rest = 1 - share[g, h] - column[h]
            factor = 0.0 if dead[g] or dead[h] else rest
            squared += squared_norms[g, h] * factor * factor
            moved += squared_norms[g, h] * (1 - factor) * (1 - factor)
            aligned += squared_norms[g, h] * share[g, h] * factor
            cut += squared_norms[g, h] * (factor - rest) * (factor - rest)
        norms[g] = np.sqrt(squared)
        gap += strength[g] * norms[g] - aligned + cut / 4  # 4: the table has each pair twice
        objective += strength[g] * norms[g] + moved / 4
    return gap, objective, norms
