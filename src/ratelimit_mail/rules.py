"""Rule and Reply: what speaks where no limit does, and what the client is told."""

from __future__ import annotations

from typing import Literal

import attrs

from ratelimit_mail._util.text import show

__all__ = ["Reply", "Rule", "held_by", "not_granted", "refused_by"]


@attrs.frozen
class Reply:
    """An SMTP reply (RFC 5321, 4.2) with its enhanced status code (RFC 3463)."""

    code: int
    status: str
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.status} {self.text}"


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
