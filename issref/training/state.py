"""All that a run needs to go on as if it had never stopped."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from issref.training import checkpoint

Arrays = dict[str, np.ndarray]
LAST, BEFORE = "checkpoint.safetensors", "checkpoint.previous.safetensors"  # in a run's folder


@dataclass
class Progress:
    """Where a run stands: its arrays, its random stream, its place in the text, what it has measured so far.

    params and the carried state, as small as they have become; which components of each space are alive, at
    the original width; the proximal operator's warm start (empty before the first step). epoch and step are
    the next to do; cost is the sum of this epoch's window losses; trace holds this epoch's curve, cuts what was
    compared whenever components were cut out in it, and rows one dictionary for each epoch behind.
    """

    params: Arrays
    state: Arrays
    rng: np.random.Generator
    alive: Arrays
    prox: Arrays = field(default_factory=dict)
    epoch: int = 0
    step: int = 0
    cost: float = 0.0
    seconds: float = 0.0
    trace: list[dict[str, Any]] = field(default_factory=list)
    cuts: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def save(self, path: Path, *, previous: Path | None = None, **about: Any) -> None:
        """Write everything, with `about` beside it, whole or not at all; what was there goes on as `previous`."""
        names = ("epoch", "step", "cost", "seconds", "trace", "cuts", "rows")
        counters = {name: getattr(self, name) for name in names}
        arrays = checkpoint.join(params=self.params, state=self.state, alive=self.alive, prox=self.prox)
        state = self.rng.bit_generator.state
        checkpoint.save(path, arrays, previous=previous, counters=counters, random=state, **about)

    @classmethod
    def load(cls, path: Path) -> tuple["Progress", dict[str, Any]]:
        """What `save` wrote, bit for bit, and its `about`; ValueError in a sentence for any other file."""
        arrays, about = checkpoint.load(path)
        parts = {name: checkpoint.part(arrays, name) for name in ("params", "state", "alive", "prox")}
        try:
            rng = np.random.default_rng()
            rng.bit_generator.state = about.pop("random")
            at = cls(**parts, rng=rng, **about.pop("counters"))
            at.check()
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise ValueError(f"{path}: needs a checkpoint of a run, found something else ({error})") from error
        return at, about

    def check(self) -> None:
        """Raise ValueError, naming what it is, for counters and masks that no run can have."""
        for name in ("epoch", "step"):
            if type(value := getattr(self, name)) is not int or value < 0:
                raise ValueError(f"{name}: needs a whole number from 0 up, found {str(value)[:60]}")
        for name in ("cost", "seconds"):
            if type(value := getattr(self, name)) not in (int, float) or not math.isfinite(value):
                raise ValueError(f"{name}: needs a finite number, found {str(value)[:60]}")
        for name in ("trace", "cuts", "rows"):
            value = getattr(self, name)
            if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
                raise ValueError(f"{name}: needs a list of objects, found {str(value)[:60]}")
        for space, kept in self.alive.items():
            if kept.dtype != bool or kept.ndim != 1:
                raise ValueError(f"alive/{space}: needs a vector of booleans, found {kept.dtype} {kept.shape}")

    def save_in(self, folder: Path, **about: Any) -> None:
        """`save` as a run's last checkpoint, and keep the one before."""
        self.save(folder / LAST, previous=folder / BEFORE, **about)

    @classmethod
    def load_from(cls, folder: Path, say: Callable[[str], None]) -> tuple["Progress", dict[str, Any]]:
        """What `save_in` wrote last; if that is damaged or gone, the checkpoint before takes its place.

        `say` is told so in a sentence. ValueError, about the last, if neither can be read.
        """
        try:
            return cls.load(folder / LAST)
        except ValueError as error:
            try:
                at, about = cls.load(folder / BEFORE)
            except ValueError:
                raise error from None
            say(f"{error}; the one before it takes its place, of epoch {at.epoch + 1}, step {at.step}")
        (folder / BEFORE).replace(folder / LAST)
        return at, about
