"""CallableTransport: hands each message to a function."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from ratelimit_mail._util.documentation import with_methods_of
from ratelimit_mail._util.text import show
from ratelimit_mail._util.validators import whole_number
from ratelimit_mail.outbox.message import OutgoingMessage
from ratelimit_mail.outbox.transports.base import Refused, Transport

__all__ = ["CallableTransport"]


@with_methods_of(Transport)
class CallableTransport:
    """Sends each message by calling a function with an `OutgoingMessage`.

    function: sends the message to its `recipients`. It returns None, or the dict of refused
        recipients that `smtplib.SMTP.sendmail` returns. It raises smtplib's exceptions if the
        server refuses the message, and TransportUnavailable if nothing was sent and the message
        is to be tried later. Any other exception leaves the message uncertain.
    max_connections: from how many threads it may be called at the same time.
    """

    def __init__(
        self, function: Callable[[OutgoingMessage], Refused | None], *, max_connections: int = 1
    ) -> None:
        if not callable(function):
            raise TypeError(f"function: {show(function)} is not callable")
        if inspect.iscoroutinefunction(function):
            raise TypeError(f"function: {show(function)} is async; an outbox does not await it")
        if whole_number("max_connections", max_connections) < 1:
            raise ValueError(f"max_connections: must be at least 1, not {show(max_connections)}")
        self._function = function
        self.max_connections = max_connections

    def __repr__(self) -> str:
        return f"<CallableTransport of {show(self._function)}>"

    def send(self, message: OutgoingMessage, begin_sending: Callable[[], None]) -> Refused | None:
        """See `Transport.send`."""
        begin_sending()
        return self._function(message)

    def close(self) -> None:
        """Do nothing."""
