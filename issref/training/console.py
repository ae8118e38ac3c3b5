"""Console output of a run: log lines, progress bar, header, epoch line, table."""

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate
from tqdm import tqdm

from issref.training.process import versions
from issref.training.recorder import Recorder

WORDS = {"em": "EM", "f1": "F1"}


def log(line: str) -> None:
    """Print a line above any progress bar, and flush it."""
    tqdm.write(line)
    sys.stdout.flush()


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        log(record.getMessage())


def show_library_messages() -> None:
    """Print what the library logs, such as that it compiles."""
    logger = logging.getLogger("issref")
    logger.handlers, logger.level = [_Lines()], logging.INFO


def failed(sentence: str, code: int) -> int:
    """Print on stderr why the command ends, and return its exit code."""
    print(f"issref: {sentence}", file=sys.stderr, flush=True)
    return code


def resume_hint(folder: Path | None) -> str:
    """Return how to resume, if the folder has a checkpoint; config.json is written after the first one."""
    if folder is None or not (folder / "config.json").is_file():
        return "there is no checkpoint yet"
    return f"the last checkpoint is kept, resume with --resume {folder}"


def print_header(lines: Mapping[str, str], dtype: str, folder: Path) -> None:
    """Print what is about to run, then the machine and the run's folder."""
    about = versions()
    pools = [f"{pool['internal_api']} {pool['version']}, {pool['num_threads']} threads" for pool in about["blas"]]
    python = f"Python {about['python']}", f"numpy {about['numpy']}"
    machine = ", ".join([dtype, *(pools or ["unknown BLAS"]), *python])
    run = f"{folder}   (Ctrl-C stops it; resume with --resume {folder})"
    for name, text in {**lines, "machine": machine, "run": run}.items():
        log(f"{name:8} {text}")


def describe_penalty(
    method: str, strength: tuple[float, ...], unit: str, last: int | None, final_scale: float = 0.0
) -> str:
    """Return a method as a phrase: its strengths, and what acts after the last epoch or step of all of them."""
    text = " ".join([method, *(f"strength {value:g}" for value in strength)])
    if not strength or last is None:
        return text
    return f"{text} to {unit} {last}, then {f'{final_scale:g} of it' if final_scale else 'dense'}"


def progress_bar(recorder: Recorder, epoch: str, done: int) -> tqdm:
    """Return the bar of an epoch, redrawn twice a second on a terminal and twice a minute in a log file."""
    return tqdm(
        desc=f"epoch {epoch}",
        total=recorder.steps * recorder.per_step,
        initial=done * recorder.per_step,
        unit=f" {recorder.unit}",
        unit_scale=True,
        leave=False,
        dynamic_ncols=True,
        mininterval=0.5 if sys.stderr.isatty() else 30,
    )


def advance(bar: tqdm, recorder: Recorder) -> None:
    """Move the bar by a step, and show the components alive, first because narrow screens cut the end, and scores.

    The first step may compile loops; the clock of the bar starts after it.
    """
    scores = [f"{name.removeprefix('train_')} {value:.2f}" for name, value in recorder.scores.items()]
    scores = list(dict.fromkeys(scores))  # where the loss is the score
    epoch, alive = bar.desc.partition(",")[0], alive_counts(recorder.trace[-1])
    bar.set_description_str(f"{epoch}, alive {alive}", refresh=False)
    bar.set_postfix_str(", ".join(scores), refresh=False)
    if bar.n == bar.initial:
        bar.unpause()
    bar.update(recorder.per_step)


def log_epoch(row: Mapping[str, Any], epochs: int) -> None:
    """Print the row of an epoch as one line."""
    scores = [
        f"{' '.join(WORDS.get(word, word) for word in name.split('_'))} {value:.2f}"
        for name, value in row.items()
        if name.startswith(("train_", "valid_"))
    ]
    rate, alive = f"rate {row['learning_rate']:.4g}", f"alive {alive_counts(row)}"
    log(f"epoch {row['epoch']:>2} of {epochs}: {rate}, {', '.join(scores)}, {alive}, {row['seconds']:.0f} s")


def difference_phrase(difference: float) -> str:
    """Return how much outputs differ, as the end of a sentence."""
    return f"differ by at most {difference:.1e}" if difference else "are equal"


def alive_counts(row: Mapping[str, Any]) -> str:
    """Return the components alive in each space, as one string."""
    return " ".join(map(str, row["alive"].values()))


def print_sizes(result: dict[str, Any], columns: tuple[str, ...], scores: Mapping[str, Mapping[str, str]]) -> None:
    """Print the final table: components, parameters, multiply-adds, scores and seconds of each model."""
    counts = {name: " ".join(map(str, sizes.values())) for name, sizes in result["components"].items()}
    rows = {
        "components": counts,
        "parameters": {name: f"{count:,}" for name, count in result["parameters"].items()},
        "multiply-adds a word": {name: f"{count:,}" for name, count in result["multiply_adds"].items()},
        **scores,
        "seconds to evaluate": {name: f"{result['seconds'][f'evaluate_{name}']:.1f}" for name in columns},
    }
    table = [[name, *(cells.get(column, "") for column in columns)] for name, cells in rows.items()]
    align = ("left", *("right" for _ in columns))
    log("\n" + tabulate(table, ("", *columns), disable_numparse=True, colalign=align))


def log_files(folder: Path) -> None:
    """Print the names of the files in a run's folder."""
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    log(f"written to {folder}: {', '.join(names)}")
