"""Limits that only report: what they would have answered, and counts of their own for it.

Their counts are those of a world in which they are enforced beside the others, so that what they
would have turned away does not count for them. Nothing that happens here changes a decision.
"""

from __future__ import annotations

from typing import Any

from ratelimit_mail.asking import Asking
from ratelimit_mail.backends.base import LOOK, REFUSE, Intent, Verdict
from ratelimit_mail.charge import Charge
from ratelimit_mail.deciding import decide
from ratelimit_mail.decision import Decision
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.exceptions import BackendError
from ratelimit_mail.journal import warn
from ratelimit_mail.planning import Plan
from ratelimit_mail.scripts import Script

__all__ = ["Shadow", "shadowing"]

Shadow = tuple[Decision, Any]
"""What would have been answered, and the receipt of what was charged for it."""


def shadowing(
    backend: Any,
    asking: Asking,
    envelope: Envelope,
    plan: Plan,
    decision: Decision,
    line: Charge | None = None,
) -> Script[Shadow | None]:
    """What the limits of `plan` would have answered to a message that met `decision`.

    line: of a message that was booked, the line that it is booked in here as well.
    """
    if not plan.charges:
        return decide(plan, None, None), None
    try:
        if not decision or plan.never is not None:
            return (yield from _turned_away(backend, plan))
        if line is None:
            intent = asking.intent(plan, envelope, "shadow")
            verdict: Verdict = yield lambda: backend.apply(plan.charges, intent)
            return decide(plan, verdict, None), verdict.receipt
        looked: Verdict = yield lambda: backend.apply(plan.charges, LOOK)
        once = asking.once(plan, envelope, "shadow")
        booked: Verdict = yield lambda: backend.apply(plan.charges, Intent(line=line, once=once))
        return decide(plan, looked, None), booked.receipt
    except BackendError as error:
        warn("what limits that only report would have answered is not known: %s", error)
        return None


def looking(backend: Any, plan: Plan) -> Script[Decision]:
    """What the limits of `plan` would answer now; nothing is charged."""
    verdict = None
    if plan.charges and plan.never is None:
        verdict = yield lambda: backend.apply(plan.charges, LOOK)
    return decide(plan, verdict, None)


def _turned_away(backend: Any, plan: Plan) -> Script[Shadow]:
    """The answer to a message that does not go; its attempt is counted where such are."""
    answer = yield from looking(backend, plan)
    if any(ledger.counts_denied for ledger, _, _ in plan.charges):
        yield lambda: backend.apply(plan.charges, REFUSE)
    return answer, None
