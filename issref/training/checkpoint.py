"""Atomic, checksummed files: arrays with metadata as safetensors; JSON.

The metadata contain the format, a description of the arrays, and the sha256 of the file's bytes, computed with the
64 digits of the checksum set to zeros: any changed byte is noticed. What is too long for the metadata is stored as
an array about/<name> of the bytes of its JSON. The same content has the same bytes in every process.
"""

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np

FORMAT = "issref 2"
UNKNOWN = "0" * 64
LONGEST = 2**20  # characters of an entry of the metadata; safetensors reads at most 10^8 of all together
KINDS = {stat.S_IFLNK: "a link", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
Arrays = Mapping[str, np.ndarray]


def write_whole(path: Path, content: bytes, previous: Path | None = None) -> None:
    """Write a file atomically: under a temporary name of its own, which is then changed to `path`.

    The old file is renamed to `previous`, if given, so that at any moment one of the two exists. Raises ValueError
    if `path` is a link, a pipe, a device or a folder, which are neither followed nor replaced.
    """
    check_regular(path)
    partial = path.with_name(f"{path.name}.{token_hex(4)}.partial")
    file = partial.open("xb")  # refuses whatever has this name, a link too
    try:
        with file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if previous and path.exists():
            path.replace(previous)
        partial.replace(path)
    except BaseException:  # Ctrl-C too
        partial.unlink(missing_ok=True)
        raise


def remove_partial(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a run's folder, except for reports, which other
    processes may be writing."""
    for partial in folder.glob(f"*.{'[0-9a-f]' * 8}.partial"):
        if ".html." not in partial.name:
            partial.unlink(missing_ok=True)


def check_regular(path: Path, *, links: bool = False) -> None:
    """Raise ValueError if there is something at `path` that is no regular file, or, unless `links`, a link."""
    try:
        kind = stat.S_IFMT((path.stat() if links else path.lstat()).st_mode)
    except OSError:  # none, or no access: the operation itself gives the reason
        return
    if kind != stat.S_IFREG:
        raise ValueError(f"{path}: expected a regular file, got {KINDS.get(kind, 'a device')}")


def read_whole(path: Path, content: str) -> bytes:
    """Return the bytes of a file. Raises ValueError, in which `content` says what was expected, if there is none,
    if it cannot be read, or for a pipe or a device, which may have no end.
    """
    check_regular(path, links=True)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{path}: expected {content}, got none") from None
    except OSError as error:
        raise ValueError(f"{path}: expected {content}, got one that cannot be read ({error.strerror})") from error


def write_json(path: Path, content: Any) -> None:
    """Write an object as readable JSON, a list as JSON lines, atomically."""
    lines = [json.dumps(row) for row in content] if isinstance(content, list) else [json.dumps(content, indent=2)]
    write_whole(path, "".join(line + "\n" for line in lines).encode())


def from_json(text: str | bytes) -> Any:
    """Parse JSON. Raises ValueError if it is malformed, repeats a name, or is nested too deeply for Python."""
    try:
        return json.loads(text, object_pairs_hook=_once)
    except RecursionError as error:
        raise ValueError("brackets nested too deeply") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        twice = next(name for name in fields if sum(name == one for one, _ in pairs) > 1)
        raise ValueError(f"expected each name once, got {twice!r} twice")
    return fields


def save(path: Path, arrays: Arrays, *, previous: Path | None = None, **about: Any) -> None:
    """Write arrays by name, and `about` as JSON in the metadata. On OSError the old file is still at `path`,
    or at `previous`."""
    write_whole(path, to_bytes(arrays, **about), previous)


def to_bytes(arrays: Arrays, **about: Any) -> bytes:
    """Return the content of the file that `save` writes."""
    from safetensors.numpy import save as serialize

    texts = {key: json.dumps(value) for key, value in about.items()}
    long = {key: np.frombuffer(text.encode(), np.uint8) for key, text in texts.items() if len(text) > LONGEST}
    metadata = {"format": FORMAT, "sha256": UNKNOWN, **{key: texts[key] for key in texts.keys() - long}}
    everything = {**arrays, **add_prefix(about=long)}
    contiguous = {name: np.ascontiguousarray(values) for name, values in everything.items()}
    content = _with_sorted_metadata(serialize(contiguous, metadata))
    return content.replace(_field(UNKNOWN), _field(_checksum(content, UNKNOWN)), 1)


def load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays of a file and its metadata. Raises ValueError if it is damaged or of another format."""
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    content = read_whole(path, "a file written by issref")
    try:
        arrays = {name: values.copy() for name, values in from_bytes(content).items()}  # copies can be written to
        metadata = json.loads(_header(content)).get("__metadata__") or {}
    except (SafetensorError, KeyError, OverflowError) as error:
        raise ValueError(
            f"{path}: expected a complete safetensors file, got one that cannot be read ({error})"
        ) from error
    found, said = metadata.pop("format", "no issref format at all"), metadata.pop("sha256", None)
    if found != FORMAT or said is None:
        raise ValueError(f"{path}: expected format {FORMAT!r} with its sha256, got {found!r} and {said}")
    if said != (real := _checksum(content, said)):
        raise ValueError(f"{path}: expected the bytes that were written, sha256 {said}, got sha256 {real}")
    texts = metadata | {key: values.tobytes() for key, values in strip_prefix(arrays, "about").items()}
    try:
        about = {key: json.loads(value) for key, value in texts.items()}
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected metadata in JSON, got something else ({error})") from error
    return {name: values for name, values in arrays.items() if not name.startswith("about/")}, about


def _header(content: bytes) -> bytes:
    return content[8 : 8 + int.from_bytes(content[:8], "little")]


def _with_sorted_metadata(content: bytes) -> bytes:
    """Return a safetensors file with its metadata in alphabetical order; safetensors' own differs each time."""
    body = memoryview(content)[8 + len(_header(content)) :]
    header = json.loads(_header(content))
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the arrays begin at a multiple of 8 bytes
    return b"".join((len(text).to_bytes(8, "little"), text, body))


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
