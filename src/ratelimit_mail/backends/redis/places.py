"""The bookings of a queue, for messages whose counts are in several slots of a cluster.

A script reaches only the slot of the queue, so the other slots are changed by further calls.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ratelimit_mail._util.steps import Steps
from ratelimit_mail.backends.redis.codec import (
    GENERATION_SIZE,
    BookedPlace,
    Receipt,
    as_bytes,
    pack_generation,
)
from ratelimit_mail.backends.redis.keys import foreign_value_error
from ratelimit_mail.backends.redis.multi_slot_answers import (
    Event,
    MultiSlotReceipt,
    events_of,
    receipts_by_slot,
)
from ratelimit_mail.backends.redis.scripts import PLACES
from ratelimit_mail.backends.redis.single_slot import SingleSlotCalls
from ratelimit_mail.counting.charge import Charge

__all__ = [
    "QueueView",
    "add_booking_steps",
    "look_steps",
    "remove_booking_steps",
    "return_booking_steps",
]


class QueueView(NamedTuple):
    """A queue as one of its bookings sees it.

    now: the time.
    at: the time of the booking. own: its events, if it stands in the queue.
    last_ahead: when the last of the bookings ahead is due. behind: the events of those behind it.
    """

    now: int
    at: int
    own: Sequence[Event] | None
    last_ahead: int
    behind: Sequence[Event]


def add_booking_steps(
    calls: SingleSlotCalls, receipts: Sequence[Receipt], queue: Charge, at: int
) -> Steps[MultiSlotReceipt]:
    """Add a booking that is charged in all slots, its queue included, to the end of the queue."""
    queue_key, _ = _keys(calls, queue)
    events = events_of(receipts)
    in_queue = [event for event in events if event[0] == queue_key]
    if not in_queue:  # it can go at once
        return MultiSlotReceipt(receipts, BookedPlace(queue, at, None))
    events = [event for event in events if event[0] != queue_key]
    [(_, _, moment, generation)] = in_queue
    charge = _pack_queue(queue, True, moment, generation)
    arguments = [b"add", b"last", _pack_record(at, events), charge]
    number = yield from _run_steps(calls, queue, arguments)
    return MultiSlotReceipt(receipts_by_slot(events), BookedPlace(queue, at, number))


def return_booking_steps(
    calls: SingleSlotCalls, events: Iterable[Event], place: BookedPlace
) -> Steps[BookedPlace]:
    """Add a booking again, in its place or, if it has none, ahead of all others."""
    number = b"first" if place.number is None else str(place.number).encode()
    charge = _pack_queue(place.queue, False, 0, bytes(GENERATION_SIZE))
    arguments = [b"add", number, _pack_record(place.at, events), charge]
    return place._replace(number=(yield from _run_steps(calls, place.queue, arguments)))


def remove_booking_steps(calls: SingleSlotCalls, place: BookedPlace) -> Steps[bool]:
    """Remove a booking from its queue; return whether it was there."""
    arguments = [b"remove", str(place.number).encode()]
    return bool((yield from _run_steps(calls, place.queue, arguments)))


def look_steps(calls: SingleSlotCalls, place: BookedPlace) -> Steps[QueueView]:
    """Read a queue."""
    number = b"" if place.number is None else str(place.number).encode()
    arguments = [b"look", number, str(place.at).encode()]
    reply = yield from _run_steps(calls, place.queue, arguments)
    now, is_there, at, last_ahead, count, *fields = reply
    events: list[Event] = [
        (as_bytes(key), cost, moment, as_bytes(generation))
        for key, moment, cost, generation in zip(
            fields[::4], fields[1::4], fields[2::4], fields[3::4], strict=True
        )
    ]
    return QueueView(now, at, events[:count] if is_there else None, last_ahead, events[count:])


def _keys(calls: SingleSlotCalls, queue: Charge) -> tuple[bytes, bytes]:
    """Return the keys of a queue: of its log, and of its bookings."""
    ledger, subject, _ = queue
    keys = calls.codec.keys
    return keys.key(ledger, subject, ledger.counts[0].unit), keys.bookings_key(queue)


def _run_steps(calls: SingleSlotCalls, queue: Charge, arguments: Sequence[bytes]) -> Steps[Any]:
    keys = _keys(calls, queue)
    reply = yield from calls.run_steps(PLACES, keys, [calls.codec.clock_text(), *arguments])
    if isinstance(reply, list) and len(reply) == 2:
        raise foreign_value_error(keys[reply[1] - 1])
    return reply


def _pack_queue(queue: Charge, is_charged: bool, moment: int, generation: bytes) -> bytes:
    """Pack what a queue's log is charged, as lua/places.lua reads it."""
    ledger, _, costs = queue
    [count] = ledger.counts
    retention = count.retention
    numbers = (costs[count.unit], retention.span, retention.slot, retention.ceiling)
    return b"".join(
        (
            *(number.to_bytes(6, "little") for number in numbers),
            bytes((is_charged,)),
            moment.to_bytes(7, "little", signed=True),
            generation,
        )
    )


def _pack_record(at: int, events: Iterable[Event]) -> bytes:
    """Pack the record of a booking, as lua/records.lua reads it."""
    chunks = [bytes((1, 0)), bytes(7), at.to_bytes(7, "little", signed=True)]
    for key, cost, moment, generation in events:
        chunks += [
            struct.pack("<H", len(key)),
            key,
            moment.to_bytes(7, "little", signed=True),
            cost.to_bytes(6, "little"),
            pack_generation(generation),
        ]
    return b"".join(chunks)
