"""Embedding, linear map and dropout. Tutorial: tutorials/3_backward_by_hand.py."""

import math

import numpy as np
from jaxtyping import Integer, Shaped

from issref import kernels
from issref.ops import check_shapes, checked, checked_ids


@checked
def embed(table: Shaped[np.ndarray, "V D"], *, ids: Integer[np.ndarray, "*N"]):
    """Return y[n] = table[ids[n]], one row for each id, (*N, D). The backward adds up the gradients of equal ids.

    >>> y, backward = embed(np.array([[1.0, 2.0], [3.0, 4.0]]), ids=np.array([1, 1]))
    >>> backward(np.ones_like(y))
    array([[0., 0.],
           [2., 2.]])
    """
    check_shapes("embed", table=(table, ("V", "D")))
    ids = checked_ids("embed", "ids", ids, len(table))

    def backward(dy: Shaped[np.ndarray, "*N D"]):
        dtable = np.zeros(table.shape, dy.dtype)
        kernels.add_rows(dtable, ids.ravel(), dy.reshape(ids.size, dy.shape[-1]))
        return dtable

    return table[ids], backward


@checked
def linear(x: Shaped[np.ndarray, "*N D"], kernel: Shaped[np.ndarray, "D K"], bias: Shaped[np.ndarray, " K"]):
    """Return y = x W + b, shape (*N, K).

    >>> y, backward = linear(np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]), np.array([0.5]))
    >>> y, backward(np.array([[1.0]]))  # dx, dW, db
    (array([[11.5]]), (array([[3., 4.]]), array([[1.],
           [2.]]), array([1.])))
    """
    check_shapes(
        "linear", x=(x, (*x.shape[:-1], "D")), kernel=(kernel, (*x.shape[-1:], "K")), bias=(bias, kernel.shape[1:])
    )
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])

    def backward(dy: Shaped[np.ndarray, "*N K"]):
        drows = dy.reshape(len(rows), dy.shape[-1])
        return (drows @ kernel.T).reshape(x.shape), rows.T @ drows, drows.sum(axis=0)

    y = np.matmul(rows, kernel, dtype=np.result_type(x, kernel, bias))
    y += bias  # in place: the logits of a window are the largest array in training
    return y.reshape(*x.shape[:-1], len(bias)), backward


@checked
def dropout(x: Shaped[np.ndarray, "*N"], *, mask: Shaped[np.ndarray, "*#N"] | None):
    """Return y = x * mask for a mask of zeros and 1 / keep (inverted dropout), drawn by the caller.

    A mask of None keeps all values. The mask is broadcast: with a missing axis, or one of length 1, it is the same
    along this axis, for example for all steps.
    """
    if mask is not None:
        trailing = zip(mask.shape, x.shape[max(0, x.ndim - mask.ndim) :], strict=False)
        check_shapes("dropout", mask=(mask, tuple(1 if one == 1 else size for one, size in trailing)))

    def backward(dy: Shaped[np.ndarray, "*N"]):
        return dy if mask is None else dy * mask

    return x if mask is None else x * mask, backward
