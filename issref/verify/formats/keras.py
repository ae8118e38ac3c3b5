# pyright: reportMissingImports=false, reportMissingModuleSource=false, reportAttributeAccessIssue=false
"""Keras' LSTM layer: kernel (D, 4H), recurrent_kernel (H, 4H), bias (4H,), in the order of get_weights().

The forget gate has no other bias: unit_forget_bias only sets initial values. Keras numbers layers lstm, lstm_1,
lstm_2; that they are a chain is assumed, as in Sequential.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from issref.iss.layout import Params
from issref.verify.formats import files, hdf5
from issref.verify.formats.cells import GRU, GRU_RESET_BEFORE, LSTM
from issref.verify.formats.dialect import Arrays, Dialect, find

GATES = ("input", "forget", "candidate", "output")
SPELLING = Dialect(
    "lstm#/*",
    {"kernel": (("x",), GATES), "recurrent_kernel": (("h",), GATES), "bias": (GATES,)},
    r"(.*/)?stacked_rnn_cells/.*",
)
GRU_GATES = ("update", "reset", "candidate")
_GRU = {"kernel": (("x",), GRU_GATES), "recurrent_kernel": (("h",), GRU_GATES)}
SPELLING_GRU = Dialect(
    "gru#/*", {**_GRU, "bias": ((*GRU_GATES, "update", "reset", "recurrent"),)}, SPELLING.chains, cell=GRU
)
SPELLING_GRU_BEFORE = Dialect("gru#/*", {**_GRU, "bias": (GRU_GATES,)}, SPELLING.chains, cell=GRU_RESET_BEFORE)
axes, layout = SPELLING.axes, SPELLING.layout
to_reference, from_reference = SPELLING.to_reference, SPELLING.from_reference
read_model, read = hdf5.read, files.read


def write(path: Path | str, arrays: Arrays) -> None:
    """Write the arrays as a safetensors file; the two biases of a GRU with reset_after are rows, as in Keras."""
    files.write(path, {name: stored(name, values, arrays) for name, values in arrays.items()})


def stored(name: str, values: np.ndarray, arrays: Arrays) -> np.ndarray:
    """Return an array as Keras holds it: the two biases of a GRU with reset_after as rows (2, 3H)."""
    kernel = arrays[name.removesuffix("bias") + "recurrent_kernel"] if name.endswith("/bias") else None
    return values if kernel is None or len(values) == kernel.shape[1] else values.reshape(2, -1)


def arrays(layers: Iterable[Any]) -> Params:
    """Return the weights of LSTM or GRU layers, from the input up. Raises ValueError for other activations."""
    found = {}
    for number, layer in enumerate(layers):
        settings, name = layer.get_config(), f"{type(layer).__name__.lower()}{number}"
        hdf5.check_plain(layer.name, settings)
        weights = zip(SPELLING.arrays, layer.get_weights(), strict=False)  # without a bias, there are two
        found |= {f"{name}/{array}": values.ravel() if array == "bias" else values for array, values in weights}
    return found


def build(arrays: Arrays) -> list[Any]:
    """Build a keras.layers.LSTM or GRU for each layer; it returns (outputs, h, c), with axes batch, time, D."""
    import keras

    spelling, layers = find(arrays, (SPELLING, SPELLING_GRU, SPELLING_GRU_BEFORE))
    built = []
    for layer in layers:
        sizes, dtype = spelling.sizes(layer), layer["kernel"].dtype.name
        settings = {"return_sequences": True, "return_state": True, "dtype": dtype, "use_bias": "bias" in layer}
        if spelling.cell != LSTM:
            settings["reset_after"] = spelling.cell == GRU
        module = getattr(keras.layers, spelling.cell.kind)(sizes["h"], **settings)
        module.build((None, None, sizes["x"]))
        module.set_weights(
            [
                stored(f"/{array}", layer[array], {f"/{one}": layer[one] for one in layer})
                for array in spelling.arrays
                if array in layer
            ]
        )
        built.append(module)
    return built
