"""Time of each op and kernel of a training step, and the limit that the machine sets for it.

The functions of the model are wrapped with clocks that exclude the time of wrapped functions inside. Work is
counted from the arguments: floating point operations of the matrix products, and bytes, every array once (of an
embedding only the rows that are looked up). The limit is the larger of operations over the peak of a large product
and bytes over the speed of a large copy.
"""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.prox import kernel_names
from benchmarks.steps import SIZES, Task, task, training_step
from benchmarks.timing import THREADS, clocked, interleaved, replaced
from benchmarks.words import Figures, Measured, number, part, table
from issref import kernels
from issref.models import ptb_lstm as model
from issref.training import updates

REST = "Python and the rest"
OF_ROWS = ("embed", "add_rows")  # their first argument is a table of which they use some rows
WITHIN = ("affine", "descend")  # kernels that are most of their callers, and are not clocked apart from them
# Operations of an op forward and backward, and of a kernel; the steps of an LSTM are in the kernels.
OPERATIONS = {
    "linear_cross_entropy": lambda x, kernel, bias: (2 * x.size * kernel.shape[1], 4 * x.size * kernel.shape[1]),
    "lstm": lambda x, h, c, kernel, bias: (
        2 * x.size * kernel.shape[1],
        4 * x.size * kernel.shape[1] + 2 * len(x) * h.size * kernel.shape[1],
    ),
}
STEPS = {
    "lstm_forward": lambda gates, h, c, weights, *_: 2 * len(gates) * h.size * weights.shape[1],
    "lstm_backward": lambda dhidden, dh, dc, gates, c_before, c_after, weights, *_: (
        2 * dhidden.size * weights.shape[1]
    ),
}


def measure(seconds: float) -> Figures:
    """<size>/<part>/ms, gflop, mb, <size>/step_ms, the machine's peak_gflops, copy_gbs; <kernel>_peak_share."""
    figures = machine()
    for size, settings in SIZES.items():
        for name, value in parts(task(settings), seconds / len(SIZES)).items():
            figures[f"{size}/{name}"] = value
    return figures | {f"{name}_peak_share": _peak_share(figures, f"large/{name}") for name in STEPS}


def _peak_share(figures: Figures, part: str) -> float:
    """Speed of a part over the speed of a large product, in operations a second."""
    return 1e3 * figures[f"{part}/gflop"] / figures[f"{part}/ms"] / figures["peak_gflops"]


def machine(side: int = 3000, numbers: int = 50_000_000) -> Figures:
    """Billions of operations a second in a product of large matrices, of bytes read and written in a copy."""
    a, b = np.random.default_rng(0).standard_normal((2, side, side), np.float32)
    source, target = np.ones(numbers, np.float32), np.empty(numbers, np.float32)
    sides = {"product": lambda: np.matmul(a, b), "copy": lambda: np.copyto(target, source)}
    best = {name: min(found) for name, found in interleaved(sides, 4.0).items()}
    return {"peak_gflops": 2e-9 * side**3 / best["product"], "copy_gbs": 2e-9 * source.nbytes / best["copy"]}


def parts(work: Task, seconds: float, least: int = 5) -> Figures:
    """The medians over some steps of each part's milliseconds and of the whole's, and the work of each part."""
    step, turns = training_step(work), defaultdict(list)
    step()
    started = time.perf_counter()
    with clocks() as found:
        for turn in tqdm(range(1000), "steps", leave=False):
            found.clear()
            whole = 1e3 * clocked(step)
            found[f"{REST}/ms"] = whole - found.pop("all_ms")
            found["step_ms"] = sum(value for name, value in found.items() if name.endswith("/ms"))
            for name, value in found.items():
                turns[name].append(value)
            if time.perf_counter() - started > seconds and turn + 1 >= least:
                break
    return {name: statistics.median(values) for name, values in turns.items()}


@contextmanager
def clocks() -> Iterator[Figures]:
    """Yields what is found while the context lasts: <part>/ms, gflop, mb; all_ms is all of it and the clocks'."""
    found, inside = defaultdict(float), [0.0]

    def timed(name: str, function: Callable, gflop: float = 0.0, held: float = 0.0) -> Callable:
        def call(*arguments, **named):
            work = STEPS[name](*arguments) / 1e9 if name in STEPS else gflop
            inside.append(0.0)
            started = time.perf_counter()
            result = function(*arguments, **named)
            found[f"{name}/ms"] += 1e3 * (time.perf_counter() - started - inside.pop())
            found[f"{name}/gflop"] += work
            found[f"{name}/mb"] += held + megabytes(arguments[name.startswith(OF_ROWS) :], named, result)
            took = time.perf_counter() - started
            inside[-1] += took
            found["all_ms"] += 0 if inside[1:] else 1e3 * took
            return result

        return call

    def timed_op(name: str, op: Callable) -> Callable:
        def call(*arguments, **named):
            forth, back = (work / 1e9 for work in OPERATIONS.get(name, lambda *_: (0, 0))(*arguments))
            output, backward = timed(f"{name}, forward", op, forth)(*arguments, **named)
            held = megabytes(arguments[name in OF_ROWS :], named)
            return output, timed(f"{name}, backward", backward, back, held)

        return call

    ops = {name: timed_op(name, op) for name, op in vars(model).items() if _is_op(op)}
    ops["draw_masks"] = timed("dropout masks", model.draw_masks)
    rules = {name: timed(name, getattr(updates, name)) for name in ("global_norm", "sgd")}
    loops = {name: timed(name, getattr(kernels, name)) for name in kernel_names() if name not in WITHIN}
    with replaced(model, ops), replaced(updates, rules), replaced(kernels, loops):
        yield found


def _is_op(function: Any) -> bool:
    return (getattr(function, "__module__", None) or "").startswith("issref.ops.")


def megabytes(*values: Any) -> float:
    """The size of all arrays in these values, in 10^6 bytes."""
    found = 0.0
    for value in values:
        if isinstance(value, np.ndarray):
            found += value.nbytes / 1e6
        elif isinstance(value, Mapping):
            found += megabytes(*value.values())
        elif isinstance(value, tuple | list):
            found += megabytes(*value)
    return found


# ---------------------------------------------------------------- written down


def rows_of(figures: Mapping[str, float], size: str) -> list[tuple[str, float, float, float, float]]:
    """Each part, the longest first: name, ms, billions of operations, MB, and its limit in ms."""
    names = [key.split("/")[1] for key in figures if key.startswith(f"{size}/") and key.endswith("/ms")]
    rows = []
    for name in sorted(names, key=lambda name: -figures[f"{size}/{name}/ms"]):
        ms, gflop, mb = (figures.get(f"{size}/{name}/{unit}", 0.0) for unit in ("ms", "gflop", "mb"))
        limit = 1e3 * gflop / figures["peak_gflops"], mb / figures["copy_gbs"]
        rows.append((name, ms, gflop, mb, max(limit)))
    return rows


def limits(measured: Measured, size: str) -> str:
    """A sentence on what keeps a step from being faster."""
    if not (figures := measured.get("roofline")):
        return ""
    rows, whole = rows_of(figures, size), figures[f"{size}/step_ms"]
    products = 1e3 * sum(gflop for _, _, gflop, _, _ in rows) / figures["peak_gflops"]
    above = sorted(rows, key=lambda row: row[4] - row[1])[:4]
    named = ", ".join(f"{name} ({number(ms)} ms, limit {number(limit)})" for name, ms, _, _, limit in above)
    settings = SIZES[size]
    read = sum(2 * 4 * 4 * width**2 for width in settings.network.hidden_sizes) * settings.schedule.steps / 1e6
    return (
        f"The step takes {number(whole)} ms in the roofline; its matrix products alone would take "
        f"{number(products)} at the machine's peak. Furthest above their limits: {named}. The recurrent weights "
        f"are read at every time step, forward and backward, {number(read)} MB in all; at the speed of the copy "
        f"this takes {number(read / figures['copy_gbs'])} ms."
    )


def section(measured: Measured) -> str:
    """A table for each size; parts below half a percent of the step are added up."""
    if not (figures := measured.get("roofline")):
        return ""
    return part(
        "Roofline of a training step",
        f"Peak {number(figures['peak_gflops'])} GFlop/s in a product of two 3000 × 3000 matrices with "
        f"{THREADS} threads, {number(figures['copy_gbs'])} GB/s read and written in a copy of 200 MB. The "
        "time of a part excludes the parts that it calls: `lstm_forward` and `lstm_backward` are the time steps "
        "of an LSTM with their recurrent products, `lstm` is the rest. Every array counts once, although an LSTM "
        "reads its recurrent weights at every step.",
        *(_table(figures, size) for size in SIZES),
    )


def _table(figures: Mapping[str, float], size: str) -> str:
    whole, rows, small = figures[f"{size}/step_ms"], [], 0.0
    for name, ms, gflop, mb, limit in rows_of(figures, size):
        if ms < whole / 200:
            small += ms
            continue
        work = [number(value) if value else "-" for value in (gflop, mb, limit, limit and ms / limit)]
        rows.append([name, number(ms), f"{ms / whole:.1%}", *work])
    rows.append(["all other parts", number(small), f"{small / whole:.1%}", "-", "-", "-", "-"])
    rows.append(["the step", number(whole), "100 %", "", "", "", ""])
    return table([size, "ms", "share", "GFlop", "MB", "limit, ms", "time over limit"], rows)
