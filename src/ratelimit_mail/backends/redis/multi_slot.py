"""Charge a message whose counts are in several slots of a cluster: all of them, or none.

A script reaches only one slot. So all slots are checked first, and then charged one after another.
If another message was charged in between and a slot refuses, the charges already made are taken
back. Every window stays within its limit at any moment; in between, a reader may see some charges
of a message, even if the message is then refused.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import attrs

from ratelimit_mail._util.steps import Steps
from ratelimit_mail.backends.base import (
    CHECK,
    REFUSE,
    Intent,
    Refusal,
    Verdict,
    counts_of,
    refusal_numbers,
    refusals_from_numbers,
)
from ratelimit_mail.backends.redis.codec import (
    AT_START_ONLY,
    DENIALS_UNCOUNTED,
    LEAST_REMAINING,
    Receipt,
)
from ratelimit_mail.backends.redis.keys import foreign_value_error, refund_marker_key
from ratelimit_mail.backends.redis.scripts import MULTI_SLOT_IDEMPOTENCY
from ratelimit_mail.backends.redis.single_slot import SingleSlotCalls
from ratelimit_mail.counting.charge import Charge, Count

__all__ = [
    "MultiSlotReceipt",
    "MultiSlotTransaction",
    "apply_multi_slot_steps",
    "refund_multi_slot_steps",
]

MAX_ATTEMPTS: Final = 20
"""How often other messages may be charged in between before a message is refused."""


class MultiSlotReceipt(NamedTuple):
    """The receipts of several slots.

    id_key, token: where the answer to an id is remembered, and its token.
    log_key: the key of a log in the same slot.
    """

    receipts: Sequence[Receipt]
    id_key: bytes = b""
    token: str = ""
    log_key: bytes = b""


def apply_multi_slot_steps(
    calls: SingleSlotCalls, charges: Sequence[Charge], intent: Intent
) -> Steps[Verdict]:
    """Charge all of `charges` or none; a repeated id gets the first answer again."""
    idempotency = intent.idempotency
    transaction = MultiSlotTransaction(calls, charges, intent)
    if idempotency is None:
        return (yield from transaction.verdict_steps())
    codec = calls.codec
    id_key = codec.keys.id_key(charges, idempotency)
    log_key = codec.keys.first_key(charges)
    clock = codec.clock_text()
    now, answer = yield from _idempotency_steps(calls, [id_key], [b"read", clock])
    if answer is None:
        verdict = yield from transaction.verdict_steps()
        token, text = _write_answer(verdict, charges)
        lifetime = idempotency.lifetime
        if verdict.refusals:
            lifetime = max(1, min(lifetime, verdict.at - verdict.now))
        arguments = [b"store", clock, str(lifetime).encode(), token.encode(), text.encode()]
        now, answer = yield from _idempotency_steps(calls, [id_key], arguments)
        if answer is None:
            if verdict.receipt is None:
                return verdict
            receipt = MultiSlotReceipt(verdict.receipt.receipts, id_key, token, log_key)
            return verdict._replace(receipt=receipt)
        if verdict.receipt is not None:  # another call with the id was charged at the same time
            yield from refund_multi_slot_steps(calls, verdict.receipt)
    return _read_answer(answer, now, id_key, log_key, charges)


def refund_multi_slot_steps(calls: SingleSlotCalls, receipt: MultiSlotReceipt) -> Steps[None]:
    """Take the charges of a receipt out; those of an id once, whoever refunds them."""
    if receipt.token:
        marker_key = refund_marker_key(receipt.id_key, receipt.token)
        keys = [receipt.id_key, marker_key, receipt.log_key]
        arguments = [b"refund", calls.codec.clock_text(), receipt.token.encode()]
        is_first = yield from _idempotency_steps(calls, keys, arguments)
        if not is_first:
            return
    for slot_receipt in receipt.receipts:
        yield from calls.refund_steps(slot_receipt)


def _idempotency_steps(
    calls: SingleSlotCalls, keys: Sequence[bytes], arguments: Sequence[bytes]
) -> Steps[Any]:
    reply = yield from calls.run_steps(MULTI_SLOT_IDEMPOTENCY, keys, arguments)
    if reply == -1:
        raise foreign_value_error(keys[0])
    return reply


@attrs.frozen
class _Slot:
    """The charges of one slot, and the charge of the sender's queue if it is there."""

    charges: Sequence[Charge]
    queue: Charge | None = None


def _slots(
    charges: Sequence[Charge], queue: Charge | None, tag: Callable[[Charge], str]
) -> list[_Slot]:
    """Group charges by slot; the slot of the queue is the last."""
    by_tag: dict[str, list[Charge]] = {}
    for charge in charges:
        by_tag.setdefault(tag(charge), []).append(charge)
    if queue is None:
        return [_Slot(slot_charges) for slot_charges in by_tag.values()]
    beside_queue = by_tag.pop(tag(queue), [])
    return [*map(_Slot, by_tag.values()), _Slot(beside_queue, queue)]


class MultiSlotTransaction:
    """The charges of one message, grouped by slot.

    calls: decides on the charges of one slot.
    """

    def __init__(self, calls: SingleSlotCalls, charges: Sequence[Charge], intent: Intent) -> None:
        self._calls = calls
        self._slots = _slots(charges, intent.queue, calls.codec.keys.tag)
        self._intent = intent
        self._order: dict[Count, int] = {}
        for number, count in enumerate(counts_of(charges)):
            self._order.setdefault(count, number)

    def verdict_steps(self) -> Steps[Verdict]:
        """Charge all slots, or none and say when they have room."""
        intent = self._intent
        if intent.refused:
            return Verdict((yield from self._count_refused_steps()), 0)
        if not intent.record:
            return Verdict(*(yield from self._check_steps()))
        books = intent.queue is not None
        for _ in range(MAX_ATTEMPTS):
            now, at, _, refusals = yield from self._check_steps()
            is_too_late = intent.max_delay is not None and at - now > intent.max_delay
            if is_too_late if books else refusals:
                break
            receipts = yield from self._charge_steps(at if books else None)
            if receipts is not None:
                return Verdict(now, at, MultiSlotReceipt(receipts))
        else:  # another message was charged in between each time; a moment later there may be room
            at, refusals = max(at, now + 1), refusals or (yield from self._tightest_steps(now + 1))
        refusals = refusals or (yield from self._tightest_steps(at))
        if any(ledger.counts_denied for slot in self._slots for ledger, *_ in slot.charges):
            yield from self._count_refused_steps()
            refusing = {refusal[:2] for refusal in refusals}
            now, at, _, later = yield from self._check_steps()
            refusals = [refusal for refusal in later if refusal[:2] in refusing] or refusals
        return Verdict(now, at, None, refusals)

    def _charge_steps(self, at: int | None) -> Steps[list[Receipt] | None]:
        """Charge each slot now, or at the moment `at`; None if a slot refused and none is."""
        receipts: list[Receipt] = []
        flags = DENIALS_UNCOUNTED if at is None else DENIALS_UNCOUNTED | AT_START_ONLY
        try:
            for slot in self._slots:
                intent = Intent(queue=slot.queue)
                verdict = yield from self._apply_slot_steps(slot, intent, at, flags)
                if verdict.receipt is None:
                    yield from self._take_back_steps(receipts)
                    return None
                receipts.append(verdict.receipt)
        except GeneratorExit:  # nobody runs the steps any more
            raise
        except BaseException:
            yield from self._take_back_steps(receipts)
            raise
        return receipts

    def _take_back_steps(self, receipts: list[Receipt]) -> Steps[None]:
        while receipts:
            yield from self._calls.refund_steps(receipts.pop())

    def _check_steps(self) -> Steps[tuple[int, int, None, list[Refusal]]]:
        """Return the time, the first moment at which all slots have room, and the refusals."""
        moments: list[int | None] = []  # of each slot; None: now
        refusals: list[Refusal] = []
        for slot in self._slots:
            intent = Intent(record=False, queue=slot.queue)
            verdict = yield from self._apply_slot_steps(slot, intent)
            moments.append(verdict.at if verdict.at > verdict.now else None)
            refusals += verdict.refusals
            if len(moments) == 1:
                now = verdict.now
        at = max((moment for moment in moments if moment is not None), default=now)
        if any(moments):
            at = yield from self._common_moment_steps(at, [moment == at for moment in moments])
        return now, at, None, sorted(refusals, key=self._order_of)

    def _common_moment_steps(self, at: int, fits: list[bool]) -> Steps[int]:
        """Return the first moment, `at` or later, at which all slots have room.

        fits: for which slots `at` is known to have room.
        """
        while not all(fits):
            i = fits.index(False)
            slot = self._slots[i]
            intent = Intent(record=False, queue=slot.queue)
            verdict = yield from self._apply_slot_steps(slot, intent, at)
            # Time passes from one call to the next, and each node has its own clock.
            if verdict.at > max(at, verdict.now):
                at = verdict.at
                fits = [False] * len(fits)
            fits[i] = True
        return at

    def _order_of(self, refusal: Refusal) -> tuple[int, int]:
        return self._order[refusal[0]], refusal[1]

    def _tightest_steps(self, at: int) -> Steps[list[Refusal]]:
        """Return the window with the least room, if only earlier bookings are in the way."""
        tightest: tuple[int, tuple[int, int], Refusal] | None = None
        for slot in self._slots:
            if slot.charges:
                verdict = yield from self._apply_slot_steps(slot, CHECK, None, LEAST_REMAINING)
                for refusal in verdict.refusals:  # none if the slot's counts have no windows
                    candidate = (verdict.at, self._order_of(refusal), (*refusal[:2], at))
                    if tightest is None or candidate[:2] < tightest[:2]:
                        tightest = candidate
        return [] if tightest is None else [tightest[2]]

    def _count_refused_steps(self) -> Steps[int]:
        """Charge the counts that count refused attempts; return the time."""
        now = 0
        for slot in self._slots:
            counting = [charge for charge in slot.charges if charge[0].counts_denied]
            if counting:
                verdict = yield from self._apply_slot_steps(_Slot(counting), REFUSE)
                now = verdict.now
        return now

    def _apply_slot_steps(
        self, slot: _Slot, intent: Intent, start: int | None = None, flags: int = 0
    ) -> Steps[Verdict]:
        return self._calls.apply_steps(slot.charges, intent, start=start, flags=flags)


def _write_answer(verdict: Verdict, charges: Sequence[Charge]) -> tuple[str, str]:
    """Return a verdict as a token, 0 for a refusal, and a text."""
    receipts = [] if verdict.receipt is None else verdict.receipt.receipts
    answer = {
        "at": verdict.at,
        "receipts": [
            [[key.decode() for key in receipt.keys], *receipt[1:]] for receipt in receipts
        ],
        "refusals": refusal_numbers(verdict.refusals, charges),
    }
    return str(random.getrandbits(48) | 1 if receipts else 0), json.dumps(answer)


def _read_answer(
    text: str | bytes, now: int, id_key: bytes, log_key: bytes, charges: Sequence[Charge]
) -> Verdict:
    """Return the verdict of a remembered answer, as of now."""
    _, _, token, rest = (text.decode() if isinstance(text, bytes) else text).split(" ", 3)
    answer: dict[str, Any] = json.loads(rest)
    receipts = [
        Receipt([key.encode() for key in keys], *fields) for keys, *fields in answer["receipts"]
    ]
    receipt = MultiSlotReceipt(receipts, id_key, token, log_key) if receipts else None
    refusals = refusals_from_numbers(answer["refusals"], charges)
    return Verdict(now, max(now, answer["at"]), receipt, refusals)
