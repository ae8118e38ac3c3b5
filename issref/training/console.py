"""Console output of a run: log lines, progress bar, header, epoch line, table."""

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tabulate import tabulate
from tqdm import tqdm

from issref.training.process import versions
from issref.training.recorder import Recorder

WORDS = {"em": "EM", "f1": "F1"}


def printable(text: str) -> str:
    """Return a text in which control characters, which may move the cursor or end a line, are escaped: \\x1b."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def prepare_streams() -> None:
    """Open the null device for a closed stdin, stdout or stderr, so that no file of a run gets its number.

    Letters that the encoding of a stream lacks are escaped from now on.
    """
    while (unused := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(unused, True)
    os.close(unused)
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name) or os.fdopen(number, "w")  # None for a stream that was closed
        setattr(sys, name, stream)
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def unbroken(number: int) -> Iterator[None]:
    """Go on without stdout (1) or stderr (2) if writing to it fails: a run outlives its terminal and its pipes."""
    try:
        yield
    except OSError as error:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, number)
        os.close(null)
        if number == 1:
            failed(f"stdout: expected a stream that takes output, got {error.strerror}; going on without it", 0)


def log(lines: str) -> None:
    """Print one or more lines above any progress bar, and flush them."""
    with unbroken(2), tqdm.external_write_mode(), unbroken(1):
        print("\n".join(map(printable, lines.split("\n"))), flush=True)


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        log(record.getMessage())


def show_library_messages() -> None:
    """Print what the library logs, such as that it compiles."""
    logger = logging.getLogger("issref")
    logger.handlers, logger.level = [_Lines()], logging.INFO


def failed(sentence: str, code: int) -> int:
    """Print on stderr why the command ends, and return its exit code."""
    with unbroken(2):
        print(f"issref: {printable(sentence)}", file=sys.stderr, flush=True)
    return code


def resume_hint(folder: Path, how: str = ", resume with --resume {}") -> str:
    """Return how to resume, if the folder has a checkpoint; config.json is written after the first one."""
    if not (folder / "config.json").is_file():
        return "there is no checkpoint yet"
    return "the last checkpoint is kept" + how.format(folder)


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
    text = f"{method}, strength {' '.join(f'{value:g}' for value in strength)}" if strength else method
    if not strength or last is None:
        return text
    return f"{text} to {unit} {last}, then {f'{final_scale:g} of it' if final_scale else 'dense'}"


@contextmanager
def progress_bar(recorder: Recorder, epoch: str, done: int) -> Iterator[tqdm]:
    """Yield the bar of an epoch, redrawn twice a second on a terminal and twice a minute in a log file."""
    bar = tqdm(
        desc=f"epoch {epoch}",
        total=recorder.steps * recorder.per_step,
        initial=done * recorder.per_step,
        unit=f" {recorder.unit}",
        unit_scale=True,
        leave=False,
        dynamic_ncols=True,
        mininterval=0.5 if sys.stderr.isatty() else 30,
        delay=1e-3,  # drawn first by `advance`
    )
    try:
        yield bar
    finally:
        with unbroken(2):
            bar.close()


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
    with unbroken(2):
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
