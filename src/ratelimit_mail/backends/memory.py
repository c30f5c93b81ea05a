"""Counts in the memory of one process."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from ratelimit_mail.backends.base import TAKE, Intent, Reading, Verdict, accepted
from ratelimit_mail.backends.shelf import Shelf
from ratelimit_mail.charge import Charge, Count
from ratelimit_mail.window import Log

__all__ = ["MemoryBackend", "steady_clock"]

Receipt = tuple[Sequence[Charge], Sequence[Log], list[int]]
"""What was charged, to which logs, and the moment at which it stands in each."""


def steady_clock() -> Callable[[], int]:
    """The wall clock's start plus the monotonic clock: no step of the wall clock shows."""
    start = time.time_ns() - time.monotonic_ns()
    monotonic = time.monotonic_ns
    return lambda: (start + monotonic()) // 1_000_000


Refusal = tuple[int, int, int]
"""The number of a charge, that of its count's window, and when that one has room."""


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
        self._shelves: defaultdict[str, Shelf] = defaultdict(Shelf)

    def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        """Charge all of `charges` or none, as `intent` says."""
        with self._lock:
            now = self._clock()
            logs: list[Log] = []
            refusals: list[Refusal] = []
            for count, subject, cost in charges:
                shelf = self._shelves[count.name]
                log = shelf.young.get(subject) or shelf.find(subject)
                if log.held + cost > count.smallest and not intent.refused:
                    for j, window in enumerate(count.windows):
                        if (at := log.earliest(now, cost, window)) > now:
                            refusals.append((len(logs), j, at))
                logs.append(log)
            if intent.refused:
                self._count_refused(charges, logs, now)
                return Verdict(now, now)
            if intent.line is not None:
                return self._book(charges, logs, refusals, intent.line, intent.patience, now)
            if refusals:
                return self._refuse(charges, logs, refusals, now, intent.record)
            return accepted(now, now, self._take(charges, logs, now) if intent.record else None)

    def _take(self, charges: Sequence[Charge], logs: Sequence[Log], now: int) -> Receipt:
        moments = []
        for (count, subject, cost), log in zip(charges, logs, strict=True):
            moments.append(log.add(now, cost, count.keeping))
            shelf = self._shelves[count.name]
            if now >= shelf.due or subject not in shelf.young:
                shelf.keep(subject, log, now, count.keeping.span)
        return charges, logs, moments

    def _refuse(
        self,
        charges: Sequence[Charge],
        logs: Sequence[Log],
        refusals: list[Refusal],
        now: int,
        record: bool,
        start: int = 0,
    ) -> Verdict:
        """Count the attempt where refused ones count, and say when, from `start` on, it fits."""
        if record and self._count_refused(charges, logs, now):
            refusals = [
                (i, j, logs[i].earliest(now, charges[i][2], charges[i][0].windows[j]))
                for i, j, _ in refusals
            ]
        latest = max([start, now, *(at for _, _, at in refusals)])
        return Verdict(now, _earliest(charges, logs, latest), None, refusals)

    def _count_refused(self, charges: Sequence[Charge], logs: Sequence[Log], now: int) -> bool:
        """Charge the counts that count refused attempts; whether there are any."""
        counted = False
        for (count, subject, cost), log in zip(charges, logs, strict=True):
            shelf = self._shelves[count.name]
            if count.counts_denied:
                log.refuse(now, cost, count.keeping)
                shelf.keep(subject, log, now, count.keeping.span)
                counted = True
            elif now >= shelf.due:
                shelf.tidy(now, count.keeping.span)
        return counted

    def _book(
        self,
        charges: Sequence[Charge],
        logs: Sequence[Log],
        refusals: list[Refusal],
        line: Charge,
        patience: int | None,
        now: int,
    ) -> Verdict:
        """Charge what the charges' subject waits for, at the first moment with room for it."""
        queue = self._shelves[line[0].name].find(line[1])
        start = queue.last_booking(now) or now
        at = _earliest(charges, logs, start)
        if patience is not None and at - now > patience:
            return self._refuse(charges, logs, refusals, now, True, start)
        if at == now:
            return accepted(now, now, self._take(charges, logs, now))
        charges, logs = [*charges, line], [*logs, queue]
        moments = []
        for (count, subject, cost), log in zip(charges, logs, strict=True):
            moments.append(log.book(now, at, cost, count.keeping))
            self._shelves[count.name].keep(subject, log, now, count.keeping.span)
        return accepted(now, at, (charges, logs, moments))

    def take_out(self, receipt: Receipt) -> None:
        """Take the charges of a receipt out of their logs."""
        with self._lock:
            for (count, _, cost), log, moment in zip(*receipt, strict=True):
                log.take_out(moment, cost, count.keeping)

    def read(self, counts: Sequence[Count], subject: str) -> list[list[Reading]]:
        """The readings of each window of each count, for one subject."""
        with self._lock:
            now = self._clock()
            readings = []
            for count in counts:
                log = self._shelves[count.name].find(subject)
                readings.append(
                    [
                        Reading(
                            log.used(now, window),
                            log.remaining(now, window),
                            log.empty_at(now, window) - now,
                        )
                        for window in count.windows
                    ]
                )
            return readings

    def forget(self, counts: Sequence[Count], subject: str) -> None:
        """Forget all that was counted for one subject."""
        with self._lock:
            for count in counts:
                self._shelves[count.name].forget(subject)

    def __len__(self) -> int:
        """How many logs are held: one for each count of each subject."""
        with self._lock:
            return sum(map(len, self._shelves.values()))


def _earliest(charges: Sequence[Charge], logs: Sequence[Log], start: int) -> int:
    """The first moment from `start` on at which all of `charges` fit together."""
    at = start
    while True:
        before = at
        for (count, _, cost), log in zip(charges, logs, strict=True):
            if log.held + cost > count.smallest:
                for window in count.windows:
                    at = log.earliest(at, cost, window)
        if at == before:
            return at
