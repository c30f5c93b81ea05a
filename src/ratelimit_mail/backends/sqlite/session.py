"""Session: what one transaction reads and changes of the counts in the file."""

from __future__ import annotations

from array import array
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from sqlite3 import Cursor
from typing import Final

from ratelimit_mail.backends.sqlite.event_tree import (
    EventTree,
    integers_to_bytes,
    unpack_integers,
)
from ratelimit_mail.backends.sqlite.stored_log import HEADER, StoredLog, log_number, size_of_log
from ratelimit_mail.backends.transaction import BookingReceipt, SubjectCharge
from ratelimit_mail.counting.charge import (
    NO_LIMIT,
    ONE_MESSAGE,
    UNITS,
    Costs,
    Count,
    Ledger,
    UniqueCosts,
    costs_of,
)
from ratelimit_mail.counting.event_log import LONG_AGO, UndoList
from ratelimit_mail.counting.members import REPEATS, MemberChange
from ratelimit_mail.counting.window import Retention

__all__ = [
    "FORGOTTEN_TOGETHER",
    "SELECT_NEW",
    "SELECT_SUBJECT",
    "Event",
    "LedgerNumbers",
    "Row",
    "Rows",
    "Session",
    "StoredCounts",
]

Event = tuple[int, int, int, int, tuple[MemberChange, ...]]
"""The number of a subject, a unit, a moment and a cost: what one count was charged.

Last what that has changed for unique recipients, if they are counted.
"""

NOT_HELD: Final = LONG_AGO
"""Stands for the stamp of a recipient that was not held."""

FORGOTTEN_TOGETHER: Final = 1024
"""How many unique recipients are forgotten at a time, at least."""

NOTHING: Final = Retention(0)

ANY_LEDGER: Final = Ledger(
    "", tuple(Count(unit, (), NOTHING) for unit in range(len(UNITS))), NO_LIMIT
)
"""Stands for the ledger of an event: its units are known, its windows do not matter."""

LedgerNumbers = dict[str, int]

Row = tuple[int, bytes, int]
"""The number of a subject, its logs, and until when the file keeps it."""

Rows = dict[tuple[int, str], Row]
"""Rows by the number of their ledger and the name of their subject."""

NEXT_NUMBER: Final = (
    "SELECT max(value, ifnull((SELECT max(id) FROM subject_counts), 0)) + 1"
    " FROM sequence WHERE name='subject'"
)

SELECT_NEW: Final = (
    "SELECT floor, max(value, ifnull((SELECT max(id) FROM subject_counts), 0)) + 1"
    " FROM ledger, sequence WHERE ledger.id=? AND sequence.name='subject'"
)
"""For a new subject: the floor of its ledger, and the next number."""

SELECT_SUBJECT: Final = "SELECT id, logs, expires FROM subject_counts WHERE ledger=? AND name=?"


class _Logs(dict[int, StoredLog]):
    """The logs of one subject by unit; a log is unpacked or made when it is looked up."""

    __slots__ = ("counts",)
    counts: StoredCounts

    def __missing__(self, unit: int) -> StoredLog:
        log = self[unit] = self.counts.open(unit)
        return log


class _Retentions:
    """What the log of each unit must remember."""

    __slots__ = ("_logs",)

    def __init__(self, logs: _Logs) -> None:
        self._logs = logs

    def __getitem__(self, unit: int) -> Retention:
        return self._logs[unit].retention


class StoredMembers:
    """The recipients that a log of unique recipients holds; changes are stored with the log."""

    __slots__ = ("_changes", "_counts", "_cutoff", "_unit")

    def __init__(self, counts: StoredCounts, unit: int) -> None:
        self._counts = counts
        self._unit = unit
        self._changes: dict[str, int | None] = {}
        self._cutoff = LONG_AGO

    def get(self, member: str) -> int | None:
        """Return the stamp of a recipient."""
        if member in self._changes:
            return self._changes[member]
        row = self._counts.execute(
            "SELECT stamp FROM member WHERE log=? AND digest=?", (self._log, member)
        ).fetchone()
        return None if row is None else int(row[0])

    def set(self, member: str, stamp: int | None) -> None:
        """Set the stamp of a recipient, or remove it."""
        self._changes[member] = stamp

    def trim(self, cutoff: int) -> None:
        """Forget recipients whose moment is not after `cutoff`."""
        self._cutoff = cutoff

    @property
    def _log(self) -> int:
        return log_number(self._counts.number, self._unit)

    def store(self) -> None:
        """Store what has changed."""
        execute, log = self._counts.execute, self._log
        for member, stamp in self._changes.items():
            if stamp is None:
                execute("DELETE FROM member WHERE log=? AND digest=?", (log, member))
            else:
                execute("INSERT OR REPLACE INTO member VALUES(?,?,?)", (log, member, stamp))
        if self._cutoff > LONG_AGO:
            execute(
                "DELETE FROM member WHERE log=? AND digest IN"
                " (SELECT digest FROM member WHERE log=? AND stamp<? LIMIT ?)",
                (
                    *(log, log, (self._cutoff + 1) * REPEATS),
                    FORGOTTEN_TOGETHER + 2 * len(self._changes),
                ),
            )
        self._changes.clear()
        self._cutoff = LONG_AGO


class StoredCounts:
    """The counts of one subject in the file; see `ratelimit_mail.backends.transaction.Counts`.

    number: of the subject; 0 if it is not in the file.
    packed: its logs as they are in the file.
    expires: until when the file keeps it.
    """

    __slots__ = (
        "_last_event",
        "_logs",
        "_members",
        "_needed",
        "_session",
        "_starts",
        "expires",
        "floor",
        "is_changed",
        "ledger",
        "name",
        "number",
        "packed",
        "retentions",
    )

    def __init__(
        self,
        session: Session,
        ledger: int,
        name: str,
        row: Row | None,
        floor: int = LONG_AGO,
    ) -> None:
        self._session = session
        self.ledger = ledger
        self.name = name
        self.number, self.packed, self.expires = row or (0, b"", LONG_AGO)
        self.floor = floor
        self.is_changed = False
        self._needed: dict[int, Retention] | None = None
        self._starts: dict[int, tuple[int, int]] | None = None
        self._logs = _Logs()
        self._logs.counts = self
        self.retentions = _Retentions(self._logs)
        self._members: dict[int, StoredMembers] = {}
        self._last_event = LONG_AGO
        """The last event of the bookings that were added, which may be spread over time."""

    def use(self, ledger: Ledger) -> None:
        """Let the logs remember what `ledger` needs."""
        if self._needed is None:
            self._needed = {count.unit: count.retention for count in ledger.counts}
            return
        for count in ledger.counts:
            needed = self._needed.setdefault(count.unit, count.retention)
            if needed is not count.retention:
                self._needed[count.unit] = needed.together_with(count.retention)

    def logs(self) -> Mapping[int, StoredLog]:
        """Return the log of each unit; call `recount` after a change."""
        return self._logs

    def open(self, unit: int) -> StoredLog:
        """Return the log of a unit as it is in the file."""
        needed = NOTHING if self._needed is None else self._needed.get(unit, NOTHING)
        span = self._spans().get(unit)
        if span is None:
            cursor = self._session.cursor
            return StoredLog(EventTree(cursor, log_number(self.number, unit)), self.floor, needed)
        return StoredLog.unpack(self._session.cursor, self.number, self.packed, span[0], needed)

    def _spans(self) -> dict[int, tuple[int, int]]:
        """Return where the log of each unit begins and ends in `packed`."""
        if self._starts is None:
            self._starts = {}
            start, size = 0, len(self.packed)
            while start < size:
                unit, has_attempts, tail, *_ = fields = HEADER.unpack_from(self.packed, start)
                end = start + size_of_log(tail, has_attempts, fields[8])
                self._starts[unit] = (start, end)
                start = end
        return self._starts

    def held_by_unit(self) -> Iterator[tuple[int, int]]:
        """Yield each unit that the file has a log of, and what that log holds."""
        for unit, (start, _) in self._spans().items():
            yield unit, HEADER.unpack_from(self.packed, start)[4]

    @property
    def undo(self) -> UndoList | None:
        """Nothing: the file is rolled back, and with it all changes of this message."""
        return None

    def save(self) -> None:
        """Do nothing: the file is rolled back."""

    def recount(self) -> None:
        """Note that a log has changed."""
        self.is_changed = True

    @property
    def execute(self) -> Callable[..., Cursor]:
        """Run a statement on the file."""
        return self._session.cursor.execute

    def members(self, unit: int) -> StoredMembers:
        """Return the recipients that the log of a unit of unique recipients holds."""
        if unit not in self._members:
            self._members[unit] = StoredMembers(self, unit)
        return self._members[unit]

    def store(self) -> None:
        """Store the logs; a new subject gets its number."""
        if not self.is_changed or (self.number == 0 and not self._has_events()):
            return
        self.is_changed = False
        execute = self._session.cursor.execute
        is_new = self.number == 0
        if is_new:
            [self.number] = execute(NEXT_NUMBER).fetchone()
            for unit, log in self._logs.items():
                log.tree.log = log_number(self.number, unit)
            self._session.new_rows += 1
        idle_from, span = self.idle_from()
        packed = self.packed
        pieces = [
            packed[start:end]
            for unit, (start, end) in self._spans().items()
            if unit not in self._logs
        ]
        for unit, log in self._logs.items():
            log.seal()
            pieces.append(log.pack(unit))
        self.packed = b"".join(pieces)
        self._starts = None
        if is_new:
            self.expires = idle_from + span
            execute(
                "INSERT INTO subject_counts VALUES(?,?,?,?,?)",
                (self.number, self.ledger, self.name, self.expires, self.packed),
            )
        elif idle_from > self.expires:
            self.expires = idle_from + span
            execute(
                "UPDATE subject_counts SET logs=?, expires=? WHERE id=?",
                (self.packed, self.expires, self.number),
            )
        else:
            execute("UPDATE subject_counts SET logs=? WHERE id=?", (self.packed, self.number))
        for members in self._members.values():
            members.store()

    def _has_events(self) -> bool:
        return any(log.held or log.times for log in self._logs.values())

    def idle_from(self) -> tuple[int, int]:
        """Return the first moment from which nothing here matters, and the longest span."""
        idle_from, longest = LONG_AGO, 0
        for unit, (start, _) in self._spans().items():
            if unit not in self._logs:
                fields = HEADER.unpack_from(self.packed, start)
                newest, last, span = fields[3], fields[5], fields[11]
                idle_from = max(idle_from, newest + span, last + span)
                longest = max(longest, span)
        for log in self._logs.values():
            span = log.retention.span
            idle_from = max(idle_from, log.idle_from(span))
            longest = max(longest, span)
        return max(idle_from, self._last_event + longest), longest

    @property
    def bookings(self) -> _StoredQueue:
        """The bookings of this queue that were not used yet."""
        return _StoredQueue(self._session, self)

    def add_booking(
        self, booking: BookingReceipt[StoredCounts], number: int | None, *, oldest: int
    ) -> int:
        """Add a booking to this queue when the session is saved; return its number."""
        execute = self._session.cursor.execute
        while self.number:
            row = execute(
                "SELECT number, moment, events FROM booking WHERE queue=? ORDER BY number LIMIT 1",
                (self.number,),
            ).fetchone()
            if row is None or row[1] > oldest:
                break
            if any(moment > oldest for _, _, moment, *_ in unpack_events(row[2])):
                break
            self.remove_booking(row[0])
        self._last_event = max(self._last_event, booking.last)
        if number is None:
            number = self._next_number()
        self._session.new_bookings.append((self, number, booking))
        return number

    def _next_number(self) -> int:
        execute = self._session.cursor.execute
        execute("UPDATE sequence SET value=value+1 WHERE name='booking'")
        [number] = execute("SELECT value FROM sequence WHERE name='booking'").fetchone()
        return int(number)

    def first_number(self) -> int:
        """Return a number ahead of all in this queue, also of those of forgotten bookings."""
        [first] = self._session.cursor.execute(
            "SELECT min(number) FROM booking WHERE queue=?", (self.number,)
        ).fetchone()
        ahead = -self._next_number()
        # An earlier version counted down from the first number of the queue.
        return ahead if first is None else min(ahead, first - 1)

    def remove_booking(self, number: int) -> bool:
        """Remove a booking from this queue; return whether it was still there."""
        cursor = self._session.cursor.execute(
            "DELETE FROM booking WHERE queue=? AND number=?", (self.number, number)
        )
        return cursor.rowcount > 0


class _StoredQueue:
    """The bookings of a queue in the file; see `ratelimit_mail.backends.booking_queue`."""

    __slots__ = ("_queue", "_session")

    def __init__(self, session: Session, queue: StoredCounts) -> None:
        self._session = session
        self._queue = queue

    def last_ahead(self, booking: BookingReceipt[StoredCounts], now: int) -> int:
        """Return when the last of the bookings ahead of one is due, or `now` if that is later."""
        if booking.number is None:
            condition, bound = "moment<=?", booking.at
        else:
            condition, bound = "number<?", booking.number  # few, if it is due
        [last] = self._session.cursor.execute(
            f"SELECT max(+moment) FROM booking WHERE queue=? AND {condition}",  # noqa: S608
            (self._queue.number, bound),
        ).fetchone()
        return now if last is None else max(now, last)

    def behind(
        self, booking: BookingReceipt[StoredCounts], bound: int
    ) -> Iterator[BookingReceipt[StoredCounts]]:
        """Yield the bookings behind one that are due before `bound`."""
        if booking.number is None:
            condition, place = "moment>?", booking.at
        else:
            condition, place = "+number>?", booking.number
        # The index has the numbers too, so that only the rows that are needed are read.
        rows = self._session.cursor.execute(
            "SELECT number, moment, events FROM booking WHERE queue=? AND number IN"  # noqa: S608
            f" (SELECT number FROM booking WHERE queue=? AND moment<? AND {condition})",
            (self._queue.number, self._queue.number, bound, place),
        )
        for number, moment, events in rows.fetchall():
            other = self._session.booking(unpack_events(events), self._queue, moment)
            other.number = number
            yield other


class Session:
    """The subjects that one transaction has looked up; a second look-up finds the same object.

    ledgers: the numbers of ledgers that are known to be in the file; new ones are in `new_ledgers`.
    rows: what this transaction has read already.
    new_rows: how many subjects were added.
    """

    def __init__(self, cursor: Cursor, ledgers: LedgerNumbers, rows: Rows | None = None) -> None:
        self.cursor = cursor
        self._ledgers = ledgers
        self._rows = rows or {}
        self.new_ledgers: LedgerNumbers = {}
        self._by_name: dict[tuple[int, str], StoredCounts] = {}
        self._by_number: dict[int, StoredCounts] = {}
        self.new_bookings: list[tuple[StoredCounts, int, BookingReceipt[StoredCounts]]] = []
        self.new_rows = 0

    def ledger(self, name: str) -> int:
        """Return the number of a ledger; 0 if it is not in the file."""
        number = self._ledgers.get(name) or self.new_ledgers.get(name)
        if number is None:
            row = self.cursor.execute("SELECT id FROM ledger WHERE name=?", (name,)).fetchone()
            if row is None:
                return 0
            number = self.new_ledgers[name] = int(row[0])
        return number

    def counts(self, ledger: Ledger, subject: str) -> StoredCounts:
        """Return the counts of a subject; new ones if nothing is counted for it."""
        number = self.ledger(ledger.name)
        key = (number, subject) if number else (-1 - len(self._by_name), subject)
        counts = self._by_name.get(key)
        if counts is None:
            row, floor = None, LONG_AGO
            if number:
                row = self._rows.get(key) or self.cursor.execute(SELECT_SUBJECT, key).fetchone()
                if row is None:
                    [floor] = self.cursor.execute(
                        "SELECT floor FROM ledger WHERE id=?", (number,)
                    ).fetchone()
            if row is not None and row[0] in self._by_number:
                counts = self._by_number[row[0]]
            else:
                counts = StoredCounts(self, number, subject, row, floor)
            self._by_name[key] = counts
            if row is not None:
                self._by_number[row[0]] = counts
        counts.use(ledger)
        return counts

    def add_ledgers(self, names: Iterable[str]) -> None:
        """Store ledgers that are not in the file."""
        for name in names:
            if not self.ledger(name):
                cursor = self.cursor.execute(
                    "INSERT INTO ledger(name, floor) VALUES(?,?)", (name, LONG_AGO)
                )
                self.new_ledgers[name] = cursor.lastrowid or 0

    def counts_of_number(self, number: int) -> StoredCounts:
        """Return the counts of a subject by its number; counts for nothing if it is gone."""
        counts = self._by_number.get(number)
        if counts is None:
            row = self.cursor.execute(
                "SELECT id, logs, expires, ledger, name FROM subject_counts WHERE id=?", (number,)
            ).fetchone()
            if row is None:
                counts = _ForgottenCounts(self, 0, "", None)
            else:
                counts = StoredCounts(self, row[3], row[4], row[:3])
                self._by_name[row[3], row[4]] = counts
            self._by_number[number] = counts
        return counts

    def charges_of(self, events: Iterable[Event]) -> Iterator[SubjectCharge[StoredCounts]]:
        """Yield what events were charged, as a transaction refunds it."""
        for number, unit, moment, cost, changes in events:
            costs: Costs = costs_of(unit, cost)
            if changes:
                members = tuple(change.member for change in changes)
                costs = UniqueCosts.of(costs, {unit: members}, {unit: changes})
            yield self.counts_of_number(number), ANY_LEDGER, costs, moment

    def booking(
        self, events: Iterable[Event], queue: StoredCounts, at: int
    ) -> BookingReceipt[StoredCounts]:
        """Return a booking that was charged these events."""
        return BookingReceipt(self.charges_of(events), (queue, ANY_LEDGER, ONE_MESSAGE, at))

    def save(self) -> None:
        """Store everything that has changed."""
        for counts in [*self._by_name.values()]:
            counts.store()
        for counts, number, booking in self.new_bookings:
            counts.store()
            self.cursor.execute(
                "INSERT INTO booking VALUES(?,?,?,?)",
                (counts.number, number, booking.at, pack_events_of(events_of(booking))),
            )
        self.new_bookings.clear()


class _ForgottenCounts(StoredCounts):
    """Stands for counts that were reset or forgotten: what is taken out of them is ignored."""

    __slots__ = ()

    def store(self) -> None:
        """Store nothing."""


def events_of(charges: Iterable[SubjectCharge[StoredCounts]]) -> list[Event]:
    """Return the events of charges whose subjects are stored."""
    return [
        (
            counts.number,
            unit,
            moment,
            cost,
            costs.changes.get(unit, ()) if isinstance(costs, UniqueCosts) else (),
        )
        for counts, _, costs, moment in charges
        for unit, cost in enumerate(costs)
        if cost
    ]


def pack_events_of(events: Sequence[Event]) -> bytes:
    """Pack events, as `unpack_events` reads them.

    A negative cost says that so many changes of unique recipients follow.
    """
    numbers = array("q")
    for number, unit, moment, cost, changes in events:
        numbers.extend((number, unit, moment, -cost if changes else cost))
        for member, stamp, previous in changes:
            numbers.extend(unpack_integers(b64decode(member + "==")))
            numbers.extend((stamp, NOT_HELD if previous is None else previous))
    return integers_to_bytes(numbers)


def unpack_events(data: bytes) -> list[Event]:
    """Return the events that `pack_events_of` has packed."""
    numbers = iter(unpack_integers(data))
    events: list[Event] = []
    for number, unit, moment, cost in zip(numbers, numbers, numbers, numbers, strict=True):
        changes = tuple(_change(numbers) for _ in range(-cost))
        events.append((number, unit, moment, abs(cost), changes))
    return events


def _change(numbers: Iterator[int]) -> MemberChange:
    digest = integers_to_bytes(array("q", (next(numbers), next(numbers))))
    stamp, previous = next(numbers), next(numbers)
    member = b64encode(digest)[:-2].decode()
    return MemberChange(member, stamp, None if previous == NOT_HELD else previous)
