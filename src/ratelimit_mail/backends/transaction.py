"""The decision on one message's charges by the event logs, and the changes that it makes.

Where the logs come from is the backend's business: it hands over `Counts` of each subject.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from ratelimit_mail.backends.base import Refusal, Verdict, verdict
from ratelimit_mail.backends.booking_queue import BookingQueue, Bookings
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
    def bookings(self) -> Bookings[Any] | None:
        """The bookings of a queue that were not used yet; None if there are none."""
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

    def first_number(self) -> int:
        """Return a number ahead of all in this queue, also of those of forgotten bookings."""
        ...

    def remove_booking(self, number: int) -> bool:
        """Remove a booking from this queue; return whether it was still there."""
        ...


C = TypeVar("C", bound=Counts)

SubjectCharge = tuple[C, Ledger, Costs, int]
"""The counts of a charge's subject, the charge, and the moment at which it stands."""

WindowPlace = tuple[int, int]
"""A window of a transaction: the number of its entry, and its own."""

FullWindow = tuple[int, int, int]
"""A window without room, as in `WindowPlace`, and when it has room."""


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
        refusals = self._refusals()
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
            return self._refuse(self._refusals() or self._tightest(at), start, record=True)
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
        at, windows = self._room_for(booking, queue.bookings or BookingQueue())
        refusals = [(self._entries[entry][1], i, room_at) for entry, i, room_at in windows]
        if number is not None and booking.at > now:
            return Verdict(now, at, booking, refusals)
        booking.save()
        refund([booking])
        booking[:] = self.charge(at)
        _, ledger, costs, _ = booking.queue
        booking.queue = (queue, ledger, costs, at)
        if at > now:
            booking.enqueue(queue.first_number() if number is None else number, now)
        return verdict(now, at, booking, refusals)

    def _room_for(
        self, booking: BookingReceipt[C], bookings: Bookings[BookingReceipt[C]]
    ) -> tuple[int, list[FullWindow]]:
        """Return when a booking may go, and the windows without room until then.

        The bookings behind it in its queue do not count. Before its time it may go at its time.
        """
        now, is_early = self._now, booking.number is not None and booking.at > self._now
        start = booking.at if is_early else bookings.last_ahead(booking, now)
        if not self._schedules:
            soon = self._room_soon(booking, bookings, start, is_early=is_early)
            if soon is not None:
                return soon
        probe = self._without([booking, *bookings.behind(booking, FAR_AHEAD)])
        at = booking.at if is_early else probe._earliest(start)
        if at == now:
            return at, []
        return at, probe._refusals() or probe._tightest(at)

    def _room_soon(
        self,
        booking: BookingReceipt[C],
        bookings: Bookings[BookingReceipt[C]],
        start: int,
        *,
        is_early: bool,
    ) -> tuple[int, list[FullWindow]] | None:
        """Return what `_room_for` does by the few bookings behind it that can matter.

        A window that has room beside all of them has room without them. Another one contains only
        those that are due soon. None if the answer is so late that these are not enough.

        start: the first moment behind the bookings ahead of it; before its time, that time.
        """
        now = self._now
        beside_all = self._without([booking])
        full = beside_all._without_room(now)
        if not is_early:
            if start == now and not full:
                return now, []  # most often
            full |= beside_all._without_room(start)
        longest = self._longest_stay(full) if full else self._longest_stay()
        newest = max(log.newest for log, *_ in self._entries)
        bound = max(start, newest) + 2 * longest
        probe = self._without([booking, *bookings.behind(booking, bound)])
        at = booking.at if is_early else probe._earliest(start, full)
        if not is_early and beside_all._without_room(at) - full:
            return None
        if at == now:
            return at, []
        refusals = probe._refusals(full)
        latest = max([now if is_early else at, *(room_at for *_, room_at in refusals)])
        if latest + longest > bound:
            return None
        if refusals:
            return at, refusals
        return None if longest < self._longest_stay() else (at, probe._tightest(at))

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

    def _without_room(self, at: int) -> set[WindowPlace]:
        """Return the windows without room at the moment `at`; no cost is spread."""
        return {
            (number, i)
            for number, (log, count, cost, _) in enumerate(self._entries)
            if log.held + cost > count.smallest
            for i, window in enumerate(count.windows)
            if not log.fits(at, cost, window)
        }

    def _longest_stay(self, only: Container[WindowPlace] | None = None) -> int:
        """Return for how long an event can count in any window, or in any of some."""
        return max(
            window.length + window.resolution
            for number, (_, count, *_) in enumerate(self._entries)
            for i, window in enumerate(count.windows)
            if only is None or (number, i) in only
        )

    def _refusals(self, only: Container[WindowPlace] | None = None) -> list[FullWindow]:
        """Return the windows without room, of all or of some."""
        now = self._now
        refusals = []
        for number, (log, count, cost, _) in enumerate(self._entries):
            if log.held + cost > count.smallest:
                for i, window in enumerate(count.windows):
                    if only is not None and (number, i) not in only:
                        continue
                    if (at := self._earliest_in(number, now, window)) > now:
                        refusals.append((number, i, at))
        return refusals

    def _earliest_in(self, number: int, start: int, window: Window) -> int:
        """Return the first moment from `start` on at which an entry fits into a window."""
        log, _, cost, _ = self._entries[number]
        schedule = self._schedules.get(number)
        if schedule is not None:
            return log.earliest_spread(start, schedule, window)
        return log.earliest(start, cost, window)

    def _tightest(self, at: int) -> list[FullWindow]:
        """Return the window with the least room, if only earlier bookings are in the way."""
        _, number, i = min(
            (log.remaining(self._now, window), number, i)
            for number, (log, count, _, _) in enumerate(self._entries)
            for i, window in enumerate(count.windows)
        )
        return [(number, i, at)]

    def _refuse(self, refusals: list[FullWindow], start: int, *, record: bool) -> Verdict:
        """Count the refused attempt, and return when, from `start` on, the charges fit."""
        counted = record and self.count_refused()
        of_counts: list[Refusal] = []
        at = start
        for number, i, room_at in refusals:
            count = self._entries[number][1]
            if counted:
                room_at = self._earliest_in(number, self._now, count.windows[i])
            of_counts.append((count, i, room_at))
            if room_at > at:
                at = room_at
        # Without bookings a window that has room keeps it, so the last one to have room decides.
        if counted or self._has_bookings:
            at = self._earliest(at)
        return verdict(self._now, at, None, of_counts)

    def _earliest(self, start: int, only: Container[WindowPlace] | None = None) -> int:
        """Return the first moment from `start` on at which all charges fit together.

        only: the windows that count, by default all.
        """
        at = start
        while True:
            before = at
            for number, (log, count, cost, _) in enumerate(self._entries):
                if log.held + cost > count.smallest:
                    for i, window in enumerate(count.windows):
                        if only is None or (number, i) in only:
                            # From the same moment each, so that the logs remember where each
                            # window is full, without gaps.
                            at = max(at, self._earliest_in(number, before, window))
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
