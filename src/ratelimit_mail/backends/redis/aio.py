"""AsyncRedisBackend: what RedisBackend is, for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import redis.asyncio

from ratelimit_mail._util.steps import run_async
from ratelimit_mail.backends.base import TAKE, Intent, Message, Reading, Verdict
from ratelimit_mail.backends.redis.core import PREFIX, RedisCore
from ratelimit_mail.backends.redis.scripts import APPLY
from ratelimit_mail.backends.redis.transport import AsyncTransport
from ratelimit_mail.backends.redis.urls import client_from
from ratelimit_mail.counting.charge import Charge, Ledger

__all__ = ["AsyncRedisBackend"]


class AsyncRedisBackend(RedisCore):
    """What `RedisBackend` is, for AsyncLimiter.

    client: a `redis.asyncio.Redis`, also a Sentinel's `master_for`, or a
        `redis.asyncio.RedisCluster`; it belongs to one event loop, where a backend `from_url` has
        connections of its own for each.
    prefix, clock: as in `RedisBackend`; with the same prefix both share their counts.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis | redis.asyncio.RedisCluster,
        *,
        prefix: str = PREFIX,
        clock: Callable[[], int] | None = None,
    ) -> None:
        super().__init__(AsyncTransport(client), prefix, clock)
        self._make: Callable[[], Any] | None = None
        self._links: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncTransport] = (
            WeakKeyDictionary()
        )

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        prefix: str = PREFIX,
        clock: Callable[[], int] | None = None,
        timeout: float = 1.0,
        **options: Any,
    ) -> AsyncRedisBackend:
        """See `RedisBackend.from_url`."""
        make = partial(client_from, url, timeout=timeout, is_async=True, options=options)
        backend = cls(make(), prefix=prefix, clock=clock)
        backend._make = make
        return backend

    @property
    def _link(self) -> AsyncTransport:
        if self._make is None:
            only: AsyncTransport = self._first_link
            return only
        loop = asyncio.get_running_loop()
        link = self._links.get(loop)
        if link is None:
            link = self._links[loop] = AsyncTransport(self._make())
        return link

    async def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        """See `RedisBackend.apply`."""
        if self._is_multi_slot(charges, intent):
            return await run_async(self._multi_slot_steps(charges, intent))
        return await self._ask(charges, intent)

    async def _ask(
        self,
        charges: Sequence[Charge],
        intent: Intent,
        *,
        start: int | None = None,
        flags: int = 0,
    ) -> Verdict:
        packed = self._codec.pack(charges, intent, start=start, flags=flags)
        reply = await self._link.run(APPLY, packed.keys, (packed.message,))
        return self._codec.verdict(packed, reply)

    async def apply_many(self, messages: Sequence[Message]) -> list[Verdict]:
        """See `RedisBackend.apply_many`."""
        return await run_async(self._apply_many_steps(messages))

    async def refund(self, receipt: Any) -> None:
        """See `RedisBackend.refund`."""
        await run_async(self._refund_steps(receipt))

    async def usage(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        """See `RedisBackend.usage`."""
        return await run_async(self._usage_steps(ledger, subject))

    async def reset(self, ledgers: Sequence[Ledger], subject: str) -> None:
        """See `RedisBackend.reset`."""
        await run_async(self._reset_steps(ledgers, subject))

    async def aclose(self) -> None:
        """Close the connections of the client, those of the event loop that runs."""
        await self._link.close()
        if self._make is not None:
            del self._links[asyncio.get_running_loop()]
