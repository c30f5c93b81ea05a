"""What a server answers Postfix: a decision as an action of access(5)."""

from __future__ import annotations

from typing import Final

from ratelimit_mail.decision import Action, Decision
from ratelimit_mail.limits import RateLimit
from ratelimit_mail.server.postfix import Stage
from ratelimit_mail.smtp_reply import Reply, reply_of

__all__ = ["DUNNO", "HOLD_BOOKED", "MALFORMED", "UNKNOWN_RECIPIENTS", "action_of", "refusal_of"]

DUNNO: Final = "DUNNO"
"""No objection: Postfix goes on with its other rules. `OK` would skip them."""

MALFORMED: Final = "DEFER_IF_PERMIT 4.3.0 Sending limits cannot be checked now. Try again later."
"""The answer to a request that cannot be read."""

UNKNOWN_RECIPIENTS: Final = Reply(
    451, "4.3.0", "The recipients of this message are not known. Try again later."
)
"""The reply to a message whose recipients came before the server was started, or were too many."""

HOLD_BOOKED: Final = "HOLD Over the sending limit: the message will be sent later."


def action_of(reply: Reply, stage: Stage) -> str:
    """Return the action that makes Postfix send `reply`.

    At RCPT, a temporary failure is DEFER_IF_PERMIT, so that a rule behind this one may still refuse
    the recipient for good.
    """
    if stage is Stage.RCPT and 400 <= reply.code < 500:
        return f"DEFER_IF_PERMIT {reply.status} {reply.text}"
    return str(reply)


def refusal_of(decision: Decision, excess: str | None) -> Reply:
    """Return the reply to a message that is not accepted.

    excess: `defer` or `reject` what is above a rate now but would fit later; None does what the
        limit says.
    """
    is_over_rate = (
        isinstance(decision.limit, RateLimit)
        and decision.retry_after is not None
        and decision.action in (Action.DEFER, Action.REJECT)
    )
    if not is_over_rate or excess not in ("defer", "reject"):
        return decision.reply
    assert decision.limit is not None  # noqa: S101 - for the type checker
    return reply_of(decision.limit, defer=excess == "defer", never=False)
