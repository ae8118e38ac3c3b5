"""The table of a sweep, and its figure: the first score over the number of parameters."""

import io
from collections.abc import Collection, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter
from tabulate import tabulate

from issref.report.curves import log_if_wide
from issref.report.style import COLOURS, INK, RUN_STYLE
from issref.training.checkpoint import write_whole

Row = Mapping[str, Any]  # a run in sweep.json
ALONG = ("strength", "l1_strength", "threshold")  # settings that vary along a line of the figure


def markdown(sweep: Mapping[str, Any]) -> str:
    """Return a Markdown table with a row for each run, from the largest model to the smallest.

    A run without a result has the reason in place of its sizes.
    """
    rows = sorted(sweep["runs"], key=lambda row: -row["result"]["parameters"]["compact"] if row["result"] else 0)
    head = ("run", "components", "parameters", *sweep["scores"].values(), "minutes")
    cells, align = [_cells(row, sweep["scores"]) for row in rows], ("left", *["right"] * (len(head) - 1))
    return tabulate(cells, head, "pipe", disable_numparse=True, colalign=align) + "\n"


def _cells(row: Row, scores: Collection[str]) -> list[str]:
    if not (result := row["result"]):
        why = f": {row['reason']}" if row["reason"] else f" after {row['epoch']} epochs"
        return [row["name"], f"{row['state']}{why}", *[""] * (2 + len(scores))]
    full, small = (result["components"][one].values() for one in ("full", "compact"))
    components = " + ".join(map(str, small)) + " of " + " + ".join(map(str, full))
    values = [f"{result[score]['compact']:.2f}" for score in scores]
    minutes = f"{result['seconds']['train'] / 60:.1f}"
    return [row["name"], components, f"{result['parameters']['compact']:,}", *values, minutes]


def write_tables(folder: Path, sweep: Mapping[str, Any]) -> list[Path]:
    """Write sweep.md, and sweep.png if a run has finished, each atomically. Return the paths."""
    write_whole(folder / "sweep.md", markdown(sweep).encode())
    if not any(row["result"] for row in sweep["runs"]):
        return [folder / "sweep.md"]
    content = io.BytesIO()
    with rc_context(RUN_STYLE):
        frontier_figure(sweep).savefig(content, format="png")
    write_whole(folder / "sweep.png", content.getvalue())
    return [folder / "sweep.md", folder / "sweep.png"]


@rc_context(RUN_STYLE)
def frontier_figure(sweep: Mapping[str, Any]) -> Figure:
    """Draw the first score over the parameters of the compact model: a dot for each run, a line through the means
    over the seeds along the strengths, diamonds for the dense runs, and a dashed line at their mean."""
    shared, score, better = sweep["settings"], next(iter(sweep["scores"])), sweep["better"]
    rows = [
        {
            "settings": {**shared, **row["settings"]},
            "point": (row["result"]["parameters"]["compact"], row["result"][score]["compact"]),
        }
        for row in sweep["runs"]
        if row["result"]
    ]
    dense = [row for row in rows if row["settings"]["method"] == "dense"]
    figure = Figure(figsize=(7.5, 4.2))
    axes = figure.subplots()
    varied = {name for row in sweep["runs"] for name in row["settings"]}
    lines: dict[str, list[Row]] = {}
    for row in rows:
        if row not in dense:
            lines.setdefault(_label(row, varied - {"seed", "init", *ALONG}), []).append(row)
    for (label, line), colour in zip(lines.items(), cycle(COLOURS), strict=False):
        _draw_line(axes, line, varied, colour, label)
    if dense:
        points = _points(dense)
        axes.plot(*points.T, "D", color=INK, zorder=4, label="dense")
        axes.axhline(points[:, 1].mean(), color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    if len(lines) + bool(dense) > 1:
        axes.legend(frameon=False)
    values = _points(rows)[:, 1]
    axes.set(title=f"{sweep['scores'][score]}, {better} is better", xlabel="parameters of the compact model")
    axes.margins(x=0.09, y=0.09)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    if better == "lower":
        log_if_wide(axes, values.min(), values.max())
    return figure


def _draw_line(axes: Axes, rows: Sequence[Row], varied: set[str], colour: str, label: str) -> None:
    same: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: [row["settings"][name] for name in ALONG if name in row["settings"]]):
        same.setdefault(_label(row, varied & {*ALONG}), []).append(row)
    means = np.array([_points(alike).mean(axis=0) for alike in same.values()])
    axes.plot(*means.T, color=colour, linewidth=1.2, alpha=0.6)
    axes.plot(*_points(rows).T, "o", color=colour, zorder=3, label=label)
    for text, point in zip(same, means, strict=True):
        axes.annotate(text, point, (5, 5), textcoords="offset points", color=colour, size=7.5)


def _points(rows: Sequence[Row]) -> np.ndarray:
    return np.array([row["point"] for row in rows], float)


def _label(row: Row, names: set[str]) -> str:
    """Return the values of some settings as a label: prox, hidden sizes 20 20."""
    words = []
    given = {name for name in names if row["settings"][name] is not None}
    for name in sorted(given, key=list(row["settings"]).index):
        value = row["settings"][name]
        value = " ".join(f"{one:g}" for one in value) if isinstance(value, (list, tuple)) else str(value)
        words.append(value if name in ("method", "model", *ALONG) else f"{name.replace('_', ' ')} {value}")
    return ", ".join(words) or row["settings"]["method"]
