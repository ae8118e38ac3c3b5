"""Matrix products with weights that are packed once, for all steps of a recurrent network or a whole evaluation.

Packing copies the columns of weights (D, K) into panels (P, D, w), each two vectors wide:
panels[j, k, c] = weights[k, w j + c]. The last panel is padded with zeros.
"""

import numpy as np

from issref.kernels.inference import once, weights_are_fixed
from issref.kernels.jitted import microkernel
from issref.kernels.jitted.compiled import jit
from issref.kernels.parallel import parallel_for

BLOCK = 8  # panels that are filled together, so that each row of the weights is read in long pieces


@jit
def _copy(source, target):
    for c in range(target.size):
        target[c] = source[c]


@jit
def pack(start, stop, weights, panels):
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
    parallel_for(pack, len(panels), 0.3 * weights.size, weights, panels)
    return panels


def packed(weights):
    """Return the panels of a matrix (D, K); within `fixed_weights`, packed once."""
    return once(_packed, weights)


@jit
def _multiply_panel(rows, panel, out, add):
    tiles = -(-len(rows) // microkernel.ROWS)
    for tile in range(tiles):
        start, stop = len(rows) * tile // tiles, len(rows) * (tile + 1) // tiles
        microkernel.multiply_rows(rows, panel, out, start, stop - start, add)


@jit
def multiply(rows, panels, out, add):
    """Write rows @ weights to out (B, K), or add it to out; the rows (B, D) are contiguous."""
    width = panels.shape[2]
    for j in range(len(panels)):
        columns = out[:, j * width : (j + 1) * width]
        if columns.shape[1] == width:
            _multiply_panel(rows, panels[j], columns, add)
        else:
            padded = np.zeros((len(rows), width), out.dtype)[:, :width]
            padded[:, : columns.shape[1]] = columns
            _multiply_panel(rows, panels[j], padded, add)
            columns[:] = padded[:, : columns.shape[1]]


@jit
def _multiply_panels(start, stop, rows, panels, out):
    width = panels.shape[2]
    multiply(rows, panels[start:stop], out[:, start * width : stop * width], False)


def product(rows, weights):
    if not weights_are_fixed():
        return rows @ weights  # a BLAS packs the weights at every call
    panels, out = packed(weights), np.empty((len(rows), weights.shape[1]), rows.dtype)
    parallel_for(_multiply_panels, len(panels), out.size * len(weights) / 45, np.ascontiguousarray(rows), panels, out)
    return out
