"""Tables, cells and numbers that several commands print."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from rich import box
from rich.table import Table
from rich.text import Text

from ratelimit_mail._util.text import escape

__all__ = ["cells", "number_of", "table_of"]


def table_of(*columns: str) -> Table:
    """Return an empty table whose cells are folded rather than cut."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for column in columns:
        table.add_column(column, overflow="fold")
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
