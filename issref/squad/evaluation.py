"""What a reader answers: predictions, their scores, one's own question, and the end of a run."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from issref import __version__
from issref.data import download, squad, squad_corpus
from issref.data.squad import Example
from issref.data.squad_batches import Code, batch, buckets, coder
from issref.data.squad_corpus import Corpus, Files
from issref.data.squad_score import Score, score
from issref.iss.compact import zero_small_weights
from issref.iss.layout import Layout, Params
from issref.models import bidaf
from issref.models.bidaf import Text
from issref.ops.losses import BEYOND
from issref.ptb import console as show
from issref.ptb.evaluation import cuts, draw, load_compact, save_compact, sizes, untrained
from issref.squad import console as squad_show
from issref.squad.settings import SquadSettings
from issref.training.runs import versions, write_json
from issref.training.state import Progress

AT_ONCE = 60  # questions in a batch of those to be answered
JUDGED_ABOVE = 0.02  # with --method released: the released code, test time (method.md of the docs, row 26)
COMPARED = 10  # batches over which the outputs of full and compact are compared


def load_corpus(settings: SquadSettings) -> Corpus:
    """The questions and vectors that the settings name; ValueError in a sentence if they cannot be had."""
    limits = (settings.question_limit, settings.context_limit, settings.articles)
    corpus = squad_corpus.load(files_of(settings), settings.word_size, *limits)
    judges(settings, corpus.dev)
    return corpus


def files_of(settings: SquadSettings) -> Files:
    """The files that the settings name."""
    named = (settings.train, settings.dev, settings.glove, settings.data_dir)
    return Files(*(Path(name) if name else None for name in named))


def model_config(settings: SquadSettings, corpus: Corpus) -> bidaf.Config:
    """The model's part of the settings."""
    return bidaf.Config(
        trainable=len(corpus.words),
        word_size=settings.word_size,
        characters=len(corpus.characters),
        char_size=settings.char_size,
        filters=settings.filters,
        hidden_size=settings.hidden_size,
        keep=settings.keep,
    )


def judges(settings: SquadSettings, dev: list[Example]) -> list[Example]:
    """The dev questions whose scores count; ValueError if there are none."""
    found = [each for each in dev if settings.dev_limit is None or len(each.context) <= settings.dev_limit]
    if not found:
        shortest = min(len(each.context) for each in dev)
        needed = f"needs a dev question with a context of at most {settings.dev_limit} words"
        raise ValueError(f"--dev-limit: {needed}, found {shortest} in the shortest")
    return found


def sample(settings: SquadSettings, dev: list[Example]) -> list[Example]:
    """Those asked after each epoch, evenly spaced."""
    counting = judges(settings, dev)
    return counting[:: -(-len(counting) // settings.dev_sample)]


def answers(
    params: Params, examples: Sequence[Example], vectors: np.ndarray, code: Code, name: str = "dev"
) -> dict[str, tuple[str, float]]:
    """The likeliest span of each context, as it is written there, and its probability, by question id."""
    found = {}
    lengths = np.array([len(each.context) for each in examples])
    for some in tqdm(buckets(lengths, AT_ONCE), desc=name, unit=" batches", leave=False, delay=1, disable=None):
        asked = [examples[number] for number in some]
        (start, end), _ = _read(params, asked, vectors, code)
        for each, first, last, probability in zip(asked, *bidaf.best_span(start, end), strict=True):
            found[each.id] = each.span(first, last), float(probability)
    return {each.id: found[each.id] for each in examples}


def _read(params: Params, asked: Sequence[Example], vectors: np.ndarray, code: Code):
    pack = batch(asked, code)
    return bidaf.logits(params, context=Text(*pack.context), question=Text(*pack.question), vectors=vectors)


def scored(found: dict[str, tuple[str, float]], examples: Sequence[Example]) -> Score:
    """The official scores of what was answered to these questions."""
    spans = {name: span for name, (span, _) in found.items()}
    return score(spans, ((each.id, each.answers) for each in examples))


def finish(
    settings: SquadSettings,
    at: Progress,
    full: Params,
    corpus: Corpus,
    layout: Layout,
    folder: Path,
) -> dict[str, Any]:
    """Compact the full params, score both beside the untrained, write all of it, show the table.

    With the released method small weights of the average are set to 0 first, as its code does when it judges.
    """
    if settings.method == "released":
        full = zero_small_weights(full, JUDGED_ABOVE)
    small, small_layout = save_compact(
        bidaf,
        full,
        layout,
        folder,
        settings=settings,
        corpus=corpus.sha256,
        words=corpus.words,
        characters=corpus.characters,
    )
    first, *_ = untrained(bidaf, model_config(settings, corpus), settings)
    vectors = corpus.vectors.astype(settings.dtype)
    counting, measured, seconds = judges(settings, corpus.dev), {"dev_em": {}, "dev_f1": {}}, {"train": at.seconds}
    found = {}
    for one, params in {"untrained": first, "full": full, "compact": small}.items():
        started = time.perf_counter()
        found = answers(params, counting, vectors, corpus.code, one)
        measured["dev_em"][one], measured["dev_f1"][one] = scored(found, counting)
        seconds[f"evaluate_{one}"] = time.perf_counter() - started
    others = [each for each in corpus.dev if each.id not in found]
    found |= answers(small, others, vectors, corpus.code, "longer contexts")
    write_json(folder / "predictions.json", {each.id: found[each.id][0] for each in corpus.dev})
    difference, largest = output_difference(full, small, corpus.dev, vectors, corpus.code)
    result = {
        **sizes(bidaf, {"full": layout, "compact": small_layout}),
        **measured,
        "all_dev": scored(found, corpus.dev)._asdict() | {"questions": len(corpus.dev)},
        "cuts": cuts(at),
        "max_output_difference": difference,
        "largest_logit": largest,
        "seconds": seconds,
        "corpus": {"name": corpus.name, "sha256": corpus.sha256, "train": len(corpus.train), "dev": len(counting)},
        "settings": settings.to_dict(),
        "versions": {"issref": __version__, **versions()},
    }
    write_json(folder / "result.json", result)
    squad_show.table(result)
    draw(bidaf, at, full, layout, folder)
    return result


def output_difference(
    full: Params, small: Params, examples: list[Example], vectors: np.ndarray, code: Code
) -> tuple[float, float]:
    """The largest difference between the logits of two models over some questions, and the largest logit."""
    difference, largest = 0.0, 0.0
    batches = buckets(np.array([len(each.context) for each in examples]), AT_ONCE)
    for some in batches[:: -(-len(batches) // COMPARED)]:
        asked = [examples[number] for number in some]
        y, z = (np.array(_read(params, asked, vectors, code)[0]) for params in (full, small))
        difference = max(difference, float(np.abs(y - z).max()))
        largest = max(largest, float(np.abs(y[y > BEYOND]).max()))
    return difference, largest


# ---------------------------------------------------------------- a run's compact model, asked again


def load_model(folder: Path) -> tuple[Params, dict[str, Any]]:
    """A run's compact model and what is said about it; ValueError in a sentence if it is no reader."""
    params, about = load_compact(folder, {"layout", "words", "characters"})
    Layout.from_json(json.dumps(about["layout"])).check(params)
    return params, about


def _vectors(
    examples: Sequence[Example], about: dict[str, Any], settings: SquadSettings
) -> tuple[np.ndarray, Code]:
    known, vectors, _ = squad_corpus.vectors_of(examples, files_of(settings), settings.word_size)
    return vectors.astype(settings.dtype), coder([*about["words"], *known], about["characters"])


def evaluate(folder: Path, settings: SquadSettings) -> Score:
    """Answer all dev questions with a run's compact model, write predictions.json, and show the scores."""
    params, about = load_model(folder)
    dev, source = squad_corpus.read(files_of(settings).dev, [squad_corpus.DEV], files_of(settings).data_dir)
    examples = squad.read("dev", dev)
    counting, found = judges(settings, examples), answers(params, examples, *_vectors(examples, about, settings))
    write_json(folder / "predictions.json", {name: span for name, (span, _) in found.items()})
    show.say(f"dev questions from {source}; answers written to {folder / 'predictions.json'}")
    limit = f"context of at most {settings.dev_limit} words" if settings.dev_limit else "those that count"
    for name, some in {limit: counting, "all": examples}.items():
        exact, f1 = scored(found, some)
        show.say(f"{name:36}{len(some):>7,} questions   EM {exact:6.2f}   F1 {f1:6.2f}")
    return scored(found, counting)


def predict(folder: Path, settings: SquadSettings, question: str, context: Path) -> tuple[str, float]:
    """Answer a user's question about the text in a file, and show the span and its probability."""
    params, about = load_model(folder)
    content = download.read(context)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        found = f"0x{content[error.start]:02x} at byte offset {error.start}"
        raise ValueError(f"{context}: needed UTF-8, found {found}") from error
    example = squad.ask(question, text, settings.question_limit)
    ((span, probability),) = answers(params, [example], *_vectors([example], about, settings)).values()
    show.say(f"{span}\nprobability {probability:.3f}")
    return span, probability
