"""All that a run needs to go on as if it had never stopped."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from issref.training import checkpoint

Arrays = dict[str, np.ndarray]


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

    def save(self, path: Path, **about: Any) -> None:
        """Write everything, with `about` beside it, whole or not at all."""
        names = ("epoch", "step", "cost", "seconds", "trace", "cuts", "rows")
        counters = {name: getattr(self, name) for name in names}
        arrays = checkpoint.join(params=self.params, state=self.state, alive=self.alive, prox=self.prox)
        checkpoint.save(path, arrays, counters=counters, random=self.rng.bit_generator.state, **about)

    @classmethod
    def load(cls, path: Path) -> tuple["Progress", dict[str, Any]]:
        """What `save` wrote, bit for bit, and its `about`; ValueError in a sentence for any other file."""
        arrays, about = checkpoint.load(path)
        parts = {name: checkpoint.part(arrays, name) for name in ("params", "state", "alive", "prox")}
        try:
            rng = np.random.default_rng()
            rng.bit_generator.state = about.pop("random")
            return cls(**parts, rng=rng, **about.pop("counters")), about
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{path}: needs a checkpoint of a run, found something else ({error})") from error
