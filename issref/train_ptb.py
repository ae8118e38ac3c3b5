"""Train a language model that learns its own size, a stacked LSTM or an RHN, and keep the compact model.

python -m issref.train_ptb --small                   a quick run of minutes: watch components die
python -m issref.train_ptb --small --model rhn       the same with a recurrent highway network
python -m issref.train_ptb --preset zaremba-small    the whole schedule; every setting can be overridden
python -m issref.train_ptb --resume RUN              resume a run from its last checkpoint
python -m issref.train_ptb --eval RUN                perplexity of a run's compact model
"""

import math
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from issref.data.corpus import Corpus, windows
from issref.iss.groups import group_norms, iss_groups
from issref.iss.layout import Layout, Params
from issref.kernels import parallel
from issref.models import LANGUAGE_MODELS, LanguageModel
from issref.ptb import console
from issref.ptb.evaluation import evaluate, finish, load_corpus, model_config, perplexity
from issref.ptb.settings import PRESETS, QUICK, Settings
from issref.training import command as shell
from issref.training.console import log_files
from issref.training.models import init_params, load_initial_params
from issref.training.options import strengths
from issref.training.pruning import cut_out, draw_masks, zero_out
from issref.training.recorder import Prune, Recorder
from issref.training.runs import BEST, load_run, new_folder, run_lock, save_run, training_steps
from issref.training.state import RunState, all_alive, current_layout, full_params
from issref.training.updates import (
    Penalty,
    Update,
    clipped_sgd,
    dense_update,
    l1_update,
    prox_update,
    released_update,
)


def train(settings: Settings, run: RunState, recorder: Recorder, corpus: Corpus, folder: Path) -> None:
    """Train by truncated backpropagation through time: loss, backward, update, prune; from the saved step on."""
    model, schedule = LANGUAGE_MODELS[settings.network.model], settings.schedule
    config, batches = model_config(settings, corpus), windows(corpus.train, schedule.batch, schedule.steps)
    layout = current_layout(run, model.layout(config))
    prune = choose_prune(settings, model, batches, recorder)
    save = shell.saver(folder, run, recorder, settings, corpus)
    shell.begin_run(folder, settings, save)
    while run.epoch < schedule.epochs:
        rate, update = schedule.rate(run.epoch), choose_update(settings, model, layout, run.epoch)
        penalty = group_penalty(settings, model, layout, run.epoch)
        for tokens, targets in training_steps(batches, run, recorder, save, schedule.epochs):
            masks = draw_masks(run, layout, model, config, schedule.steps, schedule.batch)
            (loss, run.state), backward = model.loss(
                run.params, run.state, tokens=tokens, targets=targets, masks=masks
            )
            grads, _ = backward(1.0)
            run.params, run.optimizer_state, newly_dead = update(
                run.params, grads, rate, penalty, run.optimizer_state
            )
            if newly_dead.any():  # cut them out: every later step is cheaper
                layout = prune(run, layout, penalty.groups.split(~newly_dead))
                penalty = group_penalty(settings, model, layout, run.epoch)
            recorder.record(run, loss, penalty.groups)
        save()
        valid = perplexity(model, run.params, corpus.valid, schedule.batch, schedule.steps)
        if schedule.selection == "best" and recorder.is_lowest("valid_perplexity", valid):
            save_run(folder / BEST, run, recorder)
        recorder.end_epoch(run, rate, valid_perplexity=valid)
        run.state = model.state_layout(layout, schedule.batch).allocate(settings.run.dtype)
        shell.end_epoch(run, recorder, folder, save, schedule.epochs)


def group_penalty(settings: Settings, model: LanguageModel, layout: Layout, epoch: int) -> Penalty:
    """Return the groups of the layout, and the strength of each group in an epoch."""
    groups = iss_groups(layout, model.spaces(layout.axes))
    strength = groups.spread(strengths(settings.penalty.strength, list(groups.first)))
    return Penalty(groups, strength * settings.penalty.scale(epoch))


def choose_update(settings: Settings, model: LanguageModel, layout: Layout, epoch: int) -> Update:
    """Return the update rule of an epoch."""
    penalty, scale = settings.penalty, settings.penalty.scale(epoch)
    descend = clipped_sgd(settings.schedule.clip, settings.schedule.weight_decay)
    match penalty.method if scale else "dense":
        case "prox":
            return prox_update(descend)
        case "released":
            return released_update(descend, penalty.threshold, model.released_thresholded(layout.axes))
        case "l1":
            return l1_update(descend, penalty.l1_strength * scale, penalty.threshold, model.EMBEDDING)
    return dense_update(descend)


def choose_prune(settings: Settings, model: LanguageModel, batches: Sequence[Any], recorder: Recorder) -> Prune:
    """Return what becomes of dead components: cut out, outputs compared before and after, or kept as zeros."""

    def prune(run: RunState, layout: Layout, alive) -> Layout:
        rule = cut_out if settings.penalty.shrink else zero_out
        return rule(run, layout, alive, model.state_layout(layout, settings.schedule.batch))

    def next_logits(run: RunState) -> np.ndarray:
        tokens, _ = batches[(run.step + 1) % len(batches)]
        return model.logits(run.params, run.state, tokens=tokens)[0][0]

    return recorder.compared(prune, next_logits) if settings.penalty.shrink else prune


# ---------------------------------------------------------------- the command


@dataclass(frozen=True, kw_only=True)
class Command(shell.RunCommand):
    """Train a language model that learns its own size (Intrinsic Sparse Structures)."""

    settings: tyro.conf.OmitArgPrefixes[Settings] = field(default_factory=Settings)
    preset: tyro.extras.literal_type_from_choices(PRESETS) | None = None  # pyright: ignore[reportInvalidTypeForm]
    """Preset that gives the values of all settings without a flag; small if not given, rhn-small with an rhn."""
    split: Literal["valid", "test"] = "test"
    """The text that --eval reads."""


def parse(arguments: list[str] | None) -> Command:
    """Parse the command line. Raises ValueError or InvalidSettings for bad input."""
    return shell.parse(Command, arguments, PRESETS, quick_preset, ("out", "resume", "eval"))


def quick_preset(command: Command) -> str:
    """Return the preset of the quick run of a model."""
    return QUICK[command.settings.network.model]


def new_recorder(settings: Settings) -> Recorder:
    """Return a recorder of perplexity, the exponential of the mean loss of a word."""
    steps = settings.schedule.steps

    def measure(loss_sum: float, count: int) -> dict[str, float]:
        return {"train_perplexity": math.exp(min(loss_sum / (count * steps), 700.0))}

    return Recorder(measure, "words", settings.schedule.batch * steps)


def start(command: Command, stack: ExitStack) -> tuple[Settings, RunState, Recorder, Corpus, Path]:
    """Begin a run: load its corpus, draw or load its initial weights, make and lock its folder."""
    settings = command.settings
    corpus = load_corpus(settings)
    settings = shell.with_full_paths(settings.replaced(corpus=corpus.choice), "data_dir", "init")
    schedule, model = settings.schedule, LANGUAGE_MODELS[settings.network.model]
    for text in (corpus.train, corpus.valid):  # a text that is too short is refused before anything is written
        windows(text, schedule.batch, schedule.steps)
    params, layout, rng = init_params(model, model_config(settings, corpus), settings.run)
    if settings.run.init:
        params = load_initial_params(Path(settings.run.init), layout, corpus, settings.run.dtype)
    folder = new_folder(command.out, command.preset or quick_preset(command))
    stack.enter_context(run_lock(folder))
    state = model.state_layout(layout, schedule.batch).allocate(settings.run.dtype)
    run = RunState(params, state, rng, all_alive(layout, model.spaces(layout.axes)))
    return settings, run, new_recorder(settings), corpus, folder


def resume(command: Command, stack: ExitStack) -> tuple[Settings, RunState, Recorder, Corpus, Path]:
    """Resume a run from its last checkpoint; only --epochs, --threads and --data-dir may differ."""
    folder, settings = command.resume or Path(), command.settings
    recorder, schedule = new_recorder(settings), settings.schedule
    may_change = {"epochs"} if schedule.schedule == "decay" else set()  # thirds of all epochs make the staircase
    run, about = shell.reopen(folder, settings, recorder, stack, may_change)
    corpus = load_corpus(settings)
    shell.check_corpus(folder, corpus, about["corpus"])
    model = LANGUAGE_MODELS[settings.network.model]
    layout = current_layout(run, model.layout(model_config(settings, corpus)))
    model.state_layout(layout, schedule.batch).check(run.state)
    return settings, run, recorder, corpus, folder


def body(arguments: list[str] | None) -> None:
    """Parse the command line, then evaluate a model or train one."""
    command = parse(arguments)
    with parallel.limited(command.settings.run.threads), ExitStack() as stack:
        if command.eval:
            evaluate(command.eval, command.settings, command.split)
            return
        settings, run, recorder, corpus, folder = (resume if command.resume else start)(command, stack)
        model = LANGUAGE_MODELS[settings.network.model]
        layout = model.layout(model_config(settings, corpus))
        console.header(settings, corpus, layout, folder)
        with shell.located(run, folder, settings.schedule.epochs):
            train(settings, run, recorder, corpus, folder)
            if settings.schedule.selection == "best":
                best, _ = load_run(folder / BEST)
                run = replace(run, params=best.params, alive=best.alive)
            full = full_params(run, layout)
            finish(settings, full, layout, recorder, corpus, folder)
            draw(folder, recorder, full, layout)


def draw(folder: Path, recorder: Recorder, full: Params, layout: Layout) -> None:
    """Draw the run's figures."""
    from issref.report import draw_run  # matplotlib is slow to load

    groups = iss_groups(layout, recorder.rows[-1]["alive"])
    draw_run(folder, recorder.rows, full, layout, groups.split(group_norms(full, groups)))
    log_files(folder)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code, as `training.command.run_command` does."""
    return shell.run_command(partial(body, arguments))


if __name__ == "__main__":
    sys.exit(main())
