"""Print a report as tables."""

from __future__ import annotations

from rich.console import Console
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
from ratelimit_mail.cli.tables import FittedTable, print_table

__all__ = ["print_report"]


def print_report(report: Report, console: Console) -> None:
    """Print all of `report`."""
    title = f"Replay of {escape(report.file)} under {escape(report.policy)}"
    console.print(Text(title, style="bold"), soft_wrap=True)
    console.print()
    facts = FittedTable("name", "value", has_header=False)
    for name, value in replay_facts(report):
        facts.add_row(name, value)
    print_table(facts, console)
    tables = decision_tables(report) + tier_tables(report) + sender_tables(report)
    if report.compared:
        tables.append(comparison_table(report))
    if report.suggested is not None:
        tables.append(suggestion_table(report))
        if (heavy := heavy_sender_table(report)) is not None:
            tables.append(heavy)
    for each in tables:
        console.print()
        print_table(_table(each), console)
        if each.note:
            console.print(Text(each.note))


def _table(content: ReportTable) -> FittedTable:
    first, *numbers = content.headings
    table = FittedTable(first, *numbers, right=numbers, title=content.title)
    for row in content.rows:
        style = "bold" if content.is_total(row) else ""
        table.add_row(Text(row[0], style=style), *row[1:])
    return table
