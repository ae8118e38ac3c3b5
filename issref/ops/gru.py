"""The GRU over a sequence, in both conventions of its reset gate, with backpropagation through time by hand.

Tutorial: tutorials/7_highways.py.
"""

import numpy as np
from jaxtyping import Integer, Shaped

from issref import kernels
from issref.ops import check_floating, check_shapes, checked, checked_ids
from issref.ops.basic import _affine_backward

GATES = ("reset", "update", "candidate")  # the order of the three blocks of H columns


@checked
def gru(
    x: Shaped[np.ndarray, "T B D"],
    h0: Shaped[np.ndarray, "B H"],
    kernel: Shaped[np.ndarray, "D+H 3*H"],
    bias: Shaped[np.ndarray, " G"],
    *,
    reset_after: bool = True,
    lengths: Integer[np.ndarray, " B"] | None = None,
    reverse: bool = False,
):
    """Run a GRU layer over a sequence. Returns (hidden (T, B, H), h (B, H)), backward.

        r = sigmoid(x_t W_r + h_{t-1} U_r + b_r),  z = sigmoid(x_t W_z + h_{t-1} U_z + b_z)
        n = tanh(x_t W_n + b_n + r (h_{t-1} U_n + c_n))     with `reset_after`,
        n = tanh(x_t W_n + b_n + (r h_{t-1}) U_n)           else
        h_t = (1 - z) n + z h_{t-1}

    The first D rows of the kernel are W, the others U; its columns are in the order of GATES. With `reset_after`
    the bias is [b_r b_z b_n c_n] (4H,), as in cuDNN, PyTorch, Flax, Keras, and ONNX with linear_before_reset; else
    [b_r b_z b_n] (3H,), as in Cho et al. 2014. `lengths` and `reverse` have the meaning that they have in `lstm`.

    >>> rng, h0 = np.random.default_rng(0), np.zeros((2, 4))  # T, B, D, H = 5, 2, 3, 4
    >>> (hidden, h), backward = gru(rng.normal(size=(5, 2, 3)), h0, np.ones((7, 12)), np.zeros(16))
    >>> dx, dh0, dkernel, dbias = backward(np.ones_like(hidden), np.zeros_like(h))
    >>> hidden.shape, dx.shape, dkernel.shape, bool(np.all(h == hidden[-1]))
    ((5, 2, 4), (5, 2, 3), (7, 12), True)
    """
    _check(x, h0, kernel, bias, reset_after, lengths)
    (steps, batch, inputs), size = x.shape, h0.shape[1]
    until = np.full(batch, steps) if lengths is None else checked_ids("gru", "lengths", lengths, steps + 1)
    dtype = np.result_type(x, h0, kernel, bias)
    from_input, from_hidden = kernel[:inputs], kernel[inputs:].astype(dtype, copy=False)
    shift = bias[3 * size :].astype(dtype) if reset_after else np.zeros(size, dtype)

    x_rows = x.reshape(steps * batch, inputs)
    affine = (array.astype(dtype, copy=False) for array in (x_rows, from_input, bias[: 3 * size]))
    gates = kernels.affine(*affine).reshape(steps, batch, 3 * size)
    hidden, h_before, products, h = kernels.gru_forward(
        gates, h0.astype(dtype), from_hidden, shift, until, reverse, reset_after
    )

    def backward(dhidden, dh):
        wide = np.result_type(dtype, dhidden, dh)
        arrays = (dhidden, dh, gates, h_before, products, from_hidden)
        saved = [*(array.astype(wide, copy=False) for array in arrays), until, reverse, reset_after]
        dgates, dh = kernels.gru_backward(*saved)
        drows, gate_rows = dgates.reshape(len(x_rows), 3 * size), gates.reshape(len(x_rows), 3 * size)
        h_rows, r, dn = h_before.reshape(len(x_rows), size), gate_rows[:, :size], drows[:, 2 * size :]
        read, dproduct = (h_rows, r * dn) if reset_after else (r * h_rows, dn)
        dfrom_input, dbias = _affine_backward([x_rows], drows)
        dcandidate, dshift = _affine_backward([read], dproduct)
        dfrom_hidden = np.concatenate((h_rows.T @ drows[:, : 2 * size], dcandidate), axis=1)
        dkernel = np.concatenate((dfrom_input, dfrom_hidden))
        dbias = np.concatenate((dbias, dshift)) if reset_after else dbias
        return (drows @ from_input.T).reshape(x.shape), dh, dkernel, dbias

    return (hidden, h), backward


def _check(x, h0, kernel, bias, reset_after, lengths):
    check_shapes("gru", x=(x, ("T", "B", "D")), h0=(h0, (*x.shape[1:2], "H")))
    (_, batch, inputs), size = x.shape, h0.shape[1]
    check_shapes("gru", kernel=(kernel, (inputs + size, 3 * size)), bias=(bias, ((3 + reset_after) * size,)))
    if lengths is not None:
        check_shapes("gru", lengths=(lengths, (batch,)))
    check_floating("gru", np.result_type(x, h0, kernel, bias))
