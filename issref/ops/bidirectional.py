"""A bidirectional LSTM: the same text read from both ends. Tutorial: tutorials/8_attention.py."""

import numpy as np
from jaxtyping import Integer, Shaped

from issref.ops import check_shapes, checked
from issref.ops.basic import dropout
from issref.ops.lstm import lstm


@checked
def bidirectional(
    x: Shaped[np.ndarray, "T B D"],
    forward_kernel: Shaped[np.ndarray, "_ F"],
    forward_bias: Shaped[np.ndarray, " F"],
    backward_kernel: Shaped[np.ndarray, "_ G"],
    backward_bias: Shaped[np.ndarray, " G"],
    *,
    lengths: Integer[np.ndarray, " B"] | None = None,
    forget_bias: float = 1.0,
    forward_mask: Shaped[np.ndarray, "#T B D"] | None = None,
    backward_mask: Shaped[np.ndarray, "#T B D"] | None = None,
):
    """Return y_t = [forward h_t, backward h_t], shape (T, B, H + K); both directions start from a zero state.

    The kernels have the shapes of `lstm`, (D + H, 4 H) and (D + K, 4 K). Each direction has its own dropout mask
    for its input. Beyond its length the output of a text is 0. The default forget bias is that of the released
    code (TF 1 BasicLSTMCell).
    """
    biases = {"forward_bias": (forward_bias, ("4 H",)), "backward_bias": (backward_bias, ("4 K",))}
    check_shapes("bidirectional", x=(x, ("T", "B", "D")), **biases)
    ways = (
        (forward_kernel, forward_bias, forward_mask, False),
        (backward_kernel, backward_bias, backward_mask, True),
    )
    outputs, backs = [], []
    for kernel, bias, mask, reverse in ways:
        zero = np.zeros((x.shape[1], len(bias) // 4), bias.dtype)
        seen, drop_back = dropout(x, mask=mask)
        (hidden, *_), back = lstm(
            seen, zero, zero, kernel, bias, forget_bias=forget_bias, lengths=lengths, reverse=reverse
        )
        outputs.append(hidden)
        backs.append((back, drop_back, zero))
    y = np.concatenate(outputs, axis=-1)

    def backward(dy: Shaped[np.ndarray, "T B _"]):
        inputs, dweights = [], []
        for dhidden, (back, drop_back, zero) in zip(
            np.split(dy, [outputs[0].shape[-1]], axis=-1), backs, strict=True
        ):
            dseen, _, _, *dkernel_dbias = back(dhidden, zero, zero)
            inputs.append(drop_back(dseen))
            dweights += dkernel_dbias
        return sum(inputs[1:], inputs[0]), *dweights

    return y, backward
