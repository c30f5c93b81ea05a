"""Recognize the format of mail files and read their messages.

Each format is a `Reader` in a module of its own. A new one is such a module and its line in
`READERS`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs

from ratelimit_mail.cli.errors import InputError
from ratelimit_mail.cli.readers.base import Item, Reader, Reading, ReadOptions, Source
from ratelimit_mail.cli.readers.byte_stream import DamagedError
from ratelimit_mail.cli.readers.exchange_trace import ExchangeTraceReader
from ratelimit_mail.cli.readers.exchange_tracking import ExchangeTrackingReader
from ratelimit_mail.cli.readers.exim import EximReader
from ratelimit_mail.cli.readers.google import GoogleReader
from ratelimit_mail.cli.readers.mailboxes import MboxReader, read_maildir
from ratelimit_mail.cli.readers.postfix import PostfixReader
from ratelimit_mail.cli.readers.ses import SesReader
from ratelimit_mail.cli.readers.table import CsvReader

__all__ = ["FORMATS", "MailFiles", "open_mail_files"]

# In the order in which they are tried: those that recognize more come later.
_MBOX: Final = MboxReader()
READERS: Final[tuple[Reader, ...]] = (
    _MBOX,
    SesReader(),
    PostfixReader(),
    EximReader(),
    ExchangeTrackingReader(),
    ExchangeTraceReader(),
    GoogleReader(),
    CsvReader(),
)

MAILDIR: Final = "maildir"

FORMATS: Final = (*(reader.name for reader in READERS), MAILDIR)

CSV_NAMES: Final = (".csv", ".tsv")
PACKED_NAMES: Final = (".gz", ".bz2", ".xz", ".zst")


@attrs.frozen
class MailFiles:
    """Some files or directories of messages, all of one format.

    reading: the options, and the notes for the user after all messages are read.
    """

    format: str
    reading: Reading
    _paths: Sequence[Path]
    _sources: Sequence[Source]

    def __iter__(self) -> Iterator[Item]:
        """Yield the messages in the order of the files, or of the log that they are together.

        Raises InputError if a file cannot be read further.
        """
        try:
            if self.format == MAILDIR:
                for path in self._paths:
                    yield from read_maildir(path, self.reading)
                return
            reader = next(each for each in READERS if each.name == self.format)
            yield from reader.read(self._sources, self.reading)
        except OSError as error:
            raise InputError(error.strerror or str(error)) from None
        except DamagedError as error:
            raise error.after("some of it") from None


def open_mail_files(
    paths: Sequence[Path], options: ReadOptions | None = None, format_name: str | None = None
) -> MailFiles:
    """Recognize the format of some files, or take the one that is named.

    A Maildir is recognized by its directories, and any other format by its first bytes. `-` is
    standard input. Raises InputError if the files have no format, or several.
    """
    reading = Reading(options or ReadOptions())
    sources: list[Source] = []
    names: list[str] = []
    for path in paths:
        try:
            if path.is_dir():
                names.append(_maildir(path, format_name))
            else:
                sources.append(_source(path))
                names.append(format_name or _format_of(sources[-1]))
        except (OSError, InputError) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            prefix = f"{path}: " if len(paths) > 1 else ""
            raise InputError(f"{prefix}{reason or error}") from None
    if len(set(names)) > 1:
        raise InputError(f"the files have several formats: {', '.join(sorted(set(names)))}")
    return MailFiles(names[0], reading, paths, sources)


def _maildir(path: Path, format_name: str | None) -> str:
    if format_name not in (None, MAILDIR):
        raise InputError("is a directory")
    if not all((path / name).is_dir() for name in ("cur", "new", "tmp")):
        raise InputError("is a directory, but not a Maildir: it lacks cur, new and tmp")
    return MAILDIR


def _source(path: Path) -> Source:
    if path != Path("-"):
        size = path.stat().st_size
        if not path.is_file():
            raise InputError("is neither a file nor a Maildir directory")
        if not size:
            raise InputError("is empty")
    source = Source(path)
    if not source.start.data:
        raise InputError("is empty")
    return source


def _format_of(source: Source) -> str:
    for reader in READERS:
        if reader.recognizes(source.start):
            return reader.name
    name = source.path.name.lower()
    for ending in PACKED_NAMES:
        name = name.removesuffix(ending)
    if name.endswith(CSV_NAMES):
        return "csv"  # its reader says what is wrong with the header
    # Last, because a message may be quoted in a file of any format.
    if _MBOX.has_message(source.start):
        return _MBOX.name
    raise InputError(
        f"is not recognized as one of {', '.join(FORMATS)}; --format says which of them it is"
    )
