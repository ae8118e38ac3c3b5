"""What a run shows on the terminal: header, progress bar, a line an epoch, the final table."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from issref.data.corpus import Corpus
from issref.iss.groups import Groups, alive
from issref.iss.layout import Layout
from issref.ptb.settings import Settings
from issref.training.runs import versions
from issref.training.state import Progress


def say(line: str) -> None:
    """A line that stays, above any progress bar, at once."""
    tqdm.write(line)
    sys.stdout.flush()


def failed(sentence: str, code: int) -> int:
    """Say on stderr why the command ends, and return its exit code."""
    print(f"issref: {sentence}", file=sys.stderr, flush=True)
    return code


def way_back(folder: Path | None) -> str:
    """What is left of a run that stopped: a checkpoint, if its folder has the settings written behind it."""
    if folder is None or not (folder / "config.json").is_file():
        return "there is no checkpoint yet"
    return f"the last checkpoint is kept, go on with --resume {folder}"


def header(settings: Settings, corpus: Corpus, layout: Layout, folder: Path) -> None:
    """What is about to run: model, corpus, method, machine, place."""
    strength = {
        "prox": settings.strength,
        "released": settings.strength,
        "l1": (settings.l1_strength,),
        "dense": (),
    }
    words = " / ".join(f"{len(text):,}" for text in (corpus.train, corpus.valid, corpus.test))
    sizes = " and ".join(str(size) for size in settings.hidden_sizes)
    tied = "tied" if settings.tied else "untied"
    models = {
        "lstm": f"LSTM of {sizes} units, embedding {layout.sizes.get('embed')}",
        "rhn": f"RHN of width {sizes}, {settings.depth} micro-layers, embedding {tied}",
    }
    lines = {
        "model": f"{models[settings.model]}, {layout.parameters():,} parameters",
        "corpus": f"{corpus.name}: {words} words, vocabulary {len(corpus.words):,}, from {corpus.source}",
        "sha256": corpus.sha256,
        "method": method(
            settings.method, strength[settings.method], settings.penalty_epochs, "epoch", settings.penalty_rest
        ),
        "text": f"{settings.epochs} epochs, {settings.batch} rows by {settings.steps} steps, seed {settings.seed}",
    }
    introduce(lines, settings.dtype, folder)


def method(name: str, strength: Sequence[float], lasting: int | None, unit: str, rest: float = 0.0) -> str:
    """A method in words: its strengths, the last epoch or step of all of them, and what acts after it."""
    until = [f"to {unit} {lasting}, then {f'{rest:g} of it' if rest else 'dense'}"] if strength and lasting else []
    return " ".join([name, *(f"strength {value:g}" for value in strength), *until])


def introduce(lines: dict[str, str], dtype: str, folder: Path) -> None:
    """Lines about a run by name, then its machine and its place."""
    machine = versions()
    pools = ", ".join(
        f"{pool['internal_api']} {pool['version']}, {pool['num_threads']} threads" for pool in machine["blas"]
    )
    lines = lines | {
        "machine": f"{dtype}, {pools or 'BLAS'}, Python {machine['python']}, numpy {machine['numpy']}",
        "run": f"{folder}   (Ctrl-C stops it; --resume {folder} goes on)",
    }
    for name, text in lines.items():
        say(f"{name:9}{text}")


def progress_bar(settings: Settings, at: Progress, windows: int) -> tqdm:
    """Words of this epoch; a terminal sees it twice a second, a log file twice a minute."""
    words = settings.batch * settings.steps
    return epoch_bar(at, settings.epochs, windows * words, at.step * words, " words")


def epoch_bar(at: Progress, epochs: int, total: int, initial: int, unit: str) -> tqdm:
    """The bar of an epoch, of `total` units of which `initial` are done."""
    return tqdm(
        desc=f"epoch {at.epoch + 1}/{epochs}",
        total=total,
        initial=initial,
        unit=unit,
        unit_scale=True,
        leave=False,
        dynamic_ncols=True,
        mininterval=0.5 if sys.stderr.isatty() else 30,
    )


def step(settings: Settings, at: Progress, groups: Groups, bar: tqdm, windows: int) -> None:
    """Move the bar; fifty times an epoch, keep perplexity and components alive for the curves."""
    perplexity = math.exp(min(at.cost / (at.step * settings.steps), 700.0))
    living = trace(at, groups, windows, train_perplexity=perplexity)
    loss = at.cost / at.step
    bar.set_postfix_str(f"loss {loss:.2f}, perplexity {perplexity:.1f}, alive {living}", refresh=False)
    bar.update(settings.batch * settings.steps)


def trace(at: Progress, groups: Groups, steps: int, **measured: float) -> str:
    """Fifty times in the steps of an epoch, keep what was measured and the components alive; those, as a line."""
    if at.step == 1 or at.step % max(1, steps // 50) == 0 or at.step == steps:
        living = {space: int(kept.sum()) for space, kept in alive(at.params, groups).items()}
        at.trace.append({"step": at.step, **measured, "alive": living})
    return " ".join(str(count) for count in at.trace[-1]["alive"].values())


def epoch(settings: Settings, at: Progress, rate: float, valid_perplexity: float) -> None:
    """A line on the terminal and a row of metrics, kept in `at`."""
    last = at.trace[-1]
    row = {
        "epoch": at.epoch + 1,
        "learning_rate": rate,
        "train_perplexity": last["train_perplexity"],
        "valid_perplexity": valid_perplexity,
        "alive": last["alive"],
        "seconds": round(at.seconds, 1),
        "cuts": at.cuts,
        "trace": at.trace,
    }
    at.rows.append(row)
    living = " ".join(str(count) for count in row["alive"].values())
    say(
        f"epoch {row['epoch']:>2} of {settings.epochs}: rate {rate:.4g}, train {row['train_perplexity']:.2f}, "
        f"valid {valid_perplexity:.2f}, alive {living}, {at.seconds:.0f} s"
    )


def table(result: dict[str, Any]) -> None:
    """The final table: full against compact."""
    rows = [
        (
            "components",
            [" ".join(str(n) for n in result["components"][one].values()) for one in ("full", "compact")],
        ),
        ("parameters", [f"{result['parameters'][one]:,}" for one in ("full", "compact")]),
        ("multiply-adds a word", [f"{result['multiply_adds'][one]:,}" for one in ("full", "compact")]),
        ("valid perplexity", [f"{result['valid_perplexity'][one]:.3f}" for one in ("full", "compact")]),
        ("test perplexity", [f"{result['test_perplexity'][one]:.3f}" for one in ("full", "compact")]),
        ("seconds to evaluate", [f"{result['seconds'][f'evaluate_{one}']:.1f}" for one in ("full", "compact")]),
    ]
    say(f"\n{'':22}{'full':>14}{'compact':>14}")
    for name, (full, compact) in rows:
        say(f"{name:22}{full:>14}{compact:>14}")
    words, difference = f"{result['compared_words']:,}", f"{result['max_output_difference']:.1e}"
    say(f"over {words} words outputs differ by at most {difference}, the largest is {result['largest_logit']:.1f}")
