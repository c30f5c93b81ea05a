"""Find tiers that no client can reach, because earlier tiers match first.

A *case* is one way in which the atoms, the conditions that are not made of other conditions, may
hold or not. A set of cases is an integer with a bit for each case, so that `any_of` is a bitwise
or.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from itertools import chain, islice, permutations
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
    cases = _cases(conditions)
    for i, remaining in enumerate(cases):
        earlier = []
        for j, matched in enumerate(cases[:i]):
            if remaining & matched:
                earlier.append(j)
                remaining &= ~matched
        if not remaining:
            return i, earlier
    return None


def _cases(conditions: Sequence[Condition | None]) -> list[int]:
    """Return the cases in which each of `conditions` holds."""
    present = [condition for condition in conditions if condition is not None]
    atoms = list(islice(_distinct(chain.from_iterable(map(_atoms, present))), MOST_ATOMS + 1))
    if len(atoms) > MOST_ATOMS:
        # Make each condition a case of its own: then only equal conditions match the same clients.
        whole = list(_distinct(present))
        return [-1 if each is None else 1 << whole.index(each) for each in conditions]
    cases = range(1 << len(atoms))
    sets = [sum(1 << case for case in cases if case >> k & 1) for k in range(len(atoms))]
    possible = (1 << len(cases)) - 1
    for (one, holds), (other, other_holds) in permutations(zip(atoms, sets, strict=True), 2):
        if _excludes(one, other):
            possible &= ~(holds & other_holds)
        elif _implies(one, other):
            possible &= ~(holds & ~other_holds)
    return [
        possible if each is None else possible & _cases_of(each, atoms, sets) for each in conditions
    ]


def _excludes(one: Condition, other: Condition) -> bool:
    """Return whether no client meets both: a client has one protocol and one address."""
    if isinstance(one, InNetwork) and isinstance(other, InNetwork):
        return not any(a.overlaps(b) for a in one.networks for b in other.networks)
    return isinstance(one, Protocol) and isinstance(other, Protocol)


def _implies(one: Condition, other: Condition) -> bool:
    """Return whether each network of `one` lies within a network of `other`."""
    if not (isinstance(one, InNetwork) and isinstance(other, InNetwork)):
        return False
    return all(
        any(a.version == b.version and a.subnet_of(b) for b in other.networks)  # type: ignore[arg-type]
        for a in one.networks
    )


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
    seen: list[Condition] = []
    for condition in conditions:
        if condition not in seen:  # by equality, because a callable need not be hashable
            seen.append(condition)
            yield condition
