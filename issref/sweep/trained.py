"""What a sweep has to know of each training command: its settings, its scores, the pull of its penalty."""

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
class Trained:
    """A training command, as a sweep sees it."""

    command: ModuleType
    """Its module, with parse, load_corpus, model_config, and main, which trains one run."""
    settings: type[Settings] | type[SquadSettings]
    """What it can be given, beside --preset and --small."""
    places: tuple[str, ...]
    """Settings that name files and folders, which every process finds by their whole path."""
    limits: tuple[str, ...]
    """Other settings that decide what is trained on and judged by, so that a whole sweep has one value of each."""
    read_by: dict[str, tuple[str, ...]]
    """Which methods read a setting, where not all do."""
    model: Callable[[Any], Network]
    """The network of some settings."""
    epochs: Callable[[Any, Any], int]
    """Epochs of a run, of its settings and its corpus."""
    rates: Callable[[Any, Any], float]
    """Sum of the learning rates of all steps, each by the share of the strength in it, of settings and corpus."""
    reach: tuple[float, float]
    """First and last of the `useful_strengths`, in their unit."""
    shown: str
    """The score in each row of metrics.jsonl."""
    scores: dict[str, str]
    """The scores in result.json, and what the table calls them; the last is the height of the figure."""
    better: Literal["lower", "higher"]
    """Which scores are."""

    @property
    def several(self) -> set[str]:
        """Settings of several numbers."""
        return self._of(tuple)

    @property
    def switches(self) -> set[str]:
        """Flags without a value."""
        return {"small", *self._of(bool), *(f"no_{name}" for name in self._of(bool))}

    @property
    def single(self) -> set[str]:
        """Flags with one value for a whole sweep."""
        return {"preset", "threads", *self.places, *self.limits}

    @property
    def known(self) -> set[str]:
        """Every flag that a sweep may have."""
        return {*self.settings().flat(), *self.switches, *self.single}

    def _of(self, kind: type) -> set[str]:
        return {name for name, value in self.settings().flat().items() if isinstance(value, kind)}


def _ptb_rates(settings: Settings, corpus: corpora.Corpus) -> float:
    schedule, scale = settings.schedule, settings.penalty.scale
    steps = len(corpora.windows(corpus.train, schedule.batch, schedule.steps))
    return steps * sum(schedule.rate(epoch) * scale(epoch) for epoch in range(schedule.epochs))


def _squad_rates(settings: SquadSettings, corpus: squad_corpus.Corpus) -> float:
    schedule = settings.schedule
    return sum(schedule.rate(step) for step in range(schedule.steps) if settings.penalty.acts(step))


COMMANDS = {
    "ptb": Trained(
        command=train_ptb,
        settings=Settings,
        places=("corpus", "data_dir", "init"),
        limits=(),
        read_by={
            "strength": ("prox", "released"),
            "penalty_epochs": ("prox", "released", "l1"),
            "final_penalty_scale": ("prox", "released", "l1"),
            "l1_strength": ("l1",),
            "threshold": ("released", "l1"),
        },
        model=lambda settings: LANGUAGE_MODELS[settings.network.model],
        epochs=lambda settings, corpus: settings.schedule.epochs,
        rates=_ptb_rates,
        reach=(1.0, 30.0),
        shown="valid_perplexity",
        scores={"valid_perplexity": "valid perplexity", "test_perplexity": "test perplexity"},
        better="lower",
    ),
    "squad": Trained(
        command=train_squad,
        settings=SquadSettings,
        places=("train", "dev", "glove", "data_dir", "init"),
        limits=("articles", "question_limit", "context_limit", "word_size", "dev_limit"),
        read_by={
            "strength": ("prox", "released"),
            "penalty_steps": ("prox", "released"),
            "threshold": ("released",),
        },
        model=lambda settings: bidaf,
        epochs=train_squad.epochs,
        rates=_squad_rates,
        reach=(0.5, 2.0),
        shown="valid_f1",
        scores={"dev_em": "dev EM", "dev_f1": "dev F1"},
        better="higher",
    ),
}
