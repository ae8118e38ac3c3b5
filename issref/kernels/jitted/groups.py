"""Groups of weights and the proximal operator's dual."""

import numpy as np

from issref.kernels.jitted.compiled import loop, sum_loop
from issref.kernels.jitted.vector_math import ONE

TILE = 64  # columns of a table taken at a time: a whole one, read alone, misses the cache at every entry

# ---------------------------------------------------------------- groups of weights


@loop
def _scatter_squares(row, columns, energies):
    for j in range(row.size):
        energies[columns[j]] += np.float64(row[j]) * np.float64(row[j])


@sum_loop
def _sum_of_squares(row):
    total = 0.0
    for j in range(row.size):
        total += np.float64(row[j]) * np.float64(row[j])
    return total


@loop
def add_pair_energies(weights, rows, columns, table):
    one_group = columns.size > 0 and (columns == columns[0]).all()
    for i in range(rows.size):
        if one_group:  # a softmax row: ten thousand weights into one sum
            table[rows[i], columns[0]] += _sum_of_squares(weights[i])
        else:
            _scatter_squares(weights[i], columns, table[rows[i]])


@loop
def _scale(row, factor, scaled):
    for j in range(row.size):
        scaled[j] = factor * row[j]


@loop
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


@sum_loop
def _remaining_energy(energy, rest):
    total = 0.0
    for h in range(rest.size):
        total += energy[h] * rest[h] * rest[h]
    return total


@loop
def _columns(table, start, stop):
    columns = np.empty((stop - start, len(table)), table.dtype)
    for h in range(len(table)):
        for g in range(stop - start):
            columns[g, h] = table[h, start + g]
    return columns


@loop
def plus_transpose(table):
    result, size = np.empty_like(table), len(table)
    for start in range(0, size, TILE):
        columns = _columns(table, start, min(start + TILE, size))
        for g in range(len(columns)):
            for h in range(size):
                result[start + g, h] = table[start + g, h] + columns[g, h]
    return result


@loop
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


@sum_loop
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
