"""SQuAD with GloVe, found, read and coded: what a run of the reader needs of the world."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from issref.data import download, glove, squad
from issref.data.squad import Example, Words
from issref.data.squad_batches import Code, coder, lower_case, vocabulary

TRAIN, SUBSET, DEV = "squad/train-v1.1.json", "squad/train-v1.1.subset44.json", "squad/dev-v1.1.json"
ARTICLES = 44  # in the subset, the first of the train file
VECTORS = {50: ("glove/glove.6B.zip", "glove/glove.6B.50d.squad-ptb.txt")}  # by their width, the first there is
VECTORS[100] = ("glove/glove.6B.100d.txt", "glove/glove.6B.zip")
FREQUENT_WORD, FREQUENT_CHARACTER = 10, 50  # the released code's: what occurs more often is learned


@dataclass(frozen=True)
class Files:
    """Files named by the user instead of the official ones; data_dir, as for `download.find`,
    is where those are."""

    train: Path | None = None
    dev: Path | None = None
    glove: Path | None = None
    data_dir: Path | None = None


@dataclass(frozen=True)
class Corpus:
    """Questions to learn from and to be judged by, and how their words become numbers."""

    name: str
    train: list[Example]
    dev: list[Example]
    words: Words  # that are learned: id -> word in lower case, the first ids
    characters: Words  # id -> character
    vectors: np.ndarray  # (F, D) float32, fixed: those of the ids behind the learned words
    code: Code
    sha256: str  # of the bytes of train and dev, and of the vectors
    source: str  # where they were read from, one line for people


def load(files: Files, width: int, question: int, context: int, articles: int | None = None) -> Corpus:
    """The train questions of at most `question` words answered within `context` words, from the first `articles`
    of the file, and all dev questions, with vectors of `width` numbers.

    Whatever is wrong with a file is a ValueError in a sentence.
    """
    subset = [SUBSET] if articles and articles <= ARTICLES else []
    train, train_source = read(files.train, [TRAIN, *subset], files.data_dir)
    examples = squad.for_training(squad.read("train", train, articles), question, context)
    if not examples:
        raise ValueError(f"train: expected a question of {question} words answered in {context}, got none")
    dev, dev_source = read(files.dev, [DEV], files.data_dir)
    judges = squad.read("dev", dev)
    known, vectors, glove_source = vectors_of([*examples, *judges], files, width)
    words, characters = vocabulary(examples, set(known), FREQUENT_WORD, FREQUENT_CHARACTER)
    sha256 = hashlib.sha256(b"".join((train, dev, " ".join(known).encode(), vectors.tobytes()))).hexdigest()
    sources = dict.fromkeys((train_source, dev_source, glove_source))
    code = coder([*words, *known], characters)
    name = "SQuAD v1.1" if files.train is files.dev is None else "questions in SQuAD's form"
    return Corpus(name, examples, judges, words, characters, vectors, code, sha256, ", ".join(sources))


def vectors_of(examples: Sequence[Example], files: Files, width: int) -> tuple[Words, np.ndarray, str]:
    """The words of the examples that GloVe has, their vectors (F, width), and where they were read.

    Raises ValueError for a width that GloVe 6B is not registered with, unless a file is named.
    """
    if width not in VECTORS and files.glove is None:
        raise ValueError(f"--word-size: expected one of {sorted(VECTORS)} without --glove, got {width}")
    path, source = _find(files.glove, VECTORS.get(width, ()), files.data_dir)
    return *glove.read(path, lower_case(examples), width), source


def read(path: Path | None, names: Sequence[str], data_dir: Path | None) -> tuple[bytes, str]:
    """The content of a file, the one given or the first registered name that can be had, and its origin."""
    path, source = _find(path, names, data_dir)
    return download.read(path), source


def _find(path: Path | None, names: Sequence[str], data_dir: Path | None) -> tuple[Path, str]:
    if path is None:
        return download.find_first(names, data_dir)
    if not os.path.isfile(path):
        raise ValueError(f"{path}: expected a file, got none")
    return path, str(path)
