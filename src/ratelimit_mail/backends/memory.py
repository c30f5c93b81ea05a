"""Counts in the memory of one process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from ratelimit_mail.backends.base import TAKE, Intent, Reading, Verdict, accepted
from ratelimit_mail.backends.shelf import Shelf
from ratelimit_mail.charge import Charge, Count
from ratelimit_mail.window import Keeping, Log

__all__ = ["MemoryBackend", "steady_clock"]

Found = list[tuple[Log, Count, str, int]]
"""The log of each charge, and the charge."""

Receipt = list[tuple[Log, int, int, Keeping]]
"""Each event that was recorded: its log, its moment, its cost, and how it is kept."""

Refusal = tuple[int, int, int]
"""The number of a charge, that of its count's window, and when that one has room."""


def steady_clock() -> Callable[[], int]:
    """The wall clock's start plus the monotonic clock: no step of the wall clock shows."""
    start = time.time_ns() - time.monotonic_ns()
    monotonic = time.monotonic_ns
    return lambda: (start + monotonic()) // 1_000_000


class MemoryBackend:
    """Counts in memory, for one process and any number of threads and event loops.

    clock: gives integer milliseconds since the epoch; left out: the wall clock at the
        start plus the monotonic clock.

    Subjects that have been idle for as long as a window are forgotten by the calls of others.
    """

    def __init__(self, clock: Callable[[], int] | None = None) -> None:
        self._clock = clock or steady_clock()
        if type(now := self._clock()) is not int:
            raise TypeError(f"clock: must give integer milliseconds since the epoch, not {now!r}")
        self._lock = threading.Lock()
        self._shelves: dict[str, Shelf] = {}
        self._tidy_at = now

    def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        """Charge all of `charges` or none, as `intent` says."""
        with self._lock:
            now = self._clock()
            found: Found = []
            refusals: list[Refusal] = []
            all_young = True
            for count, subject, cost in charges:
                shelf = self._shelves.get(count.name)
                if shelf is None:
                    shelf = self._new_shelf(count, now)
                log = shelf.young.get(subject)
                if log is None:
                    log = shelf.find(subject)
                    all_young = False
                if log.held + cost > count.smallest and not intent.refused:
                    for j, window in enumerate(count.windows):
                        if (at := log.earliest(now, cost, window)) > now:
                            refusals.append((len(found), j, at))
                found.append((log, count, subject, cost))
            if now >= self._tidy_at:
                self._tidy(now)
            if intent.refused:
                self._count_refused(found, now)
                return Verdict(now, now)
            if intent.line is not None:
                return self._book(found, refusals, intent.line, intent.patience, now)
            if refusals:
                return self._refuse(found, refusals, now, intent.record)
            if not intent.record:
                return accepted(now, now, None)
            receipt = [
                (log, log.add(now, cost, count.keeping), cost, count.keeping)
                for log, count, _, cost in found
            ]
            if not all_young:
                self._keep(found, now)
            return accepted(now, now, receipt)

    def _new_shelf(self, count: Count, now: int) -> Shelf:
        shelf = self._shelves[count.name] = Shelf(now, count.keeping.span)
        self._tidy_at = min(self._tidy_at, shelf.due)
        return shelf

    def _tidy(self, now: int) -> None:
        """Let every count look through a few of its idle subjects."""
        for shelf in self._shelves.values():
            if now >= shelf.due:
                shelf.tidy(now)
        self._tidy_at = min((shelf.due for shelf in self._shelves.values()), default=now)

    def _keep(self, found: Found, now: int) -> None:
        """Hold on to logs that were charged, of which some may be new."""
        for log, count, subject, _ in found:
            shelf = self._shelves[count.name]
            shelf.span = count.keeping.span
            shelf.keep(subject, log, now)
            self._tidy_at = min(self._tidy_at, shelf.due)

    def _refuse(
        self, found: Found, refusals: list[Refusal], now: int, record: bool, start: int = 0
    ) -> Verdict:
        """Count the attempt where refused ones count, and say when, from `start` on, it fits."""
        counted = record and self._count_refused(found, now)
        at = max(start, now)
        for number, (i, j, room_at) in enumerate(refusals):
            if counted:
                log, count, _, cost = found[i]
                room_at = log.earliest(now, cost, count.windows[j])
                refusals[number] = (i, j, room_at)
            at = max(at, room_at)
        # Without bookings room that there is stays, so the last to have room settles it.
        if counted or any(log.last_booking(now) is not None for log, *_ in found):
            at = _earliest(found, at)
        return Verdict(now, at, None, refusals)

    def _count_refused(self, found: Found, now: int) -> bool:
        """Charge the counts that count refused attempts; whether there are any."""
        counting = [each for each in found if each[1].counts_denied]
        for log, count, _, cost in counting:
            log.refuse(now, cost, count.keeping)
        self._keep(counting, now)
        return bool(counting)

    def _book(
        self,
        found: Found,
        refusals: list[Refusal],
        line: Charge,
        patience: int | None,
        now: int,
    ) -> Verdict:
        """Charge the first moment with room, after all that the line's subject has booked."""
        count, subject, cost = line
        shelf = self._shelves.get(count.name)
        if shelf is None:
            shelf = self._new_shelf(count, now)
        queue = shelf.find(subject)
        start = queue.last_booking(now) or now
        at = _earliest(found, start)
        if patience is not None and at - now > patience:
            return self._refuse(found, refusals, now, True, start)
        if at > now:
            found.append((queue, count, subject, cost))
        receipt = [
            (log, log.book(now, at, cost, count.keeping), cost, count.keeping)
            for log, count, _, cost in found
        ]
        self._keep(found, now)
        return accepted(now, at, receipt)

    def take_out(self, receipt: Receipt) -> None:
        """Take the charges of a receipt out of their logs."""
        with self._lock:
            for log, moment, cost, keeping in receipt:
                log.take_out(moment, cost, keeping)

    def read(self, counts: Sequence[Count], subject: str) -> list[list[Reading]]:
        """The readings of each window of each count, for one subject."""
        with self._lock:
            now = self._clock()
            logs = [
                self._shelves[count.name].find(subject) if count.name in self._shelves else Log()
                for count in counts
            ]
            return [
                [
                    Reading(
                        log.used(now, window),
                        log.remaining(now, window),
                        log.empty_at(now, window) - now,
                    )
                    for window in count.windows
                ]
                for count, log in zip(counts, logs, strict=True)
            ]

    def forget(self, counts: Sequence[Count], subject: str) -> None:
        """Forget all that was counted for one subject."""
        with self._lock:
            for count in counts:
                if count.name in self._shelves:
                    self._shelves[count.name].forget(subject)

    def __len__(self) -> int:
        """How many logs are held: one for each count of each subject."""
        with self._lock:
            return sum(shelf.size() for shelf in self._shelves.values())


def _earliest(found: Found, start: int) -> int:
    """The first moment from `start` on at which all the charges fit together."""
    at = start
    while True:
        before = at
        for log, count, _, cost in found:
            if log.held + cost > count.smallest:
                for window in count.windows:
                    at = log.earliest(at, cost, window)
        if at == before:
            return at
