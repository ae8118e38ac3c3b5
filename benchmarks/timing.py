"""Comparable timings: the sides take turns in one process, and ratios are taken between neighbouring turns.

Load from other processes then affects all sides. A side is a function without arguments; a turn
calls it for a tenth of a second, at least once, and is its median.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from importlib import import_module
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
from tqdm import tqdm

THREADS = 2  # of the BLAS and of the frameworks
TURN = 0.1  # seconds that the calls of a turn take together, at least
PAUSE = 0.05  # seconds before a turn: the waiting threads of the side before go to sleep
MOST = 200  # turns

Side = Callable[[], Any]
Times = dict[str, list[float]]


def interleaved(sides: Mapping[str, Side], seconds: float, least: int = 5) -> Times:
    """Seconds a call of each side, turn by turn: as many turns as fit in `seconds`, but `least` at least."""
    calls, each = {}, {}
    for name, side in sides.items():
        side()  # compiles, allocates
        each[name] = clocked(side)
        calls[name] = max(1, min(1000, round(TURN / each[name])))
    turn = sum(calls[name] * each[name] + PAUSE for name in sides)
    times: Times = {name: [] for name in sides}
    turns = max(least, min(MOST, round(seconds / turn)))
    for _ in tqdm(range(turns), ", ".join(sides)[:40], unit=" turns", leave=False):
        for name, side in sides.items():
            time.sleep(PAUSE)
            times[name].append(statistics.median(clocked(side) for _ in range(calls[name])))
    return times


def replaced(module: ModuleType, functions: Mapping[str, Callable]) -> AbstractContextManager:
    """While active, a module's functions are these, by name."""
    everything: dict[str, Any] = dict(functions)
    return patch.multiple(module, **everything)


def clocked(side: Side) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    side()
    return time.perf_counter() - started


def milliseconds(times: Times) -> dict[str, float]:
    """The median of each side, as "side_ms"."""
    return {f"{side}_ms": 1e3 * statistics.median(found) for side, found in times.items()}


def ratio(times: Times, above: str, below: str, name: str) -> dict[str, float]:
    """The median over the turns of the time of one side over that of another, as `name`, and its quartiles."""
    ratios = np.divide(times[above], times[below])
    low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
    return {name: float(middle), f"{name}/low": float(low), f"{name}/high": float(high)}


def optional(module: str) -> ModuleType | None:
    """A module that needs an extra package; None, and a line that says so, where that is not installed."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        found = f"{error.name} is not installed (pip install '.[benchmarks]')"
        tqdm.write(f"benchmarks: {found}; what is compared with it is not measured")
        return None
