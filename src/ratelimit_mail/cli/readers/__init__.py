"""What a file is, and the reader for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import attrs

from ratelimit_mail.cli.errors import InputError, RejectedRow
from ratelimit_mail.cli.readers.mail import read_maildir, read_mbox
from ratelimit_mail.cli.readers.table import read_csv
from ratelimit_mail.cli.replay.messages import Message

__all__ = ["Source", "open_source"]

READERS = {"csv": read_csv, "mbox": read_mbox, "maildir": read_maildir}


@attrs.frozen
class Source:
    """A file or directory of messages, and its format: `csv`, `mbox` or `maildir`."""

    path: Path
    format: str

    def __iter__(self) -> Iterator[Message | RejectedRow]:
        """Its messages as they stand; raises InputError where it cannot be read on."""
        try:
            yield from READERS[self.format](self.path)
        except OSError as error:
            raise InputError(error.strerror or str(error)) from None


def open_source(path: Path) -> Source:
    """What `path` is: a Maildir by its directories, CSV by its name, an mbox by its start."""
    try:
        return Source(path, _format_of(path))
    except OSError as error:
        raise InputError(error.strerror or str(error)) from None


def _format_of(path: Path) -> str:
    if path.is_dir():
        if all((path / name).is_dir() for name in ("cur", "new", "tmp")):
            return "maildir"
        raise InputError("is a directory, but no Maildir: it lacks cur, new and tmp")
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
        "is no .csv or .csv.gz file, no mbox (which starts with 'From ') and no Maildir"
    )
