"""Start-up time of the command with all kernels to compile, and with all kernels cached."""

import os
import statistics
import tempfile
from pathlib import Path

from benchmarks import children
from benchmarks.timing import clocked
from benchmarks.words import Figures, Measured, number, part, table

TEXT = " ".join("abcdefghij") + "\n"
WARM = 3


def measure() -> Figures:
    """cold_s, warm_s: a whole run on ten words and widths of 4; import_issref_s beside import_numpy_s."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for split in ("train", "valid", "test"):
            (folder / f"{split}.txt").write_text(10 * TEXT)
        command(folder, "first")  # the system has read every file by then
        cold = clocked(lambda: command(folder, "cold", cache="empty"))
        warm = [clocked(lambda turn=turn: command(folder, f"warm{turn}", cache="empty")) for turn in range(WARM)]
    imports = {
        f"import_{module}_s": statistics.median(
            clocked(lambda module=module: children.run(["-c", f"import {module}"])) for _ in range(WARM)
        )
        for module in ("issref", "numpy")
    }
    return {"cold_s": cold, "warm_s": statistics.median(warm), **imports}


def command(folder: Path, name: str, cache: str | None = None) -> None:
    """The smallest whole run there is: train, evaluate, draw."""
    env = dict(os.environ) | ({"NUMBA_CACHE_DIR": str(folder / cache)} if cache else {})
    sizes = ["--hidden-sizes", "4", "4", "--batch", "2", "--steps", "5", "--epochs", "1", "--strength", "1e-4"]
    children.run(["-m", "issref.train_ptb", "--corpus", folder, *sizes, "--out", folder / name], env=env)


def section(measured: Measured) -> str:
    """Cold, warm, imports."""
    if not (figures := measured.get("start")):
        return ""
    names = {
        "the command, all kernels compiled": "cold_s",
        "the command, kernels from the cache": "warm_s",
        "`import issref`": "import_issref_s",
        "`import numpy`": "import_numpy_s",
    }
    return part(
        "Start, in seconds",
        "A whole run of `python -m issref.train_ptb` on a text of a few lines, with widths of 4: training, "
        "evaluation and figures, with an empty and with a full cache of compiled kernels. All times include the "
        "start of Python.",
        table(["", "s"], [[text, number(figures[name])] for text, name in names.items()]),
    )
