"""Time of a training step and of a proximal step against width and vocabulary."""

from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from benchmarks.prox import trajectory
from benchmarks.steps import SIZES, VOCABULARY, task
from benchmarks.words import Figures, Measured, number, part, table
from issref.report import COLOURS, STYLE

PICTURE = Path("pictures/scaling.png")
WIDTHS = (50, 100, 200, 400, 800, 1600)
VOCABULARIES = (1_000, 3_000, 10_000, 30_000, 100_000)
SIDES = {"step": "step without it", "prox": "proximal step"}


def measure(seconds: float) -> Figures:
    """width/<width>/step_ms and prox_ms, vocabulary/<size>/step_ms and prox_ms: warm, on random words."""
    small = SIZES["small"]
    jobs = {f"width/{width}": (small.replaced(hidden_sizes=(width, width)), VOCABULARY) for width in WIDTHS}
    jobs |= {f"vocabulary/{words}": (small, words) for words in VOCABULARIES}
    figures = {}
    for name, (settings, vocabulary) in jobs.items():
        work = task(settings, vocabulary)
        times = trajectory(work._replace(windows=100 * work.windows), seconds / len(jobs), least=4)
        figures |= {f"{name}/{side}_ms": 1e3 * float(np.median(times[side])) for side in SIDES}
    return figures


@rc_context(STYLE)
def picture(measured: Measured) -> Figure | None:
    """Milliseconds against width, and against vocabulary."""
    if not (figures := measured.get("scaling")):
        return None
    drawn = Figure(figsize=(7.5, 3.6))
    panels = drawn.subplots(1, 2, sharey=True)
    for axes, (name, sizes) in zip(panels, {"width": WIDTHS, "vocabulary": VOCABULARIES}.items(), strict=True):
        for (side, label), colour in zip(SIDES.items(), COLOURS, strict=False):
            times = [figures[f"{name}/{size}/{side}_ms"] for size in sizes]
            axes.plot(sizes, times, "o-", color=colour, label=label, clip_on=False)
        axes.set(xscale="log", yscale="log", xlabel=name, title="" if name == "vocabulary" else "ms")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.xaxis.set_minor_locator(NullLocator())
    panels[0].legend(frameon=False)
    return drawn


def section(measured: Measured) -> str:
    """A line for each size."""
    if not (figures := measured.get("scaling")):
        return ""
    rows = [
        [f"{name} {size:,}", *(number(figures[f"{name}/{size}/{side}_ms"]) for side in SIDES)]
        for name, sizes in {"width": WIDTHS, "vocabulary": VOCABULARIES}.items()
        for size in sizes
    ]
    return part(
        "Cost against width and vocabulary, in milliseconds",
        "A training step and a proximal step with warm start, for two layers of equal width, 20 steps of 20 "
        "rows, random words; V = 10,000 for varying width, width 200 for varying V.",
        f"![Cost against width and vocabulary]({PICTURE})",
        table(["", *SIDES.values()], rows),
    )
