"""Figures that compare runs: the measure and the components alive over the epochs; the measure over the size."""

from collections.abc import Mapping
from itertools import cycle

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from issref.report.curves import (
    alive_axis,
    alive_curves,
    epochs_axis,
    label_ends,
    measure_axis,
    panel,
    train_curve,
    two_panels,
    valid_curve,
)
from issref.report.measures import measure_of
from issref.report.style import COLOURS, RUN_STYLE, Rows

Point = tuple[float, float]  # parameters, measure


@rc_context(RUN_STYLE)
def comparison_figure(runs: Mapping[str, Rows]) -> Figure:
    """Draw the measure (above) and the components alive (below) over the epochs, a colour for each run."""
    figure, above, below = two_panels()
    _draw_measures(above, runs)
    _draw_all_alive(below, runs)
    return figure


@rc_context(RUN_STYLE)
def measures_figure(runs: Mapping[str, Rows]) -> Figure:
    """Draw the measure over the epochs of several runs, a colour for each run."""
    figure, axes = panel(height=3.4)
    _draw_measures(axes, runs)
    epochs_axis(axes, max(map(len, runs.values())))
    return figure


@rc_context(RUN_STYLE)
def all_alive_figure(runs: Mapping[str, Rows]) -> Figure:
    """Draw the components alive over the epochs of several runs, a colour for each run."""
    figure, axes = panel(height=3.4)
    _draw_all_alive(axes, runs)
    return figure


@rc_context(RUN_STYLE)
def sizes_figure(runs: Mapping[str, tuple[Point, Point]], name: str) -> Figure:
    """Draw the measure `name` over the parameters: a ring for each full model, a dot for each compact model."""
    figure, axes = panel(height=3.4)
    ends = []
    for (label, points), colour in zip(runs.items(), cycle(COLOURS), strict=False):
        x, y = zip(*points, strict=True)
        axes.plot(x, y, color=colour, linewidth=0.9, linestyle=(0, (3, 2)))
        axes.plot(x[0], y[0], "o", color=colour, fillstyle="none", markersize=6)
        axes.plot(x[1], y[1], "o", color=colour, markersize=6)
        ends.append((x, y, label, colour))
    axes.set(title=f"{name} (ring: full, dot: compact)", xlabel="parameters")
    axes.set_xlim(0, 1.05 * max(point[0] for points in runs.values() for point in points) or 1)
    axes.margins(y=0.15)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1e6:.3g} M" if value >= 1e6 else f"{value:,.0f}")
    label_ends(axes, ends, gap=0.075)
    return figure


def _draw_measures(axes: Axes, runs: Mapping[str, Rows]) -> None:
    curves = []
    for (label, rows), colour in zip(runs.items(), cycle(COLOURS), strict=False):
        epochs, valid = valid_curve(rows)
        if not measure_of(rows).rising:
            axes.plot(*train_curve(rows), color=colour, alpha=0.35, linewidth=1.1)
        axes.plot(epochs, valid, "o-", color=colour, clip_on=False, zorder=3)
        curves.append((epochs, valid, f"{label} {valid[-1]:.4g}", colour))
    every = [row for rows in runs.values() for row in rows]
    measure_axis(axes, "dots: valid; pale: train, moving average", curves, every)


def _draw_all_alive(axes: Axes, runs: Mapping[str, Rows]) -> None:
    lines = [
        (x, counts, f"{label}, {space}: {counts[-1]}", colour)
        for (label, rows), colour in zip(runs.items(), cycle(COLOURS), strict=False)
        for space, x, counts in alive_curves(rows)
    ]
    alive_axis(axes, lines, max(map(len, runs.values())))
