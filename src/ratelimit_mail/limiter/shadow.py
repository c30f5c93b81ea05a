"""Limits that only report: what they would have answered, and counts of their own for it.

They answer as a limiter of their own does that is asked about what the enforced limits accept:
what they would have turned away does not count for them. Nothing that happens here changes a
decision.
"""

from __future__ import annotations

from typing import Any, Final

import attrs

from ratelimit_mail._util.logger import log_warning
from ratelimit_mail._util.steps import Steps
from ratelimit_mail.backends.base import CHECK, REFUSE, Intent, Verdict
from ratelimit_mail.counting.charge import Charge, Costs
from ratelimit_mail.decision import Decision
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.exceptions import BackendError
from ratelimit_mail.limiter.intents import Intents
from ratelimit_mail.limiter.verdicts import decide
from ratelimit_mail.limits import RecipientLimit
from ratelimit_mail.policy.charges import ChargePlan

__all__ = ["BOOKING", "Shadow", "check_shadow_steps", "check_steps", "shadow_steps"]

BOOKING: Final[Costs] = (1, 0, 0, 0)
"""What one booking adds to a sender's queue."""

Shadow = tuple[Decision, Any]
"""What would have been answered, and the receipt of what was charged for it."""


def shadow_steps(
    backend: Any,
    intents: Intents,
    envelope: Envelope,
    plan: ChargePlan,
    decision: Decision,
    queue: Charge | None = None,
    max_delay: int = 0,
) -> Steps[Shadow | None]:
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
        intent = intents.intent(plan, envelope)
        if queue is not None:
            idempotency = intents.idempotency(plan, envelope, "book")
            intent = Intent(queue=queue, max_delay=max_delay, idempotency=idempotency)
        verdict: Verdict = yield lambda: backend.apply(plan.charges, intent)
        return _answer(plan, verdict), verdict.receipt
    except BackendError as error:
        _unknown(error)
        return None


def check_steps(backend: Any, plan: ChargePlan) -> Steps[Decision]:
    """What the limits of `plan` would answer now; nothing is charged."""
    verdict = None
    if plan.charges and plan.never is None:
        verdict = yield lambda: backend.apply(plan.charges, CHECK)
    return _answer(plan, verdict)


def check_shadow_steps(backend: Any, plan: ChargePlan) -> Steps[Decision | None]:
    """The same for limits that only report: None where it is not known."""
    try:
        return (yield from check_steps(backend, plan))
    except BackendError as error:
        _unknown(error)
        return None


def _unknown(error: BackendError) -> None:
    log_warning("what limits that only report would have answered is not known: %s", error)


def _answer(plan: ChargePlan, verdict: Verdict | None) -> Decision:
    """A decision of which nothing can be refunded by itself."""
    return attrs.evolve(decide(plan, verdict, None), refund_token=None)


def _turned_away(backend: Any, plan: ChargePlan, decision: Decision) -> Steps[Shadow]:
    """The answer to a message that does not go; its attempt is counted where such are."""
    answer = yield from check_steps(backend, plan)
    # What a recipient limit refuses counts nowhere.
    counts = any(ledger.counts_denied for ledger, _, _ in plan.charges)
    if counts and not isinstance(decision.limit, RecipientLimit):
        yield lambda: backend.apply(plan.charges, REFUSE)
    return answer, None
