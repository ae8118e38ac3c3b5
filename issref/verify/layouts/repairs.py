"""Find the mistake in a layout by trying: which change of one axis, space or reader makes it complete?"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import combinations

import numpy as np

from issref.iss.layout import Axis, Layout
from issref.verify.layouts.claim import Claim

Holds = Callable[[Claim], bool]


def repairs(claim: Claim, space: str, holds: Holds) -> list[str]:
    """Return in words the changes, all of the first kind that has any, that make a claim about a space hold."""
    if missing := _missing_readers(claim, space, holds):
        return [missing]
    for kind in (_reordered, _relabelled, _one_space, _interleaved):
        if found := [words or _describe(claim, other) for words, other in kind(claim, space) if holds(other)]:
            return found
    return []


def _describe(claim: Claim, other: Claim) -> str:
    """Return the arrays and readers in which two claims differ."""
    arrays = (array for array in claim.layout.axes if claim.layout.axes[array] != other.layout.axes[array])
    parts = [f"{array} as ({other.layout.spell(array)})" for array in arrays]
    parts += [f"{reader} among the readers" for reader in other.readers if reader not in claim.readers]
    return " and ".join(parts)


def _missing_readers(claim: Claim, space: str, holds: Holds) -> str:
    """Return the fewest axes that must read as well; empty if even a component of zeros cannot be removed.

    Every axis is a reader first, then one after another is not. Vectors, and axes along which the space occurs
    most often (the gates, which write a component), are tried first, since they rarely read.
    """
    found = [(where.array, where.axis) for where in claim.layout.occurrences(space)]
    uncounted = {where[:2] for where in claim.layout.occurrences(space) if not where.segment.counted}
    places = [place for place in dict.fromkeys(found) if place in uncounted or not claim.reads(*place)]
    places.sort(key=lambda place: (len(claim.layout.axes[place[0]]) > 1, -found.count(place)))
    if not holds(_with_readers(claim, space, places)):
        return ""
    for place in list(places):
        fewer = [one for one in places if one != place]
        if holds(_with_readers(claim, space, fewer)):
            places = fewer
    return _describe(claim, _with_readers(claim, space, places))


def _with_readers(claim: Claim, space: str, places: list[tuple[str, int]]) -> Claim:
    for array, axis in places:
        counted = tuple(one.replace(f"~{space}", space) for one in claim.layout.axes[array][axis])
        claim = _with_axis(claim, array, axis, counted)
        if not claim.reads(array, axis):
            claim = claim._replace(readers=(*claim.readers, (array, axis)))
    return claim


def _with_axis(claim: Claim, array: str, axis: int, spaces: Axis, sizes: Mapping | None = None) -> Claim:
    axes = list(claim.layout.axes[array])
    axes[axis] = spaces
    layout = Layout({**claim.layout.axes, array: tuple(axes)}, {**claim.layout.sizes, **(sizes or {})})
    return claim._replace(layout=layout)


def _one_space(claim: Claim, space: str) -> Iterator[tuple[str, Claim]]:
    """Yield the claims in which another space of the same size is this one, as a sum of both requires."""
    sizes = claim.layout.sizes
    for other in sizes:
        if other != space and sizes[other] == sizes[space]:
            named = {other: space, f"~{other}": f"~{space}"}
            axes = {
                array: tuple(tuple(named.get(one, one) for one in axis) for axis in axes)
                for array, axes in claim.layout.axes.items()
            }
            words = f"{space!r} and {other!r} as one space in {', '.join(_arrays(claim, other))}"
            yield words, claim._replace(layout=replace(claim.layout, axes=axes))


def _arrays(claim: Claim, space: str) -> list[str]:
    return list(dict.fromkeys(where.array for where in claim.layout.occurrences(space)))


def _relabelled(claim: Claim, space: str) -> Iterator[tuple[str, Claim]]:
    """Yield the claims in which one segment belongs to the space, as a reader or not, or no longer does."""
    for array, axes in claim.layout.axes.items():
        for axis, spaces in enumerate(axes):
            for position, (name, start, stop, _) in enumerate(claim.layout.segments(array, axis)):
                before, after = spaces[:position], spaces[position + 1 :]
                for parts, sizes in _parts(claim, space, name, stop - start, len(axes) == 1):
                    other = _with_axis(claim, array, axis, (*before, *parts, *after), sizes)
                    if [*other.layout.occurrences(space)]:
                        yield "", other
                    if space in parts and not claim.reads(array, axis):
                        yield "", other._replace(readers=(*claim.readers, (array, axis)))


def _parts(claim: Claim, space: str, name: str, length: int, vector: bool) -> Iterator[tuple[Axis, dict]]:
    """Yield what a segment may be: the space once or several times, or next to another one; or no longer."""
    size, own, rest = claim.layout.sizes[space], f"~{space}" if vector else space, f"not {space}"
    if name == space:
        yield (rest,), {rest: length}
    elif length and length % size == 0:
        yield length // size * (own,), {}
    elif length > size:
        yield (rest, own), {rest: length - size}
        yield (own, rest), {rest: length - size}


def _reordered(claim: Claim, space: str) -> Iterator[tuple[str, Claim]]:
    """Yield the claims in which the segments of one axis, or the axes of one array, are in another order."""
    for array in _arrays(claim, space):
        axes, shape = claim.layout.axes[array], claim.layout.shape(array)
        if len(axes) == 2 and shape == shape[::-1]:
            layout = replace(claim.layout, axes={**claim.layout.axes, array: axes[::-1]})
            yield "", claim._replace(layout=layout)
        for axis, spaces in enumerate(axes):
            for order in dict.fromkeys(_orders(spaces)):
                if order != spaces:
                    yield "", _with_axis(claim, array, axis, order)


def _orders(spaces: Axis) -> Iterator[Axis]:
    """Yield the spaces with two of them exchanged, and every n-th one after another."""
    for i, j in combinations(range(len(spaces)), 2):
        yield (*spaces[:i], spaces[j], *spaces[i + 1 : j], spaces[i], *spaces[j + 1 :])
    for n in range(2, len(spaces)):
        if len(spaces) % n == 0:
            yield tuple(space for first in range(n) for space in spaces[first::n])


def _interleaved(claim: Claim, space: str) -> Iterator[tuple[str, Claim]]:
    """Yield the claims about arrays whose gates are not end to end, but unit by unit: all of them, or one."""
    found = {
        (array, axis): len(spaces)
        for array in _arrays(claim, space)
        for axis, spaces in enumerate(claim.layout.axes[array])
        if len(spaces) > 1 and {one.removeprefix("~") for one in spaces} == {space}
    }
    for places in dict.fromkeys((tuple(found), *((place,) for place in found))):
        if places:
            names = ", ".join(f"{array} (axis {axis})" for array, axis in places)
            words = f"the blocks of {space!r} end to end, not unit by unit, in {names}"
            yield words, claim._replace(function=_reading_by_unit(claim.function, {p: found[p] for p in places}))


def _reading_by_unit(function, blocks: dict[tuple[str, int], int]):
    """Return the function of params in which axes of n blocks, end to end, have been put together unit by unit."""

    def by_unit(params):
        params = dict(params)
        for (array, axis), count in blocks.items():
            length = params[array].shape[axis]
            order = np.arange(length).reshape(count, length // count).T.ravel()
            params[array] = params[array].take(order, axis)
        return function(params)

    return by_unit
