"""Matrix products with weights that are packed once, for all steps of a recurrent network or a whole evaluation.

Packing copies the columns of weights (D, K) into panels (P, D, w), each two vectors wide:
panels[j, k, c] = weights[k, w j + c]. The last panel is padded with zeros.
"""

import numpy as np

from issref.kernels.inference import once, weights_are_fixed
from issref.kernels.jitted import microkernel
from issref.kernels.jitted.compiled import inlined, jit
from issref.kernels.parallel import parallel_for

BLOCK = 8  # panels that are filled together, so that each row of the weights is read in long pieces


@inlined
def _copy(source, target):
    for c in range(target.size):
        target[c] = source[c]


@jit
def _pack(start, stop, weights, panels):
    width, (depth, columns) = panels.shape[2], weights.shape
    whole = min(stop, columns // width)
    for first in range(start, whole, BLOCK):
        for k in range(depth):
            for j in range(first, min(first + BLOCK, whole)):
                _copy(weights[k, j * width : (j + 1) * width], panels[j, k])
    if whole < stop:
        panels[whole] = 0
        panels[whole, :, : columns - whole * width] = weights[:, whole * width :]


def _packed(weights):
    depth, columns = weights.shape
    width = microkernel.PANEL // weights.itemsize
    panels = np.empty((-(-columns // width), depth, width), weights.dtype)
    parallel_for(_pack, len(panels), 0.3 * weights.size, weights, panels)
    return panels


def packed(weights):
    """Return the panels of a matrix (D, K); within `fixed_weights`, packed once."""
    return once(_packed, weights)


@jit  # not inlined: its code is long, and fixes the order of its sums
def multiply(start, rows, panels, out):
    """Write start + rows @ weights to out (B, K), which may be start. Each row of all three is contiguous."""
    width, tiles = panels.shape[2], -(-len(rows) // microkernel.ROWS)
    padded = np.zeros((len(rows), width), out.dtype)[:, :width]  # a slice, which has the type of the others
    for j in range(len(panels)):
        mine = slice(j * width, min((j + 1) * width, out.shape[1]))
        filled = mine.stop - mine.start
        before, after = start[:, mine], out[:, mine]
        if filled < width:
            padded[:, :filled] = before
            before = after = padded
        for tile in range(tiles):
            first, last = len(rows) * tile // tiles, len(rows) * (tile + 1) // tiles
            microkernel.multiply_rows(before, rows, panels[j], after, first, last - first)
        if filled < width:
            out[:, mine] = padded[:, :filled]


@jit
def _affine_panels(start, stop, rows, panels, bias, out):
    width = panels.shape[2]
    mine = slice(start * width, min(stop * width, bias.size))
    for n in range(len(rows)):
        out[n, mine] = bias[mine]
    multiply(out[:, mine], rows, panels[start:stop], out[:, mine])


@jit
def _add_bias(start, stop, bias, out):
    for n in range(start, stop):
        row = out[n]
        for k in range(row.size):
            row[k] += bias[k]


def affine(rows, weights, bias):
    if weights_are_fixed():
        panels, out = packed(weights), np.empty((len(rows), len(bias)), rows.dtype)
        rows, work = np.ascontiguousarray(rows), out.size * len(weights) / 45
        parallel_for(_affine_panels, len(panels), work, rows, panels, bias, out)
    else:
        out = rows @ weights  # a BLAS packs the weights at every call
        parallel_for(_add_bias, len(out), 0.2 * out.size, bias, out)
    return out
