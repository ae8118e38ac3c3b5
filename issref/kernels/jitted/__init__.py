"""The kernels of `reference`, compiled by numba for float32 and float64; docstrings are in `reference`."""

from issref.kernels.jitted.cells import highway_cell, highway_cell_backward, lstm_cell, lstm_cell_backward
from issref.kernels.jitted.groups import (
    add_pair_squared_norms,
    dual_block_pass,
    duality_gap,
    plus_transpose,
    scale_by_pair,
)
from issref.kernels.jitted.products import affine
from issref.kernels.jitted.rows import add_rows, descend, log_sum_exp, softmax_minus_target
from issref.kernels.jitted.sequences import gru_backward, gru_forward, lstm_backward, lstm_forward

__all__ = [
    "add_pair_squared_norms",
    "add_rows",
    "affine",
    "descend",
    "dual_block_pass",
    "duality_gap",
    "gru_backward",
    "gru_forward",
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
]
