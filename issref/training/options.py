"""What the settings of every command can do: go into JSON and back, be compared, give each space its strength."""

from pathlib import Path
from typing import Any, ClassVar, Self

from issref.training.runs import from_json


class Options:
    """Base of the frozen dataclasses of settings, whose fields are numbers, words, None, and tuples of them."""

    COMMAND: ClassVar[str]  # that they are the settings of
    strength: tuple[float, ...]

    def check(self) -> None:
        """Raise ValueError, naming flag, need and finding, for values that no run can have."""
        raise NotImplementedError

    def strengths(self, spaces: list[str]) -> dict[str, float]:
        """The strength of each space, by name."""
        each = self.strength if len(self.strength) > 1 else self.strength * len(spaces)
        return dict(zip(spaces, each, strict=True))

    def changed(self, other: Self) -> set[str]:
        """The names of the fields in which two settings differ."""
        return {name for name, value in self.to_dict().items() if getattr(other, name) != value}

    def to_dict(self) -> dict[str, Any]:
        """Every field, ready for JSON."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """The settings whose `to_dict` these are; ValueError if they are those of another version or command."""
        try:
            values: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
            }
            settings = cls(**values)
            settings.check()
        except (TypeError, AttributeError) as error:
            needed = f"needs those of {cls.COMMAND} in this version of issref"
            raise ValueError(f"settings: {needed}, found others ({error})") from error
        return settings

    @classmethod
    def read(cls, path: Path) -> Self:
        """The settings of a run, from its config.json; ValueError in a sentence if they cannot be read."""
        try:
            fields = from_json(path.read_bytes())
        except OSError as error:
            raise ValueError(f"{path}: needs the settings of a run, found none ({error.strerror})") from error
        except ValueError as error:
            raise ValueError(f"{path}: needs the settings of a run, found none ({error})") from error
        return cls.from_dict(fields)


def flag(name: str) -> str:
    """A field's name as it stands on the command line."""
    return "--" + name.replace("_", "-")
