"""Find LSTMs by the names of a model's arrays: the layers of one LSTM differ in numbers only."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

Places = dict[str, dict[str, str]]  # {place: {array: name}}; a place is a name with "*" instead of the array
_OTHER = {"forward": "backward", "backward": "forward", "fw": "bw", "bw": "fw"}


class Stack(NamedTuple):
    """One LSTM: its name, a place with "#" for numbers, and its layers, from the input up.

    It is `assumed` if the layers are separate modules, so that only their numbers and widths make them a chain.
    """

    name: str
    layers: Places
    assumed: bool = False


class Rules(NamedTuple):
    """Rules for chains: which layer can read which, and a pattern of stacks that are chains."""

    reads: Callable[[str, str], bool]  # (upper, lower)
    chains: str


def places(names: Iterable[str], arrays: Iterable[str]) -> Places:
    """Return the arrays of each place, {"lstm.*_l0": {"weight_ih": "lstm.weight_ih_l0", ...}, ...}."""
    pattern = re.compile(rf"(.*[/.]|)({'|'.join(map(re.escape, arrays))})(_l\d+(?:_reverse)?|)")
    found: Places = {}
    for name in names:
        if match := pattern.fullmatch(name):
            found.setdefault(f"{match[1]}*{match[3]}", {})[match[2]] = name
    return found


def prefix(place: str) -> str:
    """Return the part of a place before its arrays, "lstm." of "lstm.*_l0"."""
    return place.partition("*")[0]


def within(names: Iterable[str], outer: Iterable[str]) -> set[str]:
    """Return the names that are below the prefix of another place."""
    outer = {prefix(place) for place in outer} - {""}
    return {name for name in names if any(name.startswith(start) and prefix(name) != start for start in outer)}


def stacks(found: Places, rules: Rules) -> list[Stack]:
    """Return the LSTMs in a file: numbered places are one LSTM if each can read the previous one."""
    groups: dict[str, list[str]] = {}
    for place in sorted(found):
        groups.setdefault(_numberless(place), []).append(place)
    split = [one for group in groups.values() for one in _split(group, found, rules)]
    return sorted(split, key=lambda one: one.name)


def choose(found: Places, stack: str) -> Stack | None:
    """Return the LSTM that `stack` names: "lstm.*_l#", one layer "lstm.*_l1", or all below a prefix, "lstm".

    Return None if it names none, or several.
    """
    pattern = _regex(stack) if "*" in stack else re.compile(rf"{_regex(stack).pattern}[/.](?:\d+[/.])?\*.*")
    matched = [place for place in found if pattern.fullmatch(place)]
    if not matched or len({_numberless(place) for place in matched}) > 1:
        return None
    common = _pattern(matched)
    layers = sorted(matched, key=lambda place: _numbers(place, common))
    ends = [re.sub(_regex(stack).pattern, "", place, count=1) for place in layers]
    name = stack if "*" in stack else stack + _pattern(ends)
    if len(layers) > 1 or "#" in stack:
        check_numbers(name, layers)
    return Stack(name, {place: found[place] for place in layers})


def check_numbers(name: str, layers: Sequence[str]) -> None:
    """Raise ValueError unless numbers count the layers up by one, for PyTorch (_l0, _l1) from 0."""
    if not _count_up(layers, _pattern(layers)):
        raise ValueError(f"arrays: expected layers numbered without gaps, or a choice by stack, got {[*layers]}")
    if "#" in name.partition("*")[2] and re.search(r"\*_l[1-9]", layers[0]):
        raise ValueError(f"arrays: expected layers numbered from 0 up, got {[*layers]}")


def _split(group: list[str], found: Places, rules: Rules) -> Iterator[Stack]:
    """Yield a group of places that differ in numbers as one LSTM, or as several if they cannot be a chain."""
    pattern = _pattern(group)
    layers = sorted(group, key=lambda place: _numbers(place, pattern))
    modules = {prefix(place): [one for one in layers if prefix(one) == prefix(place)] for place in layers}
    twins = any(twin(place) in found for place in layers)
    known = len(modules) == 1 or (rules.chains and re.fullmatch(rules.chains, pattern))
    if len(layers) == 1 or (known and not twins):
        yield _stack(pattern, layers, found)
    elif not twins and len(modules) == len(layers) and _chained(layers, pattern, rules):
        yield _stack(pattern, layers, found)._replace(assumed=True)
    elif len(modules) == 1:
        yield from (Stack(place, {place: found[place]}) for place in layers)
    else:
        for start, mine in modules.items():
            for one in _split(mine, found, rules):
                yield one._replace(name=start + "*" + one.name.partition("*")[2])


def _stack(name: str, layers: Iterable[str], found: Places) -> Stack:
    return Stack(name, {place: found[place] for place in layers})


def _chained(layers: Sequence[str], pattern: str, rules: Rules) -> bool:
    return _count_up(layers, pattern) and all(rules.reads(upper, lower) for lower, upper in pairwise(layers))


def twin(place: str) -> str:
    """Return the place of the other direction: "*_l0_reverse" of "*_l0", "lstm0_reverse/*" of "lstm0/*"."""
    if "_reverse" in place:
        return place.replace("_reverse", "")
    if (other := re.sub(r"(?<![a-z])(forward|backward|fw|bw)(?![a-z])", lambda of: _OTHER[of[0]], place)) != place:
        return other
    return place.replace("/*", "_reverse/*") if place.endswith("/*") else f"{place}_reverse"


def _count_up(layers: Sequence[str], pattern: str) -> bool:
    numbers = [_numbers(place, pattern) for place in layers]
    steps = {tuple(b - a for a, b in zip(*pair, strict=True)) for pair in pairwise(numbers)}
    return len(steps) <= 1 and all(set(step) | {0, 1} == {0, 1} and any(step) for step in steps)


def _numberless(place: str) -> str:
    """Return a place without numbers; Keras' first layer has none, the others "_1", "_2" and so on."""
    return re.sub(r"\d+", "#", re.sub(r"_\d+(?=/)", "", place))


def _pattern(group: Iterable[str]) -> str:
    """Return places that differ in numbers as one, with "#" for numbers."""
    parts = zip(*(re.sub(r"\d+", "#", place).split("/") for place in group), strict=True)
    return "/".join(max(part, key=len) for part in parts)


def _regex(pattern: str) -> re.Pattern[str]:
    """Return the expression for a place with "#" for numbers; "_#/" is optional, as in Keras' names."""
    text = re.escape(pattern).replace(r"_\#/", r"(?:_(\d+))?/").replace(r"\#", r"(\d+)")
    return re.compile(text)


def _numbers(place: str, pattern: str) -> tuple[int, ...]:
    match = _regex(pattern).fullmatch(place)
    return tuple(int(number or 0) for number in match.groups()) if match else ()


def check_complete(layers: Places, matrices: Sequence[str], biases: Sequence[str]) -> None:
    """Raise ValueError unless each layer has all arrays; all biases may be missing."""
    biased = any(bias in layer for layer in layers.values() for bias in biases)
    for place, layer in layers.items():
        for array in (*matrices, *biases) if biased else matrices:
            if array not in layer:
                raise ValueError(f"{place.replace('*', array)}: expected this array, got {sorted(layer.values())}")


def below(names: Iterable[str], start: str, known: Iterable[str]) -> dict[str, str]:
    """Return names below a prefix by their ends, without known ones, an optimiser's copies and dropout's seeds."""
    known = {*known}
    return {
        name.removeprefix(start): name
        for name in names
        if name.startswith(start) and name not in known and "seed_generator" not in name
        and not any(name.startswith(f"{one}/") for one in known)
    }  # fmt: skip
