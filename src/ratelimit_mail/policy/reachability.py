"""Find tiers that no client can reach, because earlier tiers match first.

A *case* is one way in which the atoms, the conditions that are not made of other conditions, may
hold or not. A set of cases is an integer with a bit for each case, so that `any_of` is a bitwise
or. The time hardly grows faster than the number of conditions, and of networks in them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from itertools import chain, islice, pairwise, permutations
from operator import and_, or_
from typing import Final

from ratelimit_mail.conditions import AllOf, AnyOf, Condition, InNetwork, Not, Protocol

__all__ = ["first_unreachable"]

MOST_ATOMS: Final = 12
"""With more atoms, there are too many cases to try."""


def first_unreachable(conditions: Sequence[Condition | None]) -> tuple[int, list[int]] | None:
    """Return the first of `conditions` that no client reaches, and the earlier ones that match.

    Both are positions in `conditions`. A condition None holds for every client. Returns None if
    each condition can be reached.
    """
    present = (condition for condition in conditions if condition is not None)
    atoms = list(islice(_distinct(chain.from_iterable(map(_atoms, present))), MOST_ATOMS + 1))
    if len(atoms) > MOST_ATOMS:
        return _first_repeated(conditions)
    cases = _cases(conditions, atoms)
    matched = 0
    for i, own in enumerate(cases):
        if not own & ~matched:
            return i, _matching_first(cases[:i], own)
        matched |= own
    return None


def _matching_first(cases: Sequence[int], remaining: int) -> list[int]:
    """Return the positions of those of `cases` that take some of the `remaining` ones."""
    positions = []
    for i, matched in enumerate(cases):
        if remaining & matched:
            positions.append(i)
            remaining &= ~matched
    return positions


def _first_repeated(conditions: Sequence[Condition | None]) -> tuple[int, list[int]] | None:
    """Return the same as `first_unreachable`, if only equal conditions match the same clients."""
    everybody: int | None = None
    positions = _Positions()
    for i, condition in enumerate(conditions):
        if condition is None:
            if everybody is not None:
                return i, list(range(i))
            everybody = i
        elif (first := positions.first(condition, i)) != i:
            return i, [first]
        elif everybody is not None:
            return i, [everybody]
    return None


def _cases(conditions: Sequence[Condition | None], atoms: list[Condition]) -> list[int]:
    """Return the cases in which each of `conditions` holds."""
    cases = range(1 << len(atoms))
    sets = [sum(1 << case for case in cases if case >> k & 1) for k in range(len(atoms))]
    possible = (1 << len(cases)) - 1
    with_ranges = [
        (atom, _ranges(atom) if isinstance(atom, InNetwork) else None, holds)
        for atom, holds in zip(atoms, sets, strict=True)
    ]
    for (one, ranges, holds), (other, other_ranges, other_holds) in permutations(with_ranges, 2):
        if ranges is not None and other_ranges is not None:
            if not _overlap(ranges, other_ranges):
                possible &= ~(holds & other_holds)
            elif _lie_within(ranges, other_ranges):
                possible &= ~(holds & ~other_holds)
        elif isinstance(one, Protocol) and isinstance(other, Protocol):
            possible &= ~(holds & other_holds)  # a client has one protocol
    return [
        possible if each is None else possible & _cases_of(each, atoms, sets) for each in conditions
    ]


_Range = tuple[int, int, int]
"""A network: the version of IP, and its first and its last address."""


def _ranges(condition: InNetwork) -> list[_Range]:
    """Return the networks of a condition in order, without those that lie within another.

    Two networks are disjoint, or one of them lies within the other.
    """
    ranges: list[_Range] = []
    for version, first, last in sorted(
        (network.version, int(network.network_address), int(network.broadcast_address))
        for network in condition.networks
    ):
        while ranges and ranges[-1][:2] == (version, first):  # the shorter of two with one start
            ranges.pop()
        if not ranges or ranges[-1][0] != version or last > ranges[-1][2]:
            ranges.append((version, first, last))
    return ranges


def _overlap(one: list[_Range], other: list[_Range]) -> bool:
    """Return whether an address is in both."""
    return any(a[0] == b[0] and b[1] <= a[2] for a, b in pairwise(sorted([*one, *other])))


def _lie_within(inner: list[_Range], outer: list[_Range]) -> bool:
    """Return whether each range of `inner` lies within a range of `outer`."""
    starts = [(version, first) for version, first, _ in outer]
    for version, first, last in inner:
        i = bisect_right(starts, (version, first)) - 1
        if i < 0 or outer[i][0] != version or last > outer[i][2]:
            return False
    return True


def _cases_of(condition: Condition, atoms: list[Condition], sets: list[int]) -> int:
    """Return the cases in which `condition` holds; `sets` has those of each of `atoms`."""
    match condition:
        case AnyOf():
            return reduce(or_, (_cases_of(each, atoms, sets) for each in condition.conditions))
        case AllOf():
            return reduce(and_, (_cases_of(each, atoms, sets) for each in condition.conditions))
        case Not():
            return ~_cases_of(condition.condition, atoms, sets)
    return sets[atoms.index(condition)]


def _atoms(condition: Condition) -> Iterator[Condition]:
    match condition:
        case AnyOf() | AllOf():
            for each in condition.conditions:
                yield from _atoms(each)
        case Not():
            yield from _atoms(condition.condition)
        case _:
            yield condition


def _distinct(conditions: Iterable[Condition]) -> Iterator[Condition]:
    positions = _Positions()
    for i, condition in enumerate(conditions):
        if positions.first(condition, i) == i:
            yield condition


class _Positions:
    """The positions at which conditions occur first."""

    def __init__(self) -> None:
        self._positions: dict[Condition, int] = {}
        self._unhashable: list[tuple[Condition, int]] = []

    def first(self, condition: Condition, position: int) -> int:
        """Return the first position of `condition`, which occurs at `position` too."""
        try:
            return self._positions.setdefault(condition, position)
        except TypeError:  # a callable need not be hashable
            pass
        for other, first in self._unhashable:
            if other == condition:
                return first
        self._unhashable.append((condition, position))
        return position
