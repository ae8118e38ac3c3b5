"""Peak resident memory of the quick run, `--small`, and of training steps of the large model."""

import tempfile
from pathlib import Path

from benchmarks import children
from benchmarks.steps import SIZES, task
from benchmarks.words import Figures, Measured, number, part, table

WORDS = 20 * (20 * 100 + 1)  # of each text: 100 steps an epoch

QUICK_RUN = f"""
import sys
from issref import train_ptb
from issref.data import corpus
windows = corpus.windows
train_ptb.windows = corpus.windows = lambda text, *rows, **tail: windows(text[:{WORDS}], *rows, **tail)
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
        small = children.peak_mb(["-c", QUICK_RUN, Path(folder) / "run"])
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
    return f"Python with all imports needs {imports} MB; weights and gradients take {weights} MB each."


def section(measured: Measured) -> str:
    """Return the section on memory."""
    if not (figures := measured.get("memory")):
        return ""
    rows = [
        ["`--small` on Penn TreeBank", number(figures["peak_mb_small"]), number(figures["weights_mb_small"])],
        ["two training steps of 2x1500", number(figures["peak_mb_large"]), number(figures["weights_mb_large"])],
        ["Python with all imports", number(figures["peak_mb_imports"]), "-"],
    ]
    whole = measured.get("shrink-small", {}).get("peak_mb")
    return part(
        "Peak resident memory, in MB",
        "`--small` is the whole command: it reads the corpus, trains two epochs, evaluates both models and "
        f"draws the figures, but uses only the first {WORDS:,} words of each text. The large model is "
        "initialised and trained for two steps.",
        table(["", "peak", "one copy of the weights"], rows),
        *([f"The complete `--small` run of `shrink-small` needed {number(whole)} MB."] if whole else []),
    )
