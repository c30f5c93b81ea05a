"""Read the messages of an mbox file or a Maildir directory.

A message in an mbox file begins at a `From ` line that comes after a blank line (RFC 4155) and has
a date or a header field after it. Others are text of a message, and so is all that its
Content-Length covers, if another message or the end of the file follows there.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from email.message import Message
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from ratelimit_mail._util.text import show
from ratelimit_mail.cli.errors import RejectedRow
from ratelimit_mail.cli.readers.base import PLACEHOLDER, Item, Reading, Source, Start
from ratelimit_mail.cli.readers.byte_stream import ByteStream, DamagedError
from ratelimit_mail.cli.readers.times import parse_mail_time
from ratelimit_mail.cli.replay.mail_records import MailRecord
from ratelimit_mail.envelope import Envelope

__all__ = ["MboxReader", "read_maildir"]

LONGEST_HEADER: Final = 1024 * 1024
"""Bytes of all header fields together. Bodies are not read."""

LONGEST_CONTENT: Final = 64 * 1024 * 1024
"""Bytes that are read ahead to see whether a Content-Length is right; a longer one is ignored."""

_DATED: Final = re.compile(rb"\b[0-9]{1,2}:[0-9]{2}\b.*\b[0-9]{4}\b")
_FIELD: Final = re.compile(rb"([!-9;-~]++)[ \t]*+:")
"""The name of a header field; RFC 5322 (4.5) allows blanks before the colon."""
_CONTENT_LENGTH: Final = re.compile(
    rb"^Content-Length[ \t]*+:[ \t]*+([0-9]{1,15})[ \t]*+\r?$", re.IGNORECASE | re.MULTILINE
)
_MASKED: Final = re.compile(
    r"\s*+([^\s()<>@,;:\"]++) at ([A-Za-z0-9._-]++)(?:\s++\(.*\))?\s*+", re.DOTALL
)
"""An address as the archives of Mailman 2 write it: `ann at example.org (Ann Example)`."""

_RESENT: Final = frozenset(
    f"resent-{name}"
    for name in ("date", "from", "sender", "to", "cc", "bcc", "message-id", "reply-to")
)

NO_RECIPIENTS: Final = (
    "messages of an archive of a mailing list name no recipient: the list itself counts as one"
)

_parser = BytesHeaderParser()


class _File(Protocol):
    """A message as opened by a mailbox."""

    def readline(self, size: int, /) -> bytes: ...


class MboxReader:
    """An mbox file: mboxo, mboxrd, mboxcl, or a monthly archive of Mailman 2."""

    name = "mbox"
    is_log = False

    def recognizes(self, start: Start) -> bool:
        """Return whether a message begins there, perhaps after blank lines."""
        before, found = _next_from_line(ByteStream(_once(start.data)), is_after_blank=True)
        return bool(found) and not before

    def has_message(self, start: Start) -> bool:
        """Return whether a message begins after some text."""
        return bool(_next_from_line(ByteStream(_once(start.data)), is_after_blank=True)[1])

    def read(self, sources: Iterable[Source], reading: Reading) -> Iterator[Item]:
        """Yield the messages of mbox files, in the order of the files."""
        for source in sources:
            for stream in source.read():
                yield from _read_mbox(stream, reading)


def _once(data: bytes) -> Any:
    pieces = [data]
    return lambda _: pieces.pop() if pieces else b""


def _read_mbox(stream: ByteStream, reading: Reading) -> Iterator[Item]:
    number = 0
    try:
        before, from_line = _next_from_line(stream, is_after_blank=True)
        if before:
            yield RejectedRow("the text before message 1", "it belongs to no message")
        while from_line:
            number += 1
            where = f"message {number}"
            start = stream.position
            try:
                header = _header(stream)
            except ValueError as error:
                yield RejectedRow(where, str(error))
                _, from_line = _next_from_line(stream, is_after_blank=False)
            else:
                item = _read(where, header, reading, from_line[:1000])
                try:
                    _skip_content(stream, header)
                    _, from_line = _next_from_line(stream, is_after_blank=True)
                except DamagedError:
                    yield item
                    raise
                end = stream.position + len(stream.buffered) if not from_line else stream.position
                yield _with_size(item, end - len(from_line) - start)
    except DamagedError as error:
        raise error.after(f"message {number}" if number else None) from None


def _next_from_line(stream: ByteStream, *, is_after_blank: bool) -> tuple[bool, bytes]:
    """Read to the end of the next `From ` line that begins a message, and return that line.

    Also returns whether text that is not blank was before it. Returns an empty line at the end of
    the file.
    """
    has_text = False
    # The first lines may be blank, or the `From ` line itself.
    while is_after_blank:
        if stream.peek(5) == b"From ":
            if line := _message_start(stream):
                return has_text, line
        elif (line := stream.peek(2)) and line.startswith((b"\n", b"\r\n")):
            stream.skip(1 if line[:1] == b"\n" else 2)
            continue
        is_after_blank = False
    while (index := stream.find(b"\nFrom ")) >= 0:
        has_text = True
        before = stream.peek(index + 1)[-3:]
        stream.skip(index + 1)
        if before.endswith((b"\n\n", b"\n\r\n")) and (line := _message_start(stream)):
            return has_text, line
    return has_text or bool(stream.peek(1)), b""


def _message_start(stream: ByteStream) -> bytes:
    """Read a `From ` line and return it if it begins a message; return nothing if it does not."""
    ahead = stream.peek(3000)
    line, _, following = ahead.partition(b"\n")
    if _DATED.search(line[:1000]) or _FIELD.match(following):
        return stream.readline(LONGEST_HEADER)
    return b""


def _skip_content(stream: ByteStream, header: bytes) -> None:
    """Skip the text of a message whose header has been read, if its Content-Length is right.

    It is right if another message or the end of the file follows.
    """
    length = _CONTENT_LENGTH.search(header)
    size = 0 if length is None else int(length[1])
    if 0 < size <= LONGEST_CONTENT and _follows(stream, size):
        stream.skip(size)


def _follows(stream: ByteStream, size: int) -> bool:
    """Return whether a message begins after the next `size` bytes, or the file ends there."""
    if not stream.peek(1, size - 1):
        return False
    after = stream.peek(1000, size).lstrip(b"\r\n")
    return not after or after.startswith(b"From ")


def read_maildir(path: Path, reading: Reading) -> Iterator[Item]:
    """Yield the messages in `cur` and `new` of a Maildir, sorted by file name."""
    files = {
        name.partition(":")[0]: path / folder / name
        for folder in ("cur", "new")
        for name in os.listdir(path / folder)
    }
    for key in sorted(files):
        where = f"message {show(key)}"
        try:
            with _open_regular(files[key]) as file:
                header = _header(file)
                size = os.fstat(file.fileno()).st_size
        except IsADirectoryError:
            continue
        except OSError as error:  # moved meanwhile, or not readable
            reason = error.strerror or str(error)
            yield RejectedRow(where, f"cannot be read: {reason}")
        except ValueError as error:
            yield RejectedRow(where, str(error))
        else:
            yield _with_size(_read(where, header, reading), size)


def _open_regular(path: Path) -> BinaryIO:
    """Open a file for reading. Raises OSError if it is a pipe or a device, which may never end."""
    # Without O_NONBLOCK, a pipe would already wait for somebody to write.
    file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    mode = os.fstat(file).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(file, "rb")
    os.close(file)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError
    raise OSError(0, "not a regular file")


def _read(where: str, header: bytes, reading: Reading, from_line: bytes = b"") -> Item:
    try:
        return _record(_parser.parsebytes(header), from_line.decode("ascii", "replace"), reading)
    except (ValueError, TypeError) as error:
        return RejectedRow(where, str(error))
    except (IndexError, RecursionError):  # errors of the address parser of email.utils
        return RejectedRow(where, "its sender or recipients cannot be parsed")


def _with_size(item: Item, size: int) -> Item:
    return item._replace(size=size) if isinstance(item, MailRecord) else item


def _header(file: _File) -> bytes:
    """Return the header fields before the first blank line.

    Leaves out lines that are not fields, such as a `>From ` line, with their continuation lines:
    the parser would take the first of them for the end of the header.
    """
    lines: list[bytes] = []
    space = LONGEST_HEADER
    is_field = False
    while (line := file.readline(space)).rstrip(b"\r\n"):
        space -= len(line)
        if space <= 0:
            raise ValueError(f"its header is longer than {LONGEST_HEADER:,} bytes")
        if line[:1] not in (b" ", b"\t"):  # it does not continue the line before
            if field := _FIELD.match(line):
                line = field[1] + b":" + line[field.end() :]
            is_field = field is not None
        if is_field:
            lines.append(line)
    return b"".join(lines)


def _record(header: Message[Any, Any], from_line: str, reading: Reading) -> MailRecord:
    resent = _newest_resent_block(header)
    is_masked = _unmask(header)
    has_recipients = any(header.get(name) is not None for name in ("To", "Cc", "Bcc"))
    if is_masked and not resent and not has_recipients:
        header["To"] = PLACEHOLDER
        reading.notes[NO_RECIPIENTS] += 1
    envelope = Envelope.from_message(header)
    dates = [str(resent or header.get("Date", ""))]
    if resent:
        dates.append(str(header.get("Date", "")))
    received = str(header.get("Received", "")).rpartition(";")[2]
    for text in (*dates, received, _date_of(from_line)):
        time = parse_mail_time(text, reading.options.timezone)
        if time is not None:
            return MailRecord(time, envelope.sender, envelope.recipients, envelope.client)
    raise ValueError("time: no usable date in Date, Received or the 'From ' line")


def _newest_resent_block(header: Message[Any, Any]) -> str:
    """Leave only the newest Resent- block in `header`, and return its date; none may be there.

    A message may be resent several times, and each adds a block at the top (RFC 5322, 3.6.6). A
    block without recipients does not say who got the message: mailing lists add such. Then the
    message is read as its author sent it.
    """
    block: dict[str, Any] = {}
    for name, value in header.raw_items():
        name = name.lower()
        if name in _RESENT:
            if name in block:
                break
            block[name] = value
    if not block:
        return ""
    # Only these: deleting one looks at all fields, and a message may have many with other names.
    for name in _RESENT:
        del header[name]
    recipients = ("resent-to", "resent-cc", "resent-bcc")
    senders = ("resent-sender", "resent-from")
    if "resent-date" not in block or not any(name in block for name in recipients):
        return ""
    if not any(name in block for name in senders):
        return ""
    for name, value in block.items():
        header[name] = value
    return str(block["resent-date"])


def _unmask(header: Message[Any, Any]) -> bool:
    """Write addresses such as `ann at example.org` with an `@`; return whether the sender is so."""
    is_masked = False
    for name in ("From", "To", "Cc"):
        value = header.get(name)
        if value is not None and (match := _MASKED.fullmatch(str(value)[:10_000])):
            header.replace_header(name, f"{match[1]}@{match[2]}")
            is_masked = is_masked or name == "From"
    return is_masked


def _date_of(from_line: str) -> str:
    """Return what follows `From ` and the address."""
    words = from_line.replace(" at ", "@", 1).split(maxsplit=2)
    return words[2] if len(words) == 3 else ""
