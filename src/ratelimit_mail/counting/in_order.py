"""InOrderCounts: counts for messages that come in the order of their times, such as a replay.

Nothing is booked, refunded, spread over time or counted once for each recipient here, and an
exception ends the whole run: so a charge needs neither a transaction nor anything that takes it
back. The event logs decide, as in every backend.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from ratelimit_mail.counting.charge import Charge, Count, Ledger
from ratelimit_mail.counting.event_log import EventLog

__all__ = ["InOrderCounts", "PreparedCharge", "Refused", "is_countable"]

MOST_REMEMBERED: Final = 64
"""How many refusals a subject remembers."""

Refused = tuple[int, Sequence[tuple[Count, int, int]]]
"""The first moment at which some charges fit, and the windows without room: a count, the number of
the window, and the first moment at which it has room. A plain tuple, for speed."""


class _Subject:
    """The counts of one subject.

    logs: by unit.
    refused: how charges were refused since the last change, by their ledger and costs, with the
        moment until which that holds.
    """

    __slots__ = ("logs", "refused")

    def __init__(self) -> None:
        self.logs: dict[int, EventLog] = {}
        self.refused: dict[object, tuple[int, Refused]] = {}


class _Table:
    """The subjects of all ledgers of one name.

    Those charged lately are young. When a span has passed they become old, and what was old is
    dropped: it was last charged more than a span ago, and cannot matter any more.
    """

    __slots__ = ("_old", "_span", "due", "young")

    def __init__(self, span: int) -> None:
        self.young: dict[str, _Subject] = {}
        self._old: dict[str, _Subject] = {}
        self._span = span
        self.due = 0

    def keep_for(self, span: int) -> None:
        """Drop nothing that was charged within `span`."""
        if span > self._span:
            self._span = span

    def age(self, now: int) -> None:
        """Let the young ones become old, because a span has passed."""
        self.young, self._old = {}, self.young
        self.due = now + self._span

    def take_old(self, subject: str) -> _Subject:
        """Return a subject that is not young, and make it young."""
        counts = self._old.pop(subject, None)
        if counts is None:
            counts = _Subject()
        self.young[subject] = counts
        return counts


class _Part(NamedTuple):
    """What a charge adds to one count."""

    unit: int
    cost: int
    smallest: int
    count: Count


class PreparedCharge(NamedTuple):
    """A charge that is ready to be taken, as often as there are messages that cost it.

    counts_denied: whether a refused attempt is counted.
    """

    table: _Table
    subject: str
    parts: tuple[_Part, ...]
    key: tuple[Ledger, tuple[int, ...]]
    counts_denied: bool


def is_countable(ledger: Ledger) -> bool:
    """Return whether the charges of a ledger can be counted here."""
    return not any(
        count.is_unique or any(window.spread for window in count.windows) for count in ledger.counts
    )


class InOrderCounts:
    """The counts of subjects. Each call has a time that is not before that of an earlier one.

    Subjects that have been idle for one to two windows are dropped.
    """

    def __init__(self) -> None:
        self._tables: dict[str, _Table] = {}

    def prepare(self, charges: Iterable[Charge]) -> list[PreparedCharge]:
        """Return the charges of a message, ready for `take`; each is countable."""
        return [
            PreparedCharge(
                self._table(ledger),
                subject,
                tuple(
                    _Part(count.unit, costs[count.unit], count.smallest, count)
                    for count in ledger.counts
                    if costs[count.unit]
                ),
                (ledger, tuple(costs)),
                ledger.counts_denied,
            )
            for ledger, subject, costs in charges
        ]

    def take(self, charges: Sequence[PreparedCharge], now: int) -> Refused | None:
        """Take all of `charges` or none; return None if they were taken.

        A refused attempt is counted where limits count those.
        """
        if len(charges) == 1:
            return self._take_one(charges[0], now)
        logs = [log for charge in charges for log in _logs_of(charge, now)]
        parts = [part for charge in charges for part in charge.parts]
        refusals = _refusals(logs, parts, now)
        if refusals:
            is_counted = any(charge.counts_denied for charge in charges)
            return _refuse(logs, parts, refusals, now, is_counted=is_counted)
        for log, part in zip(logs, parts, strict=True):
            log.append(now, part.cost, part.count.retention)
        for charge in charges:
            charge.table.young[charge.subject].refused.clear()
        return None

    def count_refused(self, charges: Iterable[PreparedCharge], now: int) -> None:
        """Count a refused attempt where limits count those."""
        for charge in charges:
            if charge.counts_denied:
                _count_refused(_logs_of(charge, now), charge.parts, now)

    def _take_one(self, charge: PreparedCharge, now: int) -> Refused | None:
        table, subject, parts, key, counts_denied = charge
        if now >= table.due:
            table.age(now)
        counts = table.young.get(subject)
        if counts is None:
            counts = table.take_old(subject)
        if counts.refused:
            known = counts.refused.get(key)
            if known is not None and now < known[0]:
                return known[1]
        logs = counts.logs
        refusals = None
        for unit, cost, smallest, _ in parts:
            log = logs.get(unit)
            if log is None:
                log = logs[unit] = EventLog()
            if log.held + cost > smallest:
                ordered = _logs_of(charge, now)
                refusals = _refusals(ordered, parts, now)
                break
        if refusals:
            refused = _refuse(ordered, parts, refusals, now, is_counted=counts_denied)
            if not counts_denied:
                if len(counts.refused) >= MOST_REMEMBERED:
                    counts.refused.clear()
                counts.refused[key] = min(at for _, _, at in refusals), refused
            return refused
        for unit, cost, _, count in parts:
            logs[unit].append(now, cost, count.retention)
        if counts.refused:
            counts.refused.clear()
        return None

    def _table(self, ledger: Ledger) -> _Table:
        table = self._tables.get(ledger.name)
        if table is None:
            table = self._tables[ledger.name] = _Table(ledger.span)
        table.keep_for(ledger.span)
        return table


def _logs_of(charge: PreparedCharge, now: int) -> list[EventLog]:
    """Return the log of each part of a charge."""
    table = charge.table
    if now >= table.due:
        table.age(now)
    counts = table.young.get(charge.subject) or table.take_old(charge.subject)
    return [counts.logs.setdefault(part.unit, EventLog()) for part in charge.parts]


def _refusals(
    logs: Sequence[EventLog], parts: Sequence[_Part], now: int
) -> list[tuple[Count, int, int]]:
    """Return the windows without room."""
    refusals = []
    for log, (_, cost, smallest, count) in zip(logs, parts, strict=True):
        if log.held + cost > smallest:
            for number, window in enumerate(count.windows):
                if (at := log.earliest(now, cost, window)) > now:
                    refusals.append((count, number, at))
    return refusals


def _refuse(
    logs: Sequence[EventLog],
    parts: Sequence[_Part],
    refusals: list[tuple[Count, int, int]],
    now: int,
    *,
    is_counted: bool,
) -> Refused:
    """Return how charges are refused; count the attempt first, if limits count it.

    A window that has room keeps it, so the last one to have room decides when the charges fit.
    """
    if not is_counted:
        return max(at for _, _, at in refusals), refusals
    _count_refused(logs, parts, now)
    later = {(count, number): at for count, number, at in _refusals(logs, parts, now)}
    return max(later.values()), [
        (count, number, later[count, number]) for count, number, _ in refusals
    ]


def _count_refused(logs: Sequence[EventLog], parts: Sequence[_Part], now: int) -> None:
    for log, part in zip(logs, parts, strict=True):
        if part.count.counts_denied:
            log.append(now, part.cost, part.count.retention, is_sent=False)
