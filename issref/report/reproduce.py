"""The command that trains with given settings."""

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from issref.ptb import settings as language
from issref.squad import settings as squad

COMMANDS = {
    "issref.train_ptb": (language.Settings, language.PRESETS),
    "issref.train_squad": (squad.SquadSettings, squad.PRESETS),
}


def command(settings: Mapping[str, Any]) -> str:
    """The line that trains with these settings: the nearest preset, and a flag for all that differs from it.

    ValueError if they are those of no command of this version.
    """
    for module, (kind, presets) in COMMANDS.items():
        try:
            wanted: Any = kind.from_flat(dict(settings))
        except ValueError:
            continue
        preset = min(presets, key=lambda name, wanted=wanted: len(wanted.changed(presets[name])))
        values = wanted.flat()
        flags = [word for name in sorted(wanted.changed(presets[preset])) for word in _flag(name, values[name])]
        return shlex.join(["python", "-m", module, "--preset", preset, *flags])
    raise ValueError(f"settings: needs those of one of {sorted(COMMANDS)}, found {sorted(settings)}")


def nearest(settings: Mapping[str, Any]) -> str:
    """The command with most settings of these names."""
    return max(COMMANDS, key=lambda module: len(settings.keys() & COMMANDS[module][0]().flat().keys()))


def _flag(name: str, value: Any) -> Iterator[str]:
    spelled = name.replace("_", "-")
    if isinstance(value, bool):
        yield f"--{spelled}" if value else f"--no-{spelled}"
        return
    yield f"--{spelled}"
    yield from map(str, value if isinstance(value, tuple) else (value,))
