"""Read and write arrays in safetensors files, and raise ValueError for files that cannot be read."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from issref.iss.layout import Params
from issref.training.checkpoint import write_whole
from issref.verify.formats.dialect import Arrays

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
