"""A batch of messages summed up: if all of them fit together, each does. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from ratelimit_mail.backends.base import TAKE, Message
from ratelimit_mail.counting.charge import Charge

__all__ = ["Name", "full_of", "share_nothing", "summed"]

Name = tuple[str, str]
"""A ledger's and a subject: what they count is charged together, or by each message itself."""


def summed(messages: Sequence[Message]) -> tuple[list[Charge], set[Name]]:
    """The charges of all messages as those of one, and what could not be asked for so."""
    sums: dict[Name, Charge] = {}
    full: set[Name] = set()
    added = False
    for charges, intent in messages:
        if intent is not TAKE:
            full.update(_names(charges))
        for charge in charges:
            ledger, subject, (a, b, c, d) = charge
            name = (ledger.name, subject)
            before = sums.get(name)
            if before is None:
                sums[name] = charge
            elif before[0] is not ledger:  # another tier has other limits
                full.add(name)
            else:
                w, x, y, z = before[2]
                sums[name] = (ledger, subject, (a + w, b + x, c + y, d + z))
                added = True
    if added:
        for name, (ledger, _, costs) in sums.items():
            for unit, smallest in ledger.bounds:
                if costs[unit] > smallest:
                    full.add(name)
    return list(sums.values()), full


def full_of(charges: Sequence[Charge], reply: Sequence[Any]) -> set[Name]:
    """What had no room, by the reply that refuses all as one."""
    names = [
        (ledger.name, subject)
        for ledger, subject, costs in charges
        for count in ledger.counts
        if costs[count.unit]
    ]
    _, _, _, _, refused, *numbers = reply
    return {names[number] for number in numbers[: 4 * refused : 4]}


def share_nothing(messages: Sequence[Message], full: Collection[Name]) -> list[bool]:
    """Which messages share nothing with `full`, not by way of other messages either."""
    named = [set(_names(charges)) for charges, _ in messages]
    reached = set(full)
    size = 0
    while len(reached) > size:
        size = len(reached)
        for names in named:
            if not names.isdisjoint(reached):
                reached |= names
    return [names.isdisjoint(reached) for names in named]


def _names(charges: Sequence[Charge]) -> list[Name]:
    return [(ledger.name, subject) for ledger, subject, _ in charges]
