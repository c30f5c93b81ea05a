"""Receipts of what was charged, and answers to requests with an id, which the file remembers."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from sqlite3 import Cursor
from typing import Final

import attrs

from ratelimit_mail.backends.base import (
    Idempotency,
    Verdict,
    refusal_numbers,
    refusals_from_numbers,
)
from ratelimit_mail.backends.sqlite.event_tree import integers_to_bytes, unpack_integers
from ratelimit_mail.backends.sqlite.session import Event, pack_events_of, unpack_events
from ratelimit_mail.counting.charge import Charge

__all__ = ["Receipt", "current_receipt", "recall", "remember", "store_receipt"]

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


def recall(
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


def remember(
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


def current_receipt(cursor: Cursor, receipt: Receipt) -> tuple[Receipt, bool]:
    """Return a receipt with what it is charged now, and whether that was refunded already."""
    if not receipt.token:
        return receipt, False
    row = cursor.execute(
        "SELECT record, refunded FROM answer WHERE token=?", (receipt.token,)
    ).fetchone()
    if row is None:  # forgotten, because nothing of it can matter
        return attrs.evolve(receipt, events=()), False
    return receipt.with_record(row[0]), bool(row[1])


def store_receipt(cursor: Cursor, receipt: Receipt, now: int) -> None:
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
