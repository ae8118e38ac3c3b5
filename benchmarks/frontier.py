"""The figure of all whole runs: test perplexity over the parameters of the compact model."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.comparisons import DIRECT, NETWORKS, Result, gone, kind, network, perplexity

DOCUMENTED, PAPER = "dense, documented by the released code", "the paper's"
MARKS = {"dense": "D", "ISS": "o", "direct design": "s", DOCUMENTED: "D", PAPER: "^"}
HOLLOW = (DOCUMENTED, PAPER)  # not measured here
TICKS = (1, 2, 5, 10, 20, 50)  # millions


def draw(found: Mapping[str, Result], paper: Sequence[tuple[float, float]], path: Path) -> None:
    """Draw the figure: a colour for each network, at each ISS run the share of its units that is gone.

    `paper` are the paper's parameters, in millions, and test perplexities.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from issref.report.style import COLOURS, INK, MUTED, STYLE, WIDE
    from issref.training.checkpoint import write_whole

    with rc_context(STYLE):
        figure = Figure(figsize=(WIDE, 4.4))
        axes = figure.subplots()
        colours = dict(zip(NETWORKS, COLOURS, strict=False))
        for one in found.values():
            _draw_run(axes, one, colours.get(network(one), MUTED))
        for name, known in NETWORKS.items():
            runs = [one for one in found.values() if network(one) == name]
            if runs and known.documented and all(_mark(one) != "dense" for one in runs):
                point = runs[0]["parameters"]["full"] / 1e6, known.documented[1]
                axes.plot(*point, MARKS[DOCUMENTED], color=colours[name], fillstyle="none")
            if runs:
                axes.plot([], "_", color=colours[name], markersize=10, label=known.text)
        axes.plot(*zip(*paper, strict=True), MARKS[PAPER], color=MUTED, fillstyle="none")
        for name, mark in MARKS.items():
            axes.plot([], mark, color=INK, fillstyle="none" if name in HOLLOW else "full", label=name)
        axes.set(title="test perplexity, lower is better; labels: units removed", xscale="log")
        axes.set_xlabel("parameters of the compact model, in millions")
        axes.set_xticks(TICKS, map(str, TICKS))
        axes.minorticks_off()
        axes.margins(x=0.09)
        axes.legend(frameon=False, fontsize=8)
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=150)
    write_whole(path, content.getvalue())


def _mark(one: Result) -> str:
    return "direct design" if kind(one) == DIRECT else "dense" if kind(one).endswith("dense") else "ISS"


def _draw_run(axes: Any, one: Result, colour: str) -> None:
    point = one["parameters"]["compact"] / 1e6, perplexity(one)
    axes.plot(*point, MARKS[_mark(one)], color=colour)
    if _mark(one) == "ISS":
        axes.annotate(f"{gone(one):.0%}", point, (5, 3), textcoords="offset points", color=colour, size=7)
