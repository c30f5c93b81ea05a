"""A report as tables that fit a terminal of 80 columns."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import attrs
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ratelimit_mail.cli.escaping import safe
from ratelimit_mail.cli.report import MOST_TOUCHED, Report, share
from ratelimit_mail.cli.tally import Counts

__all__ = ["print_report"]


def print_report(report: Report, console: Console) -> None:
    """Print all of `report`."""
    name = safe(report.file)
    console.print(Text(f"Replay of {name} under {report.policy}", style="bold"))
    tables = [_data(report), _decisions(report), _limits(report), _senders(report)]
    if report.tally.touched:
        tables.append(_most_touched(report))
    for table in tables:
        console.print()
        console.print(table)


def _data(report: Report) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    moved = report.out_of_order
    order = f"{moved:,} stood after a later one; sorted by time" if moved else "as in the data"
    for name, value in (
        ("messages", f"{report.tally.all.messages:,}, each tried once at its time"),
        ("from", _moment(report.first)),
        ("to", f"{_moment(report.last)}, {_length(report.last - report.first)} later"),
        ("order", order),
        ("broken", f"{report.broken:,} left out"),
    ):
        table.add_row(Text(name), Text(value))
    return table


def _decisions(report: Report) -> Table:
    table = _table("Decisions", "", "messages", "share")
    tally = report.tally
    _add_counts(table, "all", tally.all)
    if set(tally.by_tier) != {None}:
        for tier, counts in tally.by_tier.items():
            _add_counts(table, "no tier" if tier is None else tier, counts)
    return table


def _add_counts(table: Table, name: str, counts: Counts) -> None:
    whole = counts.messages
    table.add_row(Text(name, style="bold"), f"{whole:,}", "")
    for action, part in attrs.asdict(counts).items():
        table.add_row(f"  {action}", f"{part:,}", _percent(part, whole))


def _limits(report: Report) -> Table:
    table = _table("Refusals by limit", "limit", "deferred", "rejected")
    for limit, counts in report.tally.by_limit.items():
        table.add_row(Text(limit), f"{counts.deferred:,}", f"{counts.rejected:,}")
    return table


def _senders(report: Report) -> Table:
    table = _table("Senders", "", "senders", "share")
    seen, touched = len(report.tally.by_sender), report.tally.touched
    table.add_row("seen", f"{seen:,}", "")
    table.add_row("touched: deferred or rejected", f"{touched:,}", _percent(touched, seen))
    return table


def _most_touched(report: Report) -> Table:
    headings = ("sender", "messages", "accepted", "deferred", "rejected")
    table = _table(f"Most touched senders (at most {MOST_TOUCHED})", *headings)
    for sender, x in report.tally.most_touched(MOST_TOUCHED):
        numbers = (x.messages, x.accepted, x.deferred, x.rejected)
        table.add_row(Text(safe(sender)), *(f"{number:,}" for number in numbers))
    return table


def _table(title: str, first: str, *numbers: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.title, table.title_justify, table.title_style = title, "left", "bold"
    table.add_column(first, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _percent(part: int, whole: int) -> str:
    value = share(part, whole)
    return "<0.01 %" if 0 < value < 0.0001 else f"{value * 100:.2f} %"


def _moment(time: int) -> str:
    moment = datetime.fromtimestamp(time // 1000, UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _length(milliseconds: int) -> str:
    return str(timedelta(seconds=milliseconds // 1000))
