"""Read the message tracking logs of Exchange Server.

A log has a line for each event of a message. The first event with recipients that receives or
submits it says what its sender asked for; without such an event, all recipients of its other events
count. Lines are joined by the network message id, which stays the same on all servers.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from typing import Final

from ratelimit_mail.cli.errors import InputError, RejectedRow
from ratelimit_mail.cli.readers.base import Item, Reading, Source, Start, size_of
from ratelimit_mail.cli.readers.csv_table import header_of, read_table
from ratelimit_mail.cli.readers.open_messages import OpenMessage, OpenMessages, RecentIds, item_of
from ratelimit_mail.cli.readers.times import parse_time

__all__ = ["ExchangeTrackingReader"]

TIME: Final = "date-time"
EVENT: Final = "event-id"
SENDER: Final = "sender-address"
RECIPIENTS: Final = "recipient-address"
SIZE: Final = "total-bytes"
NEEDED: Final = (TIME, EVENT, SENDER, RECIPIENTS)
CLIENT: Final = ("original-client-ip", "client-ip")
IDS: Final = ("network-message-id", "message-id", "internal-message-id")

ARRIVALS: Final = frozenset({"RECEIVE", "SUBMIT"})
NOT_SENT: Final = frozenset(
    [
        "EXPAND",
        "RESOLVE",
        "REDIRECT",
        "TRANSFER",
        "HAREDIRECT",
        "HARECEIVE",
        "HADISCARD",
        "HAREDIRECTFAIL",
        "DSN",
        "PROCESS",
        "THROTTLE",
        "INITMESSAGECREATED",
        "LOAD",
        "NOTIFYMAPI",
        "SUBMITDEFER",
        "SUBMITFAIL",
    ]
)
"""Events whose recipients are not what the sender wrote: members of groups, copies, notices."""

REPEATED: Final = "messages whose last events came very late are counted once"


class ExchangeTrackingReader:
    """A message tracking log of Exchange Server."""

    name = "exchange-tracking"
    is_log = False

    def recognizes(self, start: Start) -> bool:
        """Return whether the header has the columns of a tracking log."""
        header = header_of(start.lines[:100])
        return all(name in header for name in NEEDED)

    def read(self, sources: Iterable[Source], reading: Reading) -> Iterator[Item]:
        """Yield each message when its lines are surely over, which is at the end of most logs."""
        log = _Log(reading)
        files = list(sources)
        for source in files:
            prefix = f"{source.path.name} " if len(files) > 1 else ""
            table = read_table(source.lines())
            names = [name.strip().lower() for name in table.header]
            if missing := [name for name in NEEDED if name not in names]:
                raise InputError(f"no column {missing[0]!r} of a message tracking log")
            for line, row in table.rows:
                where = f"{prefix}line {line}"
                try:
                    if isinstance(row, csv.Error):
                        raise row
                    if len(row) != len(names):
                        raise ValueError(f"{len(row)} columns where the header has {len(names)}")
                    yield from log.add(where, dict(zip(names, row, strict=True)))
                except (ValueError, csv.Error) as error:
                    yield RejectedRow(where, str(error))
        yield from log.end()


class _Log:
    """The messages of the logs."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._open = OpenMessages(self._finish)
        self._seen = RecentIds()

    def add(self, where: str, row: dict[str, str]) -> Iterator[Item]:
        """Take a line; yield what is finished by it. Raises ValueError if it is not an event."""
        event = row[EVENT].strip().upper()
        if event in NOT_SENT:
            return
        time = parse_time(row[TIME].strip(), self._reading.options.timezone)
        key = next((row[name] for name in IDS if row.get(name, "").strip()), "")
        if not key:
            raise ValueError("has no message id to join it by")
        message = self._open.get(key)
        if message is None:
            if not self._seen.is_new(key):
                self._reading.notes[REPEATED] += 1
                return
            address = next((row[name] for name in CLIENT if row.get(name, "").strip()), "")
            message = OpenMessage(where, time, row[SENDER].strip(), address=address.strip())
            message.size = size_of(row.get(SIZE, ""))
            yield from self._open.add(key, message)
        recipients = [each.strip() for each in row[RECIPIENTS].split(";") if each.strip()]
        if message.has_arrival or not recipients:
            return
        if event in ARRIVALS:
            message.has_arrival = True
        for recipient in recipients:
            self._open.add_recipient(message, recipient)

    def end(self) -> Iterator[Item]:
        """Yield all messages."""
        return self._open.close_all()

    def _finish(self, _: str, message: OpenMessage) -> Item | None:
        return item_of(message)
