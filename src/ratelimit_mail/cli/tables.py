"""Tables that fit a terminal of any width, cells and numbers that several commands print."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ratelimit_mail._util.text import escape

__all__ = ["FittedTable", "cells", "number_of", "print_table", "table_of", "two_columns"]

_WORD: Final = re.compile(r"\S++\s*+")

NARROWEST: Final = 12
"""A column with words is not made narrower than that, unless it has less."""

ROW_INDENT: Final = "  "
TEXT_INDENT: Final = "    "


class FittedTable:
    """A table whose words are never broken: where they do not fit, each row becomes a list.

    It is printed by `print_table`; a word that is longer than a line is then printed whole.

    columns: the headings. right: those of the columns of numbers, which are aligned to the right.
    title, caption: a line above and below the table. has_header: whether the headings are printed
    above the columns. least: the least width of the first column on a wide terminal. fold: break
    words that are longer than a line, for a live screen.
    """

    def __init__(
        self,
        *columns: str,
        right: Collection[str] = (),
        title: str | None = None,
        has_header: bool = True,
        least: int = 0,
        fold: bool = False,
    ) -> None:
        self.columns = columns
        self.right = right
        self.title = title
        self.caption: str | None = None
        self.has_header = has_header
        self.least = least
        self.fold = fold
        self._rows: list[tuple[Text, ...]] = []

    def add_row(self, *texts: Text | str) -> None:
        """Add a row; the texts are escaped already."""
        self._rows.append(tuple(Text(each) if isinstance(each, str) else each for each in texts))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table, or the rows one by one."""
        width = options.max_width
        least, most = self._widths(width)
        if not self.has_header and len(most) == 2 and width - most[0] - 2 >= 2 * NARROWEST:
            yield from self._side_by_side(width, most[0])
            return
        table = self._table(most)
        room = width - _measured(console, options, table)
        if room >= 0:
            yield table
            return
        # What each column can give, in proportion.
        spare = sum(most) - sum(least)
        if spare + room < 0:
            yield from self._stacked(width)
            return
        reductions = [(high - low) * -room // spare for low, high in zip(least, most, strict=True)]
        missing = -room - sum(reductions)
        for i, (low, high) in enumerate(zip(least, most, strict=True)):
            more = min(missing, high - low - reductions[i])
            reductions[i] += more
            missing -= more
        yield self._table([high - less for high, less in zip(most, reductions, strict=True)])

    def _widths(self, width: int) -> tuple[list[int], list[int]]:
        """Return the least and the greatest width of each column."""
        least, most = [], []
        for i, name in enumerate(self.columns):
            texts = [row[i].plain for row in self._rows]
            texts += [name] if self.has_header else []
            longest = max(
                (cell_len(line) for text in texts for line in text.split("\n")), default=0
            )
            if i == 0 and width >= 60:
                longest = max(longest, self.least)
            words = max((cell_len(word) for text in texts for word in text.split()), default=0)
            is_whole = name in self.right or (not self.has_header and i == 0)
            least.append(longest if is_whole else max(words, min(longest, NARROWEST)))
            most.append(longest)
        return least, most

    def _table(self, widths: Sequence[int]) -> Table:
        if self.has_header:
            table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
            table.collapse_padding = True
        else:
            table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        if self.title is not None:
            table.title, table.title_justify, table.title_style = self.title, "left", "bold"
        if self.caption is not None:
            table.caption, table.caption_justify = self.caption, "left"
        for name, width in zip(self.columns, widths, strict=True):
            is_number = name in self.right
            table.add_column(
                name, width=width, justify="right" if is_number else "left", overflow="fold"
            )
        for row in self._rows:
            table.add_row(*row)
        return table

    def _side_by_side(self, width: int, first: int) -> Iterator[Text]:
        """Yield rows of two columns; a word of the second that is too long has its own line."""
        for name, text in self._rows:
            label = Text(name.plain.ljust(first + len(name.plain) - cell_len(name.plain) + 2))
            lines = self._wrapped(text, width, "", " " * (first + 2))
            for number, line in enumerate(lines):
                yield line if number else _line(label + line)

    def _stacked(self, width: int) -> Iterator[Text]:
        """Yield a heading for each row, and below it a line for each of its other cells."""
        if self.title is not None:
            yield from self._wrapped(Text(self.title, style="bold"), width, "", "")
        for first, *others in self._rows:
            if first.plain:
                heading = self.columns[0] if self.has_header else ""
                head = Text(f"{_one_line(heading)}: " if heading else "", style="bold") + first
                yield from self._wrapped(head, width, "", ROW_INDENT)
            for name, text in zip(self.columns[1:], others, strict=True):
                if text.plain:
                    label = f"{_one_line(name)}: " if name and self.has_header else ""
                    begin = ROW_INDENT if self.has_header else TEXT_INDENT
                    yield from self._wrapped(Text(label) + text, width, begin, TEXT_INDENT)
        if self.caption is not None:
            yield from self._wrapped(Text(self.caption), width, "", "")

    def _wrapped(self, text: Text, width: int, begin: str, then: str) -> Iterator[Text]:
        room = max(1, width - len(then))
        lines = [line for piece in text.split("\n") for line in _broken(piece, room, self.fold)]
        for i, line in enumerate(lines):
            line.rstrip()
            yield _line(Text(then if i else begin) + line)


def _broken(text: Text, width: int, fold: bool) -> Iterable[Text]:
    """Return lines of at most `width`, or longer ones of a single word unless `fold` is true."""
    breaks: list[int] = []
    column = 0
    for match in _WORD.finditer(text.plain):
        word = match[0].rstrip()
        needed = cell_len(text.plain[: match.start()]) if not column and not breaks else 0
        if column and column + cell_len(word) > width:
            breaks.append(match.start())
            column = 0
        column += needed
        if fold and column + cell_len(word) > width:
            for offset, character in enumerate(word, match.start()):
                if column and column + cell_len(character) > width:
                    breaks.append(offset)
                    column = 0
                column += cell_len(character)
            column += len(match[0]) - len(word)
        else:
            column += cell_len(match[0])
    return text.divide(breaks)


def _measured(console: Console, options: ConsoleOptions, table: Table) -> int:
    return Measurement.get(console, options.update(width=100_000), table).maximum


def _line(text: Text) -> Text:
    text.no_wrap, text.overflow, text.end = True, "ignore", "\n"
    return text


def _one_line(heading: str) -> str:
    return heading.replace("\n", " ")


def print_table(table: FittedTable, console: Console | None = None) -> None:
    """Print a table; a word that is longer than a line is not cut."""
    (console or Console()).print(table, crop=False)


def table_of(*columns: str, fold: bool = False) -> FittedTable:
    """Return an empty table with headings. fold: for a live screen, which has only its width."""
    return FittedTable(*columns, fold=fold)


def two_columns(rows: Iterable[tuple[str, str]]) -> FittedTable:
    """Return a table of subjects and texts; a subject is not repeated in the next row."""
    # Tables below each other have the same columns.
    table = FittedTable("subject", "text", has_header=False, least=17)
    last = None
    for subject, text in rows:
        table.add_row("" if subject == last else f"  {escape(subject)}", escape(text))
        last = subject
    return table


def cells(*values: object) -> Iterator[Text]:
    """Yield an escaped cell for each value; a time is printed to the second."""
    for value in values:
        text = f"{value:%Y-%m-%d %H:%M:%S}" if isinstance(value, datetime) else str(value)
        yield Text(escape(text))


def number_of(count: int, noun: str) -> str:
    """Return a number and its noun, such as "1 address" or "1,200 addresses"."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"1 {noun}" if count == 1 else f"{count:,} {plural}"
