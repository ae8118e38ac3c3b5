"""issref against other frameworks, each in a process of its own, as users run them: pairs of processes in turn.

issref tunes malloc, as its commands do; the others run with malloc unchanged. Each side has the number of threads
that is best for it. `python -m benchmarks.pairs SIDE WORK THREADS SECONDS` prints a side's median, in seconds.
"""

import statistics
import sys
from contextlib import nullcontext
from importlib import import_module
from types import ModuleType

from tqdm import tqdm

from benchmarks import children, evaluation, steps
from benchmarks.timing import THREADS, Side, clocked, milliseconds, optional, ratio
from benchmarks.words import Figures, Measured, number, part, table
from issref.kernels import parallel
from issref.kernels.inference import fixed_weights
from issref.training.process import tune_malloc

PAIRS = 7
LEAST = 3  # timed calls in each process
MODULES = {"torch": "benchmarks.torch_side", "onnxruntime": "benchmarks.onnx_side"}
NAMES = {"issref": "issref", "torch": "PyTorch", "onnxruntime": "ONNX Runtime"}
WORKS = {
    "small": "training step, 2x200",
    "medium": "training step, 2x650",
    "large": "training step, 2x1500",
    "evaluation": f"evaluation, {evaluation.COMPACT}",
}


def measure(work: str, seconds: float) -> Figures:
    """Return each side's median and least time and its threads, and the ratios of medians.

    step_<size>_vs_torch, compact_vs_torch: how many times as fast; compact_vs_onnxruntime: time over its. The
    quartiles are taken over the ratios of the pairs.
    """
    others = ("torch", "onnxruntime") if work == "evaluation" else ("torch",)
    sides = ["issref", *(side for side in others if optional(MODULES[side]))]

    def timed(side: str, threads: int) -> float:
        return float(children.run(["-m", "benchmarks.pairs", side, work, str(threads), str(seconds / PAIRS)]))

    best = {side: min(range(1, THREADS + 1), key=lambda threads: timed(side, threads)) for side in sides}
    times = {side: [] for side in sides}
    for _ in tqdm(range(PAIRS), ", ".join(sides), unit=" pairs", leave=False):
        for side in sides:
            times[side].append(timed(side, best[side]))
    figures = milliseconds(times)
    for side in sides:
        figures |= {f"{side}_least_ms": 1e3 * min(times[side]), f"{side}_threads": best[side]}
    for side in sides[1:]:
        above, below = ("issref", side) if side == "onnxruntime" else (side, "issref")
        name = f"{'compact' if work == 'evaluation' else f'step_{work}'}_vs_{side}"
        figures |= ratio(times, above, below, name)
        figures[name] = figures[f"{above}_ms"] / figures[f"{below}_ms"]
    return figures


def median(side: str, work: str, threads: int, seconds: float) -> float:
    """Return the median seconds of a call of one side; meant for a process of its own."""
    if side != "issref":
        return _median(call(import_module(MODULES[side]), work, threads=threads), seconds)
    tune_malloc()
    with parallel.thread_limit(threads), fixed_weights() if work == "evaluation" else nullcontext():
        return _median(call(evaluation if work == "evaluation" else steps, work), seconds)


def call(module: ModuleType, work: str, **threads: int) -> Side:
    """Return the work as a function, made by the module of a side."""
    if work == "evaluation":
        return module.evaluation(evaluation.weights(evaluation.COMPACT)[0], evaluation.words(), **threads)
    return module.training_step(steps.task(steps.SIZES[work]), **threads)


def _median(run: Side, seconds: float) -> float:
    for _ in range(2):  # compiles, allocates
        run()
    times = []
    while len(times) < LEAST or sum(times) < seconds:
        times.append(clocked(run))
    return statistics.median(times)


def section(measured: Measured) -> str:
    """A line for each side of each work, with the ratio of the interleaved turns in one process."""
    rows = []
    for work, name in WORKS.items():
        figures = measured.get(f"pairs-{work}", {})
        together = measured.get(work if work == "evaluation" else f"step-{work}", {})
        for side in NAMES:
            times, turns = figures.get(f"{side}_ms"), together.get(f"interleaved_vs_{side}")
            if times or turns:
                least, threads = (figures.get(f"{side}_{what}") for what in ("least_ms", "threads"))
                over = times / figures["issref_ms"] if times else None
                rows.append(
                    [
                        name,
                        NAMES[side],
                        f"{threads:g}" if threads else "-",
                        *map(number, (times, least, over, turns)),
                    ]
                )
    if not rows:
        return ""
    return part(
        "issref against other frameworks, in milliseconds",
        f"Each side in a process of its own, {PAIRS} processes in turn with another's; malloc is tuned for "
        f"issref, as in its commands, and unchanged for the others; with 1 or {THREADS} threads, the best for "
        "each side. A process gives the median of its calls; the table has median and minimum over the processes, "
        "and the ratio of the medians. In the last column all sides take turns in one process with issref's "
        "malloc.",
        table(
            ["", "", "threads", "median", "minimum", "its median over issref's", "the same in one process"],
            rows,
            words=2,
        ),
    )


if __name__ == "__main__":
    side, work, threads, seconds = sys.argv[1:]
    print(median(side, work, int(threads), float(seconds)))
