"""Train a reader of questions and texts, BiDAF on SQuAD, that learns its own size, and keep the smaller one.

python -m issref.train_squad --small                 a tour of minutes: 44 articles, GloVe of 50 numbers
python -m issref.train_squad --preset paper          the paper's sizes: 6 GB of memory, 2 GB at --batch 20
python -m issref.train_squad --resume RUN            go on from a run's last checkpoint
python -m issref.train_squad --eval RUN              EM and F1 of a run's compact model, and predictions.json
python -m issref.train_squad --predict RUN --question "Who ...?" --context-file TEXT

What no folder has is downloaded once: SQuAD, 35 MB, and all of GloVe 6B, 862 MB, in which both presets read one of
four files. Out of the zip file it is read and checked anew by each command; --glove glove.6B.50d.txt is quicker.
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

from issref.data.squad_batches import batch, buckets
from issref.data.squad_corpus import Corpus
from issref.iss.groups import iss_groups
from issref.iss.layout import Layout
from issref.kernels import parallel
from issref.models import bidaf
from issref.models.bidaf import Text
from issref.ptb import console as show
from issref.ptb.evaluation import untrained, weights_of
from issref.squad import console as squad_show
from issref.squad.evaluation import answers, evaluate, finish, load_corpus, model_config, predict, sample, scored
from issref.squad.settings import PRESETS, SquadSettings
from issref.training.checkpoint import join, part
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
from issref.training.updates import adam_state, adam_update

PROGRAM = "python -m issref.train_squad"


@dataclass(frozen=True)
class Command:
    """Train a reader, BiDAF on SQuAD, that learns its own size (Intrinsic Sparse Structures).

    --preset paper needs about 6 GB of memory for its batches of 60, and about 2 GB with --batch 20. What neither
    --data-dir nor the files named have is downloaded once: SQuAD, 35 MB, and GloVe 6B, 862 MB."""

    settings: tyro.conf.OmitArgPrefixes[SquadSettings] = field(default_factory=SquadSettings)
    preset: Literal["small", "paper"] | None = None
    """Where the settings that no flag gives come from; small if not given."""
    small: tyro.conf.FlagCreatePairsOff[bool] = False
    """The tour: the preset that is taken if none is given."""
    out: Path | None = None
    """Folder to write to; runs/<date>-squad-<preset> if not given."""
    resume: Path | None = None
    """Go on with the run in this folder, from its last checkpoint."""
    eval: Path | None = None
    """Score the compact model of the run in this folder on all dev questions, and write predictions.json."""
    predict: Path | None = None
    """Answer --question from --context-file with the compact model of the run in this folder."""
    question: str = ""
    """The question for --predict."""
    context_file: Path | None = None
    """The text for --predict, in UTF-8."""


def train(settings: SquadSettings, at: Progress, corpus: Corpus, layout: Layout, folder: Path) -> None:
    """Forward, backward, one update of the method; epoch by epoch, from wherever `at` stands.

    `layout` is that of the params in hand; it shrinks with them.
    """
    config, vectors = model_config(settings, corpus), corpus.vectors.astype(settings.dtype)
    groups, judges = iss_groups(layout, bidaf.spaces(layout.axes)), sample(settings, corpus.dev)
    started, due = time.perf_counter() - at.seconds, Throttle(seconds=120)

    def save():
        at.save_in(folder, settings=settings.to_dict(), corpus=corpus.sha256)

    save()
    write_json(folder / "config.json", settings.to_dict())  # only now is there something to go on with
    while at.epoch < epochs(settings, corpus):
        batches, done = epoch_of(settings, corpus, at.epoch), at.epoch * steps_of_epoch(settings, corpus)
        with (
            finish_the_step() as interrupted,
            squad_show.progress_bar(settings, at, epochs(settings, corpus), len(batches)) as bar,
        ):
            while at.step < len(batches):
                pack = batch([corpus.train[n] for n in batches[at.step]], corpus.code, settings.context_limit)
                context, question = Text(*pack.context), Text(*pack.question)
                texts = {"context": context, "question": question, "vectors": vectors}
                shapes = context.characters.shape, question.characters.shape
                masks = draw_masks(settings.shrink, at, layout, bidaf, config, *shapes)
                cost, backward = bidaf.loss(at.params, **texts, starts=pack.starts, ends=pack.ends, masks=masks)
                if not math.isfinite(cost):
                    raise FloatingPointError(f"the loss is {cost}")
                rate = settings.rate(done + at.step)
                living = adam_update(settings, at, backward(1.0), rate, done + at.step + 1, groups)
                if living:
                    layout = remove_dead(
                        settings.shrink,
                        at,
                        layout,
                        adam_state(layout),
                        living,
                        outputs=lambda texts=texts: np.array(bidaf.logits(at.params, **texts)[0]),
                    )
                    groups = iss_groups(layout, bidaf.spaces(layout.axes))
                at.cost, at.step = at.cost + float(cost), at.step + 1
                at.seconds = time.perf_counter() - started
                squad_show.step(settings, at, groups, bar, len(batches))
                if interrupted or due():
                    save()
                if interrupted:
                    raise Interrupted(interrupted[0])
        save()
        found = answers(part(at.state, "average"), judges, vectors, corpus.code)
        squad_show.epoch(at, epochs(settings, corpus), settings.rate(done + at.step - 1), scored(found, judges))
        at.rows[-1]["resident_mb"] = resident_mb()
        give_back_freed_memory()
        at.epoch, at.step, at.cost, at.trace, at.cuts = at.epoch + 1, 0, 0.0, [], []
        write_json(folder / "metrics.jsonl", at.rows)
        save()


def steps_of_epoch(settings: SquadSettings, corpus: Corpus) -> int:
    """Batches in a whole epoch."""
    return math.ceil(len(corpus.train) / settings.batch)


def epochs(settings: SquadSettings, corpus: Corpus) -> int:
    """Epochs begun in all the steps."""
    return math.ceil(settings.steps / steps_of_epoch(settings, corpus))


def epoch_of(settings: SquadSettings, corpus: Corpus, epoch: int) -> list[np.ndarray]:
    """The batches of an epoch, as numbers of questions: of its own random stream, so that --resume finds them."""
    lengths = np.array([min(len(each.context), settings.context_limit) for each in corpus.train])
    batches = buckets(lengths, settings.batch, np.random.default_rng((settings.seed, epoch)))
    return batches[: settings.steps - epoch * len(batches)]


# ---------------------------------------------------------------- the command


def start(command: Command, held: ExitStack) -> tuple[SquadSettings, Progress, Corpus, Layout, Path]:
    """A new run: its questions, its folder, which is ours while `held`, its first weights."""
    settings = with_full_paths(command.settings)
    corpus = load_corpus(settings)
    params, layout, rng = untrained(bidaf, model_config(settings, corpus), settings)
    if settings.init:
        params = weights_of(Path(settings.init), layout, corpus, settings.dtype)
    folder = new_folder(command.out, f"squad-{command.preset or 'small'}")
    held.enter_context(alone_in(folder))
    state = adam_state(layout).allocate(settings.dtype) | join(average=params)
    living = {space: np.ones(layout.sizes[space], bool) for space in bidaf.spaces(layout.axes)}
    return settings, Progress(params, state, rng, living), corpus, layout, folder


def with_full_paths(settings: SquadSettings) -> SquadSettings:
    """The settings with every file and folder by its full path, so that --resume finds them from anywhere."""
    named = {name: getattr(settings, name) for name in ("train", "dev", "glove", "data_dir", "init")}
    return replace(settings, **{name: str(Path(path).resolve()) for name, path in named.items() if path})


def resume(command: Command, held: ExitStack) -> tuple[SquadSettings, Progress, Corpus, Layout, Path]:
    """The run in a folder, as its last checkpoint left it; only --threads and --data-dir may differ."""
    folder, settings = command.resume or Path(), with_full_paths(command.settings)
    held.enter_context(alone_in(folder))
    at, about = Progress.load_from(folder, show.say)
    if missing := {"settings", "corpus"} - about.keys():
        raise ValueError(f"{folder}: needs a checkpoint with its settings, found no {sorted(missing)}")
    if changed := SquadSettings.from_dict(about["settings"]).changed(settings) - {"threads", "data_dir"}:
        raise ValueError(f"--resume: needs the run's own settings, found other values for {sorted(changed)}")
    corpus = load_corpus(settings)
    if corpus.sha256 != about["corpus"]:
        raise ValueError(f"{folder}: needs the corpus with sha256 {about['corpus']}, found {corpus.sha256}")
    layout = bidaf.layout(model_config(settings, corpus))
    now = shrunk(settings.shrink, at, layout)
    now.check(at.params)
    adam_state(now).check(at.state)
    return settings, at, corpus, layout, folder


def parse(arguments: list[str] | None) -> Command:
    """The command line, read twice: what gives the defaults (preset, or the run in hand), then the rest."""
    first = tyro.cli(Command, args=arguments, prog=PROGRAM)
    if first.small and first.preset not in (None, "small"):
        raise ValueError(f"--small: is --preset small, found --preset {first.preset} beside it")
    if sum(one is not None for one in (first.out, first.resume, first.eval, first.predict)) > 1:
        raise ValueError("--out, --resume, --eval, --predict: needs one of them at most, found more")
    if first.predict and first.context_file is None:
        raise ValueError("--predict: needs --question and --context-file, found no --context-file")
    run = first.resume or first.eval or first.predict
    settings = SquadSettings.read(run / "config.json") if run else PRESETS[first.preset or "small"]
    command = tyro.cli(Command, args=arguments, prog=PROGRAM, default=Command(settings, first.preset))
    command.settings.check()
    return command


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 if all went well, 1 if training failed, 2 for bad input, 130 after Ctrl-C."""
    at, folder = None, None
    keep_freed_memory()
    try:
        command = parse(arguments)
        settings = command.settings
        with parallel.limited(settings.threads), ExitStack() as held:
            if command.eval:
                evaluate(command.eval, settings)
                return 0
            if command.predict:
                predict(command.predict, settings, command.question, command.context_file or Path())
                return 0
            settings, at, corpus, layout, folder = (resume if command.resume else start)(command, held)
            squad_show.header(settings, corpus, layout, folder)
            train(settings, at, corpus, shrunk(settings.shrink, at, layout), folder)
            averaged = replace(at, params=part(at.state, "average"))
            finish(settings, averaged, whole(settings.shrink, averaged, layout), corpus, layout, folder)
    except (Interrupted, KeyboardInterrupt):
        return show.failed(f"stopped; {show.way_back(folder)}", 130)
    except (ValueError, ArithmeticError, Failed, OSError, MemoryError) as error:
        if at is None:
            return show.failed(str(error), 2 if isinstance(error, ValueError) else 1)
        place = f"epoch {at.epoch + 1}, step {at.step + 1}: " if at.epoch < epochs(settings, corpus) else ""
        return show.failed(f"{place}{error}; {show.way_back(folder)}", 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
