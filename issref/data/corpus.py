"""Texts as word ids: Penn TreeBank, the text embedded in Python, or one's own; and windows to train on."""

import hashlib
import io
import os
import platform
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from issref.data import download, embedded, ptb

Windows = list[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Corpus:
    """Three texts, each a vector of int32 word ids with <eos> at each line's end."""

    name: str
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    words: tuple[str, ...]  # id -> word; train's most frequent first, ties by spelling
    sha256: str  # of the bytes of train, valid and test, one after another
    source: str  # where they were read from, one line for people
    choice: str  # what `load` takes to read it again, from anywhere: ptb, embedded, or a folder's full path


def load(corpus: str = "auto", data_dir: Path | None = None, *, say: Callable[[str], None] = print) -> Corpus:
    """The corpus "ptb", "embedded", "auto" (ptb, but embedded if it cannot be downloaded), or a folder's.

    Penn TreeBank comes from data_dir, else $ISSREF_DATA, else the cache, else the network.  A folder holds
    train.txt, valid.txt and test.txt, a sentence a line.  Whatever is wrong with a file is a ValueError.
    """
    if corpus == "embedded":
        return _embedded()
    if corpus not in ("auto", "ptb"):
        return _folder(Path(corpus).expanduser())
    try:
        return _corpus("ptb", "Penn TreeBank", *ptb.read(data_dir))
    except download.NotDownloaded as error:
        if corpus == "ptb":
            raise
        say(f"No Penn TreeBank ({error}): using the text embedded in Python, not comparable with it.")
        return _embedded()


def windows(tokens: np.ndarray, batch: int, steps: int, *, tail: bool = False) -> Windows:
    """Pairs of inputs and targets, both (steps, batch) ids, targets one word later.

    The text is cut into `batch` equal stretches, one a column.  The tail is a last, shorter window, so that
    with batch 1 every word but the first is a target.  ValueError if the text is too short for one window.
    """
    if min(batch, steps) < 1:
        raise ValueError(f"windows: expected batch and steps of at least 1, got {batch} and {steps}")
    length = len(tokens) // batch
    stop = length - 1 if tail else (length - 1) // steps * steps
    if stop < 1:
        needed = batch * (2 if tail else steps + 1)
        raise ValueError(f"windows: expected {needed} words for {batch} x {steps} steps, got {len(tokens)}")
    stream = np.ascontiguousarray(tokens[: batch * length].reshape(batch, length).T)
    inputs, targets = stream[:stop], stream[1 : stop + 1]
    return [(inputs[at : at + steps], targets[at : at + steps]) for at in range(0, stop, steps)]


def _embedded() -> Corpus:
    """The text embedded in Python, whose version is in its name, since each has its own."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return _corpus("embedded", f"embedded text ({python} documentation)", embedded.read(), f"embedded in {python}")


def _folder(folder: Path) -> Corpus:
    """The user's own text."""
    if not os.path.isdir(folder):
        raise ValueError(
            "corpus: expected auto, ptb, embedded or a folder of train.txt, valid.txt, test.txt, "
            f"got {str(folder)!r}, which is no folder"
        )
    paths = [folder / f"{split}.txt" for split in ("train", "valid", "test")]
    texts = {str(path): download.read(path) for path in paths}
    return _corpus(str(folder.resolve()), folder.resolve().name, texts, f"folder {folder}")


def _corpus(choice: str, name: str, texts: dict[str, bytes], source: str) -> Corpus:
    """The corpus of the texts train, valid and test, in this order, by the names that errors give them."""
    lines = [_lines(file, text) for file, text in texts.items()]
    counts = Counter(word for line in lines[0] for word in line)
    words = tuple(sorted(counts, key=lambda word: (-counts[word], word)))
    index = {word: number for number, word in enumerate(words)}
    train, valid, test = (_ids(file, split, index) for file, split in zip(texts, lines, strict=True))
    sha256 = hashlib.sha256(b"".join(texts.values())).hexdigest()
    return Corpus(name, train, valid, test, words, sha256, source, choice)


def _lines(file: str, text: bytes) -> list[list[str]]:
    """The words of each line, and <eos>."""
    try:
        decoded = text.decode()
    except UnicodeDecodeError as error:
        byte = text[error.start]
        raise ValueError(f"{file}: expected UTF-8, got 0x{byte:02x} at byte offset {error.start}") from error
    if not decoded.strip():
        raise ValueError(f"{file}: expected at least one word, got none in {len(text)} bytes")
    return [[*line.split(), "<eos>"] for line in io.StringIO(decoded, newline=None)]


def _ids(file: str, lines: list[list[str]], index: dict[str, int]) -> np.ndarray:
    """The ids of a text's words; a word that train lacks has that of <unk>."""
    unknown = index.get("<unk>")
    for number, line in enumerate(lines, start=1):
        for word in line:
            if unknown is None and word not in index:
                raise ValueError(
                    f"{file}: expected words of the training text, which has no <unk>, "
                    f"got {word!r} in line {number}"
                )
    return np.array([index.get(word, unknown) for line in lines for word in line], np.int32)
