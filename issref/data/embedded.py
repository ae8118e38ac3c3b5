"""The text that every CPython carries: its language reference and the docstrings of its library."""

import ast
import os
import re
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from issref.data import download

BLOCK = 20  # sentences; of every 20 blocks one is held out for valid and one for test
LEAST = 200_000  # words; the reference alone has half as many, a complete CPython twice as many
LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "dist-packages", "lib2to3", "__pycache__"}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def read() -> dict[str, bytes]:
    """The texts train, valid and test, a sentence a line: the same bytes every time under one Python.

    Words that train does not have twice are <unk>.  ValueError if this Python came without its sources.
    """
    library = Path(sysconfig.get_paths()["stdlib"])
    texts = dict.fromkeys([*_reference(), *_docstrings(library)])  # repeated docstrings would leak into test
    lines = [words for text in texts for words in sentences(text)]
    found = sum(map(len, lines))
    if found < LEAST:
        raise ValueError(
            f"embedded text: expected {LEAST:,} words of documentation in Python's own sources, "
            f"got {found:,} ({library} was installed without them)"
        )
    return _texts(_split(lines))


def sentences(text: str) -> Iterator[list[str]]:
    """A text's sentences as lower-case words and marks: numbers are N, repeated marks (``, ---) one."""
    for sentence in re.split(r"\n\s*\n|(?<=[.!?])\s+(?=[A-Z])", text):
        numbered = re.sub(r"\d+(?:[.,]\d+)*", "N", sentence.lower())
        words = re.findall(r"\w+(?:'\w+)?|[^\w\s]", re.sub(r"([^\w\s])\1+", r"\1", numbered))
        if words:
            yield words


def _reference() -> list[str]:
    """The language reference, which pydoc shows by topic."""
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise ValueError("embedded text: expected pydoc_data.topics, got a Python without it") from error
    return [topics[name] for name in sorted(topics)]


def _docstrings(library: Path) -> Iterator[str]:
    """Every docstring in the library's sources, files in sorted order."""
    from tqdm import tqdm

    for path in tqdm(list(_sources(library)), "docstrings", delay=2, leave=False, disable=None):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old files have escapes that Python now warns of
            try:
                tree = ast.parse(download.read(path))
            except SyntaxError:  # a template, say
                continue
        for node in _statements(tree):
            if isinstance(node, DOCUMENTED):
                yield ast.get_docstring(node) or ""


def _statements(tree: ast.Module) -> list[ast.AST]:
    """The module and the statements in its bodies; ast.walk would visit every expression, for seconds."""
    found: list[ast.AST] = [tree]
    for node in found:  # grows as it is read
        found += getattr(node, "body", [])
    return found


def _sources(library: Path) -> Iterator[Path]:
    """The library's source files in sorted order, without tests, installed packages and lib2to3."""
    for folder, folders, files in os.walk(library):
        folders[:] = sorted(set(folders) - LEFT_OUT)  # where os.walk goes next
        yield from (Path(folder, file) for file in sorted(files) if file.endswith(".py"))


def _split(lines: list[list[str]]) -> dict[str, list[list[str]]]:
    """The sentences dealt out in blocks to train, valid and test, since neighbours are about one module."""
    splits: dict[str, list[list[str]]] = {"train": [], "valid": [], "test": []}
    for number, line in enumerate(lines):
        splits[{18: "valid", 19: "test"}.get(number // BLOCK % 20, "train")].append(line)
    return splits


def _texts(splits: dict[str, list[list[str]]]) -> dict[str, bytes]:
    """The splits as UTF-8, a sentence a line, with <unk> for the words that train does not have twice."""
    counts = Counter(word for line in splits["train"] for word in line)

    def written(line: list[str]) -> str:
        return " ".join(word if counts[word] > 1 else "<unk>" for word in line) + "\n"

    return {split: "".join(map(written, lines)).encode() for split, lines in splits.items()}
