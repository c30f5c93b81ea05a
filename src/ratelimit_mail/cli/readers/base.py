"""Reader: what each format of mail files implements, in a module of its own."""

from __future__ import annotations

import zoneinfo
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from functools import cached_property
from pathlib import Path
from typing import Final, Protocol

import attrs

from ratelimit_mail.cli.errors import RejectedRow
from ratelimit_mail.cli.readers.byte_stream import ByteStream, DamagedError, open_stream
from ratelimit_mail.cli.readers.lines import encoding_of, read_lines
from ratelimit_mail.cli.replay.mail_records import PLACEHOLDER_DOMAIN, MailRecord
from ratelimit_mail.envelope import NOBODY, Client, Envelope

__all__ = [
    "DATE_ORDERS",
    "Item",
    "Line",
    "ReadOptions",
    "Reader",
    "Reading",
    "Source",
    "Start",
    "client_of",
    "numbered_lines",
    "record_of",
    "size_of",
    "timezone_of",
]

START: Final = 64 * 1024
"""Bytes of a file by which its format is recognized."""

DATE_ORDERS: Final = ("dmy", "mdy", "ymd")

LONGEST_SIZE: Final = 12
"""Digits of the size of a message; a longer number is not one."""

PLACEHOLDER: Final = f"recipient-1@{PLACEHOLDER_DOMAIN}"

Item = MailRecord | RejectedRow

Line = tuple[str, str]
"""Where a line is, such as `line 7`, and its text without the end of the line."""


@attrs.frozen(kw_only=True)
class ReadOptions:
    """What the data does not say by itself.

    columns: the column of a CSV file for each field, such as `{"time": "Received"}`.
    date_order: the order of day, month and year in dates such as 03/04/2025.
    timezone: the zone of times that name none.
    year: the year of the first time, for times without a year.
    """

    columns: Mapping[str, str] = attrs.field(factory=dict)
    date_order: str | None = None
    timezone: tzinfo = UTC
    year: int | None = None


@attrs.frozen
class Reading:
    """One reading of files.

    notes: what was left out on purpose or changed, and how often.
    """

    options: ReadOptions = attrs.field(factory=ReadOptions)
    notes: Counter[str] = attrs.field(factory=Counter)
    _remarks: dict[str, None] = attrs.field(factory=dict)

    def remark(self, text: str) -> None:
        """Add something that the user should know."""
        self._remarks[text] = None

    def texts(self) -> Iterator[str]:
        """Yield what the user should know about these files."""
        yield from self._remarks
        for text, number in self.notes.items():
            yield f"{text} ({number:,})"


class Start:
    """The first bytes of a file."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    @cached_property
    def lines(self) -> Sequence[str]:
        """The first lines, without the last one, which may be cut."""
        encoding, _ = encoding_of(self.data[:512])
        text = self.data.decode(encoding, "replace")
        lines = text.splitlines()
        return lines[:-1] if len(self.data) >= START else lines


class Source:
    """A file, or standard input for `-`, which can be read once.

    Raises OSError or InputError if it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.start = Start(b"")
        self._opened: ByteStream | None = None
        if path == Path("-"):
            self._context = open_stream(path)
            self._opened = self._context.__enter__()
            self.start = _start(self._opened)
            return
        with open_stream(path) as stream:
            self.start = _start(stream)

    @cached_property
    def written(self) -> datetime:
        """When the file was last written, in UTC; now for standard input."""
        if self._opened is not None:
            return datetime.now(UTC)
        return datetime.fromtimestamp(self.path.stat().st_mtime, UTC)

    def read(self) -> Iterator[ByteStream]:
        """Yield the contents, once; the file is closed afterwards."""
        if self._opened is not None:
            yield self._opened
            return
        with open_stream(self.path) as stream:
            yield stream

    def lines(self) -> Iterator[str]:
        """Yield the lines of the text."""
        for stream in self.read():
            yield from read_lines(stream)


def _start(stream: ByteStream) -> Start:
    try:
        return Start(stream.peek(START))
    except DamagedError as error:
        # A file that is cut short may have whole lines before.
        if not stream.buffered:
            raise error.after(None) from None
        return Start(stream.buffered)


class Reader(Protocol):
    """A format of mail files."""

    @property
    def name(self) -> str:
        """The name of the format for `--format`."""
        ...

    @property
    def is_log(self) -> bool:
        """Whether several files are one log: a message may begin in one and end in the next."""
        ...

    def recognizes(self, start: Start) -> bool:
        """Return whether a file that begins so is of this format."""
        ...

    def read(self, sources: Iterable[Source], reading: Reading) -> Iterator[Item]:
        """Yield the messages of some files, and what is not readable; raise InputError at worst."""
        ...


def numbered_lines(sources: Iterable[Source]) -> Iterator[Line]:
    """Yield the lines of some files one after another, those that are blank left out."""
    files = list(sources)
    for source in files:
        prefix = f"{source.path.name} " if len(files) > 1 else ""
        for number, line in enumerate(source.lines(), 1):
            text = line.rstrip("\r\n")
            if text and not text.isspace():
                yield f"{prefix}line {number}", text


def record_of(
    time: int,
    sender: str,
    recipients: Sequence[str] | int,
    client: Client = NOBODY,
    size: int | None = None,
) -> MailRecord:
    """Return the record of a message; an address without a domain gets a reserved one.

    Raises ValueError if an address is not one, or if there are no recipients.
    """
    if isinstance(recipients, int):
        sender = Envelope(_with_domain(sender), [PLACEHOLDER]).sender
        return MailRecord(time, sender, recipients, client, size)
    envelope = Envelope(_with_domain(sender), [*map(_with_domain, recipients)])
    return MailRecord(time, envelope.sender, envelope.recipients, client, size)


def size_of(text: str) -> int | None:
    """Return a number of bytes; None if `text` is not one, and the size is not known."""
    text = text.strip()
    if not text.isascii() or not text.isdigit() or len(text) > LONGEST_SIZE:
        return None
    return int(text)


def _with_domain(address: str) -> str:
    if address and address != "<>" and "@" not in address:
        return f"{address}@{PLACEHOLDER_DOMAIN}"
    return address


def client_of(address: str, user: str = "", protocol: str = "") -> Client:
    """Return a client; what is empty is not known.

    Raises ValueError if the address is not an IP address, or the login is not printable.
    """
    if not (address or user or protocol):
        return NOBODY
    return Client(address=address or None, user=user or None, protocol=protocol or None)


def timezone_of(name: str) -> tzinfo:
    """Return the time zone with a name such as `Europe/London`; raise ValueError for any other."""
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is not a time zone such as 'Europe/London' or 'UTC'") from None
