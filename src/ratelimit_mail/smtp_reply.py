"""Reply: the SMTP reply to a message, with its code, status and text."""

from __future__ import annotations

from typing import Final

import attrs

from ratelimit_mail.limits import REPLY_CODE, Limit, MessageSizeLimit, RateLimit, RecipientLimit
from ratelimit_mail.rates import quantity, size_text, window_text

__all__ = ["BLOCKED", "BLOCKED_FOR_NOW", "OK", "UNAVAILABLE", "Reply", "reply_of"]


@attrs.frozen
class Reply:
    """An SMTP reply (RFC 5321, 4.2) with its enhanced status code (RFC 3463)."""

    code: int
    status: str
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.status} {self.text}"


OK: Final = Reply(250, "2.0.0", "OK")

BLOCKED: Final = Reply(550, "5.7.1", "Sending is blocked. Ask your mail administrator.")

BLOCKED_FOR_NOW: Final = Reply(450, "4.7.1", "Sending is blocked for now. Try again later.")

UNAVAILABLE: Final = Reply(451, "4.3.0", "Sending limits cannot be checked now. Try again later.")
"""The reply to a message that is deferred because the backend cannot be reached."""


def reply_of(limit: Limit, *, defer: bool, never: bool) -> Reply:
    """Return the reply to a message that `limit` turned away.

    defer: the client may try again (4xx). never: the message would not fit into empty counts.
    """
    if isinstance(limit, RecipientLimit):
        code, status = 550, "5.5.3"
        text = f"Too many recipients: at most {limit.limit} in one message."
    elif isinstance(limit, MessageSizeLimit):
        code, status = 552, "5.3.4"
        text = f"Message too large: at most {size_text(limit.limit)}."
    else:
        code, status = (450, "4.7.1") if defer else (550, "5.7.1")
        if limit.on_excess == "block":
            text = "Sending limit exceeded, and sending is blocked. Ask your mail administrator."
        else:
            text = _rate_text(limit, never=never)
    if limit.reply is None:
        return Reply(code, status, text)
    match = REPLY_CODE.fullmatch(limit.reply)
    if match is None:
        return Reply(code, status, limit.reply)
    if match[1][0] != str(code)[0]:  # a limit that defers, and a message that it can never admit
        return Reply(code, status, match[3])
    return Reply(int(match[1]), match[2], match[3])


def _rate_text(limit: RateLimit, *, never: bool) -> str:
    text = f"{limit.unit.capitalize()[:-1]} rate limit exceeded."
    if never:
        is_size = limit.unit == "bytes"
        most = size_text(limit.limit) if is_size else quantity(limit.limit, limit.counted)
        return (
            f"{text} At most {most} per {window_text(limit.rate)}"
            " can be sent, and this message alone has more."
        )
    return f"{text} Try again later."
