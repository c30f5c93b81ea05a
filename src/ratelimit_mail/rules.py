"""Rule and Block: reasons other than a limit for which a message is refused or held."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import attrs

from ratelimit_mail._util.text import show
from ratelimit_mail.smtp_reply import Reply

__all__ = ["Block", "Rule", "held_by", "not_granted", "refused_by"]


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
