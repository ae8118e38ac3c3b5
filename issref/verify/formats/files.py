"""Read and write arrays in safetensors files, and raise ValueError for files that cannot be read."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from issref.iss.layout import Params
from issref.training.checkpoint import write_whole
from issref.verify.formats.dialect import Arrays


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


def read(path: Path | str) -> Params:
    """Return the arrays of a safetensors file. Raises ValueError if it is missing or incomplete."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = Path(path)
    whole = reading(path, "a whole safetensors file", SafetensorError, TypeError)
    with reading(path, "numbers that NumPy has", KeyError), whole:
        return load(path.read_bytes())


def write(path: Path | str, arrays: Arrays) -> None:
    """Write the arrays as a safetensors file, completely or not at all."""
    from safetensors.numpy import save

    write_whole(Path(path), save({name: np.ascontiguousarray(values) for name, values in arrays.items()}))
