"""The ruling on one message's charges, log by log, where what is held does not tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ratelimit_mail.backends.base import Refusal, Verdict, verdict
from ratelimit_mail.backends.memory.subject_counts import SubjectCounts
from ratelimit_mail.counting.charge import Costs, Count, Ledger
from ratelimit_mail.counting.event_log import EventLog
from ratelimit_mail.counting.window import Retention

__all__ = ["SubjectCharge", "Transaction", "refund"]

SubjectCharge = tuple[SubjectCounts, Ledger, Costs, int]
"""The account of a charge's subject, the charge, and the moment at which it stands."""


class Transaction:
    """One message's charges, and the logs that they would be put into."""

    def __init__(self, charges: Sequence[SubjectCharge], now: int) -> None:
        self._charges = charges
        self._now = now
        entries: list[tuple[EventLog, Count, int, Retention]] = []
        self._entries = entries
        self._counts_denied = self._booked = False
        for account, ledger, costs, _ in charges:
            logs = account.logs()
            for count in ledger.counts:
                if cost := costs[count.unit]:
                    log = logs[count.unit]
                    entries.append((log, count, cost, account.retentions[count.unit]))
                    if log.times and log.times[-1] > now:
                        self._booked = True
            if ledger.counts_denied:
                self._counts_denied = True

    def take(self, *, record: bool) -> Verdict:
        """Charge all now, or say when they fit."""
        refusals = self._refusals()
        if refusals:
            return self._refuse(refusals, self._now, record=record)
        return verdict(self._now, self._now, self._charge(self._now) if record else None)

    def book(self, booking: SubjectCharge, max_delay: int | None) -> Verdict:
        """Charge the first moment with room, after all that is booked in `booking`."""
        now = self._now
        queue_transaction = Transaction([booking], now)
        start = queue_transaction._entries[0][0].last_booking(now) or now
        at = self._earliest(start)
        if max_delay is not None and at - now > max_delay:
            return self._refuse(self._refusals() or self._tightest(at), start, record=True)
        receipt = self._charge(at)
        return verdict(now, at, receipt + queue_transaction._charge(at) if at > now else receipt)

    def count_refused(self) -> bool:
        """Charge the counts that count refused attempts; whether there are any."""
        if not self._counts_denied:
            return False
        for log, count, cost, retention in self._entries:
            if count.counts_denied:
                log.refuse(self._now, cost, retention)
        self._sum_up()
        return True

    def _refusals(self) -> list[tuple[int, int, int]]:
        """The windows without room: the number of the entry, its own, and when it has room."""
        now = self._now
        refusals = []
        for number, (log, count, cost, _) in enumerate(self._entries):
            if log.held + cost > count.smallest:
                for i, window in enumerate(count.windows):
                    if (at := log.earliest(now, cost, window)) > now:
                        refusals.append((number, i, at))
        return refusals

    def _tightest(self, at: int) -> list[tuple[int, int, int]]:
        """The window with the least room, where only others in the line are in the way."""
        _, number, i = min(
            (log.remaining(self._now, window), number, i)
            for number, (log, count, _, _) in enumerate(self._entries)
            for i, window in enumerate(count.windows)
        )
        return [(number, i, at)]

    def _refuse(self, refusals: list[tuple[int, int, int]], start: int, *, record: bool) -> Verdict:
        """Count the attempt where refused ones count, and say when, from `start` on, it fits."""
        counted = record and self.count_refused()
        told: list[Refusal] = []
        at = start
        for number, i, room_at in refusals:
            log, count, cost, _ = self._entries[number]
            if counted:
                room_at = log.earliest(self._now, cost, count.windows[i])
            told.append((count, i, room_at))
            if room_at > at:
                at = room_at
        # Without bookings room that there is stays, so the last to have room settles it.
        if counted or self._booked:
            at = self._earliest(at)
        return verdict(self._now, at, None, told)

    def _earliest(self, start: int) -> int:
        """The first moment from `start` on at which all fit together."""
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
        for account, ledger, costs, _ in self._charges:
            for count in ledger.counts:
                if costs[count.unit]:
                    log, _, cost, retention = next(entries)
                    moment = log.book(self._now, at, cost, retention)
                    receipt.append((account, ledger, _only(count.unit, cost), moment))
        self._sum_up()
        return receipt

    def _sum_up(self) -> None:
        for account, *_ in self._charges:
            account.sum_up()


def refund(receipts: Iterable[Sequence[SubjectCharge]]) -> None:
    """Take what was charged out of its logs again; many at once cost little more than one."""
    events: dict[tuple[SubjectCounts, int], list[tuple[int, int]]] = {}
    for receipt in receipts:
        for account, ledger, costs, moment in receipt:
            for count in ledger.counts:
                if cost := costs[count.unit]:
                    events.setdefault((account, count.unit), []).append((moment, cost))
    for (account, unit), taken in events.items():
        account.logs()[unit].refund(taken, account.retentions[unit])
        account.sum_up()


def _only(unit: int, cost: int) -> Costs:
    """The costs of one unit alone."""
    return tuple(cost if each == unit else 0 for each in range(4))  # type: ignore[return-value]
