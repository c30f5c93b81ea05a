"""The rows of a CSV file by the names of their columns, each with its line."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Final

from ratelimit_mail._util.text import show

__all__ = ["Table"]

LONGEST_LINE: Final = 1 << 20
"""In bytes. The csv module takes at most 128 KiB in one cell, unless told otherwise."""


class Table:
    """A CSV file in UTF-8 whose first row names the columns; it is read line by line.

    columns: each column's own name, with all the names that it may have in the file.
    needed: the columns that it must have.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        columns: Mapping[str, Sequence[str]],
        needed: Collection[str],
    ) -> None:
        self._path = Path(path)
        self._columns = columns
        self._needed = needed

    def rows(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Each row that is not blank: the line that it starts in, and its cells.

        A cell that is not there is empty. Raises ValueError that names file and line.
        """
        at: dict[str, int] | None = None
        width = 0
        for line, row in self._rows():
            if at is None:
                at, width = self._header(line, row), len(row)
            elif len(row) > width:
                raise self.wrong(line, f"{len(row)} columns where the header has {width}")
            else:
                yield line, {n: row[i].strip() if i < len(row) else "" for n, i in at.items()}
        if at is None:
            raise ValueError(f"{show(self._path.name)} is empty; a row of column names is needed")

    def wrong(self, line: int, text: object) -> ValueError:
        """The error that says what is wrong in that line."""
        return ValueError(f"{show(self._path.name)}, line {line}: {text}")

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        reader = csv.reader(self._lines(), strict=True)
        while True:
            line = reader.line_num + 1
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise self.wrong(line, f"no CSV: {error}") from None
            if any(map(str.strip, row)):
                yield line, row

    def _lines(self) -> Iterator[str]:
        # As bytes, because a text file decodes ahead, and then cannot say in which line it failed.
        with self._path.open("rb") as file:
            number = 0
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise self.wrong(number, f"longer than {LONGEST_LINE:,} bytes")
                try:
                    yield line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError:
                    raise self.wrong(number, "not UTF-8") from None

    def _header(self, line: int, row: list[str]) -> dict[str, int]:
        names = [name.strip().lower().replace(" ", "_") for name in row]
        at: dict[str, int] = {}
        for column, spellings in self._columns.items():
            places = [i for i, name in enumerate(names) if name in spellings]
            if len(places) > 1:
                twice = " and ".join(show(row[i]) for i in places)
                raise self.wrong(line, f"two columns for the {column}: {twice}")
            if places:
                at[column] = places[0]
            elif column in self._needed:
                there = ", ".join(map(show, row[:12]))
                more = f" and {len(row) - 12} more" if len(row) > 12 else ""
                raise self.wrong(
                    line, f"no column {' or '.join(spellings)}; the header has {there}{more}"
                )
        return at
