"""Read message traces of Exchange Online: Get-MessageTrace as CSV, and the admin centre's reports.

A trace has a row for each recipient, and a report one for each message with `recipient_status`.
Times are in UTC, in the form of the country that the exporting computer is set to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from ratelimit_mail.cli.readers.base import Item, Reading, Source, Start
from ratelimit_mail.cli.readers.csv_table import header_of
from ratelimit_mail.cli.readers.table import Layout, read_messages

__all__ = ["ExchangeTraceReader"]

TRACE: Final = Layout(
    columns={"time": "received", "sender": "senderaddress", "recipients": "recipientaddress"},
    id_columns=("messagetraceid", "messageid"),
)
REPORT: Final = Layout(
    columns={"sender": "sender_address", "recipients": "recipient_status"},
    id_columns=("network_message_id", "message_id"),
)
_LAYOUTS: Final = (TRACE, REPORT)


class ExchangeTraceReader:
    """A message trace of Exchange Online."""

    name = "exchange-trace"
    is_log = False

    def recognizes(self, start: Start) -> bool:
        """Return whether the header is one of a trace or a report."""
        return _layout(start) is not None

    def read(self, sources: Iterable[Source], reading: Reading) -> Iterator[Item]:
        """Yield a message for all its recipients, which are joined by its id."""
        for source in sources:
            yield from read_messages(source, reading, _layout(source.start) or TRACE)


def _layout(start: Start) -> Layout | None:
    header = header_of(start.lines[:100])
    for layout in _LAYOUTS:
        names = (*layout.columns.values(), layout.id_columns[-1])
        if all(name in header for name in names):
            return layout
    return None
