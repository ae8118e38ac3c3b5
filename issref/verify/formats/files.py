"""Arrays in safetensors files, which every framework reads; and what a reader says of a file it cannot read."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from issref.iss.layout import Params
from issref.training.checkpoint import write_whole
from issref.verify.formats.dialect import Arrays


@contextmanager
def reading(path: Path, kind: str, *errors: type[Exception]) -> Iterator[None]:
    """One sentence, as ValueError, if a file is not there or its reader raises OSError or one of `errors`."""
    try:
        yield
    except ValueError:  # a sentence already
        raise
    except (OSError, *errors) as error:
        raise unreadable(path, kind, error) from error


def unreadable(path: Path, kind: str, error: Exception) -> ValueError:
    """What to raise, in a sentence, for an error of a file's reader."""
    if isinstance(error, FileNotFoundError):
        return ValueError(f"{path}: expected {kind}, got no file")
    why = " ".join(str(error).split())[:100] or type(error).__name__
    return ValueError(f"{path}: expected {kind}, got one that cannot be read ({why})")


def read(path: Path | str) -> Params:
    """The arrays of a safetensors file; ValueError if it is not there or not whole."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = Path(path)
    whole = reading(path, "a whole safetensors file", SafetensorError, TypeError)
    with reading(path, "numbers that NumPy has", KeyError), whole:
        return load(path.read_bytes())


def write(path: Path | str, arrays: Arrays) -> None:
    """The arrays as a safetensors file, whole or not there."""
    from safetensors.numpy import save

    write_whole(Path(path), save({name: np.ascontiguousarray(values) for name, values in arrays.items()}))
