"""AsyncSQLiteBackend: `SQLiteBackend` for asyncio, whose calls run in a thread of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from ratelimit_mail._util.documentation import with_methods_of
from ratelimit_mail.backends.base import (
    TAKE,
    AsyncBackend,
    Intent,
    Message,
    Reading,
    Register,
    Verdict,
)
from ratelimit_mail.backends.sqlite.answers import Receipt
from ratelimit_mail.backends.sqlite.database import Durability
from ratelimit_mail.backends.sqlite.sync import SQLiteBackend
from ratelimit_mail.counting.charge import Charge, Ledger

__all__ = ["AsyncSQLiteBackend"]

T = TypeVar("T")


@with_methods_of(AsyncBackend)
class AsyncSQLiteBackend:
    """`SQLiteBackend` for AsyncLimiter; the arguments are the same.

    path: of the file. durability: `"process"` or `"power"`: what a commit outlives.
    timeout: the most seconds to wait for other threads and processes.
    clock: for tests, the time in milliseconds since the epoch.

    Its calls run one after the other in a thread of its own, so that the event loop never waits for
    the disk or for other processes. It may be used in several event loops.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Durability = "process",
        timeout: float = 5.0,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self._backend = SQLiteBackend(path, durability=durability, timeout=timeout, clock=clock)
        self._pool: tuple[int, ThreadPoolExecutor] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self._backend._database.path!r}>"

    def _submit(self, call: Callable[..., T], *arguments: Any) -> Future[T]:
        if self._pool is None or self._pool[0] != os.getpid():  # threads do not outlive a fork
            self._pool = os.getpid(), ThreadPoolExecutor(1, "ratelimit-mail-sqlite")
        return self._pool[1].submit(call, *arguments)

    async def _call(self, call: Callable[..., T], *arguments: Any) -> T:
        import asyncio

        return await asyncio.wrap_future(self._submit(call, *arguments))

    async def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        """See `SQLiteBackend.apply`. If the task is cancelled meanwhile, it is refunded."""
        import asyncio

        future = self._submit(self._backend.apply, charges, intent)
        try:
            return await asyncio.shield(asyncio.wrap_future(future))
        except asyncio.CancelledError:
            if not future.cancel() and intent.record and intent.idempotency is None:
                future.add_done_callback(self._refund_unseen)
            raise

    def _refund_unseen(self, future: Future[Verdict]) -> None:
        """Refund what was charged for a task that was cancelled."""
        if future.exception() is None and (receipt := future.result().receipt) is not None:
            self._submit(self._backend.refund, receipt)

    async def apply_many(self, messages: Sequence[Message]) -> list[Verdict]:
        """See `SQLiteBackend.apply_many`."""
        return await self._call(self._backend.apply_many, messages)

    async def refund(self, receipt: Receipt) -> None:
        """See `SQLiteBackend.refund`."""
        await self._call(self._backend.refund, receipt)

    async def settle(self, receipt: Receipt, charges: Sequence[Charge] | None = None) -> Receipt:
        """See `SQLiteBackend.settle`."""
        return await self._call(self._backend.settle, receipt, charges)

    async def redeem(self, receipt: Receipt, charges: Sequence[Charge]) -> Verdict:
        """See `SQLiteBackend.redeem`."""
        return await self._call(self._backend.redeem, receipt, charges)

    def shard_of(self, charges: Sequence[Charge]) -> str:
        """See `SQLiteBackend.shard_of`; not awaited."""
        return self._backend.shard_of(charges)

    def now(self) -> int:
        """See `SQLiteBackend.now`; not awaited."""
        return self._backend.now()

    async def usage(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        """See `SQLiteBackend.usage`."""
        return await self._call(self._backend.usage, ledger, subject)

    async def top(self, ledger: Ledger, n: int) -> list[str]:
        """See `SQLiteBackend.top`."""
        return await self._call(self._backend.top, ledger, n)

    async def reset(self, ledgers: Sequence[Ledger], subject: str) -> None:
        """See `SQLiteBackend.reset`."""
        await self._call(self._backend.reset, ledgers, subject)

    async def read_register(self, name: str) -> Register:
        """See `SQLiteBackend.read_register`."""
        return await self._call(self._backend.read_register, name)

    async def write_register(self, name: str, changes: Mapping[str, str | None]) -> None:
        """See `SQLiteBackend.write_register`."""
        await self._call(self._backend.write_register, name, changes)

    async def aclose(self) -> None:
        """Close the file. The backend may still be used; the next call opens it again."""
        await self._call(self._backend.close)
        if self._pool is not None:
            _, pool = self._pool
            self._pool = None
            pool.shutdown(wait=False)
