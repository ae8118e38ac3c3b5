"""Train a stacked LSTM language model that learns its own size, and keep the smaller one.

    python -m issref.train_ptb --small                   a tour of minutes: watch components die
    python -m issref.train_ptb --preset zaremba-small    the whole schedule; every setting can be overridden
    python -m issref.train_ptb --resume RUN              go on from a run's last checkpoint
    python -m issref.train_ptb --eval RUN                perplexity of a run's compact model
"""

import math
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from threadpoolctl import threadpool_limits

from issref import methods, show
from issref.data import corpus as corpora
from issref.iss.compact import Alive, zero_dead
from issref.iss.groups import Groups, iss_groups
from issref.iss.layout import Layout, Params
from issref.models import ptb_lstm as model
from issref.result import evaluate, finish, perplexity
from issref.training.optimizers import global_norm
from issref.training.progress import Progress
from issref.training.run import Failed, Interrupted, Throttle, finish_the_step, new_folder, write_json
from issref.training.settings import PRESETS, Settings

PROGRAM = "python -m issref.train_ptb"
Preset = Literal["small", "zaremba-small", "zaremba-medium", "zaremba-large", "iss-large"]


@dataclass(frozen=True)
class Command:
    """Train a stacked LSTM language model that learns its own size (Intrinsic Sparse Structures)."""

    settings: tyro.conf.OmitArgPrefixes[Settings] = field(default_factory=Settings)
    preset: Preset = "small"
    """Where the settings that no flag gives come from."""
    small: tyro.conf.FlagCreatePairsOff[bool] = False
    """The tour: the same as --preset small."""
    data_dir: Path | None = None
    """Folder with ptb/ptb.train.txt and so on; else $ISSREF_DATA, the cache, a download."""
    out: Path | None = None
    """Folder to write to; runs/<date>-<preset> if not given."""
    resume: Path | None = None
    """Go on with the run in this folder, from its last checkpoint."""
    eval: Path | None = None
    """Evaluate the compact model of the run in this folder."""
    split: Literal["valid", "test"] = "test"
    """The text that --eval reads."""


def train(settings: Settings, at: Progress, corpus: corpora.Corpus, layout: Layout, folder: Path) -> None:
    """Forward, backward, one update of the method; epoch by epoch, from wherever `at` stands."""
    groups = iss_groups(layout, model.layers(layout.axes))
    windows = corpora.windows(corpus.train, settings.batch, settings.steps)
    config, due = model_config(settings, corpus), Throttle(seconds=120)
    started = time.perf_counter() - at.seconds

    def save():
        at.save(folder / "checkpoint.safetensors", settings=settings.to_dict(), corpus=corpus.sha256)

    while at.epoch < settings.epochs:
        rate = settings.rate(at.epoch)
        with finish_the_step() as interrupted, show.progress_bar(settings, at, len(windows)) as bar:
            while at.step < len(windows):
                tokens, targets = windows[at.step]
                masks = model.draw_masks(config, layout.sizes, at.rng, settings.steps, settings.batch)
                (cost, state), backward = model.loss(at.params, at.state, tokens=tokens, targets=targets, masks=masks)
                grads, _ = backward(1.0)
                if not math.isfinite(cost + global_norm(grads)):
                    raise Failed(f"the loss is not finite at epoch {at.epoch + 1}, step {at.step + 1}")
                at.state = state
                update(settings, at, grads, rate, groups, layout)
                at.cost, at.step, at.seconds = at.cost + float(cost), at.step + 1, time.perf_counter() - started
                show.step(settings, at, groups, bar, len(windows))
                if interrupted or due():
                    save()
                if interrupted:
                    raise Interrupted(interrupted[0])
        show.epoch(settings, at, rate, perplexity(at.params, corpus.valid, settings.batch, settings.steps))
        at.epoch, at.step, at.cost, at.trace = at.epoch + 1, 0, 0.0, []
        at.state = model.state_layout(layout, settings.batch).allocate(settings.dtype)
        save()
        write_json(folder / "metrics.jsonl", at.rows)


def update(settings: Settings, at: Progress, grads: Params, rate: float, groups: Groups, layout: Layout) -> None:
    """One update of at.params by the method; with prox, components that die are silenced for good."""
    strength = groups.spread(settings.strengths(list(groups.first)))
    match settings.method:
        case "dense":
            at.params = methods.dense_update(at.params, grads, rate, settings.clip)
        case "l1":
            at.params = methods.l1_update(
                at.params, grads, rate, settings.clip, settings.l1_strength, settings.threshold, model.EMBEDDING
            )
        case "released":
            at.params = methods.released_update(
                at.params, grads, rate, settings.clip, groups, strength, settings.threshold
            )
        case "prox":
            at.params, certificate = methods.prox_update(
                at.params, grads, rate, settings.clip, groups, strength, at.prox.get("warm_start")
            )
            at.prox = {"warm_start": certificate.warm_start, "dead": certificate.dead}
            if certificate.dead.sum() > at.dead:
                silence(settings, at, groups.split(~certificate.dead), layout)


def silence(settings: Settings, at: Progress, living: Alive, layout: Layout) -> None:
    """Set the biases and the carried state of dead components to zero too: then nothing can revive them.

    Their candidate is tanh(0) = 0, so are cell and output, and nothing reads them: every gradient into their
    slices is exactly zero from here on, and the network trains as the compact one would.
    """
    if empty := [space for space, kept in living.items() if not kept.any()]:
        raise Failed(f"all components of {empty[0]} died at epoch {at.epoch + 1}, step {at.step + 1}: lower --strength")
    at.params = zero_dead(at.params, layout, living)
    at.state = zero_dead(at.state, model.state_layout(layout, settings.batch), living)
    at.dead = sum(int((~kept).sum()) for kept in living.values())


# ---------------------------------------------------------------- the command


def model_config(settings: Settings, corpus: corpora.Corpus) -> model.Config:
    """The model's part of the settings."""
    return model.Config(
        vocabulary=len(corpus.words),
        embed_size=settings.embed_size or settings.hidden_sizes[0],
        hidden_sizes=settings.hidden_sizes,
        init_scale=settings.init_scale,
        keep=settings.keep,
    )


def start(command: Command) -> tuple[Settings, Progress, corpora.Corpus, Layout, Path]:
    """A new run: its corpus, its folder, its first weights."""
    settings = command.settings
    corpus = corpora.load(settings.corpus, command.data_dir, say=show.say)
    config = model_config(settings, corpus)
    layout, rng = model.layout(config), np.random.default_rng(settings.seed)
    corpora.windows(corpus.train, settings.batch, settings.steps)  # too short a text is refused before all else
    corpora.windows(corpus.valid, settings.batch, settings.steps)
    folder = new_folder(command.out, command.preset)
    write_json(folder / "config.json", {"preset": command.preset, **settings.to_dict()})
    state = model.state_layout(layout, settings.batch).allocate(settings.dtype)
    params = model.initial(config, layout, rng, settings.dtype)
    return settings, Progress(params, state, rng), corpus, layout, folder


def resume(command: Command) -> tuple[Settings, Progress, corpora.Corpus, Layout, Path]:
    """The run in a folder, as its last checkpoint left it, with the settings it was started with."""
    folder = command.resume or Path()
    at, about = Progress.load(folder / "checkpoint.safetensors")
    settings = Settings.from_dict(about["settings"])
    corpus = corpora.load(settings.corpus, command.data_dir, say=show.say)
    if corpus.sha256 != about["corpus"]:
        raise ValueError(f"{folder}: needs the corpus with sha256 {about['corpus']}, found {corpus.sha256}")
    layout = model.layout(model_config(settings, corpus))
    layout.check(at.params)
    return settings, at, corpus, layout, folder


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 if all went well, 1 if training failed, 2 for bad input, 130 after Ctrl-C."""
    folder = Path()
    try:
        command = parse(arguments)
        with threadpool_limits(command.settings.threads, user_api="blas"):
            if command.eval:
                evaluate(command.eval, command.split, command.data_dir)
                return 0
            settings, at, corpus, layout, folder = (resume if command.resume else start)(command)
            show.header(settings, corpus, layout, folder)
            train(settings, at, corpus, layout, folder)
            finish(settings, at, corpus, layout, folder)
    except ValueError as error:
        return show.failed(str(error), 2)
    except Interrupted as signal_name:
        return show.failed(f"stopped by {signal_name} after a whole step; go on with --resume {folder}", 130)
    except (Failed, OSError, MemoryError) as error:
        checkpoint = folder / "checkpoint.safetensors"
        kept = f"the last good checkpoint is {checkpoint}" if checkpoint.exists() else "there is no checkpoint yet"
        return show.failed(f"{error}; {kept}", 1)
    return 0


def parse(arguments: list[str] | None) -> Command:
    """The command line, read twice: first for the preset alone, then with the preset's values as defaults."""
    preset = tyro.cli(Command, args=arguments, prog=PROGRAM).preset
    return tyro.cli(Command, args=arguments, prog=PROGRAM, default=Command(settings=PRESETS[preset], preset=preset))


if __name__ == "__main__":
    sys.exit(main())
