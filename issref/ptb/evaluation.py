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

from issref import __version__
from issref.data import corpus as corpora
from issref.data import squad_corpus
from issref.iss.compact import compact, expand
from issref.iss.groups import alive, group_norms, iss_groups
from issref.iss.layout import Layout, Params
from issref.models import LANGUAGE_MODELS, ptb_lstm, ptb_rhn
from issref.ptb import console as show
from issref.ptb.settings import Settings
from issref.squad.settings import SquadSettings
from issref.training import checkpoint
from issref.training.runs import versions, write_json
from issref.training.state import LAST, Progress

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


def model_config(settings: Settings, corpus: corpora.Corpus) -> ptb_lstm.Config | ptb_rhn.Config:
    """The model's part of the settings."""
    if settings.model == "rhn":
        word, input_, state, output = settings.drops
        return ptb_rhn.Config(
            vocabulary=len(corpus.words),
            width=settings.hidden_sizes[0],
            depth=settings.depth,
            tied=settings.tied,
            init_scale=settings.init_scale,
            transform_bias=settings.transform_bias,
            drop_word=word,
            drop_input=input_,
            drop_state=state,
            drop_output=output,
        )
    return ptb_lstm.Config(
        vocabulary=len(corpus.words),
        embed_size=settings.embed_size or settings.hidden_sizes[0],
        hidden_sizes=settings.hidden_sizes,
        init_scale=settings.init_scale,
        keep=settings.keep,
    )


def untrained(
    model: ModuleType, config: Any, settings: Settings | SquadSettings
) -> tuple[Params, Layout, np.random.Generator]:
    """The weights a run starts with, their layout, and the random stream that drew them and goes on."""
    layout, rng = model.layout(config), np.random.default_rng(settings.seed)
    return model.initial(config, layout, rng, settings.dtype), layout, rng


def load_compact(folder: Path, needed: set[str]) -> tuple[Params, dict[str, Any]]:
    """A run's compact model and what is said about it; ValueError in a sentence unless it says what is needed."""
    path = folder / "model.safetensors"
    if not path.exists() and (folder / LAST).exists():
        raise ValueError(f"{folder}: needs a run that has ended, found one that --resume {folder} goes on with")
    params, about = checkpoint.load(path)
    if missing := needed - about.keys():
        raise ValueError(f"{path}: needs a compact model, found no {sorted(missing)}")
    return params, about


def weights_of(folder: Path, layout: Layout, corpus: corpora.Corpus | squad_corpus.Corpus, dtype: str) -> Params:
    """The weights of a finished run at its original widths, exactly zero where its components are dead.

    Their gradients are exactly zero too, so they stay dead. ValueError unless layout and vocabulary are the same.
    """
    params, about = load_compact(folder, {"layout", "alive", "words"})
    living = {space: np.array(kept, bool) for space, kept in about["alive"].items()}
    params, whole = expand(params, Layout.from_json(json.dumps(about["layout"])), living)
    if whole != layout:
        raise ValueError(f"--init: {folder} needs a model of sizes {layout.sizes}, found {whole.sizes}")
    for name in ("words", "characters"):  # a language model has no characters
        if tuple(about.get(name, ())) != getattr(corpus, name, ()):
            raise ValueError(f"--init: {folder} needs the {name} of {corpus.name}, found others")
    return {array: values.astype(dtype) for array, values in params.items()}


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
    small, small_layout = save_compact(
        model, full, layout, folder, settings=settings, corpus=corpus.sha256, words=corpus.words
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
        **sizes(model, {one: lay for one, (_, lay) in both.items()}),
        **measured,
        "cuts": cuts(at),
        "max_output_difference": difference,
        "largest_logit": largest,
        "compared_words": min(COMPARED, len(corpus.valid) - 1),
        "seconds": seconds,
        "corpus": {"name": corpus.name, "sha256": corpus.sha256, "vocabulary": len(corpus.words)}
        | {split: len(getattr(corpus, split)) for split in ("train", "valid", "test")},
        "settings": settings.to_dict(),
        "finished": time.strftime("%Y-%m-%d %H:%M"),
        "versions": {"issref": __version__, **versions()},
    }
    write_json(folder / "result.json", result)
    show.table(result)
    draw(model, at, full, layout, folder)
    return result


def output_difference(model: ModuleType, full: Params, small: Params, text: np.ndarray) -> tuple[float, float]:
    """The largest difference between the logits of two models over a text, and the largest logit."""
    states, difference, largest = [model.zero_state(params, 1) for params in (full, small)], 0.0, 0.0
    for tokens, _ in corpora.windows(text, 1, WINDOW, tail=True):
        (y, states[0]), _ = model.logits(full, states[0], tokens=tokens)
        (z, states[1]), _ = model.logits(small, states[1], tokens=tokens)
        difference, largest = max(difference, float(np.abs(y - z).max())), max(largest, float(np.abs(y).max()))
    return difference, largest


def save_compact(
    model: ModuleType, full: Params, layout: Layout, folder: Path, *, settings: Any, **about: Any
) -> tuple[Params, Layout]:
    """Write the params without what no one reads as the run's model, and return them with their layout."""
    living = alive(full, iss_groups(layout, model.spaces(layout.axes)), model.readers_of(layout))
    small, small_layout = compact(full, layout, living)
    checkpoint.save(
        folder / "model.safetensors",
        small,
        layout=json.loads(small_layout.to_json()),
        config=settings.to_dict(),
        alive={space: kept.tolist() for space, kept in living.items()},
        **about,
    )
    return small, small_layout


def sizes(model: ModuleType, layouts: dict[str, Layout]) -> dict[str, dict[str, Any]]:
    """Components, parameters and multiply-adds of each layout, by its name."""
    return {
        "components": {
            one: {space: layout.sizes[space] for space in model.spaces(layout.axes)}
            for one, layout in layouts.items()
        },
        "parameters": {one: layout.parameters() for one, layout in layouts.items()},
        "multiply_adds": {one: model.multiply_adds(layout) for one, layout in layouts.items()},
    }


def cuts(at: Progress) -> dict[str, Any]:
    """How often components were cut out, and the largest difference that it made to the outputs."""
    differences = [cut["max_output_difference"] for row in at.rows for cut in row["cuts"]]
    return {"count": len(differences), "max_output_difference": max(differences, default=0.0)}


def draw(model: ModuleType, at: Progress, full: Params, layout: Layout, folder: Path) -> None:
    """The run's figures, and a line that says where everything is."""
    from issref import report

    groups = iss_groups(layout, model.spaces(layout.axes))
    report.draw_run(folder, at.rows, full, layout, groups.split(group_norms(full, groups)))
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    show.say(f"written to {folder}: {', '.join(names)}")


def evaluate(folder: Path, settings: Settings, split: str) -> dict[str, float]:
    """Perplexity of a run's compact model: batch 1 in windows (the headline), word by word, and in rows."""
    params, about = load_compact(folder, {"layout", "corpus"})
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
