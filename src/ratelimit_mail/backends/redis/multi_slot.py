"""A message whose counts stand in several slots of a cluster: charged slot by slot, or given back.

No script reaches two slots. So all are looked at first, and then charged in turn; where others have
come in between and one refuses, those before it are given their charges back. Every window
stays within its limit at any moment; in between, a reader may see some of a message's charges, also
those of one that is then refused.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from functools import partial
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
from ratelimit_mail.backends.redis.codec import EXACT, QUIET, ROOM, Receipt
from ratelimit_mail.counting.charge import Charge, Count

__all__ = ["MultiSlotReceipt", "MultiSlotTransaction", "read_answer", "write_answer"]

MOST_TRIES: Final = 20
"""How often others may come in between before a message is refused."""

Ask = Callable[..., Any]
"""`ask(charges, intent, start=, flags=)` of one slot gives its verdict, or what to await for it."""


@attrs.frozen
class _Slot:
    """The charges of one slot, and the line where that stands there."""

    charges: Sequence[Charge]
    queue: Charge | None = None


def _slots(
    charges: Sequence[Charge], queue: Charge | None, tag: Callable[[Charge], str]
) -> list[_Slot]:
    by_tag: dict[str, list[Charge]] = {}
    for charge in charges:
        by_tag.setdefault(tag(charge), []).append(charge)
    if queue is None:
        return [_Slot(found) for found in by_tag.values()]
    with_line = by_tag.pop(tag(queue), [])
    return [*map(_Slot, by_tag.values()), _Slot(with_line, queue)]


class MultiSlotTransaction:
    """One message on its way through its slots."""

    def __init__(
        self,
        charges: Sequence[Charge],
        intent: Intent,
        tag: Callable[[Charge], str],
        ask: Ask,
        refund: Callable[[Receipt], Any],
    ) -> None:
        self._slots = _slots(charges, intent.queue, tag)
        self._order: dict[Count, int] = {}
        for number, count in enumerate(counts_of(charges)):
            self._order.setdefault(count, number)
        self._intent = intent
        self._ask = ask
        self._apply_refunds = refund

    def verdict(self) -> Steps[Verdict]:
        """Charge all, or none and say when they fit."""
        intent = self._intent
        if intent.refused:
            return Verdict((yield from self._count_refused()), 0)
        if not intent.record:
            return Verdict(*(yield from self._look()))
        books = intent.queue is not None
        for _ in range(MOST_TRIES):
            now, at, _, refusals = yield from self._look()
            too_late = intent.max_delay is not None and at - now > intent.max_delay
            if too_late if books else refusals:
                break
            receipts = yield from self._charge(at if books else None)
            if receipts is not None:
                return Verdict(now, at, MultiSlotReceipt(receipts))
        else:  # others have come in between each time; a moment later there may be room
            at, refusals = max(at, now + 1), refusals or (yield from self._tightest(now + 1))
        refusals = refusals or (yield from self._tightest(at))
        if any(ledger.counts_denied for slot in self._slots for ledger, *_ in slot.charges):
            yield from self._count_refused()
            told = {refusal[:2] for refusal in refusals}
            now, at, _, later = yield from self._look()
            refusals = [refusal for refusal in later if refusal[:2] in told] or refusals
        return Verdict(now, at, None, refusals)

    def _charge(self, at: int | None) -> Steps[list[Receipt] | None]:
        """Charge each slot now, or for the moment `at`; None where that failed and nothing is."""
        receipts: list[Receipt] = []
        flags = QUIET if at is None else QUIET | EXACT
        try:
            for slot in self._slots:
                verdict: Verdict = yield self._ask_slot(slot, Intent(queue=slot.queue), at, flags)
                if verdict.receipt is None:
                    yield from self._give_back(receipts)
                    return None
                receipts.append(verdict.receipt)
        except GeneratorExit:  # nobody is left to do anything
            raise
        except BaseException:
            yield from self._give_back(receipts)
            raise
        return receipts

    def _give_back(self, receipts: list[Receipt]) -> Steps[None]:
        while receipts:
            yield partial(self._apply_refunds, receipts.pop())

    def _look(self) -> Steps[tuple[int, int, None, list[Refusal]]]:
        """The time, the first moment at which all slots have room, and what has none now."""
        ready: list[int | None] = []  # None: at once
        refusals: list[Refusal] = []
        for slot in self._slots:
            verdict: Verdict = yield self._ask_slot(slot, Intent(record=False, queue=slot.queue))
            ready.append(verdict.at if verdict.at > verdict.now else None)
            refusals += verdict.refusals
            if len(ready) == 1:
                now = verdict.now
        at = max((moment for moment in ready if moment is not None), default=now)
        if any(ready):
            at = yield from self._agreed(at, [moment == at for moment in ready])
        return now, at, None, sorted(refusals, key=self._place)

    def _agreed(self, at: int, fits: list[bool]) -> Steps[int]:
        """The first moment from `at` on at which all slots have room; some are known to have."""
        while not all(fits):
            i = fits.index(False)
            slot = self._slots[i]
            intent = Intent(record=False, queue=slot.queue)
            verdict: Verdict = yield self._ask_slot(slot, intent, at)
            # Time passes from one slot to the next, and they tell it by clocks of their own.
            if verdict.at > max(at, verdict.now):
                at = verdict.at
                fits = [False] * len(fits)
            fits[i] = True
        return at

    def _place(self, refusal: Refusal) -> tuple[int, int]:
        return self._order[refusal[0]], refusal[1]

    def _tightest(self, at: int) -> Steps[list[Refusal]]:
        """The window with the least room, where only others in the line are in the way."""
        least: tuple[int, tuple[int, int], Refusal] | None = None
        for slot in self._slots:
            if slot.charges:
                verdict: Verdict = yield self._ask_slot(slot, CHECK, None, ROOM)
                for refusal in verdict.refusals:  # none if the slot is only recorded
                    found = (verdict.at, self._place(refusal), (*refusal[:2], at))
                    least = found if least is None or found[:2] < least[:2] else least
        return [] if least is None else [least[2]]

    def _count_refused(self) -> Steps[int]:
        now = 0
        for slot in self._slots:
            counting = [charge for charge in slot.charges if charge[0].counts_denied]
            if counting:
                verdict: Verdict = yield self._ask_slot(_Slot(counting), REFUSE)
                now = verdict.now
        return now

    def _ask_slot(
        self, slot: _Slot, intent: Intent, start: int | None = None, flags: int = 0
    ) -> Callable[[], Any]:
        return lambda: self._ask(slot.charges, intent, start=start, flags=flags)


class MultiSlotReceipt(NamedTuple):
    """The receipts of several slots.

    key, token: of the answer, where it is remembered. log: the key of a log beside it.
    """

    receipts: Sequence[Receipt]
    key: bytes = b""
    token: str = ""
    log: bytes = b""


def write_answer(verdict: Verdict, charges: Sequence[Charge]) -> tuple[str, str]:
    """A verdict as a token, 0 for a refusal, and a text."""
    receipts = [] if verdict.receipt is None else verdict.receipt.receipts
    told = {
        "at": verdict.at,
        "receipts": [
            [[key.decode() for key in receipt.keys], *receipt[1:]] for receipt in receipts
        ],
        "refusals": refusal_numbers(verdict.refusals, charges),
    }
    return str(random.getrandbits(48) | 1 if receipts else 0), json.dumps(told)


def read_answer(
    text: str | bytes, now: int, key: bytes, log: bytes, charges: Sequence[Charge]
) -> Verdict:
    """The verdict that a text tells, from now."""
    _, _, token, rest = (text.decode() if isinstance(text, bytes) else text).split(" ", 3)
    told: dict[str, Any] = json.loads(rest)
    receipts = [
        Receipt([name.encode() for name in names], *others) for names, *others in told["receipts"]
    ]
    receipt = MultiSlotReceipt(receipts, key, token, log) if receipts else None
    return Verdict(
        now, max(now, told["at"]), receipt, refusals_from_numbers(told["refusals"], charges)
    )
