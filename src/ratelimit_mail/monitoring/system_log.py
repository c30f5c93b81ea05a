"""SystemLogAlerts: writes each event to the system log."""

from __future__ import annotations

import logging

from ratelimit_mail._util.system_log import MAIL, SystemLog, local_socket
from ratelimit_mail._util.text import show
from ratelimit_mail.events import BackToNormal, Event, Unblocked
from ratelimit_mail.events.log_listener import line_of

__all__ = ["SystemLogAlerts"]


class SystemLogAlerts:
    """Writes events to syslog, facility `mail`; a channel for Alerts, and a listener.

    address: the path of a socket, or a host and a UDP port; by default that of this host.
    key: as for `log_events`: addresses are replaced by digits.

    The level is `warning`, and `info` for BackToNormal and Unblocked. A call raises OSError if the
    log does not exist; a dispatcher logs that.
    """

    def __init__(
        self, address: str | tuple[str, int] | None = None, *, key: bytes | None = None
    ) -> None:
        self._address = address or local_socket() or "/dev/log"
        self._log = SystemLog(self._address, MAIL)
        self._key = key

    def __repr__(self) -> str:
        return f"<SystemLogAlerts to {show(self._address)}>"

    def __call__(self, event: Event) -> None:
        """Write an event in one line."""
        line, _ = line_of(event, self._key)
        is_good = isinstance(event, BackToNormal | Unblocked)
        self._log.write(line, logging.INFO if is_good else logging.WARNING)

    def close(self) -> None:
        """Close the socket."""
        self._log.close()
