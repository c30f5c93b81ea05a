"""Tables of a page: columns of numbers that sort, bars below the names of rows, and a last row."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import ClassVar, Final

import attrs

__all__ = ["Bar", "Cell", "Column", "Row", "Table", "cell_of", "full_length", "table"]


MOST_DEPTH: Final = 2

LEAST_FULL: Final = 1e-6
"""A whole bar does not stand for less than this share."""


@attrs.frozen
class Column:
    """A column: its heading, and whether it has numbers."""

    heading: str
    is_number: bool = True


@attrs.frozen
class Cell:
    """A cell. key: what it is sorted by, if not its text."""

    text: str
    key: float | None = None


@attrs.frozen
class Bar:
    """A bar below the name of a row.

    segments: the color and the length of each, from 0 to 100. title: what a pointer shows.
    mark: where a line crosses it, from 0 to 100.
    """

    segments: Sequence[tuple[str, float]]
    title: str
    mark: float | None = None


@attrs.frozen
class Row:
    """A row: its name, its cells, and a bar below the name.

    is_total: whether it stands out. depth: how far it is indented, as a part of a row above it.
    """

    name: str
    cells: Sequence[Cell]
    bar: Bar | None = None
    is_total: bool = False
    depth: int = 0


@attrs.frozen(kw_only=True)
class Table:
    """A table. name: unique within the page.

    columns: the first is that of the names of rows. rest: a last row that is not sorted.
    stacks: whether a row becomes a card on a narrow screen.
    """

    template: ClassVar[str] = "table.html.j2"

    name: str
    title: str
    words: str = ""
    columns: Sequence[Column]
    rows: Sequence[Row]
    rest: Row | None = None
    note: str = ""
    sorts: bool = False
    stacks: bool = False
    wide: bool = False
    legend: Sequence[tuple[str, str]] = ()


def cell_of(value: int | str) -> Cell:
    """Return a cell; a number is sorted as a number."""
    return Cell(f"{value:,}", value) if isinstance(value, int) else Cell(value)


def full_length(shares: Iterable[float]) -> float:
    """Return the share that the whole length of a bar stands for: 1, 2 or 5 times a power of ten.

    shares: what the bars have to show, from 0 to 1.
    """
    highest = max(shares, default=0.0)
    if highest <= 0 or highest > 0.5:
        return 1.0
    highest = max(highest, LEAST_FULL)
    power = 10.0 ** math.floor(math.log10(highest))
    return next(n * power for n in (1, 2, 5, 10, 20) if n * power >= highest * 1.05)


def table(
    name: str, title: str, headings: Sequence[str], rows: Sequence[tuple[str, ...]], note: str = ""
) -> Table:
    """Return a table of texts: the first of a row is its name, the others are numbers.

    A row that begins with blanks is a part of the last row above it that has fewer.
    """
    has_parts = any(row[0].startswith(" ") for row in rows)
    return Table(
        name=name,
        title=title,
        columns=[Column(headings[0], is_number=False), *map(Column, headings[1:])],
        rows=[
            Row(
                row[0].lstrip(),
                [Cell(text) for text in row[1:]],
                depth=_depth(row[0]),
                is_total=has_parts and not row[0].startswith(" "),
            )
            for row in rows
        ],
        note=note,
        stacks=len(headings) > 4,
        wide=len(headings) > 4,
    )


def _depth(name: str) -> int:
    return min((len(name) - len(name.lstrip())) // 2, MOST_DEPTH)
