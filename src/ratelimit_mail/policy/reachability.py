"""Which of several conditions no client is left for, once each before it has taken its clients.

A *case* is one way in which the atoms, the conditions that are not made of others, may hold
or not. A set of cases is an integer with a bit for each, so that `any_of` is a bitwise or.
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
"""With more of them, there are too many cases to try."""


def first_unreachable(conditions: Sequence[Condition | None]) -> tuple[int, list[int]] | None:
    """The first of `conditions` that nobody is left for, and which before it take its clients.

    None among the conditions holds for everybody; the answer None says that each is reached.
    """
    cases = _cases(conditions)
    for i, left in enumerate(cases):
        takers = []
        for j, taken in enumerate(cases[:i]):
            if left & taken:
                takers.append(j)
                left &= ~taken
        if not left:
            return i, takers
    return None


def _cases(conditions: Sequence[Condition | None]) -> list[int]:
    """The cases in which each of `conditions` holds."""
    given = [condition for condition in conditions if condition is not None]
    leaves = chain.from_iterable(map(_atoms, given))
    atoms = list(islice(_distinct(leaves), MOST_ATOMS + 1))
    if len(atoms) > MOST_ATOMS:
        # Each condition its own case: only equal ones are found to take each other's clients.
        whole = list(_distinct(given))
        return [-1 if each is None else 1 << whole.index(each) for each in conditions]
    numbers = range(1 << len(atoms))
    sets = [sum(1 << n for n in numbers if n >> k & 1) for k in range(len(atoms))]
    possible = (1 << len(numbers)) - 1
    for (one, holds), (other, other_holds) in permutations(zip(atoms, sets, strict=True), 2):
        if _excludes(one, other):
            possible &= ~(holds & other_holds)
        elif _implies(one, other):
            possible &= ~(holds & ~other_holds)
    return [
        possible if each is None else possible & _where(each, atoms, sets) for each in conditions
    ]


def _excludes(one: Condition, other: Condition) -> bool:
    """Whether no client meets both: it has one protocol, and one address."""
    if isinstance(one, InNetwork) and isinstance(other, InNetwork):
        return not any(a.overlaps(b) for a in one.networks for b in other.networks)
    return isinstance(one, Protocol) and isinstance(other, Protocol)


def _implies(one: Condition, other: Condition) -> bool:
    """Whether each network of the one is a part of one of the other's."""
    if not (isinstance(one, InNetwork) and isinstance(other, InNetwork)):
        return False
    return all(
        any(a.version == b.version and a.subnet_of(b) for b in other.networks)  # type: ignore[arg-type]
        for a in one.networks
    )


def _where(condition: Condition, atoms: list[Condition], sets: list[int]) -> int:
    """The cases in which `condition` holds, by those in which each of `atoms` does."""
    match condition:
        case AnyOf():
            return reduce(or_, (_where(part, atoms, sets) for part in condition.conditions))
        case AllOf():
            return reduce(and_, (_where(part, atoms, sets) for part in condition.conditions))
        case Not():
            return ~_where(condition.condition, atoms, sets)
    return sets[atoms.index(condition)]


def _atoms(condition: Condition) -> Iterator[Condition]:
    match condition:
        case AnyOf() | AllOf():
            for part in condition.conditions:
                yield from _atoms(part)
        case Not():
            yield from _atoms(condition.condition)
        case _:
            yield condition


def _distinct(conditions: Iterable[Condition]) -> Iterator[Condition]:
    found: list[Condition] = []
    for condition in conditions:
        if condition not in found:  # by equality: a callable need not be hashable
            found.append(condition)
            yield condition
