"""Evaluate BiDAF: predictions, EM and F1, a user's own question, the result of a run."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from issref.data import download, squad, squad_corpus
from issref.data.squad import Example
from issref.data.squad_batches import Code, batch, buckets, coder
from issref.data.squad_corpus import Corpus, Files
from issref.data.squad_score import Score, score
from issref.iss.compact import zero_small_weights
from issref.iss.layout import Layout, Params
from issref.models import bidaf
from issref.models.bidaf import Text
from issref.ops.losses import MASKED_LOGIT
from issref.squad.console import print_result
from issref.squad.settings import SquadSettings
from issref.training import console
from issref.training.checkpoint import write_json
from issref.training.models import check_model, describe_result, init_params, load_model, save_model
from issref.training.recorder import Recorder

EVALUATION_BATCH = 60  # questions
EVALUATION_THRESHOLD = 0.02  # of --method released at test time, as in the released code (docs/method.md, row 26)
COMPARED = 10  # batches over which the outputs of full and compact model are compared

Predictions = dict[str, tuple[str, float]]  # span and probability by question id


def load_corpus(settings: SquadSettings) -> Corpus:
    """Load the questions and vectors that the settings name. Raises ValueError if they are not available."""
    data = settings.data
    limits = (data.question_limit, data.context_limit, data.articles)
    corpus = squad_corpus.load(files_of(settings), settings.network.word_size, *limits)
    scored_examples(settings, corpus.dev)
    return corpus


def files_of(settings: SquadSettings) -> Files:
    """Return the files that the settings name."""
    data = settings.data
    return Files(*(Path(name) if name else None for name in (data.train, data.dev, data.glove, data.data_dir)))


def model_config(settings: SquadSettings, corpus: Corpus) -> bidaf.Config:
    """Return the model's config for this vocabulary."""
    return _config(settings, corpus.words, corpus.characters)


def _config(settings: SquadSettings, words: Sequence[str], characters: Sequence[str]) -> bidaf.Config:
    return bidaf.Config(trainable=len(words), characters=len(characters), **settings.network.to_dict())


def model_layout(settings: SquadSettings, corpus: Corpus) -> Layout:
    """Return the layout of the model, with the groups of the method: all readers, or the released groups."""
    groups = "released" if settings.penalty.method == "released" else "all"
    return bidaf.layout(model_config(settings, corpus), groups)


def scored_examples(settings: SquadSettings, dev: list[Example]) -> list[Example]:
    """Return the dev questions that are scored. Raises ValueError if there are none."""
    limit = settings.data.dev_limit
    found = [each for each in dev if limit is None or len(each.context) <= limit]
    if not found:
        shortest = min(len(each.context) for each in dev)
        need = f"expected a dev question with a context of at most {limit} words"
        raise ValueError(f"--dev-limit: {need}, got {shortest} words in the shortest")
    return found


def validation_sample(settings: SquadSettings, dev: list[Example]) -> list[Example]:
    """Return the questions that are scored after each epoch, evenly spaced."""
    scored = scored_examples(settings, dev)
    return scored[:: -(-len(scored) // settings.data.dev_sample)]


def predict(
    params: Params, examples: Sequence[Example], vectors: np.ndarray, code: Code, name: str = "dev"
) -> Predictions:
    """Return the most probable span of each context, in its original spelling, and its probability."""
    found = {}
    lengths = np.array([len(each.context) for each in examples])
    batches = buckets(lengths, EVALUATION_BATCH)
    for numbers in tqdm(batches, desc=name, unit=" batches", leave=False, delay=1, disable=None):
        chosen = [examples[number] for number in numbers]
        (start, end), _ = _logits(params, chosen, vectors, code)
        for each, first, last, probability in zip(chosen, *bidaf.best_span(start, end), strict=True):
            found[each.id] = each.span(first, last), float(probability)
    return {each.id: found[each.id] for each in examples}


def _logits(params: Params, examples: Sequence[Example], vectors: np.ndarray, code: Code):
    pack = batch(examples, code)
    return bidaf.logits(params, context=Text(*pack.context), question=Text(*pack.question), vectors=vectors)


def evaluated(predictions: Predictions, examples: Sequence[Example]) -> Score:
    """Return the official scores of the predictions for these questions."""
    spans = {name: span for name, (span, _) in predictions.items()}
    return score(spans, ((each.id, each.answers) for each in examples))


def loss_recorder(settings: SquadSettings) -> Recorder:
    """Return a recorder of the training loss: its mean in the epoch so far."""

    def measure(loss_sum: float, count: int) -> dict[str, float]:
        return {"train_loss": loss_sum / count}

    return Recorder(measure, "questions", settings.schedule.batch)


def final_params(settings: SquadSettings, params: Params) -> Params:
    """Return the weights to score: with the released method, small ones are set to 0, as in its code."""
    if settings.penalty.method != "released":
        return params
    thresholded = {array: params[array] for array in bidaf.released_thresholded(params)}
    return params | zero_small_weights(thresholded, EVALUATION_THRESHOLD)


def finish(
    settings: SquadSettings, full: Params, layout: Layout, recorder: Recorder, corpus: Corpus, folder: Path
) -> None:
    """Save the compact model of the full params, score both and the untrained one, write result.json, print it."""
    about = {"corpus": corpus.sha256, "words": corpus.words, "characters": corpus.characters}
    small, small_layout = save_model(bidaf, full, layout, folder, config=settings.to_dict(), **about)
    untrained, *_ = init_params(bidaf, model_config(settings, corpus), settings.run)
    vectors = corpus.vectors.astype(settings.run.dtype)
    scored, scores = scored_examples(settings, corpus.dev), {"dev_em": {}, "dev_f1": {}}
    seconds, predictions = {"train": recorder.seconds}, {}
    for name, params in {"untrained": untrained, "full": full, "compact": small}.items():
        started = time.perf_counter()
        predictions = predict(params, scored, vectors, corpus.code, name)
        scores["dev_em"][name], scores["dev_f1"][name] = evaluated(predictions, scored)
        seconds[f"evaluate_{name}"] = time.perf_counter() - started
    others = [each for each in corpus.dev if each.id not in predictions]
    predictions |= predict(small, others, vectors, corpus.code, "longer contexts")
    write_json(folder / "predictions.json", {each.id: predictions[each.id][0] for each in corpus.dev})
    difference, largest = output_difference(full, small, corpus.dev, vectors, corpus.code)
    result = describe_result(
        bidaf,
        {"full": layout, "compact": small_layout},
        recorder,
        settings,
        **scores,
        all_dev=evaluated(predictions, corpus.dev)._asdict() | {"questions": len(corpus.dev)},
        max_output_difference=difference,
        largest_logit=largest,
        seconds=seconds,
        corpus={
            "name": corpus.name,
            "sha256": corpus.sha256,
            "train": len(corpus.train),
            "dev": len(scored),
        },
    )
    write_json(folder / "result.json", result)
    print_result(result)


def output_difference(
    full: Params, small: Params, examples: list[Example], vectors: np.ndarray, code: Code
) -> tuple[float, float]:
    """Return the largest difference between the logits of two models for some questions, and the largest logit."""
    difference, largest = 0.0, 0.0
    batches = buckets(np.array([len(each.context) for each in examples]), EVALUATION_BATCH)
    for numbers in batches[:: -(-len(batches) // COMPARED)]:
        chosen = [examples[number] for number in numbers]
        y, z = (np.array(_logits(params, chosen, vectors, code)[0]) for params in (full, small))
        difference = max(difference, float(np.abs(y - z).max()))
        largest = max(largest, float(np.abs(y[y > MASKED_LOGIT]).max()))
    return difference, largest


# ---------------------------------------------------------------- the compact model of a finished run


def load_bidaf(folder: Path, settings: SquadSettings) -> tuple[Params, dict[str, Any]]:
    """Load a run's compact model and its metadata. Raises ValueError if it is not the BiDAF of these settings."""
    params, about = load_model(folder, {"words", "characters"})
    for name in ("words", "characters"):
        if not isinstance(about[name], list) or not all(isinstance(item, str) for item in about[name]):
            raise ValueError(f"{folder}, {name}: expected a list of strings, got {str(about[name])[:60]}")
    full = bidaf.layout(_config(settings, about["words"], about["characters"]))
    check_model(str(folder), params, about, full)
    return params, about


def _vectors(
    examples: Sequence[Example], about: dict[str, Any], settings: SquadSettings
) -> tuple[np.ndarray, Code]:
    known, vectors, _ = squad_corpus.vectors_of(examples, files_of(settings), settings.network.word_size)
    return vectors.astype(settings.run.dtype), coder([*about["words"], *known], about["characters"])


def evaluate(folder: Path, settings: SquadSettings) -> Score:
    """Answer all dev questions with a run's compact model, print and return the scores, write predictions.json."""
    params, about = load_bidaf(folder, settings)
    dev, source = squad_corpus.read(files_of(settings).dev, [squad_corpus.DEV], files_of(settings).data_dir)
    examples = squad.read("dev", dev)
    scored = scored_examples(settings, examples)
    predictions = predict(params, examples, *_vectors(examples, about, settings))
    console.log(f"dev questions from {source}")
    limit = settings.data.dev_limit
    subset = f"context of at most {limit} words" if limit else "scored questions"
    for name, chosen in {subset: scored, "all": examples}.items():
        exact, f1 = evaluated(predictions, chosen)
        console.log(f"{name:36}{len(chosen):>7,} questions   EM {exact:6.2f}   F1 {f1:6.2f}")
    write_json(folder / "predictions.json", {name: span for name, (span, _) in predictions.items()})
    console.log(f"predictions written to {folder / 'predictions.json'}")
    return evaluated(predictions, scored)


def answer(folder: Path, settings: SquadSettings, question: str, context: Path) -> tuple[str, float]:
    """Answer a user's question about the text in a file; print and return the span and its probability.

    Raises ValueError if the folder has no compact model, or if the text is not in UTF-8.
    """
    params, about = load_bidaf(folder, settings)
    content = download.read(context)
    try:
        text = content.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        found = f"0x{content[error.start]:02x} at byte offset {error.start}"
        raise ValueError(f"{context}: expected UTF-8, got {found}") from error
    example = squad.ask(question, text, settings.data.question_limit)
    ((span, probability),) = predict(params, [example], *_vectors([example], about, settings)).values()
    console.log(f"{span}\nprobability {probability:.3f}")
    return span, probability
