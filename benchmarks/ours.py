"""This library: `try_acquire`, in memory and in Redis."""

from __future__ import annotations

import redis
from contender import Check, Contender
from work import INTERNAL, RECIPIENTS, Numbers, policy

from ratelimit_mail import Envelope, Limiter, Policy, RecipientRateLimit
from ratelimit_mail.backends import Backend, MemoryBackend, RedisBackend

DAY_ALONE = Policy(
    name="benchmark",
    internal_domains=[INTERNAL],
    limits=[RecipientRateLimit("1000000000/day", count="external")],
)


def _as_internal(check: Check) -> Check:
    return lambda envelope: check(Envelope(envelope.sender, [f"amy@{INTERNAL}"]))


def try_acquire(numbers: Numbers, port: int | None) -> Contender:
    """The one call that does it all."""
    backend: Backend = MemoryBackend() if port is None else RedisBackend(redis.Redis(port=port))
    limiter = Limiter(policy(numbers), backend)
    earlier = Limiter(DAY_ALONE, backend)

    def spend_day(sender: str, recipients: int) -> None:
        """As messages to five, which is what a sender of many messages has sent."""
        while recipients:
            cost = min(recipients, 5)
            envelope = Envelope(sender, [f"{i}@example.com" for i in range(cost)])
            envelopes = [envelope] * min(recipients // cost, 500)
            assert all(earlier.try_acquire_many(envelopes))
            recipients -= cost * len(envelopes)

    return Contender(
        limiter.try_acquire,
        _as_internal(limiter.try_acquire),
        spend_day,
        limiter.try_acquire_many,
    )


def from_strings(numbers: Numbers, port: int | None) -> Contender:
    """The same with the envelope built from plain strings each time."""
    ready = try_acquire(numbers, port)
    check = ready.check

    def built(envelope: Envelope) -> object:
        return check(Envelope(envelope.sender, RECIPIENTS))

    return Contender(built, ready.charge_minute, ready.spend_day, ready.together)
