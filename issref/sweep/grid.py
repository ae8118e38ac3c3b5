"""Settings with lists, as the runs they stand for: every combination, each with a name of its own."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise, product
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from issref.iss.groups import group_norms, iss_groups
from issref.sweep.trained import AnySettings, Trained
from issref.training.models import init_params

Words = Mapping[str, Sequence[str]]


class Run(NamedTuple):
    """One run of a sweep: its arguments to the training command, and the run whose weights it starts from."""

    name: str
    arguments: list[str]
    settings: AnySettings
    after: str | None = None


def read(arguments: Iterable[str]) -> dict[str, list[str]]:
    """The words after each flag, by the flag's name: --hidden-sizes 20,20 30,30 gives two to hidden_sizes."""
    found: dict[str, list[str]] = {}
    for word in arguments:
        flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        name = flag.removeprefix("--").replace("-", "_") if flag else next(reversed(found), "")
        if not name:
            raise ValueError(f"sweep: needs a flag before its values, got {word!r}")
        if flag and name in found:
            raise ValueError(f"{flag}: needs all its values after one flag, got a second one")
        found.setdefault(name, []).extend([value] if equals or not flag else [])
    return found


def check(words: Words, known: Iterable[str], single: Iterable[str], switches: Iterable[str] = ()) -> None:
    """Raise ValueError, naming flag, need and finding, for flags that no sweep has and lists that say nothing."""
    for name, values in words.items():
        flag, got = flag_of(name), " ".join(values)
        if name not in known:
            raise ValueError(f"{flag}: needs to be a setting of the training command, which has none of this name")
        if name in switches and values:
            raise ValueError(f"{flag}: needs no value, got {got}")
        if name not in switches and not values:
            raise ValueError(f"{flag}: needs a value or more, got none")
        if name in single and len(values) > 1:
            raise ValueError(f"{flag}: needs one value for the whole sweep, got {got}")
        if len(set(values)) < len(values):
            raise ValueError(f"{flag}: needs values that differ, commas within one of several numbers, got {got}")


def runs_of(words: Words, trained: Trained) -> list[Run]:
    """One run for each combination of values, in the order of the flags, without what its method does not read.

    A strength auto:8 stands for the 8 of `useful_strengths`, and adds a dense run beside them. ValueError in a
    sentence for values that the training command refuses, for two runs of the same settings, and for a list
    that no method in the sweep reads.
    """
    check(words, trained.known, trained.single, trained.switches)
    words = {name: [_whole(name, *values)] if name in trained.places else values for name, values in words.items()}
    automatic = any(value.startswith("auto") for value in words.get("strength", ()))
    first = {name: "".join(values[:1]) for name, values in words.items()}
    usual = settings_of(spelled(first | ({"strength": "0"} if automatic else {}), trained), trained.command)
    methods = list(words.get("method", [usual.penalty.method]))
    for name, needed in trained.read_by.items():
        listed = len(words.get(name, ())) > 1 or (name == "strength" and automatic)
        if listed and not set(needed) & set(methods):
            found = f"--method {' '.join(methods)}"
            raise ValueError(f"{flag_of(name)}: needs --method {' or '.join(needed)} for a list, got {found}")
    if automatic:
        methods = [*dict.fromkeys(["dense", *methods])]
        words = {"method": methods, **words, "strength": list(_expanded(words["strength"], usual, trained))}
    varied = [name for name, values in words.items() if len(values) > 1]
    runs: dict[str, Run] = {}
    for one in _combinations(words, usual.penalty.method, trained.read_by):
        name = "_".join(f"{name}={one[name]}" for name in varied if name in one) or "run"
        arguments = spelled(one, trained)
        runs.setdefault(name, Run(name, arguments, settings_of(arguments, trained.command)))
    for run, other in pairwise(sorted(runs.values(), key=lambda run: repr(run.settings))):
        if run.settings == other.settings:
            raise ValueError(f"sweep: needs runs that differ, got {run.name} and {other.name}, the same settings")
    return list(runs.values())


def spelled(one: Mapping[str, str], trained: Trained) -> list[str]:
    """One value for each flag, as arguments of the training command; commas part those of several numbers."""
    arguments = []
    for name, value in one.items():
        values = value.split(",") if name in trained.several else [value]
        arguments += [flag_of(name), *(values if name not in trained.switches else [])]
    return arguments


def flag_of(name: str) -> str:
    """A name as it stands on the command line."""
    return "--" + name.replace("_", "-")


def settings_of(arguments: list[str], command: ModuleType) -> AnySettings:
    """The settings that the training command makes of its arguments."""
    return command.parse(arguments).settings


def _whole(name: str, value: str) -> str:
    named = name == "corpus" and value in ("auto", "ptb", "embedded")
    return str(Path(value).resolve()) if not named and Path(value).exists() else value


def _combinations(words: Words, usual: str, read_by: Words) -> Iterator[dict[str, str]]:
    for values in product(*(values or [""] for values in words.values())):
        one = dict(zip(words, values, strict=True))
        method = one.get("method", usual)
        yield {
            name: value
            for name, value in one.items()
            if method in read_by.get(name, (method,)) or len(words[name]) == 1
        }


def _expanded(strengths: Iterable[str], settings: AnySettings, trained: Trained) -> Iterator[str]:
    for value in strengths:
        count = value.removeprefix("auto:")
        if not value.startswith("auto"):
            yield value
        elif count.isdecimal() and int(count) > 1:
            yield from (f"{strength:.3g}" for strength in useful_strengths(settings, int(count), trained))
        else:
            raise ValueError(f"--strength: auto needs a number of strengths from 2 up, as in auto:8, got {value}")


def useful_strengths(settings: AnySettings, count: int, trained: Trained) -> np.ndarray:
    """Log-spaced multiples of  median_g |w_g| / sum of learning rate * share of the strength that acts, all steps.

    A proximal step takes rate * strength off a group's norm, so at one times this, a run takes off the initial
    norm of the median group where no gradient feeds it. For a language model they are from 1 to 30 times it; the
    strengths of the presets are 5 to 19 times it. For the reader they are from 0.5 to 2 times it, those of the
    presets 0.9 to 1.8 times: at 2 times, and the same for all, the strong and short penalty of its tour leaves one
    of the LSTMs without components.
    """
    corpus, model = trained.command.load_corpus(settings), trained.model(settings)
    params, layout, _ = init_params(model, trained.command.model_config(settings, corpus), settings.run)
    norms = group_norms(params, iss_groups(layout, model.spaces(layout.axes)))
    return np.median(norms) / trained.rates(settings, corpus) * np.geomspace(*trained.reach, count)


def chains(runs: list[Run], path: bool) -> list[list[Run]]:
    """What is done one after another: each run alone, or with `path` all that differ in strength alone.

    Along a path strength grows, from a dense run if there is one: what has died stays dead. ValueError if there
    is no such path.
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
            raise ValueError(f"--path: needs two runs or more of one method that differ in strength, got {got}")
    return [
        [chain[0], *(run._replace(after=last.name) for last, run in pairwise(chain))] for chain in found.values()
    ]
