"""Read the export of Google Workspace's Email Log Search.

It has a row for each event of each recipient of a message, joined by the message's id.
Columns: support.google.com/a/answer/13828463 (2026-11).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from ratelimit_mail.cli.readers.base import Item, Reading, Source, Start
from ratelimit_mail.cli.readers.csv_table import header_of
from ratelimit_mail.cli.readers.table import Layout, read_messages

__all__ = ["GoogleReader"]

RECEIVED: Final = "rows of received messages are not replayed: they were sent elsewhere"

LAYOUT: Final = Layout(
    columns={"time": "start date", "sender": "sender", "recipients": "recipient address"},
    id_columns=("message id",),
    left_out=("direction", frozenset({"received"}), RECEIVED),
)


class GoogleReader:
    """The export of Email Log Search."""

    name = "google"
    is_log = False

    def recognizes(self, start: Start) -> bool:
        """Return whether the header has the export's columns."""
        header = header_of(start.lines[:100])
        return all(name in header for name in (*LAYOUT.columns.values(), *LAYOUT.id_columns))

    def read(self, sources: Iterable[Source], reading: Reading) -> Iterator[Item]:
        """Yield a message for all its recipients, which are joined by its id."""
        for source in sources:
            yield from read_messages(source, reading, LAYOUT)
