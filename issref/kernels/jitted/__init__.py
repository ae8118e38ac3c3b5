"""The loops of `reference`, compiled by numba for float32 and float64."""

from issref.kernels.jitted.cells import highway_cell, highway_cell_backward, lstm_cell, lstm_cell_backward
from issref.kernels.jitted.groups import add_pair_energies, duality_gap, plus_transpose, scale_by_pair, sweep
from issref.kernels.jitted.rows import add_rows, log_sum_exp, softmax_minus_target
from issref.kernels.jitted.sequences import lstm_backward, lstm_forward

__all__ = [
    "add_pair_energies",
    "add_rows",
    "duality_gap",
    "highway_cell",
    "highway_cell_backward",
    "log_sum_exp",
    "lstm_backward",
    "lstm_cell",
    "lstm_cell_backward",
    "lstm_forward",
    "plus_transpose",
    "scale_by_pair",
    "softmax_minus_target",
    "sweep",
]
