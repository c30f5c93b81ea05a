"""The refusal of a message, in the form that users of Django's SMTP backend catch."""

from __future__ import annotations

import smtplib
from typing import Any

from ratelimit_mail.decision import Decision
from ratelimit_mail.exceptions import RateLimitExceeded

__all__ = ["EmailRateLimitExceeded"]


class EmailRateLimitExceeded(RateLimitExceeded, smtplib.SMTPSenderRefused):
    """A message may not be sent now, or not before the timeout; the server was not asked.

    It is smtplib's SMTPSenderRefused, so that `except smtplib.SMTPException` catches it, as it
    catches the refusals of a server.

    decision: names the limit, and says when the message would fit.
    smtp_code, smtp_error: the decision's reply, such as 450 and b"4.7.1 Message rate limit ...".
    sender: the address that was to send.
    sent: how many messages of the same call of `send_messages` were sent before.
    """

    def __init__(self, decision: Decision, sender: str, sent: int = 0) -> None:
        reply = decision.reply
        text = f"{reply.status} {reply.text}".encode()
        smtplib.SMTPSenderRefused.__init__(self, reply.code, text, sender)
        self.decision = decision
        self.sent = sent

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.decision, self.sender, self.sent)
