"""A report as tables that fit a terminal of 80 columns."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.replay.outcome import Report
from ratelimit_mail.cli.replay.text_tables import (
    Grid,
    comparison,
    data,
    senders_of,
    suggestions,
    tables_of,
)

__all__ = ["print_report"]


def print_report(report: Report, console: Console) -> None:
    """Print all of `report`."""
    name = escape(report.file)
    console.print(Text(f"Replay of {name} under {escape(report.policy)}", style="bold"))
    console.print()
    console.print(_facts(data(report)))
    grids = tables_of(report) + senders_of(report)
    if report.compared:
        grids.append(comparison(report))
    if report.suggested is not None:
        grids.append(suggestions(report))
    for grid in grids:
        console.print()
        console.print(_table(grid))
        if grid.note:
            console.print(Text(grid.note))


def _facts(facts: list[tuple[str, str]]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in facts:
        table.add_row(Text(name), Text(value))
    return table


def _table(grid: Grid) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.title, table.title_justify, table.title_style = grid.title, "left", "bold"
    first, *numbers = grid.headings
    table.add_column(first, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    for row in grid.rows:
        style = "bold" if grid.is_strong(row) else ""
        table.add_row(Text(row[0], style=style), *row[1:])
    return table
