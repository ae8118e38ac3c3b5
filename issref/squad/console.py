"""What a run of the reader shows on the terminal; the general part is that of `show`."""

from pathlib import Path
from typing import Any

from tqdm import tqdm

from issref.data.squad_corpus import Corpus
from issref.data.squad_score import Score
from issref.iss.groups import Groups
from issref.iss.layout import Layout
from issref.ptb.console import epoch_bar, introduce, method, say, trace
from issref.squad.settings import SquadSettings
from issref.training.state import Progress


def header(settings: SquadSettings, corpus: Corpus, layout: Layout, folder: Path) -> None:
    """What is about to run: model, questions, method, machine, place."""
    strength = () if settings.method == "dense" else settings.strength
    words = f"{len(corpus.words):,} learned words, {len(corpus.vectors):,} of GloVe, {settings.word_size} numbers"
    rate = f"rate {settings.learning_rate:g} to {settings.learning_rate * settings.final_rate:g}"
    lines = {
        "model": f"BiDAF of {settings.hidden_size} units a direction, {layout.parameters():,} parameters, {words}",
        "corpus": f"{corpus.name}: {len(corpus.train):,} / {len(corpus.dev):,} questions, from {corpus.source}",
        "sha256": corpus.sha256,
        "method": method(settings.method, strength, settings.penalty_steps, "step"),
        "steps": f"{settings.steps:,} of {settings.batch} questions, Adam, {rate}, seed {settings.seed}",
    }
    introduce(lines, settings.dtype, folder)


def progress_bar(settings: SquadSettings, at: Progress, epochs: int, steps: int) -> tqdm:
    """Questions of this epoch."""
    return epoch_bar(at, epochs, steps * settings.batch, at.step * settings.batch, " questions")


def step(settings: SquadSettings, at: Progress, groups: Groups, bar: tqdm, steps: int) -> None:
    """Move the bar; fifty times an epoch, keep the loss and the components alive for the curves."""
    loss = at.cost / at.step
    bar.set_postfix_str(f"loss {loss:.2f}, alive {trace(at, groups, steps, train_loss=loss)}", refresh=False)
    bar.update(settings.batch)


def epoch(at: Progress, epochs: int, rate: float, valid: Score) -> None:
    """A line on the terminal and a row of metrics, kept in `at`; `valid` is the score on the sample of dev."""
    last = at.trace[-1]
    row = {
        "epoch": at.epoch + 1,
        "learning_rate": rate,
        "train_loss": last["train_loss"],
        "valid_em": valid.exact_match,
        "valid_f1": valid.f1,
        "alive": last["alive"],
        "seconds": round(at.seconds, 1),
        "cuts": at.cuts,
        "trace": at.trace,
    }
    at.rows.append(row)
    living = " ".join(str(count) for count in last["alive"].values())
    say(
        f"epoch {row['epoch']:>2} of {epochs}: rate {rate:.4g}, loss {row['train_loss']:.3f}, "
        f"EM {valid.exact_match:.2f}, F1 {valid.f1:.2f}, alive {living}, {at.seconds:.0f} s"
    )


def table(result: dict[str, Any]) -> None:
    """The final table: untrained against full against compact."""
    columns = ("untrained", "full", "compact")
    components = {one: " ".join(map(str, counts.values())) for one, counts in result["components"].items()}
    rows = {
        "components": components,
        "parameters": {one: f"{count:,}" for one, count in result["parameters"].items()},
        "multiply-adds a word": {one: f"{count:,}" for one, count in result["multiply_adds"].items()},
        "dev EM": {one: f"{value:.2f}" for one, value in result["dev_em"].items()},
        "dev F1": {one: f"{value:.2f}" for one, value in result["dev_f1"].items()},
        "seconds to answer": {one: f"{result['seconds'][f'evaluate_{one}']:.1f}" for one in columns},
    }
    say("\n" + f"{'':22}" + "".join(f"{one:>20}" for one in columns))
    for name, cells in rows.items():
        say(f"{name:22}" + "".join(f"{cells.get(one, ''):>20}" for one in columns))
    counted, every = result["corpus"]["dev"], result["all_dev"]
    limit = result["settings"]["dev_limit"]
    which = f"whose context has at most {limit} words" if limit else "in all"
    say(f"dev EM and F1 are those of {counted:,} questions {which}")
    say(f"compact, all {every['questions']:,} dev questions: EM {every['exact_match']:.2f}, F1 {every['f1']:.2f}")
    difference, largest = f"{result['max_output_difference']:.1e}", f"{result['largest_logit']:.1f}"
    say(f"outputs of full and compact differ by at most {difference}, the largest is {largest}")
