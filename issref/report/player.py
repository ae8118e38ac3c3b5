"""The player of a page: which rows and columns of the matrices have weights at each recorded step."""

import io
from base64 import b64encode
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imsave

from issref.report.curves import train_curve, valid_curve
from issref.report.history import History
from issref.report.run import Run
from issref.report.style import COLOURS, ZERO
from issref.report.weights import gates

FAINTEST = 0.12  # opacity of a weak row or column, so that it differs from one that is removed
SHADES = 16  # of a picture: few shades make a small file


class Picture(NamedTuple):
    """A matrix at the last recorded step, for a page without scripts: name, size, aspect ratio, PNG in base64."""

    name: str
    size: str
    shape: str
    png: str


def player_data(run: Run, history: History) -> dict[str, Any]:
    """Return what the script of the page draws, as JSON: for each recorded step its place on the curves and a line
    of text; for each matrix the segments of its axes, and the level of each row and column at each step.
    """
    return {
        "at": [round(epoch / len(run.rows), 5) for epoch in history.epochs],
        "said": captions(run, history),
        "matrices": [
            {"name": name, "axes": [_axis(history, f"{name}/{axis}") for axis in (0, 1)]}
            for name in history.matrices
        ],
    }


def captions(run: Run, history: History) -> list[str]:
    """Return a line for each recorded step: where training is, its scores so far, the components alive."""
    return [_caption(run, frame, epoch) for frame, epoch in zip(history.frames, history.epochs, strict=True)]


def _caption(run: Run, frame: Mapping[str, Any], epoch: float) -> str:
    parts = [f"Epoch {frame['epoch']}, step {frame['step']:,} of {frame['steps']:,}"]
    for word, (places, scores) in (("training", train_curve(run.rows)), ("validation", valid_curve(run.rows))):
        name = "loss" if word == "training" and run.measure.rising else run.measure.name
        if count := bisect_right(places, epoch + 1e-9):
            parts.append(f"{word} {name} {scores[count - 1]:.4g}")
    alive = ", ".join(f"{space} {count} of {run.sizes[space]}" for space, count in frame["alive"].items())
    return f"{'; '.join(parts)}. Alive: {alive}."


def levels(history: History, vector: str) -> np.ndarray:
    """Return the norms of an axis as bytes, relative to the largest of its segment and of all steps.

    A byte is 0 only for a norm of exactly zero.
    """
    norms, found = history.norms[vector], np.zeros(history.norms[vector].shape, np.uint8)
    for _, start, stop, _ in history.bins.segments(vector, 0):
        part = norms[:, start:stop]
        shares = 255 * part / (part.max(initial=0) or 1)
        found[:, start:stop] = np.where(part > 0, np.maximum(np.round(shares), 1), 0)
    return found


def opacity(history: History, name: str, step: int) -> np.ndarray:
    """Return the opacity of each cell of a matrix: the root of its row's times its column's level, above a least
    one; exactly 0 where the row or the column is zero.
    """
    rows, columns = (levels(history, f"{name}/{axis}")[step] / 255 for axis in (0, 1))
    shade = np.sqrt(np.outer(rows, columns))
    return np.where(shade > 0, FAINTEST + (1 - FAINTEST) * np.ceil(shade * SHADES) / SHADES, 0)


def pictures(history: History) -> list[Picture]:
    """Return each matrix at the last recorded step."""
    found = []
    for name in history.matrices:
        shade, full = opacity(history, name, -1), history.layout.shape(name)
        height = min(max(full[0] / max(full[1], 1), 0.4), 1.0)
        size = " × ".join(f"{length:,}" for length in full)
        found.append(Picture(name, size, f"1 / {height:.3f}", _png(shade)))
    return found


def _png(shade: np.ndarray) -> str:
    colours = np.where(shade[..., None] > 0, to_rgb(COLOURS[0]), to_rgb(ZERO))
    content = io.BytesIO()
    imsave(content, np.dstack([colours, np.where(shade > 0, shade, 1)]), format="png")
    return b64encode(content.getvalue()).decode()


def _axis(history: History, vector: str) -> dict[str, Any]:
    """Return the segments of an axis, each with its label, and the levels of all steps in base64."""
    name, _, axis = vector.rpartition("/")
    full, bins = history.layout.segments(name, int(axis)), history.bins.segments(vector, 0)
    labels = gates(full) if axis == "1" else ()
    labels = labels or [segment.space for segment in full]
    parts = [
        {"space": one.space, "label": label, "bins": few.stop - few.start, "size": one.stop - one.start}
        | {"grouped": one.counted and one.space in history.spaces}
        for one, few, label in zip(full, bins, labels, strict=True)
    ]
    return {"parts": parts, "levels": b64encode(levels(history, vector).tobytes()).decode()}


def cursor(figure: Figure) -> str:
    """Return the place of a figure's axes as CSS lengths, in percent of the figure."""
    box = figure.axes[0].get_position()
    lengths = {"left": box.x0, "width": box.width, "top": 1 - box.y1, "height": box.height}
    return ";".join(f"{name}:{100 * length:.2f}%" for name, length in lengths.items())
