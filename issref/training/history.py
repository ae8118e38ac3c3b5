"""The weights over training, recorded small: norms of the rows and columns of each matrix with groups.

The first line of a run's history.jsonl is the layout of the whole network; each other line is a recorded step. The
norms are at the original widths: a component that was cut out keeps its place, with exact zeros.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Collection
from itertools import accumulate
from typing import Any

import numpy as np

from issref.iss.compact import expand
from issref.iss.layout import Layout
from issref.training.state import RunState

FILE = "history.jsonl"
FRAMES = 60  # recorded steps of a run
BINS = 200  # values for a segment of an axis
VALUES = 8192  # values for a step, so that the file has at most 1.4 MB
SMALLEST, LARGEST = np.finfo(np.float16).smallest_subnormal, np.finfo(np.float16).max


def is_recorded(epoch: int, step: int, steps: int, epochs: int) -> bool:
    """Return whether a step is recorded; epochs count from 0, the steps of an epoch from 1.

    The first step of a run is recorded, and at most 60 evenly spaced ones. In a run of at most 60 epochs the last
    step of each epoch is one of them.
    """
    frames = FRAMES // epochs * epochs or FRAMES
    done, total = epoch * steps + step, epochs * steps
    return done == 1 or done * frames // total > (done - 1) * frames // total


def first_line(run: RunState, layout: Layout) -> dict[str, Any]:
    """Return the layout of the whole network; `layout` is that of run.params."""
    return {"layout": json.loads(_full(run, layout).to_json()), "spaces": list(run.alive)}


def frame(run: RunState, layout: Layout, steps: int) -> dict[str, Any]:
    """Return the line of a step: its epoch and step, both from 1, the steps of the epoch, and the norms.

    The norms are float16, the lower byte first, in base64, in the order of `binned(lines(...))`. The value of a
    bin is the root of the mean of the squared norms. Zeros are exact: no positive norm is rounded to 0.
    """
    vectors = lines(layout, run.alive)
    full = _full(run, vectors)
    norms = {name: _norms(run.params[name[:-2]], int(name[-1])) for name in vectors.axes}
    if vectors != full:
        norms, _ = expand(norms, vectors, run.alive)
    bins = [_pooled(norms[name], full, binned(full), name) for name in full.axes]
    values = np.concatenate([np.zeros(0), *bins])
    rounded = np.where(values == 0, 0, np.clip(values, SMALLEST, LARGEST)).astype("<f2")
    position = {"epoch": run.epoch + 1, "step": run.step + 1, "steps": steps}
    return {**position, "norms": b64encode(rounded.tobytes()).decode()}


def read_norms(text: str, bins: Layout) -> dict[str, np.ndarray]:
    """Return the norms in the line of a step, a vector for each axis in the layout of the bins.

    Raises ValueError unless they are as many as the layout has, finite and not negative.
    """
    sizes = [bins.shape(name)[0] for name in bins.axes]
    try:
        content = b64decode(text, validate=True)
    except ValueError as error:
        raise ValueError(f"norms: expected base64, got something else ({error})") from error
    if len(content) != 2 * sum(sizes):
        raise ValueError(f"norms: expected {sum(sizes)} of two bytes, got {len(content)} bytes")
    values = np.frombuffer(content, "<f2").astype(np.float32)
    if not (np.isfinite(values) & (values >= 0)).all():
        raise ValueError("norms: expected finite numbers from 0 up, got others")
    return dict(zip(bins.axes, np.split(values, list(accumulate(sizes))[:-1]), strict=True))


def lines(layout: Layout, spaces: Collection[str]) -> Layout:
    """Return the layout of a vector for each axis of each matrix with groups: lstm0/kernel/0 for its rows."""
    axes = {
        f"{array}/{axis}": (along,)
        for array, both in layout.axes.items()
        if len(both) == 2 and any(space in spaces for along in both for space in along)  # "~" is not counted
        for axis, along in enumerate(both)
    }
    return Layout(axes, layout.sizes)


def binned(vectors: Layout) -> Layout:
    """Return the layout of the recorded vectors: at most 200 values for a segment, about 8,000 in all."""
    segments = sum(len(axis) for axes in vectors.axes.values() for axis in axes)
    most = max(1, min(BINS, VALUES // max(segments, 1)))
    return vectors.resized({space: min(size, most) for space, size in vectors.sizes.items()})


def _full(run: RunState, layout: Layout) -> Layout:
    return layout.resized({space: len(mask) for space, mask in run.alive.items()})


def _norms(matrix: np.ndarray, axis: int) -> np.ndarray:
    """Return the norm of each row or column, in float64; it is 0 only where all weights are."""
    letters = "ij,ij->" + "ij"[axis]
    norms = np.sqrt(np.einsum(letters, matrix, matrix, dtype=np.float64))
    return np.maximum(norms, np.where((matrix != 0).any(axis=1 - axis), SMALLEST, 0))


def _pooled(norms: np.ndarray, full: Layout, bins: Layout, name: str) -> np.ndarray:
    found = [np.zeros(0)]
    for (_, start, stop, _), (_, first, last, _) in zip(
        full.segments(name, 0), bins.segments(name, 0), strict=True
    ):
        edges = np.arange(last - first) * (stop - start) // max(last - first, 1)
        sums = np.add.reduceat(norms[start:stop] ** 2, edges) if stop > start else np.zeros(0)
        found.append(np.sqrt(sums / np.diff(edges, append=stop - start)))
    return np.concatenate(found)
