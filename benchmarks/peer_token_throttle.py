"""The peer `token-throttle`: both limits in one acquisition, all or nothing.

It is made for calls of language models; each sender is a model family here. Each acquisition is
closed by a refund of nothing, as its manual asks: without it the reservations pile up.
"""

from typing import Any, Final

import redis
import redis.asyncio
import token_throttle

from benchmarks.contenders import AsyncCheck, Contender
from benchmarks.email_check import DAY, EXTERNAL, MINUTE
from ratelimit_mail import Envelope

tokens: Final[Any] = token_throttle  # without types, as it loads some names on demand


def _limiter(limiter: Any, backend: Any, limit: int) -> Any:
    minute = tokens.Quota(metric="messages", limit=limit, per_seconds=60)
    day = tokens.Quota(metric="recipients", limit=DAY, per_seconds=86_400)
    quotas = tokens.UsageQuotas([minute, day])
    return limiter(
        lambda sender: tokens.PerModelConfig(quotas=quotas, model_family=sender),
        backend=backend,
        max_model_families=10_000_000,
        max_aliases=10_000_000,
    )


def make(port: int | None, limit: int) -> Contender:
    """Make an acquisition that does not wait, and its close."""
    backend = (
        tokens.SyncMemoryBackendBuilder()
        if port is None
        else tokens.SyncRedisBackendBuilder(redis.Redis(port=port), key_prefix="benchmark")
    )
    limiter = _limiter(tokens.SyncRateLimiter, backend, limit)

    def charge(sender: str, messages: int, recipients: int) -> bool:
        usage = {"messages": messages, "recipients": recipients}
        try:
            reservation = limiter.acquire_capacity(usage, sender, timeout=0)
        except TimeoutError:
            return False
        limiter.refund_capacity(usage, reservation)
        return True

    return Contender(
        lambda envelope: charge(envelope.sender, 1, EXTERNAL),
        lambda envelope: charge(envelope.sender, 1, 0),
        lambda sender, recipients: charge(sender, 0, recipients),
    )


async def make_async(port: int | None) -> AsyncCheck:
    """Make the same for asyncio."""
    backend = (
        tokens.MemoryBackendBuilder()
        if port is None
        else tokens.RedisBackendBuilder(redis.asyncio.Redis(port=port), key_prefix="benchmark")
    )
    limiter = _limiter(tokens.RateLimiter, backend, MINUTE)
    usage = {"messages": 1, "recipients": EXTERNAL}

    async def check(envelope: Envelope) -> bool:
        try:
            reservation = await limiter.acquire_capacity(usage, envelope.sender, timeout=0)
        except TimeoutError:
            return False
        await limiter.refund_capacity(usage, reservation)
        return True

    return check
