"""AsyncRedisBackend: `RedisBackend` for asyncio."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import redis.asyncio

from ratelimit_mail._util.documentation import with_methods_of
from ratelimit_mail._util.steps import run_async
from ratelimit_mail.backends.base import (
    TAKE,
    AsyncBackend,
    Intent,
    Message,
    Reading,
    Register,
    Verdict,
)
from ratelimit_mail.backends.redis.codec import Codec
from ratelimit_mail.backends.redis.core import RedisCore
from ratelimit_mail.backends.redis.event_loops import CoresOfLoops
from ratelimit_mail.backends.redis.keys import DEFAULT_PREFIX
from ratelimit_mail.backends.redis.scripts import APPLY
from ratelimit_mail.backends.redis.transport import AsyncTransport
from ratelimit_mail.backends.redis.urls import client_from_url
from ratelimit_mail.counting.charge import Charge, Ledger

__all__ = ["AsyncRedisBackend"]


@with_methods_of(AsyncBackend)
class AsyncRedisBackend:
    """`RedisBackend` for AsyncLimiter.

    client: a `redis.asyncio.Redis`, also the result of a Sentinel's `master_for`, or a
        `redis.asyncio.RedisCluster`. It belongs to one event loop, whereas a backend created by
        `from_url` has separate connections for each event loop, which are closed with it.
    prefix, clock: as in `RedisBackend`; backends with the same prefix share their counts.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis | redis.asyncio.RedisCluster,
        *,
        prefix: str = DEFAULT_PREFIX,
        clock: Callable[[], int] | None = None,
    ) -> None:
        transport = AsyncTransport(client)
        self._server = transport.server
        self._codec = Codec(prefix, clock, sharded=transport.sharded)
        self._own_core = RedisCore(transport, self._codec)
        self._cores: CoresOfLoops | None = None

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        prefix: str = DEFAULT_PREFIX,
        clock: Callable[[], int] | None = None,
        timeout: float = 1.0,
        **options: Any,
    ) -> AsyncRedisBackend:
        """See `RedisBackend.from_url`.

        url, prefix, clock, timeout, options: as there; the client is that of redis.asyncio.
        """
        make_client = partial(client_from_url, url, timeout=timeout, is_async=True, options=options)
        backend = cls(make_client(), prefix=prefix, clock=clock)
        codec = backend._codec
        backend._cores = CoresOfLoops(lambda: RedisCore(AsyncTransport(make_client()), codec))
        return backend

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self._server}, prefix {self._codec.keys.prefix!r}>"

    def _core(self) -> RedisCore[AsyncTransport]:
        """Return the core of the running event loop."""
        return self._own_core if self._cores is None else self._cores.running()

    async def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        """See `RedisBackend.apply`."""
        core = self._core()
        if self._codec.keys.is_multi_slot(charges, intent.queue):
            return await run_async(core.apply_steps(charges, intent))
        packed = self._codec.pack(charges, intent)
        reply = await core.transport.run(APPLY, packed.keys, (packed.message,))
        return self._codec.verdict(packed, reply)

    async def apply_many(self, messages: Sequence[Message]) -> list[Verdict]:
        """See `RedisBackend.apply_many`."""
        return await run_async(self._core().apply_many_steps(messages))

    async def refund(self, receipt: Any) -> None:
        """See `RedisBackend.refund`."""
        await run_async(self._core().refund_steps(receipt))

    async def settle(self, receipt: Any, charges: Sequence[Charge] | None = None) -> Any:
        """See `RedisBackend.settle`."""
        return await run_async(self._core().settle_steps(receipt, charges))

    async def redeem(self, receipt: Any, charges: Sequence[Charge]) -> Verdict:
        """See `RedisBackend.redeem`."""
        return await run_async(self._core().redeem_steps(receipt, charges))

    def shard_of(self, charges: Sequence[Charge]) -> str:
        """See `RedisBackend.shard_of`; not awaited."""
        return self._core().shard_of(charges) if self._codec.keys.sharded else ""

    def now(self) -> int:
        """See `RedisBackend.now`; not awaited."""
        return self._codec.now()

    async def usage(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        """See `RedisBackend.usage`."""
        return await run_async(self._core().usage_steps(ledger, subject))

    async def top(self, ledger: Ledger, n: int) -> list[str]:
        """See `RedisBackend.top`."""
        return await run_async(self._core().top_steps(ledger, n))

    async def reset(self, ledgers: Sequence[Ledger], subject: str) -> None:
        """See `RedisBackend.reset`."""
        await run_async(self._core().reset_steps(ledgers, subject))

    async def read_register(self, name: str) -> Register:
        """See `RedisBackend.read_register`."""
        return await run_async(self._core().read_register_steps(name))

    async def write_register(self, name: str, changes: Mapping[str, str | None]) -> None:
        """See `RedisBackend.write_register`."""
        await run_async(self._core().write_register_steps(name, changes))

    async def aclose(self) -> None:
        """Close the connections of the client, and with `from_url` those of the running loop.

        With `from_url`, the connections of an event loop are also closed when it ends. The backend
        may still be used.
        """
        if self._cores is None:
            await self._own_core.transport.close()
        else:
            await self._cores.close_running()
