"""The LSTM over a sequence, and backpropagation through time by hand."""

import numpy as np
from jaxtyping import Integer, Shaped

from issref import kernels

GATES = ("input", "candidate", "forget", "output")  # the order of the four blocks of H columns


def lstm(
    x: Shaped[np.ndarray, "T B D"],
    h0: Shaped[np.ndarray, "B H"],
    c0: Shaped[np.ndarray, "B H"],
    kernel: Shaped[np.ndarray, "D+H 4*H"],
    bias: Shaped[np.ndarray, " 4*H"],
    *,
    forget_bias: float = 0.0,
    lengths: Integer[np.ndarray, " B"] | None = None,
    reverse: bool = False,
):
    """[i g f o] = [x_t, h_{t-1}] K + b;  c_t = sigmoid(f + forget_bias) c_{t-1} + sigmoid(i) tanh(g);
    h_t = sigmoid(o) tanh(c_t).  Returns (hidden (T, B, H), h (B, H), c (B, H)), backward.

    The kernel's rows are the input's, then the recurrent ones; its columns are in the order of GATES. With
    `lengths`, a sequence that has ended keeps its state and its output is 0; with `reverse` time runs from
    the last step to the first, so each sequence starts at its last valid step. Paper, section 3.1; gate
    order, forget bias and single bias are those of the released code (TF 1 BasicLSTMCell).
    """
    steps, batch, inputs = x.shape
    hidden_size = h0.shape[1]
    from_input, from_hidden = kernel[:inputs], kernel[inputs:]
    order = range(steps)[::-1] if reverse else range(steps)
    valid = None if lengths is None else np.arange(steps)[:, None, None] < lengths[:, None]  # (T, B, 1)
    shift = np.repeat(np.array([0, 0, forget_bias, 0], bias.dtype), hidden_size)

    dtype = np.result_type(x, h0, c0, kernel, bias)
    x_rows = x.reshape(steps * batch, inputs)
    gates = (x_rows @ from_input + (bias + shift)).astype(dtype).reshape(steps, batch, 4 * hidden_size)
    hidden, h_before, c_before, c_after = (np.empty((steps, batch, hidden_size), dtype) for _ in range(4))
    h, c = h0.astype(dtype), c0.astype(dtype)
    for t in order:
        h_before[t], c_before[t] = h, c
        gates[t], c, h = kernels.lstm_cell(gates[t] + h @ from_hidden, c_before[t])
        hidden[t], c_after[t] = h, c
        if valid is not None:
            hidden[t] = np.where(valid[t], h, 0)
            h, c = np.where(valid[t], h, h_before[t]), np.where(valid[t], c, c_before[t])

    def backward(dhidden, dh, dc):
        dgates = np.empty(gates.shape, np.result_type(dtype, dhidden))
        for t in reversed(order):
            dh_cell, dc_cell = dhidden[t] + dh, dc
            if valid is not None:  # what arrives at an ended sequence's state goes on to the state before
                dh_held, dc_held = np.where(valid[t], 0, dh), np.where(valid[t], 0, dc)
                dh_cell, dc_cell = np.where(valid[t], dh_cell, 0), np.where(valid[t], dc_cell, 0)
            dgates[t], dc = kernels.lstm_cell_backward(dh_cell, dc_cell, gates[t], c_before[t], c_after[t])
            dh = dgates[t] @ from_hidden.T
            if valid is not None:
                dh, dc = dh + dh_held, dc + dc_held
        drows = dgates.reshape(steps * batch, 4 * hidden_size)
        h_rows = h_before.reshape(steps * batch, hidden_size)
        dkernel = np.concatenate((x_rows.T @ drows, h_rows.T @ drows))
        return (drows @ from_input.T).reshape(x.shape), dh, dc, dkernel, drows.sum(axis=0)

    return (hidden, h, c), backward
