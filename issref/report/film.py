"""A short animated picture of a run: matrices at the recorded steps, curves, the position in training."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.animation import PillowWriter
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from issref.report.curves import draw_alive, draw_measure, epochs_axis
from issref.report.history import History
from issref.report.player import SHADES, opacity
from issref.report.run import Run
from issref.report.style import COLOURS, RUN_STYLE, ZERO

EVERY, A_SECOND, REPEATS = 2, 5, 12  # of the steps; shown in a second; times that the last one is shown
MATRICES = 3  # side by side
LOOK: dict[Any, Any] = {**RUN_STYLE, "figure.dpi": 100, "font.size": 8, "axes.titlesize": 8.5}
WHITE = np.ones(3)


@rc_context(LOOK)
def draw_film(run: Run, history: History, path: Path) -> None:
    """Write an animated picture: the first matrices of a run above, the measure and the components alive below."""
    figure = Figure(figsize=(8, 4.4))
    above, below = figure.subfigures(2, 1, squeeze=False)[:, 0]
    names = history.matrices[:MATRICES]
    panels = above.subplots(1, len(names), squeeze=False)[0]
    images = [_draw_matrix(axes, history, name) for axes, name in zip(panels, names, strict=True)]
    measure, alive = below.subplots(1, 2)
    draw_measure(measure, run.rows)
    epochs_axis(measure, len(run.rows))
    draw_alive(alive, run.rows, run.sizes)
    cursors = [axes.axvline(0, color=COLOURS[1], linewidth=1.2) for axes in (measure, alive)]
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # nothing moves from step to step
    writer = PillowWriter(fps=A_SECOND)
    with writer.saving(figure, path, dpi=100):
        for step in [*range(0, len(history.frames), EVERY), *[-1] * REPEATS]:
            for image, name in zip(images, names, strict=True):
                image.set_data(opacity(history, name, step))
            for line in cursors:
                line.set_xdata([history.epochs[step]] * 2)
            writer.grab_frame()


def _draw_matrix(axes: Axes, history: History, name: str) -> AxesImage:
    """Draw a matrix after the first step, with lines and names for the segments of its rows."""
    shades = opacity(history, name, 0)
    blue, steps = np.array(to_rgb(COLOURS[0])), np.linspace(0, 1, SHADES)[1:, None]
    colours = ListedColormap([to_rgb(ZERO), *(WHITE + steps * (blue - WHITE))])
    image = axes.imshow(shades, cmap=colours, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    rows, columns = (history.bins.segments(f"{name}/{axis}", 0) for axis in (0, 1))
    for number, line in enumerate((axes.axhline, axes.axvline)):
        for segment in (rows, columns)[number][1:]:
            line(segment.start - 0.5, color="black", linewidth=0.6)
    axes.set_yticks([(one.start + one.stop) / 2 for one in rows], [one.space for one in rows])
    axes.set(xticks=[], title=f"{name}   {' × '.join(f'{length:,}' for length in history.layout.shape(name))}")
    axes.tick_params(length=0)
    axes.grid(visible=False)
    return image
