"""Console output of language model runs: header and final table."""

from pathlib import Path
from typing import Any

from issref.data.corpus import Corpus
from issref.iss.layout import Layout
from issref.models import LANGUAGE_MODELS
from issref.ptb.settings import Settings
from issref.training.console import describe_penalty, difference_phrase, log, print_header, print_sizes


def header(settings: Settings, corpus: Corpus, layout: Layout, folder: Path) -> None:
    """Print what is about to run: model, corpus, method, schedule, machine, folder."""
    model, penalty, schedule = LANGUAGE_MODELS[settings.network.model], settings.penalty, settings.schedule
    words = " / ".join(f"{len(text):,}" for text in (corpus.train, corpus.valid, corpus.test))
    description = model.describe(model.configure(len(corpus.words), settings.network.flat()))
    strength = {"l1": (penalty.l1_strength,), "dense": ()}.get(penalty.method, penalty.strength)
    method = describe_penalty(
        penalty.method, strength, "epoch", penalty.penalty_epochs, penalty.final_penalty_scale
    )
    rows, seed = f"{schedule.batch} rows by {schedule.steps} steps", settings.run.seed
    lines = {
        "model": f"{description}, {layout.parameters():,} parameters",
        "corpus": f"{corpus.name}: {words} words, vocabulary {len(corpus.words):,}, from {corpus.source}",
        "sha256": corpus.sha256,
        "method": method,
        "text": f"{schedule.epochs} epochs, {rows}, seed {seed}",
    }
    print_header(lines, settings.run.dtype, folder)


def print_result(result: dict[str, Any]) -> None:
    """Print the final table, full against compact model."""
    scores = {
        f"{split} perplexity": {name: f"{value:.3f}" for name, value in result[f"{split}_perplexity"].items()}
        for split in ("valid", "test")
    }
    print_sizes(result, ("full", "compact"), scores)
    difference, words = difference_phrase(result["max_output_difference"]), f"{result['compared_words']:,}"
    log(f"over {words} words outputs {difference}, the largest logit is {result['largest_logit']:.1f}")


def note_divergence(perplexity: float, vocabulary: int) -> None:
    """Print a line if the perplexity is above that of guessing each word with the same probability."""
    if perplexity > vocabulary:
        found = f"validation perplexity {perplexity:.4g} is above {vocabulary:,}, that of a uniform guess"
        log(f"{found}: the model has diverged, which a lower --learning-rate may prevent, or overfits")
