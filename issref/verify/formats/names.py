"""Find the layers of an LSTM by the names of a model's arrays: the layers differ in a number only."""

import re
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise

Places = dict[str, dict[str, str]]  # {place: {array: name}}; a place is a name with "*" instead of the array


def find(names: Collection[str], matrices: Sequence[str], biases: Sequence[str], stack: str | None) -> Places:
    """Return the layers of one stack, from the input up: {"lstm.*_l0": {"weight_ih": "lstm.weight_ih_l0"}, ...}.

    `stack` is a place with "#" for each number, "lstm.*_l#"; it is required if there are several LSTMs. All biases
    may be missing. Raises ValueError if an array or a layer is missing, or if it is not a plain LSTM.
    """
    arrays = (*matrices, *biases)
    places = _places(names, arrays)
    layers = {place: places[place] for place in _choose(places, arrays, stack)}
    biased = any(bias in layer for layer in layers.values() for bias in biases)
    for place, layer in layers.items():
        for array in arrays if biased else matrices:
            if array not in layer:
                raise ValueError(f"{place.replace('*', array)}: expected this array, got {sorted(layer.values())}")
    _check_numbers([*layers])
    _check_no_others(names, places, layers, arrays)
    return layers


def _places(names: Iterable[str], arrays: Iterable[str]) -> Places:
    pattern = re.compile(rf"(.*[/.]|)({'|'.join(map(re.escape, arrays))})(_l\d\w*|)")
    places: Places = {}
    for name in names:
        if found := pattern.fullmatch(name):
            places.setdefault(f"{found[1]}*{found[3]}", {})[found[2]] = name
    return places


def _choose(places: Iterable[str], arrays: Iterable[str], stack: str | None) -> list[str]:
    stacks: dict[str, list[str]] = {}
    for place in sorted(places, key=_numbers):
        stacks.setdefault(re.sub(r"\d+", "#", place), []).append(place)
    if not stacks:
        raise ValueError(f"arrays: expected the arrays {', '.join(arrays)} of an LSTM, got none of them")
    if stack is None and len(stacks) > 1:
        raise ValueError(f"arrays: expected one LSTM, or a choice by stack, got {sorted(stacks)}")
    if stack is not None and stack not in stacks:
        raise ValueError(f"stack: expected one of {sorted(stacks)}, got {stack!r}")
    return stacks[stack or next(iter(stacks))]


def _numbers(place: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", place)))


def _check_numbers(layers: list[str]) -> None:
    """Check that one number counts the layers up by one, for PyTorch (_l0, _l1) from 0."""
    for pair in pairwise(map(_numbers, layers)):
        if sum(abs(below - above) for below, above in zip(*pair, strict=True)) != 1:
            raise ValueError(f"arrays: expected layers numbered without gaps, got {layers}")
    if re.search(r"\*_l[1-9]", layers[0]):
        raise ValueError(f"arrays: expected layers numbered from 0 up, got {layers}")


def _check_no_others(names: Iterable[str], places: Places, layers: Iterable[str], arrays: Iterable[str]) -> None:
    """Check that a layer has no other arrays, such as projections or peepholes."""
    known = {name for layer in places.values() for name in layer.values()}
    for place in layers:
        others = re.compile(re.escape(place.partition("*")[0]) + r"[^/.]*")
        for name in names:
            if name not in known and others.fullmatch(name):
                raise ValueError(f"{name}: expected only {', '.join(arrays)} in a plain LSTM, got another")
