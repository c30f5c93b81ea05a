"""Pack charges as the keys and arguments of a script, and read a verdict from its reply.

No I/O. The format of a packed message is documented in lua/message.lua.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

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
    refund_marker_key,
)
from ratelimit_mail.counting.charge import Charge, Count, Ledger

__all__ = [
    "AT_START_ONLY",
    "DENIALS_UNCOUNTED",
    "LEAST_REMAINING",
    "BatchShare",
    "Codec",
    "PackedMessage",
    "Receipt",
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

LONG_AGO: Final = -(1 << 54)
"""Before any moment; as in lua/state.lua."""

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
    """

    keys: list[bytes]
    message: bytes
    charges: Sequence[Charge]
    costs: list[int]
    records: bool


class Receipt(NamedTuple):
    """What was charged: the logs, the cost in each, and when.

    moments: of each charge, or one for all.
    token: identifies the answer that was remembered for an id; 0 without an id.
    generations: of the logs; empty if no log was ever reset.
    """

    keys: list[bytes]
    costs: list[int]
    moments: int | list[int]
    token: int = 0
    generations: Sequence[int] = ()


class BatchShare(NamedTuple):
    """What one message was charged as a part of a batch. Its keys are named when it is refunded.

    whole: the receipt of the batch, in which each key occurs once.
    """

    charges: Sequence[Charge]
    whole: Receipt


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
        for ledger, subject, costs_by_unit in all_charges:
            packed_counts = self._packed_ledgers.get(ledger) or self._pack_ledger(ledger)
            beginning, end = affixes(ledger, subject)
            for unit, name, tail in packed_counts:
                if cost := costs_by_unit[unit]:
                    keys.append(f"{beginning}{name}{end}".encode())
                    costs.append(cost)
                    chunks.append(cost.to_bytes(6, "little"))
                    chunks.append(tail)
        if intent is TAKE and not flags and start is None:
            chunks[0] = self._plain_header(len(keys), now)
        else:
            chunks[0] = self._header(charges, intent, keys, start, flags, now)
        return PackedMessage(keys, b"".join(chunks), charges, costs, intent.record)

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
        charges: Sequence[Charge],
        intent: Intent,
        keys: list[bytes],
        start: int | None,
        flags: int,
        now: int | None,
    ) -> bytes:
        """Pack the header of any message, and add the key of its id to `keys`."""
        time, lifetime, token = 0, 0, 0
        max_delay = -1 if intent.max_delay is None else intent.max_delay
        count = len(keys)
        if intent.record:
            flags |= RECORD
        if intent.refused:
            flags |= REFUSED
        if intent.queue is not None:
            flags |= QUEUE | (BOOK if intent.record else 0)
        if flags & AT_START_ONLY:
            flags |= BOOK
        if start is not None:
            flags |= HAS_START
        if self._clock is not None:
            flags |= CLOCK
            time = self._clock() if now is None else now
        if intent.idempotency is not None:
            flags |= IDEMPOTENT
            lifetime, token = intent.idempotency.lifetime, random.getrandbits(48) | 1
            keys.append(self.keys.id_key(charges, intent.idempotency))
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
        if len(self._packed_ledgers) >= MAX_CACHED_LEDGERS:
            self._packed_ledgers.clear()
        packed_counts = [
            (count.unit, count_name(ledger, count.unit), _pack_count(count))
            for count in ledger.counts
        ]
        self._packed_ledgers[ledger] = packed_counts
        return packed_counts

    def verdict(self, packed: PackedMessage, reply: Any, first_key: int = 1) -> Verdict:
        """Read the verdict on a message from the reply of a script.

        first_key: the number of the message's first key among those of the script.
        """
        if type(reply) is int:
            receipt = Receipt(packed.keys, packed.costs, reply) if packed.records else None
            return verdict(reply, reply, receipt)
        if len(reply) == 2:
            raise foreign_value_error(packed.keys[reply[1] - first_key])
        now, at, recorded, token, refused, *numbers = reply
        if recorded:
            # The remembered charge of an id may be for a moment that is over.
            half = len(numbers) // 2
            moments, generations = numbers[:half], numbers[half:]
            receipt = Receipt(packed.keys, packed.costs, moments, token, generations)
            return verdict(now, max(now, at), receipt)
        refusals = (numbers[i : i + 3] for i in range(0, 4 * refused, 4))
        return verdict(now, at, None, refusals_from_numbers(refusals, packed.charges))

    def receipt_of_share(self, share: BatchShare) -> Receipt:
        """Return the receipt of one message of a batch."""
        charges, (keys, _, moments, token, generations) = share
        own = self.pack(charges, TAKE, now=0)
        if isinstance(moments, int):
            return Receipt(own.keys, own.costs, moments)
        positions = [keys.index(key) for key in own.keys]
        return Receipt(
            own.keys,
            own.costs,
            [moments[position] for position in positions],
            token,
            [generations[position] for position in positions],
        )

    def pack_refund(self, receipt: Receipt) -> tuple[list[bytes], bytes]:
        """Pack what takes the charges of a receipt out of their logs."""
        moments = receipt.moments
        if isinstance(moments, int):
            moments = [moments] * len(receipt.costs)
        chunks = [_uint48(receipt.token), len(moments).to_bytes(4, "little")]
        generations = receipt.generations or [0] * len(moments)
        # A booking for now is not in the queue, so there may be one cost more than moments.
        for at, cost, generation in zip(moments, receipt.costs, generations, strict=False):
            chunks += [_int56(at), _uint48(cost), _uint16(generation)]
        keys = receipt.keys[: len(moments)]
        if receipt.token:
            keys += [receipt.keys[-1], refund_marker_key(receipt.keys[-1], receipt.token)]
        return keys, b"".join(chunks)

    def pack_usage(self, ledger: Ledger, subject: str) -> tuple[list[bytes], bytes]:
        """Pack what reads each window of each of the ledger's counts."""
        keys = []
        time = 0 if self._clock is None else self._clock()
        chunks = [_int56(time), b"\0" if self._clock is None else b"\1"]
        for count in ledger.counts:
            keys.append(self.keys.key(ledger, subject, count.unit))
            chunks += [_uint16(len(count.windows)), _pack_windows(count)]
        return keys, b"".join(chunks)

    def readings(self, ledger: Ledger, keys: Sequence[bytes], reply: Any) -> list[list[Reading]]:
        """Read the readings of each window of each of the ledger's counts from a reply."""
        if len(reply) == 2:
            raise foreign_value_error(keys[reply[1] - 1])
        numbers = iter(reply)
        return [
            [Reading(next(numbers), next(numbers), next(numbers)) for _ in count.windows]
            for count in ledger.counts
        ]


def _pack_count(count: Count) -> bytes:
    """Pack what follows the cost of a charge."""
    retention = count.retention
    return b"".join(
        (
            _uint48(count.smallest),
            _uint48(retention.span),
            _uint48(retention.slot),
            _uint48(retention.ceiling),
            bytes((count.counts_denied,)),
            _uint16(len(count.windows)),
            _pack_windows(count),
        )
    )


def _pack_windows(count: Count) -> bytes:
    return b"".join(
        _uint48(window.limit)
        + _uint48(window.length)
        + _uint48(window.resolution)
        + bytes((window.denied,))
        for window in count.windows
    )


def _uint16(number: int) -> bytes:
    return number.to_bytes(2, "little")


def _uint48(number: int) -> bytes:
    return number.to_bytes(6, "little")


def _int56(number: int) -> bytes:
    return number.to_bytes(7, "little", signed=True)
