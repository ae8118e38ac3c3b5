"""A run's folder, its progress on the terminal, and its end: finished, interrupted or failed."""

import ctypes
import json
import os
import platform
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from issref.training import checkpoint


class Failed(Exception):
    """Training cannot go on; the message says where and why."""


class Interrupted(Exception):
    """Ctrl-C or SIGTERM arrived, and the step in hand was finished."""


def new_folder(wanted: Path | None, preset: str) -> Path:
    """The run's folder, made: `wanted`, or runs/<date>-<preset>.

    ValueError if it holds a run already or cannot be made.
    """
    folder = wanted or Path("runs") / f"{time.strftime('%Y-%m-%d-%H%M%S')}-{preset}"
    try:
        if (folder / "config.json").exists():
            raise ValueError(f"--out: needs a folder without a run, found one in {folder} (--resume {folder}?)")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out: needs a folder that can be written, found {folder}: {error.strerror}") from error
    return folder


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """While active, no other process gets in here; the system lets go of the lock if this one is killed.

    ValueError if another is at work in the folder, or if it cannot be written to.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(f"{folder}: needs one process at a time, found another at work in it") from error
    except OSError as error:
        raise ValueError(f"{folder}: needs to be a folder that can be written, found {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


def write_json(path: Path, content: Any) -> None:
    """An object as readable JSON, whole or not at all; a list as JSON lines."""
    lines = [json.dumps(row) for row in content] if isinstance(content, list) else [json.dumps(content, indent=2)]
    checkpoint.write_whole(path, "".join(line + "\n" for line in lines).encode())


def from_json(text: str | bytes) -> Any:
    """What `write_json` wrote; ValueError for what is no JSON, no text, or too deep for Python to follow."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("brackets in brackets, too deep") from error


@contextmanager
def finish_the_step() -> Iterator[list[str]]:
    """While active, the first Ctrl-C or SIGTERM only puts its name in the list yielded; a second stops at once."""
    arrived: list[str] = []

    def note(number, frame):
        if arrived:
            raise KeyboardInterrupt
        arrived.append(signal.Signals(number).name)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield arrived
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Throttle:
    """True at most once in `seconds`: for progress lines and for checkpoints within an epoch."""

    def __init__(self, seconds: float):
        self.seconds, self.last = seconds, time.monotonic()

    def __call__(self) -> bool:
        due = time.monotonic() - self.last >= self.seconds
        self.last = time.monotonic() if due else self.last
        return due


M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Let the process keep the memory of freed arrays for the arrays of its next step.

    glibc gives large arrays back to the system as they are freed, and the system zeroes the pages of each new one:
    a quarter of the time of a step of --small. Other C libraries have no such call; there nothing changes.
    """
    mallopt = _of_the_c_library("mallopt")
    if mallopt:
        for parameter, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 2**26)):
            mallopt(parameter, value)


def give_back_freed_memory() -> None:
    """Give all that is freed back to the system, once an epoch: memory stays flat over the longest run.

    What `keep_freed_memory` keeps is torn by small objects that live on, so that now and then a large array finds
    no hole it fits into; the old hole would stay in RAM, unused, for the rest of the run.
    """
    malloc_trim = _of_the_c_library("malloc_trim")
    if malloc_trim:
        malloc_trim(0)


def _of_the_c_library(name: str) -> Any:
    """A function of glibc, None where there is no such function."""
    return getattr(ctypes.CDLL(None) if os.name == "posix" else None, name, None)


def resident_mb() -> float:
    """Memory of this process that is in RAM now, in MB of 2^20 bytes."""
    import psutil

    return round(psutil.Process().memory_info().rss / 2**20, 1)


def versions() -> dict[str, Any]:
    """What a result depends on besides its settings: Python, numpy, numba, the BLAS, its threads, the machine."""
    from importlib.metadata import version

    from threadpoolctl import threadpool_info

    blas = [
        {key: pool.get(key) for key in ("internal_api", "version", "architecture", "num_threads")}
        for pool in threadpool_info()
        if pool.get("user_api") == "blas"
    ]
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": version("numba"),
        "blas": blas,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }
