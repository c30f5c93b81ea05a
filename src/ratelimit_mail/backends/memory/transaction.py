"""The decision on one message's charges by the event logs, and the changes that it makes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ratelimit_mail.backends.base import Refusal, Verdict, verdict
from ratelimit_mail.backends.memory.subject_counts import SubjectCounts
from ratelimit_mail.counting.charge import Costs, Count, Ledger
from ratelimit_mail.counting.event_log import EventLog
from ratelimit_mail.counting.window import Retention

__all__ = ["SubjectCharge", "Transaction", "refund"]

SubjectCharge = tuple[SubjectCounts, Ledger, Costs, int]
"""The counts of a charge's subject, the charge, and the moment at which it stands."""


class Transaction:
    """One message's charges, and the logs that they would be put into."""

    def __init__(self, charges: Sequence[SubjectCharge], now: int) -> None:
        self._charges = charges
        self._now = now
        entries: list[tuple[EventLog, Count, int, Retention]] = []
        self._entries = entries
        self._counts_denied = self._has_bookings = False
        for counts, ledger, costs, _ in charges:
            logs = counts.logs()
            for count in ledger.counts:
                if cost := costs[count.unit]:
                    log = logs[count.unit]
                    entries.append((log, count, cost, counts.retentions[count.unit]))
                    if log.times and log.times[-1] > now:
                        self._has_bookings = True
            if ledger.counts_denied:
                self._counts_denied = True

    def take(self, *, record: bool) -> Verdict:
        """Charge everything now, or return when it fits."""
        refusals = self._refusals()
        if refusals:
            return self._refuse(refusals, self._now, record=record)
        return verdict(self._now, self._now, self._charge(self._now) if record else None)

    def book(self, queue: SubjectCharge, max_delay: int | None) -> Verdict:
        """Charge everything at the first moment with room after the last booking of `queue`."""
        now = self._now
        in_queue = Transaction([queue], now)
        start = in_queue._entries[0][0].last_booking(now) or now
        at = self._earliest(start)
        if max_delay is not None and at - now > max_delay:
            return self._refuse(self._refusals() or self._tightest(at), start, record=True)
        receipt = self._charge(at)
        return verdict(now, at, receipt + in_queue._charge(at) if at > now else receipt)

    def count_refused(self) -> bool:
        """Charge the counts that count refused attempts; return whether there are any."""
        if not self._counts_denied:
            return False
        for log, count, cost, retention in self._entries:
            if count.counts_denied:
                log.refuse(self._now, cost, retention)
        self._recount()
        return True

    def _refusals(self) -> list[tuple[int, int, int]]:
        """Return the windows without room: entry number, window number, when it has room."""
        now = self._now
        refusals = []
        for number, (log, count, cost, _) in enumerate(self._entries):
            if log.held + cost > count.smallest:
                for i, window in enumerate(count.windows):
                    if (at := log.earliest(now, cost, window)) > now:
                        refusals.append((number, i, at))
        return refusals

    def _tightest(self, at: int) -> list[tuple[int, int, int]]:
        """Return the window with the least room, if only earlier bookings are in the way."""
        _, number, i = min(
            (log.remaining(self._now, window), number, i)
            for number, (log, count, _, _) in enumerate(self._entries)
            for i, window in enumerate(count.windows)
        )
        return [(number, i, at)]

    def _refuse(self, refusals: list[tuple[int, int, int]], start: int, *, record: bool) -> Verdict:
        """Count the refused attempt, and return when, from `start` on, the charges fit."""
        counted = record and self.count_refused()
        of_counts: list[Refusal] = []
        at = start
        for number, i, room_at in refusals:
            log, count, cost, _ = self._entries[number]
            if counted:
                room_at = log.earliest(self._now, cost, count.windows[i])
            of_counts.append((count, i, room_at))
            if room_at > at:
                at = room_at
        # Without bookings a window that has room keeps it, so the last one to have room decides.
        if counted or self._has_bookings:
            at = self._earliest(at)
        return verdict(self._now, at, None, of_counts)

    def _earliest(self, start: int) -> int:
        """Return the first moment from `start` on at which all charges fit together."""
        at = start
        while True:
            before = at
            for log, count, cost, _ in self._entries:
                if log.held + cost > count.smallest:
                    for window in count.windows:
                        at = log.earliest(at, cost, window)
            if at == before:
                return at

    def _charge(self, at: int) -> list[SubjectCharge]:
        receipt: list[SubjectCharge] = []
        entries = iter(self._entries)
        for counts, ledger, costs, _ in self._charges:
            for count in ledger.counts:
                if costs[count.unit]:
                    log, _, cost, retention = next(entries)
                    moment = log.book(self._now, at, cost, retention)
                    receipt.append((counts, ledger, _costs_of(count.unit, cost), moment))
        self._recount()
        return receipt

    def _recount(self) -> None:
        for counts, *_ in self._charges:
            counts.recount()


def refund(receipts: Iterable[Sequence[SubjectCharge]]) -> None:
    """Take charges out of their logs; many at once cost little more than one."""
    events: dict[tuple[SubjectCounts, int], list[tuple[int, int]]] = {}
    for receipt in receipts:
        for counts, ledger, costs, moment in receipt:
            for count in ledger.counts:
                if cost := costs[count.unit]:
                    events.setdefault((counts, count.unit), []).append((moment, cost))
    for (counts, unit), refunded in events.items():
        counts.logs()[unit].refund(refunded, counts.retentions[unit])
        counts.recount()


def _costs_of(unit: int, cost: int) -> Costs:
    """Return costs of one unit alone."""
    return tuple(cost if each == unit else 0 for each in range(4))  # type: ignore[return-value]
