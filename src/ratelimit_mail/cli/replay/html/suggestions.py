"""The section with suggested numbers, and with the heavy senders that make room for themselves."""

from __future__ import annotations

from typing import Final

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.html.page import Block, Section
from ratelimit_mail.cli.html.tables import Cell, Column, Row, Table, cell_of, table
from ratelimit_mail.cli.replay.heavy_senders import HeavySender
from ratelimit_mail.cli.replay.report import Report
from ratelimit_mail.cli.replay.report_tables import LIKENESS, suggestion_table

__all__ = ["suggestion_section"]

MOST_HEAVY: Final = 25


def suggestion_section(report: Report) -> Section:
    """Return the section."""
    sentences = [
        "For each limit by itself, in its own window: the smallest number that affects at most"
        f" {report.touch:g} % of the senders, found by replays, and that number rounded to one"
        " that a person would set."
    ]
    if report.set_apart:
        sentences.append(
            "Senders whose mail looks like a theft, a burst or bulk mail are set apart: numbers are"
            " also found without them, so that a limit makes no room for a theft."
        )
    each = suggestion_table(report)
    blocks: list[Block] = [
        table("suggested", each.title, each.headings, each.rows, each.note or "")
    ]
    if report.heavy:
        blocks.append(_heavy_senders(report))
    return Section("Numbers that would affect few senders", sentences, blocks)


def _heavy_senders(report: Report) -> Table:
    shown = report.heavy[:MOST_HEAVY]
    more = len(report.heavy) - len(shown)
    return Table(
        name="heavy",
        title="Heavy senders, and what their mail looks like",
        words=(
            "External recipients in the busiest minute, hour and day; new: the share that had no"
            " earlier mail of this sender."
        ),
        columns=[
            Column("sender", is_number=False),
            Column("looks like", is_number=False),
            *map(Column, ("a minute", "an hour", "a day", "new")),
            Column("why", is_number=False),
        ],
        rows=[_row(each) for each in shown],
        note=f"and {more:,} more heavy senders; --json names them" if more else "",
        sorts=True,
        stacks=True,
        wide=True,
    )


def _row(each: HeavySender) -> Row:
    new = Cell("unknown", -1) if each.new is None else Cell(f"{each.new:.0%}", each.new)
    return Row(
        escape(each.sender),
        [
            Cell(LIKENESS[each.looks_like]),
            *map(cell_of, (each.minute, each.hour, each.day)),
            new,
            Cell(escape(each.reason) if each.is_set_apart else ""),
        ],
    )
