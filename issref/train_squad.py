"""Train BiDAF on SQuAD to learn its own size, and keep the compact model.

python -m issref.train_squad --small                 a quick run of minutes: 44 articles, GloVe of 50 numbers
python -m issref.train_squad --preset paper          the paper's sizes: 6 GB of memory, 2 GB at --batch 20
python -m issref.train_squad --resume RUN            resume a run from its last checkpoint
python -m issref.train_squad --eval RUN              EM and F1 of a run's compact model, and predictions.json
python -m issref.train_squad --predict RUN --question "Who ...?" --context-file TEXT

Missing files are downloaded once: SQuAD (35 MB) and GloVe 6B (862 MB, a zip of four files, of which a preset
reads one). Each command reads that file from the zip and checks it; an unpacked one, --glove glove.6B.50d.txt, is
quicker.
"""

import math
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from issref.data.squad_batches import Batch, batch, buckets
from issref.data.squad_corpus import Corpus
from issref.iss.groups import iss_groups
from issref.iss.layout import Layout
from issref.models import bidaf
from issref.models.bidaf import Text
from issref.squad import console
from issref.squad.evaluation import (
    answer,
    evaluate,
    evaluated,
    final_params,
    finish,
    load_corpus,
    loss_recorder,
    model_config,
    model_layout,
    predict,
    validation_sample,
)
from issref.squad.settings import PRESETS, SquadSettings
from issref.training import command as shell
from issref.training.checkpoint import strip_prefix
from issref.training.options import strengths
from issref.training.pruning import cut_out, draw_masks, zero_out
from issref.training.recorder import Prune, Recorder
from issref.training.runs import folder_for, training_steps
from issref.training.state import RunState, current_layout, full_params
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
    layout, total = current_layout(run, model_layout(settings, corpus)), epochs(settings, corpus)
    penalty, sample = group_penalty(settings, layout), validation_sample(settings, corpus.dev)
    prune = choose_prune(settings, corpus, vectors, recorder)
    save = shell.begin_saving(folder, run, recorder, settings, corpus)
    while run.epoch < total:
        batches, first_step = epoch_batches(settings, corpus, run.epoch), run.epoch * epoch_steps(settings, corpus)
        for numbers in training_steps(batches, run, recorder, save, total):
            texts, answers = encode(settings, corpus, numbers)
            masks = draw_masks(run, layout, bidaf, config, *(text.characters.shape for text in texts.values()))
            loss, backward = bidaf.loss(run.params, vectors=vectors, masks=masks, **texts, **answers)
            grads = backward(1.0)
            step = first_step + run.step
            rate, update = settings.schedule.rate(step), choose_update(settings, layout, step)
            run.params, run.optimizer_state, died = update(run.params, grads, rate, penalty, run.optimizer_state)
            if died.any():  # cut them out: every later step is cheaper
                layout = prune(run, layout, penalty.groups.split(~died))
                penalty = group_penalty(settings, layout)
            recorder.record(run, loss, penalty.groups, layout)
        average = strip_prefix(run.optimizer_state, "average")
        exact_match, f1 = evaluated(predict(average, sample, vectors, corpus.code), sample)
        rate = settings.schedule.rate(first_step + run.step - 1)
        recorder.end_epoch(run, rate, valid_em=exact_match, valid_f1=f1)
        shell.next_epoch(run, recorder, folder, save, total)


def encode(settings: SquadSettings, corpus: Corpus, numbers: np.ndarray) -> tuple[dict[str, Any], dict[str, Any]]:
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
    thresholded = bidaf.released_thresholded(layout.axes)
    rules["released"] = partial(released_update, threshold=penalty.threshold, thresholded=thresholded)
    return averaged(rules[penalty.method if penalty.acts(step) else "dense"](descend), settings.schedule.average)


def choose_prune(settings: SquadSettings, corpus: Corpus, vectors: np.ndarray, recorder: Recorder) -> Prune:
    """Return the rule for dead components: cut out, recording how much the batch's logits change; or zeroed."""

    def batch_logits(run: RunState) -> np.ndarray:
        texts, _ = encode(settings, corpus, epoch_batches(settings, corpus, run.epoch)[run.step])
        return np.array(bidaf.logits(run.params, **texts, vectors=vectors)[0])

    rule = partial(cut_out if settings.penalty.shrink else zero_out, state_layout=no_state)
    return recorder.compared(rule, batch_logits) if settings.penalty.shrink else rule


def no_state(layout: Layout) -> Layout:
    """Return the layout of the carried state: BiDAF carries none from batch to batch."""
    return Layout({}, layout.sizes)


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

    settings: Annotated[tyro.conf.OmitArgPrefixes[SquadSettings], tyro.conf.arg(name="")] = field(
        default_factory=SquadSettings
    )
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
    command = shell.parse(Command, arguments, PRESETS, lambda *_: "small", ("out", "resume", "eval", "predict"))
    if command.predict and command.context_file is None:
        raise ValueError("--predict: expected --question and --context-file, got no --context-file")
    if not command.predict and (command.question or command.context_file):
        raise ValueError("--question and --context-file: expected --predict too, got none")
    return command


def start(command: Command, stack: ExitStack) -> tuple[SquadSettings, RunState, Recorder, Corpus, Path]:
    """Begin a run: load questions and vectors, draw or load the weights, zero Adam's moments."""
    settings = shell.with_full_paths(command.settings, *FILES)
    corpus, folder = load_corpus(settings), folder_for(command.out, f"squad-{command.preset or 'small'}")
    run, _ = shell.start_run(settings, bidaf, model_config(settings, corpus), corpus, folder, stack)
    run.optimizer_state = adam_state(run.params)
    return settings, run, loss_recorder(settings), corpus, folder


def resume(command: Command, stack: ExitStack) -> tuple[SquadSettings, RunState, Recorder, Corpus, Path]:
    """Resume a run from its last checkpoint; only --threads and the places of the files may differ."""
    folder, settings = command.resume or Path(), shell.with_full_paths(command.settings, *FILES)
    recorder = loss_recorder(settings)
    run, sha256 = shell.resume_run(folder, settings, recorder, stack, set())
    corpus = load_corpus(settings)
    shell.check_corpus(corpus, sha256)
    layout = current_layout(run, model_layout(settings, corpus))
    for copy in ("first", "second", "average"):
        layout.check(strip_prefix(run.optimizer_state, copy))
    return settings, run, recorder, corpus, folder


def execute(command: Command) -> None:
    """Score a model; answer a question; or begin or resume a run, train it to its end, and write its result."""
    if command.eval:
        evaluate(command.eval, command.settings)
    elif command.predict and command.context_file:
        answer(command.predict, command.settings, command.question, command.context_file)
    else:
        run_training(command)


def run_training(command: Command) -> None:
    """Begin or resume a run, train it to its end, and write the result of its averaged weights."""
    from issref import report  # matplotlib is slow to load

    begin = resume if command.resume else start
    with ExitStack() as stack:
        settings, run, recorder, corpus, folder = begin(command, stack)
        layout = model_layout(settings, corpus)
        console.header(settings, corpus, layout, folder)
        with shell.reported(run, folder, epochs(settings, corpus)):
            train(settings, run, recorder, corpus, folder)
            average = replace(run, params=strip_prefix(run.optimizer_state, "average"))
            full = final_params(settings, full_params(average, layout))
            report.draw_run(folder, recorder.rows, full, layout)
            finish(settings, full, layout, recorder, corpus, folder)  # result.json, the last file, marks the end


def main(arguments: list[str] | None = None) -> int:
    """Run the command. Exit codes: 0, 1 for a failure, 2 for bad input, 130 after Ctrl-C."""
    return shell.run_command(partial(parse, arguments), execute)


if __name__ == "__main__":
    sys.exit(main())
