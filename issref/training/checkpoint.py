"""Files that are whole or not there: arrays with their description, as safetensors."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = "issref 1"
Arrays = Mapping[str, np.ndarray]


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, then rename it: whoever reads `path` finds all of it or none."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:  # Ctrl-C too
        partial.unlink(missing_ok=True)
        raise


def save(path: Path, arrays: Arrays, **about: Any) -> None:
    """Arrays by name, and `about` as JSON in the file's metadata. Raises OSError and leaves the old file."""
    from safetensors.numpy import save as to_bytes

    metadata = {"format": FORMAT, **{key: json.dumps(value) for key, value in about.items()}}
    contiguous = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    write_whole(path, to_bytes(contiguous, metadata))


def load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of a file and what it says about them; ValueError in a sentence if it is not such a file."""
    from safetensors import SafetensorError, safe_open

    try:
        if not path.is_file():
            raise ValueError(f"{path}: needs a file written by issref, found none")
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            arrays = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path}: needs a whole safetensors file, found one that cannot be read ({error})"
        ) from error
    found = metadata.pop("format", "no issref format at all")
    if found != FORMAT:
        raise ValueError(f"{path}: needs format {FORMAT!r}, found {found!r}")
    return arrays, {key: json.loads(value) for key, value in metadata.items()}


def join(**parts: Arrays) -> dict[str, np.ndarray]:
    """Several dictionaries as one, their names under the part's: params/lstm0/kernel."""
    return {f"{part}/{name}": values for part, arrays in parts.items() for name, values in arrays.items()}


def part(arrays: Arrays, name: str) -> dict[str, np.ndarray]:
    """One of the dictionaries that `join` put together."""
    prefix = f"{name}/"
    return {key.removeprefix(prefix): values for key, values in arrays.items() if key.startswith(prefix)}
