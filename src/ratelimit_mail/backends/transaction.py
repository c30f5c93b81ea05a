"""The decision on one message's charges by the event logs, and the changes that it makes.

Where the logs come from is the backend's business: it hands over `Counts` of each subject.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from ratelimit_mail.backends.base import Refusal, Verdict, verdict
from ratelimit_mail.counting.charge import (
    FIRST_UNIQUE,
    Costs,
    Count,
    Ledger,
    UniqueCosts,
    costs_of,
)
from ratelimit_mail.counting.event_log import FAR_AHEAD, EventLog, UndoList
from ratelimit_mail.counting.members import (
    MemberChange,
    Members,
    is_refundable,
    moment_of_stamp,
    next_stamp,
)
from ratelimit_mail.counting.window import Retention, Window, spread_schedule

__all__ = ["BookingReceipt", "Counts", "SubjectCharge", "Transaction", "refund"]


class Retentions(Protocol):
    """How long the log of each unit must remember."""

    def __getitem__(self, unit: int, /) -> Retention: ...


class Counts(Protocol):
    """The counts of one subject: an event log for each unit, and the bookings of a queue."""

    @property
    def retentions(self) -> Retentions:
        """How long the log of each unit must remember."""
        ...

    @property
    def undo(self) -> UndoList | None:
        """Where a change adds what takes it back; None if the backend rolls back by itself."""
        ...

    def save(self) -> None:
        """Add to `undo` what takes a change of the logs back."""
        ...

    def logs(self) -> Mapping[int, EventLog]:
        """Return the log of each unit; call `recount` after a change."""
        ...

    def recount(self) -> None:
        """Note that a log has changed."""
        ...

    def members(self, unit: int) -> Members:
        """Return the recipients that the log of a unit of unique recipients holds."""
        ...

    def add_booking(self, booking: Any, number: int | None, *, oldest: int) -> int:
        """Add a booking to this queue, by default at its end, and return its number.

        oldest: bookings that were never used, and whose last event is not later, may be dropped.
        """
        ...

    def last_ahead(self, booking: Any) -> int | None:
        """Return the latest time of the bookings ahead of one in this queue; None if it is first.

        A booking without a number was for its own present: those ahead of it are not later.
        """
        ...

    def bookings_behind(self, booking: Any, before: int) -> Iterable[Any]:
        """Return the bookings behind one in this queue whose time is before `before`."""
        ...

    def first_number(self) -> int:
        """Return a number ahead of all in this queue, also of those of forgotten bookings."""
        ...

    def remove_booking(self, number: int) -> bool:
        """Remove a booking from this queue; return whether it was still there."""
        ...


C = TypeVar("C", bound=Counts)

SubjectCharge = tuple[C, Ledger, Costs, int]
"""The counts of a charge's subject, the charge, and the moment at which it stands."""


_FullWindow = tuple[int, int, int]
"""A window without room: the number of its entry, its number there, and when it has room."""


class BookingReceipt(list[tuple[C, Ledger, Costs, int]], Generic[C]):
    """What one booking was charged, and its place in its sender's queue.

    queue: the counts of the queue, what they are charged, and the booked time.
    number: the booking's number in the queue; None while it does not stand there: it could go at
        once, has been redeemed or was refunded.
    """

    __slots__ = ("number", "queue")

    def __init__(self, charges: Iterable[SubjectCharge[C]], queue: SubjectCharge[C]) -> None:
        super().__init__(charges)
        self.queue = queue
        self.number: int | None = None

    @property
    def at(self) -> int:
        """The booked time."""
        return self.queue[3]

    @property
    def last(self) -> int:
        """The moment of its last event; that of a message that is spread is after `at`."""
        return max([self.at, *(moment for *_, moment in self)])

    def save(self) -> None:
        """Add to `undo` what takes a change of this receipt back."""
        undo = self.queue[0].undo
        if undo is not None:
            undo.append((BookingReceipt._restore, (self, self.copy(), self.queue, self.number)))

    def _restore(
        self, charges: list[SubjectCharge[C]], queue: SubjectCharge[C], number: int | None
    ) -> None:
        self[:] = charges
        self.queue, self.number = queue, number

    def enqueue(self, number: int | None, now: int) -> None:
        """Put the booking into its queue, at the end or where it stood before."""
        counts, ledger, costs, at = self.queue
        [(*_, moment)] = Transaction([(counts, ledger, costs, now)], now).charge(at)
        self.queue = (counts, ledger, costs, moment)
        self.number = counts.add_booking(self, number, oldest=now - ledger.span)

    def dequeue(self) -> SubjectCharge[C] | None:
        """Remove the booking from its queue; return what the queue was charged for it."""
        self.save()
        number, self.number = self.number, None
        if number is None or not self.queue[0].remove_booking(number):
            return None
        return self.queue


class Transaction(Generic[C]):
    """One message's charges, and the logs that they would be put into."""

    def __init__(self, charges: Sequence[SubjectCharge[C]], now: int) -> None:
        self._charges = charges
        self._now = now
        entries: list[tuple[EventLog, Count, int, Retention]] = []
        self._entries = entries
        self._counts_denied = self._has_bookings = False
        unique: list[tuple[int, C, UniqueCosts]] = []
        self._unique = unique
        """The entries of unique recipients, with the counts and costs of their charges."""
        self._schedules: dict[int, list[tuple[int, int]]] = {}
        """By entry, the parts of a cost above a limit that spreads it."""
        for counts, ledger, costs, _ in charges:
            logs = counts.logs()
            for count in ledger.counts:
                if cost := costs[count.unit]:
                    log = logs[count.unit]
                    if count.is_unique and isinstance(costs, UniqueCosts):
                        unique.append((len(entries), counts, costs))
                    if cost > count.smallest:
                        self._schedules[len(entries)] = spread_schedule(cost, count.windows)
                    entries.append((log, count, cost, counts.retentions[count.unit]))
                    if log.times and log.times[-1] > now:
                        self._has_bookings = True
            if ledger.counts_denied:
                self._counts_denied = True

    def take(self, *, record: bool) -> Verdict:
        """Charge everything now, or return when it fits."""
        if self._unique:
            self._leave_out_members(exactly=False)
        refusals = self._refusals(self._now)
        if refusals:
            return self._refuse(refusals, self._now, record=record)
        return verdict(self._now, self._now, self.charge(self._now) if record else None)

    def book(self, queue: SubjectCharge[C], max_delay: int | None) -> Verdict:
        """Charge everything at the first moment with room after the last booking of `queue`."""
        now = self._now
        self._leave_out_members()
        counts, ledger, costs, _ = queue
        start = Transaction([queue], now)._entries[0][0].last_booking(now) or now
        at = self._earliest(start)
        if max_delay is not None and at - now > max_delay:
            return self._refuse(self._refusals(now) or self._tightest(at), start, record=True)
        booking = BookingReceipt(self.charge(at), (counts, ledger, costs, at))
        if at > now:
            booking.enqueue(None, now)
        return verdict(now, at, booking)

    def redeem(self, booking: BookingReceipt[C], queue: C) -> Verdict:
        """Let a booking stand now if it fits now, or book it anew at the first moment with room.

        The check leaves out the bookings behind it in its queue. The new time is not before the
        bookings ahead of it, and it keeps its place among them. Before its time nothing changes.

        queue: the counts of its queue, which are new if it was reset or evicted since.
        """
        now, number = self._now, booking.number
        self._leave_out_members()
        is_early = number is not None and booking.at > now
        start = now if is_early else max(now, queue.last_ahead(booking) or now)
        found = self._room_by_few(booking, queue, start, is_early=is_early)
        at, windows = found or self._room_by_all(booking, queue, start, is_early=is_early)
        refusals = [(self._entries[entry][1], i, room_at) for entry, i, room_at in windows]
        if is_early:
            return Verdict(now, at, booking, refusals)
        booking.save()
        refund([booking])
        booking[:] = self.charge(at)
        _, ledger, costs, _ = booking.queue
        booking.queue = (queue, ledger, costs, at)
        if at > now:
            booking.enqueue(queue.first_number() if number is None else number, now)
        return verdict(now, at, booking, refusals)

    def _room_by_all(
        self, booking: BookingReceipt[C], queue: C, start: int, *, is_early: bool
    ) -> tuple[int, list[_FullWindow]]:
        """Return when a booking may go, and which windows are in its way until then.

        By the logs without all bookings behind it.
        """
        probe = self._without([booking, *queue.bookings_behind(booking, FAR_AHEAD)])
        at = booking.at if is_early else probe._earliest(start)
        if at == self._now:
            return at, []
        return at, probe._refusals(self._now) or probe._tightest(at)

    def _room_by_few(
        self, booking: BookingReceipt[C], queue: C, start: int, *, is_early: bool
    ) -> tuple[int, list[_FullWindow]] | None:
        """Return the same by the few bookings behind it that can matter, in a long queue.

        A window that has room beside all of them has room without them. For the others, what is
        booked longer than a window later does not matter. None if all must be looked at.
        """
        if self._schedules:
            return None
        now = self._now
        beside_all = self._without([booking])
        full = {each[:2] for moment in {now, start} for each in beside_all._refusals(moment)}
        if not full:
            return None if is_early or start > now else (now, [])
        longest = max(window.length + window.resolution for window in map(self._window, full))
        newest = max(log.newest for log, *_ in self._entries)
        before = max(start, newest, booking.at) + 2 * longest + 1
        probe = self._without([booking, *queue.bookings_behind(booking, before)])
        at, latest = booking.at, now
        if not is_early:
            at = latest = probe._earliest_in_windows(start, full)
            if not {each[:2] for each in beside_all._refusals(at)} <= full:
                return None
        refusals = probe._refusals(now) if at > now else []
        latest = max([latest, *(room_at for _, _, room_at in refusals)])
        if (at > now and not refusals) or latest + longest > before:
            return None
        return at, refusals

    def _window(self, number: tuple[int, int]) -> Window:
        """Return a window by the number of its entry, and its number there."""
        entry, i = number
        return self._entries[entry][1].windows[i]

    def _earliest_in_windows(self, start: int, numbers: Iterable[tuple[int, int]]) -> int:
        """Return the first moment from `start` on with room in some windows."""
        at = start
        while True:
            before = at
            for number in numbers:
                at = self._earliest_in(number[0], at, [self._window(number)])
            if at == before:
                return at

    def _leave_out_members(self, *, exactly: bool = True) -> None:
        """Decide by the logs without the events of the unique recipients that the message is to.

        exactly: False if it does not matter how much room there is, only whether and when.
        """
        for number, counts, costs in self._unique:
            log, count, cost, retention = self._entries[number]
            stamps = _held_stamps(counts, count.unit, _members_of(costs, count.unit))
            if not stamps:
                continue
            if not exactly and log.held - len(stamps) + cost <= count.smallest:
                log = EventLog(log.newest)  # has room too
            else:
                events = [(moment_of_stamp(stamp), 1) for stamp in stamps.values()]
                log = log.without(events, retention)
            self._entries[number] = (log, count, cost, retention)

    def _without(self, bookings: Iterable[BookingReceipt[C]]) -> Transaction[C]:
        """Return the same charges on copies of the logs without the given bookings."""
        events: dict[tuple[C, int], list[tuple[int, int]]] = {}
        for counts, unit, moment, cost, changes in _events_of(bookings):
            if not changes:  # else they are the latest of its recipients, which are left out
                events.setdefault((counts, unit), []).append((moment, cost))
        probe = Transaction(self._charges, self._now)  # also with the same schedules
        keys = [
            (counts, count.unit)
            for counts, ledger, costs, _ in self._charges
            for count in ledger.counts
            if costs[count.unit]
        ]
        probe._entries = [
            (log.without(events.get(key, ()), retention), count, cost, retention)
            for key, (log, count, cost, retention) in zip(keys, self._entries, strict=True)
        ]
        return probe

    def count_refused(self) -> bool:
        """Charge the counts that count refused attempts; return whether there are any."""
        if not self._counts_denied:
            return False
        for log, count, cost, retention in self._entries:
            if count.counts_denied:
                log.refuse(self._now, cost, retention)
        self._recount()
        return True

    def _refusals(self, moment: int) -> list[_FullWindow]:
        """Return the windows without room at a moment."""
        refusals = []
        for number, (log, count, cost, _) in enumerate(self._entries):
            if log.held + cost > count.smallest:
                for i, window in enumerate(count.windows):
                    if (at := self._earliest_in(number, moment, [window])) > moment:
                        refusals.append((number, i, at))
        return refusals

    def _earliest_in(self, number: int, start: int, windows: Sequence[Window]) -> int:
        """Return the first moment from `start` on at which an entry fits into each of `windows`."""
        log, _, cost, _ = self._entries[number]
        schedule = self._schedules.get(number)
        if schedule is not None:
            return log.earliest_spread(start, schedule, windows)
        at = start
        for window in windows:
            at = log.earliest(at, cost, window)
        return at

    def _tightest(self, at: int) -> list[_FullWindow]:
        """Return the window with the least room, if only earlier bookings are in the way."""
        _, number, i = min(
            (log.remaining(self._now, window), number, i)
            for number, (log, count, _, _) in enumerate(self._entries)
            for i, window in enumerate(count.windows)
        )
        return [(number, i, at)]

    def _refuse(self, refusals: list[_FullWindow], start: int, *, record: bool) -> Verdict:
        """Count the refused attempt, and return when, from `start` on, the charges fit."""
        counted = record and self.count_refused()
        of_counts: list[Refusal] = []
        at = start
        for number, i, room_at in refusals:
            count = self._entries[number][1]
            if counted:
                room_at = self._earliest_in(number, self._now, [count.windows[i]])
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
            for number, (log, count, cost, _) in enumerate(self._entries):
                if log.held + cost > count.smallest:
                    at = self._earliest_in(number, at, count.windows)
            if at == before:
                return at

    def charge(self, at: int) -> list[SubjectCharge[C]]:
        """Charge everything at the moment `at`, whether it fits or not."""
        receipt: list[SubjectCharge[C]] = []
        entries = enumerate(self._entries)
        for counts, ledger, costs, _ in self._charges:
            for count in ledger.counts:
                if costs[count.unit]:
                    number, (log, _, cost, retention) = next(entries)
                    if count.is_unique:
                        receipt.append(self._charge_unique(counts, ledger, count.unit, costs, at))
                        continue
                    start = max(at, log.newest)
                    for offset, part in self._schedules.get(number) or [(0, cost)]:
                        moment = log.book(self._now, start + offset, part, retention)
                        receipt.append((counts, ledger, costs_of(count.unit, part), moment))
        self._recount()
        return receipt

    def _charge_unique(
        self, counts: C, ledger: Ledger, unit: int, costs: Costs, at: int
    ) -> SubjectCharge[C]:
        """Charge unique recipients at the moment `at`: those that are held move there.

        A booking ahead is charged beside what is held.
        """
        log, cost, retention = counts.logs()[unit], costs[unit], counts.retentions[unit]
        members = _members_of(costs, unit)
        start = max(at, log.newest)
        if not members or start > max(self._now, log.newest):
            moment = log.book(self._now, start, cost, retention)
            return counts, ledger, _unique_costs(unit, cost, members, ()), moment
        stamps = _held_stamps(counts, unit, members)
        counts.save()
        log.refund([(moment_of_stamp(stamp), 1) for stamp in stamps.values()], retention)
        moment = log.book(self._now, start, cost, retention)
        held = counts.members(unit)
        changes = []
        for member in members:
            previous = stamps.get(member)
            stamp = next_stamp(previous, moment)
            held.set(member, stamp)
            changes.append(MemberChange(member, stamp, previous))
        held.trim(log.newest - retention.span)
        return counts, ledger, _unique_costs(unit, cost, members, tuple(changes)), moment

    def _recount(self) -> None:
        for counts, *_ in self._charges:
            counts.recount()


def refund(receipts: Iterable[Sequence[SubjectCharge[C]]]) -> None:
    """Take charges out of their logs; many at once cost little more than one."""
    events: dict[tuple[C, int], list[tuple[int, int]]] = {}
    for receipt in receipts:
        charges = [*receipt]
        if isinstance(receipt, BookingReceipt) and (queue := receipt.dequeue()) is not None:
            charges.append(queue)
        for counts, unit, moment, cost, changes in _events_of([charges]):
            if changes:
                _refund_members(counts, unit, changes)
            else:
                events.setdefault((counts, unit), []).append((moment, cost))
    for (counts, unit), refunded in events.items():
        log = counts.logs()[unit]
        counts.save()
        log.refund(refunded, counts.retentions[unit])
        counts.recount()


def _refund_members(counts: Counts, unit: int, changes: Iterable[MemberChange]) -> None:
    """Put the moments of unique recipients back, if nothing was sent to them since."""
    log, held, span = counts.logs()[unit], counts.members(unit), counts.retentions[unit].span
    removed: list[tuple[int, int]] = []
    put_back: list[tuple[int, int]] = []
    for member, stamp, previous in changes:
        if held.get(member) != stamp or not is_refundable(stamp):
            continue
        removed.append((moment_of_stamp(stamp), 1))
        if previous is not None and moment_of_stamp(previous) > log.newest - span:
            put_back.append((moment_of_stamp(previous), 1))
            held.set(member, previous)
        else:
            held.set(member, None)
    if removed:
        counts.save()
        log.refund(removed, counts.retentions[unit])
        log.put_back(put_back)
        counts.recount()


def _held_stamps(counts: Counts, unit: int, members: Iterable[str]) -> dict[str, int]:
    """Return the stamps of those unique recipients whose events the log has."""
    held = counts.members(unit)
    forgotten = counts.logs()[unit].newest - counts.retentions[unit].span
    stamps: dict[str, int] = {}
    for member in members:
        stamp = held.get(member)
        if stamp is not None and moment_of_stamp(stamp) > forgotten:
            stamps[member] = stamp
    return stamps


def _members_of(costs: Costs, unit: int) -> tuple[str, ...]:
    """Return the unique recipients that costs of a unit are of."""
    return costs.members.get(unit, ()) if isinstance(costs, UniqueCosts) else ()


def _unique_costs(
    unit: int, cost: int, members: tuple[str, ...], changes: tuple[MemberChange, ...]
) -> Costs:
    """Return what unique recipients cost, and which they are."""
    of_unit = costs_of(unit, cost)
    if not members:
        return of_unit
    return UniqueCosts.of(of_unit, {unit: members}, {unit: changes} if changes else {})


def _events_of(
    receipts: Iterable[Sequence[SubjectCharge[C]]],
) -> Iterator[tuple[C, int, int, int, Sequence[MemberChange]]]:
    """Yield the counts, unit, moment and cost of each event that was charged.

    Last what it has changed for unique recipients, if it was charged to these.
    """
    for receipt in receipts:
        for counts, ledger, costs, moment in receipt:
            for count in ledger.counts:
                if cost := costs[count.unit]:
                    changes: Sequence[MemberChange] = ()
                    if count.unit >= FIRST_UNIQUE and isinstance(costs, UniqueCosts):
                        changes = costs.changes.get(count.unit, ())
                    yield counts, count.unit, moment, cost, changes
