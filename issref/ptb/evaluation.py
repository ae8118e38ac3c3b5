"""Evaluate language models: perplexity of a text, full against compact model, the result of a run."""

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from issref.data import corpus as corpora
from issref.data.corpus import Corpus
from issref.iss.layout import Layout, Params
from issref.kernels.inference import fixed_weights
from issref.models import LANGUAGE_MODELS, LanguageModel
from issref.ptb.console import print_result
from issref.ptb.settings import Settings
from issref.training import console
from issref.training.checkpoint import write_json
from issref.training.models import check_model, describe_result, load_model, save_model
from issref.training.recorder import Recorder

COMPARED = 10_000  # words of the validation text over which the outputs of full and compact model are compared
WINDOW = 100  # words at a time with batch 1: the same result as one word at a time, but faster


def load_corpus(settings: Settings) -> Corpus:
    """Load the text that the settings name. Raises ValueError if it is not available."""
    return corpora.load(settings.data.corpus, _folder(settings), log=console.log)


def choose_corpus(settings: Settings) -> str:
    """Return the text that the settings' corpus stands for: `auto` is ptb, or embedded."""
    return corpora.choose(settings.data.corpus, _folder(settings), log=console.log)


def _folder(settings: Settings) -> Path | None:
    return Path(settings.data.data_dir) if settings.data.data_dir else None


def model_config(settings: Settings, corpus: Corpus) -> Any:
    """Return the model's config for this vocabulary."""
    return LANGUAGE_MODELS[settings.network.model].configure(len(corpus.words), settings.network.flat())


def perplexity(
    model: LanguageModel, params: Params, text: np.ndarray, batch: int, steps: int, name: str = "valid"
) -> float:
    """Return exp of the mean loss of a word, in `batch` rows of `steps` words, with the state carried; no dropout.

    With batch 1 every word but the first is predicted from all words before it. With more rows, the first words
    of each row start from a zero state, and the last words, which fill no window, are left out, as in the
    released code.
    """
    state = model.zero_state(params, batch)
    cost, count = 0.0, 0
    windows = corpora.windows(text, batch, steps, tail=batch == 1)
    with fixed_weights():
        for tokens, targets in tqdm(windows, desc=name, unit=" windows", leave=False, delay=1, disable=None):
            (loss, state), _ = model.loss(params, state, tokens=tokens, targets=targets)
            cost, count = cost + float(loss), count + len(tokens)
    return math.exp(min(cost / count, 700.0))


def perplexity_recorder(settings: Settings) -> Recorder:
    """Return a recorder of the training perplexity: exp of the mean loss of a word in the epoch so far."""
    steps = settings.schedule.steps

    def measure(loss_sum: float, count: int) -> dict[str, float]:
        return {"train_perplexity": math.exp(min(loss_sum / (count * steps), 700.0))}

    return Recorder(measure, "words", settings.schedule.batch * steps)


def finish(
    settings: Settings, full: Params, layout: Layout, recorder: Recorder, corpus: Corpus, folder: Path
) -> None:
    """Save the compact model of the full params, measure both, write result.json and print the table."""
    model = LANGUAGE_MODELS[settings.network.model]
    about = {"config": settings.to_dict(), "corpus": corpus.sha256, "words": corpus.words}
    small, small_layout = save_model(model, full, layout, folder, **about)
    difference, largest = output_difference(model, full, small, corpus.valid[: COMPARED + 1])
    seconds, scores = {"train": recorder.seconds}, {"valid_perplexity": {}, "test_perplexity": {}}
    for name, params in {"full": full, "compact": small}.items():
        started = time.perf_counter()
        for split, text in {"valid": corpus.valid, "test": corpus.test}.items():
            value = perplexity(model, params, text, 1, WINDOW, f"{split}, {name}")
            scores[f"{split}_perplexity"][name] = value
        seconds[f"evaluate_{name}"] = time.perf_counter() - started
    result = describe_result(
        model,
        {"full": layout, "compact": small_layout},
        recorder,
        settings,
        **scores,
        max_output_difference=difference,
        largest_logit=largest,
        compared_words=min(COMPARED, len(corpus.valid) - 1),
        seconds=seconds,
        corpus={"name": corpus.name, "sha256": corpus.sha256, "vocabulary": len(corpus.words)}
        | {split: len(getattr(corpus, split)) for split in ("train", "valid", "test")},
    )
    write_json(folder / "result.json", result)
    print_result(result)


def output_difference(model: LanguageModel, full: Params, small: Params, text: np.ndarray) -> tuple[float, float]:
    """Return the largest difference between the logits of two models over a text, and the largest logit."""
    states, difference, largest = [model.zero_state(params, 1) for params in (full, small)], 0.0, 0.0
    with fixed_weights():
        for tokens, _ in corpora.windows(text, 1, WINDOW, tail=True):
            (y, states[0]), _ = model.logits(full, states[0], tokens=tokens)
            (z, states[1]), _ = model.logits(small, states[1], tokens=tokens)
            difference = max(difference, float(np.abs(y - z).max()))
            largest = max(largest, float(np.abs(y).max()))
    return difference, largest


def evaluate(folder: Path, settings: Settings, split: str) -> dict[str, float]:
    """Print and return the perplexity of a run's compact model: batch 1 in windows, word by word, and in rows.

    Raises ValueError if the folder has no compact model, or if the corpus is not the one of the run.
    """
    params, about = load_model(folder, {"corpus"})
    model, corpus = LANGUAGE_MODELS[settings.network.model], load_corpus(settings)
    if corpus.sha256 != about["corpus"]:
        raise ValueError(f"{folder}: expected the corpus with sha256 {about['corpus']}, got {corpus.sha256}")
    text: np.ndarray = {"valid": corpus.valid, "test": corpus.test}[split]
    rows = settings.schedule.batch, settings.schedule.steps
    layout, _ = check_model(str(folder), params, about, model.layout(model_config(settings, corpus)))
    widths = ", ".join(str(layout.sizes[space]) for space in model.spaces(layout.axes))
    console.log(f"{corpus.name}, {split}: {len(text):,} words; components {widths}")
    protocols = {
        f"batch 1, windows of {WINDOW}": (1, WINDOW),
        "batch 1, word by word": (1, 1),
    }
    if len(text) // rows[0] > rows[1]:
        protocols[f"{rows[0]} rows of {rows[1]} (another protocol)"] = rows
    found = {}
    for name, shape in protocols.items():
        found[name] = perplexity(model, params, text, *shape, name=name)
        console.log(f"{name:36}{found[name]:10.4f}")
    return found
