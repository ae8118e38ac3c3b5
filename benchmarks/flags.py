"""The tables of docs/settings.md: settings with their descriptions, and presets, from the settings modules."""

import ast
import inspect
import re
from collections.abc import Iterator
from itertools import pairwise
from types import ModuleType
from typing import Any

from issref.training import options
from issref.training.options import flag


def settings(module: ModuleType) -> str:
    """Return the table of all settings of a module: flag, value in the default preset, description."""
    values = module.PRESETS["small"].flat()
    fields = [(name, text) for source in (module, options) for name, text in _fields(source) if name in values]
    rows = [f"| `{flag(name)}` | {_cell(values[name])} | {text} |" for name, text in fields]
    return "\n".join(["| flag | `small` | meaning |", "|---|---|---|", *rows])


def presets(module: ModuleType) -> str:
    """Return the table of the settings in which the presets of a module differ."""
    values = {name: preset.flat() for name, preset in module.PRESETS.items()}
    rows = {name: [preset[name] for preset in values.values()] for name in next(iter(values.values()))}
    lines = [
        f"| `{flag(name)}` | {' | '.join(map(_cell, row))} |"
        for name, row in rows.items()
        if any(value != row[0] for value in row)
    ]
    head = f"| flag | {' | '.join(f'`{name}`' for name in values)} |"
    return "\n".join([head, "|---" * (1 + len(values)) + "|", *lines])


def _fields(module: ModuleType) -> Iterator[tuple[str, str]]:
    """Yield name and docstring of every documented field of the module's classes."""
    for part in ast.walk(ast.parse(inspect.getsource(module))):
        for pair in pairwise(part.body if isinstance(part, ast.ClassDef) else []):
            match pair:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    yield name, re.sub(r"([|*$])", r"\\\1", " ".join(text.split()))


def _cell(value: Any) -> str:
    """Return a value as typed on the command line; empty for None."""
    if isinstance(value, (tuple, list)):
        return " ".join(map(_cell, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
