"""InOrderCounts: counts for messages that come in the order of their times, such as a replay.

Nothing is booked, refunded, spread over time or counted once for each recipient here, and an
exception ends the whole run: so a charge needs neither a transaction nor anything that takes it
back. The event logs decide, as in every backend.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Final, NamedTuple

from ratelimit_mail._util.cache import BoundedCache
from ratelimit_mail.counting.charge import UNITS, Charge, Costs, Count, Ledger, Refusal
from ratelimit_mail.counting.event_log import EventLog
from ratelimit_mail.counting.window import Window

__all__ = ["InOrderCounts", "PreparedCharge", "RefusedUntil"]

MOST_REMEMBERED: Final = 64
"""How many refusals a subject remembers."""

MOST_COSTS: Final = 4096
"""How many different costs are prepared."""

RefusedUntil = tuple[int, Sequence[Refusal]]
"""The first moment at which some charges fit, and the windows without room. A plain tuple, for
speed."""


class _Subject:
    """The counts of one subject.

    logs: by unit, None before the first charge.
    refused: how charges were refused since the last change, by the numbers of their costs, after
        the moment until which that holds.
    full: by the number of a window where refused attempts count, a cost that had no room in it, and
        until when. Nothing is taken out here, so that it has none until then.
    """

    __slots__ = ("full", "logs", "refused")

    def __init__(self) -> None:
        self.logs: list[EventLog | None] = [None] * len(UNITS)
        self.refused: dict[int, tuple[int, RefusedUntil]] = {}
        self.full: dict[int, tuple[int, int]] = {}

    def log(self, unit: int) -> EventLog:
        """Return the log of a unit."""
        log = self.logs[unit]
        if log is None:
            log = self.logs[unit] = EventLog()
        return log


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

    def __len__(self) -> int:
        return len(self.young) + len(self._old)

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


_Entry = tuple[int, int, int, Count, tuple[tuple[int, Window], ...]]
"""What a charge adds to one count: the unit, the cost, the smallest limit, the count, and its
windows, each after its number. A plain tuple, for speed."""


class PreparedCharge(NamedTuple):
    """A charge that is ready to be taken, as often as there are messages that cost it.

    costs: the number of its costs among all that are charged here.
    counts_denied: whether a refused attempt is counted.
    """

    table: _Table
    subject: str
    entries: tuple[_Entry, ...]
    costs: int
    counts_denied: bool


_Place = tuple[_Subject, tuple[_Entry, ...]]
"""A subject, and what it is charged."""


class InOrderCounts:
    """The counts of subjects. Each call has a time that is not before that of an earlier one.

    Subjects that have been idle for one to two windows are dropped.
    """

    def __init__(self) -> None:
        self._tables: dict[str, _Table] = {}
        self._costs = BoundedCache(self._new_costs, most=MOST_COSTS)
        self._numbers: dict[tuple[int, Window], int] = {}
        """By unit and window. Equal windows share a number, because ledgers may be made anew."""
        self._different_costs = 0

    def __len__(self) -> int:
        """Return how many subjects are held."""
        return sum(map(len, self._tables.values()))

    def prepare(self, charges: Iterable[Charge]) -> list[PreparedCharge]:
        """Return the charges of a message, ready for `take`.

        None is of unique recipients, or is spread over time.
        """
        return [
            PreparedCharge(
                self._table(ledger),
                subject,
                *self._costs[ledger, costs],
                ledger.counts_denied,
            )
            for ledger, subject, costs in charges
        ]

    def take(self, charges: Sequence[PreparedCharge], now: int) -> RefusedUntil | None:
        """Take all of `charges` or none; return None if they were taken.

        A refused attempt is counted where limits count those.
        """
        if len(charges) == 1:
            return self.take_one(charges[0], now)
        places = [(_subject_of(charge, now), charge.entries) for charge in charges]
        is_counted = any(charge.counts_denied for charge in charges)
        refused = _refused_and_counted(places, now) if is_counted else _refused(places, now)
        if refused is None:
            for subject, entries in places:
                for unit, cost, _, count, _ in entries:
                    subject.log(unit).append(now, cost, count.retention)
                subject.refused.clear()
        return refused

    def count_refused(self, charges: Iterable[PreparedCharge], now: int) -> None:
        """Count a refused attempt where limits count those."""
        _count_refused([(_subject_of(charge, now), charge.entries) for charge in charges], now)

    def take_one(self, charge: PreparedCharge, now: int) -> RefusedUntil | None:
        """Do the same with one charge alone."""
        table, name, entries, costs, counts_denied = charge
        if now >= table.due:
            table.age(now)
        subject = table.young.get(name)
        if subject is None:
            subject = table.take_old(name)
        if subject.refused:
            known = subject.refused.get(costs)
            if known is not None and now < known[0]:
                return known[1]
        logs = subject.logs
        for unit, cost, smallest, _, _ in entries:
            log = logs[unit]
            if log is not None and log.held + cost > smallest:  # perhaps full
                place = (subject, entries)
                if counts_denied:
                    refused = _refused_and_counted([place], now)
                elif (refused := _refused([place], now)) is not None:
                    if len(subject.refused) >= MOST_REMEMBERED:
                        subject.refused.clear()
                    until = min(at for _, _, at in refused[1])
                    subject.refused[costs] = until, refused
                if refused is not None:
                    return refused
                break
        for unit, cost, _, count, _ in entries:
            (logs[unit] or subject.log(unit)).append(now, cost, count.retention)
        if subject.refused:
            subject.refused.clear()
        return None

    def _table(self, ledger: Ledger) -> _Table:
        table = self._tables.get(ledger.name)
        if table is None:
            table = self._tables[ledger.name] = _Table(ledger.span)
        table.keep_for(ledger.span)
        return table

    def _new_costs(self, charge: tuple[Ledger, Costs]) -> tuple[tuple[_Entry, ...], int]:
        """Return the entries of a charge, and the number of its costs."""
        ledger, costs = charge
        entries = list[_Entry]()
        for count in ledger.counts:
            if cost := costs[count.unit]:
                windows = tuple((self._number(count.unit, each), each) for each in count.windows)
                entries.append((count.unit, cost, count.smallest, count, windows))
        self._different_costs += 1
        return tuple(entries), self._different_costs

    def _number(self, unit: int, window: Window) -> int:
        return self._numbers.setdefault((unit, window), len(self._numbers))


def _subject_of(charge: PreparedCharge, now: int) -> _Subject:
    table = charge.table
    if now >= table.due:
        table.age(now)
    return table.young.get(charge.subject) or table.take_old(charge.subject)


def _refused(
    places: Iterable[_Place], now: int, among: Container[tuple[int, int]] | None = None
) -> RefusedUntil | None:
    """Return how charges are refused, or None if they fit.

    A window that has room keeps it, so the last one to have room decides when the charges fit.

    among: the windows that may be named as those without room, each after the number of its place;
        None for all.
    """
    refusals = []
    last = now
    for place, (subject, entries) in enumerate(places):
        for unit, cost, smallest, count, windows in entries:
            log = subject.log(unit)
            if log.held + cost > smallest:
                log.forget(now, count.retention)
                for number, (of_all, window) in enumerate(windows):
                    if (at := log.earliest(now, cost, window)) > now:
                        if among is None or (place, of_all) in among:
                            refusals.append((count, number, at))
                        if at > last:
                            last = at
                        if count.counts_denied:
                            subject.full[of_all] = cost, at
    return (last, refusals) if refusals else None


def _refused_and_counted(places: Sequence[_Place], now: int) -> RefusedUntil | None:
    """Do the same where a refused attempt is counted; it is counted before it is said until when.

    A sender that keeps trying stays refused: then what was full for the last attempt still is. A
    window that has no room only because of this attempt has not refused it.
    """
    full = []
    for place, (subject, entries) in enumerate(places):
        for unit, cost, smallest, count, windows in entries:
            log = subject.log(unit)
            if log.held + cost > smallest:
                log.forget(now, count.retention)
                for of_all, window in windows:
                    known = subject.full.get(of_all)
                    if (known is not None and known[0] <= cost and now < known[1]) or (
                        log.earliest(now, cost, window) > now
                    ):
                        full.append((place, of_all))
    if not full:
        return None
    _count_refused(places, now)
    return _refused(places, now, among=full)


def _count_refused(places: Iterable[_Place], now: int) -> None:
    for subject, entries in places:
        for unit, cost, _, count, _ in entries:
            if count.counts_denied:
                subject.log(unit).append(now, cost, count.retention, is_sent=False)
