"""The answers to messages with an id, remembered for a while in memory."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Any, NamedTuple

from ratelimit_mail.backends.base import (
    Idempotency,
    Verdict,
    refusal_numbers,
    refusals_from_numbers,
)
from ratelimit_mail.counting.charge import Charge

__all__ = ["IdempotencyCache", "SharedReceipt"]


class SharedReceipt(list[Any]):
    """A receipt that several may hold; who comes first takes its charges out."""

    __slots__ = ("name", "taken")

    def __init__(self, receipt: Sequence[Any], name: str) -> None:
        super().__init__(receipt)
        self.name = name
        self.taken = False


class _Answer(NamedTuple):
    until: int
    at: int
    receipt: SharedReceipt | None
    refusals: list[tuple[int, int, int]]
    """As in a verdict, with the number of a count in its place."""


class IdempotencyCache:
    """IdempotencyCache by the name of their question."""

    def __init__(self) -> None:
        self._idempotency: dict[str, _Answer] = {}
        self._ends: list[tuple[int, str]] = []
        """A heap of the moments from which answers hold no more."""

    def told(self, idempotency: Idempotency, charges: Sequence[Charge], now: int) -> Verdict | None:
        """What was answered before, told from now."""
        answer = self._idempotency.get(idempotency.name)
        if answer is None or now >= answer.until:
            return None
        refusals = refusals_from_numbers(answer.refusals, charges)
        return Verdict(now, max(now, answer.at), answer.receipt, refusals)

    def keep(
        self, idempotency: Idempotency, charges: Sequence[Charge], verdict: Verdict
    ) -> Verdict:
        """Remember an answer, a refusal for no longer than until it is worth asking again."""
        now, at, receipt, refusals, _ = verdict
        while self._ends and self._ends[0][0] <= now:
            end, name = heappop(self._ends)
            if name in self._idempotency and self._idempotency[name].until == end:
                del self._idempotency[name]
        until = now + idempotency.lifetime
        if refusals:
            until = min(until, at)
        kept = None if receipt is None else SharedReceipt(receipt, idempotency.name)
        self._idempotency[idempotency.name] = _Answer(
            until, at, kept, refusal_numbers(refusals, charges)
        )
        heappush(self._ends, (until, idempotency.name))
        return verdict._replace(receipt=kept)

    def take_refund(self, receipt: SharedReceipt) -> bool:
        """Whether the receipt's charges are still to be taken out; who asks again is charged."""
        if receipt.taken:
            return False
        receipt.taken = True
        answer = self._idempotency.get(receipt.name)
        if answer is not None and answer.receipt is receipt:
            del self._idempotency[receipt.name]
        return True
