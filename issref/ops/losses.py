"""The loss of a language model."""

import numpy as np
from jaxtyping import Integer, Shaped

from issref import kernels


def cross_entropy(logits: Shaped[np.ndarray, "T B V"], *, targets: Integer[np.ndarray, "T B"]):
    """-log softmax(logits)[targets], in nats: the sum over the T steps, the mean over the batch of B.

    The paper's unit, in which its strengths and learning rates are meant; perplexity is exp(loss / T).
    """
    batch = targets.shape[1]
    rows, aims = logits.reshape(targets.size, logits.shape[-1]), targets.ravel()
    log_sum = kernels.log_sum_exp(rows, np.real(rows).max(axis=1).astype(rows.dtype))
    loss = (log_sum - rows[np.arange(len(rows)), aims]).sum() / batch

    def backward(dloss: Shaped[np.ndarray, ""] | complex | float | int | np.number):
        return kernels.softmax_minus_target(rows, log_sum, aims, dloss / batch).reshape(logits.shape)

    return loss, backward
