"""Attention between a context of T words and a question of J: who looks at whom, and what is seen.

Texts are (T, B, D) and (J, B, D) with `lengths` (B,), from 1 up; a softmax runs over the words within them,
and a word beyond them has the weight 0 and gets the gradient 0. Seo et al. 2017, section 2 (4).
"""

import numpy as np
from jaxtyping import Integer, Shaped

from issref.ops.losses import BEYOND


def similarity(
    h: Shaped[np.ndarray, "T B D"],
    u: Shaped[np.ndarray, "J B D"],
    kernel: Shaped[np.ndarray, "3*D 1"],
    bias: Shaped[np.ndarray, " 1"],
):
    """s[b, t, j] = [h_t, u_j, h_t * u_j] w + b, shape (B, T, J).

    With w = [w_h, w_u, w_hu] this is  h w_h + u w_u + (h * w_hu) u^T: no product (T, J, 3 D) is ever made.
    """
    size = h.shape[-1]
    of_h, of_u, of_both = kernel[:size], kernel[size : 2 * size], kernel[2 * size :, 0]
    h_rows, u_rows = h.swapaxes(0, 1), u.swapaxes(0, 1)  # (B, T, D), (B, J, D)
    scaled = h_rows * of_both
    s = scaled @ u_rows.swapaxes(1, 2) + h_rows @ of_h + (u_rows @ of_u).swapaxes(1, 2) + bias

    def backward(ds: Shaped[np.ndarray, "B T J"]):
        dscaled = ds @ u_rows
        from_h, from_u = ds.sum(axis=2, keepdims=True), ds.sum(axis=1)[..., None]  # (B, T, 1), (B, J, 1)
        dh = dscaled * of_both + from_h * of_h[:, 0]
        du = ds.swapaxes(1, 2) @ scaled + from_u * of_u[:, 0]
        dkernel = [np.sum(part, axis=(0, 1)) for part in (h_rows * from_h, u_rows * from_u, h_rows * dscaled)]
        return dh.swapaxes(0, 1), du.swapaxes(0, 1), np.concatenate(dkernel)[:, None], ds.sum()[None]

    return s, backward


def context_to_query(
    s: Shaped[np.ndarray, "B T J"], u: Shaped[np.ndarray, "J B D"], *, lengths: Integer[np.ndarray, " B"]
):
    """What each context word sees of the question:  u~_t = sum_j softmax_j(s_t) u_j, shape (T, B, D).

    `lengths` are those of the questions.
    """
    valid = np.arange(s.shape[2]) < lengths[:, None, None]
    weights, softmax_back = _softmax(s, valid, axis=2)
    u_rows = u.swapaxes(0, 1)

    def backward(dseen: Shaped[np.ndarray, "T B D"]):
        drows = dseen.swapaxes(0, 1)
        ds = softmax_back(drows @ u_rows.swapaxes(1, 2))
        return ds, (weights.swapaxes(1, 2) @ drows).swapaxes(0, 1)

    return (weights @ u_rows).swapaxes(0, 1), backward


def best_match(s: Shaped[np.ndarray, "B T J"], *, lengths: Integer[np.ndarray, " B"]):
    """m_t = max_j s[t, j] over the words of the question, shape (T, B); the gradient goes to the first maximum.

    `lengths` are those of the questions. `soft_selection` by m is the query-to-context attention.
    """
    valid = np.arange(s.shape[2]) < lengths[:, None, None]
    best = np.where(valid, np.real(s), -np.inf).argmax(axis=2)[..., None]

    def backward(dm: Shaped[np.ndarray, "T B"]):
        ds = np.zeros(s.shape, dm.dtype)
        np.put_along_axis(ds, best, dm.T[..., None], axis=2)
        return ds

    return np.take_along_axis(s, best, axis=2)[..., 0].T, backward


def soft_selection(
    logits: Shaped[np.ndarray, "T B"], x: Shaped[np.ndarray, "T B D"], *, lengths: Integer[np.ndarray, " B"]
):
    """The word of a text that the logits point at, softly:  sum_t softmax_t(logits) x_t, shape (B, D)."""
    valid = np.arange(len(logits))[:, None] < lengths
    weights, softmax_back = _softmax(logits, valid, axis=0)

    def backward(dselected: Shaped[np.ndarray, "B D"]):
        return softmax_back((x * dselected).sum(axis=2)), weights[..., None] * dselected

    return (weights[..., None] * x).sum(axis=0), backward


def attention_flow(
    h: Shaped[np.ndarray, "T B D"],
    u: Shaped[np.ndarray, "J B D"],
    kernel: Shaped[np.ndarray, "3*D 1"],
    bias: Shaped[np.ndarray, " 1"],
    *,
    lengths: Integer[np.ndarray, " B"],
    question_lengths: Integer[np.ndarray, " B"],
):
    """p_t = [h_t, u~_t, h_t * u~_t, h_t * h~] end to end, shape (T, B, 4 D): the context, aware of the question.

    u~_t is what h_t sees of the question, h~ what the whole question sees of the context.
    """
    s, s_back = similarity(h, u, kernel, bias)
    seen, seen_back = context_to_query(s, u, lengths=question_lengths)
    match, match_back = best_match(s, lengths=question_lengths)
    focus, focus_back = soft_selection(match, h, lengths=lengths)
    with_seen, with_seen_back = product(h, seen)
    with_focus, with_focus_back = product(h, focus)
    p, p_back = join(h, seen, with_seen, with_focus)

    def backward(dp: Shaped[np.ndarray, "T B _"]):
        dh, dseen, dwith_seen, dwith_focus = p_back(dp)
        dh_focused, dfocus = with_focus_back(dwith_focus)
        dh_looking, dseen_product = with_seen_back(dwith_seen)
        dmatch, dh_selected = focus_back(dfocus)
        ds, du = seen_back(dseen + dseen_product)
        dh_compared, du_compared, dkernel, dbias = s_back(ds + match_back(dmatch))
        dh = dh + dh_focused + dh_looking + dh_selected + dh_compared
        return dh, du + du_compared, dkernel, dbias

    return p, backward


def product(x: Shaped[np.ndarray, "T B D"], z: Shaped[np.ndarray, "... B D"]):
    """y = x * z, shape (T, B, D); a z of (B, D) is the same for every word of x."""

    def backward(dy: Shaped[np.ndarray, "T B D"]):
        dz = dy * x
        return dy * z, dz if z.ndim == x.ndim else dz.sum(axis=0)

    return x * z, backward


def join(*parts: Shaped[np.ndarray, "..."]):
    """y = [x, z, ...]: arrays of any widths end to end along their last axis."""
    ends = np.cumsum([part.shape[-1] for part in parts])[:-1]

    def backward(dy: Shaped[np.ndarray, "..."]):
        return tuple(np.split(dy, ends, axis=-1))

    return np.concatenate(parts, axis=-1), backward


def _softmax(x, valid, axis):
    """exp(x) / sum exp(x) over what is valid along the axis, 0 elsewhere; p and its backward."""
    inside = np.where(valid, x, BEYOND)
    powers = np.exp(inside - np.real(inside).max(axis=axis, initial=BEYOND, keepdims=True))
    p = powers / powers.sum(axis=axis, keepdims=True)

    def backward(dp):
        return p * (dp - (p * dp).sum(axis=axis, keepdims=True))

    return p, backward
