"""The peer `token-throttle`: both limits in one acquisition, all or nothing.

It is made for calls of language models; a sender is a model family of its own here. Each
acquisition is closed by a refund of nothing, as its manual asks: else it keeps them for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis
import redis.asyncio
import token_throttle
from contender import AwaitedCheck, Contender
from token_throttle import (
    MemoryBackendBuilder,
    PerModelConfig,
    Quota,
    RateLimiter,
    SyncMemoryBackendBuilder,
    SyncRateLimiter,
    UsageQuotas,
)
from work import EXTERNAL, NUMBERS, Numbers

from ratelimit_mail import Envelope

MANY = 10_000_000

_lazy: Any = token_throttle
"""For names that it has only when they are asked for, which types do not know."""


def _config(numbers: Numbers) -> Callable[[str], PerModelConfig]:
    quotas = UsageQuotas(
        [
            Quota(metric="messages", limit=numbers.minute, per_seconds=60),
            Quota(metric="recipients", limit=numbers.day, per_seconds=86_400),
        ]
    )
    return lambda sender: PerModelConfig(quotas=quotas, model_family=sender)


def best(numbers: Numbers, port: int | None) -> Contender:
    """Acquire without waiting, then close."""
    backend = (
        SyncMemoryBackendBuilder()
        if port is None
        else _lazy.SyncRedisBackendBuilder(redis.Redis(port=port), key_prefix="benchmark")
    )
    limiter = SyncRateLimiter(
        _config(numbers), backend=backend, max_model_families=MANY, max_aliases=MANY
    )

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


def awaited(port: int | None) -> AwaitedCheck:
    """The same for asyncio."""
    backend = (
        MemoryBackendBuilder()
        if port is None
        else _lazy.RedisBackendBuilder(redis.asyncio.Redis(port=port), key_prefix="benchmark")
    )
    limiter = RateLimiter(
        _config(NUMBERS), backend=backend, max_model_families=MANY, max_aliases=MANY
    )
    usage = {"messages": 1, "recipients": EXTERNAL}

    async def check(envelope: Envelope) -> bool:
        try:
            reservation = await limiter.acquire_capacity(usage, envelope.sender, timeout=0)
        except TimeoutError:
            return False
        await limiter.refund_capacity(usage, reservation)
        return True

    return check
