"""The order of waiters: one sender's messages leave in the order in which they were booked.

A booking says when a message may go, but two sleeps that end together may end in either order. So
each waiter also waits, for a moment at most, until it is the first in its sender's queue.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Final

__all__ = ["LONGEST_WAIT_FOR_FIRST", "WaitQueue", "Waiter"]

LONGEST_WAIT_FOR_FIRST: Final = 1.0
"""Seconds to wait for waiters ahead whose time has come too: they may be stuck."""


class Waiter:
    """One waiter's place in a sender's queue.

    rank: its booked time, and its number among the waiters of the same time.
    wake: called when the waiter is the first.
    """

    __slots__ = ("rank", "sender", "wake")

    def __init__(self, sender: str, rank: tuple[int, int]) -> None:
        self.sender = sender
        self.rank = rank
        self.wake: Callable[[], object] | None = None


def _rank(waiter: Waiter) -> tuple[int, int]:
    return waiter.rank


class WaitQueue:
    """A queue of waiters for each sender, ordered by booked time; safe for threads.

    Leaving never waits for the lock: the garbage collector may close a waiting coroutine, which
    then leaves, while this very thread holds the lock.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._try_lock = partial(self._lock.acquire, False)
        self._numbers = count()
        self._waiters: dict[str, list[Waiter]] = {}
        self._leaving: deque[Waiter] = deque()

    def next_number(self) -> int:
        """Return the next number in the order of arrival."""
        return next(self._numbers)

    def join(self, sender: str, at: int, number: int | None = None) -> Waiter:
        """Add a waiter for a message that was booked for the moment `at`.

        number: what `next_number` returned before the booking; the next one by default.
        """
        waiter = Waiter(sender, (at, self.next_number() if number is None else number))
        with self._lock:
            insort(self._waiters.setdefault(sender, []), waiter, key=_rank)
        self._remove_leaving()
        return waiter

    def is_first(self, waiter: Waiter) -> bool:
        """Return whether no waiter is ahead of `waiter`, or it has been overtaken."""
        with self._lock:
            first = self._is_first(waiter)
        self._remove_leaving()
        return first

    def when_first(self, waiter: Waiter, wake: Callable[[], object]) -> None:
        """Call `wake` as soon as no waiter is ahead of `waiter`."""
        with self._lock:
            waiter.wake = wake
            if self._is_first(waiter):
                wake()
        self._remove_leaving()

    def overtake(self, waiter: Waiter) -> None:
        """Drop the waiters ahead of `waiter`: they are stuck."""
        with self._lock:
            waiters = self._waiters.get(waiter.sender, [])
            del waiters[: bisect_left(waiters, waiter.rank, key=_rank)]
        self._remove_leaving()

    def leave(self, waiter: Waiter) -> None:
        """Remove `waiter` from wherever it is in its queue, and wake the new first one."""
        self._leaving.append(waiter)
        self._remove_leaving()

    def _is_first(self, waiter: Waiter) -> bool:
        waiters = self._waiters.get(waiter.sender, [])
        i = bisect_left(waiters, waiter.rank, key=_rank)
        return i in (0, len(waiters)) or waiters[i] is not waiter

    def _remove_leaving(self) -> None:
        if not self._leaving:
            return
        # No signal is handled between the lock and the `try`; and the loop that removes is a method
        # of its own, because Python 3.13.0 jumps back outside of the `try`.
        for _ in iter(self._try_lock, False):
            try:
                self._remove_all()
            finally:
                self._lock.release()
            if not self._leaving:
                return

    def _remove_all(self) -> None:
        while self._leaving:
            self._remove(self._leaving.popleft())

    def _remove(self, waiter: Waiter) -> None:
        waiters = self._waiters.get(waiter.sender, [])
        i = bisect_left(waiters, waiter.rank, key=_rank)
        if i == len(waiters) or waiters[i] is not waiter:
            return  # it was overtaken
        del waiters[i]
        if waiters:
            self._wake_first(waiter.sender)
        else:
            del self._waiters[waiter.sender]

    def _wake_first(self, sender: str) -> None:
        """Wake the first waiter; drop waiters that cannot be woken any more."""
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
