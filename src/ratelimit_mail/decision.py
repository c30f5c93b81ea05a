"""Decision, Action, Rule and Usage: the answers of a limiter."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final, Literal

import attrs

from ratelimit_mail._util.text import short_repr, show
from ratelimit_mail.limits import Limit, RateLimit
from ratelimit_mail.smtp_reply import OK, UNAVAILABLE, Reply, reply_of

__all__ = [
    "ACCEPT",
    "Action",
    "Decision",
    "Rule",
    "Usage",
    "accepted",
    "held_by",
    "not_granted",
    "refused_by",
    "turned_away",
]


class Action(enum.Enum):
    """What to do with a message; HOLD: a mailing list's moderator decides."""

    ACCEPT = "accept"
    DEFER = "defer"
    REJECT = "reject"
    HOLD = "hold"


ACCEPT: Final = Action.ACCEPT  # looked up once, not for each message


@attrs.frozen
class Rule:
    """What turned a message away, or held it, where no limit did.

    words: what the rule is; what `str()` gives.
    action: the message is to `"hold"` for a moderator, or to `"reject"`.
    reply: what the client is told.
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
    """The rule that a sender without a grant meets."""
    return _NOT_GRANTED


def held_by(mailing_list: str) -> Rule:
    """The rule of a list whose moderator must approve of a message."""
    return Rule(
        f"posting to {show(mailing_list)} is moderated",
        "hold",
        Reply(250, "2.0.0", "Held for the moderator of the mailing list."),
    )


def refused_by(mailing_list: str) -> Rule:
    """The rule of a list to which only named senders may post."""
    return Rule(
        f"posting to {show(mailing_list)} is for named senders",
        "reject",
        Reply(550, "5.7.2", "Only named senders may post to this mailing list."),
    )


@attrs.frozen(slots=False)  # a frozen class with slots is built a third slower
class Decision:
    """Whether a message may go now, later or never; true where it may go now.

    action: ACCEPT, DEFER (try later), REJECT, or HOLD for a mailing list's moderator.
    retry_after: seconds until the same message fits if nothing else is sent: 0.0 when
        it may go now, None where no time will help.
    limit: the limit that spoke; None when accepted, or where a rule did.
    tier: the name of the client's tier; None where no tier holds.
    rule: what spoke where no limit did: a sender without a grant, or a mailing list.
    recipients: where a policy answers mail that arrives recipient by recipient, the decision for
        each; else None. The message is accepted if any of them is.
    shadow: what limits with `enforce=False` would have answered; None where there are none, and
        where a rule spoke.
    degraded: whether it was made while the backend was away; then `limit` is None also where the
        message was deferred for that reason.
    repeated: whether the same envelope, by its `id`, was decided on before: this is the decision
        of then, and nothing was charged again.
    """

    action: Action
    retry_after: float | None = 0.0
    limit: Limit | None = None
    tier: str | None = None
    degraded: bool = attrs.field(default=False, kw_only=True)
    repeated: bool = attrs.field(default=False, kw_only=True, eq=False)
    rule: Rule | None = attrs.field(default=None, kw_only=True)
    recipients: Mapping[str, Decision] | None = attrs.field(default=None, kw_only=True, hash=False)
    shadow: Decision | None = attrs.field(default=None, kw_only=True)
    refund_token: list[Any] | None = attrs.field(default=None, repr=False, eq=False)
    """Whose decision it is, and what a refund takes out, until it is used; not for callers."""

    def __getstate__(self) -> dict[str, Any]:
        # A claim holds the limiter, with its locks and counts: a copy has nothing to refund.
        return {**self.__dict__, "refund_token": None}

    __repr__ = short_repr

    @property
    def allowed(self) -> bool:
        """Whether the message may go now."""
        return self.action is ACCEPT

    def __bool__(self) -> bool:
        return self.action is ACCEPT

    @property
    def reply(self) -> Reply:
        """The SMTP reply that tells the client; `str()` of it is the line to send."""
        if self.rule is not None:
            return self.rule.reply
        if self.limit is None:
            return OK if self.action is ACCEPT else UNAVAILABLE
        return reply_of(
            self.limit, defer=self.action is Action.DEFER, never=self.retry_after is None
        )


for _field in attrs.fields(Decision):
    # Where `accepted` leaves one out, it is as it would be by default.
    setattr(Decision, _field.name, None if _field.default is attrs.NOTHING else _field.default)
Decision.action = ACCEPT

_new = object.__new__


def accepted(tier: str | None, refund_token: list[Any]) -> Decision:
    """`Decision(ACCEPT, ...)`, in a third of the time."""
    decision = _new(Decision)
    held = decision.__dict__
    held["refund_token"] = refund_token
    if tier is not None:
        held["tier"] = tier
    return decision


def turned_away(
    action: Action,
    retry_after: float,
    limit: Limit,
    tier: str | None,
    *,
    degraded: bool,
    repeated: bool,
) -> Decision:
    """`Decision(action, retry_after, limit, tier)`, in half the time."""
    decision = _new(Decision)
    held = decision.__dict__
    held["action"] = action
    held["retry_after"] = retry_after
    held["limit"] = limit
    if tier is not None:
        held["tier"] = tier
    if degraded:
        held["degraded"] = True
    if repeated:
        held["repeated"] = True
    return decision


@attrs.frozen
class Usage:
    """How much of one limit a subject has used.

    limit: the limit. used: what its window holds now; of refused attempts that are counted,
    those that no longer change an answer may be missing. remaining: the most that fits now,
    with what is booked for later respected. resets_in: seconds until nothing that was
    sent or booked counts any more.
    """

    limit: RateLimit
    used: int
    remaining: int
    resets_in: float
