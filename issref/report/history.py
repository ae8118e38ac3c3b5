"""Read a run's history.jsonl: the norms of rows and columns at recorded steps."""

from typing import Any, NamedTuple

import numpy as np

from issref.data.schema import parse
from issref.iss.layout import Layout
from issref.report import schema
from issref.report.run import Run, read_lines
from issref.training.history import FILE, binned, lines, read_norms

MOST = 1000  # recorded steps that are drawn


class History(NamedTuple):
    """The layouts of the network and of the bins of each axis of its matrices; the spaces of components; the
    line of each recorded step; the norms by array and axis, with a row for each step.
    """

    layout: Layout
    bins: Layout
    spaces: list[str]
    frames: list[dict[str, Any]]
    norms: dict[str, np.ndarray]

    @property
    def epochs(self) -> list[float]:
        """The position of each recorded step."""
        return [one["epoch"] - 1 + one["step"] / one["steps"] for one in self.frames]

    @property
    def matrices(self) -> list[str]:
        """The names of the matrices with groups."""
        return list(dict.fromkeys(name.rpartition("/")[0] for name in self.bins.axes))


def read_history(run: Run) -> History | None:
    """Return the history of a run, None without a history.jsonl or a recorded step.

    Raises ValueError if the file is damaged, or if its components are not the run's.
    """
    path = run.folder / FILE
    if not path.exists():
        return None
    head, layout, rest = read_lines(path)
    if not 0 < len(rest) <= MOST:
        raise ValueError(f"{path}: expected a layout and 1 to {MOST} recorded steps, got {len(rest)} steps")
    if {space: layout.sizes[space] for space in head["spaces"]} != dict(run.sizes):
        raise ValueError(f"{path}, layout: expected the run's components, {run.sizes}, got {layout.sizes}")
    bins = binned(lines(layout, head["spaces"]))
    frames: list[Any] = [parse(f"{path}, line {n}", schema.Frame, line) for n, line in enumerate(rest, start=2)]
    norms = [_norms(f"{path}, line {n}", frame, bins) for n, frame in enumerate(frames, start=2)]
    stacked = {name: np.stack([one[name] for one in norms]) for name in bins.axes}
    return History(layout, bins, head["spaces"], frames, stacked)


def _norms(place: str, frame: dict[str, Any], bins: Layout) -> dict[str, np.ndarray]:
    try:
        return read_norms(frame["norms"], bins)
    except ValueError as error:
        raise ValueError(f"{place}, {error}") from error
