"""A product with weights that were packed once: their columns in panels (P, D, w), a line of the cache wide.

panels[j, k, c] = weights[k, w j + c]; the last panel is filled up with zeros.
"""

import numpy as np

from issref.kernels.jitted import microkernel
from issref.kernels.jitted.compiled import loop
from issref.kernels.parallel import share_out


@loop
def _pack(start, stop, weights, panels):
    width, (depth, columns) = microkernel.LINE // weights.itemsize, weights.shape
    for j in range(start, stop):
        if columns - j * width >= width:
            for k in range(depth):
                for c in range(width):
                    panels[j, k, c] = weights[k, j * width + c]
        else:
            panels[j] = 0
            panels[j, :, : columns - j * width] = weights[:, j * width :]


def packed(weights):
    """The panels of a matrix (D, K)."""
    depth, columns = weights.shape
    width = microkernel.LINE // weights.itemsize
    panels = np.empty((-(-columns // width), depth, width), weights.dtype)
    share_out(_pack, len(panels), 0.3 * weights.size, weights, panels)
    return panels


@loop
def multiply(rows, panels, out):
    """out = rows @ weights, (B, P w): as wide as all panels together."""
    width = panels.shape[2]
    for j in range(len(panels)):
        panel, columns, row = panels[j], out[:, j * width : (j + 1) * width], 0
        while len(rows) - row >= microkernel.ROWS:
            microkernel.five_rows(rows, panel, columns, row)
            row += microkernel.ROWS
        rest = len(rows) - row
        if rest == 4:
            microkernel.four_rows(rows, panel, columns, row)
        elif rest == 3:
            microkernel.three_rows(rows, panel, columns, row)
        elif rest == 2:
            microkernel.two_rows(rows, panel, columns, row)
        elif rest == 1:
            microkernel.one_row(rows, panel, columns, row)
