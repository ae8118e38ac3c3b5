# pyright: reportMissingImports=false, reportMissingModuleSource=false, reportAttributeAccessIssue=false
"""Flax's LSTMCell and OptimizedLSTMCell (linen): a kernel for each gate and each source, one bias for each gate.

Both have the same params: ii, if, ig, io read the input, hi, hf, hg, ho the cell's own output. The carry is (c,
h), in this order. Of Flax NNX, the LSTMCell has these params too ("if" is "if_"); the OptimizedLSTMCell has
dense_i and dense_h, in which the gates lie end to end.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from issref.iss.layout import Params
from issref.verify.formats import files
from issref.verify.formats.cells import GRU
from issref.verify.formats.dialect import Arrays, Dialect

GATES = ("input", "forget", "candidate", "output")
_LETTERS = dict(zip("ifgo", GATES, strict=True))
SPELLING = Dialect(
    "lstm#/*",
    {f"i{letter}/kernel": (("x",), (gate,)) for letter, gate in _LETTERS.items()}
    | {f"h{letter}/kernel": (("h",), (gate,)) for letter, gate in _LETTERS.items()}
    | {f"h{letter}/bias": ((gate,),) for letter, gate in _LETTERS.items()},
)
NNX = Dialect(
    "lstm#/*",
    {"dense_i/kernel": (("x",), GATES), "dense_h/kernel": (("h",), GATES), "dense_h/bias": (GATES,)},
)
GRU_GATES = ("reset", "update", "candidate")
_GRU_LETTERS = dict(zip("rzn", GRU_GATES, strict=True))
SPELLING_GRU = Dialect(
    "gru#/*",
    {f"i{letter}/kernel": (("x",), (gate,)) for letter, gate in _GRU_LETTERS.items()}
    | {f"h{letter}/kernel": (("h",), (gate,)) for letter, gate in _GRU_LETTERS.items()}
    | {f"i{letter}/bias": ((gate,),) for letter, gate in _GRU_LETTERS.items()}
    | {"hn/bias": (("recurrent",),)},
    cell=GRU,
)
NNX_GRU = Dialect(
    "gru#/*",
    {"dense_i/kernel": (("x",), GRU_GATES), "dense_h/kernel": (("h",), GRU_GATES), "dense_i/bias": (GRU_GATES,)},
    cell=GRU,
)
axes, layout = SPELLING.axes, SPELLING.layout
to_reference, from_reference = SPELLING.to_reference, SPELLING.from_reference
read, write = files.read, files.write


def arrays(tree: Mapping[str, Any]) -> Params:
    """Return the params of a cell, an nn.RNN or a model as arrays by path: "RNN_0/cell/ii/kernel".

    `tree` is linen's dictionary of params, or nnx.state(model) of Flax NNX.
    """
    from flax import nnx
    from flax.traverse_util import flatten_dict

    tree = nnx.to_pure_dict(nnx.filter_state(tree, nnx.Param)) if isinstance(tree, nnx.State) else tree
    flat = flatten_dict(tree, sep="/")
    return {name: np.asarray(values) for name, values in flat.items()}


def build(arrays: Arrays) -> dict[str, Any]:
    """Build the tree of params, the inverse of `arrays`; for an nn.RNN use {"params": {"cell": tree["lstm0"]}}."""
    from flax.traverse_util import unflatten_dict

    return unflatten_dict(dict(arrays), sep="/")
