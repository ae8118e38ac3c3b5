"""The end of a run: the compact model, measured beside the full one, and everything written down."""

import json
import math
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from tqdm import tqdm

from issref import __version__, show
from issref.data import corpus as corpora
from issref.iss.compact import compact
from issref.iss.groups import Groups, alive, group_norms, iss_groups
from issref.iss.layout import Layout, Params
from issref.models import LANGUAGE_MODELS
from issref.training import checkpoint
from issref.training.progress import Progress
from issref.training.run import versions, write_json
from issref.training.settings import Settings

COMPARED = 10_000  # words of the validation text over which the outputs of full and compact are compared
WINDOW = 100  # words at a time for batch 1: the result is that of one word at a time, only faster


def perplexity(
    model: ModuleType, params: Params, text: np.ndarray, batch: int, steps: int, name: str = "valid"
) -> float:
    """exp of the mean loss of a word, in `batch` rows of `steps` words, the state carried; no dropout.

    With batch 1 every word but the first is predicted from all before it; with more, the rows' first words
    start from a zero state and the last words that fill no window are left out, as the released code does.
    """
    state = model.zero_state(params, batch)
    cost, count = 0.0, 0
    windows = corpora.windows(text, batch, steps, tail=batch == 1)
    for tokens, targets in tqdm(windows, desc=name, unit=" windows", leave=False, delay=1, disable=None):
        (loss, state), _ = model.loss(params, state, tokens=tokens, targets=targets)
        cost, count = cost + float(loss), count + len(tokens)
    return math.exp(min(cost / count, 700.0))


def load_corpus(settings: Settings) -> corpora.Corpus:
    """The text that the settings name; ValueError in a sentence if it cannot be had."""
    return corpora.load(settings.corpus, Path(settings.data_dir) if settings.data_dir else None, say=show.say)


def selected(settings: Settings, at: Progress, folder: Path) -> Progress:
    """The progress with the weights that a run ends with: as it is, or those of the best epoch."""
    if settings.selection == "last":
        return at
    best, _ = Progress.load(folder / "best.safetensors")
    return replace(at, params=best.params, alive=best.alive)


def finish(
    settings: Settings, at: Progress, full: Params, corpus: corpora.Corpus, layout: Layout, folder: Path
) -> dict[str, Any]:
    """Compact the full params, measure both models, write model, result and figures, and show the table."""
    model = LANGUAGE_MODELS[settings.model]
    groups = iss_groups(layout, model.spaces(layout.axes))
    living = alive(full, groups, model.readers_of(layout))
    small, small_layout = compact(full, layout, living)
    checkpoint.save(
        folder / "model.safetensors",
        small,
        layout=json.loads(small_layout.to_json()),
        config=settings.to_dict(),
        alive={space: kept.tolist() for space, kept in living.items()},
        corpus=corpus.sha256,
        words=corpus.words,
    )

    difference, largest = output_difference(model, full, small, corpus.valid[: COMPARED + 1])
    both = {"full": (full, layout), "compact": (small, small_layout)}
    seconds, measured = {"train": at.seconds}, {"valid_perplexity": {}, "test_perplexity": {}}
    for one, (params, _) in both.items():
        started = time.perf_counter()
        measured["valid_perplexity"][one] = perplexity(model, params, corpus.valid, 1, WINDOW, f"valid, {one}")
        measured["test_perplexity"][one] = perplexity(model, params, corpus.test, 1, WINDOW, f"test, {one}")
        seconds[f"evaluate_{one}"] = time.perf_counter() - started
    result = {
        "components": {one: {space: lay.sizes[space] for space in groups.first} for one, (_, lay) in both.items()},
        "parameters": {one: lay.parameters() for one, (_, lay) in both.items()},
        "multiply_adds": {one: model.multiply_adds(lay) for one, (_, lay) in both.items()},
        **measured,
        "cuts": {
            "count": sum(len(row["cuts"]) for row in at.rows),
            "max_output_difference": max(
                (cut["max_output_difference"] for row in at.rows for cut in row["cuts"]), default=0.0
            ),
        },
        "max_output_difference": difference,
        "largest_logit": largest,
        "compared_words": min(COMPARED, len(corpus.valid) - 1),
        "seconds": seconds,
        "corpus": {"name": corpus.name, "sha256": corpus.sha256, "vocabulary": len(corpus.words)}
        | {split: len(getattr(corpus, split)) for split in ("train", "valid", "test")},
        "settings": settings.to_dict(),
        "versions": {"issref": __version__, **versions()},
    }
    write_json(folder / "result.json", result)
    show.table(result)
    draw(at, full, layout, groups, folder)
    return result


def output_difference(model: ModuleType, full: Params, small: Params, text: np.ndarray) -> tuple[float, float]:
    """The largest difference between the logits of two models over a text, and the largest logit."""
    states, difference, largest = [model.zero_state(params, 1) for params in (full, small)], 0.0, 0.0
    for tokens, _ in corpora.windows(text, 1, WINDOW, tail=True):
        (y, states[0]), _ = model.logits(full, states[0], tokens=tokens)
        (z, states[1]), _ = model.logits(small, states[1], tokens=tokens)
        difference, largest = max(difference, float(np.abs(y - z).max())), max(largest, float(np.abs(y).max()))
    return difference, largest


def draw(at: Progress, full: Params, layout: Layout, groups: Groups, folder: Path) -> None:
    """The run's figures, and a line that says where everything is."""
    from issref import report

    report.draw_run(folder, at.rows, full, layout, groups.split(group_norms(full, groups)))
    show.say(f"written to {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")


def evaluate(folder: Path, settings: Settings, split: str) -> dict[str, float]:
    """Perplexity of a run's compact model: batch 1 in windows (the headline), word by word, and in rows."""
    params, about = checkpoint.load(folder / "model.safetensors")
    if missing := {"layout", "corpus"} - about.keys():
        raise ValueError(f"{folder / 'model.safetensors'}: needs a compact model, found no {sorted(missing)}")
    layout = Layout.from_json(json.dumps(about["layout"]))
    layout.check(params)
    corpus = load_corpus(settings)
    if corpus.sha256 != about["corpus"]:
        raise ValueError(f"{folder}: needs the corpus with sha256 {about['corpus']}, found {corpus.sha256}")
    text: np.ndarray = {"valid": corpus.valid, "test": corpus.test}[split]
    model = LANGUAGE_MODELS[settings.model]
    widths = ", ".join(str(layout.sizes[space]) for space in model.spaces(layout.axes))
    show.say(f"{corpus.name}, {split}: {len(text):,} words; components {widths}")
    protocols = {
        f"batch 1, windows of {WINDOW}": (1, WINDOW),
        "batch 1, word by word": (1, 1),
        f"{settings.batch} rows of {settings.steps} (another protocol)": (settings.batch, settings.steps),
    }
    found = {}
    for name, rows in protocols.items():
        found[name] = perplexity(model, params, text, *rows, name=name)
        show.say(f"{name:36}{found[name]:10.4f}")
    return found
