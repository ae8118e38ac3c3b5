"""A recurrent highway layer over a sequence, with backpropagation through depth and time by hand.

Tutorial: tutorials/7_highways.py.
"""

import numpy as np
from jaxtyping import Shaped

from issref import kernels
from issref.ops import check_floating, check_shapes, checked

GATES = ("candidate", "transform")  # the order of the two blocks of W columns


@checked
def rhn(
    x: Shaped[np.ndarray, "T B D"],
    s0: Shaped[np.ndarray, "B W"],
    *weights: Shaped[np.ndarray, "..."],
    input_mask: Shaped[np.ndarray, "B D"] | None = None,
    state_mask: Shaped[np.ndarray, "B W"] | None = None,
):
    """Run a recurrent highway layer over a sequence. Returns (hidden (T, B, W), s (B, W)), backward.

    At each step s starts as s_{t-1}, is changed by the micro-layers d = 0, 1, ... in turn, and ends as s_t:

        h = tanh(u H_d + b_d),  t = sigmoid(u T_d + b'_d)
        s <- s + t (h - s)

    u is [x_t, s] in micro-layer 0 and s in the deeper ones, so the input enters once; the carry gate is 1 - t.
    `weights` are the kernel and bias of each micro-layer in turn: kernels [H_0 T_0] (D+W, 2W), with the rows of
    the input first, and [H_d T_d] (W, 2W); biases (2W,). The masks (inverted dropout) multiply x_t and s where
    they enter u; they are the same for all steps, micro-layers and both gates. The carry uses s without dropout.
    Paper, section 4.1; Zilly et al. 2017, section 4.

    >>> weights = np.ones((3 + 4, 8)), np.zeros(8), np.ones((4, 8)), np.zeros(8)  # D, W = 3, 4; two micro-layers
    >>> (hidden, s), backward = rhn(np.ones((5, 2, 3)), np.zeros((2, 4)), *weights)
    >>> dx, ds0, *dweights = backward(np.ones_like(hidden), np.zeros_like(s))
    >>> hidden.shape, dx.shape, [one.shape for one in dweights]
    ((5, 2, 4), (5, 2, 3), [(7, 8), (8,), (4, 8), (8,)])
    """
    _check(x, s0, weights, input_mask, state_mask)
    steps, batch, inputs = x.shape
    depth, width = len(weights) // 2, s0.shape[1]
    from_input, from_state = weights[0][:inputs], (weights[0][inputs:], *weights[2::2])
    biases = weights[1::2]

    dtype = np.result_type(x, s0, *weights)
    x_rows = _dropped(x, input_mask).reshape(steps * batch, inputs)
    entering = (x_rows @ from_input).reshape(steps, batch, 2 * width)
    before, gates = (
        np.empty((depth, steps, batch, width), dtype),
        np.empty((depth, steps, batch, 2 * width), dtype),
    )
    hidden, s = np.empty((steps, batch, width), dtype), s0.astype(dtype)
    for t in range(steps):
        for d in range(depth):
            before[d, t] = s
            u = _dropped(s, state_mask) @ from_state[d] + biases[d]
            gates[d, t], s = kernels.highway_cell(u + entering[t] if d == 0 else u, s)
        hidden[t] = s

    def backward(dhidden, ds):
        du = np.empty(gates.shape, np.result_type(dtype, dhidden, ds))
        for t in reversed(range(steps)):
            ds = ds + dhidden[t]
            for d in reversed(range(depth)):
                du[d, t], dcarried = kernels.highway_cell_backward(ds, gates[d, t], before[d, t])
                ds = dcarried + _dropped(du[d, t] @ from_state[d].T, state_mask)
        drows = du.reshape(depth, steps * batch, 2 * width)
        s_rows = _dropped(before, state_mask).reshape(depth, steps * batch, width)
        dkernels = [s_rows[d].T @ drows[d] for d in range(depth)]
        dkernels[0] = np.concatenate((x_rows.T @ drows[0], dkernels[0]))
        dx = _dropped((drows[0] @ from_input.T).reshape(x.shape), input_mask)
        dweights = (one for d in range(depth) for one in (dkernels[d], drows[d].sum(axis=0)))
        return dx, ds, *dweights

    return (hidden, s), backward


def _check(x, s0, weights, input_mask, state_mask):
    check_shapes("rhn", x=(x, ("T", "B", "D")), s0=(s0, (*x.shape[1:2], "W")))
    (_, batch, inputs), width = x.shape, s0.shape[1]
    if len(weights) % 2 or not weights:
        raise ValueError(f"rhn: expected a kernel and a bias for each micro-layer, got {len(weights)} weights")
    for d, (kernel, bias) in enumerate(zip(weights[::2], weights[1::2], strict=True)):
        shape = (width + inputs * (d == 0), 2 * width)
        check_shapes("rhn", **{f"kernel {d}": (kernel, shape), f"bias {d}": (bias, shape[1:])})
    masks = {"input_mask": (input_mask, (batch, inputs)), "state_mask": (state_mask, (batch, width))}
    check_shapes("rhn", **{name: pair for name, pair in masks.items() if pair[0] is not None})
    check_floating("rhn", np.result_type(x, s0, *weights))


def _dropped(values, mask):
    return values if mask is None else values * mask
