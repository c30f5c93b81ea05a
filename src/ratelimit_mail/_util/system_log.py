"""Write lines to the system log (syslog), and raise an error for what cannot be written."""

from __future__ import annotations

import logging
import logging.handlers
import os
from typing import Final

__all__ = ["AUTH", "MAIL", "SystemLog", "local_socket"]

AUTH: Final = logging.handlers.SysLogHandler.LOG_AUTH
MAIL: Final = logging.handlers.SysLogHandler.LOG_MAIL

SOCKETS: Final = ("/dev/log", "/var/run/syslog", "/var/run/log")


def local_socket() -> str | None:
    """Return the socket of this host's system log; None if it has none."""
    return next((each for each in SOCKETS if os.path.exists(each)), None)


class SystemLog:
    """Writes to one system log.

    address: the path of a socket, or a host and a UDP port. facility: AUTH or MAIL.
    """

    def __init__(self, address: str | tuple[str, int], facility: int) -> None:
        self._handler = _Handler(address, facility)
        self._handler.ident = f"ratelimit-mail[{os.getpid()}]: "

    def write(self, line: str, level: int = logging.INFO) -> None:
        """Write a line, which is escaped already. Raises OSError if that fails."""
        self._handler.handle(logging.LogRecord("ratelimit-mail", level, "", 0, "%s", (line,), None))

    def close(self) -> None:
        """Close the socket."""
        self._handler.close()


class _Handler(logging.handlers.SysLogHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802
        """Raise the error, which logging would print with a traceback."""
        raise
