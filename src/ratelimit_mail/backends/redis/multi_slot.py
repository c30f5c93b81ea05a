"""Charge a message whose counts are in several slots of a cluster: all of them, or none.

A script reaches only one slot. So all slots are checked first, and then charged one after another.
If another message was charged in between and a slot refuses, the charges already made are taken
back. Every window stays within its limit at any moment; in between, a reader may see some charges
of a message, even if the message is then refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import attrs

from ratelimit_mail._util.steps import Steps
from ratelimit_mail.backends.base import CHECK, REFUSE, Intent, Refusal, Verdict, counts_of
from ratelimit_mail.backends.redis.codec import (
    AT_START_ONLY,
    DENIALS_UNCOUNTED,
    LEAST_REMAINING,
    Receipt,
)
from ratelimit_mail.backends.redis.multi_slot_answers import (
    MultiSlotReceipt,
    read_answer_steps,
    store_answer_steps,
    take_steps,
)
from ratelimit_mail.backends.redis.places import add_booking_steps, remove_booking_steps
from ratelimit_mail.backends.redis.single_slot import SingleSlotCalls
from ratelimit_mail.counting.charge import Charge, Count

__all__ = [
    "MultiSlotTransaction",
    "apply_multi_slot_steps",
    "refund_multi_slot_steps",
]

MAX_ATTEMPTS: Final = 20
"""How often other messages may be charged in between before a message is refused."""


def apply_multi_slot_steps(
    calls: SingleSlotCalls, charges: Sequence[Charge], intent: Intent
) -> Steps[Verdict]:
    """Charge all of `charges` or none; a repeated id gets the first answer again."""
    transaction = MultiSlotTransaction(calls, charges, intent)
    if intent.idempotency is None:
        return (yield from transaction.verdict_steps())
    now, answer = yield from read_answer_steps(calls, charges, intent)
    if answer is not None:
        return answer
    if intent.recall:
        return Verdict(now, now)
    verdict = yield from transaction.verdict_steps()
    first = yield from store_answer_steps(calls, charges, intent, verdict)
    if first.repeated and verdict.receipt is not None:
        # Another call with the id was charged at the same time.
        yield from refund_multi_slot_steps(calls, verdict.receipt)
    return first


def refund_multi_slot_steps(calls: SingleSlotCalls, receipt: MultiSlotReceipt) -> Steps[None]:
    """Take the charges of a receipt out; those of an id once, whoever refunds them."""
    current = yield from take_steps(calls, receipt, refund=True)
    if current is None:
        return
    place = current.place
    if place is not None and place.number is not None:
        is_there = yield from remove_booking_steps(calls, place)
        if not is_there:  # a call whose answer was lost has taken it out
            return
    for slot_receipt in current.receipts:
        if slot_receipt.costs:
            yield from calls.refund_steps(slot_receipt)


@attrs.frozen
class Slot:
    """The charges of one slot, and the charge of the sender's queue if it is there."""

    tag: str
    charges: Sequence[Charge]
    queue: Charge | None = None


def slots_of(
    charges: Sequence[Charge], queue: Charge | None, tag: Callable[[Charge], str]
) -> list[Slot]:
    """Group charges by slot; the slot of the queue is the last."""
    by_tag: dict[str, list[Charge]] = {}
    for charge in charges:
        by_tag.setdefault(tag(charge), []).append(charge)
    if queue is None:
        return [Slot(*each) for each in by_tag.items()]
    beside_queue = by_tag.pop(tag(queue), [])
    return [*(Slot(*each) for each in by_tag.items()), Slot(tag(queue), beside_queue, queue)]


@attrs.frozen
class SlotRefusal:
    """A window without room, and the slot that it is in.

    Several subjects have the same count, so that its windows may lack room in several slots.

    order: the position of the window among those of the message.
    """

    tag: str
    refusal: Refusal
    order: tuple[int, int]

    @property
    def window(self) -> tuple[str, Count, int]:
        """The slot, the count and the number of its window."""
        return self.tag, *self.refusal[:2]


class MultiSlotTransaction:
    """The charges of one message, grouped by slot.

    calls: decides on the charges of one slot.
    """

    def __init__(self, calls: SingleSlotCalls, charges: Sequence[Charge], intent: Intent) -> None:
        self._calls = calls
        self._charges = charges
        self._slots = slots_of(charges, intent.queue, calls.codec.keys.tag)
        self._intent = intent
        self._order: dict[tuple[str, Count], int] = {}
        for charge in charges:
            for count in counts_of([charge]):
                self._order.setdefault((calls.codec.keys.tag(charge), count), len(self._order))

    def verdict_steps(self) -> Steps[Verdict]:
        """Charge all slots, or none and say when they have room."""
        intent = self._intent
        if intent.refused:
            return Verdict((yield from self._count_refused_steps()), 0)
        if not intent.record:
            now, at, refusals = yield from self._check_steps()
            return Verdict(now, at, None, [each.refusal for each in refusals])
        books = intent.queue is not None
        for _ in range(MAX_ATTEMPTS):
            now, at, refusals = yield from self._check_steps()
            is_too_late = intent.max_delay is not None and at - now > intent.max_delay
            if is_too_late if books else refusals:
                break
            receipts = yield from self._charge_steps(at if books else None)
            if receipts is not None:
                receipt = MultiSlotReceipt(receipts)
                if intent.queue is not None:
                    receipt = yield from add_booking_steps(self._calls, receipts, intent.queue, at)
                return Verdict(now, at, receipt._replace(charges=self._charges))
        else:  # another message was charged in between each time; a moment later there may be room
            at, refusals = max(at, now + 1), refusals or (yield from self._tightest_steps(now + 1))
        refusals = refusals or (yield from self._tightest_steps(at))
        if any(ledger.counts_denied for slot in self._slots for ledger, *_ in slot.charges):
            yield from self._count_refused_steps()
            refusing = {each.window for each in refusals}
            now, at, later = yield from self._check_steps()
            refusals = [each for each in later if each.window in refusing] or refusals
        return Verdict(now, at, None, [each.refusal for each in refusals])

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

    def _check_steps(self) -> Steps[tuple[int, int, list[SlotRefusal]]]:
        """Return the time, the first moment at which all slots have room, and the refusals."""
        moments: list[int | None] = []  # of each slot; None: now
        refusals: list[SlotRefusal] = []
        for slot in self._slots:
            intent = Intent(record=False, queue=slot.queue)
            verdict = yield from self._apply_slot_steps(slot, intent)
            moments.append(verdict.at if verdict.at > verdict.now else None)
            refusals += [self._in_slot(slot, refusal) for refusal in verdict.refusals]
            if len(moments) == 1:
                now = verdict.now
        at = max((moment for moment in moments if moment is not None), default=now)
        if any(moments):
            at = yield from self._common_moment_steps(at, [moment == at for moment in moments])
        return now, at, sorted(refusals, key=lambda each: each.order)

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

    def _in_slot(self, slot: Slot, refusal: Refusal) -> SlotRefusal:
        count, window, _ = refusal
        return SlotRefusal(slot.tag, refusal, (self._order[slot.tag, count], window))

    def _tightest_steps(self, at: int) -> Steps[list[SlotRefusal]]:
        """Return the window with the least room, if only earlier bookings are in the way."""
        tightest: tuple[int, tuple[int, int], SlotRefusal] | None = None
        for slot in self._slots:
            if slot.charges:
                verdict = yield from self._apply_slot_steps(slot, CHECK, None, LEAST_REMAINING)
                for count, window, _ in verdict.refusals:  # none if no count has windows
                    refusal = self._in_slot(slot, (count, window, at))
                    candidate = (verdict.at, refusal.order, refusal)
                    if tightest is None or candidate[:2] < tightest[:2]:
                        tightest = candidate
        return [] if tightest is None else [tightest[2]]

    def _count_refused_steps(self) -> Steps[int]:
        """Charge the counts that count refused attempts; return the time."""
        now = 0
        for slot in self._slots:
            counting = [charge for charge in slot.charges if charge[0].counts_denied]
            if counting:
                counting_slot = Slot(slot.tag, counting)
                verdict = yield from self._apply_slot_steps(counting_slot, REFUSE)
                now = verdict.now
        return now

    def _apply_slot_steps(
        self, slot: Slot, intent: Intent, start: int | None = None, flags: int = 0
    ) -> Steps[Verdict]:
        return self._calls.apply_steps(slot.charges, intent, start=start, flags=flags)
