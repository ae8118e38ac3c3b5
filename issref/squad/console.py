"""Console output of BiDAF runs: header and final table."""

from pathlib import Path
from typing import Any

from issref.data.squad_corpus import Corpus
from issref.iss.layout import Layout
from issref.squad.settings import DataOptions, SquadSettings
from issref.training.console import describe_penalty, difference_phrase, log, print_header, print_sizes


def header(settings: SquadSettings, corpus: Corpus, layout: Layout, folder: Path) -> None:
    """Print what is about to run: model, questions, method, schedule, machine, folder."""
    network, penalty, schedule = settings.network, settings.penalty, settings.schedule
    strength = () if penalty.method == "dense" else penalty.strength
    words = f"{len(corpus.words):,} learned words, {len(corpus.vectors):,} of GloVe, {network.word_size} numbers"
    rate = f"rate {schedule.learning_rate:g} to {schedule.learning_rate * schedule.final_rate:g}"
    size = f"BiDAF of {network.hidden_size} units a direction"
    lines = {
        "model": f"{size}, {layout.parameters():,} parameters, {words}",
        "corpus": f"{corpus.name}: {len(corpus.train):,} / {len(corpus.dev):,} questions, from {corpus.source}",
        "read": _read(settings.data, corpus),
        "sha256": corpus.sha256,
        "method": describe_penalty(penalty.method, strength, "step", penalty.penalty_steps),
        "steps": f"{schedule.steps:,} of {schedule.batch} questions, Adam, {rate}, seed {settings.run.seed}",
    }
    print_header(lines, settings.run.dtype, folder)


def _read(data: DataOptions, corpus: Corpus) -> str:
    """Return how many of the training questions are read, and what leaves the others out."""
    first = f"of the first {data.articles} articles (--articles), " if data.articles else ""
    words = f"of at most {data.question_limit} words, answered in the first {data.context_limit} of a text"
    return f"{len(corpus.train):,} of {corpus.available:,} training questions: {first}{words}"


def print_result(result: dict[str, Any]) -> None:
    """Print the final table: untrained, full and compact model."""
    scores = {
        f"dev {name}": {column: f"{value:.2f}" for column, value in result[f"dev_{name.lower()}"].items()}
        for name in ("EM", "F1")
    }
    print_sizes(result, ("untrained", "full", "compact"), scores)
    scored, every, limit = result["corpus"]["dev"], result["all_dev"], result["settings"]["data"]["dev_limit"]
    which = f"whose context has at most {limit} words" if limit else "in all"
    log(f"dev EM and F1 are over {scored:,} questions {which}")
    log(f"compact, all {every['questions']:,} dev questions: EM {every['exact_match']:.2f}, F1 {every['f1']:.2f}")
    difference, largest = difference_phrase(result["max_output_difference"]), f"{result['largest_logit']:.1f}"
    log(f"outputs of full and compact model {difference}, the largest logit is {largest}")
