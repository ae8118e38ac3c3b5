"""Train BiDAF on SQuAD to learn its own size, and keep the compact model.

python -m issref.train_squad --small                 a quick run of minutes: 44 articles, GloVe of 50 numbers
python -m issref.train_squad --preset paper          the paper's sizes: 6 GB of memory, 2 GB at --batch 20
python -m issref.train_squad --resume RUN            resume a run from its last checkpoint
python -m issref.train_squad --eval RUN              EM and F1 of a run's compact model, and predictions.json
python -m issref.train_squad --predict RUN --question "Who ...?" --context-file TEXT

Files that are in no local folder are downloaded once: SQuAD, 35 MB, and all of GloVe 6B, 862 MB, of which both
presets read one of four files. It is read out of the zip file and checked by each command; --glove
glove.6B.50d.txt is quicker.
"""

import math
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from issref.data.squad_batches import Batch, batch, buckets
from issref.data.squad_corpus import Corpus
from issref.iss.groups import group_norms, iss_groups
from issref.iss.layout import Layout, Params
from issref.kernels import parallel
from issref.models import bidaf
from issref.models.bidaf import Text
from issref.squad import console
from issref.squad.evaluation import (
    answer,
    evaluate,
    evaluated,
    finish,
    load_corpus,
    model_config,
    predict,
    validation_sample,
)
from issref.squad.settings import PRESETS, SquadSettings
from issref.training import command as shell
from issref.training.checkpoint import part
from issref.training.console import log_files
from issref.training.models import init_params, load_initial_params
from issref.training.options import strengths
from issref.training.pruning import cut_out, draw_masks, zero_out
from issref.training.recorder import Prune, Recorder
from issref.training.runs import new_folder, run_lock, training_steps
from issref.training.state import RunState, all_alive, current_layout, full_params
from issref.training.updates import (
    Penalty,
    Update,
    adam_state,
    averaged,
    clipped_adam,
    dense_update,
    prox_update,
    released_update,
)

FILES = ("train", "dev", "glove", "data_dir", "init")


def train(settings: SquadSettings, run: RunState, recorder: Recorder, corpus: Corpus, folder: Path) -> None:
    """Train by Adam: loss, backward, update, prune; from the saved epoch and step on."""
    config, vectors = model_config(settings, corpus), corpus.vectors.astype(settings.run.dtype)
    layout, total = current_layout(run, bidaf.layout(config)), epochs(settings, corpus)
    penalty, sample = group_penalty(settings, layout), validation_sample(settings, corpus.dev)
    prune = choose_prune(settings, corpus, vectors, recorder)
    save = shell.saver(folder, run, recorder, settings, corpus)
    shell.begin_run(folder, settings, save)
    while run.epoch < total:
        batches, first_step = epoch_batches(settings, corpus, run.epoch), run.epoch * epoch_steps(settings, corpus)
        for numbers in training_steps(batches, run, recorder, save, total):
            texts, answers = encode(settings, corpus, numbers)
            masks = draw_masks(run, layout, bidaf, config, *(text.characters.shape for text in texts.values()))
            loss, backward = bidaf.loss(run.params, **texts, **answers, vectors=vectors, masks=masks)
            grads = backward(1.0)
            step = first_step + run.step
            rate, update = settings.schedule.rate(step), choose_update(settings, layout, step)
            run.params, run.optimizer_state, newly_dead = update(
                run.params, grads, rate, penalty, run.optimizer_state
            )
            if newly_dead.any():  # cut them out: every later step is cheaper
                layout = prune(run, layout, penalty.groups.split(~newly_dead))
                penalty = group_penalty(settings, layout)
            recorder.record(run, loss, penalty.groups)
        save()
        average = part(run.optimizer_state, "average")
        exact_match, f1 = evaluated(predict(average, sample, vectors, corpus.code), sample)
        rate = settings.schedule.rate(first_step + run.step - 1)
        recorder.end_epoch(run, rate, valid_em=exact_match, valid_f1=f1)
        shell.end_epoch(run, recorder, folder, save, total)


def encode(
    settings: SquadSettings, corpus: Corpus, numbers: np.ndarray
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the texts of some training questions as ids, and the first and last word of their answers."""
    pack: Batch = batch([corpus.train[n] for n in numbers], corpus.code, settings.data.context_limit)
    texts = {"context": Text(*pack.context), "question": Text(*pack.question)}
    return texts, {"starts": pack.starts, "ends": pack.ends}


def group_penalty(settings: SquadSettings, layout: Layout) -> Penalty:
    """Return the groups of the layout, and the strength of each group."""
    groups = iss_groups(layout, bidaf.spaces(layout.axes))
    return Penalty(groups, groups.spread(strengths(settings.penalty.strength, list(groups.first))))


def choose_update(settings: SquadSettings, layout: Layout, step: int) -> Update:
    """Return the update rule of a step, counted from 0 over all epochs."""
    penalty, descend = settings.penalty, clipped_adam(settings.schedule.clip)
    rules = {"prox": prox_update, "dense": dense_update}
    rules["released"] = partial(released_update, threshold=penalty.threshold, thresholded=layout.axes)
    return averaged(rules[penalty.method if penalty.acts(step) else "dense"](descend), settings.schedule.average)


def choose_prune(settings: SquadSettings, corpus: Corpus, vectors: np.ndarray, recorder: Recorder) -> Prune:
    """Return what becomes of dead components: cut out, outputs compared before and after, or kept as zeros."""

    def prune(run: RunState, layout: Layout, alive) -> Layout:
        rule = cut_out if settings.penalty.shrink else zero_out
        return rule(run, layout, alive, Layout({}, layout.sizes))  # no state is carried from batch to batch

    def logits(run: RunState) -> np.ndarray:
        texts, _ = encode(settings, corpus, epoch_batches(settings, corpus, run.epoch)[run.step])
        return np.array(bidaf.logits(run.params, **texts, vectors=vectors)[0])

    return recorder.compared(prune, logits) if settings.penalty.shrink else prune


def epoch_steps(settings: SquadSettings, corpus: Corpus) -> int:
    """Return the number of batches in a whole epoch."""
    return math.ceil(len(corpus.train) / settings.schedule.batch)


def epochs(settings: SquadSettings, corpus: Corpus) -> int:
    """Return the number of epochs, the last of which may be incomplete."""
    return math.ceil(settings.schedule.steps / epoch_steps(settings, corpus))


def epoch_batches(settings: SquadSettings, corpus: Corpus, epoch: int) -> list[np.ndarray]:
    """Return the batches of an epoch, as numbers of questions, from a random stream of the epoch's own."""
    lengths = np.array([min(len(each.context), settings.data.context_limit) for each in corpus.train])
    batches = buckets(lengths, settings.schedule.batch, np.random.default_rng((settings.run.seed, epoch)))
    return batches[: settings.schedule.steps - epoch * len(batches)]


# ---------------------------------------------------------------- the command


@dataclass(frozen=True, kw_only=True)
class Command(shell.RunCommand):
    """Train BiDAF on SQuAD to learn its own size (Intrinsic Sparse Structures).

    --preset paper needs about 6 GB of memory for its batches of 60, and about 2 GB with --batch 20. Files that are
    neither in --data-dir nor named are downloaded once: SQuAD, 35 MB, and GloVe 6B, 862 MB."""

    settings: tyro.conf.OmitArgPrefixes[SquadSettings] = field(default_factory=SquadSettings)
    preset: tyro.extras.literal_type_from_choices(PRESETS) | None = None  # pyright: ignore[reportInvalidTypeForm]
    """Preset that gives the values of all settings without a flag; small if not given."""
    predict: Path | None = None
    """Answer --question from --context-file with the compact model of the run in this folder."""
    question: str = ""
    """The question for --predict."""
    context_file: Path | None = None
    """The text for --predict, in UTF-8."""


def parse(arguments: list[str] | None) -> Command:
    """Parse the command line. Raises ValueError or InvalidSettings for bad input."""
    command = shell.parse(
        Command, arguments, PRESETS, lambda command: "small", ("out", "resume", "eval", "predict")
    )
    if command.predict and command.context_file is None:
        raise ValueError("--predict: expected --question and --context-file, got no --context-file")
    return command


def new_recorder(settings: SquadSettings) -> Recorder:
    """Return a recorder of the training loss."""

    def measure(loss_sum: float, count: int) -> dict[str, float]:
        return {"train_loss": loss_sum / count}

    return Recorder(measure, "questions", settings.schedule.batch)


def start(command: Command, stack: ExitStack) -> tuple[SquadSettings, RunState, Recorder, Corpus, Path]:
    """Begin a run: load its corpus, draw or load its initial weights, make and lock its folder."""
    settings = shell.with_full_paths(command.settings, *FILES)
    corpus = load_corpus(settings)
    params, layout, rng = init_params(bidaf, model_config(settings, corpus), settings.run)
    if settings.run.init:
        params = load_initial_params(Path(settings.run.init), layout, corpus, settings.run.dtype)
    folder = new_folder(command.out, f"squad-{command.preset or 'small'}")
    stack.enter_context(run_lock(folder))
    run = RunState(params, {}, rng, all_alive(layout, bidaf.spaces(layout.axes)), adam_state(params))
    return settings, run, new_recorder(settings), corpus, folder


def resume(command: Command, stack: ExitStack) -> tuple[SquadSettings, RunState, Recorder, Corpus, Path]:
    """Resume a run from its last checkpoint; only --threads and --data-dir may differ."""
    folder, settings = command.resume or Path(), shell.with_full_paths(command.settings, *FILES)
    recorder = new_recorder(settings)
    run, about = shell.reopen(folder, settings, recorder, stack, set())
    corpus = load_corpus(settings)
    shell.check_corpus(folder, corpus, about["corpus"])
    layout = current_layout(run, bidaf.layout(model_config(settings, corpus)))
    for moment in ("first", "second", "average"):
        layout.check(part(run.optimizer_state, moment))
    return settings, run, recorder, corpus, folder


def body(arguments: list[str] | None) -> None:
    """Parse the command line, then evaluate a model, answer a question, or train."""
    command = parse(arguments)
    settings = command.settings
    with parallel.limited(settings.run.threads), ExitStack() as stack:
        if command.eval:
            evaluate(command.eval, settings)
            return
        if command.predict and command.context_file:
            answer(command.predict, settings, command.question, command.context_file)
            return
        settings, run, recorder, corpus, folder = (resume if command.resume else start)(command, stack)
        layout = bidaf.layout(model_config(settings, corpus))
        console.header(settings, corpus, layout, folder)
        with shell.located(run, folder, epochs(settings, corpus)):
            train(settings, run, recorder, corpus, folder)
            run.params = part(run.optimizer_state, "average")
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
