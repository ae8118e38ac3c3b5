"""Figures of the weights: the matrices with their zeros, before and after compaction; the group norms."""

from collections.abc import Sequence
from itertools import cycle

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from issref.iss.layout import Layout, Params, Segment
from issref.models import LANGUAGE_MODELS
from issref.report.style import COLOURS, DEAD, NARROW, RUN_STYLE, WIDE, ZERO, Norms

GATES = {len(model.GATES): model.GATES for model in LANGUAGE_MODELS.values()}  # by the number of column blocks
APART = 3.5  # widths of a bar from the exact zeros of a histogram to its origin
CELLS = (400, 800)  # maximum rows and columns of an image
KEY = {"extendrect": True, "extend": "min"}
Weights = tuple[Params, Layout]
BARE = {**RUN_STYLE, "axes.grid": False, "axes.spines.left": False, "axes.spines.bottom": False}


@rc_context(BARE)
def weights_figure(params: Params, layout: Layout, norms: Norms) -> Figure:
    """Draw |w| of each matrix with groups: exact zeros in a colour of their own, segments with names."""
    matrices = {array: np.abs(params[array]) for array in matrices_with_groups(layout, norms)}
    most = max((len(values) for values in matrices.values()), default=0) or 1
    heights = [max(len(values) / most, 0.4) for values in matrices.values()] or [1]
    figure = Figure(figsize=(WIDE, 0.9 + sum(2.3 * height + 0.6 for height in heights)))
    figure.suptitle("Absolute weights: a removed component leaves whole rows and columns of zeros", size=10)
    panels = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    colours = _colours(list(matrices.values()))
    for axes, (array, values) in zip(panels, matrices.items(), strict=False):
        drawn = _draw_matrix(axes, values, _segments(layout, array), colours, norms)
        note = "" if drawn == values.shape else f", drawn as {drawn[0]} × {drawn[1]}"
        axes.set_title(f"{array}   {_size(values)}{note}")
    _name_key(figure.colorbar(colours, ax=panels, location="bottom", shrink=0.5, aspect=45, pad=0.02, **KEY))
    return figure


@rc_context(BARE)
def before_after_figure(array: str, before: Weights, after: Weights, norms: Norms) -> Figure:
    """Draw a matrix with its dead rows and columns marked at the edges, and its compact form to the same scale."""
    (full, layout), (small, small_layout) = before, after
    values, left = np.abs(full[array]), np.abs(small[array])
    width, height = 3.6, float(np.clip(3.6 * len(values) / max(values.shape[1], 1), 0.7, 2.4))
    shares = [now / max(was, 1) for now, was in zip(left.shape, values.shape, strict=True)]
    tall = 1.6 + height * (1 + shares[0])
    figure, colours = Figure(figsize=(NARROW, tall)), _colours([values])

    figure.set_layout_engine("none")

    def place(top: float, wide: float, high: float) -> Axes:
        box = (NARROW - width - 0.15, tall - top - high, max(wide, 0.01), max(high, 0.01))
        return figure.add_axes((box[0] / NARROW, box[1] / tall, box[2] / NARROW, box[3] / tall))

    upper = place(0.35, width, height)
    drawn = _draw_matrix(upper, values, _segments(layout, array), colours, norms, apart="\n")
    pooled = "" if drawn == values.shape else f", drawn as {drawn[0]} × {drawn[1]}"
    upper.set_title(f"before: {_size(values)}{pooled}", pad=10)
    _mark_dead(upper, _segments(layout, array), norms, 0.07 / width, 0.07 / height)
    lower = place(0.98 + height, width * shares[1], height * shares[0])
    _draw_matrix(lower, left, _segments(small_layout, array), colours, {})
    lower.set_title(f"after: {_size(left)}")
    lower.set_xticks([])
    names = zip(lower.get_yticklabels(), small_layout.segments(array, 0), strict=True)
    least = 0.12 * max(len(values), 1) / height  # rows in the height of a line of text
    words = [name.get_text() if stop - start >= least else "" for name, (_, start, stop, _) in names]
    lower.set_yticks(lower.get_yticks(), words)
    key = figure.add_axes(((NARROW - width + 0.1) / NARROW, 0.28 / tall, (width - 1.0) / NARROW, 0.09 / tall))
    _name_key(figure.colorbar(colours, cax=key, orientation="horizontal", **KEY))
    return figure


def matrices_with_groups(layout: Layout, norms: Norms) -> list[str]:
    """Return the matrices that hold groups, in the layout's order."""
    return [array for array in layout.axes if _holds_groups(layout, array, norms)]


def _size(values: np.ndarray) -> str:
    zeros = f"{100 * np.mean(values == 0):.0f} % zero" if values.size else "empty"
    return f"{values.shape[0]:,} × {values.shape[1]:,}, {zeros}"


def _segments(layout: Layout, array: str) -> list[list[Segment]]:
    return [layout.segments(array, axis) for axis in (0, 1)]


def _mark_dead(axes: Axes, segments: list[list[Segment]], norms: Norms, wide: float, high: float) -> None:
    """Mark dead components in a strip left of the rows and a strip above the columns."""
    for axis, box in enumerate(((-1.4 * wide, 0, wide, 1), (0, 1 + 0.4 * high, 1, high))):
        dead = [norms.get(space, np.ones(stop - start)) == 0 for space, start, stop, _ in segments[axis]]
        marks = np.concatenate([np.zeros(0, bool), *dead])
        if marks.any():
            strip = axes.inset_axes(box)
            image = np.ma.masked_equal(marks[:, None] if axis == 0 else marks[None, :], False)
            strip.imshow(image, aspect="auto", cmap=ListedColormap([DEAD]), interpolation="none")
            strip.set(xticks=[], yticks=[], facecolor="none")
    axes.tick_params(axis="y", pad=11)


def _name_key(bar: Colorbar) -> None:
    low, high = bar.mappable.get_clim()
    bar.locator = LogLocator(numticks=5) if high > 100 * low else FixedLocator([low, high])
    bar.formatter, bar.minorlocator = StrMethodFormatter("{x:.2g}"), NullLocator()
    bar.update_ticks()
    bar.ax.text(-0.07, 0.5, "exactly zero", transform=bar.ax.transAxes, ha="right", va="center")
    bar.ax.text(1.02, 0.5, "|w|", transform=bar.ax.transAxes, va="center")


def _holds_groups(layout: Layout, array: str, norms: Norms) -> bool:
    segments = [segment for axis in range(len(layout.axes[array])) for segment in layout.segments(array, axis)]
    return len(layout.axes[array]) == 2 and any(segment.counted and segment.space in norms for segment in segments)


def _colours(matrices: Sequence[np.ndarray]) -> ScalarMappable:
    """Return a scale from light to dark blue, from the 2 % quantile of nonzero weights up, and ZERO for zeros."""
    nonzero = np.concatenate([np.zeros(0), *(matrix[matrix != 0] for matrix in matrices)])
    low, high = np.quantile(nonzero, (0.02, 1)) if nonzero.size else (0.1, 1.0)
    blues = ListedColormap(colormaps["YlGnBu"](np.linspace(0.4, 1, 24))).with_extremes(bad=ZERO, under=ZERO)
    setattr(blues, "colorbar_extend", "min")  # noqa: B010, missing in matplotlib's stubs
    return ScalarMappable(LogNorm(low, max(high, 1.01 * low)), blues)


def _draw_matrix(
    axes: Axes,
    values: np.ndarray,
    segments: list[list[Segment]],
    colours: ScalarMappable,
    norms: Norms,
    apart: str = ", ",
) -> tuple[int, ...]:
    """Draw the image, lines between the segments of both axes, and their names; return its size, at most CELLS."""
    rows, columns = values.shape
    for axis, (along, line) in enumerate(((axes.yaxis, axes.axhline), (axes.xaxis, axes.axvline))):
        values, step = _thinned(values, axis, any(segment.space in norms for segment in segments[axis]))
        places = [(segment.start + segment.stop) / 2 for segment in segments[axis]]
        along.set_ticks(places, _names(segments[axis], norms, step, axis == 0, apart))
        for segment in segments[axis][1:]:
            line(segment.start, color="black", linewidth=0.8)
    if values.size:
        shown = np.where(values > 0, np.clip(values, *colours.get_clim()), np.nan)
        look = {"cmap": colours.cmap, "norm": colours.norm, "interpolation": "none"}
        axes.imshow(shown, aspect="auto", extent=(0, columns, rows, 0), **look)
    axes.set(xlim=(0, max(columns, 1)), ylim=(max(rows, 1), 0))
    axes.tick_params(length=0)
    return values.shape


def _thinned(values: np.ndarray, axis: int, grouped: bool) -> tuple[np.ndarray, int]:
    """Return at most CELLS values along an axis, every k-th if it has groups, else the largest of k; k or 1."""
    step = max(1, -(-values.shape[axis] // CELLS[axis]))
    starts = np.arange(0, values.shape[axis], step)
    if grouped or step == 1:
        return values.take(starts, axis), 1
    return np.maximum.reduceat(values, starts, axis), step


def _names(segments: list[Segment], norms: Norms, step: int, rows: bool, apart: str) -> list[str]:
    """Return the label of each segment: its gate, its number of components alive, or its size."""
    if not rows and (blocks := gates(segments)):
        return [f"{one.space}{apart}{gate} gate" for one, gate in zip(segments, blocks, strict=True)]
    if rows and len(segments) > 4:
        few = {space: f"{np.count_nonzero(values)}/{len(values)}" for space, values in norms.items()}
        return [f"{space} {few.get(space, stop - start)}" for space, start, stop, _ in segments]
    gap = "\n" if rows else " "
    pooled = f"{gap}(the largest{gap}of every {step})" if step > 1 else ""
    alive = {
        space: f"{gap}{np.count_nonzero(values):,} of {len(values):,}{gap}alive" for space, values in norms.items()
    }
    return [space + alive.get(space, f" {stop - start:,}{pooled}") for space, start, stop, _ in segments]


def gates(segments: list[Segment]) -> Sequence[str]:
    """Return the names of the gates whose columns the segments are; none if they are others."""
    return GATES.get(len(segments), ()) if len({segment.space for segment in segments}) == 1 else ()


@rc_context(RUN_STYLE)
def norms_figure(norms: Norms) -> Figure:
    """Draw a histogram of the group norms of each space; norms of exactly zero have a colour of their own."""
    figure = Figure(figsize=(NARROW, 1.1 + 1.0 * max(len(norms), 1)))
    panels = figure.subplots(max(len(norms), 1), 1, sharex=True, squeeze=False)[:, 0]
    edges = np.linspace(0, max((values.max(initial=0) for values in norms.values()), default=0) or 1, 26)
    for axes, (space, values), colour in zip(panels, norms.items(), cycle(COLOURS), strict=False):
        dead = np.count_nonzero(values == 0)
        axes.hist(values[values > 0], edges, color=colour, rwidth=0.85)
        axes.bar(-APART * edges[1], dead, edges[1], color=DEAD)
        axes.text((0.6 - APART) * edges[1], dead, f" {dead} dead", color=DEAD, va="top" if dead else "bottom")
        axes.set_title(f"{space}: {len(values) - dead} of {len(values)} alive", color=colour)
        axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    ticks = [tick for tick in MaxNLocator(4).tick_values(0, edges[-1]) if 0 <= tick <= edges[-1]]
    panels[-1].set_xticks([-APART * edges[1], *ticks], ["exactly 0", *(f"{tick:g}" for tick in ticks)])
    panels[-1].set_xlabel("group norm of a component")
    figure.supylabel("components", size=9)
    return figure
