"""Decision, Action, Rule and Usage: what a limiter answers."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal

import attrs

from ratelimit_mail._util.text import short_repr, show
from ratelimit_mail.limits import Limit, RateLimit
from ratelimit_mail.smtp_reply import (
    BLOCKED,
    BLOCKED_FOR_NOW,
    OK,
    UNAVAILABLE,
    Reply,
    reply_of,
)

__all__ = [
    "ACCEPT",
    "DEFER",
    "REJECT",
    "Action",
    "Block",
    "Decision",
    "Rule",
    "SubjectUsage",
    "Usage",
    "accepted",
    "add_shadow",
    "denied",
    "held_by",
    "not_granted",
    "refused_by",
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


@attrs.frozen
class Rule:
    """A reason, other than a limit, for which a message was rejected or held.

    words: the rule in words; `str()` returns them.
    action: `"hold"` the message for a moderator, or `"reject"` it.
    reply: the SMTP reply to the client.
    """

    words: str
    action: Literal["hold", "reject"]
    reply: Reply

    def __str__(self) -> str:
        return self.words


_NOT_GRANTED = Rule(
    "senders must be granted first",
    "reject",
    Reply(
        550, "5.7.1", "This sender address has not been granted. Ask your mail administrator first."
    ),
)


def not_granted() -> Rule:
    """Return the rule that rejects a sender without a grant."""
    return _NOT_GRANTED


def held_by(mailing_list: str) -> Rule:
    """Return the rule of a mailing list whose moderator must approve a message."""
    return Rule(
        f"posting to {show(mailing_list)} is moderated",
        "hold",
        Reply(250, "2.0.0", "Held for the moderator of the mailing list."),
    )


def refused_by(mailing_list: str) -> Rule:
    """Return the rule of a mailing list to which only named senders may post."""
    return Rule(
        f"posting to {show(mailing_list)} is for named senders",
        "reject",
        Reply(550, "5.7.2", "Only named senders may post to this mailing list."),
    )


@attrs.frozen(kw_only=True)
class Block:
    """A subject that may send nothing.

    scope, subject: what is blocked, such as `("sender",)` and an address; a tuple of values if
        the scope has several words, None for `("global",)`.
    since: when it was blocked. until: when that ends; None if it must be lifted by `unblock`.
    reason: why, for people to read.
    """

    scope: tuple[str, ...]
    subject: str | tuple[str, ...] | None
    since: datetime
    until: datetime | None = None
    reason: str | None = None

    def __str__(self) -> str:
        values = self.subject if isinstance(self.subject, tuple) else (self.subject,)
        subject = " and ".join("everybody" if each is None else show(each) for each in values)
        return f"{subject} is blocked" + ("" if self.reason is None else f": {self.reason}")


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


@attrs.frozen
class Usage:
    """How much of one limit a subject has used.

    limit: the limit; one that only reports has `enforce` false, and a count of its own.
    used: what its window holds now; counted refused attempts that no longer change an answer may
        be missing.
    remaining: the most that fits now, without moving what is booked for later.
    resets_in: seconds until nothing that was sent or booked counts any more.
    block: the block of the subject, if it is blocked.
    """

    limit: RateLimit
    used: int
    remaining: int
    resets_in: float
    block: Block | None = None


@attrs.frozen(kw_only=True)
class SubjectUsage:
    """How much of its limits one subject has used.

    scope, subject: what is counted, such as `("sender",)` and an address; a tuple of values if
        the scope has several words, None for `("global",)`. An address is spelled as it is
        compared, mostly in small letters.
    share: the largest share of a limit that is used, as a fraction of 1. It may be above 1, because
        refused attempts may count, and because a limit may have been lowered.
    usages: of each limit, as `Limiter.usage` returns them.
    """

    scope: tuple[str, ...]
    subject: str | tuple[str, ...] | None
    share: float
    usages: tuple[Usage, ...]

    @property
    def block(self) -> Block | None:
        """The block of the subject, if it is blocked."""
        return next((each.block for each in self.usages), None)
