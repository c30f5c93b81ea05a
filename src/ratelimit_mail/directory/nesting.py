"""Lists within lists: whether one contains itself, and the people on it. No recursion: a
stranger's lists may be nested deeper than Python's stack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ratelimit_mail._util.text import show
from ratelimit_mail.directory.mailing_lists import MailingList

__all__ = ["first_way_round", "in_words", "people_of"]


def first_way_round(lists: Mapping[str, MailingList]) -> list[str] | None:
    """The way from a list through its members back to it; None where there is none."""
    done: set[str] = set()
    for start in lists:
        way: list[str] = []
        on_way: set[str] = set()
        below: list[Iterator[str]] = [iter((start,))]
        # What is below[i] are the members, still to be looked at, of way[i - 1].
        while below:
            for member in below[-1]:
                if member in on_way:
                    return [*way[way.index(member) :], member]
                if member in lists and member not in done:
                    way.append(member)
                    on_way.add(member)
                    below.append(iter(lists[member].members))
                    break
            else:
                below.pop()
                if way:
                    done.add(way[-1])
                    on_way.remove(way.pop())
    return None


def in_words(way: list[str]) -> str:
    """A way of any length, as an error may print it."""
    steps = [show(address) for address in (way if len(way) <= 8 else [*way[:4], *way[-2:]])]
    if len(way) > 8:
        steps.insert(4, f"... ({len(way) - 6:,} more)")
    return " > ".join(steps)


def people_of(address: str, lists: Mapping[str, MailingList]) -> set[str]:
    """All on the list of that address who are no lists, those of nested lists included."""
    people: set[str] = set()
    seen = {address}
    waiting = [address]
    while waiting:
        for member in lists[waiting.pop()].members:
            if member not in lists:
                people.add(member)
            elif member not in seen:
                seen.add(member)
                waiting.append(member)
    return people
