"""From a plan and the backend's verdict on it to a decision."""

from __future__ import annotations

from ratelimit_mail.backends.base import Verdict
from ratelimit_mail.decision import ACCEPT, Action, Decision, Rule, accepted, denied
from ratelimit_mail.policy.charges import ChargePlan, EffectiveLimits

__all__ = ["decide", "refused"]


def decide(plan: ChargePlan, verdict: Verdict | None, limiter: object) -> Decision:
    """The decision of `limiter` on a plan; without a verdict, on one that needs no backend."""
    if plan.never is not None:
        if isinstance(plan.never, Rule):
            action = Action.HOLD if plan.never.action == "hold" else Action.REJECT
            return Decision(action, None, None, plan.effective_limits.tier, rule=plan.never)
        return Decision(Action.REJECT, None, plan.never, plan.effective_limits.tier)
    if verdict is None:
        return Decision(ACCEPT, 0.0, None, plan.effective_limits.tier, [limiter, None])
    if verdict.refusals:
        return refused(plan.effective_limits, verdict)
    if verdict.degraded:
        return _degraded(plan, verdict, limiter)
    return accepted(plan.effective_limits.tier, [limiter, verdict.receipt])


def _degraded(plan: ChargePlan, verdict: Verdict, limiter: object) -> Decision:
    """The decision that no limit had a part in, because the backend is away."""
    refund_token = [limiter, verdict.receipt]
    if verdict.receipt is None and verdict.at > verdict.now:
        action, wait = Action.DEFER, (verdict.at - verdict.now) / 1000
        return Decision(action, wait, None, plan.effective_limits.tier, None, degraded=True)
    return Decision(ACCEPT, 0.0, None, plan.effective_limits.tier, refund_token, degraded=True)


def refused(effective: EffectiveLimits, verdict: Verdict) -> Decision:
    """The decision on charges that do not fit, and the limit that speaks.

    That is one that rejects before one that defers, then the one that holds longest.
    """
    now, at, _, refusals, is_degraded = verdict
    count, window, room_at = refusals[0]
    limit = effective.limit_of(count, window)
    for count, window, later in refusals[1:]:
        other = effective.limit_of(count, window)
        if (other.on_excess == "reject", later) > (limit.on_excess == "reject", room_at):
            limit, room_at = other, later
    action = Action.REJECT if limit.on_excess == "reject" else Action.DEFER
    return denied(action, (at - now) / 1000, limit, effective.tier, degraded=is_degraded)
