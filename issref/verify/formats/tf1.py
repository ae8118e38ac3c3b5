"""The released code's kernels: BasicLSTMCell of TensorFlow 1.0, weights (D+H, 4H) and biases (4H,).

The arrays equal issref's, under other names (kernel and bias from TensorFlow 1.2 on). The cell adds a constant
forget_bias to its forget gate: 0 in the released language model, 1 in the released BiDAF and by default.
"""

import numpy as np

from issref.iss.layout import Params
from issref.verify.formats import files
from issref.verify.formats.cells import GRU_RESET_BEFORE
from issref.verify.formats.dialect import Arrays, Dialect

GATES = ("input", "candidate", "forget", "output")
SPELLING = Dialect(
    "Model/RNN/multi_rnn_cell/cell_#/basic_lstm_cell/*",
    {"weights": (("x", "h"), GATES), "biases": (GATES,)},
    r"(.*/)?multi_rnn_cell/cell_#/.*",
)
# GRUCell, from TensorFlow 1.2 on; the reset acts before the product.
GRU_GATES = ("reset", "update", "candidate")
SPELLING_GRU_BEFORE = Dialect(
    "Model/RNN/multi_rnn_cell/cell_#/gru_cell/*",
    {
        "gates/kernel": (("x", "h"), GRU_GATES[:2]), "gates/bias": (GRU_GATES[:2],),
        "candidate/kernel": (("x", "h"), GRU_GATES[2:]), "candidate/bias": (GRU_GATES[2:],),
    },
    SPELLING.chains,
    cell=GRU_RESET_BEFORE,
)  # fmt: skip
axes, layout = SPELLING.axes, SPELLING.layout
read, write = files.read, files.write


def to_reference(arrays: Arrays, stack: str | None = None, *, forget_bias: float = 0.0) -> Params:
    """Return issref's params; forget_bias, the cell's constant, is added to the biases of the forget gate."""
    return _shifted(SPELLING.to_reference(arrays, stack), forget_bias)


def from_reference(params: Arrays, *, forget_bias: float = 0.0) -> Params:
    """Return arrays for cells with this forget_bias, which is subtracted from the biases of the forget gate."""
    return SPELLING.from_reference(_shifted(params, -forget_bias))


def _shifted(params: Arrays, shift: float) -> Params:
    forget = np.array([gate == "forget" for gate in GATES])
    shifted = dict(params)
    for name, values in params.items():
        if shift and name.startswith("lstm") and name.endswith("/bias"):
            moved = np.repeat(forget, len(values) // len(GATES))
            shifted[name] = np.where(moved, values + values.dtype.type(shift), values)
    return shifted
