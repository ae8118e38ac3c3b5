"""Features of words: character convolution and highway layers. Tutorial: tutorials/8_attention.py."""

import math

import numpy as np
from jaxtyping import Integer, Shaped

from issref.kernels.reference import sigmoid
from issref.ops import check_shapes, checked, checked_ids


@checked
def character_convolution(
    x: Shaped[np.ndarray, "*N W C"],
    kernel: Shaped[np.ndarray, "_ F"],
    bias: Shaped[np.ndarray, " F"],
    *,
    lengths: Integer[np.ndarray, "*N"],
):
    """Return y = max_p relu([x_p, ..., x_{p+width-1}] K + b), one value for each filter, shape (*N, F).

    K is (width C, F), for the letters of a window end to end. All windows lie inside the first `lengths` letters;
    a word shorter than a window is padded with zeros to the length of one. Padding after a word never affects the
    output. Seo et al. 2017, section 2 (1); the max over positions is from Kim (2014).
    """
    check_shapes("character_convolution", x=(x, (*lengths.shape, "W", "C")), kernel=(kernel, ("width C", "F")))
    letters, size = x.shape[-2:]
    words, width = math.prod(x.shape[:-2]), len(kernel) // max(size, 1)
    check_shapes("character_convolution", kernel=(kernel, (width * size, "F")), bias=(bias, kernel.shape[1:]))
    length = checked_ids("character_convolution", "lengths", lengths, letters + 1).reshape(words, 1, 1)
    inside = np.arange(max(letters, width))[:, None] < length
    padded = np.zeros((words, max(letters, width), size), x.dtype)
    padded[:, :letters] = np.where(inside[:, :letters], x.reshape(words, letters, size), 0)
    windows = np.lib.stride_tricks.sliding_window_view(padded, width, axis=1).swapaxes(2, 3)
    places = windows.shape[1]  # (words, places, width, C)
    rows = windows.reshape(words * places, width * size)
    fitting = np.arange(places)[:, None] <= np.maximum(length - width, 0)

    sums = (rows @ kernel + bias).reshape(words, places, len(bias))
    best = np.where(fitting, np.real(sums), -np.inf).argmax(axis=1, keepdims=True)
    highest = np.take_along_axis(sums, best, axis=1)
    opened = np.real(highest) > 0

    def backward(dy: Shaped[np.ndarray, "*N F"]):
        dsums = np.zeros(sums.shape, dy.dtype)
        np.put_along_axis(dsums, best, np.where(opened, dy.reshape(highest.shape), 0), axis=1)
        drows = dsums.reshape(words * places, len(bias))
        dwindows = (drows @ kernel.T).reshape(words, places, width, size)
        dpadded = np.zeros(padded.shape, dwindows.dtype)
        for k in range(width):
            dpadded[:, k : k + places] += dwindows[:, :, k]
        dx = np.where(inside, dpadded, 0)[:, :letters].reshape(x.shape)
        return dx, rows.T @ drows, drows.sum(axis=0)

    return np.where(opened, highest, 0).reshape(*x.shape[:-2], len(bias)), backward


@checked
def highway(x: Shaped[np.ndarray, "*N D"], kernel: Shaped[np.ndarray, "D 2*D"], bias: Shaped[np.ndarray, " 2*D"]):
    """Return y = sigmoid(g) relu(c) + (1 - sigmoid(g)) x with [c g] = x K + b, shape (*N, D).

    The first D columns of K are the candidate c, the others the gate g. Srivastava et al. 2015, section 2 (3).
    """
    check_shapes("highway", x=(x, (*x.shape[:-1], "D")))
    size = x.shape[-1]
    check_shapes("highway", kernel=(kernel, (size, 2 * size)), bias=(bias, (2 * size,)))
    rows = x.reshape(math.prod(x.shape[:-1]), size)
    sums = rows @ kernel + bias
    opened, gate = np.real(sums[:, :size]) > 0, sigmoid(sums[:, size:])
    candidate = np.where(opened, sums[:, :size], 0)

    def backward(dy: Shaped[np.ndarray, "*N D"]):
        drows = dy.reshape(rows.shape)
        dcandidate, dgate = np.where(opened, drows * gate, 0), drows * (candidate - rows)
        dsums = np.concatenate((dcandidate, dgate * gate * (1 - gate)), axis=1)
        dx = dsums @ kernel.T + drows * (1 - gate)
        return dx.reshape(x.shape), rows.T @ dsums, dsums.sum(axis=0)

    return (rows + gate * (candidate - rows)).reshape(x.shape), backward
