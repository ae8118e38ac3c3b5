"""The settings of a language model run, and the presets: quick runs, the paper, its baselines."""

from typing import ClassVar, Literal

import tyro

from issref.models import LANGUAGE_MODELS
from issref.training.options import (
    Count,
    DropProbability,
    Finite,
    KeepProbability,
    Natural,
    NonNegative,
    Options,
    Positive,
    RunOptions,
    strengths,
)


class NetworkOptions(Options):
    """The language model. Each model reads the settings that it knows."""

    model: tyro.extras.literal_type_from_choices(LANGUAGE_MODELS) = "lstm"  # pyright: ignore[reportInvalidTypeForm]
    """The network, a module of issref.models."""
    hidden_sizes: tuple[Count, ...] = (200, 200)
    """Units of each layer, from the input up; the one width of an rhn."""
    embed_size: Count | None = None
    """Width of the embedding of stacked layers; as wide as the first if not given."""
    init_scale: Positive = 0.1
    """Initial weights are uniform in +- this."""
    keep: KeepProbability = 1.0
    """Probability that the dropout between stacked layers keeps a value."""
    depth: Count = 10
    """Micro-layers of an rhn."""
    tied: bool = True
    """Whether the embedding is also the kernel of an rhn's softmax."""
    transform_bias: Finite = -2.0
    """Initial value of the biases of an rhn's transform gates."""
    drops: tuple[DropProbability, DropProbability, DropProbability, DropProbability] = (0.0, 0.0, 0.0, 0.0)
    """Probabilities that an rhn's dropout zeroes a word, an input, a state, an output."""


class PenaltyOptions(Options):
    """The method, and the strength of the group lasso."""

    method: Literal["prox", "released", "l1", "dense"] = "prox"
    """prox: gradient step on the data loss, then the exact proximal step. released: the paper's code (penalty
    gradient, clip after adding it, elementwise threshold). l1: elementwise. dense: none."""
    strength: tuple[NonNegative, ...] = (0.0035, 0.005)
    """lambda of the group lasso, one number or one for each layer, for the loss summed over the steps."""
    penalty_epochs: Count | None = None
    """Epochs in which the penalty acts with all its strength; all epochs if not given."""
    final_penalty_scale: NonNegative = 0.0
    """Factor of the strength after --penalty-epochs; at 0 the remaining network is trained by plain gradient
    steps."""
    l1_strength: NonNegative = 1e-4
    """Coefficient of sum |w| for --method l1, on everything but the embedding."""
    threshold: NonNegative = 1e-4
    """Weights smaller than this are set to 0 after each step by --method released and l1 (for l1, at least
    2 * l1-strength)."""
    shrink: bool = True
    """Cut components out of the arrays as they die in --method prox; --no-shrink keeps them as zeros."""

    def scale(self, epoch: int) -> float:
        """Return the factor of the strength in an epoch, counted from 0."""
        return 1.0 if self.penalty_epochs is None or epoch < self.penalty_epochs else self.final_penalty_scale


class ScheduleOptions(Options):
    """Batches, learning rate, clipping."""

    batch: Count = 20
    """Rows of text read side by side."""
    steps: Count = 20
    """Steps of truncated backpropagation through time."""
    epochs: Count = 13
    """Passes over the training text."""
    learning_rate: Positive = 1.0
    """Learning rate of the first epoch."""
    schedule: Literal["decay", "staircase", "linear"] = "decay"
    """decay: constant for flat-epochs, then times `decay` each epoch. staircase: times 0.1 after each third of
    the epochs, rounded down, as in the released code. linear: constant for flat-epochs, then, if epochs are left,
    falls from step to step, to 0 at the end of the run."""
    flat_epochs: Natural = 4
    """Epochs before the learning rate begins to fall."""
    decay: Positive = 0.5
    """Factor of the learning rate for each epoch after flat-epochs."""
    clip: Positive = 5.0
    """Largest global norm of the gradient."""
    weight_decay: NonNegative = 0.0
    """Coefficient of 1/2 |w|^2 over all parameters; its gradient is added to the data's before the clip."""
    selection: Literal["last", "best"] = "last"
    """The final weights of a run: the last epoch's, or the ones with the best validation perplexity."""

    def rate(self, epoch: float) -> float:
        """Return the learning rate at an epoch, counted from 0; 1.5 is the middle of the second one."""
        if self.schedule == "linear":
            falls = epoch > self.flat_epochs
            return self.learning_rate * (
                (self.epochs - epoch) / (self.epochs - self.flat_epochs) if falls else 1.0
            )
        if self.schedule == "staircase":
            return self.learning_rate * 0.1 ** (int(epoch) // max(1, self.epochs // 3))
        return self.learning_rate * self.decay ** max(int(epoch) + 1 - self.flat_epochs, 0)


class DataOptions(Options):
    """The text."""

    corpus: str = "auto"
    """auto (Penn TreeBank, or offline the embedded text), ptb, embedded, or a folder with
    train.txt, valid.txt and test.txt."""
    data_dir: str | None = None
    """Folder with ptb/ptb.train.txt and so on; else $ISSREF_DATA, the user's cache, a download."""


class Settings(Options):
    """All settings of a run; the preset gives the values that no flag gives."""

    COMMAND: ClassVar[str] = "train_ptb"

    network: tyro.conf.OmitArgPrefixes[NetworkOptions] = NetworkOptions()
    penalty: tyro.conf.OmitArgPrefixes[PenaltyOptions] = PenaltyOptions()
    schedule: tyro.conf.OmitArgPrefixes[ScheduleOptions] = ScheduleOptions()
    data: tyro.conf.OmitArgPrefixes[DataOptions] = DataOptions()
    run: tyro.conf.OmitArgPrefixes[RunOptions] = RunOptions()

    def check(self) -> None:
        """Raise ValueError for invalid sizes, strengths that do not match the layers, or a final scale alone."""
        LANGUAGE_MODELS[self.network.model].configure(1, self.network.flat())
        if self.penalty.method in ("prox", "released"):
            strengths(self.penalty.strength, [str(size) for size in self.network.hidden_sizes])
        if (scale := self.penalty.final_penalty_scale) and self.penalty.penalty_epochs is None:
            raise ValueError(f"--final-penalty-scale: expected --penalty-epochs too, got {scale:g} alone")


# Zaremba et al. 2014, Zilly et al. 2017 and, for iss-large and rhn-iss, Wen et al.: the configurations of the
# released code, ptb_word_lm.py, structure_grouplasso.json and rhn_train.py. The quick runs, small and MODEL-small,
# end in minutes. Their first learning rate is large: a group's norm falls by the sum of rate times strength, while
# the bias of the penalty grows with the strength alone, so a large rate lets components die early at a small
# strength.
_ZAREMBA_SMALL = Settings()
_SMALL = _ZAREMBA_SMALL.replaced(
    epochs=2, learning_rate=1.4, schedule="linear", flat_epochs=1, strength=(0.0035, 0.0041), penalty_epochs=1
)
_ZAREMBA_MEDIUM = _ZAREMBA_SMALL.replaced(
    hidden_sizes=(650, 650), init_scale=0.05, steps=35, keep=0.5, epochs=39, flat_epochs=6, decay=0.8,
    strength=(0.00245,),
)  # fmt: skip
_ZAREMBA_LARGE = _ZAREMBA_MEDIUM.replaced(
    hidden_sizes=(1500, 1500), init_scale=0.04, keep=0.35, epochs=55, flat_epochs=14, decay=1 / 1.15, clip=10.0
)
_RHN_SOTA = Settings(
    network=NetworkOptions(model="rhn", hidden_sizes=(830,), init_scale=0.04, drops=(0.25, 0.75, 0.25, 0.75)),
    penalty=PenaltyOptions(method="dense", strength=(0.005,), threshold=4e-4),
    schedule=ScheduleOptions(
        steps=35, epochs=500, learning_rate=0.2, flat_epochs=20, decay=1 / 1.02, clip=10.0, weight_decay=1e-7,
        selection="best",
    ),
)  # fmt: skip
_RHN_SMALL = _RHN_SOTA.replaced(
    method="prox", strength=(0.0105,), hidden_sizes=(128,), depth=3, drops=(0.0, 0.0, 0.0, 0.0), epochs=4,
    learning_rate=0.5, flat_epochs=2, decay=0.4,
)  # fmt: skip
PRESETS = {
    "small": _SMALL,
    "zaremba-small": _ZAREMBA_SMALL,
    "zaremba-medium": _ZAREMBA_MEDIUM,
    "zaremba-large": _ZAREMBA_LARGE,
    "iss-large": _ZAREMBA_LARGE.replaced(keep=0.6, schedule="staircase"),
    "small-embedded": _SMALL.replaced(  # a text half as long: as many steps
        corpus="embedded", epochs=4, learning_rate=2.0, flat_epochs=2, strength=(0.0045, 0.004), penalty_epochs=2
    ),
    "gru-small": _SMALL.replaced(model="gru", learning_rate=0.8, strength=(0.004, 0.0045)),
    "rhn-small": _RHN_SMALL,
    "rhn-sota": _RHN_SOTA,
    "rhn-iss": _RHN_SOTA.replaced(method="prox", drops=(0.15, 0.45, 0.15, 0.45)),
}
QUICK = {  # the preset of each model's quick run
    settings.network.model: name
    for name, settings in PRESETS.items()
    if name in ("small", f"{settings.network.model}-small")
}
EMBEDDED = "-embedded"  # ends the name of the preset that a quick run has on the embedded text, where there is one
