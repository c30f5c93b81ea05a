"""Read the rows of CSV text, each with the lines that it stands in, and each error in its place."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ratelimit_mail._util.text import show

__all__ = ["CsvRow", "column_names", "csv_rows"]

MOST_NAMES = 12

_new_row = tuple.__new__  # makes a named tuple in half the time


class CsvRow(NamedTuple):
    """One row of CSV text.

    line, last_line: the numbers of its first and its last line; a quoted field may hold several.
    cells: its fields; none for a blank line.
    error: what is wrong with the row, which then has no cells.
    """

    line: int
    last_line: int
    cells: list[str]
    error: csv.Error | None = None


def csv_rows(
    lines: Iterable[str], delimiter: str = ",", longest: int | None = None
) -> Iterator[CsvRow]:
    """Yield each row of `lines`, also those that are blank or broken.

    longest: the most characters of a row, whose quoted fields may hold any number of lines. A
        longer one has an error, and ends the rows.
    """
    length = 0

    def bounded(longest: int) -> Iterator[str]:
        nonlocal length
        for text in lines:
            length += len(text)
            if length > longest:
                raise csv.Error(f"a row has more than {longest:,} characters")
            yield text

    reader = csv.reader(
        lines if longest is None else bounded(longest), delimiter=delimiter, strict=True
    )
    line = 1
    while True:
        try:
            for cells in reader:
                last = reader.line_num
                yield _new_row(CsvRow, (line, last, cells, None))
                line, length = last + 1, 0
        except csv.Error as error:
            yield CsvRow(line, reader.line_num, [], error)
            line, length = reader.line_num + 1, 0
        else:
            return


def column_names(header: Sequence[str]) -> str:
    """Return the names in a header row for an error: the first ones, and how many more."""
    names = ", ".join(map(show, header[:MOST_NAMES]))
    more = len(header) - MOST_NAMES
    return f"{names} and {more} more" if more > 0 else names
