"""Read GloVe word vectors, one word and its numbers per line; only the wanted words are kept."""

import zipfile
import zlib
from codecs import BOM_UTF8
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from tqdm import tqdm

LONGEST = 2**20  # bytes of a line: a small zip file could unpack to an endless one


def read(path: Path, wanted: Collection[str], width: int) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the wanted words that a file has, in its order, and their vectors (words, width) in float32.

    A zip file must be GloVe 6B's, of which the member of this width is read. Raises ValueError if the file cannot
    be read, has another width, is not UTF-8, has other than finite numbers, or has none of the words.
    """
    words, rows, wanted = [], [], set(wanted)
    with _opened(path, width) as (file, size), _bar(path, size) as bar:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST), b""), start=1):
            bar.update(len(line))
            line = line.removeprefix(BOM_UTF8) if number == 1 else line
            word, *values = line.rstrip().split(b" ")
            if len(values) != width:
                raise ValueError(
                    f"{path}: expected {width} numbers after each word, got {len(values)} in line {number}"
                )
            try:
                if (name := word.decode()) in wanted:
                    words.append(name)
                    rows.append(np.array(values, np.float32))
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}: expected UTF-8, got {word!r} in line {number}") from error
            except ValueError as error:
                raise ValueError(f"{path}: expected numbers, got others in line {number} ({error})") from error
    if not rows:
        raise ValueError(f"{path}: expected vectors for some of {len(wanted)} words, got none")
    vectors = np.array(rows)
    if not np.isfinite(vectors).all():
        bad = words[int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])]
        raise ValueError(f"{path}: expected finite numbers, got others for {bad!r}")
    return tuple(words), vectors


@contextmanager
def _opened(path: Path, width: int) -> Iterator[tuple[IO[bytes], int]]:
    """Open a file, or the member of this width in a zip file, and yield it with its size in bytes."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive, archive.open(name := f"glove.6B.{width}d.txt") as file:
                yield file, archive.getinfo(name).file_size
        else:
            with path.open("rb") as file:
                yield file, path.stat().st_size
    except OSError as error:
        raise ValueError(f"{path}: expected a readable file, got {error.strerror}") from error
    except (KeyError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ValueError(f"{path}: expected a zip file with glove.6B.{width}d.txt, got {error}") from error


def _bar(path: Path, size: int) -> tqdm:
    """Return a progress bar over the bytes of a file, shown after two seconds."""
    return tqdm(
        total=size,
        desc=path.name,
        unit="B",
        unit_scale=True,
        delay=2,
        leave=False,
        dynamic_ncols=True,
        disable=None,
    )
