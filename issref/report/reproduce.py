"""The command line that trains with given settings."""

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
    """Return the command line for these settings, given by name: the nearest preset, and a flag for each setting
    that differs from it. Raises ValueError unless they are the settings of a command in this version.
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
    raise ValueError(f"settings: expected the settings of one of {sorted(COMMANDS)}, got {sorted(settings)}")


def nearest(settings: Mapping[str, Any]) -> str:
    """Return the command that has most of these settings."""
    return max(COMMANDS, key=lambda module: len(settings.keys() & COMMANDS[module][0]().flat().keys()))


def _flag(name: str, value: Any) -> Iterator[str]:
    spelled = name.replace("_", "-")
    if isinstance(value, bool):
        yield f"--{spelled}" if value else f"--no-{spelled}"
        return
    yield f"--{spelled}"
    yield from map(str, value if isinstance(value, tuple) else (value,))
