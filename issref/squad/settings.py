"""The settings of a BiDAF run on SQuAD, and the presets: a quick run, the paper."""

from typing import Annotated, ClassVar, Literal

import tyro
from pydantic import Field

from issref.models import bidaf
from issref.training.options import (
    Count,
    KeepProbability,
    NonNegative,
    Options,
    Positive,
    RunOptions,
    Share,
    strengths,
)

LSTMS = bidaf.spaces(bidaf.layout(bidaf.Config()).axes)


class NetworkOptions(Options):
    """BiDAF."""

    hidden_size: Count = 100
    """Units of each direction of each LSTM."""
    filters: Count = 100
    """Filters of the convolution over a word's characters."""
    char_size: Count = 8
    """Width of a character's vector."""
    word_size: Count = 100
    """Width of a word's vector: GloVe's 50 or 100, or the width of --glove."""
    keep: KeepProbability = 0.8
    """Probability that dropout keeps a value."""


class PenaltyOptions(Options):
    """The method, and the strength of the group lasso."""

    method: Literal["prox", "released", "dense"] = "prox"
    """prox: Adam on the data loss, then the exact proximal step in the Euclidean metric. released: the paper's
    code (its groups, penalty gradient into Adam, elementwise threshold). dense: Adam alone."""
    strength: tuple[NonNegative, ...] = (0.3,)
    """lambda of the group lasso: one number, or one for each of g0.fw g0.bw g1.fw g1.bw g2.fw g2.bw. The strengths
    of prox and of released are not comparable: Adam normalises the gradient of a penalty, but not a proximal
    step."""
    penalty_steps: Count | None = None
    """Steps in which prox or released acts; then Adam alone trains the remaining network. All steps if not
    given."""
    threshold: NonNegative = 4e-4
    """Weights smaller than this are set to 0 after each step by --method released; not in the vectors of words and
    characters, convolution and highways."""
    shrink: bool = True
    """Cut components out of the arrays as they die in --method prox; --no-shrink keeps them as zeros."""

    def acts(self, step: int) -> bool:
        """Return whether the penalty acts in a step, counted from 0 over all epochs."""
        return self.penalty_steps is None or step < self.penalty_steps


class ScheduleOptions(Options):
    """Batches, learning rate, clipping, averaging."""

    batch: Count = 60
    """Questions in a step."""
    steps: Count = 10_000
    """Steps in all; the last epoch may be incomplete."""
    learning_rate: Positive = 1e-3
    """Adam's learning rate at the first step."""
    final_rate: Share = 1.0
    """Final learning rate relative to the first: the rate falls linearly and would reach it one step after the
    last."""
    clip: Positive | None = None
    """Largest global norm of the gradient; no clipping if not given."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the moving average of the weights, which is the model that is scored and kept; 0 for none."""

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0 over all epochs."""
        return self.learning_rate * (1 + (self.final_rate - 1) * step / self.steps)


class DataOptions(Options):
    """Questions and word vectors."""

    question_limit: Count = 30
    """Longer questions are not trained on, and are refused by --predict."""
    context_limit: Count = 400
    """Contexts are cut to this many words in training; questions answered in the rest are left out."""
    dev_limit: Count | None = None
    """Only dev questions whose context has at most this many words are scored; all if not given."""
    dev_sample: Count = 1000
    """Number of dev questions to score after each epoch; all within --dev-limit are scored at the end."""
    articles: Count | None = None
    """Number of train articles to read, from the first; all if not given."""
    train: str | None = None
    """File of the training questions, in the format of SQuAD v1.1; the official one if not given."""
    dev: str | None = None
    """File of the questions to score; the official one if not given."""
    glove: str | None = None
    """File of word vectors, a word and its numbers on each line; GloVe 6B if not given."""
    data_dir: str | None = None
    """Folder with squad/dev-v1.1.json and so on; else $ISSREF_DATA, the user's cache, a download."""


class SquadSettings(Options):
    """All settings of a run; the preset gives the values that no flag gives."""

    COMMAND: ClassVar[str] = "train_squad"

    network: tyro.conf.OmitArgPrefixes[NetworkOptions] = NetworkOptions()
    penalty: tyro.conf.OmitArgPrefixes[PenaltyOptions] = PenaltyOptions()
    schedule: tyro.conf.OmitArgPrefixes[ScheduleOptions] = ScheduleOptions()
    data: tyro.conf.OmitArgPrefixes[DataOptions] = DataOptions()
    run: tyro.conf.OmitArgPrefixes[RunOptions] = RunOptions()

    def check(self) -> None:
        """Raise ValueError unless there is one strength, or one for each LSTM."""
        strengths(self.penalty.strength, LSTMS)


# The released code's configuration, and a quick run of minutes. With prox the norm of a group, initially 2.6 to
# 2.9 whatever the sizes, falls by rate * strength a step. Adam's steps have a size of their own, and keep the norm
# up if gradients agree from batch to batch: the strength sets how much they must agree, the sum of the learning
# rates how soon it takes effect. The penalty of the quick run is strong and short: components die before they have
# learned much, and the remaining network learns undisturbed.
_PAPER = SquadSettings()
_SMALL = _PAPER.replaced(
    strength=(6.0, 6.0, 3.0, 4.5, 6.0, 6.0), penalty_steps=305, hidden_size=32, filters=32, word_size=50, keep=1.0,
    steps=1000, learning_rate=3e-3, final_rate=0.05, average=0.99, context_limit=150, dev_limit=200, articles=44,
)  # fmt: skip
PRESETS = {"small": _SMALL, "paper": _PAPER}
