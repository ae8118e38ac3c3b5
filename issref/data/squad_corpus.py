"""Load and encode SQuAD and GloVe."""

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
ARTICLES = 44  # in the subset: the first of the train file
VECTORS = {  # by width; the first that exists is read
    50: ("glove/glove.6B.zip", "glove/glove.6B.50d.squad-ptb.txt"),
    100: ("glove/glove.6B.100d.txt", "glove/glove.6B.zip"),
}
FREQUENT_WORD, FREQUENT_CHARACTER = 10, 50  # as in the released code: learned if more frequent


@dataclass(frozen=True)
class Files:
    """The user's files, if any; the official files are looked for in data_dir, see `download.find`."""

    train: Path | None = None
    dev: Path | None = None
    glove: Path | None = None
    data_dir: Path | None = None


@dataclass(frozen=True)
class Corpus:
    """Questions for training and for scores, and the encoding of their words."""

    name: str
    train: list[Example]
    dev: list[Example]
    words: Words  # learned, with the first ids: id -> word in lower case
    characters: Words  # id -> character
    vectors: np.ndarray  # (F, D) float32, fixed, of the ids after the learned words
    code: Code
    sha256: str  # of the bytes of train and dev, and of the vectors
    source: str  # where the files were found, one line for people
    available: int  # training questions in the file, of which `train` are read


def load(files: Files, width: int, question: int, context: int, articles: int | None = None) -> Corpus:
    """Load the training questions, all dev questions, and vectors of `width` numbers.

    The training questions come from the first `articles` and have at most `question` words and an answer
    within `context` words. Raises ValueError if anything is wrong with a file.
    """
    subset = [SUBSET] if articles and articles <= ARTICLES else []
    train, train_source = read(files.train, [TRAIN, *subset], files.data_dir)
    examples = squad.for_training(squad.read("train", train, articles), question, context)
    if not examples:
        raise ValueError(f"train: expected a question of {question} words answered in {context}, got none")
    dev, dev_source = read(files.dev, [DEV], files.data_dir)
    scored_examples = squad.read("dev", dev)
    known, vectors, glove_source = vectors_of([*examples, *scored_examples], files, width)
    words, characters = vocabulary(examples, set(known), FREQUENT_WORD, FREQUENT_CHARACTER)
    sha256 = hashlib.sha256(b"".join((train, dev, " ".join(known).encode(), vectors.tobytes()))).hexdigest()
    sources = dict.fromkeys((train_source, dev_source, glove_source))
    code, source = coder([*words, *known], characters), ", ".join(sources)
    name = "SQuAD v1.1" if files.train is files.dev is None else "questions in SQuAD's form"
    available = squad.count("train", train)
    return Corpus(name, examples, scored_examples, words, characters, vectors, code, sha256, source, available)


def vectors_of(examples: Sequence[Example], files: Files, width: int) -> tuple[Words, np.ndarray, str]:
    """Return the words of the examples that GloVe has, their vectors (F, width), and the source.

    Raises ValueError if no file is named and GloVe 6B is not registered with this width.
    """
    if width not in VECTORS and files.glove is None:
        raise ValueError(f"--word-size: expected one of {sorted(VECTORS)} without --glove, got {width}")
    path, source = _find(files.glove, VECTORS.get(width, ()), files.data_dir)
    return *glove.read(path, lower_case(examples), width), source


def read(path: Path | None, names: Sequence[str], data_dir: Path | None) -> tuple[bytes, str]:
    """Return the content and the source of a file: `path`, or the first registered name that can be found."""
    path, source = _find(path, names, data_dir)
    return download.read(path), source


def _find(path: Path | None, names: Sequence[str], data_dir: Path | None) -> tuple[Path, str]:
    if path is None:
        return download.find_first(names, data_dir)
    if not os.path.isfile(path):
        raise ValueError(f"{path}: expected a file, got none")
    return path, str(path)
