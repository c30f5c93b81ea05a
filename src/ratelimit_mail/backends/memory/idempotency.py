"""The same id asked twice, in memory: the first answer is remembered and given again."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Any, Final, NamedTuple

from ratelimit_mail.backends.base import (
    Idempotency,
    Verdict,
    refusal_numbers,
    refusals_from_numbers,
)
from ratelimit_mail.counting.charge import Charge
from ratelimit_mail.counting.event_log import UndoList

__all__ = ["IdempotencyCache", "SharedReceipt"]


class SharedReceipt:
    """A receipt that several callers may hold; the first refund takes its charges out."""

    __slots__ = ("name", "receipt", "refunded")

    def __init__(self, receipt: Any, name: str) -> None:
        self.receipt = receipt
        self.name = name
        self.refunded = False

    def set_refunded(self, refunded: bool, undo: UndoList) -> None:
        """Set `refunded`, and add to `undo` what takes that back."""
        undo.append((setattr, (self, "refunded", self.refunded)))
        self.refunded = refunded


MOST_FORGOTTEN: Final = 64
"""How many more expirations than answers are held."""


class _Answer(NamedTuple):
    until: int
    at: int
    receipt: SharedReceipt | None
    refusals: list[tuple[int, int, int]]
    """As in a verdict, with the number of a count in its place."""


class IdempotencyCache:
    """Answers by the name of their request.

    undo: where each change adds what takes it back.
    """

    def __init__(self, undo: UndoList) -> None:
        self._undo = undo
        self._answers: dict[str, _Answer] = {}
        self._expirations: list[tuple[int, str]] = []
        """A heap of the moments at which answers expire."""

    def get(self, idempotency: Idempotency, charges: Sequence[Charge], now: int) -> Verdict | None:
        """Return the answer to an earlier request, seen from `now`; None if there is none."""
        answer = self._answers.get(idempotency.name)
        if answer is None or now >= answer.until:
            return None
        refusals = refusals_from_numbers(answer.refusals, charges)
        return Verdict(now, max(now, answer.at), answer.receipt, refusals, repeated=True)

    def put(self, idempotency: Idempotency, charges: Sequence[Charge], verdict: Verdict) -> Verdict:
        """Remember an answer, a refusal for no longer than until it is worth asking again."""
        now, at, receipt, refusals, *_ = verdict
        while self._expirations and self._expirations[0][0] <= now:
            end, name = self._expirations[0]
            if name in self._answers and self._answers[name].until == end:
                del self._answers[name]
            heappop(self._expirations)
        until = now + idempotency.lifetime
        if refusals:
            until = min(until, at)
        elif at > now:  # a booking
            until = at + idempotency.lifetime
        shared = None if receipt is None else SharedReceipt(receipt, idempotency.name)
        numbers = refusal_numbers(refusals, charges)
        self._undo.append((self._answers.pop, (idempotency.name, None)))
        self._answers[idempotency.name] = _Answer(until, at, shared, numbers)
        heappush(self._expirations, (until, idempotency.name))
        return verdict._replace(receipt=shared)

    def _forget_expirations(self) -> None:
        """Forget when refunded answers would have expired, once these are most of all."""
        if len(self._expirations) > 2 * len(self._answers) + MOST_FORGOTTEN:
            # A sorted list is a heap.
            self._expirations = sorted((each.until, name) for name, each in self._answers.items())

    def take_refund(self, receipt: SharedReceipt) -> bool:
        """Return whether this is the receipt's first refund; the next request is charged anew."""
        if receipt.refunded:
            return False
        receipt.set_refunded(True, self._undo)
        answer = self._answers.get(receipt.name)
        if answer is not None and answer.receipt is receipt:
            self._forget_expirations()
            self._undo.append((self._answers.__setitem__, (receipt.name, answer)))
            del self._answers[receipt.name]
        return True
