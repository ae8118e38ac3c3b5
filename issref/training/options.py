"""Settings of a training command: nested, frozen and validated; bounds are declared in the types."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from issref.training.checkpoint import from_json, read_whole

Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
KeepProbability = Annotated[float, Field(gt=0, le=1)]
DropProbability = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class InvalidSettings(Exception):
    """A setting is out of its bounds; the message names the flag, the expected and the given value."""


class Options(BaseModel):
    """Base class of settings, and of their parts: network, penalty, schedule, data, run.

    The names of all leaves are different, so each is one flag of the command line. Raises InvalidSettings for a
    value out of its bounds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    COMMAND: ClassVar[str] = ""  # the command whose settings these are

    def __init__(self, **fields: Any):
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise InvalidSettings(_sentence(error)) from None

    def check(self) -> None:
        """Raise ValueError for settings that contradict each other."""

    def flat(self) -> dict[str, Any]:
        """Return the value of every leaf by its name, which is that of its flag."""
        return flattened(self.model_dump())

    def replaced(self, **leaves: Any) -> Self:
        """Return settings in which these leaves have new values. Raises KeyError for an unknown leaf."""
        if unknown := leaves.keys() - self.flat().keys():
            raise KeyError(f"settings: expected leaves of {type(self).__name__}, got {sorted(unknown)}")
        return type(self)(**_filled(self.model_dump(), leaves))

    def changed(self, other: Self) -> set[str]:
        """Return the names of the leaves in which two settings differ."""
        theirs = other.flat()
        return {name for name, value in self.flat().items() if theirs[name] != value}

    def to_dict(self) -> dict[str, Any]:
        """Return the nested fields, ready for JSON."""
        return self.model_dump()

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Return the settings of which `fields` is `to_dict()`.

        Raises ValueError if they are the settings of another version or command, or contradict each other.
        """
        try:
            settings = cls(**fields)
        except (InvalidSettings, TypeError, RecursionError) as error:
            expected = f"expected settings of {cls.COMMAND} in this version of issref"
            raise ValueError(f"settings: {expected}, got others ({error})") from error
        settings.check()
        return settings

    @classmethod
    def from_flat(cls, leaves: dict[str, Any]) -> Self:
        """Return the settings with these leaves, and defaults for all others.

        Raises ValueError if they are the settings of another version or command.
        """
        if unknown := sorted(leaves.keys() - cls().flat().keys()):
            expected = f"expected settings of {cls.COMMAND} in this version of issref"
            raise ValueError(f"settings: {expected}, got others ({', '.join(map(flag, unknown))})")
        return cls.from_dict(_filled(cls().to_dict(), leaves))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the settings of a run from its config.json. Raises ValueError if they cannot be read."""
        content = read_whole(path, "the settings of a run")
        try:
            fields = from_json(content)
        except ValueError as error:
            raise ValueError(f"{path}: expected the settings of a run, got no JSON ({error})") from error
        if not isinstance(fields, dict):
            raise ValueError(f"{path}: expected the settings of a run, got {type(fields).__name__}")
        return cls.from_dict(fields)


class RunOptions(Options):
    """Random numbers, precision and threads."""

    init: str | None = None
    """Folder of a finished run to take the initial weights from; components dead there stay dead."""
    seed: Natural = 0
    """Seed of the initial weights, of dropout and of the order of shuffled batches."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision of weights and arithmetic."""
    threads: Count | None = None
    """Threads of the BLAS and of the compiled loops; all cores if not given."""


def flattened(nested: dict[str, Any]) -> dict[str, Any]:
    """Return the leaves of nested settings by name."""
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        flat |= flattened(value) if isinstance(value, dict) else {name: value}
    return flat


def strengths(strength: tuple[float, ...], spaces: list[str]) -> dict[str, float]:
    """Return the strength of each space from one number, or one for each space.

    Raises ValueError for another count of numbers.
    """
    if len(strength) not in (1, len(spaces)):
        expected = f"expected one number or one for each of {len(spaces)} layers"
        raise ValueError(f"--strength: {expected}, got {len(strength)}")
    return dict(zip(spaces, strength if len(strength) > 1 else strength * len(spaces), strict=True))


def flag(name: str) -> str:
    """Return a leaf's name as it is written on the command line."""
    return "--" + name.replace("_", "-")


def _filled(parts: dict[str, Any], leaves: dict[str, Any]) -> dict[str, Any]:
    for name, value in parts.items():
        if isinstance(value, dict):
            parts[name] = _filled(value, leaves)
        elif name in leaves:
            parts[name] = leaves[name]
    return parts


def _sentence(error: ValidationError) -> str:
    """Return pydantic's first error as one sentence."""
    first = error.errors(include_url=False)[0]
    name = flag(
        str(next((part for part in reversed(first["loc"]) if isinstance(part, str) and part.islower()), ""))
    )
    need = first["msg"].removeprefix("Input should be ")
    if first["type"] == "extra_forbidden":
        return f"{name}: expected a setting of this command, got an unknown one"
    if need.startswith(("greater", "less")):
        need = f"a number {need}"
    return f"{name}: expected {need[0].lower()}{need[1:]}, got {str(first['input'])[:60]}"
