"""The counts of one subject: an event log for each unit, and charges that are still pending.

Most charges are accepted without a look at any log, because everything held is together below the
smallest limit. Such a charge is only made pending: it is put into the logs when they are needed,
or when enough charges have come together. Pending charges stand in runs of the same costs, and an
allowance says how many more of the latest costs surely fit: those need no check at all.

An exception may come between any two steps, because a signal handler may raise one. What holds at
each moment: `held` is never too low for `newest` and later, `newest` is never too early, and a
pending charge counts once it is in its list, which is the last step. A change that takes several
steps to take effect first adds to `undo` what takes it back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import count as count_up
from typing import Any, Final

from ratelimit_mail.backends.base import Refusal
from ratelimit_mail.backends.booking_queue import BookingQueue
from ratelimit_mail.counting.charge import NO_COSTS, UNITS, Costs, Ledger
from ratelimit_mail.counting.event_log import EventLog, UndoList
from ratelimit_mail.counting.members import moment_of_stamp
from ratelimit_mail.counting.window import Retention, Window

__all__ = ["QuickRefusal", "SubjectCounts"]

MOST_PENDING: Final = 64
"""How many charges are pending before they are put into the logs."""


_booking_numbers: Final = count_up()
"""One order for all queues: of two bookings of a queue, the later has the higher number."""

_numbers_ahead: Final = count_up(-1, -1)
"""The numbers of bookings that stand ahead of all others in a queue, forgotten ones included."""


_RememberedRefusal = tuple[Ledger, Costs, int, int, Sequence[Refusal]]
"""How costs of a ledger were refused: when, until when, and the windows without room.

As `QuickRefusal`, a plain tuple, for speed.
"""

QuickRefusal = tuple[int, int, Sequence[Refusal]]
"""The time, the first moment at which a charge fits, and the windows that have no room until then.
"""


class _Logs(dict[int, EventLog]):
    """The logs of one subject by unit; a missing one is made when it is looked up."""

    __slots__ = ("_floor", "_undo")

    def __init__(self, floor: int, undo: UndoList) -> None:
        super().__init__()
        self._floor = floor
        self._undo = undo

    def __missing__(self, unit: int) -> EventLog:
        log = self[unit] = EventLog(self._floor, self._undo)
        return log


class _Members(dict[str, int]):
    """The recipients that a log of unique recipients holds, by the order of their latest change.

    Those before the first that is still needed are forgotten: no more are held than changed within
    a span.
    """

    __slots__ = ("_undo",)

    def __init__(self, undo: UndoList) -> None:
        super().__init__()
        self._undo = undo

    def set(self, member: str, stamp: int | None) -> None:
        """Set the stamp of a recipient, or remove it."""
        self._undo.append((self._replace, (member, self.get(member))))
        self._replace(member, stamp)

    def _replace(self, member: str, stamp: int | None) -> None:
        self.pop(member, None)
        if stamp is not None:
            self[member] = stamp

    def trim(self, cutoff: int) -> None:
        """Forget recipients whose moment is not after `cutoff`."""
        left = []
        for member, stamp in self.items():
            if moment_of_stamp(stamp) > cutoff:
                break
            left.append(member)
        for member in left:
            self.set(member, None)


class SubjectCounts:
    """The counts of one subject of a ledger.

    held: for each unit everything that is held, pending or logged, the allowance included: no
        window can hold more.
    newest: the latest event in any log; nothing is made pending for an earlier moment.
    subject: its name in the ledger.
    retentions: how long the log of each unit must remember.
    ledger, costs, pending: the latest run of pending charges: what each cost, and their moments.
    allowance: how many more of these costs surely fit. Whoever uses one up sets `newest`, and
        then appends its moment to `pending`.
    refusal: how the latest request was refused, as long as nothing has changed since.
    bookings: of a queue, its bookings that were not used yet.
    undo: where each change adds what takes it back.
    """

    __slots__ = (
        "_floor",
        "_logs",
        "_members",
        "_runs",
        "allowance",
        "bookings",
        "costs",
        "held",
        "ledger",
        "newest",
        "pending",
        "refusal",
        "retentions",
        "subject",
        "undo",
    )

    def __init__(
        self, subject: str, floor: int, retentions: Mapping[int, Retention], undo: UndoList
    ) -> None:
        self.subject = subject
        self.undo = undo
        self.retentions = retentions
        self.held = [0] * len(UNITS)
        self.newest = self._floor = floor
        self._logs: _Logs | None = None
        self._runs: list[tuple[Ledger, Costs, list[int]]] | None = None
        """The runs of pending charges before the latest; perhaps the last of them is the latest."""
        self.ledger: Ledger | None = None
        self.costs = NO_COSTS
        self.pending: list[int] = []
        self.allowance = 0
        self.refusal: _RememberedRefusal | None = None
        self.bookings: BookingQueue[Any] | None = None
        self._members: dict[int, _Members] | None = None

    def has_room(self, ledger: Ledger, costs: Costs) -> bool:
        """Return whether a charge fits whatever the times of what is held."""
        held = self.held
        for unit, smallest in ledger.bounds:  # noqa: SIM110 - in half the time
            if held[unit] + costs[unit] > smallest:
                return False
        return True

    def add_pending(
        self, now: int, ledger: Ledger, costs: Costs, undo: UndoList | None = None
    ) -> None:
        """Record a charge at `now`, which is not before `newest`; there is no allowance.

        undo: where to add what takes it back; None if it is the only charge of its message.
        """
        self.newest = now
        self.refusal = None
        if self.costs is not costs or self.ledger is not ledger:
            self._start_run(ledger, costs)
        held = self.held
        for unit, _ in ledger.bounds:
            held[unit] += costs[unit]
        pending = self.pending
        if undo is not None:
            undo.append((_shorten, (pending, len(pending))))
        pending.append(now)
        if len(pending) >= MOST_PENDING:
            self.recount()

    def move_pending(self, receipt: list[Any], now: int) -> bool:
        """Move the charge of a receipt to `now`; return False if it is not in the latest run."""
        previous = receipt[0]
        _, ledger, costs, moment = previous
        pending = self.pending
        if self.costs is not costs or self.ledger is not ledger or now < self.newest:
            return False
        is_latest = bool(pending) and pending[-1] == moment  # nearly always
        if not is_latest and moment not in pending:
            return False
        self.newest = now
        self.refusal = None
        self.undo.append((_put_back, (pending, pending.copy(), receipt, previous)))
        if is_latest:
            pending[-1] = now
        else:
            pending.remove(moment)
            pending.append(now)
        receipt[0] = (self, ledger, costs, now)
        return True

    def make_allowance(self, ledger: Ledger) -> None:
        """Allow as many more of the latest pending costs as surely fit."""
        more = MOST_PENDING - len(self.pending) - 1
        held, costs = self.held, self.costs
        for unit, smallest in ledger.bounds:
            if (cost := costs[unit]) and held[unit] + more * cost > smallest:
                more = (smallest - held[unit]) // cost
        for unit, _ in ledger.bounds:
            held[unit] += more * costs[unit]
        self.allowance = more

    def withdraw_allowance(self) -> None:
        """Take back what is left of the allowance."""
        unused, self.allowance = self.allowance, 0
        if self.ledger is not None:
            for unit, _ in self.ledger.bounds:
                self.held[unit] -= unused * self.costs[unit]

    def is_below(self, marks: Sequence[tuple[int, int]]) -> bool:
        """Return whether no window can hold as much as a mark; the latest run is of their ledger.

        marks: units, each with the lowest mark of its windows.
        """
        held, unused, costs = self.held, self.allowance, self.costs
        for unit, mark in marks:  # noqa: SIM110 - in half the time
            if held[unit] - unused * costs[unit] >= mark:
                return False
        return True

    def forget(self, now: int, ledger: Ledger) -> None:
        """Put pending charges into the logs, and forget what has left every window by `now`."""
        logs = self.logs()
        for count in ledger.counts:
            if count.unit in logs:
                logs[count.unit].forget(now, self.retentions[count.unit])
        self.recount()

    def _start_run(self, ledger: Ledger, costs: Costs) -> None:
        if self.pending:
            if self._runs is None:
                self._runs = self._all_runs()
            elif self.ledger is not None and self._runs[-1][2] is not self.pending:
                self._runs.append((self.ledger, self.costs, self.pending))
            # Without a ledger, no charge is taken for one of the latest run until this has ended.
            self.ledger = None
            self.pending = []
            if len(self._runs) >= MOST_PENDING // 2:
                self.recount()
        self.ledger = None
        self.costs = costs
        self.ledger = ledger

    def refuse(self, now: int, ledger: Ledger, costs: Costs) -> QuickRefusal | None:
        """Return how a charge is refused, with what is pending left where it is.

        Returns None if there is room, or if only the logs with all charges can tell. A refusal is
        remembered: the same charge is refused again until something changes. There must not be an
        allowance.
        """
        if self.refusal is not None:
            refused_ledger, refused_costs, since, at, refusals = self.refusal
            if refused_costs is costs and refused_ledger is ledger and since <= now < at:
                if len(refusals) > 1:  # one alone lasts until `at`
                    refusals = [each for each in refusals if each[2] > now]
                return now, at, refusals
        refusals = self._refusals(now, ledger, costs)
        if not refusals:
            return None
        # Without bookings a window that has room keeps it, so the last one to have room decides.
        at = refusals[0][2] if len(refusals) == 1 else max(each[2] for each in refusals)
        self.refusal = ledger, costs, now, at, refusals
        return now, at, refusals

    def _refusals(self, now: int, ledger: Ledger, costs: Costs) -> list[Refusal]:
        """Return the windows without room for a charge.

        An empty list also among bookings, where room may come and go, or if a pending charge is
        before one whose time has come; if refused attempts count, because each changes something;
        for unique recipients; and for a cost that is spread.
        """
        refusals: list[Refusal] = []
        if ledger.counts_denied or now < self.newest:
            return refusals
        held = self.held
        for count in ledger.counts:
            unit = count.unit
            cost = costs[unit]
            if not cost or held[unit] + cost <= count.smallest:
                continue
            log = None if self._logs is None else self._logs.get(unit)
            if (
                count.is_unique
                or cost > count.smallest
                or (log is not None and log.last_booking(self._oldest_pending(now)) is not None)
            ):
                return []
            charged = self._charged(unit, ledger)
            for number, window in enumerate(count.windows):
                at = _room_at(now, window.limit - cost, window, charged, log)
                if at > now:
                    refusals.append((count, number, at))
        return refusals

    def _oldest_pending(self, now: int) -> int:
        """Return the time of the first pending charge; `now` if there is none."""
        return next((moments[0] for _, _, moments in self._all_runs() if moments), now)

    def _charged(self, unit: int, ledger: Ledger) -> list[tuple[int, list[int]]]:
        """Return the runs of pending charges of a unit: what each charge costs, and when."""
        if self._runs is None and self.ledger is ledger:
            return [(self.costs[unit], self.pending)]
        return [
            (costs[unit], moments)
            for run_ledger, costs, moments in self._all_runs()
            if costs[unit] and run_ledger.has_unit(unit)
        ]

    @property
    def has_events(self) -> bool:
        """Whether anything is held, refused attempts and bookings included."""
        return any(self.held)

    def logs(self) -> dict[int, EventLog]:
        """Return the log of each unit with all charges; call `recount` after a change."""
        self.refusal = None
        if self.allowance:
            self.withdraw_allowance()
        if self.pending or self._runs or self._logs is None:
            return self._flush()
        return self._logs

    def members(self, unit: int) -> _Members:
        """Return the recipients that the log of a unit of unique recipients holds."""
        if self._members is None:
            self._members = {}
        if unit not in self._members:
            self._members[unit] = _Members(self.undo)
        return self._members[unit]

    def _flush(self) -> dict[int, EventLog]:
        """Put pending charges into the logs."""
        if self._logs is None:
            self._logs = _Logs(self._floor, self.undo)
        runs = self._all_runs()
        self.save()
        for ledger, costs, moments in runs:
            times = Counter(moments)
            for count in ledger.counts:
                if cost := costs[count.unit]:
                    self._logs[count.unit].extend(times, cost, self.retentions[count.unit])
        self._runs = None
        self.pending = []
        return self._logs

    def _all_runs(self) -> list[tuple[Ledger, Costs, list[int]]]:
        """Return all runs of pending charges, the latest one included."""
        runs = self._runs or []
        if not self.pending or self.ledger is None or (runs and runs[-1][2] is self.pending):
            return runs
        return [*runs, (self.ledger, self.costs, self.pending)]

    def save(self) -> None:
        """Add to `undo` what takes a change of the numbers and runs back.

        Not needed where the logs are only added to: the numbers may then stay as they are.
        """
        state = self.held.copy(), self.newest, self._runs, self.ledger, self.costs, self.pending
        self.undo.append((SubjectCounts._restore, (self, *state)))

    def _restore(
        self,
        held: list[int],
        newest: int,
        runs: list[tuple[Ledger, Costs, list[int]]] | None,
        ledger: Ledger | None,
        costs: Costs,
        pending: list[int],
    ) -> None:
        self.refusal = None
        self.allowance = 0
        self.held[:] = held
        self.newest = newest
        self._runs, self.ledger, self.costs, self.pending = runs, ledger, costs, pending

    def recount(self) -> None:
        """Take `held` and `newest` from the logs."""
        for unit, log in self.logs().items():
            self.newest = max(self.newest, log.newest)
            self.held[unit] = log.held

    def add_booking(self, booking: Any, number: int | None, *, oldest: int) -> int:
        """Add a booking to this queue, by default at its end, and return its number.

        oldest: bookings that were never used, and whose last event is not later, are dropped.
        """
        if self.bookings is None:
            self.bookings = BookingQueue()
        bookings = self.bookings
        while (first := bookings.first()) is not None and first.at <= oldest:
            if first.last > oldest:
                break
            self.remove_booking(first.number)
        if number is None:
            number = next(_booking_numbers)
        self.undo.append((bookings.remove, (number,)))
        bookings.add(number, booking)
        return number

    def first_number(self) -> int:
        """Return a number ahead of all in this queue, also of those of forgotten bookings."""
        return next(_numbers_ahead)

    def remove_booking(self, number: int) -> bool:
        """Remove a booking from this queue; return whether it was still there."""
        if self.bookings is None or number not in self.bookings:
            return False
        self.undo.append((self.bookings.put_back, (number, self.bookings[number])))
        self.bookings.remove(number)
        return True

    def idle_from(self, span: int) -> int:
        """Return the first moment from which nothing here can matter to a window of `span`."""
        # Pending charges stand no later than `newest`. A booking that is spread has later events
        # than its queue: until they have left, it may not be missing behind other bookings.
        logs = (self._logs or {}).values()
        last: int = max((booking.last for booking in self.bookings or ()), default=self.newest)
        return max([self.newest + span, last + span, *(log.idle_from(span) for log in logs)])


def _room_at(
    now: int, room: int, window: Window, charged: list[tuple[int, list[int]]], log: EventLog | None
) -> int:
    """Return from when on a window holds `room` or less; not after `now` if it does so already.

    charged: the runs of pending charges, each with its cost. log: what was charged before them.
    """
    for cost, moments in reversed(charged):
        if cost * len(moments) > room:
            return window.expiry(moments[-1 - room // cost])
        room -= cost * len(moments)
    return now if log is None else log.earliest(now, window.limit - room, window)


def _shorten(moments: list[int], length: int) -> None:
    del moments[length:]


def _put_back(
    moments: list[int], previous: list[int], receipt: list[Any], charge: tuple[Any, ...]
) -> None:
    moments[:] = previous
    receipt[0] = charge
