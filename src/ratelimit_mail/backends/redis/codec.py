"""Pack charges as the keys and arguments of a script, and read a verdict from its reply.

No I/O. The format of a packed message is documented in lua/message.lua.
"""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import attrs

from ratelimit_mail._util.text import show
from ratelimit_mail.backends.base import (
    TAKE,
    Intent,
    Reading,
    Verdict,
    refusals_from_numbers,
    verdict,
)
from ratelimit_mail.backends.redis.keys import (
    Keys,
    count_name,
    foreign_value_error,
    members_key,
    moved_key,
)
from ratelimit_mail.calendars import AGREED
from ratelimit_mail.counting.calendar_window import CalendarWindow
from ratelimit_mail.counting.charge import FIRST_UNIQUE, UNITS, Charge, Count, Ledger, UniqueCosts

__all__ = [
    "AT_START_ONLY",
    "DENIALS_UNCOUNTED",
    "GENERATION_SIZE",
    "LEAST_REMAINING",
    "BatchShare",
    "BookedPlace",
    "Codec",
    "PackedMessage",
    "Receipt",
    "as_bytes",
    "join_generations",
    "pack_generation",
    "split_generations",
]

# The flags of a message, as lua/message.lua names them.
RECORD: Final = 1 << 0
"""Charge the message if it fits."""
REFUSED: Final = 1 << 1
"""The message is refused already: charge only the counts that count refused attempts."""
QUEUE: Final = 1 << 2
"""The last charge is that of the sender's queue."""
BOOK: Final = 1 << 3
"""Charge the message at the first moment at which it fits."""
CLOCK: Final = 1 << 4
"""The message has the time of the backend's clock; otherwise the server's clock is used."""
IDEMPOTENT: Final = 1 << 5
"""The message has an id, so its answer is remembered."""
DENIALS_UNCOUNTED: Final = 1 << 6
"""Do not count the attempt if it is refused."""
AT_START_ONLY: Final = 1 << 7
"""Book the message at the start of the search, or refuse it."""
LEAST_REMAINING: Final = 1 << 8
"""Charge nothing, and report the window with the least remaining capacity."""
HAS_START: Final = 1 << 9
"""The search for a moment starts later than now."""
RECALL: Final = 1 << 10
"""Charge nothing if the message's id has no answer yet."""
ENQUEUE: Final = 1 << 11
"""Add the booking to those of its queue, whose key follows the logs."""
UNIQUE: Final = 1 << 12
"""Some charges are of unique recipients; the keys of their sorted sets follow all others."""

OF_UNIQUE: Final = 1 << 15
"""Added to the number of records of the windows that are read of a count of unique recipients."""

# The format of a window, as lua/message.lua explains it.
CALENDAR: Final = 1 << 2
WINDOW_SIZE: Final = 19

# The flags of a reply.
CHARGED: Final = 1 << 0
REPEATED: Final = 1 << 1
"""The answer to the message's id was given before."""

LONG_AGO: Final = -(1 << 54)
"""Before any moment; as in lua/state.lua."""

GENERATION_SIZE: Final = 12
"""How many bytes the generation of a log has."""

MAX_CACHED_LEDGERS: Final = 4096
"""How many packed ledgers to remember. Only policies made for one message each have more."""

_PLAIN_TAIL: Final = b"".join(
    number.to_bytes(size, "little", signed=number < 0)
    for number, size in ((0, 7), (-1, 7), (LONG_AGO, 7), (0, 6), (0, 6))
)
"""The header of a message that is only charged now, from the third field (the time) on."""


class PackedMessage(NamedTuple):
    """One message as a script takes it.

    records: whether the message is charged if it fits.
    queue: the queue that it is booked in. id_key: where the answer to its id is.
    members_keys: where its unique recipients are; these are the last of `keys`, and of all keys of
        a script.
    """

    keys: list[bytes]
    message: bytes
    charges: Sequence[Charge]
    costs: list[int]
    records: bool
    queue: Charge | None = None
    id_key: bytes = b""
    members_keys: Sequence[bytes] = ()


class BookedPlace(NamedTuple):
    """The place of a booking in its queue.

    queue: what it is charged there. at: the booked time.
    number: its number; None while it does not stand there: it could go at once, was redeemed,
        settled or refunded.
    """

    queue: Charge
    at: int
    number: int | None


class Receipt(NamedTuple):
    """What was charged: of each event the log, the cost and the moment.

    moments: of each event, or one for all.
    charges: that made the events.
    generations: of the log of each event, one after another; see lua/state.lua. A list if what
        some events have changed for unique recipients follows: see lua/unique.lua.
    token: identifies the answer that was remembered for an id; 0 without an id.
    id_key: where the answer to the id is.
    place: of a booking.
    """

    keys: list[bytes]
    costs: list[int]
    moments: int | list[int]
    charges: Sequence[Charge]
    generations: bytes | Sequence[bytes] = b""
    token: int = 0
    id_key: bytes = b""
    place: BookedPlace | None = None


@attrs.define(eq=False)
class BatchShare:
    """What one message was charged as a part of a batch. Its keys are named when it is refunded.

    whole: the receipt of the batch, in which each key occurs once.
    is_void: whether what it was charged is not known any more.
    """

    charges: Sequence[Charge]
    whole: Receipt
    is_void: bool = False


_PackedCount = tuple[int, str, bytes]
"""The unit of a count, the middle of its key, and the bytes that follow the cost of a charge."""


class Codec:
    """The packing of messages for one backend.

    prefix, sharded: see `Keys`.
    clock: returns the time in milliseconds; None: the server's clock is used.
    """

    def __init__(self, prefix: str, clock: Callable[[], int] | None, *, sharded: bool) -> None:
        self.keys = Keys(prefix, sharded=sharded)
        if clock is not None and not callable(clock):
            raise TypeError(f"clock: something to call is needed, not {show(clock)}")
        self._clock = clock
        self._packed_ledgers: dict[Ledger, list[_PackedCount]] = {}
        self._packed_calendars: dict[Ledger, tuple[int, list[_PackedCount]]] = {}
        """Those with windows of a calendar, each with the moment from which on it is valid."""
        self._plain_headers: dict[int, bytes] = {}

    def pack(
        self,
        charges: Sequence[Charge],
        intent: Intent,
        *,
        start: int | None = None,
        flags: int = 0,
        now: int | None = None,
    ) -> PackedMessage:
        """Pack a message.

        start: the first moment to consider, if that is not now.
        flags: DENIALS_UNCOUNTED, AT_START_ONLY or LEAST_REMAINING.
        now: what the clock returned, if it has been read already.
        """
        keys: list[bytes] = []
        costs: list[int] = []
        chunks = [b""]
        affixes = self.keys.affixes
        all_charges = charges if intent.queue is None else [*charges, intent.queue]
        members_keys: list[bytes] = []
        for ledger, subject, costs_by_unit in all_charges:
            packed_counts = self._packed_ledgers.get(ledger) or self._pack_ledger(ledger)
            beginning, end = affixes(ledger, subject)
            if type(costs_by_unit) is UniqueCosts:
                self._pack_unique(
                    packed_counts, beginning, end, costs_by_unit, keys, costs, chunks, members_keys
                )
                continue
            for unit, name, tail in packed_counts:
                if cost := costs_by_unit[unit]:
                    keys.append(f"{beginning}{name}{end}".encode())
                    costs.append(cost)
                    chunks.append(cost.to_bytes(6, "little"))
                    chunks.append(tail)
        if members_keys:
            flags |= UNIQUE
            chunks.append(len(members_keys).to_bytes(4, "little"))
        if intent is TAKE and not flags and start is None:
            chunks[0] = self._plain_header(len(keys), now)
            return PackedMessage(keys, b"".join(chunks), charges, costs, True)
        id_key = b""
        if intent.idempotency is not None:
            id_key = self.keys.id_key(charges, intent.idempotency)
        chunks[0] = self._header(intent, keys, id_key, start, flags, now)
        return PackedMessage(
            keys + members_keys,
            b"".join(chunks),
            charges,
            costs,
            intent.record,
            intent.queue,
            id_key,
            members_keys,
        )

    @staticmethod
    def _pack_unique(
        packed_counts: Sequence[_PackedCount],
        beginning: str,
        end: str,
        unique_costs: UniqueCosts,
        keys: list[bytes],
        costs: list[int],
        chunks: list[bytes],
        members_keys: list[bytes],
    ) -> None:
        """Pack a charge that is also of unique recipients, and add its keys and costs."""
        for unit, name, tail in packed_counts:
            if cost := unique_costs[unit]:
                keys.append(f"{beginning}{name}{end}".encode())
                costs.append(cost)
                chunks.append(cost.to_bytes(6, "little"))
                members = unique_costs.members.get(unit, ()) if unit >= FIRST_UNIQUE else ()
                if members:
                    members_keys.append(members_key(keys[-1]))
                    tail = b"%b%b%c%b" % (bytes(6), tail[6:24], tail[24] | 2, tail[25:])
                chunks += [tail, "".join(members).encode()]

    def _plain_header(self, count: int, now: int | None) -> bytes:
        """Pack the header of a message that is only charged now."""
        if self._clock is not None:
            flags = _uint16(RECORD | CLOCK)
            time = _int56(self._clock() if now is None else now)
            return b"%b%b%b%b" % (flags, count.to_bytes(4, "little"), time, _PLAIN_TAIL[7:])
        header = self._plain_headers.get(count)
        if header is None:
            header = _uint16(RECORD) + count.to_bytes(4, "little") + _PLAIN_TAIL
            self._plain_headers[count] = header
        return header

    def _header(
        self,
        intent: Intent,
        keys: list[bytes],
        id_key: bytes,
        start: int | None,
        flags: int,
        now: int | None,
    ) -> bytes:
        """Pack the header of any message, and add to `keys` those of its queue and its id."""
        time, lifetime, token = 0, 0, 0
        max_delay = -1 if intent.max_delay is None else intent.max_delay
        count = len(keys)
        if intent.record:
            flags |= RECORD
        if intent.refused:
            flags |= REFUSED
        if intent.queue is not None:
            flags |= QUEUE | (BOOK if intent.record else 0)
            if intent.record and not flags & AT_START_ONLY:
                flags |= ENQUEUE
                keys.append(self.keys.bookings_key(intent.queue))
        if flags & AT_START_ONLY:
            flags |= BOOK
        if intent.recall:
            flags |= RECALL
        if start is not None:
            flags |= HAS_START
        if self._clock is not None:
            flags |= CLOCK
            time = self._clock() if now is None else now
        if intent.idempotency is not None:
            flags |= IDEMPOTENT
            lifetime, token = intent.idempotency.lifetime, random.getrandbits(48) | 1
            keys.append(id_key)
        return b"".join(
            (
                _uint16(flags),
                count.to_bytes(4, "little"),
                _int56(time),
                _int56(max_delay),
                _int56(LONG_AGO if start is None else start),
                _uint48(lifetime),
                _uint48(token),
            )
        )

    def now(self) -> int:
        """Return the time of the clock, or of this host if the server's clock is used."""
        return time.time_ns() // 1_000_000 if self._clock is None else self._clock()

    def times(self, count: int) -> list[int]:
        """Read the clock for each of `count` messages; for the server's clock the times are 0."""
        return [0] * count if self._clock is None else [self._clock() for _ in range(count)]

    def clock_text(self) -> bytes:
        """Return the time of the clock as text; empty if the server's clock is used."""
        return b"" if self._clock is None else str(self._clock()).encode()

    def _pack_ledger(self, ledger: Ledger) -> list[_PackedCount]:
        now = 0
        has_calendar = any(
            isinstance(window, CalendarWindow)
            for count in ledger.counts
            for window in count.windows
        )
        if has_calendar:  # it is packed anew from time to time
            now = self.now()
            since, cached = self._packed_calendars.get(ledger, (now + 1, []))
            if since <= now < since + AGREED:
                return cached
        packed_counts = [
            (count.unit, count_name(ledger, count.unit), _pack_count(count, now))
            for count in ledger.counts
        ]
        cache: dict[Ledger, Any] = self._packed_calendars if has_calendar else self._packed_ledgers
        if len(cache) >= MAX_CACHED_LEDGERS:
            cache.clear()
        cache[ledger] = (now - now % AGREED, packed_counts) if has_calendar else packed_counts
        return packed_counts

    def verdict(self, packed: PackedMessage, reply: Any, first_key: int = 1) -> Verdict:
        """Read the verdict on a message from the reply of a script.

        first_key: the number of the message's first key among those of the script.
        """
        if type(reply) is int:
            return verdict(reply, reply, None)
        if type(reply) is not list:
            moment, _, generations = as_bytes(reply).partition(b" ")
            now = int(moment)
            return verdict(
                now, now, Receipt(packed.keys, packed.costs, now, packed.charges, generations)
            )
        if len(reply) == 2:
            raise foreign_value_error(packed.keys[reply[1] - first_key])
        now, at, flags, token, refused, *numbers = reply
        refusals = refusals_from_numbers(
            (numbers[i : i + 3] for i in range(0, 4 * refused, 4)), packed.charges
        )
        receipt = None
        if flags & CHARGED:
            receipt = self._receipt(packed, token, numbers[4 * refused :])
        if flags & REPEATED:  # perhaps of a booking whose time is over
            return Verdict(now, max(now, at), receipt, refusals, repeated=True)
        return verdict(now, at, receipt, refusals)

    def _receipt(self, packed: PackedMessage, token: int, record: Sequence[Any]) -> Receipt:
        """Read the receipt of a message from the record at the end of a reply."""
        is_standing, number, booked_at, *events = record
        keys = [packed.keys[key] if isinstance(key, int) else as_bytes(key) for key in events[::4]]
        moments, costs = events[1::4], events[2::4]
        generations = join_generations([*map(as_bytes, events[3::4])])
        place = None
        if packed.queue is not None:
            place = BookedPlace(packed.queue, booked_at, number if is_standing else None)
        return Receipt(
            keys, costs, moments, packed.charges, generations, token, packed.id_key, place
        )

    def receipt_of_share(self, share: BatchShare) -> Receipt:
        """Return the receipt of one message of a batch."""
        charges, whole = share.charges, share.whole
        if share.is_void:
            return Receipt([], [], [], charges)
        own = self.pack(charges, TAKE, now=0)
        # Each key occurs once: no cost is spread in a batch.
        position_of = {key: position for position, key in enumerate(whole.keys)}
        positions = [position_of[key] for key in own.keys]
        moments = whole.moments
        if not isinstance(moments, int):
            moments = [moments[position] for position in positions]
        generations = split_generations(whole.generations)
        return Receipt(
            own.keys,
            own.costs,
            moments,
            charges,
            b"".join(generations[position] for position in positions),
            whole.token,
        )

    @staticmethod
    def members_keys(receipt: Receipt) -> list[bytes]:
        """Return the keys of the unique recipients that a receipt has changed."""
        if isinstance(receipt.generations, bytes):
            return []
        return [
            members_key(key)
            for key, generation in zip(receipt.keys, receipt.generations, strict=True)
            if len(generation) > GENERATION_SIZE
        ]

    def with_keys(
        self, packed: PackedMessage, keys: Sequence[bytes], receipt: Receipt
    ) -> PackedMessage:
        """Return a message with more keys, those of a receipt among them."""
        own_keys = packed.keys[: len(packed.keys) - len(packed.members_keys)]
        members_keys = [*packed.members_keys, *self.members_keys(receipt)]
        return packed._replace(keys=[*own_keys, *keys, *members_keys], members_keys=members_keys)

    def pack_receipt(self, receipt: Receipt) -> tuple[list[bytes], bytes]:
        """Pack what was charged, and the keys that lua/records.lua reads with it."""
        count = len(receipt.costs)
        moments = receipt.moments
        if isinstance(moments, int):
            moments = [moments] * count
        generations = split_generations(receipt.generations)[:count]
        positions: dict[bytes, int] = {}
        for key in receipt.keys:
            positions.setdefault(key, len(positions))
        keys = list(positions)
        number, at = 0, 0
        is_standing = False
        if receipt.place is not None:
            at = receipt.place.at
            if receipt.place.number is not None:
                is_standing, number = True, receipt.place.number
            ledger, subject, _ = receipt.place.queue
            keys.append(self.keys.key(ledger, subject, ledger.counts[0].unit))
            keys.append(self.keys.bookings_key(receipt.place.queue))
        chunks = [
            _uint48(receipt.token),
            _uint16(len(positions)),
            count.to_bytes(4, "little"),
            bytes((receipt.place is not None, is_standing)),
            _int56(number),
            _int56(at),
        ]
        for key, at, cost, generation in zip(
            receipt.keys, moments, receipt.costs, generations, strict=True
        ):
            chunks += [
                _uint16(positions[key]),
                _int56(at),
                _uint48(cost),
                pack_generation(generation),
            ]
        if receipt.token:
            keys += [receipt.id_key, moved_key(receipt.id_key, receipt.token)]
        return keys, b"".join(chunks)

    def pack_usage(self, ledger: Ledger, subject: str) -> tuple[list[bytes], bytes]:
        """Pack what reads each window of each of the ledger's counts."""
        keys, members_keys = [], []
        now = self.now()
        time = 0 if self._clock is None else now
        chunks = [_int56(time), b"\0" if self._clock is None else b"\1"]
        for count in ledger.counts:
            keys.append(self.keys.key(ledger, subject, count.unit))
            if count.is_unique:
                members_keys.append(members_key(keys[-1]))
            chunks.append(_pack_windows(count, now, OF_UNIQUE if count.is_unique else 0))
        return keys + members_keys, b"".join(chunks)

    def pack_top(self, ledger: Ledger, threshold: float) -> tuple[bytes, bytes]:
        """Pack what finds the logs of a ledger that hold more than a share of a window."""
        now = self.now()
        time = 0 if self._clock is None else now
        is_tagged = self.keys.sharded and ledger.tag_of is not None
        chunks = [_int56(time), struct.pack("<BBd", self._clock is not None, is_tagged, threshold)]
        counts = {count.unit: count for count in ledger.counts}
        for unit in range(len(UNITS)):
            count = counts.get(unit)
            if count is None:
                chunks.append(_uint16(0))
            else:
                chunks.append(_pack_windows(count, now))
        return b"".join(chunks), ledger.name.encode()

    def readings(self, ledger: Ledger, keys: Sequence[bytes], reply: Any) -> list[list[Reading]]:
        """Read the readings of each window of each of the ledger's counts from a reply."""
        if len(reply) == 2:
            raise foreign_value_error(keys[reply[1] - 1])
        numbers = iter(reply)
        return [
            [Reading(next(numbers), next(numbers), next(numbers)) for _ in count.windows]
            for count in ledger.counts
        ]


def _pack_count(count: Count, now: int) -> bytes:
    """Pack what follows the cost of a charge. now: for windows of a calendar, the time."""
    retention = count.retention
    return b"".join(
        (
            _uint48(count.smallest),
            _uint48(retention.span),
            _uint48(retention.slot),
            _uint48(retention.ceiling),
            bytes((count.counts_denied,)),
            _pack_windows(count, now),
        )
    )


def _pack_windows(count: Count, now: int, flags: int = 0) -> bytes:
    """Pack the number of records, to which `flags` are added, and the records of each window."""
    packed = b"".join(
        _uint48(window.limit)
        + _uint48(window.length)
        + _uint48(window.resolution)
        + bytes((window.denied | window.spread << 1,))
        if type(window) is not CalendarWindow
        else _pack_calendar_window(window, now)
        for window in count.windows
    )
    return _uint16(len(packed) // WINDOW_SIZE | flags) + packed


def _pack_calendar_window(window: CalendarWindow, now: int) -> bytes:
    stretches = window.calendar.stretches(now)
    packed = b"".join(_int56(start) + _uint48(step) for start, step in stretches)
    size = -(-(len(packed) + 4) // WINDOW_SIZE)
    return b"".join(
        (
            _uint48(window.limit),
            _uint48(window.length),
            _uint48(window.resolution),
            bytes((window.denied | CALENDAR,)),
            _uint16(size),
            _uint16(len(stretches)),
            packed.ljust(size * WINDOW_SIZE - 4, b"\0"),
        )
    )


def as_bytes(text: bytes | str) -> bytes:
    """Return a text of a reply, which a client with `decode_responses` has decoded."""
    return text.encode() if isinstance(text, str) else text


def join_generations(generations: list[bytes]) -> bytes | list[bytes]:
    """Return generations one after another; as a list if more follows some of them."""
    joined = b"".join(generations)
    return joined if len(joined) == len(generations) * GENERATION_SIZE else generations


def pack_generation(generation: bytes) -> bytes:
    """Pack the generation of an event, and what it has changed for unique recipients."""
    members = generation[GENERATION_SIZE:]
    if not members:
        return generation
    return generation[:GENERATION_SIZE] + len(members).to_bytes(4, "little") + members


def split_generations(generations: bytes | Sequence[bytes]) -> Sequence[bytes]:
    """Return each of the generations that `join_generations` has joined."""
    if not isinstance(generations, bytes):
        return generations
    size = GENERATION_SIZE
    return [generations[i : i + size] for i in range(0, len(generations), size)]


def _uint16(number: int) -> bytes:
    return number.to_bytes(2, "little")


def _uint48(number: int) -> bytes:
    return number.to_bytes(6, "little")


def _int56(number: int) -> bytes:
    return number.to_bytes(7, "little", signed=True)
