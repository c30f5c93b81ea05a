"""The page of a replay: its title, its summary and its sections in their order."""

from __future__ import annotations

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.html.page import Page, Section
from ratelimit_mail.cli.html.rules import rules_table
from ratelimit_mail.cli.html.tables import table
from ratelimit_mail.cli.replay.formatting import day
from ratelimit_mail.cli.replay.html.comparison import comparison_section
from ratelimit_mail.cli.replay.html.limits import limits_section
from ratelimit_mail.cli.replay.html.method import method_section
from ratelimit_mail.cli.replay.html.people import people_section
from ratelimit_mail.cli.replay.html.results import Results
from ratelimit_mail.cli.replay.html.rhythm import time_section
from ratelimit_mail.cli.replay.html.summary import key_figures, summary
from ratelimit_mail.cli.replay.report_tables import heavy_sender_table, suggestion_table

__all__ = ["replay_page"]


def replay_page(results: Results) -> Page:
    """Return the page of a replay."""
    report = results.report
    policy = escape(report.policy)
    sections = [
        Section("The rules", blocks=[rules_table("rules", f"Policy {policy}", results.policy)]),
        people_section(results),
        time_section(results),
        limits_section(results),
    ]
    if report.compared:
        sections.append(comparison_section(results))
    if report.suggested is not None:
        sections.append(_suggestions(results))
    sections.append(method_section(results))
    return Page(
        title=f"What {policy} would do to this mail",
        subtitle=f"{escape(report.file)}, {day(report.first)} to {day(report.last)}",
        summary=summary(results),
        key_figures=key_figures(results),
        sections=sections,
    )


def _suggestions(results: Results) -> Section:
    report = results.report
    tables = [suggestion_table(report), heavy_sender_table(report)]
    return Section(
        "Numbers that would affect few senders",
        [
            "For each limit by itself, in its own window: the smallest number that affects at"
            f" most {report.touch:g} % of the senders, found by replays."
        ],
        [
            table(name, each.title, each.headings, each.rows, each.note or "")
            for name, each in zip(("suggested", "heavy"), tables, strict=True)
            if each is not None
        ],
    )
