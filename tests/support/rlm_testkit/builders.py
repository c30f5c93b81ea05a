"""Build the envelopes and limiters that most tests need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from ratelimit_mail import (
    Client,
    Decision,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientLimit,
    RecipientRateLimit,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.counting.charge import UNITS
from ratelimit_mail.limits import Limit
from ratelimit_mail.overrides import Override
from ratelimit_mail.policy.charges import ChargePlan
from ratelimit_mail.testing import ManualClock

__all__ = [
    "NAMED_LIMITS",
    "accepted_in_a_row",
    "campus_policy",
    "costs_of",
    "costs_of_plan",
    "envelope_to",
    "inbound_envelope",
    "limit_name",
    "limit_numbers",
    "limiter_with_clock",
    "limiter_with_overrides",
    "policy_with_overrides",
    "used_counts",
    "users_at",
]

NAMED_LIMITS: Final[Sequence[Limit]] = (
    RecipientLimit(10, name="recipients a message"),
    MessageRateLimit("3/minute", name="messages a minute"),
    RecipientRateLimit("20/day", name="recipients a day"),
)
"""One limit of each kind, for overrides to name."""


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


def accepted_in_a_row(limiter: Limiter, envelope: Envelope, most: int = 1000) -> int:
    """Return how many times `envelope` is accepted before the first denial, up to `most`."""
    accepted = 0
    while accepted < most and limiter.try_acquire(envelope):
        accepted += 1
    return accepted


def used_counts(limiter: Limiter, subject: Any, scope: Any = "sender") -> list[int]:
    """Return how much of each limit per `scope` a subject has used."""
    return [usage.used for usage in limiter.usage(subject, scope=scope)]


def limit_numbers(limiter: Limiter, sender: str, client: Client | None = None) -> list[int]:
    """Return the number of each limit that applies to a sender now."""
    return [usage.limit.limit for usage in limiter.usage(sender, client=client)]


def policy_with_overrides(
    *overrides: Override, limits: Iterable[Any] = NAMED_LIMITS, **options: Any
) -> Policy:
    """Return a policy with these overrides."""
    return Policy(name="leeds", limits=limits, overrides=overrides, **options)


def limiter_with_overrides(
    *overrides: Override, now: int | None = None, **options: Any
) -> tuple[Limiter, ManualClock]:
    """Return a limiter with these overrides, and its manual clock."""
    return limiter_with_clock(policy_with_overrides(*overrides, **options), now)


def users_at(domain: str, number: int) -> list[str]:
    """Return the addresses of so many users of a domain."""
    return [f"user{i}@{domain}" for i in range(number)]


def costs_of(policy: Policy, envelope: Envelope) -> dict[tuple[str, str], int]:
    """Return what an envelope that may fit costs, by count and subject."""
    plan = policy.plan(envelope)
    assert plan.never is None
    costs = costs_of_plan(plan)
    by_subject = {(count, subject): cost for count, subject, cost in costs}
    assert len(by_subject) == len(costs)
    return by_subject


def costs_of_plan(plan: ChargePlan) -> list[tuple[str, str, int]]:
    """Return each count that a plan charges, with the subject and the cost."""
    return [
        (f"{ledger.name}:{UNITS[count.unit]}", subject, costs[count.unit])
        for ledger, subject, costs in plan.charges
        for count in ledger.counts
        if costs[count.unit] and (plan.never is None or count.counts_denied)
    ]
