"""A backend that never waits, as one that is awaited."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ratelimit_mail.backends.base import TAKE, Backend, Intent, Message, Reading, Verdict
from ratelimit_mail.counting.charge import Charge, Ledger

__all__ = ["Inline"]


class Inline:
    """`backend` for an AsyncLimiter, called in place: only for one that does no I/O."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        """See `Backend.apply`."""
        return self._backend.apply(charges, intent)

    async def apply_many(self, messages: Sequence[Message]) -> list[Verdict]:
        """See `Backend.apply_many`."""
        return self._backend.apply_many(messages)

    async def take_out(self, receipt: Any) -> None:
        """See `Backend.take_out`."""
        self._backend.take_out(receipt)

    def part_of(self, charges: Sequence[Charge]) -> str:
        """See `Backend.part_of`."""
        return self._backend.part_of(charges)

    def present(self) -> int:
        """See `Backend.present`."""
        return self._backend.present()

    async def read(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        """See `Backend.read`."""
        return self._backend.read(ledger, subject)

    async def forget(self, ledgers: Sequence[Ledger], subject: str) -> None:
        """See `Backend.forget`."""
        self._backend.forget(ledgers, subject)
