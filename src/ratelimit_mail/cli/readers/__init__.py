"""Recognize the format of a mail file (CSV, mbox or Maildir) and read its messages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import attrs

from ratelimit_mail.cli.errors import InputError, RejectedRow
from ratelimit_mail.cli.readers.mailboxes import read_maildir, read_mbox
from ratelimit_mail.cli.readers.table import read_csv
from ratelimit_mail.cli.replay.mail_records import MailRecord

__all__ = ["MailFile", "open_mail_file"]

READERS = {"csv": read_csv, "mbox": read_mbox, "maildir": read_maildir}


@attrs.frozen
class MailFile:
    """A file or directory of messages, and its format: `csv`, `mbox` or `maildir`."""

    path: Path
    format: str

    def __iter__(self) -> Iterator[MailRecord | RejectedRow]:
        """Yield the messages in the order of the file.

        Raises InputError if the file cannot be read further.
        """
        try:
            yield from READERS[self.format](self.path)
        except OSError as error:
            raise InputError(error.strerror or str(error)) from None


def open_mail_file(path: Path) -> MailFile:
    """Recognize the format of `path`.

    A Maildir is recognized by its directories, a CSV file by its name, an mbox file by its first
    bytes. Raises InputError for anything else.
    """
    try:
        return MailFile(path, _format_of(path))
    except OSError as error:
        raise InputError(error.strerror or str(error)) from None


def _format_of(path: Path) -> str:
    if path.is_dir():
        if all((path / name).is_dir() for name in ("cur", "new", "tmp")):
            return "maildir"
        raise InputError("is a directory, but not a Maildir: it lacks cur, new and tmp")
    size = path.stat().st_size
    if not path.is_file():
        raise InputError("is neither a file nor a Maildir directory")
    with path.open("rb") as file:
        start = file.read(5)
    if not size:
        raise InputError("is empty")
    if os.fsdecode(path).lower().endswith((".csv", ".csv.gz")):
        return "csv"
    if start == b"From ":
        return "mbox"
    raise InputError(
        "is not a .csv or .csv.gz file, an mbox file (which starts with 'From ') or a Maildir"
    )
