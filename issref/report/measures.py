"""The measure of a run's quality: perplexity or F1."""

from typing import NamedTuple

from issref.report.style import Rows


class Measure(NamedTuple):
    """A measure: its name, its keys in metrics.jsonl (train may be absent) and in result.json (test), the unit in
    which the text is counted, and whether higher is better (then it is at most 100, and train is a loss)."""

    name: str
    train: str
    valid: str
    test: str
    unit: str
    rising: bool


MEASURES = (
    Measure("perplexity", "train_perplexity", "valid_perplexity", "test_perplexity", "words", rising=False),
    Measure("F1", "train_loss", "valid_f1", "dev_f1", "questions", rising=True),
)
WORDS = {"f1": "F1", "em": "exact match"}


def measure_of(rows: Rows) -> Measure:
    """Return the measure of a run from the keys of its first row; perplexity if there is no row yet.

    Raises ValueError if the row has none of the known measures.
    """
    for measure in MEASURES:
        if not rows or measure.valid in rows[0]:
            return measure
    known = [measure.valid for measure in MEASURES]
    raise ValueError(f"metrics.jsonl: expected one of {known} for each epoch, got {sorted(rows[0])}")


def in_words(key: str) -> str:
    """Return a key of result.json in words: valid perplexity, dev F1."""
    return " ".join(WORDS.get(word, word) for word in key.split("_"))
