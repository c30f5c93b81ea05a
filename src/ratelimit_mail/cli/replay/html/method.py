"""The section about the method: what was read, what was left out, and how it was counted."""

from __future__ import annotations

from typing import Final

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.html.page import Section
from ratelimit_mail.cli.html.tables import Cell, Column, Row, Table
from ratelimit_mail.cli.replay.formatting import amount_of, percent
from ratelimit_mail.cli.replay.html.results import Results
from ratelimit_mail.cli.replay.report_tables import replay_facts

__all__ = ["method_section"]

MOST_NOTES: Final = 40
LONGEST: Final = 300

METHOD: Final = (
    "Each message is tried once, at the time at which it was sent, by the same code that decides"
    " in production. The counts are empty at the start, so the first window of each limit is too"
    " generous.",
    "Delays are those of a queue: a deferred message is tried again when the limit says that it"
    " fits, the later messages of its sender wait behind it, and after 5 days it is given up.",
    "A sender is one person in all spellings and aliases that the policy takes for one. A client is"
    " the network that the policy counts, or the login. Times are UTC, except where a time zone is"
    " named.",
)


def method_section(results: Results) -> Section:
    """Return the section."""
    report = results.report
    facts = [("file", f"{escape(report.file)} ({report.format})"), *replay_facts(report)]
    if report.rejected_rows:
        total = report.rejected_rows + report.tally.all.messages
        facts.append(("share skipped", percent(report.rejected_rows, total)))
    facts += [(f"skipped: {number:,}", _short(escape(reason))) for reason, number in report.reasons]
    notes = report.notes
    facts += [("note", _short(note)) for note in notes[:MOST_NOTES]]
    if len(notes) > MOST_NOTES:
        facts.append(("note", f"and {amount_of(len(notes) - MOST_NOTES, 'notes')} more"))
    return Section(
        "How this was counted",
        METHOD,
        [
            Table(
                name="facts",
                title="What was read",
                columns=[Column("", is_number=False), Column("", is_number=False)],
                rows=[Row(name, [Cell(text)]) for name, text in facts],
                wide=True,
            )
        ],
    )


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}\N{HORIZONTAL ELLIPSIS}"
