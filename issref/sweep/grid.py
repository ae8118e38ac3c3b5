"""Expand lists of settings into runs: one for each combination of values, with a unique name."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise, product
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from issref.iss.groups import group_norms, iss_groups
from issref.sweep.task import AnySettings, TaskSpec
from issref.training.models import init_params

Words = Mapping[str, Sequence[str]]


class Run(NamedTuple):
    """A run of a sweep: its arguments to the training command, its settings, the run it takes its model from."""

    name: str
    arguments: list[str]
    settings: AnySettings
    after: str | None = None


def read(arguments: Iterable[str]) -> dict[str, list[str]]:
    """Return the values of each flag by its name: --hidden-sizes 20,20 30,30 gives hidden_sizes two values.

    Raises ValueError for a value before the first flag, and for a repeated flag.
    """
    found: dict[str, list[str]] = {}
    for word in arguments:
        flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        name = flag.removeprefix("--").replace("-", "_") if flag else next(reversed(found), "")
        if not name:
            raise ValueError(f"sweep: expected a flag before its values, got {word!r}")
        if flag and name in found:
            raise ValueError(f"{flag}: expected all values after one flag, got the flag twice")
        found.setdefault(name, []).extend([value] if equals or not flag else [])
    return found


def check(words: Words, known: Iterable[str], single: Iterable[str], switches: Iterable[str] = ()) -> None:
    """Raise ValueError for an unknown flag, a missing or repeated value, or a list where one value is expected."""
    for name, values in words.items():
        flag, got = flag_of(name), " ".join(values)
        if name not in known:
            raise ValueError(f"{flag}: expected a setting of the training command, got an unknown one")
        if name in switches and values:
            raise ValueError(f"{flag}: expected no value, got {got}")
        if name not in switches and not values:
            raise ValueError(f"{flag}: expected at least one value, got none")
        if name in single and len(values) > 1:
            raise ValueError(f"{flag}: expected one value for the whole sweep, got {got}")
        if len(set(values)) < len(values):
            raise ValueError(
                f"{flag}: expected different values (commas separate the numbers of one value), got {got}"
            )


def runs_of(words: Words, task: TaskSpec) -> list[Run]:
    """Return one run for each combination of values, in the order of the flags.

    Lists of settings that a run's method does not use are left out. A strength auto:8 stands for the 8 of
    `useful_strengths`, and adds a dense run. Raises ValueError or InvalidSettings for values that the training
    command refuses; ValueError for two runs of the same settings, and for a list that no method in the sweep uses.
    """
    check(words, task.known, task.single, task.switches)
    words = {name: [_full_path(name, *values)] if name in task.paths else values for name, values in words.items()}
    automatic = any(value.startswith("auto") for value in words.get("strength", ()))
    first = {name: "".join(values[:1]) for name, values in words.items()}
    usual = settings_of(spelled(first | ({"strength": "0"} if automatic else {}), task), task.command)
    methods = list(words.get("method", [usual.penalty.method]))
    for name, needed in task.used_by.items():
        listed = len(words.get(name, ())) > 1 or (name == "strength" and automatic)
        if listed and not set(needed) & set(methods):
            found = f"--method {' '.join(methods)}"
            raise ValueError(f"{flag_of(name)}: expected --method {' or '.join(needed)} for a list, got {found}")
    if automatic:
        methods = [*dict.fromkeys(["dense", *methods])]
        words = {"method": methods, **words, "strength": list(_expanded(words["strength"], usual, task))}
    varied = [name for name, values in words.items() if len(values) > 1]
    runs: dict[str, Run] = {}
    for one in _combinations(words, usual.penalty.method, task.used_by):
        name = "_".join(f"{name}={one[name]}" for name in varied if name in one) or "run"
        arguments = spelled(one, task)
        runs.setdefault(name, Run(name, arguments, settings_of(arguments, task.command)))
    for run, other in pairwise(sorted(runs.values(), key=lambda run: repr(run.settings))):
        if run.settings == other.settings:
            raise ValueError(
                f"sweep: expected different runs, got {run.name} and {other.name} with the same settings"
            )
    return list(runs.values())


def spelled(one: Mapping[str, str], task: TaskSpec) -> list[str]:
    """Return one value for each flag as arguments of the training command; commas separate several numbers."""
    arguments = []
    for name, value in one.items():
        values = value.split(",") if name in task.several else [value]
        arguments += [flag_of(name), *(values if name not in task.switches else [])]
    return arguments


def flag_of(name: str) -> str:
    """Return the flag of a setting."""
    return "--" + name.replace("_", "-")


def settings_of(arguments: list[str], command: ModuleType) -> AnySettings:
    """Return the settings that the training command parses from its arguments."""
    return command.parse(arguments).settings


def _full_path(name: str, value: str) -> str:
    named = name == "corpus" and value in ("auto", "ptb", "embedded")
    return str(Path(value).resolve()) if not named and Path(value).exists() else value


def _combinations(words: Words, usual: str, used_by: Words) -> Iterator[dict[str, str]]:
    for values in product(*(values or [""] for values in words.values())):
        one = dict(zip(words, values, strict=True))
        method = one.get("method", usual)
        yield {
            name: value
            for name, value in one.items()
            if method in used_by.get(name, (method,)) or len(words[name]) == 1
        }


def _expanded(strengths: Iterable[str], settings: AnySettings, task: TaskSpec) -> Iterator[str]:
    for value in strengths:
        count = value.removeprefix("auto:")
        if not value.startswith("auto"):
            yield value
        elif count.isdecimal() and int(count) > 1:
            yield from (f"{strength:.3g}" for strength in useful_strengths(settings, int(count), task))
        else:
            raise ValueError(f"--strength: expected a number from 2 up after auto:, as in auto:8, got {value}")


def useful_strengths(settings: AnySettings, count: int, task: TaskSpec) -> np.ndarray:
    """Return log-spaced multiples of  u = median_g |w_g| / sum over all steps of learning rate * penalty scale.

    A proximal step takes rate * strength off the norm of a group. At strength u a run therefore takes off the
    whole initial norm of the median group if no gradient feeds the group. The range is u to 30 u for a language
    model, whose presets have 5 u to 19 u. It is u / 2 to 2 u for BiDAF, whose presets have 0.9 u to 1.8 u: at 2 u
    for all LSTMs, the strong and short penalty of the quick run leaves one LSTM without components.
    """
    corpus, model = task.command.load_corpus(settings), task.model(settings)
    params, layout, _ = init_params(model, task.command.model_config(settings, corpus), settings.run)
    norms = group_norms(params, iss_groups(layout, model.spaces(layout.axes)))
    return np.median(norms) / task.rates(settings, corpus) * np.geomspace(*task.strength_range, count)


def chains(runs: list[Run], path: bool) -> list[list[Run]]:
    """Return the runs in chains, whose runs are trained one after another.

    Each run is a chain of its own, or with `path` all runs that differ in strength alone are one chain: the
    strength grows along it, after a dense run if there is one, and dead components stay dead. Raises ValueError
    if there is no such path.
    """
    if not path:
        return [[run] for run in runs]
    found: dict[AnySettings, list[Run]] = {}
    for run in runs:
        found.setdefault(run.settings.replaced(strength=(0.0,), method="dense"), []).append(run)
    for chain in found.values():
        chain.sort(key=lambda run: (run.settings.penalty.method != "dense", run.settings.penalty.strength))
        methods = {run.settings.penalty.method for run in chain} - {"dense"}
        if len(methods) != 1 or len(chain) < 2:
            got = f"{len(chain)} of --method {' '.join(sorted(methods)) or 'dense'}"
            raise ValueError(f"--path: expected two or more runs of one method that differ in strength, got {got}")
    return [
        [chain[0], *(run._replace(after=last.name) for last, run in pairwise(chain))] for chain in found.values()
    ]
