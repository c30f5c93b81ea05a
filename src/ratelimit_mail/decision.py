"""Decision and Action: what a limiter answers."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs

from ratelimit_mail._util.text import short_repr

if TYPE_CHECKING:  # the classes of values are slow to make, and few programs need all of them
    from ratelimit_mail.limits import Limit
    from ratelimit_mail.rules import Block, Rule
    from ratelimit_mail.smtp_reply import Reply

__all__ = [
    "ACCEPT",
    "DEFER",
    "REJECT",
    "Action",
    "Decision",
    "accepted",
    "add_shadow",
    "denied",
]


class Action(enum.Enum):
    """What to do with a message; HOLD means that a mailing list's moderator decides."""

    ACCEPT = "accept"
    DEFER = "defer"
    REJECT = "reject"
    HOLD = "hold"


# A member of an enum is slow to look up for each message.
ACCEPT: Final = Action.ACCEPT
DEFER: Final = Action.DEFER
REJECT: Final = Action.REJECT


@attrs.frozen(slots=False)  # building one takes a third longer with slots
class Decision:
    """Whether a message may be sent now, later or never; true if it may be sent now.

    refund_token: for `Limiter.refund` and `settle` only; None if nothing was charged.
    action: ACCEPT, DEFER (try later), REJECT, or HOLD for a mailing list's moderator.
    retry_after: seconds until the same message fits if nothing else is sent: 0.0 if
        it may be sent now, None if it never will.
    limit: the limit that refused the message; None if it was accepted, or a rule refused it.
    tier: the name of the client's tier; None if the client is not in a tier.
    rule: the rule that rejected or held the message: for a sender without a grant, or of a
        mailing list.
    recipients: the decision for each recipient, if the policy decides on incoming mail separately
        for each recipient (`partial`); otherwise None. The message is accepted if any of them is.
    block: the block that refused the message; None if it was not refused by a block.
    shadow: what limits with `enforce=False` would have answered; None if there are none, or if a
        rule refused the message.
    degraded: whether the decision was made while the backend was unavailable. `limit` is None if
        the message was deferred for that reason.
    repeated: whether this is the decision of an earlier call for an envelope with the same `id`;
        nothing was charged again.
    """

    action: Action
    retry_after: float | None = 0.0
    limit: Limit | None = None
    tier: str | None = None
    degraded: bool = attrs.field(default=False, kw_only=True)
    repeated: bool = attrs.field(default=False, kw_only=True, eq=False)
    rule: Rule | None = attrs.field(default=None, kw_only=True)
    block: Block | None = attrs.field(default=None, kw_only=True)
    recipients: Mapping[str, Decision] | None = attrs.field(default=None, kw_only=True, hash=False)
    shadow: Decision | None = attrs.field(default=None, kw_only=True)
    refund_token: list[Any] | None = attrs.field(default=None, repr=False, eq=False)
    """The limiter and the receipt for a refund, until the refund is made; not for callers."""

    def __getstate__(self) -> dict[str, Any]:
        # The token holds the limiter, with its locks and counts, so a copy cannot be refunded.
        return {**self.__dict__, "refund_token": None}

    __repr__ = short_repr

    @property
    def allowed(self) -> bool:
        """Whether the message may be sent now."""
        return self.action is ACCEPT

    def __bool__(self) -> bool:
        return self.action is ACCEPT

    @property
    def reply(self) -> Reply:
        """The SMTP reply to the client; `str()` of it is the line to send."""
        if self.rule is not None:
            return self.rule.reply
        from ratelimit_mail.smtp_reply import (  # few programs answer a client
            BLOCKED,
            BLOCKED_FOR_NOW,
            OK,
            UNAVAILABLE,
            reply_of,
        )

        if self.block is not None:
            return BLOCKED if self.block.until is None else BLOCKED_FOR_NOW
        if self.limit is None:
            return OK if self.action is ACCEPT else UNAVAILABLE
        return reply_of(
            self.limit, defer=self.action is Action.DEFER, never=self.retry_after is None
        )


for _field in attrs.fields(Decision):
    # The functions below do not set every field of an instance; the class then has its default.
    setattr(Decision, _field.name, None if _field.default is attrs.NOTHING else _field.default)
Decision.action = ACCEPT

_new = object.__new__


def accepted(tier: str | None, refund_token: list[Any] | None) -> Decision:
    """Return `Decision(ACCEPT, ...)`, in a third of the time."""
    decision = _new(Decision)
    fields = decision.__dict__
    fields["refund_token"] = refund_token
    if tier is not None:
        fields["tier"] = tier
    return decision


def add_shadow(decision: Decision, shadow: Decision) -> None:
    """Set the answer of shadow limits in a decision that was not returned yet."""
    decision.__dict__["shadow"] = shadow


def denied(action: Action, retry_after: float | None, limit: Limit, tier: str | None) -> Decision:
    """Return `Decision(action, retry_after, limit, tier)`, in half the time."""
    decision = _new(Decision)
    fields = decision.__dict__
    fields["action"] = action
    fields["retry_after"] = retry_after
    fields["limit"] = limit
    if tier is not None:
        fields["tier"] = tier
    return decision
