"""The measurements of a run: loss, time, memory, components alive; one row of metrics.jsonl for each epoch."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from issref.iss.compact import Alive
from issref.iss.groups import Groups, alive
from issref.iss.layout import Layout
from issref.training import history
from issref.training.process import resident_mb
from issref.training.state import RunState

Measure = Callable[[float, int], dict[str, float]]  # of the sum of an epoch's losses and its steps so far
Prune = Callable[[RunState, Layout, Alive], Layout]
POINTS = 50  # of the curve of an epoch
SAVED = ("loss_sum", "seconds", "trace", "cuts", "rows", "history")


@dataclass
class Recorder:
    """Measure a run. `measure` gives the training scores from the sum of the losses and the number of steps.

    loss_sum, trace and cuts are of the epoch in progress: the sum of its losses, its curve, and the output
    differences at its prunings; seconds is the time since training began, with the validations of earlier epochs;
    rows holds one dictionary for each epoch done; history holds the lines of history.jsonl.
    """

    measure: Measure
    unit: str
    """Unit of the data read in a step: words, questions."""
    per_step: int
    """Number of them in a step."""
    loss_sum: float = 0.0
    seconds: float = 0.0
    trace: list[dict[str, Any]] = field(default_factory=list)
    cuts: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    steps: int = 0
    """Steps of the epoch in progress."""
    epochs: int = 1
    """Epochs of the run."""
    scores: dict[str, float] = field(default_factory=dict)
    """The training loss, a mean over the epoch so far, and the scores made of it."""

    def __post_init__(self):
        self.start_clock()

    def start_clock(self) -> None:
        """Count the time from now on, in addition to that of the run so far."""
        self.started = time.perf_counter() - self.seconds

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that a checkpoint saves."""
        return {name: getattr(self, name) for name in SAVED}

    def restore(self, saved: dict[str, Any]) -> None:
        """Set the fields that `to_dict` returned."""
        vars(self).update(saved)

    def record(self, run: RunState, loss: float, groups: Groups, layout: Layout) -> None:
        """Add the loss of a step, in an epoch with the `layout` of run.params.

        At 50 to 100 of the epoch's steps, or at all if there are fewer, add a point to its curve; at about 60 of
        the run's, add the norms of rows and columns to its history.

        Raises FloatingPointError for a loss that is not finite.
        """
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss}")
        step = run.step + 1
        self.loss_sum += float(loss)
        self.seconds = time.perf_counter() - self.started
        measured = self.measure(self.loss_sum, step)
        self.scores = {"loss": self.loss_sum / step, **measured}
        traced = step == 1 or step % max(1, self.steps // POINTS) == 0 or step == self.steps
        recorded = history.is_recorded(run.epoch, step, self.steps, self.epochs)
        counts = count_alive(run, groups) if traced or recorded else {}
        if traced:
            self.trace.append({"step": step, **measured, "alive": counts})
        if recorded:
            self.history = self.history or [history.first_line(run, layout)]
            self.history.append({"alive": counts, **history.frame(run, layout, self.steps)})

    def compared(self, prune: Prune, outputs: Callable[[RunState], np.ndarray]) -> Prune:
        """Return `prune` with a record of the largest difference it makes to `outputs(run)`."""

        def compared_prune(run: RunState, layout: Layout, alive: Alive) -> Layout:
            before = outputs(run)
            layout = prune(run, layout, alive)
            difference = float(np.abs(outputs(run) - before).max())
            counts = {space: int(mask.sum()) for space, mask in alive.items()}
            self.cuts.append({"step": run.step + 1, "alive": counts, "max_output_difference": difference})
            return layout

        return compared_prune

    def end_epoch(self, run: RunState, rate: float, **valid: float) -> dict[str, Any]:
        """Append the epoch's row, with the learning rate and the validation scores, and return it."""
        last = self.trace[-1]
        train = {name: value for name, value in last.items() if name not in ("step", "alive")}
        row = {"epoch": run.epoch + 1, "learning_rate": rate, **train, **valid, "alive": last["alive"]}
        row |= {"seconds": round(self.seconds, 1), "cuts": self.cuts, "trace": self.trace}
        self.rows.append({**row, "resident_mb": resident_mb()})
        self.loss_sum, self.trace, self.cuts = 0.0, [], []
        return self.rows[-1]

    def is_lowest(self, name: str, value: float) -> bool:
        """Return whether a score is below that of every epoch so far."""
        return all(value < row[name] for row in self.rows)

    def all_cuts(self) -> dict[str, Any]:
        """Return how often components were cut out, and the largest difference that made to the outputs."""
        differences = [cut["max_output_difference"] for row in self.rows for cut in row["cuts"]]
        return {"count": len(differences), "max_output_difference": max(differences, default=0.0)}


def check_measured(saved: dict[str, Any]) -> None:
    """Raise ValueError, naming the field, unless this is what `Recorder.to_dict` returns."""
    if saved.keys() != set(SAVED):
        raise ValueError(f"measured: expected {sorted(SAVED)}, got {sorted(saved)}")
    for name, value in saved.items():
        if name in ("loss_sum", "seconds"):
            if type(value) not in (int, float) or not math.isfinite(value):
                raise ValueError(f"{name}: expected a finite number, got {str(value)[:60]}")
        elif not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
            raise ValueError(f"{name}: expected a list of objects, got {str(value)[:60]}")


def count_alive(run: RunState, groups: Groups) -> dict[str, int]:
    """Return the number of components alive in each space."""
    return {space: int(mask.sum()) for space, mask in alive(run.params, groups).items()}
