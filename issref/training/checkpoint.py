"""Atomic, checksummed files: arrays with metadata as safetensors; JSON.

The metadata contain the format, a description of the arrays, and the sha256 of the file's bytes, computed with the
64 digits of the checksum set to zeros: any changed byte is noticed.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = "issref 2"
WITHOUT_CHECKSUM = "issref 1"  # an older format, which can still be read
UNKNOWN = "0" * 64
Arrays = Mapping[str, np.ndarray]


def write_whole(path: Path, content: bytes, previous: Path | None = None) -> None:
    """Write a file atomically: under a temporary name, which is then changed to `path`.

    The old file is renamed to `previous`, if given, so that at any moment one of the two exists.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if previous and path.exists():
            path.replace(previous)
        partial.replace(path)
    except BaseException:  # Ctrl-C too
        partial.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Any) -> None:
    """Write an object as readable JSON, a list as JSON lines, atomically."""
    lines = [json.dumps(row) for row in content] if isinstance(content, list) else [json.dumps(content, indent=2)]
    write_whole(path, "".join(line + "\n" for line in lines).encode())


def from_json(text: str | bytes) -> Any:
    """Parse JSON. Raises ValueError if it is malformed, or nested too deeply for Python's parser."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("brackets nested too deeply") from error


def save(path: Path, arrays: Arrays, *, previous: Path | None = None, **about: Any) -> None:
    """Write arrays by name, and `about` as JSON in the metadata. On OSError the old file is left as it was."""
    from safetensors.numpy import save as to_bytes

    metadata = {"format": FORMAT, "sha256": UNKNOWN, **{key: json.dumps(value) for key, value in about.items()}}
    contiguous = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    content = to_bytes(contiguous, metadata)
    write_whole(path, content.replace(_field(UNKNOWN), _field(_checksum(content, UNKNOWN)), 1), previous)


def load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays of a file and its metadata. Raises ValueError if it is damaged or of another format."""
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    try:
        if not path.is_file():
            raise ValueError(f"{path}: expected a file written by issref, got none")
        content = path.read_bytes()
        arrays = {name: values.copy() for name, values in from_bytes(content).items()}  # copies can be written to
        metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__") or {}
    except (SafetensorError, OSError, KeyError, OverflowError) as error:
        raise ValueError(
            f"{path}: expected a complete safetensors file, got one that cannot be read ({error})"
        ) from error
    found, said = metadata.pop("format", "no issref format at all"), metadata.pop("sha256", None)
    if said is not None and said != (real := _checksum(content, said)):
        raise ValueError(f"{path}: expected the bytes that were written, sha256 {said}, got sha256 {real}")
    if found != (WITHOUT_CHECKSUM if said is None else FORMAT):
        raise ValueError(f"{path}: expected format {FORMAT!r} with its sha256, got {found!r} and {said}")
    try:
        return arrays, {key: json.loads(value) for key, value in metadata.items()}
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected metadata in JSON, got something else ({error})") from error


def _field(checksum: str) -> bytes:
    return f'"sha256":"{checksum}"'.encode()


def _checksum(content: bytes, said: str) -> str:
    """Return the sha256 of a file's bytes, with the digits of the checksum itself set to zeros."""
    start, bytes_ = content.find(_field(said)), memoryview(content)
    digest = hashlib.sha256(bytes_[:start])
    digest.update(_field(UNKNOWN))
    digest.update(bytes_[start + len(_field(said)) :])
    return digest.hexdigest()


def add_prefix(**parts: Arrays) -> dict[str, np.ndarray]:
    """Join several dictionaries into one, each name prefixed by its part: params/lstm0/kernel."""
    return {f"{part}/{name}": values for part, arrays in parts.items() for name, values in arrays.items()}


def strip_prefix(arrays: Arrays, name: str) -> dict[str, np.ndarray]:
    """Return one of the dictionaries that `add_prefix` joined."""
    prefix = f"{name}/"
    return {key.removeprefix(prefix): values for key, values in arrays.items() if key.startswith(prefix)}
