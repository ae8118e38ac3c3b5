"""Compute the official scores of SQuAD v1.1, exact match and F1 of normalised answers, in percent."""

import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

_PUNCTUATION = str.maketrans("", "", string.punctuation)  # ASCII's; others, such as dashes, stay
_ARTICLES = re.compile(r"\b(?:an?|the)\b")


class Score(NamedTuple):
    """Means over all questions, in percent."""

    exact_match: float
    f1: float


def normalised(answer: str) -> list[str]:
    """Return an answer's words in lower case, without punctuation, then without articles."""
    return _ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split()


def f1(answer: str, gold: str) -> float:
    """Return 2 P R / (P + R) of the words as multisets; 0 if they have none in common, even if both are empty."""
    given, wanted = normalised(answer), normalised(gold)
    shared = (Counter(given) & Counter(wanted)).total()
    return 2 * shared / (len(given) + len(wanted)) if shared else 0.0


def exact_match(answer: str, gold: str) -> bool:
    """Return whether the normalised answers are equal."""
    return normalised(answer) == normalised(gold)


def score(predictions: Mapping[str, str], golds: Iterable[tuple[str, Sequence[str]]]) -> Score:
    """Return the scores of predictions by question id; `golds` are pairs of an id and its right answers.

    The best of several answers counts. A question without a prediction scores 0. Raises ValueError if there are no
    questions.
    """
    matches, overlaps = [], []
    for name, answers in golds:
        given = predictions.get(name)
        matches.append(given is not None and any(exact_match(given, gold) for gold in answers))
        overlaps.append(0.0 if given is None else max(f1(given, gold) for gold in answers))
    if not matches:
        raise ValueError("score: expected at least one question, got none")
    return Score(100 * sum(matches) / len(matches), 100 * sum(overlaps) / len(overlaps))
