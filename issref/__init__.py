"""issref: Intrinsic Sparse Structures (Wen et al., ICLR 2018) in NumPy.

One hidden unit of a recurrent network is a *component*: in an LSTM, four gate columns with their biases, the
recurrent row, and one row in each other matrix that reads it. A group lasso over the weights of each component,
without its biases, drives whole components to zero, and a component that nothing reads can be removed from every
gate, state and reader at once. What is left is an ordinary, smaller, dense network with the same outputs as
before the removal. The *layout* lists the components along each axis of each array; groups, penalty, proximal
operator and compaction all follow from it.

Dimension key: T time, B batch, D input, H hidden, V vocabulary, K outputs. Arrays are (T, B, ...), kernels are
(inputs, outputs), gates are in the order input, candidate, forget, output.
"""

import issref.openblas  # noqa: F401  (before NumPy)
from issref.iss.compact import compact, expand, zero_dead, zero_small_weights
from issref.iss.groups import Groups, alive, group_norms, iss_groups
from issref.iss.layout import Layout, Occurrence, Segment
from issref.iss.penalty import penalty
from issref.iss.prox import Certificate, block_soft_threshold, prox, strength_bound

__version__ = "0.1.0"
__all__ = [
    "Certificate",
    "Groups",
    "Layout",
    "Occurrence",
    "Segment",
    "alive",
    "block_soft_threshold",
    "compact",
    "expand",
    "group_norms",
    "iss_groups",
    "penalty",
    "prox",
    "strength_bound",
    "zero_dead",
    "zero_small_weights",
]
