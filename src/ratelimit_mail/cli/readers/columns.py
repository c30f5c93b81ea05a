"""Which column of a CSV file is what, and the message that a row tells of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ratelimit_mail._util.csv_rows import column_names
from ratelimit_mail._util.text import show
from ratelimit_mail.cli.errors import InputError
from ratelimit_mail.cli.readers.times import parse_time
from ratelimit_mail.cli.replay.messages import STAND_IN, Message
from ratelimit_mail.envelope import NOBODY, Client, Envelope

__all__ = ["MOST_RECIPIENTS", "Columns", "addresses_or_count"]

MOST_RECIPIENTS: Final = 1_000_000

TIME: Final = ("time", "unix_time", "timestamp", "date")
COUNT: Final = ("n_recipients", "count")
TO_AND_CC: Final = ("n_to", "n_cc")
ADDRESS: Final = ("client", "address")
OTHERS: Final = ("sender", "recipients", "user", "protocol", "tags")
KNOWN: Final = frozenset((*TIME, *COUNT, *TO_AND_CC, *ADDRESS, *OTHERS))

Row = Sequence[str]


class Columns:
    """The columns of one header row; raises InputError where a needed one is missing."""

    def __init__(self, header: Row) -> None:
        names = [name.strip().lower() for name in header]
        for name in names:
            if name in KNOWN and names.count(name) > 1:
                raise InputError(f"the header has the column {name!r} twice")
        self._header = header
        self._at = {name: i for i, name in enumerate(names)}
        self._time = self._need("time", TIME)
        self._sender = self._need("sender", ("sender",))
        self._recipients = self._recipients_reader()
        self._who = [self._find(names) for names in (ADDRESS, ("user",), ("protocol",), ("tags",))]
        self._clients: dict[tuple[str, ...], Client] = {("", "", "", ""): NOBODY}

    def message(self, row: Row) -> Message:
        """The message of one row; raises ValueError that says what is wrong with it."""
        if len(row) != len(self._header):
            raise ValueError(f"{len(row)} columns where the header has {len(self._header)}")
        time = parse_time(row[self._time].strip())
        sender = row[self._sender].strip()
        if sender and sender != "<>" and "@" not in sender:
            sender = f"{sender}@{STAND_IN}"
        recipients = self._recipients(row)
        client = self._client(row)
        if isinstance(recipients, int):
            sender = Envelope(sender, [f"recipient-1@{STAND_IN}"]).sender
            return Message(time, sender, recipients, client)
        envelope = Envelope(sender, recipients)
        return Message(time, envelope.sender, envelope.recipients, client)

    def _find(self, names: Sequence[str]) -> int | None:
        return next((self._at[name] for name in names if name in self._at), None)

    def _need(self, what: str, names: Sequence[str]) -> int:
        at = self._find(names)
        if at is None:
            raise self._missing(what, " or ".join(names))
        return at

    def _missing(self, what: str, names: str) -> InputError:
        there = column_names(self._header)
        return InputError(f"no column for the {what} ({names}); the header has {there}")

    def _recipients_reader(self) -> Callable[[Row], list[str] | int]:
        """How a row tells its recipients: addresses before counts."""
        if "recipients" in self._at:
            addresses = self._at["recipients"]
            return lambda row: addresses_or_count(row[addresses])
        if (number := self._find(COUNT)) is not None:
            return lambda row: _count(row[number])
        if not all(name in self._at for name in TO_AND_CC):
            names = "recipients, n_recipients, count, or n_to with n_cc"
            raise self._missing("recipients", names)
        n_to, n_cc = (self._at[name] for name in TO_AND_CC)
        return lambda row: _count(row[n_to], row[n_cc])

    def _client(self, row: Row) -> Client:
        cells = tuple("" if at is None else row[at].strip() for at in self._who)
        client = self._clients.get(cells)
        if client is None:
            address, user, protocol, tags = cells
            client = self._clients[cells] = Client(
                address=address or None,
                user=user or None,
                protocol=protocol or None,
                tags=_words(tags),
            )
        return client


def _words(cell: str) -> list[str]:
    return cell.replace(";", " ").split()


def addresses_or_count(cell: str) -> list[str] | int:
    """What a cell says of recipients: their addresses, or how many they are."""
    cell = cell.strip()
    if cell.lstrip("+-").isdigit():
        return _count(cell)
    return _words(cell)


def _count(*cells: str) -> int:
    """The sum of some cells, as the number of recipients of one message."""
    total = sum(map(_whole, cells))
    if not total:
        raise ValueError("recipients: a message needs at least one")
    if total > MOST_RECIPIENTS:
        raise ValueError(f"recipients: {total:,} are more than {MOST_RECIPIENTS:,}")
    return total


def _whole(cell: str) -> int:
    cell = cell.strip()
    if not (cell.isascii() and cell.isdigit() and len(cell) <= 15):
        raise ValueError(f"recipients: {show(cell)} is no number of recipients")
    return int(cell)
