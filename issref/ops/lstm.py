"""The LSTM over a sequence, with backpropagation through time by hand.

Tutorial: tutorials/3_backward_by_hand.py.
"""

import numpy as np
from jaxtyping import Integer, Shaped

from issref import kernels
from issref.ops import check_floating, check_shapes, checked, checked_ids
from issref.ops.basic import _affine_backward

GATES = ("input", "candidate", "forget", "output")  # the order of the four blocks of H columns


@checked
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
    """Run an LSTM layer over a sequence. Returns (hidden (T, B, H), h (B, H), c (B, H)), backward.

        [i g f o] = [x_t, h_{t-1}] K + b
        c_t = sigmoid(f + forget_bias) c_{t-1} + sigmoid(i) tanh(g)
        h_t = sigmoid(o) tanh(c_t)

    The first D rows of the kernel multiply the input, the others the hidden state; its columns are in the order of
    GATES. With `lengths`, a sequence that has ended keeps its state, and its output is 0. With `reverse`, time
    runs from the last step to the first, so each sequence starts at its last valid step. Paper, section 3.1. The
    order of the gates, the forget bias and the single bias follow the released code (TF 1 BasicLSTMCell).

    >>> rng, h0, c0 = np.random.default_rng(0), np.zeros((2, 4)), np.zeros((2, 4))  # T, B, D, H = 5, 2, 3, 4
    >>> (hidden, h, c), backward = lstm(rng.normal(size=(5, 2, 3)), h0, c0, np.ones((7, 16)), np.zeros(16))
    >>> dx, dh0, dc0, dkernel, dbias = backward(np.ones_like(hidden), np.zeros_like(h), np.zeros_like(c))
    >>> hidden.shape, dx.shape, dkernel.shape, bool(np.all(h == hidden[-1]))
    ((5, 2, 4), (5, 2, 3), (7, 16), True)
    """
    _check(x, h0, c0, kernel, bias, lengths)
    steps, batch, inputs = x.shape
    until = np.full(batch, steps) if lengths is None else checked_ids("lstm", "lengths", lengths, steps + 1)
    dtype = np.result_type(x, h0, c0, kernel, bias)
    from_input, from_hidden = kernel[:inputs], kernel[inputs:].astype(dtype, copy=False)
    shift = np.repeat(np.array([0, 0, forget_bias, 0], dtype), h0.shape[1])

    x_rows = x.reshape(steps * batch, inputs)
    gates = kernels.affine(*(array.astype(dtype, copy=False) for array in (x_rows, from_input, bias + shift)))
    gates = gates.reshape(steps, batch, len(bias))
    hidden, h_before, c_before, c_after, h, c = kernels.lstm_forward(
        gates, h0.astype(dtype), c0.astype(dtype), from_hidden, until, reverse
    )

    def backward(dhidden, dh, dc):
        wide = np.result_type(dtype, dhidden, dh, dc)
        arrays = (dhidden, dh, dc, gates, c_before, c_after, from_hidden)
        saved = [*(array.astype(wide, copy=False) for array in arrays), until, reverse]
        dgates, dh, dc = kernels.lstm_backward(*saved)
        drows, h_rows = dgates.reshape(len(x_rows), len(bias)), h_before.reshape(len(x_rows), h0.shape[1])
        dkernel, dbias = _affine_backward((x_rows, h_rows), drows)
        return (drows @ from_input.T).reshape(x.shape), dh, dc, dkernel, dbias

    return (hidden, h, c), backward


def _check(x, h0, c0, kernel, bias, lengths):
    check_shapes("lstm", x=(x, ("T", "B", "D")), h0=(h0, (*x.shape[1:2], "H")))
    (_, batch, inputs), size = x.shape, h0.shape[1]
    weights = {"kernel": (kernel, (inputs + size, 4 * size)), "bias": (bias, (4 * size,))}
    check_shapes("lstm", c0=(c0, h0.shape), **weights)
    if lengths is not None:
        check_shapes("lstm", lengths=(lengths, (batch,)))
    check_floating("lstm", np.result_type(x, h0, c0, kernel, bias))
