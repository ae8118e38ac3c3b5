"""The few loops that are slow in NumPy: each is a readable reference and a compiled twin of the same name.

`reference` defines every kernel in plain NumPy, for all dtypes. `jitted` computes the same for float32 and
float64, compiled by numba. The dtypes of the arguments decide which of the two runs, here and nowhere else: if one
array is complex, long double, half precision or of foreign byte order, the reference runs; so it does, with a
warning, if NUMBA_DISABLE_JIT is set. numba is imported at the first call of a jitted kernel.
"""

import functools
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import TypeVar, cast

import numpy as np

from issref.kernels import reference

INTEGERS = np.typecodes["AllInteger"] + "?"
Kernel = TypeVar("Kernel", bound=Callable)  # an editor shows signature and docstring of the reference


def _compiled_for(argument) -> bool:
    """Return whether the jitted twin takes it: native float32 or float64, integers, booleans; nothing complex."""
    if isinstance(argument, np.ndarray):
        return argument.dtype.isnative and argument.dtype.char in "fd" + INTEGERS
    return not np.iscomplexobj(argument)


def _enabled() -> bool:
    disabled = import_module("issref.kernels.jitted.compiled").DISABLED
    if disabled:
        message = (
            "NUMBA_DISABLE_JIT: expected 0 for compiled loops, got 1; NumPy runs instead, several times slower"
        )
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    return not disabled


def _fast_or_reference(plain: Kernel) -> Kernel:
    """Return a kernel that runs the jitted twin for float32 and float64, and `plain` for all other dtypes."""

    @functools.cache
    def fast():
        return getattr(import_module("issref.kernels.jitted"), plain.__name__) if _enabled() else plain

    @functools.wraps(plain)
    def kernel(*arguments):
        return (fast() if all(map(_compiled_for, arguments)) else plain)(*arguments)

    return cast(Kernel, kernel)


add_pair_squared_norms = _fast_or_reference(reference.add_pair_squared_norms)
scale_by_pair = _fast_or_reference(reference.scale_by_pair)
plus_transpose = _fast_or_reference(reference.plus_transpose)
dual_block_pass = _fast_or_reference(reference.dual_block_pass)
duality_gap = _fast_or_reference(reference.duality_gap)
lstm_cell = _fast_or_reference(reference.lstm_cell)
lstm_cell_backward = _fast_or_reference(reference.lstm_cell_backward)
lstm_forward = _fast_or_reference(reference.lstm_forward)
lstm_backward = _fast_or_reference(reference.lstm_backward)
gru_forward = _fast_or_reference(reference.gru_forward)
gru_backward = _fast_or_reference(reference.gru_backward)
highway_cell = _fast_or_reference(reference.highway_cell)
highway_cell_backward = _fast_or_reference(reference.highway_cell_backward)
add_rows = _fast_or_reference(reference.add_rows)
log_sum_exp = _fast_or_reference(reference.log_sum_exp)
softmax_minus_target = _fast_or_reference(reference.softmax_minus_target)
affine = _fast_or_reference(reference.affine)
descend = _fast_or_reference(reference.descend)
