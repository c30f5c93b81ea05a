"""The text of a message, as it is stored and sent."""

from __future__ import annotations

import copy
import re
from datetime import UTC, datetime
from email import policy
from email.generator import BytesGenerator
from email.message import Message
from email.parser import BytesHeaderParser
from email.utils import format_datetime
from io import BytesIO
from typing import Any, Final

from ratelimit_mail._util.text import show

__all__ = ["message_id_of", "serialise"]

_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_BREAK: Final = re.compile(r"(?:\r\n|\r(?!\n)|\n)(?![ \t])|\0")
"""A line break that would begin another header."""

_NAME: Final = re.compile(r"[!-9;-~]+")
_PLAIN_DOMAIN: Final = re.compile(r"[A-Za-z0-9.-]+")
_MESSAGE_ID: Final = re.compile(r"<[!-;=?-~]{1,250}>")


def serialise(
    message: Message[Any, Any] | bytes, message_id: str, now: int, *, utf8: bool
) -> tuple[bytes, str]:
    """Return the text of `message` with CRLF, and its Message-ID; `message` is not changed.

    The headers Bcc and Resent-Bcc are left out of an email.message object; bytes are taken as they
    are. A missing Message-ID and a missing Date are added.

    message_id: what is added. now: milliseconds since the epoch. utf8: whether an address is not
        ASCII, so that headers are in UTF-8.

    Raises ValueError for a header that contains another one.
    """
    if isinstance(message, bytes):
        return _with_headers(message, message_id, now)
    _check_headers(message)
    duplicate = copy.copy(message)
    del duplicate["Bcc"]
    del duplicate["Resent-Bcc"]
    own_id = _stored(duplicate, "message-id")
    if own_id is None:
        del duplicate["Message-ID"]
        duplicate["Message-ID"] = message_id
    if "Date" not in duplicate:
        duplicate["Date"] = _date(now)
    rules = message.policy
    if utf8 and not isinstance(rules, policy.Compat32):
        rules = rules.clone(utf8=True)  # type: ignore[call-arg] # EmailPolicy has it
    buffer = BytesIO()
    BytesGenerator(buffer, policy=rules).flatten(duplicate, linesep="\r\n")
    return _LINE_END.sub(b"\r\n", buffer.getvalue()), own_id or message_id


def _with_headers(content: bytes, message_id: str, now: int) -> tuple[bytes, str]:
    content = _LINE_END.sub(b"\r\n", content)
    headers = _headers_of(content)
    own_id = _stored(headers, "message-id")
    if own_id is None and "Message-ID" not in headers:
        content = b"Message-ID: %s\r\n%s" % (message_id.encode(), content)
    if "Date" not in headers:
        content = b"Date: %s\r\n%s" % (_date(now).encode(), content)
    return content, own_id or message_id


def _headers_of(content: bytes) -> Message[str, str]:
    """Return the headers of a stored message."""
    head, _, _ = content.partition(b"\r\n\r\n")
    return BytesHeaderParser(policy=policy.compat32).parsebytes(head + b"\r\n\r\n")


def message_id_of(uid: str, sender: str) -> str:
    """Return a Message-ID for the message `uid` of a sender."""
    domain = sender.rpartition("@")[2]
    if not _PLAIN_DOMAIN.fullmatch(domain):
        domain = "localhost.invalid"
    return f"<{uid}.outbox@{domain}>"


def _date(now: int) -> str:
    return format_datetime(datetime.fromtimestamp(now // 1000, UTC))


def _stored(message: Message[Any, Any], name: str) -> str | None:
    """Return a Message-ID that is one; a header that is not is replaced."""
    for each, value in message.raw_items():
        if each.lower() == name:
            match = _MESSAGE_ID.search(str(value))
            return match[0] if match else None
    return None


def _check_headers(message: Message[Any, Any]) -> None:
    for name, value in message.raw_items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"header: {show(name)} is not the name of a header")
        if _BREAK.search(str(value)):
            raise ValueError(f"header {name}: {show(str(value))} contains a line break")
