"""ReplayInput: the messages of one file, read once and replayed as often as needed."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from ratelimit_mail.cli.errors import InputError, RejectedRow, RejectedRowReporter
from ratelimit_mail.cli.progress import with_progress
from ratelimit_mail.cli.readers import open_mail_file
from ratelimit_mail.cli.replay.mail_records import MailRecords
from ratelimit_mail.cli.replay.run import TimedEnvelopes

__all__ = ["ReplayInput"]


class ReplayInput:
    """Read all messages of `file`, and report rejected rows on stderr.

    Raises InputError if the file cannot be read or has no messages.
    """

    def __init__(self, file: Path) -> None:
        self._console = Console(stderr=True)
        source = open_mail_file(file)
        self.format = source.format
        self.records = MailRecords()
        rejected = RejectedRowReporter(self._console)
        for item in with_progress(source, "Reading", self._console):
            if isinstance(item, RejectedRow):
                rejected.add(item)
            else:
                self.records.append(item)
        rejected.close()
        self.rejected = rejected.count
        if not self.records:
            only = f", only rows that cannot be read: {self.rejected:,}" if self.rejected else ""
            raise InputError(f"has no messages{only}")

    def envelopes(self, label: str) -> TimedEnvelopes:
        """Return the messages sorted by time; `label` is shown with the progress bar."""
        records = self.records
        return with_progress(records.by_time(), label, self._console, total=len(records))
