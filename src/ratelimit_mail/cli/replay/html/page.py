"""Render a report as one HTML page without scripts, external fonts or network access."""

from __future__ import annotations

from importlib.resources import files

import attrs
from jinja2 import Environment, StrictUndefined

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.replay import report_tables
from ratelimit_mail.cli.replay.demand import Demand
from ratelimit_mail.cli.replay.formatting import amount_of, percent
from ratelimit_mail.cli.replay.html import report_charts
from ratelimit_mail.cli.replay.html.time_charts import Chart
from ratelimit_mail.cli.replay.report import Report
from ratelimit_mail.cli.replay.report_tables import ReportTable
from ratelimit_mail.cli.replay.tier_report import tier_tables
from ratelimit_mail.cli.replay.time_bins import Bins, moment
from ratelimit_mail.cli.replay.timeline import Timeline
from ratelimit_mail.policy import Policy

__all__ = ["render"]


@attrs.frozen
class Section:
    """A section of the page: text, charts, then tables."""

    title: str
    text: str = ""
    charts: list[Chart] = attrs.field(factory=list)
    tables: list[ReportTable] = attrs.field(factory=list)


def render(report: Report, policy: Policy, timeline: Timeline, demand: Demand) -> str:
    """Return the page as a string, the same for the same data."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = files(__package__).joinpath("page.html.j2")
    template = environment.from_string(source.read_text(encoding="utf-8"))
    return template.render(
        file=escape(report.file),
        policy=escape(report.policy),
        key_figures=_key_figures(report),
        facts=report_tables.replay_facts(report),
        sections=_sections(report, policy, timeline, demand),
    )


def _key_figures(report: Report) -> list[tuple[str, str, str]]:
    """Return the most important numbers, with their shares."""
    tally, counts = report.tally, report.tally.all
    seen = len(tally.by_sender)
    return [
        ("messages", f"{counts.messages:,}", f"of {amount_of(seen, 'senders')}"),
        *(
            (kind, f"{number:,}", percent(number, counts.messages))
            for kind, number in counts.of(tally.kinds).items()
        ),
        ("senders affected", f"{tally.affected:,}", percent(tally.affected, seen)),
    ]


def _sections(report: Report, policy: Policy, timeline: Timeline, demand: Demand) -> list[Section]:
    sections = [
        Section(
            "Mail over time", _left_out(timeline.bins), report_charts.mail_charts(report, timeline)
        ),
        Section(
            "Mail against each limit",
            f"Each bar is the peak of its {timeline.bins.unit}, as if nothing had been refused."
            " The limit holds back everything above the line.",
            report_charts.limit_charts(policy, demand),
        ),
        Section(
            "Senders", "", report_charts.sender_charts(report), report_tables.sender_tables(report)
        ),
        Section("Decisions", "", [], report_tables.decision_tables(report) + tier_tables(report)),
    ]
    if report.compared:
        sections.append(
            Section(
                "Policies side by side",
                "",
                report_charts.comparison_charts(report),
                [report_tables.comparison_table(report)],
            )
        )
    if report.suggested is not None:
        tables = [report_tables.suggestion_table(report), report_tables.heavy_sender_table(report)]
        sections.append(
            Section(
                "Numbers that would affect few senders",
                "For each limit by itself, in its own window: the smallest number that affects at"
                f" most {report.touch:g} % of the senders, found by replays.",
                [],
                [each for each in tables if each is not None],
            )
        )
    return sections


def _left_out(bins: Bins) -> str:
    """Return which messages the charts over time leave out, if any."""
    periods = []
    if bins.before:
        periods.append(f"{bins.before:,} before {moment(bins.edges[0]):%Y-%m-%d}")
    if bins.after:
        periods.append(f"{bins.after:,} from {moment(bins.edges[-1]):%Y-%m-%d} on")
    if not periods:
        return ""
    return (
        f"The charts over time leave out messages that are counted: {' and '.join(periods)}."
        " A few messages far from the rest often come from a wrong clock."
    )
