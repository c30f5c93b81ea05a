"""Read the rows of a CSV file, and turn them into mail records."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from ratelimit_mail._util.csv_rows import csv_rows
from ratelimit_mail.cli.errors import InputError, RejectedRow
from ratelimit_mail.cli.readers.csv_columns import MessageColumns
from ratelimit_mail.cli.readers.lines import LONGEST_LINE, read_lines
from ratelimit_mail.cli.replay.mail_records import MailRecord

__all__ = ["read_csv", "read_rows"]


def read_csv(path: Path) -> Iterator[MailRecord | RejectedRow]:
    """Yield the messages of a CSV file whose first row names the columns; skip blank lines."""
    columns = None
    for line, row in read_rows(path):
        if columns is None:
            if isinstance(row, csv.Error):
                raise InputError(f"the header in line {line} is not CSV: {row}")
            columns = MessageColumns(row)
            continue
        try:
            if isinstance(row, csv.Error):
                raise row
            yield columns.record(row)
        except (ValueError, csv.Error) as error:
            yield RejectedRow(f"line {line}", _reason(row, error))
    if columns is None:
        raise InputError("is empty")


def read_rows(path: Path) -> Iterator[tuple[int, list[str] | csv.Error]]:
    """Yield each row that is not blank, with the number of its first line."""
    csv.field_size_limit(LONGEST_LINE)
    for row in csv_rows(read_lines(path)):
        if row.error is not None:
            # A quote that is not closed swallows the rows after it, so reading must stop.
            if row.last_line > row.line:
                raise InputError(
                    f"a quoted field that starts in line {row.line} is not closed correctly:"
                    f" {row.error}"
                )
            yield row.line, row.error
        elif row.cells:
            yield row.line, row.cells


def _reason(row: list[str] | csv.Error, error: Exception) -> str:
    if isinstance(row, list) and not _is_utf8(row):
        return f"{error}; the row is not UTF-8"
    return str(error)


def _is_utf8(row: list[str]) -> bool:
    return not any("\ud800" <= ch <= "\udfff" for cell in row for ch in cell)
