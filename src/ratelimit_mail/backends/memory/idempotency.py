"""The answers to messages with an id, remembered for a while in memory."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Any, NamedTuple

from ratelimit_mail.backends.base import Once, Verdict, fitted, numbered
from ratelimit_mail.counting.charge import Charge

__all__ = ["Answers", "Kept"]


class Kept(list[Any]):
    """A receipt that several may hold; who comes first takes its charges out."""

    __slots__ = ("name", "taken")

    def __init__(self, receipt: Sequence[Any], name: str) -> None:
        super().__init__(receipt)
        self.name = name
        self.taken = False


class _Answer(NamedTuple):
    until: int
    at: int
    receipt: Kept | None
    refusals: list[tuple[int, int, int]]
    """As in a verdict, with the number of a count in its place."""


class Answers:
    """Answers by the name of their question."""

    def __init__(self) -> None:
        self._answers: dict[str, _Answer] = {}
        self._ends: list[tuple[int, str]] = []
        """A heap of the moments from which answers hold no more."""

    def told(self, once: Once, charges: Sequence[Charge], now: int) -> Verdict | None:
        """What was answered before, told from now."""
        answer = self._answers.get(once.name)
        if answer is None or now >= answer.until:
            return None
        refusals = fitted(answer.refusals, charges)
        return Verdict(now, max(now, answer.at), answer.receipt, refusals)

    def keep(self, once: Once, charges: Sequence[Charge], verdict: Verdict) -> Verdict:
        """Remember an answer, a refusal for no longer than until it is worth asking again."""
        now, at, receipt, refusals, _ = verdict
        while self._ends and self._ends[0][0] <= now:
            end, name = heappop(self._ends)
            if name in self._answers and self._answers[name].until == end:
                del self._answers[name]
        until = now + once.lifetime
        if refusals:
            until = min(until, at)
        kept = None if receipt is None else Kept(receipt, once.name)
        self._answers[once.name] = _Answer(until, at, kept, numbered(refusals, charges))
        heappush(self._ends, (until, once.name))
        return verdict._replace(receipt=kept)

    def taken_back(self, receipt: Kept) -> bool:
        """Whether the receipt's charges are still to be taken out; who asks again is charged."""
        if receipt.taken:
            return False
        receipt.taken = True
        answer = self._answers.get(receipt.name)
        if answer is not None and answer.receipt is receipt:
            del self._answers[receipt.name]
        return True
