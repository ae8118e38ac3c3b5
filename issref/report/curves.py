"""Figures of training: the measure, the training loss and the components alive over the epochs of one run."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from issref.report.measures import measure_of
from issref.report.style import COLOURS, DEAD, INK, MUTED, NARROW, RUN_STYLE, WIDE, Rows

Curve = tuple[Sequence[float], Sequence[float]]
Lines = Sequence[tuple[Sequence[float], Sequence[float], str, str]]  # x, y, label at the end, colour
AVERAGED = 0.1  # of an epoch: the window of the moving average
CUTS = "ticks: components cut out"


@rc_context(RUN_STYLE)
def training_figure(rows: Rows, sizes: Mapping[str, int]) -> Figure:
    """Draw the measure (above) and the components alive (below) over the epochs of one run."""
    figure, above, below = two_panels()
    draw_measure(above, rows)
    draw_alive(below, rows, sizes)
    return figure


@rc_context(RUN_STYLE)
def measure_figure(rows: Rows, twin: Rows | None = None) -> Figure:
    """Draw the measure over the epochs of one run, and that of a dense run with a dashed line, if given."""
    figure, axes = panel()
    draw_measure(axes, rows, twin)
    epochs_axis(axes, len(rows))
    return figure


@rc_context(RUN_STYLE)
def alive_figure(rows: Rows, sizes: Mapping[str, int]) -> Figure:
    """Draw the components alive over the epochs of one run, a line for each space, a tick for each cut."""
    figure, axes = panel()
    draw_alive(axes, rows, sizes)
    return figure


@rc_context(RUN_STYLE)
def loss_figure(rows: Rows) -> Figure:
    """Draw the training loss of a run whose measure has no training curve."""
    figure, axes = panel()
    epochs, losses = train_curve(rows)
    axes.plot(epochs, losses, color=MUTED)
    axes.set(title="training loss (moving average)")
    epochs_axis(axes, len(rows))
    label_ends(axes, [(epochs, losses, f"train {losses[-1]:.3g}", MUTED)], gap=0.075)
    return figure


def panel(height: float = 2.9) -> tuple[Figure, Axes]:
    """Return a figure for a page, and its axes."""
    figure = Figure(figsize=(NARROW, height))
    return figure, figure.subplots()


def two_panels() -> tuple[Figure, Axes, Axes]:
    """Return a figure for an image file, and its axes above and below."""
    figure = Figure(figsize=(WIDE, 5.2))
    return figure, *figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))


def draw_measure(axes: Axes, rows: Rows, twin: Rows | None = None) -> None:
    """Draw the moving average of the training score, the validation score, and a dense run's, if given."""
    curves, note = [], "valid"
    if twin:
        epochs, valid = valid_curve(twin[: len(rows)])
        axes.plot(epochs, valid, "o--", color=COLOURS[1], fillstyle="none", linewidth=1.1)
        curves.append((epochs, valid, f"dense {valid[-1]:.4g}", COLOURS[1]))
    train, (epochs, valid) = train_curve(rows), valid_curve(rows)
    if not measure_of(rows).rising and train[1]:
        axes.plot(*train, color=MUTED, linewidth=1.2)
        curves.append((*train, f"train {train[1][-1]:.4g}", MUTED))
        note = "grey: train, moving average; dots: valid"
    axes.plot(epochs, valid, "o-", color=INK, clip_on=False, zorder=3)
    measure_axis(axes, note, [*curves, (epochs, valid, f"valid {valid[-1]:.4g}", INK)], rows)


def draw_alive(axes: Axes, rows: Rows, sizes: Mapping[str, int]) -> None:
    """Draw the components alive in each space, and a tick for each cut."""
    named = [(x, y, f"{space}: {y[-1]} of {sizes[space]}") for space, x, y in alive_curves(rows)]
    lines = [(*curve, colour) for curve, colour in zip(named, cycle(COLOURS), strict=False)]
    alive_axis(axes, lines, len(rows))
    if cuts := _cuts(rows):
        axes.plot(
            cuts, np.zeros(len(cuts)), "|", color=DEAD, markersize=7, markeredgewidth=0.6, clip_on=False, zorder=3
        )
        axes.set_title(f"components alive ({CUTS})")


def _traced(rows: Rows) -> Iterator[tuple[float, Mapping[str, Any]]]:
    """Yield each point of the curves, with its position in epochs."""
    for row in rows:
        for point in row["trace"]:
            yield row["epoch"] - 1 + point["step"] / row["trace"][-1]["step"], point


def _cuts(rows: Rows) -> list[float]:
    """Return the position of each cut in epochs."""
    return [
        row["epoch"] - 1 + cut["step"] / row["trace"][-1]["step"] for row in rows for cut in row.get("cuts", ())
    ]


def valid_curve(rows: Rows) -> Curve:
    """Return the epochs and the validation score after each."""
    return [row["epoch"] for row in rows], [row[measure_of(rows).valid] for row in rows]


def train_curve(rows: Rows) -> Curve:
    """Return positions in epochs, and at each the moving average of the training score over a tenth of an epoch.

    The points of a run hold means over the epoch so far; the sum of the losses up to a step is the mean times the
    number of steps. A window may be longer by the distance of two points, and is not cut off at an epoch's start.
    Perplexities are averaged as losses. Both lists are empty without a training score, or in a shorter run.
    """
    measure, ends, sums = measure_of(rows), [0], [0.0]
    if not all(measure.train in point for row in rows for point in row["trace"]):
        return [], []
    for row in rows:
        first, before = ends[-1], sums[-1]
        for point in row["trace"]:
            mean = point[measure.train] if measure.rising else np.log(point[measure.train])
            ends.append(first + point["step"])
            sums.append(before + point["step"] * mean)
    steps, totals = np.array(ends), np.array(sums)
    width = max(1, round(AVERAGED * rows[0]["trace"][-1]["step"]))
    starts = np.searchsorted(steps, steps - width, side="right") - 1  # the last points a window before
    whole = starts >= 0
    means = (totals - totals[starts])[whole] / (steps - steps[starts])[whole]
    x = np.array([0.0, *(x for x, _ in _traced(rows))])[whole]
    return x.tolist(), (means if measure.rising else np.exp(means)).tolist()


def alive_curves(rows: Rows) -> list[tuple[str, list[float], list[int]]]:
    """Return positions in epochs and numbers of components alive, for each space."""
    x, counts = [x for x, _ in _traced(rows)], [point["alive"] for _, point in _traced(rows)]
    return [(space, x, [alive[space] for alive in counts]) for space in counts[-1]]


def measure_axis(axes: Axes, note: str, curves: Lines, rows: Rows) -> None:
    """Set limits and ticks for the values after the first fall, which may start at the size of the vocabulary."""
    measure = measure_of(rows)
    axes.set(title=f"{measure.name} ({note})")
    if not measure.rising:
        values = np.concatenate([line.get_ydata() for line in axes.get_lines()])
        ends = max(row.get(key, 0) for row in rows for key in (measure.train, measure.valid))
        low, high = np.nanmin(values), min(np.nanmax(values), 3 * ends)
        axes.set(ylim=(low / 1.1, high * 1.1))
        log_if_wide(axes, low, high)
    label_ends(axes, curves, gap=0.075)


def log_if_wide(axes: Axes, low: float, high: float) -> None:
    """Set a logarithmic y axis with plain numbers as ticks if high > 3 low."""
    if high > 3 * low:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_locator(NullLocator())


def alive_axis(axes: Axes, curves: Lines, epochs: int) -> None:
    """Draw numbers of components, from 0 up, with labels at the ends."""
    for x, counts, _, colour in curves:
        axes.plot(x, counts, color=colour)
    top = max((max(counts) for _, counts, _, _ in curves), default=0)
    axes.set(title="components alive", ylim=(0, 1.05 * top or 1))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    epochs_axis(axes, epochs)
    label_ends(axes, curves, gap=0.11)


def epochs_axis(axes: Axes, epochs: int) -> None:
    """Let the x axis show the epochs from 0 to the last."""
    axes.set(xlabel="epoch", xlim=(0, epochs))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def label_ends(axes: Axes, lines: Lines, gap: float) -> None:
    """Write each line's label right of the axes, at the height of the line's end, at least a gap apart."""
    axes.autoscale_view()  # else the limits are computed later, from the lines
    to_axes = axes.transScale + axes.transLimits
    ends = sorted((to_axes.transform((x[-1], y[-1]))[1], label, colour) for x, y, label, colour in lines)
    steps = min(gap, 1.1 / max(len(ends), 1)) * np.arange(len(ends))
    apart = np.array([height for height, _, _ in ends]) - steps
    up, down = np.maximum.accumulate(apart), np.minimum.accumulate(apart[::-1])[::-1]
    for (_, label, colour), height in zip(ends, (up + down) / 2 + steps, strict=True):
        axes.text(1.015, height, label, color=colour, transform=axes.transAxes, va="center")
