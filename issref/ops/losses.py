"""Losses of a language model and of an answer span.

Tutorials: tutorials/3_backward_by_hand.py, tutorials/7_highways.py.
"""

import numpy as np
from jaxtyping import Integer, Shaped

from issref import kernels
from issref.ops import check_floating, check_shapes, checked, checked_ids
from issref.ops.basic import linear

MASKED_LOGIT = -1e30  # the logit of a masked position: its probability is 0


@checked
def cross_entropy(logits: Shaped[np.ndarray, "T B V"], *, targets: Integer[np.ndarray, "T B"]):
    """Return -log softmax(logits)[targets] in nats: the sum over the T steps, the mean over the batch of B.

    The paper uses this unit, so its strengths and learning rates carry over. The perplexity is exp(loss / T).
    """
    check_shapes("cross_entropy", logits=(logits, ("T", "B", "V")), targets=(targets, logits.shape[:2]))
    check_floating("cross_entropy", logits.dtype)
    targets = checked_ids("cross_entropy", "targets", targets, logits.shape[2])
    batch = targets.shape[1]
    rows, aims = logits.reshape(targets.size, logits.shape[-1]), targets.ravel()
    log_sum = kernels.log_sum_exp(rows)
    loss = (log_sum - rows[np.arange(len(rows)), aims]).sum() / batch

    def backward(dloss: Shaped[np.ndarray, ""] | complex | float | int | np.number):
        return kernels.softmax_minus_target(rows, log_sum, aims, dloss / batch).reshape(logits.shape)

    return loss, backward


@checked
def linear_cross_entropy(
    x: Shaped[np.ndarray, "T B D"],
    kernel: Shaped[np.ndarray, "D V"],
    bias: Shaped[np.ndarray, " V"],
    *,
    targets: Integer[np.ndarray, "T B"],
):
    """Return cross_entropy(x W + b, targets) in nats: the sum over the T steps, the mean over the batch of B.

    >>> cost, backward = linear_cross_entropy(np.ones((1, 1, 2)), np.eye(2), np.zeros(2), targets=np.array([[0]]))
    >>> dx, dkernel, dbias = backward(1.0)
    >>> round(float(cost), 4), dbias
    (0.6931, array([-0.5,  0.5]))
    """
    logits, linear_backward = linear(x, kernel, bias)
    loss, cross_backward = cross_entropy(logits, targets=targets)

    def backward(dloss: Shaped[np.ndarray, ""] | complex | float | int | np.number):
        return linear_backward(cross_backward(dloss))

    return loss, backward


@checked
def span_cross_entropy(
    start: Shaped[np.ndarray, "T B"],
    end: Shaped[np.ndarray, "T B"],
    *,
    starts: Integer[np.ndarray, " B"],
    ends: Integer[np.ndarray, " B"],
    lengths: Integer[np.ndarray, " B"],
):
    """Return -log softmax(start)[starts] - log softmax(end)[ends] in nats: the mean over the batch of B.

    Each softmax runs over the first `lengths` of the T positions; the span must lie in them. Logits beyond them do
    not matter, and their gradient is 0. Seo et al. 2017, section 2 (6).
    """
    batch = start.shape[1:]
    check_shapes(
        "span_cross_entropy",
        start=(start, ("T", "B")),
        end=(end, start.shape),
        starts=(starts, batch),
        ends=(ends, batch),
        lengths=(lengths, batch),
    )
    lengths = checked_ids("span_cross_entropy", "lengths", lengths, len(start) + 1, start=1)
    starts, ends = (
        checked_ids("span_cross_entropy", name, ids, lengths)
        for name, ids in {"starts": starts, "ends": ends}.items()
    )
    valid = np.arange(len(start))[:, None] < lengths
    costs, backs = [], []
    for logits, targets in ((start, starts), (end, ends)):
        rows = np.ascontiguousarray(np.where(valid, logits, MASKED_LOGIT).T)
        cost, back = cross_entropy(rows[None], targets=targets[None])
        costs.append(cost)
        backs.append(back)

    def backward(dloss: Shaped[np.ndarray, ""] | complex | float | int | np.number):
        return tuple(np.where(valid, back(dloss)[0].T, 0) for back in backs)

    return costs[0] + costs[1], backward
