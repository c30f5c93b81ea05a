"""Adapters: a backend that does no I/O as an AsyncBackend."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from ratelimit_mail.backends.base import TAKE, Backend, Intent, Message, Reading, Register, Verdict
from ratelimit_mail.counting.charge import Charge, Ledger

__all__ = ["InlineAdapter"]


class InlineAdapter:
    """An AsyncBackend that calls `backend` in place; only for a backend that does no I/O."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        """See `Backend.apply`."""
        return self._backend.apply(charges, intent)

    async def apply_many(self, messages: Sequence[Message]) -> list[Verdict]:
        """See `Backend.apply_many`."""
        return self._backend.apply_many(messages)

    async def refund(self, receipt: Any) -> None:
        """See `Backend.refund`."""
        self._backend.refund(receipt)

    async def settle(self, receipt: Any, charges: Sequence[Charge] | None = None) -> Any:
        """See `Backend.settle`."""
        return self._backend.settle(receipt, charges)

    async def redeem(self, receipt: Any, charges: Sequence[Charge]) -> Verdict:
        """See `Backend.redeem`."""
        return self._backend.redeem(receipt, charges)

    def shard_of(self, charges: Sequence[Charge]) -> str:
        """See `Backend.shard_of`."""
        return self._backend.shard_of(charges)

    def now(self) -> int:
        """See `Backend.now`."""
        return self._backend.now()

    async def usage(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        """See `Backend.usage`."""
        return self._backend.usage(ledger, subject)

    async def top(self, ledger: Ledger, n: int) -> list[str]:
        """See `Backend.top`; called on another thread, because it takes time."""
        return await asyncio.to_thread(self._backend.top, ledger, n)

    async def reset(self, ledgers: Sequence[Ledger], subject: str) -> None:
        """See `Backend.reset`."""
        self._backend.reset(ledgers, subject)

    async def read_register(self, name: str) -> Register:
        """See `Backend.read_register`."""
        return self._backend.read_register(name)

    async def write_register(self, name: str, changes: Mapping[str, str | None]) -> None:
        """See `Backend.write_register`."""
        self._backend.write_register(name, changes)
