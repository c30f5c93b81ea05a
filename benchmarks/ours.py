"""This library: `try_acquire`, in memory and on a server, and other calls and options in memory."""

from collections.abc import Callable
from typing import Any, Final

import attrs
import redis
import redis.asyncio

from benchmarks.clients import redis_client
from benchmarks.contenders import AsyncCheck, Check, Contender
from benchmarks.email_check import INTERNAL, RECIPIENTS, policy
from ratelimit_mail import (
    AsyncLimiter,
    Envelope,
    Limiter,
    MessageRateLimit,
    Override,
    Policy,
    RecipientRateLimit,
)
from ratelimit_mail.backends import AsyncRedisBackend, Backend, MemoryBackend, RedisBackend

DAY_ALONE = Policy(
    name="benchmark",
    internal_domains=[INTERNAL],
    limits=[RecipientRateLimit("1000000000/day", count="external")],
)


def make(
    port: int | None, minute: int, *, from_strings: bool = False, hiredis: bool = True
) -> Contender:
    """Make `Limiter.try_acquire`.

    from_strings: the envelope is built from plain strings each time.
    hiredis: whether the client of a server may use it.
    """
    backend: Backend = MemoryBackend()
    if port is not None:
        backend = RedisBackend(redis_client(port, hiredis=hiredis))
    limiter = Limiter(policy(minute), backend)
    day_alone = Limiter(DAY_ALONE, backend)

    def built(envelope: Envelope) -> object:
        return limiter.try_acquire(Envelope(envelope.sender, RECIPIENTS))

    def charge_minute(envelope: Envelope) -> object:
        return limiter.try_acquire(Envelope(envelope.sender, [f"amy@{INTERNAL}"]))

    def charge_day(sender: str, recipients: int) -> None:
        """Charge messages to five recipients each, as a sender of many messages has sent."""
        envelope = Envelope(sender, [f"{i}@example.com" for i in range(5)])
        assert all(day_alone.try_acquire_many([envelope] * (recipients // 5)))

    check = built if from_strings else limiter.try_acquire
    return Contender(check, charge_minute, charge_day, limiter.try_acquire_many)


async def make_async(port: int | None) -> AsyncCheck:
    """Make `AsyncLimiter.try_acquire`."""
    if port is None:
        return AsyncLimiter(policy()).try_acquire
    backend = AsyncRedisBackend(redis.asyncio.Redis(port=port))
    return AsyncLimiter(policy(), backend).try_acquire


def _limiter(**options: Any) -> Limiter:
    return Limiter(policy().evolve(**options))


def _sending() -> Check:
    limiter = _limiter()

    def send(envelope: Envelope) -> bool:
        with limiter.sending(envelope):
            return True

    return send


SHADOW = MessageRateLimit("20/minute", enforce=False)
OVERRIDE = Override({"messages a minute": 60}, senders=[f"someone@{INTERNAL}"])
NAMED = [
    attrs.evolve(each, name="messages a minute") if isinstance(each, MessageRateLimit) else each
    for each in policy().limits
]

VARIANTS: Final[dict[str, Callable[[], Check]]] = {
    "`sending`: acquired and settled": _sending,
    "with a listener of events": lambda: Limiter(policy(), on_event=lambda _: None).try_acquire,
    "with a shadow limit": lambda: _limiter(limits=[*policy().limits, SHADOW]).try_acquire,
    "with overrides of other senders": (
        lambda: _limiter(limits=NAMED, overrides=[OVERRIDE]).try_acquire
    ),
    "with partial answers": lambda: _limiter(partial=True).try_acquire,
}
"""Other calls and options, by what the page calls them."""


def make_variant(name: str) -> Contender:
    """Make a call or an option of `VARIANTS`."""
    return Contender(VARIANTS[name]())
