"""Limiters with shadow limits, and what the tests ask of their decisions."""

from __future__ import annotations

from typing import Any

from ratelimit_mail import Decision, Envelope, Limiter, MessageRateLimit
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.limits import Limit
from ratelimit_mail.testing import ManualClock
from rlm_testkit.builders import campus_policy, envelope_to

__all__ = [
    "ANN",
    "BOB",
    "ENVELOPE",
    "EVE",
    "SHADOW_TWO_A_MINUTE",
    "TEN_A_MINUTE",
    "shadow_has_room",
    "shadow_limiter",
    "shadow_of",
    "used",
]

ANN, BOB, EVE = "ann@uwo.ca", "bob@uwo.ca", "eve@example.com"
ENVELOPE = envelope_to([EVE], ANN)

TEN_A_MINUTE = MessageRateLimit("10/minute")
SHADOW_TWO_A_MINUTE = MessageRateLimit("2/minute", enforce=False)


def shadow_limiter(
    *limits: Limit,
    clock: ManualClock | None = None,
    backend: MemoryBackend | None = None,
    **options: Any,
) -> Limiter:
    """Return a limiter in memory under `limits`; `options` are those of its policy."""
    clock = clock or ManualClock()
    policy = campus_policy(*limits, **options)
    return Limiter(policy, backend or MemoryBackend(clock), sleep=clock.advance)


def shadow_of(decision: Decision) -> Decision:
    """Return what the shadow limits would have answered."""
    assert decision.shadow is not None
    return decision.shadow


def shadow_has_room(limiter: Limiter, envelope: Envelope = ENVELOPE) -> bool:
    """Return whether the shadow limits have room for one more message."""
    return shadow_of(limiter.check(envelope)).allowed


def used(limiter: Limiter, subject: str = ANN) -> list[int]:
    """Return how much of each enforced limit a sender has used."""
    return [usage.used for usage in limiter.usage(subject)]
