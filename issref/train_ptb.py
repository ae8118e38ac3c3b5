"""Train a recurrent language model that learns its own size, and keep the compact model.

python -m issref.train_ptb --small                   a quick run of minutes: watch components die
python -m issref.train_ptb --small --model rhn       the same with a recurrent highway network
python -m issref.train_ptb --preset zaremba-small    the whole schedule; every setting can be overridden
python -m issref.train_ptb --resume RUN              resume a run from its last checkpoint
python -m issref.train_ptb --eval RUN                perplexity of a run's compact model
"""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from issref.data.corpus import Corpus, windows
from issref.iss.groups import iss_groups
from issref.iss.layout import Layout
from issref.models import LANGUAGE_MODELS, LanguageModel
from issref.ptb import console
from issref.ptb.evaluation import (
    choose_corpus,
    evaluate,
    finish,
    load_corpus,
    model_config,
    perplexity,
    perplexity_recorder,
)
from issref.ptb.settings import EMBEDDED, PRESETS, QUICK, Settings
from issref.training import command as shell
from issref.training.options import strengths
from issref.training.pruning import cut_out, draw_masks, zero_out
from issref.training.recorder import Prune, Recorder
from issref.training.runs import BEST, folder_for, load_best, save_run, training_steps
from issref.training.state import RunState, current_layout, full_params
from issref.training.updates import (
    Penalty,
    Update,
    clipped_sgd,
    decayed,
    dense_update,
    l1_update,
    prox_update,
    released_update,
)


def train(settings: Settings, run: RunState, recorder: Recorder, corpus: Corpus, folder: Path) -> None:
    """Train by truncated backpropagation through time, from the saved step: loss, backward, update, prune."""
    model, schedule = LANGUAGE_MODELS[settings.network.model], settings.schedule
    config, batches = model_config(settings, corpus), windows(corpus.train, schedule.batch, schedule.steps)
    layout = current_layout(run, model.layout(config))
    prune = choose_prune(settings, model, batches, recorder)
    save = shell.begin_saving(folder, run, recorder, settings, corpus)
    while run.epoch < schedule.epochs:
        update = choose_update(settings, model, layout, run.epoch)
        penalty = group_penalty(settings, model, layout, run.epoch)
        for tokens, targets in training_steps(batches, run, recorder, save, schedule.epochs):
            rate = schedule.rate(run.epoch + run.step / len(batches))
            masks = draw_masks(run, layout, model, config, schedule.steps, schedule.batch)
            (loss, run.state), backward = model.loss(
                run.params, run.state, tokens=tokens, targets=targets, masks=masks
            )
            grads, _ = backward(1.0)
            run.params, run.optimizer_state, died = update(run.params, grads, rate, penalty, run.optimizer_state)
            if died.any():  # cut them out: every later step is cheaper
                layout = prune(run, layout, penalty.groups.split(~died))
                penalty = group_penalty(settings, model, layout, run.epoch)
            recorder.record(run, loss, penalty.groups, layout)
        valid = perplexity(model, run.params, corpus.valid, schedule.batch, schedule.steps)
        console.note_divergence(valid, len(corpus.words))
        if schedule.selection == "best" and recorder.is_lowest("valid_perplexity", valid):
            save_run(folder / BEST, run, recorder)
        recorder.end_epoch(run, schedule.rate(run.epoch), valid_perplexity=valid)
        run.state = model.state_layout(layout, schedule.batch).allocate(settings.run.dtype)
        shell.next_epoch(run, recorder, folder, save, schedule.epochs)


def group_penalty(settings: Settings, model: LanguageModel, layout: Layout, epoch: int) -> Penalty:
    """Return the groups of the layout, and the strength of each group in an epoch."""
    groups, penalty = iss_groups(layout, model.spaces(layout.axes)), settings.penalty
    strength = penalty.strength if penalty.method in ("prox", "released") else (0.0,)  # the others read none
    return Penalty(groups, groups.spread(strengths(strength, list(groups.first))) * penalty.scale(epoch))


def choose_update(settings: Settings, model: LanguageModel, layout: Layout, epoch: int) -> Update:
    """Return the update rule of an epoch."""
    penalty, scale = settings.penalty, settings.penalty.scale(epoch)
    descend = clipped_sgd(settings.schedule.clip)
    match penalty.method if scale else "dense":
        case "prox":
            update = prox_update(descend)
        case "released":
            update = released_update(descend, penalty.threshold, model.released_thresholded(layout.axes))
        case "l1":
            update = l1_update(descend, penalty.l1_strength * scale, penalty.threshold, model.EMBEDDING)
        case _:
            update = dense_update(descend)
    return decayed(update, settings.schedule.weight_decay)


def choose_prune(settings: Settings, model: LanguageModel, batches: Sequence[Any], recorder: Recorder) -> Prune:
    """Return the rule for dead components: cut out, recording how much logits change; zeroed with --no-shrink."""

    def next_logits(run: RunState) -> np.ndarray:
        tokens, _ = batches[(run.step + 1) % len(batches)]
        return model.logits(run.params, run.state, tokens=tokens)[0][0]

    state_layout = partial(model.state_layout, batch=settings.schedule.batch)
    if not settings.penalty.shrink:
        return partial(zero_out, state_layout=state_layout)
    return recorder.compared(partial(cut_out, state_layout=state_layout), next_logits)


# ---------------------------------------------------------------- the command


@dataclass(frozen=True, kw_only=True)
class Command(shell.RunCommand):
    """Train a language model that learns its own size (Intrinsic Sparse Structures)."""

    settings: Annotated[tyro.conf.OmitArgPrefixes[Settings], tyro.conf.arg(name="")] = field(
        default_factory=Settings
    )
    preset: tyro.extras.literal_type_from_choices(PRESETS) | None = None  # pyright: ignore[reportInvalidTypeForm]
    """Preset that gives the values of all settings without a flag; if not given, the model's quick run."""
    split: Literal["valid", "test"] = "test"
    """The text that --eval reads."""


def parse(arguments: list[str] | None) -> Command:
    """Parse the command line. Raises ValueError or InvalidSettings for bad input."""
    return shell.parse(Command, arguments, PRESETS, quick_preset, ("out", "resume", "eval"))


def quick_preset(command: Command, look: bool = False) -> str:
    """Return the preset of a model's quick run on its text; `auto` is PTB unless we look whether it is there."""
    name, settings = QUICK[command.settings.network.model], command.settings
    if name + EMBEDDED not in PRESETS:
        return name
    return name + EMBEDDED * ((choose_corpus(settings) if look else settings.data.corpus) == "embedded")


def start(command: Command, stack: ExitStack) -> tuple[Settings, RunState, Recorder, Corpus, Path]:
    """Begin a run: load the text, draw or load the weights, zero the carried state."""
    corpus = load_corpus(command.settings)
    settings = shell.with_full_paths(command.settings.replaced(corpus=corpus.choice), "data_dir", "init")
    model, schedule = LANGUAGE_MODELS[settings.network.model], settings.schedule
    for text in (corpus.train, corpus.valid):  # a text that is too short is refused before anything is written
        windows(text, schedule.batch, schedule.steps)
    folder = folder_for(command.out, command.preset or quick_preset(command))
    run, layout = shell.start_run(settings, model, model_config(settings, corpus), corpus, folder, stack)
    run.state = model.state_layout(layout, schedule.batch).allocate(settings.run.dtype)
    return settings, run, perplexity_recorder(settings), corpus, folder


def resume(command: Command, stack: ExitStack) -> tuple[Settings, RunState, Recorder, Corpus, Path]:
    """Resume a run from its last checkpoint. Its text may be in another place; --selection, --threads and,
    with --schedule decay, --epochs may differ."""
    folder, settings = command.resume or Path(), command.settings
    recorder, schedule = perplexity_recorder(settings), settings.schedule
    may_change = {"selection", *(["epochs"] if schedule.schedule == "decay" else [])}  # the staircase has thirds
    run, sha256 = shell.resume_run(folder, settings, recorder, stack, may_change)
    if schedule.epochs < (begun := run.epoch + bool(run.step)):
        raise ValueError(f"--epochs: expected at least the {begun} that the run has begun, got {schedule.epochs}")
    shell.check_corpus(corpus := load_corpus(settings), sha256)
    settings = shell.with_full_paths(settings.replaced(corpus=corpus.choice), "data_dir", "init")
    model = LANGUAGE_MODELS[settings.network.model]
    full = model.layout(model_config(settings, corpus))
    model.state_layout(current_layout(run, full), schedule.batch).check(run.state)
    if schedule.selection == "best" and recorder.rows:
        check_best(folder, recorder, full)
    return settings, run, recorder, corpus, folder


def check_best(folder: Path, recorder: Recorder, layout: Layout) -> None:
    """Raise ValueError unless the weights of the best epoch so far can be read, and fit the layout."""
    try:
        current_layout(load_best(folder, recorder, "valid_perplexity"), layout)
    except ValueError as error:
        raise ValueError(f"{error}; --selection last resumes the run without these weights") from error


def execute(command: Command) -> None:
    """Evaluate a model; or begin or resume a run, train it to its end, and write its result."""
    if command.eval:
        evaluate(command.eval, command.settings, command.split)
        return
    from issref.report import draw_run  # matplotlib is slow to load

    with ExitStack() as stack:
        settings, run, recorder, corpus, folder = (resume if command.resume else start)(command, stack)
        layout = LANGUAGE_MODELS[settings.network.model].layout(model_config(settings, corpus))
        console.header(settings, corpus, layout, folder)
        with shell.reported(run, folder, settings.schedule.epochs):
            train(settings, run, recorder, corpus, folder)
            if settings.schedule.selection == "best":
                best = load_best(folder, recorder, "valid_perplexity")
                run = replace(run, params=best.params, alive=best.alive)
            full = full_params(run, layout)
            draw_run(folder, recorder.rows, full, layout)
            finish(settings, full, layout, recorder, corpus, folder)  # result.json, the last file, marks the end


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 1 for a failure, 2 for bad input, 130 after Ctrl-C."""
    return shell.run_command(partial(parse, arguments), execute)


if __name__ == "__main__":
    sys.exit(main())
