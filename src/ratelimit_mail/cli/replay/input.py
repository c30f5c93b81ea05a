"""The messages of one file, read once and replayed as often as needed."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from ratelimit_mail.cli.errors import InputError, RejectedRow, RejectedRows
from ratelimit_mail.cli.progress import watched
from ratelimit_mail.cli.readers import open_source
from ratelimit_mail.cli.replay.messages import Messages
from ratelimit_mail.cli.replay.run import Tries

__all__ = ["Mail"]


class Mail:
    """What `file` holds; broken rows are told on the error stream.

    Raises InputError where it cannot be read or has no messages.
    """

    def __init__(self, file: Path) -> None:
        self._console = Console(stderr=True)
        source = open_source(file)
        self.format = source.format
        self.messages = Messages()
        complaints = RejectedRows(self._console)
        for item in watched(source, "Reading", self._console):
            if isinstance(item, RejectedRow):
                complaints.add(item)
            else:
                self.messages.append(item)
        complaints.close()
        self.broken = complaints.count
        if not self.messages:
            broken = f", only broken rows: {self.broken:,}" if self.broken else ""
            raise InputError(f"has no messages{broken}")

    def tries(self, what: str) -> Tries:
        """The messages in order of time; `what` is said to a terminal while it goes on."""
        messages = self.messages
        return watched(messages.in_order(), what, self._console, total=len(messages))
