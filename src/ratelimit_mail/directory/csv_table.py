"""Table: the rows of a CSV file, by the names of the columns, with the line of each row."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Final

from ratelimit_mail._util.csv_rows import CsvRow, column_names, csv_rows
from ratelimit_mail._util.text import show

__all__ = ["Table"]

LONGEST_LINE: Final = 1 << 20
"""In bytes. By default, the csv module takes at most 128 KiB in one cell."""


LARGEST: Final = 256 << 20
"""In bytes: millions of aliases. It bounds the memory that a wrong file takes."""


class Table:
    """A CSV file in UTF-8 whose first row names the columns; it is read line by line.

    columns: the name of each column, with all the names that it may have in the file.
    needed: the columns that the file must have.
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
        """Yield each row that is not blank: the line that it starts in, and its cells by column.

        A cell that is missing at the end of a row is empty. Raises ValueError that names file and
        line.
        """
        positions: dict[str, int] | None = None
        width = 0
        for line, _, cells, _ in self._rows():
            if positions is None:
                positions, width = self._read_header(line, cells), len(cells)
            elif len(cells) > width:
                raise self.error(line, f"{len(cells)} columns where the header has {width}")
            else:
                yield (
                    line,
                    {
                        column: cells[i].strip() if i < len(cells) else ""
                        for column, i in positions.items()
                    },
                )
        if positions is None:
            raise ValueError(f"{show(self._path.name)} is empty; a row of column names is needed")

    def error(self, line: int, text: object) -> ValueError:
        """Return the error that says what is wrong in a line of this file."""
        return ValueError(f"{show(self._path.name)}, line {line}: {text}")

    def _rows(self) -> Iterator[CsvRow]:
        for row in csv_rows(self._lines()):
            if row.error is not None:
                raise self.error(row.line, f"not CSV: {row.error}")
            if any(map(str.strip, row.cells)):
                yield row

    def _lines(self) -> Iterator[str]:
        # As bytes, because a text file decodes ahead, and then cannot say in which line it failed.
        if self._path.is_fifo() or self._path.is_char_device():  # it may never end
            raise ValueError(f"{show(self._path.name)} is a pipe or a device, not a file")
        with self._path.open("rb") as file:
            number = size = 0
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                size += len(line)
                if size > LARGEST:
                    raise self.error(number, f"the file is longer than {LARGEST:,} bytes")
                if len(line) > LONGEST_LINE:
                    raise self.error(number, f"longer than {LONGEST_LINE:,} bytes")
                try:
                    yield line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError:
                    raise self.error(number, "not UTF-8") from None

    def _read_header(self, line: int, header: list[str]) -> dict[str, int]:
        """Return the position of each column, from the row that names them."""
        names = [name.strip().lower().replace(" ", "_") for name in header]
        positions: dict[str, int] = {}
        for column, spellings in self._columns.items():
            matches = [i for i, name in enumerate(names) if name in spellings]
            if len(matches) > 1:
                twice = " and ".join(show(header[i]) for i in matches)
                raise self.error(line, f"two columns for the {column}: {twice}")
            if matches:
                positions[column] = matches[0]
            elif column in self._needed:
                raise self.error(
                    line,
                    f"no column {' or '.join(spellings)}; the header has {column_names(header)}",
                )
        return positions
