"""The settings of a language model run, and the presets of the paper and its baselines."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

Method = Literal["prox", "released", "l1", "dense"]


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run's numbers; the preset gives the values that no flag does."""

    method: Method = "prox"
    """prox: gradient step on the data loss, then the exact proximal step. released: the paper's code (penalty
    gradient, clip after adding it, elementwise threshold). l1: elementwise. dense: none."""
    strength: tuple[float, ...] = (0.0035, 0.0045)
    """lambda of the group lasso, one number or one for each layer, for the loss summed over the steps."""
    l1_strength: float = 1e-4
    """Coefficient of sum |w| for --method l1, on everything but the embedding."""
    threshold: float = 1e-4
    """Weights smaller than this are set to 0 after each step by --method released and l1 (there at least
    2 * l1-strength)."""

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
    epochs: int = 2
    """Passes over the training text."""
    learning_rate: float = 1.0
    """Learning rate of the first epoch."""
    schedule: Literal["decay", "staircase"] = "decay"
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
    seed: int = 0
    """Seed of the initial weights and of dropout."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision of weights and arithmetic."""
    threads: int | None = None
    """Threads of the BLAS; all cores if not given."""

    def __post_init__(self):
        for name in (
            "batch",
            "steps",
            "epochs",
            "learning_rate",
            "decay",
            "clip",
            "init_scale",
            "threads",
            "embed_size",
        ):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{_flag(name)}: needs a number above 0, got {value}")
        for name in ("strength", "l1_strength", "threshold", "flat_epochs", "seed"):
            for value in _listed(getattr(self, name)):
                if not 0 <= value < float("inf"):
                    raise ValueError(f"{_flag(name)}: needs a number from 0 up, got {value}")
        if not self.hidden_sizes or min(self.hidden_sizes) < 1:
            raise ValueError(f"--hidden-sizes: needs a width from 1 up for each layer, got {self.hidden_sizes}")
        if len(self.strength) not in (1, len(self.hidden_sizes)):
            raise ValueError(f"--strength: needs 1 or {len(self.hidden_sizes)} numbers, got {len(self.strength)}")
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
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"settings: needs those of this version of issref, found others ({error})") from error

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
# and structure_grouplasso.json. `small` is a tour of minutes: the first epochs of zaremba-small.
_ZAREMBA_SMALL = Settings(epochs=13)
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
    "small": Settings(),
    "zaremba-small": _ZAREMBA_SMALL,
    "zaremba-medium": _ZAREMBA_MEDIUM,
    "zaremba-large": _ZAREMBA_LARGE,
    "iss-large": replace(_ZAREMBA_LARGE, keep=0.6, schedule="staircase"),
}
