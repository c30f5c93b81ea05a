"""What the exceptions and results of smtplib and aiosmtplib prove about a message.

NOT_SENT is the ready tuple of exceptions that prove that nothing was sent. The functions import
neither library: an exception of it can only come from a program that has.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterable, Mapping
from typing import Final

__all__ = ["NOT_SENT", "proves_not_sent", "refused_recipients"]

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
