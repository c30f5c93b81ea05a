"""What the exceptions and results of smtplib and aiosmtplib prove about a message.

NOT_SENT is the ready tuple of exceptions that prove that nothing was sent. The functions import
neither library: an exception of it can only come from a program that has.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Final

__all__ = [
    "NOT_SENT",
    "as_text",
    "proves_not_sent",
    "pushback_seconds",
    "refused_recipients",
]

NOT_SENT: tuple[type[Exception], ...]
"""smtplib's and, if it is installed, aiosmtplib's exceptions that prove that nothing was sent."""

_NAMES: Final = (
    "SMTPSenderRefused",
    "SMTPRecipientsRefused",
    "SMTPDataError",
    "SMTPHeloError",
    "SMTPAuthenticationError",
    "SMTPConnectError",
    "SMTPConnectTimeoutError",
    "SMTPConnectResponseError",
    "SMTPNotSupported",
    "SMTPNotSupportedError",
)
"""Exceptions that are raised before a message was accepted: a connection, a login, the sender, all
recipients or the data were refused. SMTPServerDisconnected is not among them, because the server
may have accepted the message before the connection broke."""

_LIBRARIES: Final = ("smtplib", "aiosmtplib")

_LONGEST_REPLY: Final = 2000
_CODE: Final = re.compile(r"[2-5][0-9][0-9](?![0-9])")
_NAMED_TIME: Final = re.compile(r"\b([0-9]{1,6}) ?(seconds?|secs?|minutes?|mins?|hours?|[smh]\b)")
_SLOW_DOWN_STATUS: Final = ("4.3.2", "4.7.0", "4.7.28")
_SLOW_DOWN: Final = (
    "throttl",
    "too fast",
    "too many messages",
    "too many connections",
    "concurrent connections",
    "rate limit",
    "rate exceeded",
    "slow down",
    "unusual rate",
)


def __getattr__(name: str) -> tuple[type[Exception], ...]:
    if name != "NOT_SENT":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for library in _LIBRARIES:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(library)
    return _imported_errors()


def _imported_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions of those libraries that the program has imported."""
    return tuple(
        getattr(sys.modules[library], name)
        for library in _LIBRARIES
        if library in sys.modules
        for name in _NAMES
        if hasattr(sys.modules[library], name)
    )


def proves_not_sent(error: BaseException) -> bool:
    """Return whether `error` proves that no recipient got the message."""
    return isinstance(error, _imported_errors())


def refused_recipients(outcome: object, recipients: Iterable[str]) -> frozenset[str]:
    """Return which of `recipients` were refused, as an exception or a result tells.

    outcome: an SMTPRecipientsRefused, or the dict that `sendmail` and `send_message` return, or
        aiosmtplib's pair of it and the server's last reply. Anything else names nobody.
    """
    if isinstance(outcome, BaseException):
        outcome = getattr(outcome, "recipients", None)
        if isinstance(outcome, list):  # aiosmtplib's SMTPRecipientsRefused
            outcome = {getattr(each, "recipient", None): each for each in outcome}
    if isinstance(outcome, tuple) and len(outcome) == 2:
        outcome = outcome[0]
    if not isinstance(outcome, Mapping) or not outcome:
        return frozenset()
    refused = {address for address in outcome if isinstance(address, str)}
    return frozenset(each for each in recipients if each in refused)


def pushback_seconds(reply: object, default: float) -> float | None:
    """Return for how many seconds a provider tells a sender to slow down; None if it does not.

    reply: an exception of smtplib or aiosmtplib, a pair of code and text, or a line of text.
    default: the answer if the reply names no time.

    A reply is understood if its code is temporary (4xx) and it has one of the enhanced codes 4.3.2
    and 4.7.0, code 432, or words such as "throttling", "too fast" and "rate limit". Greylisting,
    which is about one recipient, is not.
    """
    code, text = _code_and_text(reply)
    words = text.lower()
    if code is None or not 400 <= code < 500 or "greylist" in words or "graylist" in words:
        return None
    named = _NAMED_TIME.search(words)
    if not (
        code == 432
        or any(status in words.split() for status in _SLOW_DOWN_STATUS)
        or any(phrase in words for phrase in _SLOW_DOWN)
        or ("retry" in words and named)
    ):
        return None
    if named is None:
        return default
    number, unit = int(named[1]), named[2][0]
    return float(max(1, number * {"s": 1, "m": 60, "h": 3600}[unit]))


def as_text(reply: object) -> str:
    """Return a reply as one printable line of at most 200 characters."""
    code, text = _code_and_text(reply)
    return "".join(ch for ch in f"{code or ''} {text}".strip() if ch.isprintable())[:200]


def _code_and_text(reply: object) -> tuple[int | None, str]:
    if isinstance(reply, BaseException):
        code = getattr(reply, "smtp_code", getattr(reply, "code", None))
        text = getattr(reply, "smtp_error", getattr(reply, "message", ""))
        if code is None:  # all recipients were refused: the first reply stands for all
            recipients = getattr(reply, "recipients", None)
            if isinstance(recipients, Mapping):
                recipients = list(recipients.values())
            if recipients:
                return _code_and_text(recipients[0])
        reply = (code, text)
    if isinstance(reply, tuple) and len(reply) == 2:
        code, text = reply
        return code if isinstance(code, int) else None, _one_line(text)
    line = _one_line(reply)
    return (int(line[:3]), line[3:].lstrip(" -")) if _CODE.match(line) else (None, line)


def _one_line(text: object) -> str:
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    return " ".join(str(text)[:_LONGEST_REPLY].split())
