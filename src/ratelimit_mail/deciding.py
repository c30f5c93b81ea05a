"""From a plan and the backend's verdict on it to a decision."""

from __future__ import annotations

from ratelimit_mail.backends.base import Verdict
from ratelimit_mail.decision import ACCEPT, Action, Decision, accepted
from ratelimit_mail.planning import Plan, Sheet
from ratelimit_mail.rules import Rule

__all__ = ["decide", "degraded", "refused"]


def decide(plan: Plan, verdict: Verdict | None, limiter: object) -> Decision:
    """The decision of `limiter` on a plan; without a verdict, on one that needs no backend."""
    if plan.never is not None:
        if isinstance(plan.never, Rule):
            action = Action.HOLD if plan.never.action == "hold" else Action.REJECT
            return Decision(action, None, None, plan.sheet.tier, rule=plan.never)
        return Decision(Action.REJECT, None, plan.never, plan.sheet.tier)
    if verdict is None:
        return Decision(ACCEPT, 0.0, None, plan.sheet.tier, [limiter, None])
    if verdict.refusals:
        return refused(plan.sheet, verdict)
    if verdict.degraded:
        return degraded(plan, verdict, limiter)
    return accepted(plan.sheet.tier, [limiter, verdict.receipt])


def degraded(plan: Plan, verdict: Verdict, limiter: object) -> Decision:
    """The decision that no limit had a part in, because the backend is away."""
    claim = [limiter, verdict.receipt]
    if verdict.receipt is None and verdict.at > verdict.now:
        action, wait = Action.DEFER, (verdict.at - verdict.now) / 1000
        return Decision(action, wait, None, plan.sheet.tier, None, degraded=True)
    return Decision(ACCEPT, 0.0, None, plan.sheet.tier, claim, degraded=True)


def refused(sheet: Sheet, verdict: Verdict) -> Decision:
    """The decision on charges that do not fit, and the limit that speaks.

    That is one that rejects before one that defers, then the one that holds longest.
    """
    harshest: tuple[bool, int] | None = None
    for count, window, room_at in verdict.refusals:
        refusing = sheet.limit_of(count, window)
        rank = (refusing.on_excess == "reject", room_at)
        if harshest is None or rank > harshest:
            limit, harshest = refusing, rank
    action = Action.REJECT if limit.on_excess == "reject" else Action.DEFER
    wait = (verdict.at - verdict.now) / 1000
    return Decision(action, wait, limit, sheet.tier, degraded=verdict.degraded)
