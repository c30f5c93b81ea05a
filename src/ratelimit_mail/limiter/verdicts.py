"""Turn a backend's verdict into a Decision: the action, the limit it names and `retry_after`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs

from ratelimit_mail.backends.base import Refusal, Verdict
from ratelimit_mail.decision import ACCEPT, DEFER, REJECT, Action, Decision, accepted, denied
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.limits import BaseLimit, RateLimit
from ratelimit_mail.policy.charges import ChargePlan, EffectiveLimits

__all__ = ["blocking_limit", "decide", "refused", "refused_until"]

SEVERITY: Final = {"defer": 0, "reject": 1, "block": 2}
"""Which of several limits a decision names, by what they do on excess."""


def decide(
    plan: ChargePlan, verdict: Verdict | None, owner: object, envelope: Envelope | None = None
) -> Decision:
    """Return the decision on a plan.

    verdict: None if the plan needs no backend. owner, envelope: for the refund token.
    """
    if plan.never is not None:
        if not isinstance(plan.never, BaseLimit):
            action = Action.HOLD if plan.never.action == "hold" else Action.REJECT
            return Decision(action, None, None, plan.effective_limits.tier, rule=plan.never)
        repeated = verdict is not None and verdict.repeated
        tier = plan.effective_limits.tier
        return Decision(Action.REJECT, None, plan.never, tier, repeated=repeated)
    if verdict is None:
        return Decision(ACCEPT, 0.0, None, plan.effective_limits.tier, [owner, envelope, None])
    if verdict.refusals:
        return refused(plan.effective_limits, verdict)
    token = [owner, envelope, verdict.receipt]
    if verdict.degraded:
        return _degraded(plan, verdict, token)
    decision = accepted(plan.effective_limits.tier, token)
    return attrs.evolve(decision, repeated=True) if verdict.repeated else decision


def blocking_limit(decision: Decision) -> RateLimit | None:
    """Return the limit that refused a message and blocks its subject, if it does that."""
    limit = decision.limit
    if limit is None or decision.repeated or not isinstance(limit, RateLimit):
        return None
    return limit if limit.on_excess == "block" else None


def _degraded(plan: ChargePlan, verdict: Verdict, token: list[Any]) -> Decision:
    """Return the decision of `on_backend_error`, in which no limit had a part."""
    if verdict.receipt is None and verdict.at > verdict.now:
        action, wait = Action.DEFER, (verdict.at - verdict.now) / 1000
        return Decision(action, wait, None, plan.effective_limits.tier, None, degraded=True)
    return Decision(ACCEPT, 0.0, None, plan.effective_limits.tier, token, degraded=True)


def refused(limits: EffectiveLimits, verdict: Verdict) -> Decision:
    """Return the decision on charges that do not fit; see `refused_until`."""
    now, at, _, refusals, is_degraded, is_repeated = verdict
    decision = refused_until(limits, (now, at, refusals))
    if is_degraded or is_repeated:
        decision = attrs.evolve(decision, degraded=is_degraded, repeated=is_repeated)
    return decision


def refused_until(limits: EffectiveLimits, refusal: tuple[int, int, Sequence[Refusal]]) -> Decision:
    """Return the decision on charges that do not fit.

    refusal: the time, the moment at which they fit, and the windows without room.

    It names a limit that blocks before one that rejects, and that before one that defers; of
    several it names the one with the longest wait. `retry_after` is exact: the first moment at
    which all charges fit, less the present; None if the subject is blocked.
    """
    now, at, refusals = refusal
    count, window, room_at = refusals[0]
    limit = limits.limit_of(count, window)
    if len(refusals) > 1:
        for count, window, later in refusals[1:]:
            other = limits.limit_of(count, window)
            if (SEVERITY[other.on_excess], later) > (SEVERITY[limit.on_excess], room_at):
                limit, room_at = other, later
    excess = limit.on_excess
    if excess == "defer":
        return denied(DEFER, (at - now) / 1000, limit, limits.tier)
    return denied(REJECT, None if excess == "block" else (at - now) / 1000, limit, limits.tier)
