"""The order of those who wait: one sender's messages leave as they were booked.

Booked times say when, but two sleeps that end together may end in either order, so each
who waits also waits until nobody is before it.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections.abc import Callable
from itertools import count

import attrs

__all__ = ["Line", "Place"]


@attrs.define(eq=False)
class Place:
    """One waiter's place in a sender's line."""

    sender: str
    rank: tuple[int, int]
    """Its time, and its number among those of the same time."""
    wake: Callable[[], object] | None = None


def _rank(place: Place) -> tuple[int, int]:
    return place.rank


class Line:
    """A line for each sender, in the order of their times; safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = count()
        self._lines: dict[str, list[Place]] = {}

    def join(self, sender: str, at: int) -> Place:
        """Take the place of a message that was booked for the moment `at`."""
        with self._lock:
            place = Place(sender, (at, next(self._numbers)))
            insort(self._lines.setdefault(sender, []), place, key=_rank)
        return place

    def is_first(self, place: Place) -> bool:
        """Whether nobody is before `place`."""
        with self._lock:
            return self._lines[place.sender][0] is place

    def when_first(self, place: Place, wake: Callable[[], object]) -> None:
        """Call `wake` as soon as nobody is before `place`."""
        with self._lock:
            if self._lines[place.sender][0] is place:
                wake()
            else:
                place.wake = wake

    def leave(self, place: Place) -> None:
        """Leave the line, from wherever in it, and wake who is first now."""
        with self._lock:
            line = self._lines[place.sender]
            del line[bisect_left(line, place.rank, key=_rank)]
            if not line:
                del self._lines[place.sender]
            elif line[0].wake is not None:
                line[0].wake()
