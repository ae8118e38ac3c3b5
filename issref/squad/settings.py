"""The settings of a run of the reader, BiDAF on SQuAD, and its presets."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

from issref.training.options import Options, flag

Method = Literal["prox", "released", "dense"]
Precision = Literal["float32", "float64"]


@dataclass(frozen=True)
class SquadSettings(Options):
    """Everything that decides a run's numbers; the preset gives the values that no flag does."""

    COMMAND: ClassVar[str] = "train_squad"

    method: Method = "prox"
    """prox: Adam on the data loss, then the exact proximal step in the Euclidean metric. released: the paper's
    code (penalty gradient into Adam, elementwise threshold). dense: Adam alone."""
    strength: tuple[float, ...] = (0.3,)
    """lambda of the group lasso: one number, or one for each of g0.fw g0.bw g1.fw g1.bw g2.fw g2.bw. The strengths
    of prox and of released are not alike: Adam normalises the pull of a gradient, but not that of prox."""
    penalty_steps: int | None = None
    """Steps in which prox or released acts; then Adam alone trains what is left, which strength no longer holds
    down. All steps if not given."""
    threshold: float = 4e-4
    """Weights smaller than this are set to 0 after each step by --method released."""
    shrink: bool = True
    """Cut components out of the arrays as they die in --method prox; --no-shrink keeps them as zeros."""

    hidden_size: int = 100
    """Units of each direction of each LSTM."""
    filters: int = 100
    """Filters of the convolution over a word's characters."""
    char_size: int = 8
    """Width of a character's vector."""
    word_size: int = 100
    """Width of a word's vector: GloVe's 50 or 100, or that of --glove."""
    keep: float = 0.8
    """Probability that dropout keeps a value."""

    batch: int = 60
    """Questions in a step."""
    steps: int = 10_000
    """Steps in all, whatever part of an epoch the last ones are."""
    learning_rate: float = 1e-3
    """Adam's learning rate at the first step."""
    final_rate: float = 1.0
    """Share of it at the last step, reached in a straight line."""
    clip: float | None = None
    """Largest global norm of the gradient; no clipping if not given."""
    average: float = 0.999
    """Decay of the moving average of the weights, which is the model that is scored and kept; 0 for none."""

    question_limit: int = 30
    """Longer questions are not trained on, and are refused by --predict."""
    context_limit: int = 400
    """Contexts are cut to so many words in training; questions answered behind them are left out."""
    dev_limit: int | None = None
    """Scores are those of the dev questions whose context has at most so many words; of all if not given."""
    dev_sample: int = 1000
    """How many of them are asked after each epoch; all are at the end."""
    articles: int | None = None
    """How many of the train articles are read, from the first; all if not given."""

    train: str | None = None
    """File of the questions to train on, in SQuAD v1.1's form; the official one if not given."""
    dev: str | None = None
    """File of the questions to be judged by; the official one if not given."""
    glove: str | None = None
    """File of word vectors, a word and its numbers a line; GloVe 6B if not given."""
    data_dir: str | None = None
    """Folder with squad/dev-v1.1.json and so on; else $ISSREF_DATA, the user's cache, a download."""
    init: str | None = None
    """Folder of a finished run whose weights this one starts from; components dead there stay dead."""
    seed: int = 0
    """Seed of the initial weights, of the order of the batches and of dropout."""
    dtype: Precision = "float32"
    """Precision of weights and arithmetic."""
    threads: int | None = None
    """Threads of the BLAS and of the compiled loops; all cores if not given."""

    def check(self) -> None:
        """Raise ValueError, naming flag, need and finding, for values that no run can have."""
        positive = "hidden_size filters char_size word_size batch steps learning_rate clip"
        positive += " question_limit context_limit dev_limit dev_sample articles threads penalty_steps"
        for name in positive.split():
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{flag(name)}: needs a number above 0, got {value}")
        for name, values in {
            "strength": self.strength,
            "threshold": (self.threshold,),
            "seed": (self.seed,),
        }.items():
            if not all(0 <= value < float("inf") for value in values):
                raise ValueError(f"{flag(name)}: needs numbers from 0 up, got {values}")
        if len(self.strength) not in (1, 6):
            raise ValueError(f"--strength: needs one number, or one for each of 6 LSTMs, got {len(self.strength)}")
        for name, allowed in {"method": Method, "dtype": Precision}.items():
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(f"{flag(name)}: needs one of {get_args(allowed)}, got {getattr(self, name)!r}")
        if not 0 < self.keep <= 1:
            raise ValueError(f"--keep: needs a probability above 0 and at most 1, got {self.keep}")
        if not (0 <= self.average < 1 and 0 <= self.final_rate <= 1):
            found = f"{self.average} and {self.final_rate}"
            raise ValueError(f"--average, --final-rate: needs shares from 0 up, below and to 1, got {found}")

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0 over all epochs."""
        return self.learning_rate * (1 + (self.final_rate - 1) * step / self.steps)


# The released code's configuration, and a tour of minutes. With prox the norm of a group, 2.6 to 2.9 at first
# whatever the sizes, falls by rate * strength a step. Adam's steps, of a size of their own, hold it if gradients
# agree from batch to batch: the strength says how much they must, the sum of the rates how soon it shows.
# The tour's penalty is strong and short: what dies does so before it has learnt much, the rest learns undisturbed.
_PAPER = SquadSettings()
_TOUR = replace(
    _PAPER,
    strength=(6.0, 6.0, 3.0, 4.5, 6.0, 6.0),
    penalty_steps=305,
    hidden_size=32,
    filters=32,
    word_size=50,
    keep=1.0,
    steps=1000,
    learning_rate=3e-3,
    final_rate=0.05,
    average=0.99,
    context_limit=150,
    dev_limit=200,
    articles=44,
)
PRESETS = {"small": _TOUR, "paper": _PAPER}
