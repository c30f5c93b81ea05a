"""Outcome: what one attempt to send a message has proved about each of its recipients."""

from __future__ import annotations

import smtplib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from ratelimit_mail._util.text import escape
from ratelimit_mail.exceptions import TransportUnavailable
from ratelimit_mail.smtp_errors import as_text, normal_recipients, proves_not_sent

__all__ = ["Outcome", "outcome_of"]

_CLOSING: Final = 421
"""The server closes the connection, whatever the message."""

_LONGEST_REASON: Final = 200


@attrs.frozen(kw_only=True)
class Outcome:
    """What one attempt has proved.

    sent, deferred, failed, uncertain: the recipients that have the message, that a server refused
        for now and for ever, and of which nobody knows; the last three with the reply. Each
        recipient is in one of them, unless the transport was unavailable.
    unavailable: why nothing could be sent; None if the server was reached.
    again: whether the deferred recipients may be tried at once: the server only takes so many in
        one transaction.
    replies: what `Limiter.pushback` looks at, for a server that says that the sender is too fast.
    """

    sent: Sequence[str] = ()
    deferred: Mapping[str, str] = attrs.field(factory=dict)
    failed: Mapping[str, str] = attrs.field(factory=dict)
    uncertain: Mapping[str, str] = attrs.field(factory=dict)
    unavailable: str | None = None
    again: bool = False
    replies: object = None

    @property
    def nothing_sent(self) -> bool:
        """Whether it is proved that no recipient has the message."""
        return not self.sent and not self.uncertain


def outcome_of(result: object, recipients: Sequence[str], *, begun: bool) -> Outcome:
    """Return what a transport's result, or the exception it raised, proves.

    begun: whether the server may have accepted the message.
    """
    if isinstance(result, TransportUnavailable):
        return Outcome(unavailable=_line(str(result)), replies=result.reply)
    if isinstance(result, smtplib.SMTPRecipientsRefused):
        refused = _refusals(result.recipients)
        if any(code == _CLOSING for code, _ in refused.values()):
            return Outcome(unavailable=as_text(result), replies=result)
        return _by_recipient(refused, recipients, result.recipients, default_sent=False)
    if isinstance(result, BaseException):
        code = getattr(result, "smtp_code", None)
        if proves_not_sent(result) and isinstance(code, int):
            return _for_all(result, code, recipients)
        if isinstance(result, smtplib.SMTPNotSupportedError) and "SMTPUTF8" in str(result):
            return Outcome(failed=dict.fromkeys(recipients, f"553 5.6.7 {_line(str(result))}"))
        if not begun or proves_not_sent(result):
            return Outcome(unavailable=_reason(result))
        return Outcome(uncertain=dict.fromkeys(recipients, _reason(result)))
    return _by_recipient(_refusals(result), recipients, result, default_sent=True)


def _for_all(error: BaseException, code: int, recipients: Sequence[str]) -> Outcome:
    reply = as_text(error)
    is_about_login = isinstance(
        error,
        smtplib.SMTPAuthenticationError | smtplib.SMTPConnectError | smtplib.SMTPHeloError,
    )
    if code == _CLOSING or is_about_login:
        return Outcome(unavailable=reply, replies=error)
    if 400 <= code < 500:
        return Outcome(deferred=dict.fromkeys(recipients, reply), replies=error)
    return Outcome(failed=dict.fromkeys(recipients, reply))


def _by_recipient(
    refused: Mapping[str, tuple[int, str]],
    recipients: Sequence[str],
    replies: object,
    *,
    default_sent: bool,
) -> Outcome:
    deferred, failed, sent = {}, {}, []
    again = False
    for recipient in recipients:
        if recipient not in refused:
            if default_sent:
                sent.append(recipient)
            else:  # all were refused, and this one has no reply of its own
                deferred[recipient] = "refused without a reply"
            continue
        code, text = refused[recipient]
        if 400 <= code < 500:
            deferred[recipient] = text
            again = again or (code == 452 and "4.5.3" in text)
        else:
            failed[recipient] = text
    temporary = {each: reply for each, reply in _pairs(replies) if 400 <= reply[0] < 500}
    return Outcome(
        sent=sent,
        deferred=deferred,
        failed=failed,
        again=again and bool(sent),
        replies=temporary or None,
    )


def _refusals(replies: object) -> dict[str, tuple[int, str]]:
    """Return the code and the line of each refused recipient's reply."""
    refusals = {}
    for recipient, (code, text) in _pairs(replies):
        for normal in normal_recipients([recipient]):
            refusals[normal] = (code, as_text((code, text)))
    return refusals


def _pairs(replies: object) -> list[tuple[str, tuple[int, Any]]]:
    if not isinstance(replies, Mapping):
        return []
    return [
        (recipient, reply)
        for recipient, reply in replies.items()
        if isinstance(recipient, str)
        and isinstance(reply, tuple)
        and len(reply) == 2
        and isinstance(reply[0], int)
    ]


def _reason(error: BaseException) -> str:
    """Return the kind of an exception, and its text if a mail library wrote it.

    The text of any other exception may hold what a log must not have, such as a password.
    """
    if isinstance(error, smtplib.SMTPException):
        return _line(f"{type(error).__name__}: {as_text(error)}")
    return type(error).__name__


def _line(text: str) -> str:
    return escape(" ".join(text.split())[:_LONGEST_REASON])
