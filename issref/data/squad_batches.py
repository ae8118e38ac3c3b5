"""Turn questions and texts into ids: vocabulary, characters of words, and padded batches of similar length."""

from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from issref.data.squad import Example, Words

Code = Callable[[Words], tuple[np.ndarray, np.ndarray]]
Text = tuple[np.ndarray, np.ndarray, np.ndarray]

PADDING, UNKNOWN = "<padding>", "<unknown>"  # ids 0 and 1 of words and of characters; no word is spelled so
SHORTEST, LONGEST = 5, 16  # characters of a word in a batch: at least the convolution's width; words are cut


class Batch(NamedTuple):
    """Context and question as (word ids (T, B), character ids (T, B, W), lengths (B,)), padded with 0 at the end,
    and the first and last word (B,) of each answer."""

    context: Text
    question: Text
    starts: np.ndarray
    ends: np.ndarray


def lower_case(examples: Iterable[Example]) -> set[str]:
    """Return every word of the examples as in GloVe, in lower case and with straight apostrophes."""
    texts = {text for each in examples for text in (each.context, each.question)}
    return {_lower(word) for text in texts for word in text}


def _lower(word: str) -> str:
    return word.lower().replace("’", "'")


def vocabulary(
    examples: Sequence[Example], known: Container[str], words: int, characters: int
) -> tuple[Words, Words]:
    """Return the words to learn and the characters: PADDING and UNKNOWN, then by falling frequency.

    These are the lower-case words that occur more than `words` times and are not known, and the characters that
    occur more than `characters` times. A text counts once for each question about it.
    """
    texts = Counter(text for each in examples for text in (each.context, each.question))
    written, letters = Counter(), Counter()
    for text, times in texts.items():
        for word in text:
            written[word] += times
    lower = Counter()
    for word, times in written.items():
        lower[_lower(word)] += times
        for letter in word:
            letters[letter] += times
    unknown = Counter({word: times for word, times in lower.items() if word not in known})
    return tuple(_frequent(unknown, words)), tuple(_frequent(letters, characters))


def _frequent(counts: Counter[str], least: int) -> list[str]:
    kept = (item for item, times in counts.items() if times > least)
    return [PADDING, UNKNOWN, *sorted(kept, key=lambda item: (-counts[item], item))]


def coder(words: Sequence[str], characters: Sequence[str]) -> Code:
    """Return a cached function from a text's words to their ids (n,) and the ids of their characters (n, 16).

    Ids are positions in `words` and `characters`. Words are looked up in lower case, characters as written.
    """
    index, letters = ({item: number for number, item in enumerate(items)} for items in (words, characters))

    @cache
    def spelling(word: str) -> list[int]:
        ids = [letters.get(letter, 1) for letter in word[:LONGEST]]
        return ids + [0] * (LONGEST - len(ids))

    @cache
    def code(text: Words) -> tuple[np.ndarray, np.ndarray]:
        ids = [index.get(_lower(word), 1) for word in text]
        return np.array(ids, np.int32), np.array([spelling(word) for word in text], np.int32)

    return code


def batch(examples: Sequence[Example], code: Code, limit: int | None = None) -> Batch:
    """Return examples as arrays, with contexts cut to `limit` words; the answers must end before."""
    contexts, questions = (
        [code(text) for text in texts]
        for texts in ([each.context for each in examples], [each.question for each in examples])
    )
    starts, ends = (np.array(of) for of in zip(*((each.start, each.end) for each in examples), strict=True))
    return Batch(_padded(contexts, limit), _padded(questions, None), starts, ends)


def _padded(texts: list[tuple[np.ndarray, np.ndarray]], limit: int | None) -> Text:
    lengths = np.array([len(ids[:limit]) for ids, _ in texts])
    words = np.zeros((lengths.max(), len(texts)), np.int32)
    characters = np.zeros((*words.shape, LONGEST), np.int32)
    for column, ((ids, spellings), length) in enumerate(zip(texts, lengths, strict=True)):
        words[:length, column], characters[:length, column] = ids[:length], spellings[:length]
    used = int(np.count_nonzero(characters.any(axis=(0, 1))))
    return words, characters[..., : max(used, SHORTEST)], lengths


def buckets(lengths: np.ndarray, size: int, rng: np.random.Generator | None = None) -> list[np.ndarray]:
    """Return the numbers of the texts in batches of similar length, to reduce padding.

    With `rng`, texts with equal length // 10 are shuffled, and so are the batches.
    """
    if rng is None:
        order = np.argsort(lengths, kind="stable")
        return [order[at : at + size] for at in range(0, len(order), size)]
    mixed = rng.permutation(len(lengths))
    order = mixed[np.argsort(lengths[mixed] // 10, kind="stable")]
    batches = [order[at : at + size] for at in range(0, len(order), size)]
    return [batches[number] for number in rng.permutation(len(batches))]
