"""The fields of a run's JSON files that a report reads; pydantic checks them, and leaves out all others."""

from typing import Annotated, Any, Generic, Required, TypeVar

from pydantic import Field
from typing_extensions import TypedDict

NAME = r"^[\w.~/ -]{1,60}$"  # of a space or an array: no character that a figure or a page cannot show
Name = Annotated[str, Field(pattern=NAME)]
Text = Annotated[str, Field(max_length=4000)]
Size = Annotated[int, Field(ge=0, le=2**53)]
Position = Annotated[int, Field(ge=1, le=2**53)]
Amount = Annotated[float, Field(ge=0, le=1e300, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Perplexity = Annotated[float, Field(ge=0.5, le=1e305, allow_inf_nan=False)]
Loss = Annotated[float, Field(ge=-1e300, le=1e300, allow_inf_nan=False)]
Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Sizes = dict[Name, Size]
T = TypeVar("T")


class Both(TypedDict, Generic[T]):
    """A value for the full and one for the compact model."""

    full: T
    compact: T


class Measures(TypedDict, total=False):
    """The training score of a point of the curves: a mean over the epoch so far."""

    train_perplexity: Perplexity
    train_loss: Loss


class Point(Measures):
    """A point of the curves of an epoch."""

    step: Position
    alive: Sizes


class Cut(TypedDict):
    """A step at which components were cut out."""

    step: Position


class Row(Measures, total=False):
    """A line of metrics.jsonl, about one epoch."""

    epoch: Required[Position]
    alive: Required[Sizes]
    seconds: Required[Seconds]
    trace: Required[Annotated[list[Point], Field(min_length=1)]]
    cuts: list[Cut]
    learning_rate: Amount
    valid_perplexity: Perplexity
    valid_f1: Percent


class Head(TypedDict):
    """The first line of history.jsonl: the layout of the whole network, and the spaces of components."""

    layout: dict[str, Any]
    spaces: Annotated[list[Name], Field(max_length=200)]


class Frame(TypedDict):
    """Another line of history.jsonl: the norms of rows and columns after a step."""

    epoch: Position
    step: Position
    steps: Position
    alive: Sizes
    norms: Annotated[str, Field(max_length=100_000)]


class Times(TypedDict, total=False):
    """The seconds of the parts of a run."""

    train: Required[Seconds]
    evaluate_untrained: Seconds
    evaluate_full: Seconds
    evaluate_compact: Seconds


class Cuts(TypedDict):
    """Number of times that components were cut out, and the largest difference that made to the outputs."""

    count: Size
    max_output_difference: Amount


class Corpus(TypedDict, total=False):
    """The text or the questions of a run."""

    name: Text
    sha256: Text
    vocabulary: Size
    train: Size


class Pool(TypedDict):
    """A BLAS in the process."""

    internal_api: Text
    version: Text | None


class Versions(TypedDict, total=False):
    """The software and the machine of a run."""

    issref: Text
    python: Text
    numpy: Text
    numba: Text
    machine: Text
    blas: list[Pool]


class Result(TypedDict, total=False):
    """result.json. Which measures there are depends on the command."""

    components: Required[Both[Sizes]]
    parameters: Required[Both[Size]]
    multiply_adds: Both[Size]
    valid_perplexity: Both[Perplexity]
    test_perplexity: Both[Perplexity]
    dev_em: Both[Percent]
    dev_f1: Both[Percent]
    seconds: Required[Times]
    settings: Required[dict[str, Any]]
    max_output_difference: Amount
    largest_logit: Amount
    compared_words: Size
    cuts: Cuts
    corpus: Corpus
    versions: Versions
    finished: Text


class Settings(TypedDict, total=False):
    """The settings in config.json, of any version and command, by which a report describes a run."""

    method: Text
    strength: Amount | list[Amount]
    penalty_epochs: Size | None
    penalty_steps: Size | None
    final_penalty_scale: Amount
    epochs: Size
    steps: Size
    dtype: Text
    corpus: Text
    hidden_size: Size
