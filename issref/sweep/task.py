"""The training commands that a sweep can run: their settings, scores and range of strengths."""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

from issref import train_ptb, train_squad
from issref.data import corpus as corpora
from issref.data import squad_corpus
from issref.models import LANGUAGE_MODELS, bidaf
from issref.models.protocol import Network
from issref.ptb.settings import Settings
from issref.squad.settings import SquadSettings

AnySettings = Settings | SquadSettings


@dataclass(frozen=True)
class TaskSpec:
    """A training command, described for a sweep."""

    command: ModuleType
    """Module with parse, load_corpus, model_config, and main, which trains one run."""
    settings: type[Settings] | type[SquadSettings]
    """Settings of the command; --preset and --small are accepted too."""
    paths: tuple[str, ...]
    """Settings that name files and folders; every process gets their full path."""
    limits: tuple[str, ...]
    """Other settings of the data, which have one value in a sweep, so that its scores are comparable."""
    used_by: dict[str, tuple[str, ...]]
    """Methods that use a setting, for each setting that not all methods use."""
    model: Callable[[Any], Network]
    """Network, from the settings."""
    epochs: Callable[[Any, Any], int]
    """Number of epochs, from the settings and the corpus."""
    rates: Callable[[Any, Any], float]
    """Sum over all steps of learning rate * penalty scale, from the settings and the corpus."""
    strength_range: tuple[float, float]
    """First and last of the `useful_strengths`, as multiples of their unit."""
    shown: str
    """Score in each row of metrics.jsonl that is printed."""
    scores: dict[str, str]
    """Scores in result.json, and their names in the table; the first one is the y axis of the figure."""
    better: Literal["lower", "higher"]
    """Whether lower or higher scores are better."""

    @property
    def several(self) -> set[str]:
        """Settings that take several numbers."""
        return self._of(tuple)

    @property
    def switches(self) -> set[str]:
        """Flags without a value."""
        return {"small", *self._of(bool), *(f"no_{name}" for name in self._of(bool))}

    @property
    def single(self) -> set[str]:
        """Flags that have one value for a whole sweep."""
        return {"preset", "threads", *self.paths, *self.limits}

    @property
    def known(self) -> set[str]:
        """All flags that a sweep accepts."""
        return {*self.settings().flat(), *self.switches, *self.single}

    def _of(self, kind: type) -> set[str]:
        return {name for name, value in self.settings().flat().items() if isinstance(value, kind)}


def _ptb_rates(settings: Settings, corpus: corpora.Corpus) -> float:
    schedule, scale = settings.schedule, settings.penalty.scale
    steps = len(corpora.windows(corpus.train, schedule.batch, schedule.steps))
    return steps * sum(schedule.rate(epoch + 0.5) * scale(epoch) for epoch in range(schedule.epochs))


def _squad_rates(settings: SquadSettings, corpus: squad_corpus.Corpus) -> float:
    schedule = settings.schedule
    return sum(schedule.rate(step) for step in range(schedule.steps) if settings.penalty.acts(step))


COMMANDS = {
    "ptb": TaskSpec(
        command=train_ptb,
        settings=Settings,
        paths=("corpus", "data_dir", "init"),
        limits=(),
        used_by={
            "strength": ("prox", "released"),
            "penalty_epochs": ("prox", "released", "l1"),
            "final_penalty_scale": ("prox", "released", "l1"),
            "l1_strength": ("l1",),
            "threshold": ("released", "l1"),
        },
        model=lambda settings: LANGUAGE_MODELS[settings.network.model],
        epochs=lambda settings, corpus: settings.schedule.epochs,
        rates=_ptb_rates,
        strength_range=(1.0, 30.0),
        shown="valid_perplexity",
        scores={"valid_perplexity": "valid perplexity", "test_perplexity": "test perplexity"},
        better="lower",
    ),
    "squad": TaskSpec(
        command=train_squad,
        settings=SquadSettings,
        paths=("train", "dev", "glove", "data_dir", "init"),
        limits=("articles", "question_limit", "context_limit", "word_size", "dev_limit"),
        used_by={
            "strength": ("prox", "released"),
            "penalty_steps": ("prox", "released"),
            "threshold": ("released",),
        },
        model=lambda settings: bidaf,
        epochs=train_squad.epochs,
        rates=_squad_rates,
        strength_range=(0.5, 2.0),
        shown="valid_f1",
        scores={"dev_f1": "dev F1", "dev_em": "dev EM"},
        better="higher",
    ),
}
