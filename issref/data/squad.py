"""SQuAD v1.1: read the official JSON; split texts into words, and turn answers into spans of words."""

import re
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel

from issref.data import schema

# A word: an abbreviation, the parts of a contraction, a number, letters, or any other sign alone. Dashes, slashes
# and quotes always separate words, so that an answer inside "1914-1918" or "Spanish-American" is a span of words.
WORD = re.compile(
    r"""(?:[^\W\d_]\.){2,}            # U.S.
      | n['’]t\b | ['’](?:s|m|d|re|ve|ll)\b
      | \d+(?:[.,]\d+)*               # 1,000.5
      | [^\W\d_]+?(?=n['’]t\b)        # did, of didn't
      | [^\W\d_]+
      | [^\w\s] | _""",
    re.VERBOSE | re.IGNORECASE,
)

Words = tuple[str, ...]


class _Answer(BaseModel):
    text: str
    answer_start: int


class _Question(BaseModel):
    id: str
    question: str
    answers: list[_Answer]
    is_impossible: bool = False


class _Paragraph(BaseModel):
    context: str
    qas: list[_Question]


class _Article(BaseModel):
    paragraphs: list[_Paragraph]


class _Document(BaseModel):
    data: list[_Article]
    version: str | float = "1.1"


class Example(NamedTuple):
    """A question about a text, both as words, the span of each of the text's words in it, and the answers.

    The first answer is the words start to end of the context, both included.
    """

    id: str
    text: str
    places: tuple[tuple[int, int], ...]
    context: Words
    question: Words
    answers: tuple[str, ...] = ()
    start: int = 0
    end: int = 0

    def span(self, start: int, end: int) -> str:
        """Return the text from word `start` to word `end`, both included, as it is written."""
        return self.text[self.places[start][0] : self.places[end][1]]


def split(text: str) -> tuple[Words, tuple[tuple[int, int], ...]]:
    """Return the words of a text, and the first character of each and the one after its last."""
    found = list(WORD.finditer(text))
    return tuple(word.group() for word in found), tuple(word.span() for word in found)


def read(file: str, content: bytes, articles: int | None = None) -> list[Example]:
    """Return the questions of a SQuAD v1.1 file in its order, or of its first `articles`; errors name `file`.

    Raises ValueError if the content is not JSON or not of this form, if it is of version 2, if a text or question
    has no words, if an answer is not in the text at the stated character, or if two questions have one id.
    """
    document, found = _document(file, content), []
    if str(document.version).removeprefix("v").split(".")[0] != "1":
        raise ValueError(f"{file}: expected SQuAD v1.1, got version {document.version!r}")
    for article in document.data[:articles]:
        for paragraph in article.paragraphs:
            words, places = split(paragraph.context)
            found += [_example(file, paragraph.context, words, places, asked) for asked in paragraph.qas]
    if not found:
        raise ValueError(f"{file}: expected at least one question, got none")
    name, times = Counter(each.id for each in found).most_common(1)[0]
    if times > 1:
        raise ValueError(f"{file}: expected a different id for each question, got {name!r} {times} times")
    return found


def count(file: str, content: bytes) -> int:
    """Return the number of questions of a SQuAD v1.1 file, without looking at them."""
    return sum(len(paragraph.qas) for article in _document(file, content).data for paragraph in article.paragraphs)


def _document(file: str, content: bytes) -> _Document:
    return schema.parse(file, _Document, content.removeprefix(BOM_UTF8))


def ask(question: str, text: str, limit: int) -> Example:
    """Return a user's own question about a text.

    Raises ValueError if either has no words or the question has more than `limit`.
    """
    example = Example("asked", text, split(text)[1], split(text)[0], split(question)[0])
    _check_words("--question and --context-file", example, question)
    if len(example.question) > limit:
        raise ValueError(f"--question: expected at most {limit} words, got {len(example.question)}")
    return example


def _example(file: str, text: str, words: Words, places: Any, asked: _Question) -> Example:
    if asked.is_impossible or not asked.answers:
        raise ValueError(
            f"{file}: expected SQuAD v1.1, where every question has an answer, got {asked.id!r} without one: "
            "impossible questions belong to v2"
        )
    example = Example(asked.id, text, places, words, split(asked.question)[0])
    _check_words(f"{file}, question {asked.id!r}", example, asked.question)
    for start, answer in ((one.answer_start, one.text) for one in asked.answers):
        found = text[start : start + len(answer)] if start >= 0 else ""
        if found != answer or not answer.strip():
            place = f"of {asked.id!r} at character {start} of its context"
            raise ValueError(f"{file}: expected the answer {answer!r} {place}, got {found!r}")
    first = asked.answers[0]
    start, end = _words_between(places, first.answer_start, first.answer_start + len(first.text))
    return example._replace(answers=tuple(answer.text for answer in asked.answers), start=start, end=end)


def _check_words(where: str, example: Example, question: str) -> None:
    for part, words, found in (
        ("context", example.context, example.text),
        ("question", example.question, question),
    ):
        if not words:
            raise ValueError(f"{where}: expected a {part} with words, got {found!r}")


def _words_between(places: Sequence[tuple[int, int]], begin: int, stop: int) -> tuple[int, int]:
    """Return the first and the last word that overlap the characters from begin to stop."""
    inside = [number for number, (first, last) in enumerate(places) if last > begin and first < stop]
    return inside[0], inside[-1]


def for_training(examples: Iterable[Example], question: int, context: int) -> list[Example]:
    """Return the examples of at most `question` words whose answer ends within the first `context` words."""
    return [each for each in examples if len(each.question) <= question and each.end < context]
