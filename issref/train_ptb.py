"""Train a language model that learns its own size, a stacked LSTM or an RHN, and keep the smaller one.

python -m issref.train_ptb --small                   a tour of minutes: watch components die
python -m issref.train_ptb --small --model rhn       the same tour with a recurrent highway network
python -m issref.train_ptb --preset zaremba-small    the whole schedule; every setting can be overridden
python -m issref.train_ptb --resume RUN              go on from a run's last checkpoint
python -m issref.train_ptb --eval RUN                perplexity of a run's compact model
"""

import math
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import tyro

from issref.data import corpus as corpora
from issref.iss.groups import iss_groups
from issref.iss.layout import Layout
from issref.kernels import parallel
from issref.models import LANGUAGE_MODELS
from issref.ptb import console as show
from issref.ptb.evaluation import (
    evaluate,
    finish,
    load_corpus,
    model_config,
    perplexity,
    selected,
    untrained,
    weights_of,
)
from issref.ptb.settings import PRESETS, Settings
from issref.training.pruning import draw_masks, remove_dead, shrunk, whole
from issref.training.runs import (
    Failed,
    Interrupted,
    Throttle,
    alone_in,
    finish_the_step,
    give_back_freed_memory,
    keep_freed_memory,
    new_folder,
    resident_mb,
    write_json,
)
from issref.training.state import Progress
from issref.training.updates import update

PROGRAM = "python -m issref.train_ptb"
Preset = Literal[
    "small", "zaremba-small", "zaremba-medium", "zaremba-large", "iss-large", "rhn-small", "rhn-sota", "rhn-iss"
]
TOURS: dict[str, Preset] = {"lstm": "small", "rhn": "rhn-small"}


@dataclass(frozen=True)
class Command:
    """Train a language model that learns its own size (Intrinsic Sparse Structures)."""

    settings: tyro.conf.OmitArgPrefixes[Settings] = field(default_factory=Settings)
    preset: Preset | None = None
    """Where the settings that no flag gives come from; small if not given, rhn-small with --model rhn."""
    small: tyro.conf.FlagCreatePairsOff[bool] = False
    """The tour: the preset that is taken if none is given."""
    out: Path | None = None
    """Folder to write to; runs/<date>-<preset> if not given."""
    resume: Path | None = None
    """Go on with the run in this folder, from its last checkpoint."""
    eval: Path | None = None
    """Evaluate the compact model of the run in this folder."""
    split: Literal["valid", "test"] = "test"
    """The text that --eval reads."""


def train(settings: Settings, at: Progress, corpus: corpora.Corpus, layout: Layout, folder: Path) -> None:
    """Forward, backward, one update of the method; epoch by epoch, from wherever `at` stands.

    `layout` is that of the params in hand; it shrinks with them.
    """
    model = LANGUAGE_MODELS[settings.model]
    windows = corpora.windows(corpus.train, settings.batch, settings.steps)
    groups = iss_groups(layout, model.spaces(layout.axes))
    config, due = model_config(settings, corpus), Throttle(seconds=120)
    started = time.perf_counter() - at.seconds

    def save():
        at.save_in(folder, settings=settings.to_dict(), corpus=corpus.sha256)

    save()
    write_json(folder / "config.json", settings.to_dict())  # only now is there something to go on with
    while at.epoch < settings.epochs:
        rate = settings.rate(at.epoch)
        with finish_the_step() as interrupted, show.progress_bar(settings, at, len(windows)) as bar:
            while at.step < len(windows):
                tokens, targets = windows[at.step]
                masks = draw_masks(settings.shrink, at, layout, model, config, settings.steps, settings.batch)
                (cost, state), backward = model.loss(
                    at.params, at.state, tokens=tokens, targets=targets, masks=masks
                )
                if not math.isfinite(cost):
                    raise FloatingPointError(f"the loss is {cost}")
                grads, _ = backward(1.0)
                at.state, living = state, update(settings, at, grads, rate, groups, spared=model.EMBEDDING)
                if living:
                    upcoming, _ = windows[(at.step + 1) % len(windows)]
                    states = model.state_layout(layout, settings.batch)
                    layout = remove_dead(
                        settings.shrink,
                        at,
                        layout,
                        states,
                        living,
                        outputs=lambda tokens=upcoming: model.logits(at.params, at.state, tokens=tokens)[0][0],
                    )
                    groups = iss_groups(layout, model.spaces(layout.axes))
                at.cost, at.step = at.cost + float(cost), at.step + 1
                at.seconds = time.perf_counter() - started
                show.step(settings, at, groups, bar, len(windows))
                if interrupted or due():
                    save()
                if interrupted:
                    raise Interrupted(interrupted[0])
        save()
        valid = perplexity(model, at.params, corpus.valid, settings.batch, settings.steps)
        if settings.selection == "best" and all(valid < row["valid_perplexity"] for row in at.rows):
            at.save(folder / "best.safetensors")
        show.epoch(settings, at, rate, valid)
        at.rows[-1]["resident_mb"] = resident_mb()
        give_back_freed_memory()
        at.epoch, at.step, at.cost, at.trace, at.cuts = at.epoch + 1, 0, 0.0, [], []
        at.state = model.state_layout(layout, settings.batch).allocate(settings.dtype)
        write_json(folder / "metrics.jsonl", at.rows)
        save()


# ---------------------------------------------------------------- the command


def start(command: Command, held: ExitStack) -> tuple[Settings, Progress, corpora.Corpus, Layout, Path]:
    """A new run: its corpus, its folder, which is ours while `held`, its first weights."""
    settings = command.settings
    corpus = load_corpus(settings)
    folder = None if settings.data_dir is None else str(Path(settings.data_dir).resolve())
    begun = None if settings.init is None else str(Path(settings.init).resolve())
    settings = replace(settings, corpus=corpus.choice, data_dir=folder, init=begun)  # so that --resume finds them
    for text in (corpus.train, corpus.valid):  # too short a text is refused before anything is written
        corpora.windows(text, settings.batch, settings.steps)
    model = LANGUAGE_MODELS[settings.model]
    params, layout, rng = untrained(model, model_config(settings, corpus), settings)
    if begun:
        params = weights_of(Path(begun), layout, corpus, settings.dtype)
    folder = new_folder(command.out, command.preset or TOURS[settings.model])
    held.enter_context(alone_in(folder))
    state = model.state_layout(layout, settings.batch).allocate(settings.dtype)
    living = {space: np.ones(layout.sizes[space], bool) for space in model.spaces(layout.axes)}
    return settings, Progress(params, state, rng, living), corpus, layout, folder


def resume(command: Command, held: ExitStack) -> tuple[Settings, Progress, corpora.Corpus, Layout, Path]:
    """The run in a folder, as its last checkpoint left it; only --epochs, --parallel, --data-dir may differ."""
    folder, settings = command.resume or Path(), command.settings
    held.enter_context(alone_in(folder))
    at, about = Progress.load_from(folder, show.say)
    if missing := {"settings", "corpus"} - about.keys():
        raise ValueError(f"{folder}: needs a checkpoint with its settings, found no {sorted(missing)}")
    changed = Settings.from_dict(about["settings"]).changed(settings) - {"epochs", "threads", "data_dir"}
    if changed or (settings.schedule == "staircase" and settings.epochs != about["settings"]["epochs"]):
        raise ValueError(
            f"--resume: needs the run's own settings, found other values for {sorted(changed or {'epochs'})}"
        )
    corpus = load_corpus(settings)
    if corpus.sha256 != about["corpus"]:
        raise ValueError(f"{folder}: needs the corpus with sha256 {about['corpus']}, found {corpus.sha256}")
    model = LANGUAGE_MODELS[settings.model]
    layout = model.layout(model_config(settings, corpus))
    now = shrunk(settings.shrink, at, layout)
    now.check(at.params)
    model.state_layout(now, settings.batch).check(at.state)
    return settings, at, corpus, layout, folder


def parse(arguments: list[str] | None) -> Command:
    """The command line, read twice: what gives the defaults (preset, or the run to resume), then the rest."""
    first = tyro.cli(Command, args=arguments, prog=PROGRAM)
    tour = TOURS[first.settings.model]
    if first.small and first.preset not in (None, tour):
        raise ValueError(f"--small: is --preset {tour}, found --preset {first.preset} beside it")
    if sum(one is not None for one in (first.resume, first.eval, first.out)) > 1:
        raise ValueError("--out, --resume, --eval: needs one of them at most, found more")
    run = first.resume or first.eval
    settings = Settings.read(run / "config.json") if run else PRESETS[first.preset or tour]
    command = tyro.cli(Command, args=arguments, prog=PROGRAM, default=Command(settings, first.preset))
    command.settings.check()
    return command


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 if all went well, 1 if training failed, 2 for bad input, 130 after Ctrl-C."""
    at, folder = None, None
    keep_freed_memory()
    try:
        command = parse(arguments)
        with parallel.limited(command.settings.threads), ExitStack() as held:
            if command.eval:
                evaluate(command.eval, command.settings, command.split)
                return 0
            settings, at, corpus, layout, folder = (resume if command.resume else start)(command, held)
            show.header(settings, corpus, layout, folder)
            train(settings, at, corpus, shrunk(settings.shrink, at, layout), folder)
            finish(
                settings,
                at,
                whole(settings.shrink, selected(settings, at, folder), layout),
                corpus,
                layout,
                folder,
            )
    except (Interrupted, KeyboardInterrupt):
        return show.failed(f"stopped; {show.way_back(folder)}", 130)
    except (ValueError, ArithmeticError, Failed, OSError, MemoryError) as error:
        if at is None:
            return show.failed(str(error), 2 if isinstance(error, ValueError) else 1)
        place = f"epoch {at.epoch + 1}, step {at.step + 1}: " if at.epoch < settings.epochs else ""
        return show.failed(f"{place}{error}; {show.way_back(folder)}", 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
