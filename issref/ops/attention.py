"""Attention between a context of T words and a question of J words.

Texts are (T, B, D) and (J, B, D) with `lengths` (B,), from 1 up. A softmax runs over the words within the length;
words beyond it have the weight 0 and the gradient 0. Seo et al. 2017, section 2 (4). Tutorial:
tutorials/8_attention.py.
"""

import numpy as np
from jaxtyping import Integer, Shaped

from issref.ops import check_shapes, checked, checked_ids
from issref.ops.losses import MASKED_LOGIT


@checked
def similarity(
    h: Shaped[np.ndarray, "T B D"],
    u: Shaped[np.ndarray, "J B D"],
    kernel: Shaped[np.ndarray, "3*D 1"],
    bias: Shaped[np.ndarray, " 1"],
):
    """Return s[b, t, j] = [h_t, u_j, h_t * u_j] w + b, shape (B, T, J).

    With w = [w_h, w_u, w_hu] this is h w_h + u w_u + (h * w_hu) u^T, so the array (T, J, 3 D) is never formed.
    """
    check_shapes("similarity", h=(h, ("T", "B", "D")), u=(u, ("J", *h.shape[1:])))
    size = h.shape[-1]
    check_shapes("similarity", kernel=(kernel, (3 * size, 1)), bias=(bias, (1,)))
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


@checked
def context_to_query(
    s: Shaped[np.ndarray, "B T J"], u: Shaped[np.ndarray, "J B D"], *, lengths: Integer[np.ndarray, " B"]
):
    """Return the attended question for each context word, u~_t = sum_j softmax_j(s_t) u_j, shape (T, B, D).

    `lengths` are the lengths of the questions.
    """
    valid = _valid_words("context_to_query", s, lengths)
    check_shapes("context_to_query", u=(u, (s.shape[2], len(s), "D")))
    weights, softmax_back = _softmax(s, valid, axis=2)
    u_rows = u.swapaxes(0, 1)

    def backward(dattended: Shaped[np.ndarray, "T B D"]):
        drows = dattended.swapaxes(0, 1)
        ds = softmax_back(drows @ u_rows.swapaxes(1, 2))
        return ds, (weights.swapaxes(1, 2) @ drows).swapaxes(0, 1)

    return (weights @ u_rows).swapaxes(0, 1), backward


@checked
def max_over_question(s: Shaped[np.ndarray, "B T J"], *, lengths: Integer[np.ndarray, " B"]):
    """Return m_t = max_j s[t, j] over the words of the question, shape (T, B); the first maximum has the gradient.

    `lengths` are the lengths of the questions. `attention_pool` with m as logits is query-to-context attention.
    """
    valid = _valid_words("max_over_question", s, lengths)
    best = np.where(valid, np.real(s), -np.inf).argmax(axis=2)[..., None]

    def backward(dm: Shaped[np.ndarray, "T B"]):
        ds = np.zeros(s.shape, dm.dtype)
        np.put_along_axis(ds, best, dm.T[..., None], axis=2)
        return ds

    return np.take_along_axis(s, best, axis=2)[..., 0].T, backward


@checked
def attention_pool(
    logits: Shaped[np.ndarray, "T B"], x: Shaped[np.ndarray, "T B D"], *, lengths: Integer[np.ndarray, " B"]
):
    """Return the mean word of a text, weighted by a softmax: sum_t softmax_t(logits) x_t, shape (B, D)."""
    check_shapes(
        "attention_pool", x=(x, ("T", "B", "D")), logits=(logits, x.shape[:2]), lengths=(lengths, x.shape[1:2])
    )
    valid = np.arange(len(x))[:, None] < checked_ids("attention_pool", "lengths", lengths, len(x) + 1, start=1)
    weights, softmax_back = _softmax(logits, valid, axis=0)

    def backward(dpooled: Shaped[np.ndarray, "B D"]):
        return softmax_back((x * dpooled).sum(axis=2)), weights[..., None] * dpooled

    return (weights[..., None] * x).sum(axis=0), backward


@checked
def attention_flow(
    h: Shaped[np.ndarray, "T B D"],
    u: Shaped[np.ndarray, "J B D"],
    kernel: Shaped[np.ndarray, "3*D 1"],
    bias: Shaped[np.ndarray, " 1"],
    *,
    lengths: Integer[np.ndarray, " B"],
    question_lengths: Integer[np.ndarray, " B"],
):
    """Return p_t = [h_t, u~_t, h_t * u~_t, h_t * h~] end to end, shape (T, B, 4 D): context with question.

    u~_t is the question attended by h_t (`context_to_query`). h~ is the context attended by the whole question
    (`attention_pool` of `max_over_question`).
    """
    s, s_back = similarity(h, u, kernel, bias)
    attended, attended_back = context_to_query(s, u, lengths=question_lengths)
    match, match_back = max_over_question(s, lengths=question_lengths)
    pooled, pooled_back = attention_pool(match, h, lengths=lengths)
    by_attended, by_attended_back = multiply(h, attended)
    by_pooled, by_pooled_back = multiply(h, pooled)
    p, p_back = concatenate(h, attended, by_attended, by_pooled)

    def backward(dp: Shaped[np.ndarray, "T B _"]):
        dh, dattended, dby_attended, dby_pooled = p_back(dp)
        dh_by_pooled, dpooled = by_pooled_back(dby_pooled)
        dh_by_attended, dattended_by = by_attended_back(dby_attended)
        dmatch, dh_pooled = pooled_back(dpooled)
        ds, du = attended_back(dattended + dattended_by)
        dh_s, du_s, dkernel, dbias = s_back(ds + match_back(dmatch))
        dh = dh + dh_by_pooled + dh_by_attended + dh_pooled + dh_s
        return dh, du + du_s, dkernel, dbias

    return p, backward


@checked
def multiply(x: Shaped[np.ndarray, "T B D"], z: Shaped[np.ndarray, "... B D"]):
    """Return y = x * z, shape (T, B, D); a z of shape (B, D) multiplies every word of x."""
    check_shapes("multiply", x=(x, ("T", "B", "D")), z=(z, x.shape if z.ndim == x.ndim else x.shape[1:]))

    def backward(dy: Shaped[np.ndarray, "T B D"]):
        dz = dy * x
        return dy * z, dz if z.ndim == x.ndim else dz.sum(axis=0)

    return x * z, backward


@checked
def concatenate(*parts: Shaped[np.ndarray, "..."]):
    """Return y = [x, z, ...]: arrays of any widths, concatenated along their last axis."""
    check_shapes(
        "concatenate", **{f"part {k}": (part, (*parts[0].shape[:-1], "D")) for k, part in enumerate(parts)}
    )
    ends = np.cumsum([part.shape[-1] for part in parts])[:-1]

    def backward(dy: Shaped[np.ndarray, "..."]):
        return tuple(np.split(dy, ends, axis=-1))

    return np.concatenate(parts, axis=-1), backward


def _valid_words(op, s, lengths):
    """Return which words of the question are within its length, (B, 1, J)."""
    check_shapes(op, s=(s, ("B", "T", "J")), lengths=(lengths, s.shape[:1]))
    return np.arange(s.shape[2]) < checked_ids(op, "lengths", lengths, s.shape[2] + 1, start=1)[:, None, None]


def _softmax(x, valid, axis):
    """Return p = exp(x) / sum exp(x) over the valid entries along an axis, 0 for the others; and its backward."""
    inside = np.where(valid, x, MASKED_LOGIT)
    powers = np.exp(inside - np.real(inside).max(axis=axis, initial=MASKED_LOGIT, keepdims=True))
    p = powers / powers.sum(axis=axis, keepdims=True)

    def backward(dp):
        return p * (dp - (p * dp).sum(axis=axis, keepdims=True))

    return p, backward
