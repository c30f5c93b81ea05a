"""Rows of live counts as tables; every subject and reason is escaped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any

from ratelimit_mail._util.text import duration
from ratelimit_mail.cli.tables import FittedTable, cells, table_of

__all__ = ["block_rows", "blocks_table", "subject_text", "top_table", "usage_table"]


def subject_text(subject: object) -> str:
    """Return a subject as an operator would write it."""
    if subject is None:
        return "everybody"
    if isinstance(subject, str):
        return subject or "(none)"
    return " ".join(map(subject_text, subject)) if isinstance(subject, Sequence) else str(subject)


def usage_table(usages: Sequence[Mapping[str, Any]]) -> FittedTable:
    """Return the table of what one subject has used."""
    table = table_of("limit", "used", "remaining", "resets in")
    for each in usages:
        table.add_row(*cells(*_usage_cells(each)))
    return table


def _usage_cells(usage: Mapping[str, Any]) -> Iterator[object]:
    yield usage["limit"]
    yield f"{usage['used']:,}"
    yield f"{usage['remaining']:,}"
    yield duration(usage["resets_in"])


def top_table(subjects: Sequence[Mapping[str, Any]], *, fold: bool = False) -> FittedTable:
    """Return the table of the subjects that used most, each with the limit it used most of."""
    table = table_of("subject", "used", "of the limit", "resets in", "", fold=fold)
    for each in subjects:
        usage = max(each["usages"], key=itemgetter("share"))
        block = next((usage["block"] for usage in each["usages"]), None)
        table.add_row(
            *cells(
                subject_text(each["subject"]),
                f"{each['share']:.0%}",
                f"{usage['used']:,} of {usage['limit']}",
                duration(usage["resets_in"]),
                "" if block is None else "blocked",
            )
        )
    return table


def blocks_table(blocks: Sequence[Mapping[str, Any]], *, fold: bool = False) -> FittedTable:
    """Return the table of blocks."""
    table = table_of("subject", "scope", "since (UTC)", "until (UTC)", "reason", fold=fold)
    for row in block_rows(blocks):
        table.add_row(*cells(*row))
    return table


def block_rows(blocks: Sequence[Mapping[str, Any]]) -> Iterator[tuple[object, ...]]:
    """Yield the cells of each block."""
    for each in blocks:
        until = each["until"]
        yield (
            subject_text(each["subject"]),
            " and ".join(each["scope"]),
            datetime.fromisoformat(each["since"]),
            "unblocked" if until is None else datetime.fromisoformat(until),
            each["reason"] or "",
        )
