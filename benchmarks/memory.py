"""Peak resident memory of the tour, `--small`, and of training steps of the large model."""

import tempfile
from pathlib import Path

from benchmarks import children
from benchmarks.steps import SIZES, task
from benchmarks.words import Figures, Measured, number, part, table

WORDS = 20 * (20 * 100 + 1)  # of each text: 100 steps an epoch

TOUR = f"""
import sys
from issref import train_ptb
from issref.data import corpus
windows = corpus.windows
corpus.windows = lambda text, *rows, **tail: windows(text[:{WORDS}], *rows, **tail)
sys.exit(train_ptb.main(["--small", "--corpus", "ptb", "--out", sys.argv[1]]))
"""

STEPS = """
from issref.kernels import parallel
from benchmarks.steps import SIZES, task, training_step
from benchmarks.timing import THREADS
from issref.training.process import tune_malloc
tune_malloc()
with parallel.thread_limit(THREADS):
    step = training_step(task(SIZES["large"]))
    step(), step()
"""

IMPORTS = "from issref import report, train_ptb; from issref.kernels import jitted"


def measure() -> Figures:
    """peak_mb_small and peak_mb_large, in 10^6 bytes."""
    with tempfile.TemporaryDirectory() as folder:
        small = children.peak_mb(["-c", TOUR, Path(folder) / "run"])
    parameters = {size: task(SIZES[size]).layout.parameters() for size in ("small", "large")}
    return {
        "peak_mb_small": small,
        "peak_mb_large": children.peak_mb(["-c", STEPS]),
        "peak_mb_imports": children.peak_mb(["-c", IMPORTS]),
        **{f"weights_mb_{size}": 4 * count / 1e6 for size, count in parameters.items()},
    }


def limits(measured: Measured, size: str) -> str:
    """A sentence on what memory is needed for."""
    weights, imports = (number(measured["memory"][name]) for name in (f"weights_mb_{size}", "peak_mb_imports"))
    return f"Python with everything imported needs {imports} MB; weights and gradients are {weights} MB each."


def section(measured: Measured) -> str:
    """What was run, and how much it needed."""
    if not (figures := measured.get("memory")):
        return ""
    rows = [
        ["`--small` on Penn TreeBank", number(figures["peak_mb_small"]), number(figures["weights_mb_small"])],
        ["two training steps of 2x1500", number(figures["peak_mb_large"]), number(figures["weights_mb_large"])],
        ["Python with everything imported", number(figures["peak_mb_imports"]), "-"],
    ]
    whole = measured.get("shrink-small", {}).get("peak_mb")
    return part(
        "Peak resident memory, in MB",
        "`--small` is the whole command: the whole corpus read, two epochs, both models evaluated, figures "
        f"drawn; only that of each text the first {WORDS:,} words are trained on or evaluated. Of the large "
        "model: its first weights, then two steps.",
        table(["", "peak", "of these, one copy of the weights"], rows),
        *([f"The whole run of `--small` that `shrink-small` made needed {number(whole)}."] if whole else []),
    )
