"""ReplayInput: the messages of some files, read once and replayed as often as needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.errors import InputError, RejectedRow, RejectedRowReporter
from ratelimit_mail.cli.progress import with_progress
from ratelimit_mail.cli.readers import open_mail_files
from ratelimit_mail.cli.readers.adjustments import Adjustments
from ratelimit_mail.cli.readers.base import ReadOptions
from ratelimit_mail.cli.replay.mail_records import MailRecords
from ratelimit_mail.cli.replay.run import TimedEnvelopes

__all__ = ["ReplayInput"]


class ReplayInput:
    """Read all messages of `files`, and report rejected rows and remarks on stderr.

    format_name: the format, if it is not to be recognized.

    Raises InputError if a file cannot be read or there are no messages.
    """

    def __init__(
        self,
        files: Sequence[Path],
        options: ReadOptions | None = None,
        adjustments: Adjustments | None = None,
        format_name: str | None = None,
    ) -> None:
        self._console = Console(stderr=True)
        source = open_mail_files(files, options, format_name)
        self.format = source.format
        self.timezone = (options or ReadOptions()).timezone
        self.records = MailRecords()
        rejected = RejectedRowReporter(self._console)
        items = (adjustments or Adjustments()).applied(source, source.reading)
        for item in with_progress(items, "Reading", self._console):
            if isinstance(item, RejectedRow):
                rejected.add(item)
            else:
                self.records.append(item)
        rejected.close(len(self.records))
        self.notes = [escape(text) for text in source.reading.texts()]
        """What was left out on purpose or changed, and how often."""
        self.reasons = rejected.most_common()
        """Why rows were rejected most often."""
        for text in self.notes:
            self._console.print(Text(f"note: {text}"), soft_wrap=True)
        self.rejected = rejected.count
        if not self.records:
            only = f", only rows that cannot be read: {self.rejected:,}" if self.rejected else ""
            raise InputError(f"has no messages{only}")

    def use_sizes(self) -> None:
        """Put the size of each message into its envelope, for a policy with limits on bytes.

        Raises InputError if the size of a message is not known: it would be free.
        """
        if missing := self.records.without_size:
            raise InputError(
                f"the policy has a limit on bytes, and {missing:,} of {len(self.records):,}"
                " messages have no size; a CSV file needs a column 'size', or --columns size=NAME"
            )
        self.records.has_sizes = True

    def envelopes(self, label: str) -> TimedEnvelopes:
        """Return the messages sorted by time; `label` is shown with the progress bar."""
        records = self.records
        return with_progress(records.by_time(), label, self._console, total=len(records))
