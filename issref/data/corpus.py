"""Read Penn TreeBank, the text embedded in Python, or the user's own as word ids, and cut them into windows."""

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

Found = tuple[dict[str, bytes], str]  # the bytes of train, valid and test, and where they were found
Windows = list[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Corpus:
    """Three texts, each a vector of int32 word ids with <eos> at the end of each line."""

    name: str
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    words: tuple[str, ...]  # id -> word, by falling frequency in train, then by spelling
    sha256: str  # of the bytes of train, valid and test, concatenated
    source: str  # where the texts were found, one line for people
    choice: str  # the argument of `load`: ptb, embedded, or a folder's full path


def load(corpus: str = "auto", data_dir: Path | None = None, *, log: Callable[[str], None] = print) -> Corpus:
    """Load the corpus "ptb", "embedded", "auto" (ptb, or embedded if the download fails), or a folder.

    Penn TreeBank is looked for in data_dir, else in $ISSREF_DATA, else in the cache, else downloaded. A folder has
    train.txt, valid.txt and test.txt, with one sentence per line. Raises ValueError if anything is wrong with a
    file.
    """
    if corpus not in ("auto", "ptb", "embedded"):
        return _folder(Path(corpus).expanduser())
    found = None if corpus == "embedded" else _penn_treebank(corpus, data_dir, log)
    return _corpus("ptb", "Penn TreeBank", *found) if found else _embedded()


def choose(corpus: str, data_dir: Path | None = None, *, log: Callable[[str], None] = print) -> str:
    """Return what "auto" stands for, "ptb", or "embedded" if the download fails; other names are returned."""
    if corpus != "auto":
        return corpus
    return "ptb" if _penn_treebank(corpus, data_dir, log) else "embedded"


def windows(tokens: np.ndarray, batch: int, steps: int, *, tail: bool = False) -> Windows:
    """Cut a text into pairs of inputs and targets, both (steps, batch) ids, with targets one word later.

    The text is cut into `batch` equal parts, one for each column. With `tail`, the last window may be shorter;
    with batch 1, every word except the first is then a target. Raises ValueError if the text is too short.
    """
    if min(batch, steps) < 1:
        raise ValueError(f"windows: expected batch and steps of at least 1, got {batch} and {steps}")
    length = len(tokens) // batch
    stop = length - 1 if tail else (length - 1) // steps * steps
    if stop < 1:
        least = batch * (2 if tail else steps + 1)
        raise ValueError(f"windows: expected {least} words for {batch} x {steps} steps, got {len(tokens)}")
    stream = np.ascontiguousarray(tokens[: batch * length].reshape(batch, length).T)
    inputs, targets = stream[:stop], stream[1 : stop + 1]
    return [(inputs[at : at + steps], targets[at : at + steps]) for at in range(0, stop, steps)]


def _penn_treebank(corpus: str, data_dir: Path | None, log: Callable[[str], None]) -> Found | None:
    """Return what `ptb.read` does; None, and say so, if it cannot be downloaded and the corpus is "auto"."""
    try:
        return ptb.read(data_dir)
    except download.NotDownloaded as error:
        if corpus == "ptb":
            raise
        log(f"No Penn TreeBank ({error}): using the text embedded in Python, whose results are not comparable.")
        return None


def _embedded() -> Corpus:
    """Read the text embedded in Python. Its name contains the Python version, because the text depends on it."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return _corpus("embedded", f"embedded text ({python} documentation)", embedded.read(), f"embedded in {python}")


def _folder(folder: Path) -> Corpus:
    """Read the user's own text."""
    if not os.path.isdir(folder):
        raise ValueError(
            "corpus: expected auto, ptb, embedded or a folder of train.txt, valid.txt, test.txt, "
            f"got {str(folder)!r}, which is no folder"
        )
    paths = [folder / f"{split}.txt" for split in ("train", "valid", "test")]
    texts = {str(path): download.read(path) for path in paths}
    return _corpus(str(folder.resolve()), folder.resolve().name, texts, f"folder {folder}")


def _corpus(choice: str, name: str, texts: dict[str, bytes], source: str) -> Corpus:
    """Build a corpus from {file: text} of train, valid and test, in this order; errors name the files."""
    lines = [_lines(file, text) for file, text in texts.items()]
    counts = Counter(word for line in lines[0] for word in line)
    words = tuple(sorted(counts, key=lambda word: (-counts[word], word)))
    index = {word: number for number, word in enumerate(words)}
    train, valid, test = (_ids(file, split, index) for file, split in zip(texts, lines, strict=True))
    sha256 = hashlib.sha256(b"".join(texts.values())).hexdigest()
    return Corpus(name, train, valid, test, words, sha256, source, choice)


def _lines(file: str, text: bytes) -> list[list[str]]:
    """Return the words of each line, with <eos> at its end."""
    try:
        decoded = text.decode().removeprefix("\ufeff")  # the mark of UTF-8 that Windows writes
    except UnicodeDecodeError as error:
        byte = text[error.start]
        raise ValueError(f"{file}: expected UTF-8, got 0x{byte:02x} at byte offset {error.start}") from error
    if not decoded.strip():
        raise ValueError(f"{file}: expected at least one word, got none in {len(text)} bytes")
    return [[*line.split(), "<eos>"] for line in io.StringIO(decoded, newline=None)]


def _ids(file: str, lines: list[list[str]], index: dict[str, int]) -> np.ndarray:
    """Return the ids of a text's words. Words that train does not have become <unk>."""
    unknown = index.get("<unk>")
    for number, line in enumerate(lines, start=1):
        for word in line:
            if unknown is None and word not in index:
                raise ValueError(
                    f"{file}: expected words of the training text, which has no <unk>, "
                    f"got {word!r} in line {number}"
                )
    return np.array([index.get(word, unknown) for line in lines for word in line], np.int32)
