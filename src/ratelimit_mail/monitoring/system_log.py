"""SystemLogAlerts: writes each event to the system log."""

from __future__ import annotations

import logging
import logging.handlers
import os
from typing import Final

from ratelimit_mail._util.text import show
from ratelimit_mail.events import BackToNormal, Event, Unblocked
from ratelimit_mail.events.log_listener import line_of

__all__ = ["SystemLogAlerts"]

SOCKETS: Final = ("/dev/log", "/var/run/syslog", "/var/run/log")


class SystemLogAlerts:
    """Writes events to syslog, facility `mail`; a channel for Alerts, and a listener.

    address: the path of a socket, or a host and a UDP port; by default that of this host.
    key: as for `log_events`: addresses are replaced by digits.

    The level is `warning`, and `info` for BackToNormal and Unblocked. Raises OSError for an address
    that does not exist.
    """

    def __init__(
        self, address: str | tuple[str, int] | None = None, *, key: bytes | None = None
    ) -> None:
        if address is None:
            address = next((each for each in SOCKETS if os.path.exists(each)), SOCKETS[0])
        self._handler = logging.handlers.SysLogHandler(
            address, logging.handlers.SysLogHandler.LOG_MAIL
        )
        self._handler.ident = f"ratelimit-mail[{os.getpid()}]: "
        self._address, self._key = address, key

    def __repr__(self) -> str:
        return f"<SystemLogAlerts to {show(self._address)}>"

    def __call__(self, event: Event) -> None:
        """Write an event in one line."""
        line, _ = line_of(event, self._key)
        level = logging.INFO if isinstance(event, BackToNormal | Unblocked) else logging.WARNING
        record = logging.LogRecord("ratelimit-mail", level, "", 0, "%s", (line,), None)
        self._handler.handle(record)

    def close(self) -> None:
        """Close the socket."""
        self._handler.close()
