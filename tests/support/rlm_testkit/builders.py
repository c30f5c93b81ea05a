"""Build the envelopes and limiters that most tests need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ratelimit_mail import Client, Decision, Envelope, Limiter, Policy
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.limits import Limit
from ratelimit_mail.testing import ManualClock

__all__ = [
    "accepted_in_a_row",
    "campus_policy",
    "envelope_to",
    "inbound_envelope",
    "limit_name",
    "limiter_with_clock",
]


def campus_policy(*limits: Limit, **options: Any) -> Policy:
    """Return a policy whose one internal domain is uwo.ca."""
    return Policy(**{"name": "test", "internal_domains": ["uwo.ca"], "limits": limits} | options)


def envelope_to(
    recipients: int | Sequence[str] = 1,
    sender: str = "ann@uwo.ca",
    client: Client | None = None,
    **options: Any,
) -> Envelope:
    """Return an outbound envelope to the given recipients, or to so many external ones."""
    if isinstance(recipients, int):
        recipients = [f"user{number}@example.com" for number in range(recipients)]
    return Envelope(sender, recipients, client, **options)


def inbound_envelope(*recipients: str, sender: str = "eve@example.com", **options: Any) -> Envelope:
    """Return an envelope that arrives from outside for `recipients`."""
    return Envelope(sender, recipients, direction="inbound", **options)


def limiter_with_clock(
    policy: Policy, now: int | None = None, **options: Any
) -> tuple[Limiter, ManualClock]:
    """Return a limiter in memory and the manual clock by which it counts and waits."""
    clock = ManualClock() if now is None else ManualClock(now)
    return Limiter(policy, MemoryBackend(clock), sleep=clock.advance, **options), clock


def limit_name(decision: Decision) -> str | None:
    """Return the name of the limit that a decision reports."""
    assert decision.limit is not None
    return decision.limit.name


def accepted_in_a_row(limiter: Limiter, envelope: Envelope) -> int:
    """Return how many times `envelope` is accepted before the first denial."""
    accepted = 0
    while limiter.try_acquire(envelope):
        accepted += 1
    return accepted
