"""SQuAD v1.1: the official JSON as words with their places in the text, and answers as spans of words."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

# A word: an abbreviation, the parts of a contraction, a number, letters, or any other sign alone. Dashes, slashes
# and quotes always part words, so that an answer inside "1914-1918" or "Spanish-American" is a span of words.
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


class Example(NamedTuple):
    """A question about a text: both as words, where each word of the text lies in it, and the answers.

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
        """The text from word `start` to word `end`, as it is written there."""
        return self.text[self.places[start][0] : self.places[end][1]]


def split(text: str) -> tuple[Words, tuple[tuple[int, int], ...]]:
    """The words of a text, and the characters from which and to which each goes."""
    found = list(WORD.finditer(text))
    return tuple(word.group() for word in found), tuple(word.span() for word in found)


def read(file: str, content: bytes, articles: int | None = None) -> list[Example]:
    """The questions of a SQuAD v1.1 file in its order, or of its first `articles`; errors call it `file`.

    ValueError in a sentence for what is not UTF-8, not JSON or not of this form, for version 2, for a text or
    question without words, and for an answer that is not in the text where it is said to be.
    """
    found = []
    try:
        for article in _document(file, content)["data"][:articles]:
            for paragraph in article["paragraphs"]:
                text, (words, places) = paragraph["context"], split(paragraph["context"])
                found += [_example(file, text, words, places, asked) for asked in paragraph["qas"]]
    except (KeyError, TypeError, AttributeError) as error:
        form = "data, paragraphs, context, qas, id, question, answers, text, answer_start"
        raise ValueError(f"{file}: needed the fields of SQuAD v1.1 ({form}), found others ({error!r})") from error
    if not found:
        raise ValueError(f"{file}: needed at least one question, found none")
    return found


def ask(question: str, text: str, limit: int) -> Example:
    """A user's own question about a text; ValueError if either has no words or the question more than `limit`."""
    example = Example("asked", text, split(text)[1], split(text)[0], split(question)[0])
    _check_words("--question and --context-file", example, question)
    if len(example.question) > limit:
        raise ValueError(f"--question: needed at most {limit} words, found {len(example.question)}")
    return example


def _document(file: str, content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content.decode())
    except UnicodeDecodeError as error:
        byte = content[error.start]
        raise ValueError(f"{file}: needed UTF-8, found 0x{byte:02x} at byte offset {error.start}") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{file}: needed JSON, found something else ({error})") from error
    version = str(document.get("version", "1.1"))
    if version.removeprefix("v").split(".")[0] != "1":
        raise ValueError(f"{file}: needed SQuAD v1.1, found version {version!r}, with impossible questions")
    return document


def _example(file: str, text: str, words: Words, places: Any, asked: dict[str, Any]) -> Example:
    name, question, answers = asked["id"], asked["question"], asked["answers"]
    if asked.get("is_impossible") or not answers:
        raise ValueError(
            f"{file}: needed SQuAD v1.1, where every question has an answer, found {name!r} without one: "
            "impossible questions belong to v2"
        )
    example = Example(name, text, places, words, split(question)[0])
    _check_words(f"{file}, question {name!r}", example, question)
    for answer in answers:
        begin, said = answer["answer_start"], answer["text"]
        there = text[begin : begin + len(said)] if begin >= 0 else ""
        if there != said or not said.strip():
            place = f"of {name!r} at character {begin} of its context"
            raise ValueError(f"{file}: needed the answer {said!r} {place}, found {there!r}")
    begin, said = answers[0]["answer_start"], answers[0]["text"]
    start, end = _words_between(places, begin, begin + len(said))
    return example._replace(answers=tuple(answer["text"] for answer in answers), start=start, end=end)


def _check_words(where: str, example: Example, question: str) -> None:
    for part, words, found in (
        ("context", example.context, example.text),
        ("question", example.question, question),
    ):
        if not words:
            raise ValueError(f"{where}: needed a {part} with words, found {found!r}")


def _words_between(places: Sequence[tuple[int, int]], begin: int, stop: int) -> tuple[int, int]:
    """The first and the last word that lie, if only in part, in the characters from begin to stop."""
    inside = [number for number, (first, last) in enumerate(places) if last > begin and first < stop]
    return inside[0], inside[-1]


def for_training(examples: Iterable[Example], question: int, context: int) -> list[Example]:
    """Those with at most `question` words that are answered within the first `context` words of their text."""
    return [each for each in examples if len(each.question) <= question and each.end < context]
