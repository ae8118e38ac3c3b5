"""The few loops NumPy cannot do well, each with a readable twin.

`reference` says what is computed, in plain NumPy, for every dtype; `jitted` computes it fast for float32 and
float64. The dtypes of the arguments choose, here and nowhere else: one complex, long double, half or foreign
array among them means reference. numba is loaded at the first call.
"""

import functools
from importlib import import_module

import numpy as np

from issref.kernels import reference

INTEGERS = np.typecodes["AllInteger"] + "?"


def _compiled_for(argument):
    """Whether the jitted twin takes it: native float32 or float64, integers and booleans; no complex scalar."""
    if isinstance(argument, np.ndarray):
        return argument.dtype.isnative and argument.dtype.char in "fd" + INTEGERS
    return not np.iscomplexobj(argument)


def _twins(name):
    """The kernel `name`: its jitted twin for float32 and float64, its reference for everything else."""
    plain = getattr(reference, name)

    @functools.cache
    def fast():
        return getattr(import_module("issref.kernels.jitted"), name)

    @functools.wraps(plain)
    def kernel(*arguments):
        return (fast() if all(map(_compiled_for, arguments)) else plain)(*arguments)

    return kernel


add_pair_energies = _twins("add_pair_energies")
scale_by_pair = _twins("scale_by_pair")
plus_transpose = _twins("plus_transpose")
sweep = _twins("sweep")
duality_gap = _twins("duality_gap")
lstm_cell = _twins("lstm_cell")
lstm_cell_backward = _twins("lstm_cell_backward")
lstm_forward = _twins("lstm_forward")
lstm_backward = _twins("lstm_backward")
highway_cell = _twins("highway_cell")
highway_cell_backward = _twins("highway_cell_backward")
add_rows = _twins("add_rows")
log_sum_exp = _twins("log_sum_exp")
softmax_minus_target = _twins("softmax_minus_target")
