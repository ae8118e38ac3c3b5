"""Time saved by compaction during training: a run's time over its number of steps times the dense step's time.

The run is the command itself in a separate process. Its time is the training time: all steps, cuts, checkpoints
and evaluations on the validation text but the last. The dense step is timed before and after it, on the same
machine with the same number of threads.
"""

import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import children
from benchmarks.steps import VOCABULARY, task, training_step
from benchmarks.timing import interleaved, milliseconds
from benchmarks.words import Figures, Measured, number, part, table
from issref.kernels import parallel
from issref.models import ptb_lstm as model
from issref.ptb.settings import PRESETS, Settings

RUNS = {"small": "small", "zaremba": "zaremba-small"}


def measure(name: str, seconds: float, finished: Path | None = None) -> Figures:
    """shrink_ratio_<name>, of a new run, or of one that is finished in a folder and was made on this machine."""
    folder, dense, peak = finished, {}, {}
    if folder is None:
        dense["before"] = dense_step(PRESETS[RUNS[name]], VOCABULARY, seconds)
        folder = Path("runs") / f"{time.strftime('%Y-%m-%d-%H%M%S')}-benchmark-{RUNS[name]}"
        tqdm.write(f"training {RUNS[name]}, written to {folder}")
        arguments = ["--preset", RUNS[name], "--corpus", "ptb", "--out", folder.resolve()]
        peak = {"peak_mb": children.peak_mb(["-m", "issref.train_ptb", *arguments], show=True)}
    result, rows = read(folder)
    settings, vocabulary = Settings.from_dict(result["settings"]), result["corpus"]["vocabulary"]
    dense["after"] = dense_step(settings, vocabulary, seconds)
    figures = ratio(name, result, rows, statistics.median(time for times in dense.values() for time in times))
    return {**figures, **milliseconds({f"dense_{when}": times for when, times in dense.items()}), **peak}


def dense_step(settings: Settings, vocabulary: int, seconds: float) -> list[float]:
    """Seconds of a dense step at full width, turn by turn."""
    with parallel.thread_limit(settings.run.threads or os.cpu_count()):
        return interleaved({"dense": training_step(task(settings, vocabulary))}, seconds)["dense"]


def read(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the result and rows of a finished run. Raises ValueError unless it is an LSTM shrunk by prox."""
    try:
        result = json.loads((folder / "result.json").read_text())
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{folder}: needs a finished run, found none ({error})") from error
    settings = Settings.from_dict(result["settings"])
    found = (settings.network.model, settings.penalty.method, settings.penalty.shrink)
    if found != ("lstm", "prox", True):
        raise ValueError(f"{folder}: needs a run of an LSTM by --method prox that shrinks, found {found}")
    return result, rows


def ratio(name: str, result: dict[str, Any], rows: list[dict[str, Any]], dense: float) -> Figures:
    """The figures of a run, the dense step taking `dense` seconds."""
    steps = sum(row["trace"][-1]["step"] for row in rows)
    counts = result["components"]
    return {
        f"shrink_ratio_{name}": result["seconds"]["train"] / (steps * dense),
        "train_seconds": result["seconds"]["train"],
        "steps": steps,
        "components": sum(counts["full"].values()),
        "components_left": sum(counts["compact"].values()),
        "multiply_adds_left": _mean_multiply_adds(result, rows),
    }


def _mean_multiply_adds(result: dict[str, Any], rows: list[dict[str, Any]]) -> float:
    """Return the multiply-adds of the shrinking network over the full network's, averaged over the run."""
    settings = Settings.from_dict(result["settings"])
    whole = task(settings, result["corpus"]["vocabulary"]).layout
    left = [model.multiply_adds(whole.resized(point["alive"])) for row in rows for point in row["trace"]]
    return statistics.mean(left) / model.multiply_adds(whole)


def limits(measured: Measured, name: str) -> str:
    """A sentence on what a run cannot save."""
    figures = measured[f"shrink-{name}"]
    left = number(figures["multiply_adds_left"])
    of_all = f"{figures['components_left']:g} of {figures['components']:g}"
    return (
        f"On average a step had {left} of the dense model's multiply-adds; at the end {of_all} components were "
        "left. Proximal steps, cuts and evaluations come on top."
    )


def section(measured: Measured) -> str:
    """A line for each run."""
    runs = {name: measured[f"shrink-{name}"] for name in RUNS if f"shrink-{name}" in measured}
    if not runs:
        return ""
    rows = [
        [
            f"`{RUNS[name]}`",
            f"{figures['components_left']:g} of {figures['components']:g}",
            f"{figures['train_seconds']:,.0f}",
            f"{figures['steps']:,.0f}",
            number(figures.get("dense_before_ms")),
            number(figures["dense_after_ms"]),
            number(figures[f"shrink_ratio_{name}"]),
            number(figures["multiply_adds_left"]),
        ]
        for name, figures in runs.items()
    ]
    head = [
        "preset",
        "components left",
        "seconds of training",
        "steps",
        "dense step before, ms",
        "after, ms",
        "time over steps x dense step",
        "multiply-adds over dense, mean of the run",
    ]
    return part(
        "Training while shrinking",
        "A whole run with the exact proximal step. Its time includes all steps, cuts, checkpoints and the "
        "evaluations after all epochs but the last. The dense step has no proximal step; it is timed before and "
        "after the run, or only after a run given by `--run`.",
        table(head, rows),
    )
