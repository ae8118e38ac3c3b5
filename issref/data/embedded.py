"""Read the text that comes with CPython: its language reference and the docstrings of its library."""

import ast
import os
import re
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from issref.data import download

BLOCK = 20  # sentences; of every 20 blocks, one goes to valid and one to test
MIN_WORDS = 200_000  # the reference alone has half as many, a complete CPython twice as many
SKIPPED = {"test", "tests", "idle_test", "site-packages", "dist-packages", "lib2to3", "__pycache__"}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def read() -> dict[str, bytes]:
    """Return the texts train, valid and test, one sentence per line, always the same with one Python version.

    Words that train does not have twice are <unk>. Raises ValueError if Python was installed without its sources.
    """
    library = Path(sysconfig.get_paths()["stdlib"])
    texts = dict.fromkeys([*_reference(), *_docstrings(library)])  # repetitions would be in train and test
    lines = [words for text in texts for words in sentences(text)]
    found = sum(map(len, lines))
    if found < MIN_WORDS:
        raise ValueError(
            f"embedded text: expected {MIN_WORDS:,} words of documentation in Python's own sources, "
            f"got {found:,} ({library} was installed without them)"
        )
    return _texts(_split(lines))


def sentences(text: str) -> Iterator[list[str]]:
    """Yield sentences as lower-case words and marks; numbers become N, repeated marks (``, ---) one mark."""
    for sentence in re.split(r"\n\s*\n|(?<=[.!?])\s+(?=[A-Z])", text):
        numbered = re.sub(r"\d+(?:[.,]\d+)*", "N", sentence.lower())
        words = re.findall(r"\w+(?:'\w+)?|[^\w\s]", re.sub(r"([^\w\s])\1+", r"\1", numbered))
        if words:
            yield words


def _reference() -> list[str]:
    """Return the topics of the language reference, as in pydoc."""
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise ValueError("embedded text: expected pydoc_data.topics, got a Python without it") from error
    return [topics[name] for name in sorted(topics)]


def _docstrings(library: Path) -> Iterator[str]:
    """Yield every docstring in the library's sources, with files in sorted order."""
    from tqdm import tqdm

    for path in tqdm(list(_sources(library)), "docstrings", delay=2, leave=False, disable=None):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of invalid escapes in old files
            try:
                tree = ast.parse(download.read(path))
            except SyntaxError:  # for example a template
                continue
        for node in _statements(tree):
            if isinstance(node, DOCUMENTED):
                yield ast.get_docstring(node) or ""


def _statements(tree: ast.Module) -> list[ast.AST]:
    """Return the module and all nested statements; ast.walk would take seconds to visit every expression."""
    found: list[ast.AST] = [tree]
    for node in found:  # grows in the loop
        found += getattr(node, "body", [])
    return found


def _sources(library: Path) -> Iterator[Path]:
    """Yield the library's source files in sorted order, without tests, installed packages and lib2to3."""
    for folder, folders, files in os.walk(library):
        folders[:] = sorted(set(folders) - SKIPPED)  # os.walk visits these next
        yield from (Path(folder, file) for file in sorted(files) if file.endswith(".py"))


def _split(lines: list[list[str]]) -> dict[str, list[list[str]]]:
    """Split sentences in blocks into train, valid and test, because neighbours are about the same module."""
    splits: dict[str, list[list[str]]] = {"train": [], "valid": [], "test": []}
    for number, line in enumerate(lines):
        splits[{18: "valid", 19: "test"}.get(number // BLOCK % 20, "train")].append(line)
    return splits


def _texts(splits: dict[str, list[list[str]]]) -> dict[str, bytes]:
    """Return the splits as UTF-8, one sentence per line, with <unk> for words that train does not have twice."""
    counts = Counter(word for line in splits["train"] for word in line)

    def text(line: list[str]) -> str:
        return " ".join(word if counts[word] > 1 else "<unk>" for word in line) + "\n"

    return {split: "".join(map(text, lines)).encode() for split, lines in splits.items()}
