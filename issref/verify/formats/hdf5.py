# pyright: reportMissingImports=false
"""Keras' own files: .keras (.weights.h5 and the layers' settings in an archive), .weights.h5, Keras 2's .h5."""

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from issref.iss.layout import Params
from issref.training.checkpoint import from_json
from issref.verify.formats.cells import GRU, Cell
from issref.verify.formats.files import check_stored, reading

WEIGHTS, CONFIG = "model.weights.h5", "config.json"
PLAIN = {"activation": "tanh", "recurrent_activation": "sigmoid", "go_backwards": False}
CELLS = ("LSTM", "LSTMCell", "GRU", "GRUCell", "RNN")  # an RNN holds a cell, and the direction
_ARRAYS = ("kernel", "recurrent_kernel", "bias")  # of a cell, whose variables have numbers in a .weights.h5


def read(path: Path | str) -> Params:
    """Return the arrays of a .keras or .h5 file by path: "layers/lstm_1/cell/kernel".

    Raises ValueError if the file is missing or incomplete, or if a setting of an LSTM in it is not that of a plain
    LSTM. A .weights.h5 has no settings: the activations are assumed to be Keras' own.
    """
    path = Path(path)
    with reading(path, "a whole file of Keras", Exception):  # any exception: a damaged file may raise anything
        if path.suffix != ".keras":
            return _arrays(path.read_bytes())
        with zipfile.ZipFile(path) as archive:
            check_stored(path, archive)
            check_settings(from_json(archive.read(CONFIG)))
            return _arrays(archive.read(WEIGHTS))


def check_settings(config: Any) -> None:
    """Raise ValueError if an LSTM in a model's settings has other activations, or runs backwards by itself."""
    for name, layer in _layers(config):
        check_plain(name, layer)


def check_plain(name: str, layer: dict) -> None:
    """Raise ValueError unless the settings of a layer are a plain LSTM's or GRU's."""
    for setting, value in PLAIN.items():
        if layer.get(setting, value) != value:
            raise ValueError(f"{name}: expected {setting} {value!r}, got {layer[setting]!r}")
    if not layer.get("use_bias", True) and not layer.get("reset_after", True):
        raise ValueError(f"{name}: expected a bias or reset_after, got neither: the arrays do not tell it apart")


def assumed(path: Path, cell: Cell, biases: int) -> Iterator[str]:
    """Yield remarks on what is assumed of Keras' arrays in a file without settings."""
    if _has_settings(path):
        return
    yield "assumed Keras' own activations: this file has no settings"
    if cell == GRU and not biases:
        yield "assumed reset_after=True: without a bias the arrays do not show it"


def _has_settings(path: Path) -> bool:
    if path.suffix != ".h5":
        return path.suffix == ".keras"
    import h5py

    with h5py.File(path, "r") as file:
        return bool(file.attrs.get("model_config"))


def _layers(part: Any, name: str = "", backward: bool = False) -> Iterator[tuple[str, dict]]:
    """Yield the settings of every LSTM; the second layer of a Bidirectional one is meant to run backwards."""
    if isinstance(part, list):
        for each in part:
            yield from _layers(each, name, backward)
    elif isinstance(part, dict):
        config = part.get("config")
        name = str(config.get("name", name)) if isinstance(config, dict) else name
        if isinstance(config, dict) and str(part.get("class_name")) in CELLS:
            yield name, {**config, "go_backwards": config.get("go_backwards", False) and not backward}
        for key, each in part.items():
            yield from _layers(each, name, key == "backward_layer" or (backward and key == "config"))


def _arrays(content: bytes) -> Params:
    import h5py

    with h5py.File(io.BytesIO(content), "r") as file:
        if settings := file.attrs.get("model_config"):
            check_settings(from_json(settings))
        found = datasets(file)
    return {named(name, found): values for name, values in found.items()}


def datasets(file: Any) -> Params:
    """Return the arrays of numbers in an open file by path. Raises ValueError for those in another form."""
    import h5py

    found: Params = {}

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not item.dtype.hasobject and item.dtype.names is None:
            if item.id.get_storage_size() < item.nbytes or item.external:
                raise ValueError(f"{name}: expected numbers stored one by one, got an array in another form")
            found[name] = np.asarray(item[()])

    file.visititems(add)
    return found


def named(name: str, found: Params) -> str:
    """Return "cell/kernel" for "cell/vars/0" if a cell's other arrays are there, else the name."""
    match = re.fullmatch(r"(.*)/vars/([012])", name)
    if match is None or f"{match[1]}/vars/1" not in found or found[f"{match[1]}/vars/1"].ndim != 2:
        return name
    return f"{match[1]}/{_ARRAYS[int(match[2])]}"
