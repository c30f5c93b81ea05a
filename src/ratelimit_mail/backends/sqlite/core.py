"""What a backend does inside a transaction on the file: each function is one operation.

The decisions are those of `ratelimit_mail.backends.transaction`, as in memory.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from sqlite3 import Cursor
from struct import Struct
from typing import Final, NamedTuple

import attrs

from ratelimit_mail.backends.base import (
    TAKE,
    Idempotency,
    Intent,
    Message,
    Reading,
    Refusal,
    Register,
    Verdict,
    refusal_numbers,
    refusals_from_numbers,
    verdict,
)
from ratelimit_mail.backends.ranking import Ranking
from ratelimit_mail.backends.sqlite.event_tree import (
    CHUNK,
    integers_to_bytes,
    node_numbers,
    unpack_integers,
)
from ratelimit_mail.backends.sqlite.session import (
    FORGOTTEN_TOGETHER,
    SELECT_NEW,
    SELECT_SUBJECT,
    Event,
    LedgerNumbers,
    Rows,
    Session,
    StoredCounts,
    events_of,
    pack_events_of,
    unpack_events,
)
from ratelimit_mail.backends.sqlite.stored_log import (
    CHANGING,
    HEADER,
    StoredLog,
    logs_of_subject,
    size_of_log,
)
from ratelimit_mail.backends.transaction import (
    BookingReceipt,
    SubjectCharge,
    Transaction,
    refund,
)
from ratelimit_mail.counting.charge import Charge, Count, Ledger
from ratelimit_mail.counting.event_log import FIRST_COMPACTION, LONG_AGO

__all__ = ["Core", "Receipt"]

TOTAL: Final = Struct("<q")
EVENT: Final = Struct("<qq")
FIRST_LOG: Final = Struct("<BBIqqqIIIIqqqqqqqqq")
"""A header, and the first event with the totals before and after it."""
FIRST_FIELDS: Final = Struct("<BBIqqqIIIIqqqq")
"""The fields of a header that decide whether an event may be added without unpacking."""

AGE: Final = 3_600_000
"""For how many milliseconds more than needed a subject is remembered, at least."""

RANKED_TOGETHER: Final = 1000
"""How many subjects one transaction looks at to find those that hold most."""

FREE_PAGES: Final = 256
"""So many unused pages of the file may be left, or a quarter of it."""

MOST_REFUSALS: Final = 256
"""So many refusals are remembered, each with the logs of its subject."""

NO_NUMBER: Final = -(1 << 62)
"""Stands for the number of a booking that does not stand in its queue."""


@attrs.define(eq=False)
class Receipt:
    """What one message was charged.

    charges: as the caller charged it. events: what each count was charged, and when.
    queue: of a booking, the charge of its queue. queue_number: the number of the queue's subject.
    at, number: the booked time and the number in the queue; None while it does not stand there.
    token: of an answer that is remembered; what it was charged is then in the file.
    """

    charges: Sequence[Charge]
    events: Sequence[Event]
    queue: Charge | None = None
    queue_number: int = 0
    at: int = 0
    number: int | None = None
    token: int = 0

    def pack(self) -> bytes:
        """Pack what other callers need to know."""
        number = NO_NUMBER if self.number is None else self.number
        return integers_to_bytes(array("q", (self.queue_number, self.at, number))) + (
            pack_events_of(self.events)
        )

    def become(self, other: Receipt) -> None:
        """Take over what another receipt was charged, so that whoever has this one can refund it.

        A task that is cancelled while its message is settled gets no answer.
        """
        self.charges, self.events, self.queue_number = (
            other.charges,
            other.events,
            other.queue_number,
        )
        self.at, self.number = other.at, other.number

    def with_record(self, record: bytes) -> Receipt:
        """Return the receipt with what `pack` has packed."""
        queue_number, at, number = unpack_integers(record[:24])
        return attrs.evolve(
            self,
            events=unpack_events(record[24:]),
            queue_number=queue_number,
            at=at,
            number=None if number == NO_NUMBER else number,
        )


class _Refused(NamedTuple):
    """A refusal, which stays the same until the logs have changed, or there is room.

    packed: the logs. since, at: when it was made, and when there is room.
    """

    packed: bytes
    ledger: Ledger
    costs: Sequence[int]
    since: int
    at: int
    refusals: Sequence[Refusal]

    def holds(self, packed: bytes, ledger: Ledger, costs: Sequence[int], now: int) -> bool:
        """Return whether these costs are refused for the same reasons."""
        return (
            self.since <= now < self.at
            and self.ledger is ledger
            and self.costs == costs
            and self.packed == packed
        )

    def again(self, now: int) -> Verdict:
        """Return the same verdict at a later moment."""
        return verdict(now, self.at, None, [each for each in self.refusals if each[2] > now])


class Core:
    """The operations of a backend.

    clock: returns integer milliseconds since the epoch. It is read inside the transaction, so that
    times are in the order of the transactions.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._ledgers: LedgerNumbers = {}
        self._new_ledgers: list[LedgerNumbers] = []
        self._moved: list[tuple[Receipt, Receipt]] = []
        """Receipts of callers, and what they are once the transaction is committed."""
        self._refusals: dict[int, _Refused] = {}
        """The latest refusals of messages with one charge, by the number of the subject."""
        self._effort = 63  # a process may live for one message

    def committed(self) -> None:
        """Note that what the last operation has stored is in the file."""
        for ledgers in self._new_ledgers:
            self._ledgers.update(ledgers)
        for receipt, moved in self._moved:
            receipt.become(moved)
        self._new_ledgers.clear()
        self._moved.clear()

    def rolled_back(self) -> None:
        """Note that what the last operation has stored is not in the file."""
        self._new_ledgers.clear()
        self._moved.clear()

    def reconnected(self) -> None:
        """Note that the file may be another."""
        self._ledgers = {}
        self._new_ledgers.clear()
        self._refusals.clear()

    def _session(self, cursor: Cursor, rows: Rows | None = None) -> Session:
        if self._new_ledgers:
            known = dict(self._ledgers)
            for ledgers in self._new_ledgers:
                known.update(ledgers)
            return Session(cursor, known, rows)
        return Session(cursor, self._ledgers, rows)

    def _save(self, session: Session, now: int) -> None:
        session.save()
        if session.new_ledgers:
            self._new_ledgers.append(session.new_ledgers)
        self._count_change(session.cursor, now, session.new_rows)

    def _count_change(self, cursor: Cursor, now: int, new_rows: int = 0) -> None:
        """Tidy up now and then: the more often, the more subjects are new."""
        self._effort += 1 + 16 * new_rows
        if self._effort >= 64:
            self._effort = 0
            self._tidy(cursor, now)

    def apply(self, cursor: Cursor, charges: Sequence[Charge], intent: Intent) -> Verdict:
        """Charge all of `charges` or none, as `intent` says."""
        now = self._clock()
        rows: Rows = {}
        if intent is TAKE:
            answer = self._take_simply(cursor, charges, now, rows)
            if answer is not None:
                return answer
        session = self._session(cursor, rows)
        if intent.idempotency is not None:
            previous = self._recall(cursor, intent.idempotency, charges, intent.queue, now)
            if previous is not None:
                return previous
            if intent.recall:
                return verdict(now, now, None)
        if intent.record:
            session.add_ledgers(ledger.name for ledger, _, _ in charges)
        answer = self._decide(session, self._subject_charges(session, charges, now), intent, now)
        if not intent.record:
            return answer
        self._save(session, now)
        if answer.receipt is not None:
            answer = answer._replace(receipt=self._receipt(answer.receipt, charges, intent.queue))
        if intent.idempotency is not None:
            answer = self._remember(cursor, intent.idempotency, charges, answer)
            self._effort += 16
        return answer

    def _take_simply(
        self, cursor: Cursor, charges: Sequence[Charge], now: int, rows: Rows
    ) -> Verdict | None:
        """Charge what needs no more than an event at the end of each log, or refuse it.

        Returns None if more than that is needed. As case 1 of `MemoryBackend.apply`: if everything
        held leaves room, whatever its times, no log is looked at. What has left its window is
        forgotten later. A refusal writes nothing.

        rows: gets the rows that were read.
        """
        ledgers = self._ledgers
        execute = cursor.execute
        updates: list[tuple[bytes, int]] = []
        inserts: list[tuple[int, int, str, bytes, int]] = []
        events: list[Event] = []
        refusals: list[Refusal] = []
        for ledger, subject, costs in charges:
            ledger_number = ledgers.get(ledger.name)
            if ledger_number is None:
                return None
            key = (ledger_number, subject)
            row = execute(SELECT_SUBJECT, key).fetchone()
            if row is None:
                if any(insert[1:3] == key for insert in inserts):
                    return None
                floor, number = execute(SELECT_NEW, (ledger_number,)).fetchone()
                number += len(inserts)
                if floor > now:
                    return None
                logs = _first_events(ledger.counts, costs, now, number, events)
                if not logs:
                    return None
                inserts.append((number, *key, logs, now + 2 * ledger.span))
                continue
            rows[key] = row
            number, packed, expires = row
            if len(charges) == 1 and number in self._refusals:
                refusal = self._refusals[number]
                if refusal.holds(packed, ledger, costs, now):
                    return refusal.again(now)
            if now + ledger.span > expires:
                return None
            logs = _with_event(cursor, packed, ledger, costs, now, number, events, refusals)
            if logs is None:
                return None
            updates.append((logs, number))
        if refusals:
            for ledger, _, _ in charges:
                if ledger.counts_denied:
                    return None
            at = max([room_at for _, _, room_at in refusals])
            if len(charges) == 1:
                if len(self._refusals) >= MOST_REFUSALS:
                    self._refusals.clear()
                self._refusals[number] = _Refused(packed, ledger, costs, now, at, refusals)
            return verdict(now, at, None, refusals)
        for update in updates:
            execute("UPDATE subject SET logs=? WHERE id=?", update)
        for insert in inserts:
            execute("INSERT INTO subject VALUES(?,?,?,?,?)", insert)
        self._count_change(cursor, now, len(inserts))
        return verdict(now, now, Receipt(charges, events))

    def apply_many(self, cursor: Cursor, messages: Sequence[Message]) -> list[Verdict]:
        """Call `apply` for each of several messages, in order: all of them or none."""
        return [self.apply(cursor, charges, intent) for charges, intent in messages]

    def _decide(
        self,
        session: Session,
        subject_charges: Sequence[SubjectCharge[StoredCounts]],
        intent: Intent,
        now: int,
    ) -> Verdict:
        transaction = Transaction(subject_charges, now)
        if intent.refused:
            transaction.count_refused()
            return Verdict(now, now)
        if intent.queue is None:
            return transaction.take(record=intent.record)
        ledger, subject, costs = intent.queue
        session.add_ledgers([ledger.name])
        queue = (session.counts(ledger, subject), ledger, costs, now)
        return transaction.book(queue, intent.max_delay)

    @staticmethod
    def _subject_charges(
        session: Session, charges: Sequence[Charge], now: int
    ) -> list[SubjectCharge[StoredCounts]]:
        """Return charges with the counts of their subjects."""
        return [
            (session.counts(ledger, subject), ledger, costs, now)
            for ledger, subject, costs in charges
        ]

    @staticmethod
    def _receipt(
        charged: Sequence[SubjectCharge[StoredCounts]],
        charges: Sequence[Charge],
        queue: Charge | None,
    ) -> Receipt:
        """Return the receipt of what was charged, once its subjects are stored."""
        receipt = Receipt(charges, events_of(charged), queue)
        if isinstance(charged, BookingReceipt):
            counts, _, _, receipt.at = charged.queue
            receipt.queue_number, receipt.number = counts.number, charged.number
        return receipt

    # Answers that are remembered.

    @staticmethod
    def _recall(
        cursor: Cursor,
        idempotency: Idempotency,
        charges: Sequence[Charge],
        queue: Charge | None,
        now: int,
    ) -> Verdict | None:
        """Return the answer to an earlier request, seen from `now`; None if there is none."""
        row = cursor.execute(
            "SELECT token, until, moment, refusals, record FROM answer WHERE name=?",
            (idempotency.name,),
        ).fetchone()
        if row is None or now >= row[1]:
            return None
        token, _, at, refused, record = row
        numbers = iter(unpack_integers(refused))
        refusals = refusals_from_numbers(zip(numbers, numbers, numbers, strict=True), charges)
        receipt = None
        if record is not None:
            receipt = Receipt(charges, (), queue, token=token).with_record(record)
        return Verdict(now, max(now, at), receipt, refusals, repeated=True)

    @staticmethod
    def _remember(
        cursor: Cursor,
        idempotency: Idempotency,
        charges: Sequence[Charge],
        answer: Verdict,
    ) -> Verdict:
        """Remember an answer, a refusal for no longer than until it is worth asking again."""
        now, at, receipt, refusals, *_ = answer
        until = now + idempotency.lifetime
        if refusals:
            until = min(until, at)
        elif at > now:  # a booking
            until = at + idempotency.lifetime
        span = max((ledger.span for ledger, _, _ in charges), default=0)
        numbers = [n for each in refusal_numbers(refusals, charges) for n in each]
        cursor.execute("UPDATE answer SET name=NULL WHERE name=?", (idempotency.name,))
        cursor = cursor.execute(
            "INSERT INTO answer(name, until, moment, refusals, record, refunded, expires)"
            " VALUES(?,?,?,?,?,0,?)",
            (
                idempotency.name,
                until,
                at,
                integers_to_bytes(array("q", numbers)),
                None if receipt is None else receipt.pack(),
                until if receipt is None else max(until, at + span),
            ),
        )
        if receipt is not None:
            receipt.token = cursor.lastrowid or 0
        return answer

    @staticmethod
    def _current(cursor: Cursor, receipt: Receipt) -> tuple[Receipt, bool]:
        """Return a receipt with what it is charged now, and whether that was refunded already."""
        if not receipt.token:
            return receipt, False
        row = cursor.execute(
            "SELECT record, refunded FROM answer WHERE token=?", (receipt.token,)
        ).fetchone()
        if row is None:  # forgotten, because nothing of it can matter
            return attrs.evolve(receipt, events=()), False
        return receipt.with_record(row[0]), bool(row[1])

    @staticmethod
    def _store(cursor: Cursor, receipt: Receipt, now: int) -> None:
        """Store what a receipt is charged now, for every caller that has it."""
        if not receipt.token:
            return
        span = max((ledger.span for ledger, _, _ in receipt.charges), default=0)
        expires = max([now, *(moment for _, _, moment, *_ in receipt.events)]) + span
        record = receipt.pack()
        cursor = cursor.execute(
            "UPDATE answer SET record=?, refunded=0, expires=max(expires,?) WHERE token=?",
            (record, expires, receipt.token),
        )
        if not cursor.rowcount:
            cursor.execute(
                "INSERT INTO answer VALUES(?,NULL,?,?,x'',?,0,?)",
                (receipt.token, now, receipt.at, record, expires),
            )

    # What was charged is taken out or moved.

    @staticmethod
    def _charged(
        session: Session, receipt: Receipt
    ) -> list[SubjectCharge[StoredCounts]] | BookingReceipt[StoredCounts]:
        """Return what a receipt was charged, as `refund` takes it out."""
        if receipt.number is None:
            return [*session.charges_of(receipt.events)]
        queue = session.counts_of_number(receipt.queue_number)
        booking = session.booking(receipt.events, queue, receipt.at)
        booking.number = receipt.number
        return booking

    def refund(self, cursor: Cursor, receipt: Receipt) -> None:
        """Take the charges of a receipt out."""
        receipt, is_refunded = self._current(cursor, receipt)
        if is_refunded:
            return
        session = self._session(cursor)
        if receipt.token:
            cursor.execute(
                "UPDATE answer SET refunded=1, name=NULL WHERE token=?", (receipt.token,)
            )
        refund([self._charged(session, receipt)])
        self._save(session, self._clock())

    def settle(self, cursor: Cursor, receipt: Receipt, charges: Sequence[Charge] | None) -> None:
        """Move the charges of a receipt to the present; the receipt is changed."""
        now = self._clock()
        current, is_refunded = self._current(cursor, receipt)
        if charges is None:
            charges = current.charges
        session = self._session(cursor)
        session.add_ledgers(ledger.name for ledger, _, _ in charges)
        subject_charges = self._subject_charges(session, charges, now)
        if not is_refunded:
            refund([self._charged(session, current)])
        charged = Transaction(subject_charges, now).charge(now)
        self._save(session, now)
        current = attrs.evolve(current, charges=charges, events=events_of(charged), number=None)
        self._store(cursor, current, now)
        self._moved.append((receipt, current))

    def redeem(self, cursor: Cursor, receipt: Receipt, charges: Sequence[Charge]) -> Verdict:
        """Use a booking now if it fits now, or book it anew."""
        if receipt.queue is None:
            raise TypeError("the receipt of a booking is needed")
        now = self._clock()
        current, is_refunded = self._current(cursor, receipt)
        if is_refunded:  # another caller has taken its charges out
            current = attrs.evolve(current, events=(), number=None)
        session = self._session(cursor)
        queue_ledger, subject, costs = receipt.queue
        session.add_ledgers([queue_ledger.name, *(ledger.name for ledger, _, _ in charges)])
        subject_charges = self._subject_charges(session, charges, now)
        # The queue may have been reset or forgotten since.
        queue = session.counts(queue_ledger, subject)
        old_queue = session.counts_of_number(current.queue_number) if current.number else queue
        booking: BookingReceipt[StoredCounts] = BookingReceipt(
            session.charges_of(current.events), (old_queue, queue_ledger, costs, current.at)
        )
        booking.number = current.number
        answer = Transaction(subject_charges, now).redeem(booking, queue)
        self._save(session, now)
        current = self._receipt(booking, charges, receipt.queue)
        current.token = receipt.token
        self._store(cursor, current, now)
        self._moved.append((receipt, current))
        return answer._replace(receipt=receipt)

    # Reading and resetting.

    def usage(self, cursor: Cursor, ledger: Ledger, subject: str) -> list[list[Reading]]:
        """Return the reading of each window of each of the ledger's counts, for one subject."""
        now = self._clock()
        logs = self._session(cursor).counts(ledger, subject).logs()
        return [
            [
                Reading(
                    log.used(now, window),
                    log.remaining(now, window),
                    log.empty_at(now, window) - now,
                )
                for window in count.windows
            ]
            for count in ledger.counts
            for log in [logs[count.unit]]
        ]

    def rank(self, cursor: Cursor, ledger: Ledger, ranking: Ranking, after: int) -> int | None:
        """Add to a ranking the next subjects of a ledger; return after which number to go on.

        None if there are no more. A log whose header shows that it holds no more than the ranking
        asks for is not unpacked.
        """
        now = self._clock()
        session = self._session(cursor)
        number = session.ledger(ledger.name)
        limit_of = {count.unit: count.smallest for count in ledger.counts if count.windows}
        rows = cursor.execute(
            "SELECT id, name, logs, expires, ledger FROM subject WHERE id>? ORDER BY id LIMIT ?",
            (after, RANKED_TOGETHER),
        ).fetchall()
        for row_number, name, packed, expires, row_ledger in rows:
            if row_ledger != number or expires <= now:
                continue
            counts = StoredCounts(session, number, name, (row_number, packed, expires))
            counts.use(ledger)
            if not any(
                unit in limit_of and held > ranking.threshold * limit_of[unit]
                for unit, held in counts.held_by_unit()
            ):
                continue
            logs = counts.logs()
            for count in ledger.counts:
                for window in count.windows:
                    used = logs[count.unit].used(now, window)
                    ranking.add(name, used / window.limit)
        return rows[-1][0] if len(rows) == RANKED_TOGETHER else None

    def reset(self, cursor: Cursor, ledgers: Sequence[Ledger], subject: str) -> None:
        """Forget everything that was counted for one subject, in every unit."""
        for ledger in ledgers:
            rows = cursor.execute(
                "SELECT id FROM subject WHERE name=?"
                " AND ledger=(SELECT id FROM ledger WHERE name=?)",
                (subject, ledger.name),
            ).fetchall()
            for [number] in rows:
                _delete_subject(cursor, number)
                cursor.execute(
                    "DELETE FROM member WHERE log BETWEEN ? AND ?", logs_of_subject(number)
                )
                cursor.execute(
                    "DELETE FROM log_node WHERE id BETWEEN ? AND ?",
                    node_numbers(*logs_of_subject(number)),
                )
                cursor.execute("DELETE FROM booking WHERE queue=?", (number,))

    def read_register(self, cursor: Cursor, name: str) -> Register:
        """Return all entries of a register."""
        rows = cursor.execute("SELECT key, text FROM register WHERE name=?", (name,))
        return Register(self._clock(), dict(rows.fetchall()))

    @staticmethod
    def write_register(cursor: Cursor, name: str, changes: Mapping[str, str | None]) -> None:
        """Set entries of a register, or remove those that are None."""
        for key, text in changes.items():
            if text is None:
                cursor.execute("DELETE FROM register WHERE name=? AND key=?", (name, key))
            else:
                cursor.execute("INSERT OR REPLACE INTO register VALUES(?,?,?)", (name, key, text))

    # What is not needed is forgotten, a little at a time.

    def _tidy(self, cursor: Cursor, now: int) -> None:
        """Forget a few subjects and answers that cannot matter, and shrink the file a little."""
        execute = cursor.execute
        limit = min(now, self._idle_before(cursor, now))
        rows = execute(
            "SELECT id, ledger, expires FROM subject WHERE expires<=? ORDER BY expires LIMIT 16",
            (limit,),
        ).fetchall()
        for number, ledger, expires in rows:
            nodes = execute(
                "DELETE FROM log_node WHERE id IN"
                " (SELECT id FROM log_node WHERE id BETWEEN ? AND ? LIMIT 64)",
                node_numbers(*logs_of_subject(number)),
            )
            members = execute(
                "DELETE FROM member WHERE (log, digest) IN"
                " (SELECT log, digest FROM member WHERE log BETWEEN ? AND ? LIMIT ?)",
                (*logs_of_subject(number), FORGOTTEN_TOGETHER),
            )
            if nodes.rowcount < 64 and members.rowcount < FORGOTTEN_TOGETHER:
                execute("DELETE FROM booking WHERE queue=?", (number,))
                _delete_subject(cursor, number)
                execute("UPDATE ledger SET floor=max(floor,?) WHERE id=?", (expires, ledger))
        execute(
            "DELETE FROM answer WHERE token IN"
            " (SELECT token FROM answer WHERE expires<=? ORDER BY expires LIMIT 16)",
            (limit,),
        )
        [free] = execute("PRAGMA freelist_count").fetchone()
        if free > FREE_PAGES:
            [pages] = execute("PRAGMA page_count").fetchone()
            if free > pages // 4:
                execute(f"PRAGMA incremental_vacuum({FREE_PAGES // 4})").fetchall()

    @staticmethod
    def _idle_before(cursor: Cursor, now: int) -> int:
        """Return a moment that has passed for at least `AGE`, whatever the clock has done.

        A clock that goes far ahead for a while makes no subject idle.
        """
        times = dict(cursor.execute("SELECT name, value FROM sequence").fetchall())
        aged_at, idle_before = times["aged at"], times["idle before"]
        if now < aged_at or now - aged_at >= AGE:
            idle_before = min(aged_at, now)
            cursor.executemany(
                "UPDATE sequence SET value=? WHERE name=?",
                [(now, "aged at"), (idle_before, "idle before")],
            )
        return int(idle_before)


def _delete_subject(cursor: Cursor, number: int) -> None:
    """Delete a subject, whose number is never used again."""
    cursor.execute("DELETE FROM subject WHERE id=?", (number,))
    cursor.execute("UPDATE sequence SET value=max(value,?) WHERE name='subject'", (number,))


def _first_events(
    counts: Iterable[Count], costs: Sequence[int], now: int, number: int, events: list[Event]
) -> bytes | None:
    """Return packed logs with their first event, or None if it is not simple.

    events: gets what each log was charged.
    """
    pieces: list[bytes] = []
    for count in counts:
        unit = count.unit
        if cost := costs[unit]:
            if cost > count.smallest or count.is_unique:  # it is spread, or never fits
                return None
            needed = count.retention
            pieces.append(
                FIRST_LOG.pack(
                    *(unit, 0, 1, now, cost, now, 0, 0, 0, 0, FIRST_COMPACTION),
                    *(needed.span, needed.slot, needed.ceiling, LONG_AGO, LONG_AGO),
                    *(0, now, cost),
                )
            )
            events.append((number, unit, now, cost, ()))
    return b"".join(pieces)


def _with_event(
    cursor: Cursor,
    packed: bytes,
    ledger: Ledger,
    costs: Sequence[int],
    now: int,
    number: int,
    events: list[Event],
    refusals: list[Refusal],
) -> bytes | None:
    """Return packed logs with an event at their ends, or None if it is not simple.

    Simple is an event after all others, in logs without refused attempts. Not of unique recipients,
    of which some may be counted already.

    events: gets what each log was charged. refusals: gets the windows without room for it; what is
    returned is then of no use.
    """
    needed = {count.unit: count for count in ledger.counts if costs[count.unit]}
    before = len(refusals)
    pieces: list[bytes] = []
    start, size = 0, len(packed)
    while start < size:
        fields = FIRST_FIELDS.unpack_from(packed, start)
        unit, has_attempts, tail, newest, held, last, sealed, _, header_rest = fields[:9]
        compact_at, span, slot, ceiling = fields[10:]
        end = start + size_of_log(tail, has_attempts, header_rest)
        count = needed.pop(unit, None)
        if count is None:
            pieces.append(packed[start:end])
            start = end
            continue
        cost = costs[unit]
        held += cost
        retention = count.retention
        if (
            has_attempts
            or not last <= now >= newest
            or not 0 < tail < 2 * CHUNK - 1
            or sealed + tail + 1 >= compact_at
            or span < retention.span
            or retention.slot % slot
            or ceiling < retention.ceiling
            or cost > count.smallest  # it is spread
            or count.is_unique
        ):
            return None
        [total] = TOTAL.unpack_from(packed, end - 8)
        if held > count.smallest:
            latest = unpack_integers(packed[start + HEADER.size + header_rest : end])
            log = None
            for i, window in enumerate(count.windows):
                if held > window.limit:
                    cutoff = window.cutoff(now)
                    if not sealed or cutoff >= latest[1]:
                        used = total - latest[2 * bisect_right(latest[1::2], cutoff)]
                        if used + cost <= window.limit:
                            continue
                    if log is None:
                        log = StoredLog.unpack(cursor, number, packed, start, retention)
                    room_at = log.earliest(now, cost, window)
                    if room_at > now:
                        refusals.append((count, i, room_at))
        rest = start + CHANGING.size
        if last == now:
            pieces += (
                CHANGING.pack(unit, 0, tail, now, held, now),
                packed[rest : end - 8],
                TOTAL.pack(total + cost),
            )
        else:
            pieces += (
                CHANGING.pack(unit, 0, tail + 1, now, held, now),
                packed[rest:end],
                EVENT.pack(now, total + cost),
            )
        events.append((number, unit, now, cost, ()))
        start = end
    if needed:
        first = _first_events(needed.values(), costs, now, number, events)
        if first is None:
            return None
        pieces.append(first)
    if len(refusals) > 1:
        units = [count.unit for count in ledger.counts]
        refusals[before:] = sorted(refusals[before:], key=lambda each: units.index(each[0].unit))
    return b"".join(pieces)
