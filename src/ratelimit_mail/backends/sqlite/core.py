"""What a backend does inside a transaction on the file: each function is one operation.

The decisions are those of `ratelimit_mail.backends.transaction`, as in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from sqlite3 import Cursor
from typing import Final

import attrs

from ratelimit_mail.backends.base import (
    TAKE,
    Intent,
    Message,
    Reading,
    Register,
    Verdict,
    verdict,
)
from ratelimit_mail.backends.ranking import Ranking
from ratelimit_mail.backends.readings import readings
from ratelimit_mail.backends.sqlite.answers import (
    Receipt,
    current_receipt,
    recall,
    remember,
    store_receipt,
)
from ratelimit_mail.backends.sqlite.event_tree import node_numbers
from ratelimit_mail.backends.sqlite.fast_path import FastPath
from ratelimit_mail.backends.sqlite.session import (
    LedgerNumbers,
    Rows,
    Session,
    StoredCounts,
    events_of,
)
from ratelimit_mail.backends.sqlite.stored_log import logs_of_subject
from ratelimit_mail.backends.sqlite.tidying import delete_subject, tidy
from ratelimit_mail.backends.transaction import (
    BookingReceipt,
    SubjectCharge,
    Transaction,
    refund,
)
from ratelimit_mail.counting.charge import Charge, Ledger

__all__ = ["Core"]

RANKED_TOGETHER: Final = 1000
"""How many subjects one transaction looks at to find those that hold most."""


TIDIED_EVERY: Final = 64
"""After so many messages it tidies up; a new subject counts as some."""


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
        self._fast_path = FastPath(self._ledgers)
        self._effort = TIDIED_EVERY - 1  # a process may live for one message
        self._tidied: int | None = None
        """Up to which subject it has tidied up."""

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
        self._ledgers.clear()
        self._new_ledgers.clear()
        self._fast_path.forget()

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
        self._effort += 1 + 4 * new_rows
        if self._effort >= TIDIED_EVERY:
            self._effort = 0
            self._tidied = tidy(cursor, now, self._tidied)

    def apply(self, cursor: Cursor, charges: Sequence[Charge], intent: Intent) -> Verdict:
        """Charge all of `charges` or none, as `intent` says."""
        now = self._clock()
        rows: Rows = {}
        if intent is TAKE:
            answer = self._fast_path.take(cursor, charges, now, rows)
            if answer is not None:
                if answer.receipt is not None:
                    self._count_change(cursor, now, self._fast_path.new_rows)
                return answer
        session = self._session(cursor, rows)
        if intent.idempotency is not None:
            previous = recall(cursor, intent.idempotency, charges, intent.queue, now)
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
            answer = remember(cursor, intent.idempotency, charges, answer)
            self._effort += 4
        return answer

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
        receipt, is_refunded = current_receipt(cursor, receipt)
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
        current, is_refunded = current_receipt(cursor, receipt)
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
        store_receipt(cursor, current, now)
        self._moved.append((receipt, current))

    def redeem(self, cursor: Cursor, receipt: Receipt, charges: Sequence[Charge]) -> Verdict:
        """Use a booking now if it fits now, or book it anew."""
        if receipt.queue is None:
            raise TypeError("the receipt of a booking is needed")
        now = self._clock()
        current, is_refunded = current_receipt(cursor, receipt)
        if is_refunded:  # another caller has taken its charges out
            current = attrs.evolve(current, events=(), number=None)
        session = self._session(cursor)
        queue_ledger, subject, costs = receipt.queue
        session.add_ledgers([queue_ledger.name, *(ledger.name for ledger, _, _ in charges)])
        subject_charges = self._subject_charges(session, charges, now)
        # The queue may have been reset or forgotten since.
        queue = session.counts(queue_ledger, subject)
        old_queue = queue
        if current.number is not None:
            old_queue = session.counts_of_number(current.queue_number)
        booking: BookingReceipt[StoredCounts] = BookingReceipt(
            session.charges_of(current.events), (old_queue, queue_ledger, costs, current.at)
        )
        booking.number = current.number
        answer = Transaction(subject_charges, now).redeem(booking, queue)
        self._save(session, now)
        current = self._receipt(booking, charges, receipt.queue)
        current.token = receipt.token
        store_receipt(cursor, current, now)
        self._moved.append((receipt, current))
        return answer._replace(receipt=receipt)

    # Reading and resetting.

    def usage(self, cursor: Cursor, ledger: Ledger, subject: str) -> list[list[Reading]]:
        """Return the reading of each window of each of the ledger's counts, for one subject."""
        now = self._clock()
        return readings(self._session(cursor).counts(ledger, subject).logs(), ledger, now)

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
            "SELECT id, name, logs, expires, ledger FROM subject_counts"
            " WHERE id>? ORDER BY id LIMIT ?",
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
                "SELECT id FROM subject_counts WHERE name=?"
                " AND ledger=(SELECT id FROM ledger WHERE name=?)",
                (subject, ledger.name),
            ).fetchall()
            for [number] in rows:
                delete_subject(cursor, number)
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
