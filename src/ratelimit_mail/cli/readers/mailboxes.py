"""Read the messages of an mbox file or a Maildir directory."""

from __future__ import annotations

import mailbox
import os
import stat
from collections.abc import Iterator
from contextlib import closing
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

_parser = BytesHeaderParser()


class _File(Protocol):
    """A message as opened by a mailbox."""

    def readline(self, size: int, /) -> bytes: ...


def read_mbox(path: Path) -> Iterator[MailRecord | RejectedRow]:
    """Yield the messages of an mbox file, in the order of the file."""
    with closing(mailbox.mbox(path, create=False)) as box:
        for number, key in enumerate(box.iterkeys(), 1):
            with closing(box.get_file(key, from_=True)) as file:
                yield _read(f"message {number}", file, file.readline(1000))


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
    """Return all lines before the first blank line."""
    lines = []
    space = LONGEST_HEADER
    while (line := file.readline(space)).rstrip(b"\r\n"):
        lines.append(line)
        space -= len(line)
        if space <= 0:
            raise ValueError(f"its header is longer than {LONGEST_HEADER:,} bytes")
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
