"""Figures of a run: perplexity and components alive over training, the weights with their zeros, the norms."""

import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from issref.iss.layout import Layout, Params, Segment
from issref.ops import lstm, rhn
from issref.training.checkpoint import write_whole

Rows = Sequence[Mapping[str, Any]]
Norms = Mapping[str, np.ndarray]
Lines = Sequence[tuple[Sequence[float], Sequence[float], str, str]]  # x, y, the label at the end, the colour

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito's, colour-blind safe
TRAIN, VALID, ZERO = "#8C8C8C", "#222222", "#F2DDBB"
GATES = {len(gates): gates for gates in (lstm.GATES, rhn.GATES)}  # of the blocks of columns, by their number
CELLS = (400, 800)  # the most rows and columns of an image
STYLE: dict[Any, Any] = {
    "figure.dpi": 200,  # 1500 pixels wide
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.edgecolor": "#888888",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#E6E6E6",
    "lines.markersize": 4,
}


def draw_run(folder: Path, rows: Rows, params: Params, layout: Layout, norms: Norms) -> list[Path]:
    """Write training.png, weights.png and norms.png into a run's folder, each whole or not at all."""
    figures = {
        "training.png": training_figure(rows, layout),
        "weights.png": weights_figure(params, layout, norms),
        "norms.png": norms_figure(norms),
    }
    return [_write(figure, folder / name) for name, figure in figures.items()]


def compare_training(runs: Mapping[str, Rows], path: Path) -> Path:
    """Write one figure of the perplexity and the components alive of several runs, by label."""
    return _write(comparison_figure(runs), path)


def _write(figure: Figure, path: Path) -> Path:
    content = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(content, format="png")
    write_whole(path, content.getvalue())
    return path


@rc_context(STYLE)
def training_figure(rows: Rows, layout: Layout) -> Figure:
    """Perplexity above, components alive below, over the epochs of one run."""
    figure, above, below = _two_panels()
    train, (epochs, valid) = _train_curve(rows), _valid_curve(rows)
    above.plot(*train, color=TRAIN)
    above.plot(epochs, valid, "o", color=VALID, clip_on=False, zorder=3)
    curves = [(*train, f"train {train[1][-1]:.4g}", TRAIN), (epochs, valid, f"valid {valid[-1]:.4g}", VALID)]
    _perplexity_axis(above, "line: train, mean since the epoch began; dots: valid", curves, rows)
    named = [(x, y, f"{space}: {y[-1]} of {layout.sizes[space]}") for space, x, y in _alive_curves(rows)]
    _alive_axis(below, [(*curve, colour) for curve, colour in zip(named, cycle(COLOURS), strict=False)], len(rows))
    return figure


@rc_context(STYLE)
def comparison_figure(runs: Mapping[str, Rows]) -> Figure:
    """Perplexity above, components alive below, over the epochs of several runs; a colour for each run."""
    figure, above, below = _two_panels()
    curves, living, every = [], [], [row for rows in runs.values() for row in rows]
    for (label, rows), colour in zip(runs.items(), cycle(COLOURS), strict=False):
        epochs, valid = _valid_curve(rows)
        above.plot(*_train_curve(rows), color=colour, alpha=0.35, linewidth=1.1)
        above.plot(epochs, valid, "o-", color=colour, clip_on=False, zorder=3)
        curves.append((epochs, valid, f"{label} {valid[-1]:.4g}", colour))
        living += [(x, y, f"{label}, {space}: {y[-1]}", colour) for space, x, y in _alive_curves(rows)]
    _perplexity_axis(above, "dots: valid; pale: train, mean since the epoch began", curves, every)
    _alive_axis(below, living, max(map(len, runs.values())))
    return figure


def _two_panels() -> tuple[Figure, Axes, Axes]:
    figure = Figure(figsize=(7.5, 5.2))
    return figure, *figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))


def _traced(rows: Rows) -> Iterator[tuple[float, Mapping[str, Any]]]:
    """Each point of the traces, and where it lies in epochs."""
    for row in rows:
        for point in row["trace"]:
            yield row["epoch"] - 1 + point["step"] / row["trace"][-1]["step"], point


def _valid_curve(rows: Rows) -> tuple[list[float], list[float]]:
    return [row["epoch"] for row in rows], [row["valid_perplexity"] for row in rows]


def _train_curve(rows: Rows) -> tuple[list[float], list[float]]:
    """A line for each epoch, without its first tenth: means of too few words; nan, a gap, between the lines."""
    found = [(x, point["train_perplexity"] if (x % 1 or 1) >= 0.1 else np.nan) for x, point in _traced(rows)]
    return [x for x, _ in found], [y for _, y in found]


def _alive_curves(rows: Rows) -> list[tuple[str, list[float], list[int]]]:
    x, counts = [x for x, _ in _traced(rows)], [point["alive"] for _, point in _traced(rows)]
    return [(space, x, [alive[space] for alive in counts]) for space in counts[-1]]


def _perplexity_axis(axes: Axes, note: str, curves: Lines, rows: Rows) -> None:
    """Limits and ticks that show what follows the first fall, which may begin at the size of the vocabulary."""
    values = np.concatenate([line.get_ydata() for line in axes.get_lines()])
    ends = max(max(row["train_perplexity"], row["valid_perplexity"]) for row in rows)
    low, high = np.nanmin(values), min(np.nanmax(values), 3 * ends)
    axes.set(title=f"perplexity ({note})", ylim=(low / 1.1, high * 1.1))
    if high > 3 * low:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    _label_ends(axes, curves, gap=0.075)


def _alive_axis(axes: Axes, curves: Lines, epochs: int) -> None:
    for x, counts, _, colour in curves:
        axes.plot(x, counts, color=colour)
    top = max((max(counts) for _, counts, _, _ in curves), default=0)
    axes.set(title="components alive", xlabel="epoch", xlim=(0, epochs), ylim=(0, 1.05 * top or 1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    _label_ends(axes, curves, gap=0.11)


def _label_ends(axes: Axes, lines: Lines, gap: float) -> None:
    """Write each line's label right of the axes at the height of its end, but at least a gap from the next."""
    to_axes = axes.transScale + axes.transLimits
    ends = sorted((to_axes.transform((x[-1], y[-1]))[1], label, colour) for x, y, label, colour in lines)
    steps = gap * np.arange(len(ends))
    apart = np.array([height for height, _, _ in ends]) - steps
    up, down = np.maximum.accumulate(apart), np.minimum.accumulate(apart[::-1])[::-1]
    for (_, label, colour), height in zip(ends, (up + down) / 2 + steps, strict=True):
        axes.text(1.015, height, label, color=colour, transform=axes.transAxes, va="center")


@rc_context({**STYLE, "axes.grid": False, "axes.spines.left": False, "axes.spines.bottom": False})
def weights_figure(params: Params, layout: Layout, norms: Norms) -> Figure:
    """An image of |w| for each matrix that holds groups: exact zeros in one flat colour, segments named."""
    matrices = {array: np.abs(params[array]) for array in layout.axes if _holds_groups(layout, array, norms)}
    most = max((len(values) for values in matrices.values()), default=0) or 1
    heights = [max(len(values) / most, 0.4) for values in matrices.values()] or [1]
    figure = Figure(figsize=(7.5, 0.9 + sum(2.3 * height + 0.6 for height in heights)))
    figure.suptitle("Absolute weights: a removed component leaves whole rows and columns of zeros", size=10)
    panels = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    colours = _colours(list(matrices.values()))
    for axes, (array, values) in zip(panels, matrices.items(), strict=False):
        drawn = _draw_matrix(axes, values, [layout.segments(array, axis) for axis in (0, 1)], colours, norms)
        zeros = f"{100 * np.mean(values == 0):.0f} % zero" if values.size else "empty"
        note = "" if drawn == values.shape else f", drawn as {drawn[0]} × {drawn[1]}"
        axes.set_title(f"{array}   {values.shape[0]:,} × {values.shape[1]:,}, {zeros}{note}")
    bar = figure.colorbar(colours, ax=panels, location="bottom", extendrect=True, shrink=0.5, aspect=45, pad=0.02)
    bar.ax.text(-0.07, 0.5, "exactly zero", transform=bar.ax.transAxes, ha="right", va="center")
    bar.ax.text(1.02, 0.5, "|w|", transform=bar.ax.transAxes, va="center")
    return figure


def _holds_groups(layout: Layout, array: str, norms: Norms) -> bool:
    segments = [segment for axis in range(len(layout.axes[array])) for segment in layout.segments(array, axis)]
    return len(layout.axes[array]) == 2 and any(segment.counted and segment.space in norms for segment in segments)


def _colours(matrices: Sequence[np.ndarray]) -> ScalarMappable:
    """From light to dark blue over the nonzero weights but the smallest 2 %, and ZERO for exact zeros."""
    nonzero = np.concatenate([np.zeros(0), *(matrix[matrix != 0] for matrix in matrices)])
    low, high = np.quantile(nonzero, (0.02, 1)) if nonzero.size else (0.1, 1.0)
    blues = ListedColormap(colormaps["YlGnBu"](np.linspace(0.4, 1, 256))).with_extremes(bad=ZERO, under=ZERO)
    setattr(blues, "colorbar_extend", "min")  # noqa: B010, an attribute that matplotlib's stubs lack
    return ScalarMappable(LogNorm(low, max(high, 1.01 * low)), blues)


def _draw_matrix(
    axes: Axes, values: np.ndarray, segments: list[list[Segment]], colours: ScalarMappable, norms: Norms
) -> tuple[int, ...]:
    """The image with lines between the segments of both axes, and their names; returns its size, at most CELLS."""
    rows, columns = values.shape
    for axis, (along, line) in enumerate(((axes.yaxis, axes.axhline), (axes.xaxis, axes.axvline))):
        values, step = _thinned(values, axis, any(segment.space in norms for segment in segments[axis]))
        places = [(segment.start + segment.stop) / 2 for segment in segments[axis]]
        along.set_ticks(places, _names(segments[axis], norms, step, columns=axis == 1))
        for segment in segments[axis][1:]:
            line(segment.start, color="black", linewidth=0.8)
    if values.size:
        shown = np.where(values > 0, np.clip(values, *colours.get_clim()), np.nan)
        look = {"cmap": colours.cmap, "norm": colours.norm, "interpolation": "nearest"}
        axes.imshow(shown, aspect="auto", extent=(0, columns, rows, 0), **look)
    axes.set(xlim=(0, max(columns, 1)), ylim=(max(rows, 1), 0))
    axes.tick_params(length=0)
    return values.shape


def _thinned(values: np.ndarray, axis: int, grouped: bool) -> tuple[np.ndarray, int]:
    """At most CELLS along an axis: every k-th if there are groups along it, else the largest of k; and k or 1."""
    step = max(1, -(-values.shape[axis] // CELLS[axis]))
    starts = np.arange(0, values.shape[axis], step)
    if grouped or step == 1:
        return values.take(starts, axis), 1
    return np.maximum.reduceat(values, starts, axis), step


def _names(segments: list[Segment], norms: Norms, step: int, columns: bool) -> list[str]:
    """What stands beside each segment: its gate, how many of its components are alive, or its size."""
    if columns and len(segments) in GATES and len({segment.space for segment in segments}) == 1:
        return [f"{one.space}, {gate} gate" for one, gate in zip(segments, GATES[len(segments)], strict=True)]
    pooled = f" (the largest of every {step})" if step > 1 else ""
    alive = {space: f"\n{np.count_nonzero(values):,} of {len(values):,}\nalive" for space, values in norms.items()}
    return [space + alive.get(space, f" {stop - start:,}{pooled}") for space, start, stop, _ in segments]


@rc_context(STYLE)
def norms_figure(norms: Norms) -> Figure:
    """The norms of the groups, sorted, a line for each space; a mark where each reaches zero."""
    figure = Figure(figsize=(7.5, 3.4))
    axes = figure.subplots()
    for index, ((space, values), colour) in enumerate(zip(norms.items(), cycle(COLOURS), strict=False)):
        living, height = np.count_nonzero(values), 0.94 - 0.1 * index
        ranks, look = np.arange(1, len(values) + 1), {"drawstyle": "steps-mid", "clip_on": False}
        axes.plot(ranks, np.sort(values)[::-1], color=colour, **look)
        axes.axvline(living + 0.5, ymax=height, color=colour, linewidth=0.8, linestyle=(0, (2, 2)))
        label = f" {space}: {len(values) - living} of {len(values)} dead"
        axes.text(living + 0.5, height, label, color=colour, va="center", transform=axes.get_xaxis_transform())
    axes.set(
        title="norm of all weights that belong to one component", xlabel="components of a layer, largest first"
    )
    axes.margins(x=0, y=0.25)
    axes.set_ylim(bottom=0)
    return figure
