"""The messages of a mailing that stand in a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from ratelimit_mail.cli.errors import InputError
from ratelimit_mail.cli.readers.lines import LONGEST_LINE, read_lines
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.mailing import MOST_RECIPIENTS
from ratelimit_mail.showing import show

__all__ = ["COLUMNS", "read_mailing"]

COLUMNS: Final = ("recipients", "n_recipients", "count")


def read_mailing(path: Path, sender: str, client: Client) -> Iterator[int | Envelope]:
    """Each row of a CSV file as a message: its envelope, or how many recipients it has.

    Raises InputError that names the line of the first row that cannot be read: a plan
    without some of its messages would be wrong.
    """
    header: list[str] | None = None
    column = 0
    try:
        for line, row in _rows(path):
            if header is None:
                header, column = row, _column(row)
                continue
            try:
                if len(row) != len(header):
                    raise ValueError(f"{len(row)} columns where the header has {len(header)}")
                yield _message(row[column], sender, client)
            except ValueError as error:
                raise InputError(f"line {line}: {error}") from None
    except OSError as error:
        raise InputError(error.strerror or str(error)) from None
    if header is None:
        raise InputError("is empty")


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Each row with the number of the line that it starts in; blank lines do not count."""
    csv.field_size_limit(LONGEST_LINE)
    reader = csv.reader(read_lines(path), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise InputError(f"line {line}: no CSV: {error}") from None
        if row is None:
            return
        if row:
            yield line, row


def _column(header: Sequence[str]) -> int:
    """Which column tells the recipients: addresses before counts."""
    names = [name.strip().lower() for name in header]
    found = next((name for name in COLUMNS if name in names), None)
    if found is None:
        there = ", ".join(show(name) for name in header[:12])
        more = f" and {len(header) - 12} more" if len(header) > 12 else ""
        raise InputError(
            f"no column for the recipients ({' or '.join(COLUMNS)}); the header has {there}{more}"
        )
    if names.count(found) > 1:
        raise InputError(f"the header has the column {found!r} twice")
    return names.index(found)


def _message(cell: str, sender: str, client: Client) -> int | Envelope:
    """What a cell says: a number, or addresses separated by spaces or semicolons."""
    words = cell.replace(";", " ").split()
    if len(words) != 1 or not words[0].lstrip("+-").isdigit():
        return Envelope(sender, words, client)
    [word] = words
    if not (word.isascii() and word.isdigit() and len(word) <= 15 and int(word)):
        raise ValueError(f"recipients: {show(word)} is no number of recipients")
    if int(word) > MOST_RECIPIENTS:
        raise ValueError(f"recipients: {int(word):,} are more than {MOST_RECIPIENTS:,}")
    return int(word)
