"""Figures of training: the measure and the components alive over the epochs; the measure over the size."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from issref.report.measures import measure_of
from issref.report.style import COLOURS, INK, MUTED, NARROW, STYLE, WIDE, Rows

Lines = Sequence[tuple[Sequence[float], Sequence[float], str, str]]  # x, y, label at the end, colour
Point = tuple[float, float]  # parameters, measure


@rc_context(STYLE)
def training_figure(rows: Rows, sizes: Mapping[str, int]) -> Figure:
    """Draw the measure (above) and the components alive (below) over the epochs of one run."""
    figure, above, below = _two_panels()
    _draw_measure(above, rows)
    _draw_alive(below, rows, sizes)
    return figure


@rc_context(STYLE)
def measure_figure(rows: Rows) -> Figure:
    """Draw the measure over the epochs of one run."""
    figure, axes = _panel()
    _draw_measure(axes, rows)
    _epochs_axis(axes, len(rows))
    return figure


@rc_context(STYLE)
def alive_figure(rows: Rows, sizes: Mapping[str, int]) -> Figure:
    """Draw the components alive over the epochs of one run, a line for each space."""
    figure, axes = _panel()
    _draw_alive(axes, rows, sizes)
    return figure


@rc_context(STYLE)
def comparison_figure(runs: Mapping[str, Rows]) -> Figure:
    """Draw the measure (above) and the components alive (below) over the epochs, a colour for each run."""
    figure, above, below = _two_panels()
    _draw_measures(above, runs)
    _draw_all_alive(below, runs)
    return figure


@rc_context(STYLE)
def measures_figure(runs: Mapping[str, Rows]) -> Figure:
    """Draw the measure over the epochs of several runs, a colour for each run."""
    figure, axes = _panel(height=3.4)
    _draw_measures(axes, runs)
    _epochs_axis(axes, max(map(len, runs.values())))
    return figure


@rc_context(STYLE)
def all_alive_figure(runs: Mapping[str, Rows]) -> Figure:
    """Draw the components alive over the epochs of several runs, a colour for each run."""
    figure, axes = _panel(height=3.4)
    _draw_all_alive(axes, runs)
    return figure


@rc_context(STYLE)
def sizes_figure(runs: Mapping[str, tuple[Point, Point]], name: str) -> Figure:
    """Draw the measure `name` over the parameters: a ring for each full model, a dot for each compact model."""
    figure, axes = _panel(height=3.4)
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
    _label_ends(axes, ends, gap=0.075)
    return figure


def _panel(height: float = 2.9) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(NARROW, height))
    return figure, figure.subplots()


def _two_panels() -> tuple[Figure, Axes, Axes]:
    figure = Figure(figsize=(WIDE, 5.2))
    return figure, *figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))


def _draw_measure(axes: Axes, rows: Rows) -> None:
    train, (epochs, valid) = _train_curve(rows), _valid_curve(rows)
    axes.plot(*train, color=MUTED)
    axes.plot(epochs, valid, "o", color=INK, clip_on=False, zorder=3)
    curves, note = [(epochs, valid, f"valid {valid[-1]:.4g}", INK)], "valid"
    if train[1]:
        curves.append((*train, f"train {train[1][-1]:.4g}", MUTED))
        note = "line: train, mean since the epoch began; dots: valid"
    _measure_axis(axes, note, curves, rows)


def _draw_alive(axes: Axes, rows: Rows, sizes: Mapping[str, int]) -> None:
    named = [(x, y, f"{space}: {y[-1]} of {sizes[space]}") for space, x, y in _alive_curves(rows)]
    _alive_axis(axes, [(*curve, colour) for curve, colour in zip(named, cycle(COLOURS), strict=False)], len(rows))


def _draw_measures(axes: Axes, runs: Mapping[str, Rows]) -> None:
    curves = []
    for (label, rows), colour in zip(runs.items(), cycle(COLOURS), strict=False):
        epochs, valid = _valid_curve(rows)
        axes.plot(*_train_curve(rows), color=colour, alpha=0.35, linewidth=1.1)
        axes.plot(epochs, valid, "o-", color=colour, clip_on=False, zorder=3)
        curves.append((epochs, valid, f"{label} {valid[-1]:.4g}", colour))
    every = [row for rows in runs.values() for row in rows]
    _measure_axis(axes, "dots: valid; pale: train, mean since the epoch began", curves, every)


def _draw_all_alive(axes: Axes, runs: Mapping[str, Rows]) -> None:
    lines = [
        (x, counts, f"{label}, {space}: {counts[-1]}", colour)
        for (label, rows), colour in zip(runs.items(), cycle(COLOURS), strict=False)
        for space, x, counts in _alive_curves(rows)
    ]
    _alive_axis(axes, lines, max(map(len, runs.values())))


def _traced(rows: Rows) -> Iterator[tuple[float, Mapping[str, Any]]]:
    """Yield each point of the curves, with its position in epochs."""
    for row in rows:
        for point in row["trace"]:
            yield row["epoch"] - 1 + point["step"] / row["trace"][-1]["step"], point


def _valid_curve(rows: Rows) -> tuple[list[float], list[float]]:
    return [row["epoch"] for row in rows], [row[measure_of(rows).valid] for row in rows]


def _train_curve(rows: Rows) -> tuple[list[float], list[float]]:
    """Return a line for each epoch, with nan for its first tenth, whose means are over too few steps."""
    key = measure_of(rows).train
    found = [(x, point[key] if (x % 1 or 1) >= 0.1 else np.nan) for x, point in _traced(rows) if key in point]
    return [x for x, _ in found], [y for _, y in found]


def _alive_curves(rows: Rows) -> list[tuple[str, list[float], list[int]]]:
    x, counts = [x for x, _ in _traced(rows)], [point["alive"] for _, point in _traced(rows)]
    return [(space, x, [alive[space] for alive in counts]) for space in counts[-1]]


def _measure_axis(axes: Axes, note: str, curves: Lines, rows: Rows) -> None:
    """Set limits and ticks for the values after the first fall, which may start at the size of the vocabulary."""
    measure = measure_of(rows)
    axes.set(title=f"{measure.name} ({note})")
    if not measure.rising:
        values = np.concatenate([line.get_ydata() for line in axes.get_lines()])
        ends = max(row.get(key, 0) for row in rows for key in (measure.train, measure.valid))
        low, high = np.nanmin(values), min(np.nanmax(values), 3 * ends)
        axes.set(ylim=(low / 1.1, high * 1.1))
        log_if_wide(axes, low, high)
    _label_ends(axes, curves, gap=0.075)


def log_if_wide(axes: Axes, low: float, high: float) -> None:
    """Set a logarithmic y axis with plain numbers as ticks if high > 3 low."""
    if high > 3 * low:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_locator(NullLocator())


def _alive_axis(axes: Axes, curves: Lines, epochs: int) -> None:
    for x, counts, _, colour in curves:
        axes.plot(x, counts, color=colour)
    top = max((max(counts) for _, counts, _, _ in curves), default=0)
    axes.set(title="components alive", ylim=(0, 1.05 * top or 1))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    _epochs_axis(axes, epochs)
    _label_ends(axes, curves, gap=0.11)


def _epochs_axis(axes: Axes, epochs: int) -> None:
    axes.set(xlabel="epoch", xlim=(0, epochs))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _label_ends(axes: Axes, lines: Lines, gap: float) -> None:
    """Write each line's label right of the axes, at the height of the line's end, at least a gap apart."""
    axes.autoscale_view()  # else the limits are computed later, from the lines
    to_axes = axes.transScale + axes.transLimits
    ends = sorted((to_axes.transform((x[-1], y[-1]))[1], label, colour) for x, y, label, colour in lines)
    steps = min(gap, 1.1 / max(len(ends), 1)) * np.arange(len(ends))
    apart = np.array([height for height, _, _ in ends]) - steps
    up, down = np.maximum.accumulate(apart), np.minimum.accumulate(apart[::-1])[::-1]
    for (_, label, colour), height in zip(ends, (up + down) / 2 + steps, strict=True):
        axes.text(1.015, height, label, color=colour, transform=axes.transAxes, va="center")
