# pyright: reportMissingImports=false, reportMissingModuleSource=false, reportAttributeAccessIssue=false
"""Flax's LSTMCell and OptimizedLSTMCell (linen): a kernel for each gate and each source, one bias for each gate.

Both have the same params: ii, if, ig, io read the input, hi, hf, hg, ho the cell's own output. The carry is (c,
h), in this order.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from issref.iss.layout import Params
from issref.verify.formats import files
from issref.verify.formats.dialect import Arrays, Dialect

GATES = ("input", "forget", "candidate", "output")
_LETTERS = dict(zip("ifgo", GATES, strict=True))
SPELLING = Dialect(
    "lstm#/*",
    {f"i{letter}/kernel": (("x",), (gate,)) for letter, gate in _LETTERS.items()}
    | {f"h{letter}/kernel": (("h",), (gate,)) for letter, gate in _LETTERS.items()}
    | {f"h{letter}/bias": ((gate,),) for letter, gate in _LETTERS.items()},
)
axes, layout = SPELLING.axes, SPELLING.layout
to_reference, from_reference = SPELLING.to_reference, SPELLING.from_reference
read, write = files.read, files.write


def arrays(tree: Mapping[str, Any]) -> Params:
    """Return the params of a cell, an nn.RNN or a model as arrays by path: "RNN_0/cell/ii/kernel"."""
    from flax.traverse_util import flatten_dict

    return {name: np.asarray(values) for name, values in flatten_dict(tree, sep="/").items()}


def build(arrays: Arrays) -> dict[str, Any]:
    """Build the tree of params, the inverse of `arrays`; for an nn.RNN use {"params": {"cell": tree["lstm0"]}}."""
    from flax.traverse_util import unflatten_dict

    return unflatten_dict(dict(arrays), sep="/")
