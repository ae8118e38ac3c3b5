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
from issref.training.progress import Progress
from issref.training.run import Failed, Interrupted, Throttle, finish_the_step, new_folder, write_json
from issref.training.settings import PRESETS, Settings, read_settings

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
                (cost, state), backward = model.loss(
                    at.params, at.state, tokens=tokens, targets=targets, masks=masks
                )
                if not math.isfinite(cost):
                    raise FloatingPointError(f"the loss is {cost}")
                grads, _ = backward(1.0)
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
            at.prox = {"warm_start": certificate.warm_start}
            if certificate.dead.sum() > at.dead:
                silence(settings, at, groups.split(~certificate.dead), layout)


def silence(settings: Settings, at: Progress, living: Alive, layout: Layout) -> None:
    """Set the biases and the carried state of dead components to zero too: then nothing can revive them.

    Their candidate is tanh(0) = 0, so are cell and output, and nothing reads them: every gradient into their
    slices is exactly zero from here on, and the network trains as the compact one would.
    """
    if empty := [space for space, kept in living.items() if not kept.any()]:
        raise Failed(f"all components of {empty[0]} have died, which a lower --strength prevents")
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
    write_json(folder / "config.json", settings.to_dict())
    state = model.state_layout(layout, settings.batch).allocate(settings.dtype)
    params = model.initial(config, layout, rng, settings.dtype)
    return settings, Progress(params, state, rng), corpus, layout, folder


def resume(command: Command) -> tuple[Settings, Progress, corpora.Corpus, Layout, Path]:
    """The run in a folder, as its last checkpoint left it; only --epochs and --threads may have changed."""
    folder, settings = command.resume or Path(), command.settings
    at, about = Progress.load(folder / "checkpoint.safetensors")
    changed = Settings.from_dict(about["settings"]).changed(settings) - {"epochs", "threads"}
    if changed:
        raise ValueError(f"--resume: needs the run's own settings, found other values for {sorted(changed)}")
    corpus = corpora.load(settings.corpus, command.data_dir, say=show.say)
    if corpus.sha256 != about["corpus"]:
        raise ValueError(f"{folder}: needs the corpus with sha256 {about['corpus']}, found {corpus.sha256}")
    layout = model.layout(model_config(settings, corpus))
    layout.check(at.params)
    model.state_layout(layout, settings.batch).check(at.state)
    write_json(folder / "config.json", settings.to_dict())
    return settings, at, corpus, layout, folder


def parse(arguments: list[str] | None) -> Command:
    """The command line, read twice: what gives the defaults (preset, or the run to resume), then the rest."""
    first = tyro.cli(Command, args=arguments, prog=PROGRAM)
    settings = read_settings(first.resume / "config.json") if first.resume else PRESETS[first.preset]
    return tyro.cli(Command, args=arguments, prog=PROGRAM, default=Command(settings, first.preset))


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 if all went well, 1 if training failed, 2 for bad input, 130 after Ctrl-C."""
    at, checkpoint = None, Path()
    try:
        command = parse(arguments)
        with threadpool_limits(command.settings.threads, user_api="blas"):
            if command.eval:
                evaluate(command.eval, command.split, command.data_dir)
                return 0
            settings, at, corpus, layout, folder = (resume if command.resume else start)(command)
            checkpoint = folder / "checkpoint.safetensors"
            show.header(settings, corpus, layout, folder)
            train(settings, at, corpus, layout, folder)
            finish(settings, at, corpus, layout, folder)
    except ValueError as error:
        return show.failed(str(error), 2)
    except (Interrupted, KeyboardInterrupt):
        return show.failed(f"stopped; {show.way_back(checkpoint)}", 130)
    except (Failed, FloatingPointError, OSError, MemoryError) as error:
        place = f"epoch {at.epoch + 1}, step {at.step + 1}: " if at else ""
        return show.failed(f"{place}{error}; {show.way_back(checkpoint)}", 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
