# pyright: reportMissingImports=false, reportMissingModuleSource=false, reportAttributeAccessIssue=false
"""Keras' LSTM layer: kernel (D, 4H), recurrent_kernel (H, 4H), bias (4H,), in the order of get_weights().

The forget gate has no other bias: unit_forget_bias only sets initial values. Keras numbers layers lstm, lstm_1,
lstm_2; that they are a chain is assumed, as in Sequential.
"""

from collections.abc import Iterable
from typing import Any

from issref.iss.layout import Params
from issref.verify.formats import files, hdf5
from issref.verify.formats.dialect import Arrays, Dialect
from issref.verify.formats.hdf5 import PLAIN

GATES = ("input", "forget", "candidate", "output")
SPELLING = Dialect(
    "lstm#/*",
    {"kernel": (("x",), GATES), "recurrent_kernel": (("h",), GATES), "bias": (GATES,)},
    r"(.*/)?stacked_rnn_cells/.*",
)
axes, layout = SPELLING.axes, SPELLING.layout
to_reference, from_reference = SPELLING.to_reference, SPELLING.from_reference
read_model, read, write = hdf5.read, files.read, files.write


def arrays(layers: Iterable[Any]) -> Params:
    """Return the weights of keras.layers.LSTM, from the input up. Raises ValueError for other activations."""
    found = {}
    for number, layer in enumerate(layers):
        settings = layer.get_config()
        for name, value in PLAIN.items():
            if settings.get(name) != value:
                raise ValueError(f"{layer.name}: expected {name} {value!r}, got {settings.get(name)!r}")
        weights = zip(SPELLING.arrays, layer.get_weights(), strict=False)  # without a bias, there are two
        found |= {f"lstm{number}/{array}": values for array, values in weights}
    return found


def build(arrays: Arrays) -> list[Any]:
    """Build a keras.layers.LSTM for each layer; it returns (outputs, h, c), with axes batch, time, D."""
    import keras

    built = []
    for layer in SPELLING.find(arrays):
        sizes, dtype = SPELLING.sizes(layer), layer["kernel"].dtype.name
        lstm = keras.layers.LSTM(
            sizes["h"], use_bias="bias" in layer, return_sequences=True, return_state=True, dtype=dtype
        )
        lstm.build((None, None, sizes["x"]))
        lstm.set_weights([layer[array] for array in SPELLING.arrays if array in layer])
        built.append(lstm)
    return built
