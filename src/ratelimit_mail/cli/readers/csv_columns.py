"""Recognize the columns of a CSV file by their names, and turn rows into mail records."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Final

from ratelimit_mail._util.csv_rows import column_names
from ratelimit_mail._util.text import show
from ratelimit_mail.cli.errors import InputError
from ratelimit_mail.cli.readers.base import size_of
from ratelimit_mail.cli.readers.times import parse_time
from ratelimit_mail.cli.replay.mail_records import PLACEHOLDER_DOMAIN, MailRecord
from ratelimit_mail.envelope import NOBODY, Client, Envelope
from ratelimit_mail.message_headers import read_addresses

__all__ = ["MOST_RECIPIENTS", "MessageColumns", "addresses_or_count"]

MOST_RECIPIENTS: Final = 1_000_000

MOST_REMEMBERED: Final = 16_384
LONGEST_REMEMBERED: Final = 400
"""How many rows' cells are remembered with what they say, and the most characters of one."""

TIME: Final = ("time", "unix_time", "timestamp", "date")
COUNT: Final = ("n_recipients", "count")
TO_AND_CC: Final = ("n_to", "n_cc")
ADDRESS: Final = ("client", "address")
SINGLE_NAMES: Final = ("sender", "recipients", "user", "protocol", "tags", "size")
KNOWN: Final = frozenset((*TIME, *COUNT, *TO_AND_CC, *ADDRESS, *SINGLE_NAMES))

PROTOCOLS_OF_SMTP: Final = dict.fromkeys(
    ("esmtp", "esmtps", "esmtpsa", "esmtpa", "smtps", "utf8smtp", "submission"), "smtp"
)
"""What mail servers call the protocols of one family (RFC 3848)."""

Row = Sequence[str]

_Addressees = tuple[str, "tuple[str, ...] | int"]
"""The sender, and the recipients or their number."""

_new_record = tuple.__new__  # makes a named tuple in half the time


class MessageColumns:
    """The columns that a header row names.

    shown: the header as an error shows it, if it has other names.

    Raises InputError if a required column is missing or a column is named twice.
    """

    def __init__(self, header: Row, shown: Row = ()) -> None:
        names = [name.strip().lower() for name in header]
        for name in names:
            if name in KNOWN and names.count(name) > 1:
                raise InputError(f"the header has the column {name!r} twice")
        self._shown = shown or header
        self._clock: int | None = None
        self.parse_time: Callable[[str], int] = parse_time
        self._index = {name: i for i, name in enumerate(names)}
        self._time = self._require("time", TIME)
        self._sender = self._require("sender", ("sender",))
        self._recipients, indices = self._recipient_reader()
        self._address_cells: Callable[[Row], tuple[str, ...]] = itemgetter(self._sender, *indices)
        self._size = self._find(("size",))
        self._client_columns = [
            self._find(names) for names in (ADDRESS, ("user",), ("protocol",), ("tags",))
        ]
        self._has_no_client = all(index is None for index in self._client_columns)
        self._clients: dict[tuple[str, ...], Client] = {}
        self._width = len(header)
        self._last_cell: str | None = None
        self._last_time = 0
        self._addressees: dict[tuple[str, ...], _Addressees] = {}
        """What the cells of the sender and the recipients say."""

    def record(self, row: Row) -> MailRecord:
        """Return the mail record of one row; raise ValueError with the reason if it is invalid."""
        if len(row) != self._width:
            raise ValueError(f"{len(row)} columns where the header has {self._width}")
        cell = row[self._time] if self._clock is None else self.time_text(row)
        if cell != self._last_cell:  # busy logs have many rows of one second
            self._last_time = self.parse_time(cell.strip())
            self._last_cell = cell
        cells = self._address_cells(row)
        sender, recipients = self._addressees.get(cells) or self._addressees_of(cells, row)
        client = NOBODY if self._has_no_client else self._client(row)
        size = None if self._size is None else size_of(row[self._size])
        return _new_record(MailRecord, (self._last_time, sender, recipients, client, size))

    def _addressees_of(self, cells: tuple[str, ...], row: Row) -> _Addressees:
        recipients = self._recipients(row)
        addressees: _Addressees
        if isinstance(recipients, int):
            addressees = _sender(row[self._sender]), recipients
        else:
            addressees = _addresses(row[self._sender], *recipients)
        if sum(map(len, cells)) <= LONGEST_REMEMBERED:
            if len(self._addressees) >= MOST_REMEMBERED:
                self._addressees.clear()
            self._addressees[cells] = addressees
        return addressees

    def time_text(self, row: Row) -> str:
        """Return the text of the time in a row; nothing if the row is too short."""
        indices = [self._time] if self._clock is None else [self._time, self._clock]
        return " ".join(row[i].strip() for i in indices if i < len(row))

    def join_date_and_clock(self, row: Row, clock: re.Pattern[str]) -> None:
        """Read times from the columns `date` and `time` together, if `row` has them apart.

        clock: what a time of day without a date is like.
        """
        date, time = self._index.get("date"), self._index.get("time")
        if date is None or time is None or time != self._time or max(date, time) >= len(row):
            return
        if clock.fullmatch(row[time]) and row[date].strip():
            self._time, self._clock = date, time

    def _find(self, names: Sequence[str]) -> int | None:
        return next((self._index[name] for name in names if name in self._index), None)

    def _require(self, what: str, names: Sequence[str]) -> int:
        index = self._find(names)
        if index is None:
            raise self._missing(what, " or ".join(names))
        return index

    def _missing(self, what: str, names: str) -> InputError:
        present = column_names(self._shown)
        return InputError(f"no column for the {what} ({names}); the header has {present}")

    def _recipient_reader(self) -> tuple[Callable[[Row], list[str] | int], list[int]]:
        """Return a function that reads the recipients of a row, and the columns that it reads.

        It prefers addresses to counts.
        """
        if "recipients" in self._index:
            addresses = self._index["recipients"]
            copies = [self._index[name] for name in ("cc", "bcc") if name in self._index]
            if copies:
                return (
                    lambda row: _with_copies(row[addresses], [row[i] for i in copies]),
                    [addresses, *copies],
                )
            return lambda row: addresses_or_count(row[addresses]), [addresses]
        if (number := self._find(COUNT)) is not None:
            return lambda row: _count(row[number]), [number]
        if not all(name in self._index for name in TO_AND_CC):
            names = "recipients, n_recipients, count, or n_to with n_cc"
            raise self._missing("recipients", names)
        n_to, n_cc = (self._index[name] for name in TO_AND_CC)
        return lambda row: _count(row[n_to], row[n_cc]), [n_to, n_cc]

    def _client(self, row: Row) -> Client:
        cells = tuple("" if i is None else row[i].strip() for i in self._client_columns)
        client = self._clients.get(cells)
        if client is None:
            address, user, protocol, tags = cells
            client = NOBODY
            if any(cells):
                client = Client(
                    address=address or None,
                    user=user or None,
                    protocol=PROTOCOLS_OF_SMTP.get(protocol.lower(), protocol) or None,
                    tags=_words(tags),
                )
            if sum(map(len, cells)) <= LONGEST_REMEMBERED:
                if len(self._clients) >= MOST_REMEMBERED:
                    self._clients.clear()
                self._clients[cells] = client
        return client


def _sender(cell: str) -> str:
    return Envelope(_address(cell), [f"recipient-1@{PLACEHOLDER_DOMAIN}"]).sender


def _addresses(sender: str, *recipients: str) -> tuple[str, tuple[str, ...]]:
    envelope = Envelope(_address(sender), recipients)
    return envelope.sender, envelope.recipients


def _address(cell: str) -> str:
    """Return the sender in a cell, without its name; a sender without a domain gets one."""
    sender = cell.strip()
    if "<" in sender and sender != "<>":
        try:
            sender = next(read_addresses(sender), "")
        except ValueError as error:
            raise ValueError(f"sender: {error}") from None
    if sender and sender != "<>" and "@" not in sender:
        return f"{sender}@{PLACEHOLDER_DOMAIN}"
    return sender


def _words(cell: str) -> list[str]:
    return cell.replace(";", " ").split()


def addresses_or_count(cell: str) -> list[str] | int:
    """Return the addresses in a cell, or the number of recipients if it holds a number.

    Addresses are separated by blanks, commas or semicolons, and may have names as in a mail
    header. The cell may be a list in square brackets, or addresses with their status behind `##`.
    """
    cell = cell.strip()
    if cell.lstrip("+-").isdigit():
        return _count(cell)
    if cell[:1] == "[" and cell[-1:] == "]":
        cell = cell[1:-1].replace('"', " ").replace("'", " ")
    if "##" in cell:
        return [each.partition("##")[0].strip() for each in cell.split(";") if each.strip()]
    if "<" in cell or '"' in cell or "(" in cell:
        try:
            return list(filter(None, read_addresses(" ".join(cell.splitlines()))))
        except ValueError as error:
            raise ValueError(f"recipients: {error}") from None
    if "," in cell:
        cell = cell.replace(",", " ")
    return _words(cell)


def _with_copies(cell: str, copies: Sequence[str]) -> list[str] | int:
    """Return the addresses in the cells of To, Cc and Bcc together, or the sum of their numbers."""
    cells = [each for each in (cell, *copies) if each.strip()]
    addresses, count = list[str](), 0
    for each in cells:
        value = addresses_or_count(each)
        if isinstance(value, int):
            count += value
        else:
            addresses += value
    if count and addresses:
        raise ValueError("recipients: some columns have addresses and some a number")
    return count or addresses


def _count(*cells: str) -> int:
    """Return the sum of some cells, as the number of recipients of one message."""
    total = sum(map(_whole_number, cells))
    if not total:
        raise ValueError("recipients: a message needs at least one")
    if total > MOST_RECIPIENTS:
        raise ValueError(f"recipients: {total:,} is more than {MOST_RECIPIENTS:,}")
    return total


def _whole_number(cell: str) -> int:
    cell = cell.strip()
    if not (cell.isascii() and cell.isdigit() and len(cell) <= 15):
        raise ValueError(f"recipients: {show(cell)} is not a number of recipients")
    return int(cell)
