"""Read the messages of a mailing from a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from ratelimit_mail._util.text import show
from ratelimit_mail.cli.errors import InputError
from ratelimit_mail.cli.readers.byte_stream import open_stream
from ratelimit_mail.cli.readers.csv_columns import addresses_or_count
from ratelimit_mail.cli.readers.csv_table import read_rows
from ratelimit_mail.cli.readers.lines import read_lines
from ratelimit_mail.envelope import Client, Envelope

__all__ = ["COLUMNS", "read_mailing"]

COLUMNS: Final = ("recipients", "n_recipients", "count")


def read_mailing(path: Path, sender: str, client: Client) -> Iterator[int | Envelope]:
    """Yield a message for each row of a CSV file: an envelope, or a number of recipients.

    Raises InputError with the line of the first row that cannot be read, because a plan without
    some of its messages would be wrong.
    """
    header: list[str] | None = None
    column = 0
    try:
        with open_stream(path) as stream:
            for line, row in read_rows(read_lines(stream)):
                if isinstance(row, csv.Error):
                    raise InputError(f"line {line}: not CSV: {row}")
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


def _column(header: Sequence[str]) -> int:
    """Return the index of the column with the recipients, preferring addresses to counts."""
    names = [name.strip().lower() for name in header]
    chosen = next((name for name in COLUMNS if name in names), None)
    if chosen is None:
        present = ", ".join(show(name) for name in header[:12])
        more = f" and {len(header) - 12} more" if len(header) > 12 else ""
        raise InputError(
            f"no column for the recipients ({' or '.join(COLUMNS)}); the header has {present}{more}"
        )
    if names.count(chosen) > 1:
        raise InputError(f"the header has the column {chosen!r} twice")
    return names.index(chosen)


def _message(cell: str, sender: str, client: Client) -> int | Envelope:
    recipients = addresses_or_count(cell)
    return recipients if isinstance(recipients, int) else Envelope(sender, recipients, client)
