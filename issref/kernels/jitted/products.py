"""Matrix products with weights that are packed once and used at every step of a recurrent network.

Packing copies the columns of weights (D, K) into panels (P, D, w), each as wide as one line of the cache:
panels[j, k, c] = weights[k, w j + c]. The last panel is padded with zeros.
"""

import numpy as np

from issref.kernels.jitted import microkernel
from issref.kernels.jitted.compiled import jit
from issref.kernels.parallel import parallel_for


@jit
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
    """Return the panels of a matrix (D, K)."""
    depth, columns = weights.shape
    width = microkernel.LINE // weights.itemsize
    panels = np.empty((-(-columns // width), depth, width), weights.dtype)
    parallel_for(_pack, len(panels), 0.3 * weights.size, weights, panels)
    return panels


@jit
def multiply(rows, panels, out):
    """Write rows @ weights into out (B, P w), which is as wide as all panels together."""
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
