"""From charges to the keys and packed arguments of a script, and from its reply to a verdict.

No I/O. How a message is packed stands in lua/message.lua.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from ratelimit_mail.backends.base import (
    TAKE,
    Intent,
    Reading,
    Verdict,
    refusals_from_numbers,
    verdict,
)
from ratelimit_mail.backends.redis.keys import Keys, foreign, middle_of, refund_key
from ratelimit_mail.counting.charge import Charge, Count, Ledger

__all__ = ["EXACT", "QUIET", "ROOM", "BatchShare", "Codec", "Packed", "Receipt"]

RECORD, REFUSED, QUEUE, BOOK, CLOCK, ONCE, QUIET, EXACT, ROOM, LATER = (1 << i for i in range(10))

LONG_AGO: Final = -(1 << 54)
"""Before any moment, as `log.lua` has it."""

MOST_KNOWN: Final = 4096
"""How many ledgers are kept packed; more than this come of policies made for one message each."""

_TAIL: Final = b"".join(
    number.to_bytes(size, "little", signed=number < 0)
    for number, size in ((0, 7), (-1, 7), (LONG_AGO, 7), (0, 6), (0, 6))
)
"""The header of a message that is simply to be charged now, from its third field on."""


class Packed(NamedTuple):
    """One message, as a script takes it."""

    keys: list[bytes]
    message: bytes
    charges: Sequence[Charge]
    costs: list[int]
    records: bool
    """Whether it is charged where it fits."""


class Receipt(NamedTuple):
    """What was charged: the logs, the cost in each, and its moment, for all or each its own.

    token: tells the answer to its id from any other; 0 where it has none.
    generations: of the logs; nothing where none was ever reset.
    """

    keys: list[bytes]
    costs: list[int]
    moments: int | list[int]
    token: int = 0
    generations: Sequence[int] = ()


class BatchShare(NamedTuple):
    """What one message was charged together with others: its keys are named when it is taken out.

    whole: the receipt of all of them, which has a key but once.
    """

    charges: Sequence[Charge]
    whole: Receipt


_Wire = list[tuple[int, str, bytes]]
"""A ledger, packed: for each count its unit, the middle of its key, what follows the cost."""


class Codec(Keys):
    """The names and the packing of one backend.

    prefix: what all its keys begin with.
    clock: what gives the time; None: the server.
    sharded: whether keys are to stand together by tag; else each is its own subject's.
    """

    def __init__(self, prefix: str, clock: Callable[[], int] | None, *, sharded: bool) -> None:
        super().__init__(prefix, sharded=sharded)
        self._clock = clock
        self._wires: dict[Ledger, _Wire] = {}
        self._headers: dict[int, bytes] = {}

    def pack(
        self,
        charges: Sequence[Charge],
        intent: Intent,
        *,
        start: int | None = None,
        flags: int = 0,
        now: int | None = None,
    ) -> Packed:
        """The message that asks for `charges`.

        start: the first moment to look at. flags: QUIET or EXACT, for one that is asked in turn.
        now: what the clock gave, where it was asked before.
        """
        keys: list[bytes] = []
        costs: list[int] = []
        parts = [b""]
        asked = charges if intent.queue is None else [*charges, intent.queue]
        for ledger, subject, costs_of in asked:
            wire = self._wires.get(ledger) or self._wire(ledger)
            begin, end = self.around(ledger, subject)
            for unit, middle, tail in wire:
                if cost := costs_of[unit]:
                    keys.append(f"{begin}{middle}{end}".encode())
                    costs.append(cost)
                    parts.append(cost.to_bytes(6, "little"))
                    parts.append(tail)
        if intent is TAKE and not flags and start is None:
            parts[0] = self._simple_header(len(keys), now)
        else:
            parts[0] = self._header(charges, intent, keys, start, flags, now)
        return Packed(keys, b"".join(parts), charges, costs, intent.record)

    def _simple_header(self, count: int, now: int | None) -> bytes:
        if self._clock is not None:
            mode = RECORD | CLOCK
            time = (self._clock() if now is None else now).to_bytes(7, "little", signed=True)
            return b"%b%b%b%b" % (_fast(mode), count.to_bytes(4, "little"), time, _TAIL[7:])
        header = self._headers.get(count)
        if header is None:
            header = self._headers[count] = _fast(RECORD) + count.to_bytes(4, "little") + _TAIL
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
        mode, time, lifetime, token = flags, 0, 0, 0
        max_delay = -1 if intent.max_delay is None else intent.max_delay
        count = len(keys)
        if intent.record:
            mode |= RECORD
        if intent.refused:
            mode |= REFUSED
        if intent.queue is not None:
            mode |= QUEUE | (BOOK if intent.record else 0)
        if flags & EXACT:
            mode |= BOOK
        if start is not None:
            mode |= LATER
        if self._clock is not None:
            mode |= CLOCK
            time = self._clock() if now is None else now
        if intent.idempotency is not None:
            mode |= ONCE
            lifetime, token = intent.idempotency.lifetime, random.getrandbits(48) | 1
            keys.append(self.id_key(charges, intent.idempotency))
        return (
            _fast(mode)
            + count.to_bytes(4, "little")
            + b"".join(
                number.to_bytes(7, "little", signed=True)
                for number in (time, max_delay, LONG_AGO if start is None else start)
            )
            + lifetime.to_bytes(6, "little")
            + token.to_bytes(6, "little")
        )

    def now(self) -> int:
        """The time that the clock gives; where the server does, that of this host."""
        return time.time_ns() // 1_000_000 if self._clock is None else self._clock()

    def times(self, number: int) -> list[int]:
        """What the clock gives so many messages; the server's is asked by the script."""
        return [0] * number if self._clock is None else [self._clock() for _ in range(number)]

    def time_of_clock(self) -> bytes:
        """What the clock gives, as text; nothing for the server's."""
        return b"" if self._clock is None else str(self._clock()).encode()

    def _wire(self, ledger: Ledger) -> _Wire:
        if len(self._wires) >= MOST_KNOWN:
            self._wires.clear()
        wire = self._wires[ledger] = [
            (count.unit, middle_of(ledger, count.unit), _numbers(count)) for count in ledger.counts
        ]
        return wire

    def verdict(self, packed: Packed, reply: Any, first_key: int = 1) -> Verdict:
        """The verdict that a script's reply tells.

        first_key: which of the script's keys is the first of the message.
        """
        if type(reply) is int:
            receipt = Receipt(packed.keys, packed.costs, reply) if packed.records else None
            return verdict(reply, reply, receipt)
        if len(reply) == 2:
            raise foreign(packed.keys[reply[1] - first_key])
        now, at, recorded, token, refused, *numbers = reply
        if recorded:
            # One that was asked for before may have been charged for a moment that is over.
            half = len(numbers) // 2
            moments, generations = numbers[:half], numbers[half:]
            receipt = Receipt(packed.keys, packed.costs, moments, token, generations)
            return verdict(now, max(now, at), receipt)
        told = (numbers[i : i + 3] for i in range(0, 4 * refused, 4))
        return verdict(now, at, None, refusals_from_numbers(told, packed.charges))

    def receipt_of(self, share: BatchShare) -> Receipt:
        """The receipt of a share alone."""
        charges, (keys, _, moments, token, generations) = share
        own = self.pack(charges, TAKE, now=0)
        if isinstance(moments, int):
            return Receipt(own.keys, own.costs, moments)
        places = [keys.index(key) for key in own.keys]
        return Receipt(
            own.keys,
            own.costs,
            [moments[place] for place in places],
            token,
            [generations[place] for place in places],
        )

    def pack_receipt(self, receipt: Receipt) -> tuple[list[bytes], bytes]:
        """What takes the charges of a receipt out."""
        moments = receipt.moments
        if isinstance(moments, int):
            moments = [moments] * len(receipt.costs)
        parts = [receipt.token.to_bytes(6, "little"), len(moments).to_bytes(4, "little")]
        generations = receipt.generations or [0] * len(moments)
        # A booking that went at once stands in no queue, so the last cost may be left over.
        for at, cost, generation in zip(moments, receipt.costs, generations, strict=False):
            parts.append(at.to_bytes(7, "little", signed=True))
            parts.append(cost.to_bytes(6, "little") + _fast(generation))
        keys = receipt.keys[: len(moments)]
        if receipt.token:
            keys += [receipt.keys[-1], refund_key(receipt.keys[-1], receipt.token)]
        return keys, b"".join(parts)

    def pack_reading(self, ledger: Ledger, subject: str) -> tuple[list[bytes], bytes]:
        """What reads each window of each of the ledger's counts."""
        keys = []
        time = 0 if self._clock is None else self._clock()
        parts = [time.to_bytes(7, "little", signed=True), b"\0" if self._clock is None else b"\1"]
        for count in ledger.counts:
            keys.append(self.key_of(ledger, subject, count.unit))
            parts += [_fast(len(count.windows)), _windows(count)]
        return keys, b"".join(parts)

    def readings(self, ledger: Ledger, keys: Sequence[bytes], reply: Any) -> list[list[Reading]]:
        """The readings that a script's reply tells."""
        if len(reply) == 2:
            raise foreign(keys[reply[1] - 1])
        numbers = iter(reply)
        return [
            [Reading(next(numbers), next(numbers), next(numbers)) for _ in count.windows]
            for count in ledger.counts
        ]


def _numbers(count: Count) -> bytes:
    """What follows the cost of a charge."""
    retention = count.retention
    return (
        b"".join(
            number.to_bytes(6, "little")
            for number in (count.smallest, retention.span, retention.slot, retention.ceiling)
        )
        + bytes((count.counts_denied,))
        + _fast(len(count.windows))
        + _windows(count)
    )


def _windows(count: Count) -> bytes:
    return b"".join(
        b"".join(
            number.to_bytes(6, "little")
            for number in (window.limit, window.length, window.resolution)
        )
        + bytes((window.denied,))
        for window in count.windows
    )


def _fast(number: int) -> bytes:
    return number.to_bytes(2, "little")
