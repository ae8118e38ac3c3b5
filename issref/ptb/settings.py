"""The settings of a language model run, and the presets of the paper and its baselines."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

from issref.training.options import Options, flag

Method = Literal["prox", "released", "l1", "dense"]
Model = Literal["lstm", "rhn"]
Selection = Literal["last", "best"]
Schedule = Literal["decay", "staircase"]
Precision = Literal["float32", "float64"]


@dataclass(frozen=True)
class Settings(Options):
    """Everything that decides a run's numbers; the preset gives the values that no flag does."""

    COMMAND: ClassVar[str] = "train_ptb"

    model: Model = "lstm"
    """lstm: stacked LSTM. rhn: recurrent highway network, one width for embedding, input and state."""
    method: Method = "prox"
    """prox: gradient step on the data loss, then the exact proximal step. released: the paper's code (penalty
    gradient, clip after adding it, elementwise threshold). l1: elementwise. dense: none."""
    strength: tuple[float, ...] = (0.0035, 0.005)
    """lambda of the group lasso, one number or one for each layer, for the loss summed over the steps."""
    penalty_epochs: int | None = None
    """Epochs in which the method acts with all its strength; all epochs if not given."""
    penalty_rest: float = 0.0
    """Share of the strength that acts after --penalty-epochs: 0 for plain gradient steps, which train what is left
    and no longer held down."""
    l1_strength: float = 1e-4
    """Coefficient of sum |w| for --method l1, on everything but the embedding."""
    threshold: float = 1e-4
    """Weights smaller than this are set to 0 after each step by --method released and l1 (there at least
    2 * l1-strength)."""

    shrink: bool = True
    """Cut components out of the arrays as they die in --method prox; --no-shrink keeps them as zeros."""

    hidden_sizes: tuple[int, ...] = (200, 200)
    """Units of each LSTM layer, from the input up; the one width of an rhn."""
    embed_size: int | None = None
    """Width of an LSTM's embedding; as wide as the first layer if not given."""
    init_scale: float = 0.1
    """Weights start uniform in +- this."""
    keep: float = 1.0
    """Probability that an LSTM's dropout keeps a value."""

    depth: int = 10
    """Micro-layers of an rhn."""
    tied: bool = True
    """Whether the embedding is the kernel of an rhn's softmax too."""
    transform_bias: float = -2.0
    """First value of the biases of an rhn's transform gates."""
    drops: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Probabilities that an rhn's dropout zeroes a word, an input, a state, an output."""

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
    weight_decay: float = 0.0
    """Coefficient of 1/2 |w|^2 over all parameters; its gradient is added to the data's before the clip."""
    selection: Selection = "last"
    """The weights a run ends with: the last epoch's, or those of the best validation perplexity."""

    corpus: str = "auto"
    """auto (Penn TreeBank, or the embedded text without a network), ptb, embedded, or a folder with
    train.txt, valid.txt and test.txt."""
    data_dir: str | None = None
    """Folder with ptb/ptb.train.txt and so on; else $ISSREF_DATA, the user's cache, a download."""
    init: str | None = None
    """Folder of a finished run whose weights this one starts from; components dead there stay dead."""
    seed: int = 0
    """Seed of the initial weights and of dropout."""
    dtype: Precision = "float32"
    """Precision of weights and arithmetic."""
    threads: int | None = None
    """Threads of the BLAS and of the compiled loops; all cores if not given."""

    def check(self) -> None:
        """Raise ValueError, naming flag, need and finding, for values that no run can have."""
        positive = "batch steps epochs learning_rate decay clip init_scale threads embed_size depth penalty_epochs"
        for name in positive.split():
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{flag(name)}: needs a number above 0, got {value}")
        not_negative = "strength l1_strength threshold flat_epochs seed weight_decay penalty_rest"
        for name in not_negative.split():
            for value in _listed(getattr(self, name)):
                if not 0 <= value < float("inf"):
                    raise ValueError(f"{flag(name)}: needs a number from 0 up, got {value}")
        if self.penalty_rest and self.penalty_epochs is None:
            raise ValueError(f"--penalty-rest: needs --penalty-epochs beside it, got {self.penalty_rest} alone")
        if not self.hidden_sizes or min(self.hidden_sizes) < 1:
            raise ValueError(f"--hidden-sizes: needs a width from 1 up for each layer, got {self.hidden_sizes}")
        layers = len(self.hidden_sizes)
        if self.model == "rhn" and (layers > 1 or self.embed_size):
            found = f"{layers} and --embed-size {self.embed_size}"
            raise ValueError(f"--hidden-sizes: --model rhn needs one width, for its embedding too, got {found}")
        if self.method in ("prox", "released") and len(self.strength) not in (1, layers):
            found = f"{len(self.strength)} for {layers} layers"
            raise ValueError(f"--strength: needs one number, or one for each layer, got {found}")
        choices = {
            "model": Model,
            "method": Method,
            "schedule": Schedule,
            "selection": Selection,
            "dtype": Precision,
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(f"{flag(name)}: needs one of {get_args(allowed)}, got {getattr(self, name)!r}")
        if not 0 < self.keep <= 1:
            raise ValueError(f"--keep: needs a probability above 0 and at most 1, got {self.keep}")
        if len(self.drops) != 4 or not all(0 <= drop < 1 for drop in self.drops):
            raise ValueError(f"--drops: needs four probabilities from 0 to below 1, got {self.drops}")
        if not abs(self.transform_bias) < float("inf"):
            raise ValueError(f"--transform-bias: needs a finite number, got {self.transform_bias}")

    def pressure(self, epoch: int) -> float:
        """The share of the strength that acts in an epoch, counted from 0."""
        return 1.0 if epoch < (self.penalty_epochs or self.epochs) else self.penalty_rest

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        if self.schedule == "staircase":
            return self.learning_rate * 0.1 ** (epoch // max(1, self.epochs // 3))
        return self.learning_rate * self.decay ** max(epoch + 1 - self.flat_epochs, 0)


def _listed(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


# Zaremba et al. 2014, Zilly et al. 2017 and, for iss-large and rhn-iss, Wen et al.: the configurations of the
# released code, ptb_word_lm.py, structure_grouplasso.json and rhn_train.py. The tours, small and rhn-small, end in
# minutes, with a large first rate: the pull on a group is the sum of rate times strength, its bias the strength
# alone, so a large rate lets components die early at a small strength.
_ZAREMBA_SMALL = Settings()
_TOUR = replace(_ZAREMBA_SMALL, epochs=3, learning_rate=2.0, flat_epochs=2, decay=0.15, strength=(0.003, 0.0024))
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
_RHN_SOTA = Settings(
    model="rhn",
    method="dense",
    strength=(0.005,),
    threshold=4e-4,
    hidden_sizes=(830,),
    init_scale=0.04,
    drops=(0.25, 0.75, 0.25, 0.75),
    steps=35,
    epochs=500,
    learning_rate=0.2,
    flat_epochs=20,
    decay=1 / 1.02,
    clip=10.0,
    weight_decay=1e-7,
    selection="best",
)
_RHN_TOUR = replace(
    _RHN_SOTA,
    method="prox",
    strength=(0.0105,),
    hidden_sizes=(128,),
    depth=3,
    drops=(0.0, 0.0, 0.0, 0.0),
    epochs=4,
    learning_rate=0.5,
    flat_epochs=2,
    decay=0.4,
)
PRESETS = {
    "small": _TOUR,
    "zaremba-small": _ZAREMBA_SMALL,
    "zaremba-medium": _ZAREMBA_MEDIUM,
    "zaremba-large": _ZAREMBA_LARGE,
    "iss-large": replace(_ZAREMBA_LARGE, keep=0.6, schedule="staircase"),
    "rhn-small": _RHN_TOUR,
    "rhn-sota": _RHN_SOTA,
    "rhn-iss": replace(_RHN_SOTA, method="prox", drops=(0.15, 0.45, 0.15, 0.45)),
}
