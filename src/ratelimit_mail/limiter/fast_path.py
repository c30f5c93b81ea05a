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
    if not selector.of_tiers:
        return _by_sheet(selector.common, backend, limiter)
    sheets = [selector.common, *(sheet for _, sheet in selector.of_tiers)]
    ways = {sheet: _by_sheet(sheet, backend, limiter) for sheet in sheets}

    def decide(envelope: Envelope) -> Decision | None:
        if not isinstance(envelope, Envelope):
            return None
        return ways[selector.by_tier(envelope.client)[1]](envelope)

    return decide


def _by_sheet(sheet: EffectiveLimits, backend: MemoryBackend, limiter: object) -> FastPath:
    # Names of a closure are quicker than attributes.
    known, take, tier = sheet.known, backend.take, sheet.tier

    def decide(envelope: Envelope) -> Decision | None:
        try:
            charged = known[envelope.domains]
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
        return refused(sheet, answer) if isinstance(answer, Verdict) else None

    return decide
