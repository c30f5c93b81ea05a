"""Shadow limits, which only report (`enforce=False`): their answers, and their own counts.

They answer as a limiter of their own that sees the messages which the enforced limits accept; a
message that a shadow limit would have turned away does not count for the shadow limits. Nothing
here changes a decision.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import attrs

from ratelimit_mail._util.logger import log_warning
from ratelimit_mail._util.steps import Steps
from ratelimit_mail.backends.base import CHECK, REFUSE, Idempotency, Intent, Verdict
from ratelimit_mail.backends.memory import MemoryBackend
from ratelimit_mail.counting.charge import Charge
from ratelimit_mail.decision import Decision, accepted, add_shadow
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.exceptions import BackendError
from ratelimit_mail.limiter.intents import Intents
from ratelimit_mail.limiter.quick_charges import QuickCharge
from ratelimit_mail.limiter.verdicts import decide, refused, refused_until
from ratelimit_mail.limits import MessageSizeLimit, RecipientLimit
from ratelimit_mail.policy.charges import ChargePlan, EffectiveLimits

__all__ = [
    "Shadow",
    "answer_to_check",
    "check_shadow_steps",
    "check_steps",
    "shadow_charger",
    "shadow_steps",
]

Shadow = tuple[Decision, Any]
"""What shadow limits would have answered, and the receipt of what they were charged."""


def shadow_steps(
    backend: Any,
    intents: Intents,
    envelope: Envelope,
    plan: ChargePlan,
    decision: Decision,
    queue: Charge | None = None,
    max_delay: int = 0,
) -> Steps[Shadow | None]:
    """Return what the shadow limits of `plan` would have answered; None if that is not known.

    decision: what the enforced limits answered.
    queue: for a booked message, the queue that it is booked in here as well.
    max_delay: in how many milliseconds the message goes. One that shadow limits would hold for
        longer is not booked: a loop under shadow limits stricter than the enforced ones would
        otherwise book years ahead.
    """
    if not plan.charges:
        return answer_to_check(plan, None), None
    try:
        if not decision or plan.never is not None:
            repeatable = intents.idempotency(plan, envelope, "refuse")
            return (yield from _turned_away_steps(backend, plan, decision, repeatable))
        intent = intents.intent(plan, envelope)
        if queue is not None:
            idempotency = intents.idempotency(plan, envelope, "book")
            intent = Intent(queue=queue, max_delay=max_delay, idempotency=idempotency)
        verdict: Verdict = yield partial(backend.apply, plan.charges, intent)
        return answer_to_check(plan, verdict), verdict.receipt
    except BackendError as error:
        _log_unknown(error)
        return None


def shadow_charger(
    backend: MemoryBackend, limits: EffectiveLimits
) -> Callable[[Envelope, QuickCharge, Decision], None]:
    """Return what charges the shadow limits `limits` for an accepted message, in memory.

    It adds their answer to the decision.
    """
    would_accept, is_shown = accepted(limits.tier, None), bool(limits.limits)

    def charge_shadow(envelope: Envelope, charge: QuickCharge, decision: Decision) -> None:
        subject_of, answer_to = charge.subject_of, charge.answer_to
        subject = subject_of(envelope)
        answer = answer_to(subject)
        receipt, shadow = answer, would_accept
        if type(answer) is tuple:
            receipt, shadow = None, refused_until(limits, answer)
        elif answer is None:
            verdict = backend.apply([(charge.ledger, subject, charge.costs)])
            receipt = verdict.receipt
            if verdict.refusals:
                shadow = refused(limits, verdict)
        if receipt is not None and decision.refund_token is not None:
            decision.refund_token.append(receipt)
        if is_shown:
            add_shadow(decision, shadow)

    return charge_shadow


def check_steps(backend: Any, plan: ChargePlan) -> Steps[Decision]:
    """Return what the limits of `plan` would answer now; nothing is charged."""
    verdict = None
    if plan.charges and plan.never is None:
        verdict = yield partial(backend.apply, plan.charges, CHECK)
    return answer_to_check(plan, verdict)


def check_shadow_steps(backend: Any, plan: ChargePlan) -> Steps[Decision | None]:
    """Return what the shadow limits of `plan` would answer now; None if that is not known."""
    try:
        return (yield from check_steps(backend, plan))
    except BackendError as error:
        _log_unknown(error)
        return None


def _log_unknown(error: BackendError) -> None:
    log_warning("the answer of shadow limits is not known: %s", error)


def answer_to_check(plan: ChargePlan, verdict: Verdict | None) -> Decision:
    """Return a decision that cannot be refunded by itself.

    verdict: None if nothing was asked.
    """
    decision = decide(plan, verdict, None)
    if decision.refund_token is None:
        return decision
    return attrs.evolve(decision, refund_token=None)


def _turned_away_steps(
    backend: Any, plan: ChargePlan, decision: Decision, repeatable: Idempotency | None
) -> Steps[Shadow]:
    """Return the answer to a message that does not go, and count its attempt where limits do.

    repeatable: makes the attempts of a message that can never go count once.
    """
    answer = yield from check_steps(backend, plan)
    # The refusal of a limit on one message counts nowhere, and a repeated one was counted before.
    if (
        plan.counts_denied
        and not decision.repeated
        and not isinstance(decision.limit, RecipientLimit | MessageSizeLimit)
    ):
        # A message that may go later is worth another attempt when its refusal is forgotten.
        is_final = decision.retry_after is None
        intent = Intent(refused=True, idempotency=repeatable) if is_final else REFUSE
        yield partial(backend.apply, plan.charges, intent)
    return answer, None
