"""What the exceptions and results of smtplib and aiosmtplib prove about a message.

NOT_SENT is the ready tuple of exceptions that prove that nothing was sent. The functions import
neither library: an exception of it can only come from a program that has.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

__all__ = [
    "LONGEST_PUSHBACK",
    "NOT_SENT",
    "as_text",
    "normal_recipients",
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

LONGEST_PUSHBACK: Final = 24 * 3600.0
"""The most seconds that a reply can name: whoever runs a mail server chooses its replies."""

_LONGEST_REPLY: Final = 2000
_CODE: Final = re.compile(r"[2-5][0-9][0-9](?![0-9])")
_NAMED_TIME: Final = re.compile(r"\b([0-9]{1,6}) ?(seconds?|secs?|minutes?|mins?|hours?|[smh]\b)")
_SLOW_DOWN_STATUS: Final = frozenset(
    [
        (421, "4.3.2"),
        (432, "4.3.2"),
        (452, "4.3.2"),
        (421, "4.7.0"),
        (421, "4.7.28"),
        (450, "4.7.28"),
    ]
)
"""Not 454 4.7.0, a failed login (RFC 4954), nor 450 4.3.2, with which postscreen greylists."""

_SLOW_DOWN: Final = (
    "throttl",
    "too fast",
    "too quickly",
    "too many messages",
    "too many connections",
    "concurrent connections",
    "rate limit",
    "rate exceeded",
    "slow down",
    "unusual rate",
)
_ABOUT_RECIPIENT: Final = ("greylist", "graylist", "grey-list", "gray-list", "is receiving mail")
"""Words of replies that are about one recipient, not about the sender."""

_TRY_AGAIN: Final = ("retry", "try again")


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


def normal_recipients(addresses: Iterable[str]) -> frozenset[str]:
    """Return addresses as an envelope writes them."""
    from ratelimit_mail.smtp_addresses import smtp_address  # a refusal needs it

    return frozenset(smtp_address(each)[0] for each in addresses)


def refused_recipients(outcome: object, recipients: Iterable[str]) -> frozenset[str]:
    """Return which of `recipients` did not get a message, as an exception or a result tells.

    outcome: an SMTPRecipientsRefused, or the dict that `sendmail` and `send_message` return, or
        aiosmtplib's pair of it and the server's last reply. Anything else names nobody.
    recipients: as an envelope writes addresses.
    """
    recipients = frozenset(recipients)
    if isinstance(outcome, BaseException):
        replies = _replies_by_recipient(getattr(outcome, "recipients", None))
        # smtplib asks for no more recipients after 421, and sends nothing.
        if any(code == 421 for code, _ in replies.values()):
            return recipients
    elif isinstance(outcome, tuple) and len(outcome) == 2:
        replies = _replies_by_recipient(outcome[0])
    else:
        replies = _replies_by_recipient(outcome)
    return recipients & normal_recipients(replies)


def _replies_by_recipient(value: object) -> dict[str, tuple[int, Any]]:
    """Return the code and text with which each recipient was refused; empty for other values."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, Mapping):
        items = [*value.items()]
    elif isinstance(value, list):  # aiosmtplib's SMTPRecipientsRefused
        items = [
            (getattr(each, "recipient", None), (getattr(each, "code", None), _text_of(each)))
            for each in value
        ]
    for recipient, reply in items:
        is_reply = isinstance(reply, tuple) and len(reply) == 2 and isinstance(reply[0], int)
        if not (is_reply and isinstance(recipient, str)):
            return {}
    return dict(items)


def _text_of(error: object) -> Any:
    return getattr(error, "smtp_error", getattr(error, "message", ""))


def pushback_seconds(reply: object, default: float) -> float | None:
    """Return for how many seconds a provider tells a sender to slow down; None if it does not.

    reply: an exception of smtplib or aiosmtplib, a dict of refused recipients, a pair of code and
        text, or a line of text. Of several replies, the longest time counts.
    default: the answer if the reply names no time.

    A reply is understood if its code is temporary (4xx) and it has an enhanced code such as 4.3.2,
    4.7.0 or 4.7.28, code 432, words such as "throttling", "too fast" and "rate limit", or a time
    after which to try again. Greylisting, which is about one recipient, is not. A time that the
    reply names is at most a day.
    """
    times = (_seconds(code, text, default) for code, text in _codes_and_texts(reply))
    return max((each for each in times if each is not None), default=None)


def _seconds(code: int | None, text: str, default: float) -> float | None:
    words = text.lower()
    if code is None or not 400 <= code < 500 or any(each in words for each in _ABOUT_RECIPIENT):
        return None
    named = _NAMED_TIME.search(words)
    if not (
        code == 432
        or any((code, word) in _SLOW_DOWN_STATUS for word in words.split())
        or any(phrase in words for phrase in _SLOW_DOWN)
        or (named and any(phrase in words for phrase in _TRY_AGAIN))
    ):
        return None
    if named is None:
        return default
    number, unit = int(named[1]), named[2][0]
    return min(LONGEST_PUSHBACK, max(1.0, number * {"s": 1.0, "m": 60.0, "h": 3600.0}[unit]))


def as_text(reply: object) -> str:
    """Return a reply, of several the first, as one printable line of at most 200 characters."""
    code, text = next(_codes_and_texts(reply))
    return "".join(ch for ch in f"{code or ''} {text}".strip() if ch.isprintable())[:200]


def _codes_and_texts(reply: object) -> Iterator[tuple[int | None, str]]:
    """Yield the code and the text of a reply, or of each refused recipient's reply."""
    recipients = reply
    if isinstance(reply, BaseException):
        code = getattr(reply, "smtp_code", getattr(reply, "code", None))
        text = _text_of(reply)
        recipients = getattr(reply, "recipients", None) if code is None else None
        reply = (code, text)
    if replies := _replies_by_recipient(recipients):
        for code, text in replies.values():
            yield code, _one_line(text)
    elif isinstance(reply, tuple) and len(reply) == 2:
        code, text = reply
        yield code if isinstance(code, int) else None, _one_line(text)
    else:
        line = _one_line(reply)
        yield (int(line[:3]), line[3:].lstrip(" -")) if _CODE.match(line) else (None, line)


def _one_line(text: object) -> str:
    if isinstance(text, bytes):
        text = text[:_LONGEST_REPLY].decode("utf-8", "replace")
    return " ".join(str(text)[:_LONGEST_REPLY].split())
