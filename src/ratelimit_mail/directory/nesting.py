"""Mailing lists within mailing lists: find a list that contains itself, and the people on a list.

Without recursion, because lists may be nested deeper than Python's stack.
"""

from __future__ import annotations

from collections.abc import Iterator

from ratelimit_mail._util.text import show
from ratelimit_mail.directory.address_map import AddressMap
from ratelimit_mail.directory.mailing_lists import MailingList

__all__ = ["cycle_text", "first_cycle", "people_on"]


def first_cycle(lists: AddressMap[MailingList]) -> list[str] | None:
    """Return the path from a list through its members back to it; None if there is no such list."""
    visited: set[str] = set()
    for start in lists:
        path: list[str] = []
        on_path: set[str] = set()
        pending: list[Iterator[str]] = [iter((start,))]
        # pending[i] are the members of path[i - 1] that have not been visited.
        while pending:
            for member in map(lists.spelling, pending[-1]):
                if member in on_path:
                    return [*path[path.index(member) :], member]
                if member in lists and member not in visited:
                    path.append(member)
                    on_path.add(member)
                    pending.append(iter(lists[member].members))
                    break
            else:
                pending.pop()
                if path:
                    visited.add(path[-1])
                    on_path.remove(path.pop())
    return None


def cycle_text(cycle: list[str]) -> str:
    """Return a cycle of any length as text for an error, shortened in the middle."""
    steps = [show(address) for address in (cycle if len(cycle) <= 8 else [*cycle[:4], *cycle[-2:]])]
    if len(cycle) > 8:
        steps.insert(4, f"... ({len(cycle) - 6:,} more)")
    return " > ".join(steps)


def people_on(address: str, lists: AddressMap[MailingList]) -> set[str]:
    """Return the members of the list at `address`, with those of nested lists in place of these."""
    people: set[str] = set()
    waiting = [lists.spelling(address)]
    visited = set(waiting)
    while waiting:
        for member in map(lists.spelling, lists[waiting.pop()].members):
            if member not in lists:
                people.add(member)
            elif member not in visited:
                visited.add(member)
                waiting.append(member)
    return people
