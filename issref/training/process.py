"""The process of a run: signals, memory, and the versions its numbers depend on."""

import ctypes
import os
import platform
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # parameters of mallopt, from glibc's malloc.h


@contextmanager
def handled(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Handle Ctrl-C, SIGTERM and SIGHUP (a closed terminal), unless they are ignored, as SIGHUP is under nohup."""
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def interrupt(number: int, frame: Any) -> None:
    """Stop the process as Ctrl-C does, so that what it has begun is cleaned up."""
    raise KeyboardInterrupt


@contextmanager
def defer_interrupts() -> Iterator[list[str]]:
    """Defer the first Ctrl-C, SIGTERM or SIGHUP: its name is appended to the list yielded; a second one stops."""
    arrived: list[str] = []

    def note(number, frame):
        if arrived:
            raise KeyboardInterrupt
        arrived.append(signal.Signals(number).name)

    with handled(note):
        yield arrived


class Throttle:
    """A callable that returns True at most once every `seconds`."""

    def __init__(self, seconds: float):
        self.seconds, self.last = seconds, time.monotonic()

    def __call__(self) -> bool:
        due = time.monotonic() - self.last >= self.seconds
        self.last = time.monotonic() if due else self.last
        return due


def tune_malloc() -> None:
    """Keep the memory of freed arrays in the process, for the arrays of the next step.

    glibc returns large arrays to the system as they are freed, and the system zeroes the pages of each new one:
    a quarter of the time of a step of --small. Other C libraries have no such call and are left as they are.
    """
    mallopt = _glibc("mallopt")
    if mallopt:
        for parameter, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 2**26)):
            mallopt(parameter, value)


def trim_malloc() -> None:
    """Return freed memory to the system, once an epoch, so that memory stays flat over a long run.

    The memory kept by `tune_malloc` gets fragmented by small objects. Now and then a large array fits into no
    free block, and the old block would stay in RAM, unused, for the rest of the run.
    """
    malloc_trim = _glibc("malloc_trim")
    if malloc_trim:
        malloc_trim(0)


def _glibc(name: str) -> Any:
    return getattr(ctypes.CDLL(None) if os.name == "posix" else None, name, None)


def resident_mb() -> float | None:
    """Return the memory of this process that is in RAM, in MB of 2^20 bytes; None if the system has no count."""
    import psutil

    try:
        return round(psutil.Process().memory_info().rss / 2**20, 1)
    except (psutil.Error, OSError):  # no /proc, as in some containers
        return None


def versions() -> dict[str, Any]:
    """Return the versions of Python, numpy, numba and the BLAS, its kernel and threads, and the machine."""
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
