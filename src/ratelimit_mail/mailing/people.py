"""Read the people of a mailing from a CSV file: one row for each letter."""

from __future__ import annotations

import os
from collections.abc import Mapping
from io import StringIO
from os import PathLike
from pathlib import Path
from typing import Final

import attrs

from ratelimit_mail._util.csv_rows import csv_rows
from ratelimit_mail._util.text import show

__all__ = ["People", "Row", "read_people"]

LARGEST: Final = 256 << 20
MOST_ROWS: Final = 1_000_000
MOST_COLUMNS: Final = 500

DELIMITERS: Final = (",", ";", "\t", "|")


@attrs.frozen
class Row:
    """One row. number: counted from 1, without the header. line: where it begins in the file.

    values: the cells by column, without blanks around them.
    """

    number: int
    line: int
    values: Mapping[str, str]

    def __str__(self) -> str:
        return f"row {self.number:,} (line {self.line:,})"


@attrs.frozen
class People:
    """The rows of a CSV file. folder: where the file is; None if it is not a file.

    columns: their names, as the first row has them. rows: the other rows.
    """

    columns: tuple[str, ...]
    rows: tuple[Row, ...] = attrs.field(repr=lambda rows: f"<{len(rows):,} rows>")
    folder: Path | None = None

    @classmethod
    def parse(
        cls, text: str, *, delimiter: str | None = None, folder: Path | None = None
    ) -> People:
        """Return the people in the text of a CSV file; see `read_people`.

        delimiter: as in `read_people`. folder: where files are that the rows name.
        """
        text = text.removeprefix("\ufeff")
        if "\0" in text:
            raise ValueError("a NUL byte: not a text file")
        if delimiter is None:
            header = text.lstrip().partition("\n")[0]
            delimiter = max(DELIMITERS, key=header.count)
        columns: list[str] = []
        rows: list[Row] = []
        for row in csv_rows(StringIO(text, newline=""), delimiter):
            if row.error is not None:
                raise ValueError(f"line {row.line:,}: not CSV: {row.error}")
            cells = [cell.strip() for cell in row.cells]
            if not any(cells):
                continue
            if not columns:
                columns = _columns(cells, row.line)
                continue
            if len(cells) != len(columns):
                raise ValueError(
                    f"line {row.line:,}: {len(cells)} cells where the header has {len(columns)}"
                )
            if len(rows) == MOST_ROWS:
                raise ValueError(f"more than {MOST_ROWS:,} rows")
            rows.append(Row(len(rows) + 1, row.line, dict(zip(columns, cells, strict=True))))
        if not columns:
            raise ValueError("is empty; a first row with the names of the columns is needed")
        return cls(tuple(columns), tuple(rows), folder)


def read_people(path: str | PathLike[str], *, delimiter: str | None = None) -> People:
    """Return the people in a CSV file in UTF-8, whose first row names the columns.

    path: of the file.
    delimiter: what separates cells; by default the one of comma, semicolon, tab and `|` that the
        first row has most often.

    Raises ValueError that names the file and the line, and OSError if it cannot be read.
    """
    name = show(os.path.basename(os.fspath(path)))
    with open(path, "rb") as file:
        contents = file.read(LARGEST + 1)
    if len(contents) > LARGEST:
        raise ValueError(f"{name}: larger than {LARGEST >> 20} MiB")
    try:
        text = contents.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = contents.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{name}: line {line:,}: not UTF-8") from None
    try:
        return People.parse(text, delimiter=delimiter, folder=Path(path).resolve().parent)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _columns(cells: list[str], line: int) -> list[str]:
    if len(cells) > MOST_COLUMNS:
        raise ValueError(f"line {line:,}: {len(cells):,} columns; at most {MOST_COLUMNS}")
    for cell in cells:
        if not cell:
            raise ValueError(f"line {line:,}: a column has no name")
        if cells.count(cell) > 1:
            raise ValueError(f"line {line:,}: there are two columns {show(cell)}")
    return cells
