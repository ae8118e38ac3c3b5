# pyright: reportMissingImports=false
"""Cut units out of Keras' own files: arrays, and the number of units in the settings of their layers."""

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from issref.iss.layout import Params
from issref.training.checkpoint import from_json
from issref.verify.formats.files import Keep
from issref.verify.formats.hdf5 import CELLS, CONFIG, WEIGHTS, datasets, named

Units = dict[frozenset[str], tuple[int, int]]  # by possible names of a layer: its old and new number of units


def cut(path: Path, keep: Keep, renamed: Mapping[str, str]) -> bytes:
    """Return the content of a .keras or .h5 file with some arrays cut, named as `hdf5.read` names them.

    Nothing is `renamed`. Raises ValueError if the model's settings do not show which layer has these arrays.
    """
    import h5py

    if path.suffix != ".keras":
        return _cut_weights(path.read_bytes(), keep)[0]
    buffer = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(buffer, "w") as smaller:
        content = archive.read(WEIGHTS)
        with h5py.File(io.BytesIO(content), "r") as old:
            if any(name.startswith("optimizer/") for name in datasets(old)):
                how = "keras.models.load_model(path, compile=False).save(...)"
                raise ValueError(f"optimizer: expected a model without its optimizer's moments ({how}), got them")
        weights, units = _cut_weights(content, keep)
        new = {WEIGHTS: weights, CONFIG: _resized(archive.read(CONFIG), units)}
        for member in archive.infolist():
            smaller.writestr(member, new.get(member.filename, archive.read(member)))
    return buffer.getvalue()


def _cut_weights(content: bytes, keep: Keep) -> tuple[bytes, Units]:
    """Return a smaller .h5 file, and the numbers of units of its cells."""
    import h5py

    buffer = io.BytesIO()
    with h5py.File(io.BytesIO(content), "r") as old, h5py.File(buffer, "w") as new:
        found = datasets(old)
        names = {raw: named(raw, found) for raw in found}
        _copy(old, new, {raw: found[raw][np.ix_(*keep[name])] for raw, name in names.items() if name in keep})
        cells = {raw: keep[name][0] for raw, name in names.items() if name in keep and "recurrent_kernel" in name}
        units = {_names(old, raw): (len(mask), int(mask.sum())) for raw, mask in cells.items()}
        if settings := old.attrs.get("model_config"):
            new.attrs["model_config"] = _resized(settings, units).decode()
    return buffer.getvalue(), units


def _copy(old: Any, new: Any, smaller: Params) -> None:
    """Copy a group, with smaller arrays for some paths."""
    import h5py

    _copy_attributes(old, new)
    for key, item in old.items():
        if isinstance(item, h5py.Group):
            _copy(item, new.create_group(key), smaller)
        elif (name := item.name.strip("/")) in smaller:
            _copy_attributes(item, new.create_dataset(key, data=smaller[name]))
        else:
            old.copy(item, new, key)


def _copy_attributes(old: Any, new: Any) -> None:
    for key, value in old.attrs.items():
        new.attrs.create(key, value, dtype=old.attrs.get_id(key).dtype)


def _names(file: Any, path: str) -> frozenset[str]:
    """Return possible names of an array's layer: the parts of its path, and what Keras 3 notes along it."""
    parts = path.split("/")
    groups = ["/".join((*parts[:end], "vars")) for end in range(len(parts))]
    return frozenset((*parts, *(str(file[group].attrs.get("name")) for group in groups if group in file)))


def _resized(text: str | bytes, units: Units) -> bytes:
    """Return a model's settings with other numbers of units, without the shapes that followed from them."""
    config = from_json(text)
    for names, (old, new) in units.items():
        layers = [
            part["config"]
            for part in _parts(config)
            if part.get("class_name") in CELLS and part["config"].get("name") in names
        ]
        if [layer.get("units") for layer in layers] != [old]:
            raise ValueError(
                f"{CONFIG}: expected one layer of {old} units named as one of {sorted(names)}, got {len(layers)}"
            )
        layers[0]["units"] = new
    _check_inner(config, {old for old, _ in units.values()})
    for part in [*_parts(config)]:
        if part is not config:
            part.pop("build_config", None)
    return json.dumps(config).encode()


def _check_inner(config: dict, old: set[int]) -> None:
    """Raise ValueError if a model within the model has an input as wide as a layer that is cut."""
    model = config.get("config", {})
    mine = [id(model), *(id(layer.get("config")) for layer in model.get("layers", []))]
    for part in _parts(config):
        shapes = [part.get(key) for key in ("batch_shape", "batch_input_shape", "build_input_shape")]
        if id(part) not in mine and any(shape and shape[-1] in old for shape in shapes):
            wanted = (
                f"no inner model with an input of width {' or '.join(map(str, sorted(old)))}, that of a cut layer"
            )
            raise ValueError(f"{CONFIG}: expected {wanted}, got {part.get('name')}; save its layers one by one")


def _parts(part: Any) -> Iterator[dict]:
    """Yield every dictionary in nested settings, outer ones first."""
    if isinstance(part, dict):
        yield part
    for each in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _parts(each)
