"""The settings of a language model run, and the presets of the paper and its baselines."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

Method = Literal["prox", "released", "l1", "dense"]
Schedule = Literal["decay", "staircase"]
Precision = Literal["float32", "float64"]


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run's numbers; the preset gives the values that no flag does."""

    method: Method = "prox"
    """prox: gradient step on the data loss, then the exact proximal step. released: the paper's code (penalty
    gradient, clip after adding it, elementwise threshold). l1: elementwise. dense: none."""
    strength: tuple[float, ...] = (0.003, 0.004)
    """lambda of the group lasso, one number or one for each layer, for the loss summed over the steps."""
    l1_strength: float = 1e-4
    """Coefficient of sum |w| for --method l1, on everything but the embedding."""
    threshold: float = 1e-4
    """Weights smaller than this are set to 0 after each step by --method released and l1 (there at least
    2 * l1-strength)."""

    shrink: bool = True
    """Cut components out of the arrays as they die in --method prox; --no-shrink keeps them as zeros."""

    hidden_sizes: tuple[int, ...] = (200, 200)
    """Units of each LSTM layer, from the input up."""
    embed_size: int | None = None
    """Width of the embedding; as wide as the first layer if not given."""
    init_scale: float = 0.1
    """Weights start uniform in +- this."""
    keep: float = 1.0
    """Probability that dropout keeps a value."""

    batch: int = 20
    """Rows of text read side by side."""
    steps: int = 20
    """Steps of truncated backpropagation through time."""
    epochs: int = 13
    """Passes over the training text."""
    learning_rate: float = 1.0
    """Learning rate of the first epoch."""
    schedule: Schedule = "decay"
    """decay: constant for flat-epochs, then times `decay` each epoch. staircase: times 0.1 at each third."""
    flat_epochs: int = 4
    """Epochs before the decay begins."""
    decay: float = 0.5
    """Factor of the learning rate for each epoch after flat-epochs."""
    clip: float = 5.0
    """Largest global norm of the gradient."""

    corpus: str = "auto"
    """auto (Penn TreeBank, or the embedded text without a network), ptb, embedded, or a folder with
    train.txt, valid.txt and test.txt."""
    data_dir: str | None = None
    """Folder with ptb/ptb.train.txt and so on; else $ISSREF_DATA, the user's cache, a download."""
    seed: int = 0
    """Seed of the initial weights and of dropout."""
    dtype: Precision = "float32"
    """Precision of weights and arithmetic."""
    threads: int | None = None
    """Threads of the BLAS; all cores if not given."""

    def check(self) -> None:
        """Raise ValueError, naming flag, need and finding, for values that no run can have."""
        positive = "batch steps epochs learning_rate decay clip init_scale threads embed_size"
        for name in positive.split():
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{_flag(name)}: needs a number above 0, got {value}")
        for name in ("strength", "l1_strength", "threshold", "flat_epochs", "seed"):
            for value in _listed(getattr(self, name)):
                if not 0 <= value < float("inf"):
                    raise ValueError(f"{_flag(name)}: needs a number from 0 up, got {value}")
        if not self.hidden_sizes or min(self.hidden_sizes) < 1:
            raise ValueError(f"--hidden-sizes: needs a width from 1 up for each layer, got {self.hidden_sizes}")
        layers = len(self.hidden_sizes)
        if self.method in ("prox", "released") and len(self.strength) not in (1, layers):
            found = f"{len(self.strength)} for {layers} layers"
            raise ValueError(f"--strength: needs one number, or one for each layer, got {found}")
        for name, allowed in (("method", Method), ("schedule", Schedule), ("dtype", Precision)):
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(f"{_flag(name)}: needs one of {get_args(allowed)}, got {getattr(self, name)!r}")
        if not 0 < self.keep <= 1:
            raise ValueError(f"--keep: needs a probability above 0 and at most 1, got {self.keep}")

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        if self.schedule == "staircase":
            return self.learning_rate * 0.1 ** (epoch // max(1, self.epochs // 3))
        return self.learning_rate * self.decay ** max(epoch + 1 - self.flat_epochs, 0)

    def strengths(self, layers: list[str]) -> dict[str, float]:
        """The strength of each layer, by name."""
        each = self.strength if len(self.strength) > 1 else self.strength * len(layers)
        return dict(zip(layers, each, strict=True))

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Settings":
        """The settings whose `to_dict` these are; ValueError if they are those of another version."""
        try:
            values: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
            }
            settings = cls(**values)
            settings.check()
        except (TypeError, AttributeError) as error:
            raise ValueError(f"settings: needs those of this version of issref, found others ({error})") from error
        return settings

    def changed(self, other: "Settings") -> set[str]:
        """The names of the fields in which two settings differ."""
        return {name for name, value in asdict(self).items() if getattr(other, name) != value}

    def to_dict(self) -> dict[str, Any]:
        """Every field, ready for JSON."""
        return asdict(self)


def read_settings(path: Path) -> Settings:
    """The settings of a run, from its config.json; ValueError in a sentence if they cannot be read."""
    try:
        return Settings.from_dict(json.loads(path.read_text()))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: needs the settings of a run, found none ({error})") from error


def _listed(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


# Zaremba et al. 2014 and, for iss-large, Wen et al.: the configurations of the released code, ptb_word_lm.py
# and structure_grouplasso.json. `small` is a tour of minutes: two epochs of zaremba-small's network, with a
# large first rate. The pull on a group is the sum of rate times strength, its bias the strength alone: a large
# rate lets components die early at a small strength.
_ZAREMBA_SMALL = Settings()
_TOUR = replace(_ZAREMBA_SMALL, epochs=2, learning_rate=2.0, flat_epochs=1, decay=0.3, strength=(0.003, 0.0024))
_ZAREMBA_MEDIUM = Settings(
    hidden_sizes=(650, 650),
    init_scale=0.05,
    steps=35,
    keep=0.5,
    epochs=39,
    flat_epochs=6,
    decay=0.8,
    strength=(0.00245,),
)
_ZAREMBA_LARGE = replace(
    _ZAREMBA_MEDIUM,
    hidden_sizes=(1500, 1500),
    init_scale=0.04,
    keep=0.35,
    epochs=55,
    flat_epochs=14,
    decay=1 / 1.15,
    clip=10.0,
)
PRESETS = {
    "small": _TOUR,
    "zaremba-small": _ZAREMBA_SMALL,
    "zaremba-medium": _ZAREMBA_MEDIUM,
    "zaremba-large": _ZAREMBA_LARGE,
    "iss-large": replace(_ZAREMBA_LARGE, keep=0.6, schedule="staircase"),
}
