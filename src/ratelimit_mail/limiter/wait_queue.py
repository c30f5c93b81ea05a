"""The order of those who wait: one sender's messages leave as they were booked.

Booking times say when, but two sleeps that end together may end in either order, so each
who waits also waits, for a moment at most, until nobody is before it.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Final

import attrs

__all__ = ["LONGEST_TURN", "WaitQueue", "Waiter"]

LONGEST_TURN: Final = 1.0
"""Seconds that one waits for those before it, whose time has come too: they may be stuck."""


@attrs.define(eq=False)
class Waiter:
    """One waiter's place in a sender's line."""

    sender: str
    rank: tuple[int, int]
    """Its time, and its number among those of the same time."""
    wake: Callable[[], object] | None = None


def _rank(place: Waiter) -> tuple[int, int]:
    return place.rank


class WaitQueue:
    """A line for each sender, in the order of their times; safe for threads.

    Nobody waits for the lock to leave: the garbage collector may finish a waiting
    coroutine, which leaves, while this very thread holds it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = count()
        self._waiters: dict[str, list[Waiter]] = {}
        self._leaving: deque[Waiter] = deque()

    def number(self) -> int:
        """The next number for those who come."""
        return next(self._numbers)

    def join(self, sender: str, at: int, number: int | None = None) -> Waiter:
        """Take the place of a message that was booked for the moment `at`.

        number: what `number` gave before it was booked; left out: the next one.
        """
        place = Waiter(sender, (at, self.number() if number is None else number))
        with self._lock:
            insort(self._waiters.setdefault(sender, []), place, key=_rank)
        self._let_leave()
        return place

    def is_first(self, place: Waiter) -> bool:
        """Whether nobody is before `place`, or it has been overtaken."""
        with self._lock:
            first = self._is_first(place)
        self._let_leave()
        return first

    def when_first(self, place: Waiter, wake: Callable[[], object]) -> None:
        """Call `wake` as soon as nobody is before `place`."""
        with self._lock:
            place.wake = wake
            if self._is_first(place):
                wake()
        self._let_leave()

    def overtake(self, place: Waiter) -> None:
        """Stand no longer behind those before `place`: they are stuck."""
        with self._lock:
            waiters = self._waiters.get(place.sender, [])
            del waiters[: bisect_left(waiters, place.rank, key=_rank)]
        self._let_leave()

    def _is_first(self, place: Waiter) -> bool:
        waiters = self._waiters.get(place.sender, [])
        i = bisect_left(waiters, place.rank, key=_rank)
        return i in (0, len(waiters)) or waiters[i] is not place

    def leave(self, place: Waiter) -> None:
        """Leave the line, from wherever in it, and wake who is first now."""
        self._leaving.append(place)
        self._let_leave()

    def _let_leave(self) -> None:
        while self._leaving and self._lock.acquire(blocking=False):
            try:
                while self._leaving:
                    self._remove(self._leaving.popleft())
            finally:
                self._lock.release()

    def _remove(self, place: Waiter) -> None:
        waiters = self._waiters.get(place.sender, [])
        i = bisect_left(waiters, place.rank, key=_rank)
        if i == len(waiters) or waiters[i] is not place:
            return  # it was overtaken
        del waiters[i]
        if waiters:
            self._wake_first(place.sender)
        else:
            del self._waiters[place.sender]

    def _wake_first(self, sender: str) -> None:
        """Wake who is first, and drop those who cannot be woken any more."""
        waiters = self._waiters[sender]
        while waiters and waiters[0].wake is not None:
            try:
                waiters[0].wake()
            except RuntimeError:  # its event loop is closed
                del waiters[0]
            else:
                return
        if not waiters:
            del self._waiters[sender]
