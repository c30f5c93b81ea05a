"""Print a report as tables that fit a terminal of 80 columns."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.replay.report import Report
from ratelimit_mail.cli.replay.report_tables import (
    ReportTable,
    comparison_table,
    decision_tables,
    heavy_sender_table,
    replay_facts,
    sender_tables,
    suggestion_table,
)
from ratelimit_mail.cli.replay.tier_report import tier_tables

__all__ = ["print_report"]


def print_report(report: Report, console: Console) -> None:
    """Print all of `report`."""
    name = escape(report.file)
    console.print(Text(f"Replay of {name} under {escape(report.policy)}", style="bold"))
    console.print()
    console.print(_facts(replay_facts(report)))
    tables = decision_tables(report) + tier_tables(report) + sender_tables(report)
    if report.compared:
        tables.append(comparison_table(report))
    if report.suggested is not None:
        tables.append(suggestion_table(report))
        if (heavy := heavy_sender_table(report)) is not None:
            tables.append(heavy)
    for each in tables:
        console.print()
        console.print(_table(each))
        if each.note:
            console.print(Text(each.note))


def _facts(facts: list[tuple[str, str]]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in facts:
        table.add_row(Text(name), Text(value))
    return table


def _table(content: ReportTable) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.title, table.title_justify, table.title_style = content.title, "left", "bold"
    first, *numbers = content.headings
    table.add_column(first, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    for row in content.rows:
        style = "bold" if content.is_total(row) else ""
        table.add_row(Text(row[0], style=style), *row[1:])
    return table
