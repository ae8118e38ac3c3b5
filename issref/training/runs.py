"""The folder of a run: its lock, its JSON files, its checkpoints; the steps of an epoch between checkpoints."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from issref.training import checkpoint, console
from issref.training.process import Throttle, defer_interrupts
from issref.training.recorder import Recorder, check_measured
from issref.training.state import RunState

LAST, PREVIOUS, BEST = "checkpoint.safetensors", "checkpoint.previous.safetensors", "best.safetensors"
CHECKPOINT_SECONDS = 120
PARTS = ("params", "state", "alive", "optimizer_state")


class Failed(Exception):
    """Training cannot go on; the message says where and why."""


class Interrupted(Exception):
    """Ctrl-C, SIGTERM or SIGHUP arrived, and the current step was completed."""


def folder_for(wanted: Path | None, preset: str) -> Path:
    """Return the folder of a new run: `wanted`, or runs/<date>-<preset>."""
    return wanted or Path("runs") / f"{time.strftime('%Y-%m-%d-%H%M%S')}-{preset}"


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Make and lock the folder of a new run. Raises ValueError if it holds a run, is locked or cannot be made."""
    try:
        _check_no_run(folder)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out: expected a writable folder, got {folder}: {error.strerror}") from error
    with run_lock(folder):
        _check_no_run(folder)  # a run may have begun and ended before the lock
        yield


def _check_no_run(folder: Path) -> None:
    if (folder / "config.json").exists():
        raise ValueError(f"--out: expected a folder without a run, got {folder} with one (--resume {folder}?)")


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold an exclusive lock on the folder; the system releases it if this process is killed.

    Raises ValueError if another process holds it, or if the folder is not writable.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(f"{folder}: expected one process at a time, got a folder locked by another") from error
    except OSError as error:
        raise ValueError(f"{folder}: expected a writable folder, got {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


def save_run(path: Path, run: RunState, recorder: Recorder, *, previous: Path | None = None, **about: Any) -> None:
    """Write a checkpoint atomically, `about` in its metadata; the old file is kept as `previous`, if given."""
    arrays = checkpoint.add_prefix(**{part: getattr(run, part) for part in PARTS})
    position = {"epoch": run.epoch, "step": run.step}
    random, measured = run.rng.bit_generator.state, recorder.to_dict()
    checkpoint.save(path, arrays, previous=previous, position=position, random=random, measured=measured, **about)


def load_run(path: Path) -> tuple[RunState, dict[str, Any]]:
    """Read a checkpoint, bit for bit: the state, and its `about` with the recorder's `measured`.

    Raises ValueError for any other file.
    """
    arrays, about = checkpoint.load(path)
    try:
        rng = np.random.default_rng()
        rng.bit_generator.state = about.pop("random")
        arrays = {part: checkpoint.strip_prefix(arrays, part) for part in PARTS}
        run = RunState(**arrays, rng=rng, **about.pop("position"))
        run.check()
        check_measured(about["measured"])
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path}: expected a checkpoint of a run, got something else ({error})") from error
    return run, about


def save_last(folder: Path, run: RunState, recorder: Recorder, **about: Any) -> None:
    """Write the run's last checkpoint, and keep the one before."""
    save_run(folder / LAST, run, recorder, previous=folder / PREVIOUS, **about)


def load_last(folder: Path, recorder: Recorder) -> tuple[RunState, dict[str, Any]]:
    """Read the run's last checkpoint, or the one before if the last is damaged or missing, and log so.

    No file is changed: the run may still be refused.
    What was measured goes into `recorder`. Raises ValueError, about the last one, if neither can be read.
    """
    try:
        run, about = load_run(folder / LAST)
    except ValueError as error:
        try:
            run, about = load_run(folder / PREVIOUS)
        except ValueError:
            raise error from None
        console.log(f"{error}; using the one before, of epoch {run.epoch + 1}, step {run.step}")
    recorder.restore(about.pop("measured"))
    return run, about


def load_best(folder: Path, recorder: Recorder, score: str) -> RunState:
    """Read the run's state after the epoch with the lowest score so far.

    Raises ValueError if it cannot be read, or is of an earlier epoch.
    """
    best, _ = load_run(folder / BEST)
    lowest = min(recorder.rows, key=lambda row: row[score])["epoch"]
    if best.epoch + 1 < lowest:
        raise ValueError(f"{folder / BEST}: expected the weights of epoch {lowest}, got epoch {best.epoch + 1}")
    return best


def training_steps(
    batches: Sequence[Any], run: RunState, recorder: Recorder, save: Callable[[], None], epochs: int
) -> Iterator[Any]:
    """Yield the batches of this epoch from run.step on, and count the steps.

    Between two steps the progress bar moves; the run is saved every two minutes and after the last step.
    After Ctrl-C, SIGTERM or SIGHUP the current step is completed, the run is saved, and Interrupted is raised.
    """
    due, recorder.steps, recorder.epochs = Throttle(CHECKPOINT_SECONDS), len(batches), epochs
    with (
        defer_interrupts() as interrupted,
        console.progress_bar(recorder, f"{run.epoch + 1}/{epochs}", run.step) as bar,
    ):
        while run.step < len(batches) and not interrupted:
            yield batches[run.step]
            run.step += 1
            console.advance(bar, recorder)
            if due():
                save()
    save()
    if interrupted:
        raise Interrupted(interrupted[0])
