"""Read and write arrays in safetensors files, and raise ValueError for files that cannot be read."""

import json
import math
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from issref.iss.layout import Layout, Params
from issref.training import checkpoint
from issref.training.checkpoint import write_whole
from issref.verify.formats.dialect import Arrays

Keep = Mapping[str, tuple[np.ndarray, ...]]  # for arrays to cut, a mask along each axis: what is kept
# NumPy lacks bfloat16, the upper half of a float32: such numbers are held as float32, with a mark on their dtype.
BFLOAT16 = np.dtype(np.float32, metadata={"stored": "bfloat16"})
_DTYPES = {"BOOL": "?", "C64": "<c8", "BF16": "<u2"} | {
    f"{kind.upper()}{8 * size}": f"<{kind}{size}"
    for kind, sizes in {"f": (2, 4, 8), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8)}.items()
    for size in sizes
}


@contextmanager
def reading(path: Path, kind: str, *errors: type[Exception]) -> Iterator[None]:
    """Raise ValueError, naming the file, if its reader raises OSError or one of `errors`."""
    try:
        yield
    except ValueError:  # names its cause already
        raise
    except (OSError, *errors) as error:
        raise unreadable(path, kind, error) from error


def unreadable(path: Path, kind: str, error: Exception) -> ValueError:
    """Return the ValueError to raise for an error of a file's reader."""
    if isinstance(error, FileNotFoundError):
        return ValueError(f"{path}: expected {kind}, got no file")
    why = " ".join(str(error).split())[:100] or type(error).__name__
    return ValueError(f"{path}: expected {kind}, got one that cannot be read ({why})")


def check_stored(path: Path, archive: zipfile.ZipFile) -> None:
    """Raise BadZipFile if the members are larger than the file: frameworks do not compress."""
    if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
        raise zipfile.BadZipFile("it is compressed")


def check_whole(path: Path) -> None:
    """Raise ValueError for one of several shards of a model."""
    if (shard := re.search(r"-\d+-of-(\d+)\.", path.name)) and int(shard[1]) > 1:
        raise ValueError(f"expected one file with all arrays, got one of {int(shard[1])} shards: join them first")


def check_new(target: Path | None, overwrite: bool, *others: Path | None) -> None:
    """Raise ValueError if a file to write has no folder, is one of `others`, or, unless `overwrite`, exists."""
    if target is None:
        return
    if not target.parent.is_dir():
        raise ValueError(f"{target}: expected a folder to write to, got no {target.parent}")
    if target.is_dir():
        raise ValueError(f"{target}: expected a file to write, got a folder")
    for other in filter(None, others):
        both = target.exists() and other.exists()
        if target.resolve() == other.resolve() or (both and target.samefile(other)):
            raise ValueError(f"{target}: expected another file than {other}, got the same one")
    if target.exists() and not overwrite:
        raise ValueError(f"{target}: expected a new file, or leave to overwrite, got one that exists")


def read(path: Path | str) -> Params:
    """Return the arrays of a safetensors file; bfloat16 becomes float32, exactly. Raises ValueError if it is
    missing or incomplete.
    """
    from safetensors import SafetensorError, deserialize

    path = Path(path)
    whole = reading(path, "a whole safetensors file", SafetensorError, TypeError)
    with reading(path, "numbers that NumPy has", KeyError), whole:
        return {name: _array(**part) for name, part in deserialize(path.read_bytes())}


def write(path: Path | str, arrays: Arrays) -> None:
    """Write the arrays as a safetensors file, completely or not at all."""
    from safetensors.numpy import save

    write_whole(Path(path), save({name: np.ascontiguousarray(values) for name, values in arrays.items()}))


def cut(path: Path, keep: Keep, renamed: Mapping[str, str]) -> bytes:
    """Return the content of a safetensors file with some arrays cut, and under other names where `renamed`.

    Other arrays and the metadata stay as they are; the layout in a model of issref becomes the new one. Raises
    ValueError if it does not fit.
    """
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    if "sha256" in (metadata := header.pop("__metadata__", {})):
        return _cut_own(path, keep)
    smaller, parts, size = {"__metadata__": metadata} if metadata else {}, [], 0
    for name, about in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        part, shape = content[slice(*(start + end for end in about["data_offsets"]))], about["shape"]
        if name in keep:
            whole = np.frombuffer(part, f"V{len(part) // math.prod(shape)}") if part else np.zeros(0, "V1")
            values = whole.reshape(shape)[np.ix_(*keep[name])]
            part, shape = values.tobytes(), values.shape
        smaller[renamed.get(name, name)] = {**about, "shape": shape, "data_offsets": (size, size + len(part))}
        parts, size = [*parts, part], size + len(part)
    text = json.dumps(smaller).encode()
    text += b" " * (-len(text) % 8)  # the arrays begin at a multiple of 8 bytes
    return b"".join((len(text).to_bytes(8, "little"), text, *parts))


def _cut_own(path: Path, keep: Keep) -> bytes:
    arrays, about = checkpoint.load(path)
    layout = Layout.from_json(json.dumps(about.get("layout")))
    layout.check(arrays)
    masks = {
        end.space: mask[end.start : end.stop]
        for name, axes in keep.items()
        for axis, mask in enumerate(axes)
        for end in layout.segments(name, axis)
    }
    about["layout"] = json.loads(
        layout.resized({space: int(mask.sum()) for space, mask in masks.items()}).to_json()
    )
    for space, alive in about.get("alive", {}).items():
        left = iter(masks.get(space, np.ones(sum(alive), bool)).tolist())
        about["alive"][space] = [one and next(left) for one in alive]
    smaller = {name: values[np.ix_(*keep[name])] if name in keep else values for name, values in arrays.items()}
    return checkpoint.to_bytes(smaller, **about)


def _array(dtype: str, shape: list[int], data: bytes) -> np.ndarray:
    values = np.frombuffer(data, _DTYPES[dtype]).reshape(shape)
    return widened(values) if dtype == "BF16" else values


def widened(bits: np.ndarray) -> np.ndarray:
    """Return bfloat16 numbers, given as uint16, as float32 with the mark `BFLOAT16`."""
    return (bits.astype(np.uint32) << 16).view(BFLOAT16)


def stored_dtype(values: np.ndarray) -> str:
    """Return the name of the dtype in which a file holds an array."""
    return (values.dtype.metadata or {}).get("stored", values.dtype.name)


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """Return numbers in float64, rounded to a dtype that may be bfloat16: to the nearest, ties to even."""
    if dtype != "bfloat16":
        return values.astype(dtype).astype(np.float64)
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).view(np.float32).astype(np.float64)


def eps(dtype: str) -> float:
    """Return the distance from 1 to the next number of a dtype that may be bfloat16."""
    return 2.0**-7 if dtype == "bfloat16" else float(np.finfo(dtype).eps)
