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

from ratelimit_mail._util.csv_rows import CsvRow, csv_rows
from ratelimit_mail.cli.errors import InputError
from ratelimit_mail.cli.readers.lines import LONGEST_LINE

__all__ = ["SEPARATORS", "CsvTable", "header_of", "read_rows", "read_table"]

SEPARATORS: Final = ",;\t|"
FIELDS: Final = "#fields:"
"""What begins the line with the header in the logs of Exchange."""

LONGEST_ROW: Final = 2 * LONGEST_LINE
"""In characters. A row that ends nowhere must not take the memory of a whole file."""

REMARKS: Final = ("#type ", "#software:", "#version:", "#log-type:", "#date:", FIELDS)


NumberedRow = tuple[int, "list[str] | csv.Error"]
"""The number of the first line of a row, and its cells, or what is wrong with it."""


@attrs.frozen
class CsvTable:
    """The header, and each row that is not blank with the number of its first line."""

    header: list[str]
    rows: Iterator[NumberedRow]


def read_rows(lines: Iterable[str]) -> Iterator[NumberedRow]:
    """Yield each row of CSV text that is not blank, with the number of its first line."""
    return _numbered(_csv_rows(lines, ","))


def _csv_rows(lines: Iterable[str], separator: str) -> Iterator[CsvRow]:
    csv.field_size_limit(LONGEST_LINE)
    return csv_rows(lines, separator, LONGEST_ROW)


def _numbered(
    rows: Iterable[CsvRow], before: int = 0, header: list[str] | None = None
) -> Iterator[NumberedRow]:
    """Yield each row that is not blank, with the number of its first line.

    before: how many lines there were before these.
    header: the header that came before: where it comes again, it is left out, and so are remarks.
    """
    name = None if header is None else header[0]
    for first, last, cells, error in rows:
        if cells:
            # The first cell decides quickly for most rows.
            start = cells[0]
            if (
                name is not None
                and (start == name or start[:1] == "#")
                and (cells == header or start.lower().startswith(REMARKS))
            ):
                continue
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
                return CsvTable(header, _numbered(_csv_rows(lines, ","), number, header))
            continue
        separator = separator or separator_of(text)
        rows = _csv_rows(chain([line], lines), separator)
        first, cells = next(_numbered(rows, number - 1))
        if not has_header:
            width = len(cells) if isinstance(cells, list) else 0
            names = [str(i) for i in range(1, width + 1)]
            return CsvTable(names, chain([(first, cells)], _numbered(rows, number - 1)))
        if isinstance(cells, csv.Error):
            raise InputError(f"the header in line {first} is not CSV: {cells}")
        return CsvTable(cells, _numbered(rows, number - 1, cells))
    raise InputError("is empty")


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
