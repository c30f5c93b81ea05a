"""The peer `limits`: two hits, one for the minute and one for the day.

It counts no recipients: what a message costs is handed to it for nothing.
"""

from __future__ import annotations

from contender import Contender
from limits import parse
from limits.storage import MemoryStorage, RedisStorage, Storage
from limits.strategies import (
    FixedWindowRateLimiter,
    MovingWindowRateLimiter,
    RateLimiter,
)
from work import EXTERNAL, Numbers

from ratelimit_mail import Envelope


def _storage(port: int | None) -> Storage:
    return MemoryStorage() if port is None else RedisStorage(f"redis://127.0.0.1:{port}")


def _contender(limiter: RateLimiter, numbers: Numbers, *, tested: bool) -> Contender:
    minute, day = parse(f"{numbers.minute}/minute"), parse(f"{numbers.day}/day")

    def two_hits(envelope: Envelope) -> bool:
        sender = envelope.sender
        return limiter.hit(minute, sender) and limiter.hit(day, sender, cost=EXTERNAL)

    def tested_first(envelope: Envelope) -> bool:
        sender = envelope.sender
        return (
            limiter.test(minute, sender)
            and limiter.test(day, sender, cost=EXTERNAL)
            and limiter.hit(minute, sender)
            and limiter.hit(day, sender, cost=EXTERNAL)
        )

    return Contender(
        tested_first if tested else two_hits,
        lambda envelope: limiter.hit(minute, envelope.sender),
        lambda sender, recipients: limiter.hit(day, sender, cost=recipients),
    )


def best(numbers: Numbers, port: int | None) -> Contender:
    """Its exact strategy: a hit and a hit."""
    return _contender(MovingWindowRateLimiter(_storage(port)), numbers, tested=False)


def safe(numbers: Numbers, port: int | None) -> Contender:
    """The same, with both tested before either is hit."""
    return _contender(MovingWindowRateLimiter(_storage(port)), numbers, tested=True)


def cheap(numbers: Numbers, port: int | None) -> Contender:
    """Its fixed window, which is not exact."""
    return _contender(FixedWindowRateLimiter(_storage(port)), numbers, tested=False)
