"""What a run is judged by: the one place that knows perplexity from F1."""

from typing import NamedTuple

from issref.report.style import Rows


class Measure(NamedTuple):
    """A measure: its name, its keys in metrics.jsonl (train may be absent there) and in result.json, what the text
    it is taken on is counted in, whether more is better, up to 100."""

    name: str
    train: str
    valid: str
    test: str
    unit: str
    rising: bool


MEASURES = (
    Measure("perplexity", "train_perplexity", "valid_perplexity", "test_perplexity", "words", rising=False),
    Measure("F1", "train_f1", "valid_f1", "dev_f1", "questions", rising=True),
)
WORDS = {"f1": "F1", "em": "exact match"}


def measure_of(rows: Rows) -> Measure:
    """The measure of a run, from the keys of its first row; perplexity if there is no row yet."""
    for measure in MEASURES:
        if not rows or measure.valid in rows[0]:
            return measure
    known = [measure.valid for measure in MEASURES]
    raise ValueError(f"metrics.jsonl: needs one of {known} for each epoch, found {sorted(rows[0])}")


def spoken(key: str) -> str:
    """A key of a result in words: valid perplexity, dev F1."""
    return " ".join(WORDS.get(word, word) for word in key.split("_"))
