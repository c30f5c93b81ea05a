"""The page of a replay: its title, its summary and its sections in their order."""

from __future__ import annotations

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.html.page import Page, Section
from ratelimit_mail.cli.html.rules import rules_table
from ratelimit_mail.cli.replay.formatting import day
from ratelimit_mail.cli.replay.html.comparison import comparison_section
from ratelimit_mail.cli.replay.html.limits import limits_section
from ratelimit_mail.cli.replay.html.method import method_section
from ratelimit_mail.cli.replay.html.people import people_section
from ratelimit_mail.cli.replay.html.results import Results
from ratelimit_mail.cli.replay.html.rhythm import time_section
from ratelimit_mail.cli.replay.html.suggestions import suggestion_section
from ratelimit_mail.cli.replay.html.summary import key_figures, summary

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
        sections.append(suggestion_section(report))
    sections.append(method_section(results))
    return Page(
        title=f"What {policy} would do to this mail",
        subtitle=f"{escape(report.file)}, {day(report.first)} to {day(report.last)}",
        summary=summary(results),
        key_figures=key_figures(results),
        sections=sections,
    )
