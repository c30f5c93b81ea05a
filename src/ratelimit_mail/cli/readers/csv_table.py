"""Read CSV text as programs and people write it: its separator, its header and its rows.

Lines before the header that begin with `#`, such as PowerShell's `#TYPE`, and Excel's `sep=;` are
not rows. A header that comes again, because files were joined, is not a row either.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

import attrs

from ratelimit_mail._util.csv_rows import csv_rows
from ratelimit_mail.cli.errors import InputError
from ratelimit_mail.cli.readers.lines import LONGEST_LINE

__all__ = ["SEPARATORS", "CsvTable", "header_of", "read_rows", "read_table"]

SEPARATORS: Final = ",;\t|"
FIELDS: Final = "#fields:"
"""What begins the line with the header in the logs of Exchange."""

LONGEST_ROW: Final = 2 * LONGEST_LINE
"""In characters. A row that ends nowhere must not take the memory of a whole file."""

REMARKS: Final = ("#type ", "#software:", "#version:", "#log-type:", "#date:", FIELDS)


@attrs.frozen
class CsvTable:
    """The header, and each row that is not blank with the number of its first line."""

    header: list[str]
    rows: Iterator[tuple[int, list[str] | csv.Error]]


def read_rows(
    lines: Iterable[str], separator: str = ",", before: int = 0
) -> Iterator[tuple[int, list[str] | csv.Error]]:
    """Yield each row that is not blank, with the number of its first line.

    before: how many lines there were before these.
    """
    csv.field_size_limit(LONGEST_LINE)
    for first, last, cells, error in csv_rows(lines, separator, LONGEST_ROW):
        if cells:
            yield before + first, cells
        elif error is not None:
            line = before + first
            # A quote that is not closed swallows the rows after it, so reading must stop.
            if last > first:
                raise InputError(
                    f"a quoted field that starts in line {line} is not closed correctly: {error}"
                )
            yield line, error


def read_table(lines: Iterator[str], *, has_header: bool = True) -> CsvTable:
    """Read the lines up to the header. Raises InputError if there is none."""
    number = 0
    separator = None
    for line in lines:
        number += 1
        text = line.strip("\r\n")
        if not text.strip():
            continue
        lowered = text.lower()
        if lowered.startswith("sep=") and len(text) == 5:
            separator = text[4]
            continue
        if text.startswith("#") and has_header:
            if lowered.startswith(FIELDS):
                header = [name.strip() for name in text[len(FIELDS) :].split(",")]
                return CsvTable(header, _rows(read_rows(lines, ",", number), header))
            continue
        separator = separator or separator_of(text)
        rows = read_rows(chain([line], lines), separator, number - 1)
        if not has_header:
            first, cells = next(rows)
            width = len(cells) if isinstance(cells, list) else 0
            names = [str(i) for i in range(1, width + 1)]
            return CsvTable(names, chain([(first, cells)], rows))
        first, cells = next(rows)
        if isinstance(cells, csv.Error):
            raise InputError(f"the header in line {first} is not CSV: {cells}")
        return CsvTable(cells, _rows(rows, cells))
    raise InputError("is empty")


def _rows(
    rows: Iterator[tuple[int, list[str] | csv.Error]], header: list[str]
) -> Iterator[tuple[int, list[str] | csv.Error]]:
    name = header[0]
    for line, row in rows:
        # The first cell decides quickly for most rows.
        if (
            isinstance(row, list)
            and (row[0] == name or row[0][:1] == "#")
            and (row == header or row[0].lower().startswith(REMARKS))
        ):
            continue
        yield line, row


def separator_of(header: str) -> str:
    """Return the separator that is most often in a header, outside of quotes."""
    outside = "".join(header.split('"')[::2])
    return max(SEPARATORS, key=outside.count)


def header_of(lines: Iterable[str]) -> list[str]:
    """Return the header of the first lines of a file, in lower case; none if there is none."""
    try:
        return [name.strip().lower() for name in read_table(iter(lines)).header]
    except InputError:
        return []
