"""Settle and redeem a message whose counts are in several slots of a cluster, slot by slot.

What is moved belongs to nobody else meanwhile: its booking leaves the queue first, and comes back
last. If the calls are interrupted, both what was charged before and what is charged already may
remain, and leave their windows in time. No window ever holds more than its limit by that.
"""

from __future__ import annotations

from collections.abc import Sequence

from ratelimit_mail._util.steps import Steps
from ratelimit_mail.backends.base import Intent, Refusal, Verdict
from ratelimit_mail.backends.redis.codec import AT_START_ONLY, Receipt
from ratelimit_mail.backends.redis.keys import tag_of_key
from ratelimit_mail.backends.redis.multi_slot import MAX_ATTEMPTS, MultiSlotTransaction, Slot
from ratelimit_mail.backends.redis.multi_slot_answers import (
    Event,
    MultiSlotReceipt,
    events_of,
    put_steps,
    receipts_by_slot,
    take_steps,
)
from ratelimit_mail.backends.redis.places import (
    look_steps,
    remove_booking_steps,
    return_booking_steps,
)
from ratelimit_mail.backends.redis.single_slot import SingleSlotCalls
from ratelimit_mail.counting.charge import Charge

__all__ = ["redeem_multi_slot_steps", "settle_multi_slot_steps"]

_NOTHING = Receipt([], [], [], ())


def settle_multi_slot_steps(
    calls: SingleSlotCalls, receipt: MultiSlotReceipt, charges: Sequence[Charge]
) -> Steps[MultiSlotReceipt]:
    """Move the charges of a receipt to the present, one slot after another."""
    current = yield from take_steps(calls, receipt)
    events: Sequence[Event] = () if current is None else events_of(current.receipts)
    current = current or receipt
    place = current.place
    if place is not None and place.number is not None:
        is_there = yield from remove_booking_steps(calls, place)
        events = events if is_there else ()
        place = place._replace(number=None)
    by_tag = {tag_of_key(each.keys[0]): each for each in receipts_by_slot(events)}
    receipts: list[Receipt] = []
    for tag, of_slot in _by_tag(calls, charges).items():
        before = by_tag.pop(tag, _NOTHING)
        receipts.append((yield from calls.settle_steps(before, of_slot)))
    for before in by_tag.values():
        yield from calls.refund_steps(before)
    settled = current._replace(receipts=receipts, place=place, charges=charges)
    yield from put_steps(calls, settled)
    return settled


def redeem_multi_slot_steps(
    calls: SingleSlotCalls, receipt: MultiSlotReceipt, charges: Sequence[Charge]
) -> Steps[Verdict]:
    """Use a booking now if it fits now, or book it anew; one slot after another."""
    current = yield from take_steps(calls, receipt)
    events: Sequence[Event] = () if current is None else events_of(current.receipts)
    is_refunded = current is None
    current = current or receipt
    place = current.place
    if place is None:
        raise TypeError("the receipt of a booking is needed")
    if is_refunded:
        place = place._replace(number=None)
    view = yield from look_steps(calls, place)
    if place.number is not None:
        events = view.own or ()
        place = place._replace(at=view.at)
    redemption = _Redemption(calls, charges, events, view.behind)
    if place.number is not None and place.at > view.now:
        yield from put_steps(calls, current)
        refusals = yield from redemption.refusals_steps(place.at)
        return Verdict(view.now, place.at, current._replace(place=place), refusals)
    if place.number is not None:
        is_there = yield from remove_booking_steps(calls, place)
        if not is_there:
            redemption.forget_own()
    start = view.last_ahead if view.last_ahead > view.now else None
    now, at, refusals = yield from redemption.move_steps(start)
    receipts = redemption.receipts()
    if at > now:
        place = place._replace(at=at)
        place = yield from return_booking_steps(calls, events_of(receipts), place)
    else:
        place = place._replace(at=at, number=None)
    redeemed = current._replace(receipts=receipts, place=place, charges=charges)
    yield from put_steps(calls, redeemed)
    return Verdict(now, at, redeemed, refusals)


def _by_tag(calls: SingleSlotCalls, charges: Sequence[Charge]) -> dict[bytes, list[Charge]]:
    """Return the charges of each slot."""
    by_tag: dict[bytes, list[Charge]] = {}
    for charge in charges:
        by_tag.setdefault(calls.codec.keys.tag(charge).encode(), []).append(charge)
    return by_tag


class _Redemption(MultiSlotTransaction):
    """The charges of a booking by slot, checked without its own events and those behind it."""

    def __init__(
        self,
        calls: SingleSlotCalls,
        charges: Sequence[Charge],
        own: Sequence[Event],
        behind: Sequence[Event],
    ) -> None:
        super().__init__(calls, charges, Intent())
        self._own = {tag_of_key(each.keys[0]): each for each in receipts_by_slot(own)}
        self._behind = {tag_of_key(each.keys[0]): each for each in receipts_by_slot(behind)}
        self._start: int | None = None

    def forget_own(self) -> None:
        """Leave out nothing: what the booking held was taken out by another call."""
        self._own = {}

    def receipts(self) -> list[Receipt]:
        """Return what the booking holds now."""
        return [each for each in self._own.values() if each.costs]

    def refusals_steps(self, at: int) -> Steps[list[Refusal]]:
        """Return the windows without room now, or the one with the least room."""
        _, _, refusals = yield from self._check_steps()
        refusals = refusals or (yield from self._tightest_steps(at))
        return [each.refusal for each in refusals]

    def move_steps(self, start: int | None) -> Steps[tuple[int, int, list[Refusal]]]:
        """Move the booking to the first moment, `start` or later, at which it fits.

        Returns the time, that moment, and the windows without room if it is later.
        """
        for _ in range(MAX_ATTEMPTS):
            self._start = start
            now, at, refusals = yield from self._check_steps()
            self._start = None
            if at > now and not refusals:
                refusals = yield from self._tightest_steps(at)
            if (yield from self._move_slots_steps(at if at > now else None)):
                return now, at, [each.refusal for each in refusals] if at > now else []
        # Another message was charged in between each time; a moment later there may be room.
        at = max(at, now + 1)
        refusals = refusals or (yield from self._tightest_steps(at))
        return now, at, [each.refusal for each in refusals]

    def _move_slots_steps(self, at: int | None) -> Steps[bool]:
        """Move the events of each slot; False if one has no room any more."""
        intent = Intent()
        remaining = dict(self._own)
        for slot in self._slots:
            remaining.pop(slot.tag.encode(), None)
            verdict = yield from self._apply_slot_steps(slot, intent, at, AT_START_ONLY)
            if verdict.receipt is None:
                return False
            self._own[slot.tag.encode()] = verdict.receipt
        for tag, receipt in remaining.items():  # of a message that was charged to more slots
            yield from self._calls.refund_steps(receipt)
            del self._own[tag]
        return True

    def _apply_slot_steps(
        self, slot: Slot, intent: Intent, start: int | None = None, flags: int = 0
    ) -> Steps[Verdict]:
        tag = slot.tag.encode()
        return self._calls.move_steps(
            slot.charges,
            intent,
            self._own.get(tag, _NOTHING),
            self._behind.get(tag, _NOTHING),
            start=self._start if start is None else start,
            flags=flags,
        )
