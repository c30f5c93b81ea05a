"""Read the messages of an mbox file or a Maildir directory.

A message in an mbox file begins at a `From ` line that comes after a blank line (RFC 4155) and has
a date or a header field after it. Others are text of a message, and so is all that its
Content-Length covers, if another message or the end of the file follows there.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from email.message import Message
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from ratelimit_mail._util.text import show
from ratelimit_mail.cli.errors import RejectedRow
from ratelimit_mail.cli.readers.times import parse_mail_time
from ratelimit_mail.cli.replay.mail_records import MailRecord
from ratelimit_mail.envelope import Envelope

__all__ = ["read_maildir", "read_mbox"]

LONGEST_HEADER: Final = 1024 * 1024
"""Bytes of all header fields together. Bodies are not read."""

_DATED: Final = re.compile(rb"\b[0-9]{1,2}:[0-9]{2}\b.*\b[0-9]{4}\b")
_FIELD: Final = re.compile(rb"([!-9;-~]++)[ \t]*+:")
"""The name of a header field; RFC 5322 (4.5) allows blanks before the colon."""
_CONTENT_LENGTH: Final = re.compile(
    rb"^Content-Length[ \t]*+:[ \t]*+([0-9]{1,15})[ \t]*+\r?$", re.IGNORECASE | re.MULTILINE
)

_parser = BytesHeaderParser()


class _File(Protocol):
    """A message as opened by a mailbox."""

    def readline(self, size: int, /) -> bytes: ...


def read_mbox(path: Path) -> Iterator[MailRecord | RejectedRow]:
    """Yield the messages of an mbox file, in the order of the file."""
    with path.open("rb") as file:
        number = 0
        from_line = _next_from_line(file, is_after_blank=True)
        while from_line:
            number += 1
            start = file.tell()
            yield _read(f"message {number}", file, from_line[:1000])
            from_line = _next_from_line(file, is_after_blank=_skip_content(file, start))


def _next_from_line(file: BinaryIO, *, is_after_blank: bool) -> bytes:
    """Read to the end of the next `From ` line that begins a message, and return that line.

    Returns an empty line at the end of the file.
    """
    is_line_start = True
    while line := file.readline(LONGEST_HEADER):
        if is_after_blank and is_line_start and line.startswith(b"From "):
            position = file.tell()
            following = file.readline(1000)
            file.seek(position)
            if _DATED.search(line[:1000]) or _FIELD.match(following):
                return line
        is_after_blank = is_line_start and not line.rstrip(b"\r\n")
        is_line_start = line.endswith(b"\n")
    return b""


def _skip_content(file: BinaryIO, start: int) -> bool:
    """Skip the text of a message whose header has been read, if its Content-Length is right.

    It is right if another message or the end of the file follows. Returns whether the next line
    may begin a message.

    start: where the header begins.
    """
    end = file.tell()
    file.seek(start)
    header = file.read(end - start)
    length = _CONTENT_LENGTH.search(header)
    after = end if length is None else end + int(length[1])
    if length is not None and after <= os.fstat(file.fileno()).st_size:
        file.seek(after)
        while (following := file.readline(1000)) in (b"\n", b"\r\n"):
            pass
        if not following or following.startswith(b"From "):
            file.seek(after)
            return True
    file.seek(end)
    return (b"\n" + header).endswith((b"\n\n", b"\n\r\n"))


def read_maildir(path: Path) -> Iterator[MailRecord | RejectedRow]:
    """Yield the messages in `cur` and `new` of a Maildir, sorted by file name."""
    files = {
        name.partition(":")[0]: path / folder / name
        for folder in ("cur", "new")
        for name in os.listdir(path / folder)
    }
    for key in sorted(files):
        try:
            with _open_regular(files[key]) as file:
                yield _read(f"message {show(key)}", file)
        except IsADirectoryError:
            continue
        except OSError as error:  # moved meanwhile, or not readable
            reason = error.strerror or str(error)
            yield RejectedRow(f"message {show(key)}", f"cannot be read: {reason}")


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


def _read(where: str, file: _File, from_line: bytes = b"") -> MailRecord | RejectedRow:
    try:
        header = _parser.parsebytes(_header(file))
        return _record(header, from_line.decode("ascii", "replace"))
    except (ValueError, TypeError) as error:
        return RejectedRow(where, str(error))
    except (IndexError, RecursionError):  # errors of the address parser of email.utils
        return RejectedRow(where, "its sender or recipients cannot be parsed")


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


def _record(header: Message[Any, Any], from_line: str) -> MailRecord:
    envelope = Envelope.from_message(header)
    received = str(header.get("Received", "")).rpartition(";")[2]
    for text in (str(header.get("Date", "")), received, _date_of(from_line)):
        time = parse_mail_time(text)
        if time is not None:
            return MailRecord(time, envelope.sender, envelope.recipients, envelope.client)
    raise ValueError("time: no usable date in Date, Received or the 'From ' line")


def _date_of(from_line: str) -> str:
    """Return what follows `From ` and the address."""
    words = from_line.split(maxsplit=2)
    return words[2] if len(words) == 3 else ""
