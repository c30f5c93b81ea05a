"""Notices to the sender of a message (RFC 3464): that it failed, or that it is delayed."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from datetime import datetime
from email.message import Message
from email.mime.base import MIMEBase
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import format_datetime, formataddr
from typing import Any, Final, Literal

import attrs

from ratelimit_mail._util.text import show
from ratelimit_mail._util.validators import flag, name
from ratelimit_mail.addresses import normal_address
from ratelimit_mail.outbox.message import OutboxMessage
from ratelimit_mail.outbox.retry import seconds_of

__all__ = ["Notices", "delay_notice", "failure_notice"]

_STATUS: Final = re.compile(r"\b([245]\.[0-9]{1,3}\.[0-9]{1,3})\b")
_CODE: Final = re.compile(r"[245][0-9][0-9]\b")
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9.-]{1,255}")

_LONGEST_HEADERS: Final = 16 * 1024


def _address(value: str) -> str:
    try:
        return normal_address(value)[0]
    except (TypeError, ValueError) as error:
        raise type(error)(f"sender: {error}") from None


def _seconds_or_none(value: Any) -> float | None:
    return None if value is None else seconds_of("delayed_after", value)


def _host(value: str | None) -> str:
    name = socket.gethostname() if value is None else value
    if not isinstance(name, str) or not _HOST_NAME.fullmatch(name):
        raise ValueError(f"host: {show(name)} is not the name of a host")
    return name


@attrs.frozen
class Notices:
    """Which notices an outbox sends to the senders of its messages.

    sender: the address in From of a notice, such as `"postmaster@leeds.ac.uk"`. The envelope has
        the null sender, so that a notice never causes another.
    failures: whether a sender gets a notice of the recipients that a message did not reach.
    delayed_after: after how many seconds in the outbox a sender gets a notice, once a message, that
        it is delayed, with the time at which it is expected to go. None: never.
    name: the name beside the sender's address.
    host: the host that reports; by default this one.

    A notice is put into the same outbox, in the same transaction as what it tells.
    """

    sender: str = attrs.field(converter=_address)
    failures: bool = attrs.field(default=True, kw_only=True, validator=flag)
    delayed_after: float | None = attrs.field(
        default=None, kw_only=True, converter=_seconds_or_none
    )
    name: str = attrs.field(default="Mail delivery", kw_only=True, validator=name)
    host: str = attrs.field(default=None, kw_only=True, converter=_host)


def failure_notice(
    notices: Notices,
    message: OutboxMessage,
    failed: Sequence[tuple[str, str]],
    content: bytes,
    now: datetime,
) -> MIMEMultipart:
    """Return the notice that a message did not reach some recipients.

    failed: each recipient, and why. content: the text of the message, or its beginning.
    """
    lines = [
        "Your message could not be delivered to",
        "",
        *(f"  {address}\n    {reason}" for address, reason in failed),
        "",
        "It will not be tried again.",
    ]
    subject = "Undelivered mail"
    fields = [_recipient_fields("failed", address, reason, "5") for address, reason in failed]
    return _report(notices, message, subject, lines, fields, content, now)


def delay_notice(
    notices: Notices,
    message: OutboxMessage,
    expected: datetime | None,
    until: datetime | None,
    content: bytes,
    now: datetime,
) -> MIMEMultipart:
    """Return the notice that a message is delayed.

    expected: when it is expected to go. until: when it expires.
    """
    waiting = [each for each in message.recipients if each.state == "queued"]
    reason = message.reply or "the sending rate is above the limit"
    lines = [
        "Delivery of your message has been delayed. It is queued and will be sent",
        "automatically. You do not need to send it again.",
        "",
        *(f"  {each.address}" for each in waiting),
        "",
        f"Reason: {reason}",
    ]
    if expected is not None:
        lines.append(f"Expected: {format_datetime(expected)}")
    fields = [_recipient_fields("delayed", each.address, reason, "4") for each in waiting]
    if until is not None:
        for each in fields:
            each["Will-Retry-Until"] = format_datetime(until)
    return _report(notices, message, "Delayed mail", lines, fields, content, now)


def _recipient_fields(
    action: Literal["failed", "delayed"], address: str, reason: str, kind: str
) -> Message[str, str]:
    fields: Message[str, str] = Message()
    fields["Final-Recipient"] = _typed_address(address)
    fields["Action"] = action
    status = _STATUS.search(reason)
    if status is not None and status[1].startswith(kind):
        fields["Status"] = status[1]
    else:
        fields["Status"] = "5.0.0" if kind == "5" else "4.7.1"
    if _CODE.match(reason):
        fields["Diagnostic-Code"] = f"smtp; {reason}"
    return fields


def _report(
    notices: Notices,
    message: OutboxMessage,
    subject: str,
    lines: Sequence[str],
    recipients: Sequence[Message[str, str]],
    content: bytes,
    now: datetime,
) -> MIMEMultipart:
    report = MIMEMultipart("report", report_type="delivery-status")
    report["From"] = formataddr((notices.name, notices.sender))
    report["To"] = message.sender
    report["Subject"] = subject
    report["Date"] = format_datetime(now)
    report["Auto-Submitted"] = "auto-replied"
    report["In-Reply-To"] = message.message_id
    report["References"] = message.message_id
    report.attach(_text("\n".join(lines) + "\n", "plain"))
    status = MIMEBase("message", "delivery-status")
    about: Message[str, str] = Message()
    about["Reporting-MTA"] = f"dns; {notices.host}"
    about["Arrival-Date"] = format_datetime(message.put_at)
    for block in (about, *recipients):
        status.attach(block)
    report.attach(status)
    head, _, _ = content[:_LONGEST_HEADERS].partition(b"\r\n\r\n")
    text = head.decode("utf-8", "replace").replace("\r\n", "\n")
    report.attach(_text(f"{text}\n", "rfc822-headers"))
    return report


def _text(text: str, subtype: str) -> MIMEText:
    return MIMEText(text, subtype, "us-ascii" if text.isascii() else "utf-8")


def _typed_address(address: str) -> str:
    """Return an address with its type; one that is not ASCII as RFC 6533, 3 encodes it."""
    if address.isascii():
        return f"rfc822; {address}"
    encoded = "".join(ch if ch.isascii() else f"\\x{{{ord(ch):X}}}" for ch in address)
    return f"utf-8; {encoded}"
