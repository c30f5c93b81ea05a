"""Limits that only report: what they would have answered, and counts of their own for it.

They answer as a limiter of their own does that is asked about what the enforced limits accept:
what they would have turned away does not count for them. Nothing that happens here changes a
decision.
"""

from __future__ import annotations

from typing import Any, Final

import attrs

from ratelimit_mail._util.logger import warn
from ratelimit_mail._util.steps import Script
from ratelimit_mail.backends.base import LOOK, REFUSE, Intent, Verdict
from ratelimit_mail.counting.charge import Charge, Costs
from ratelimit_mail.decision import Decision
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.exceptions import BackendError
from ratelimit_mail.limiter.intents import Asking
from ratelimit_mail.limiter.verdicts import decide
from ratelimit_mail.limits import RecipientLimit
from ratelimit_mail.policy.charges import Plan

__all__ = ["BOOKING", "Shadow", "looking", "looking_aside", "shadowing"]

BOOKING: Final[Costs] = (1, 0, 0, 0)
"""What one booking adds to a sender's queue."""

Shadow = tuple[Decision, Any]
"""What would have been answered, and the receipt of what was charged for it."""


def shadowing(
    backend: Any,
    asking: Asking,
    envelope: Envelope,
    plan: Plan,
    decision: Decision,
    line: Charge | None = None,
    patience: int = 0,
) -> Script[Shadow | None]:
    """What the limits of `plan` would have answered to a message that met `decision`.

    line: of a message that was booked, the line that it is booked in here as well.
    patience: in how many milliseconds it goes. One that these limits would hold for longer is not
        booked: else a loop under limits stricter than the enforced ones would book years ahead.
    """
    if not plan.charges:
        return _answer(plan, None), None
    try:
        if not decision or plan.never is not None:
            return (yield from _turned_away(backend, plan, decision))
        intent = asking.intent(plan, envelope)
        if line is not None:
            once = asking.once(plan, envelope, "book")
            intent = Intent(line=line, patience=patience, once=once)
        verdict: Verdict = yield lambda: backend.apply(plan.charges, intent)
        return _answer(plan, verdict), verdict.receipt
    except BackendError as error:
        _unknown(error)
        return None


def looking(backend: Any, plan: Plan) -> Script[Decision]:
    """What the limits of `plan` would answer now; nothing is charged."""
    verdict = None
    if plan.charges and plan.never is None:
        verdict = yield lambda: backend.apply(plan.charges, LOOK)
    return _answer(plan, verdict)


def looking_aside(backend: Any, plan: Plan) -> Script[Decision | None]:
    """The same for limits that only report: None where it is not known."""
    try:
        return (yield from looking(backend, plan))
    except BackendError as error:
        _unknown(error)
        return None


def _unknown(error: BackendError) -> None:
    warn("what limits that only report would have answered is not known: %s", error)


def _answer(plan: Plan, verdict: Verdict | None) -> Decision:
    """A decision of which nothing can be refunded by itself."""
    return attrs.evolve(decide(plan, verdict, None), claim=None)


def _turned_away(backend: Any, plan: Plan, decision: Decision) -> Script[Shadow]:
    """The answer to a message that does not go; its attempt is counted where such are."""
    answer = yield from looking(backend, plan)
    # What a recipient limit refuses counts nowhere.
    counts = any(ledger.counts_denied for ledger, _, _ in plan.charges)
    if counts and not isinstance(decision.limit, RecipientLimit):
        yield lambda: backend.apply(plan.charges, REFUSE)
    return answer, None
