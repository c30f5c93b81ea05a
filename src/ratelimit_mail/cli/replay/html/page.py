"""The report as one page of HTML that needs nothing else: no network, no script, no font."""

from __future__ import annotations

from importlib.resources import files

import attrs
from jinja2 import Environment, StrictUndefined

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.replay import text_tables
from ratelimit_mail.cli.replay.demand import Demand
from ratelimit_mail.cli.replay.html import figures
from ratelimit_mail.cli.replay.html.time_charts import Chart
from ratelimit_mail.cli.replay.outcome import Report
from ratelimit_mail.cli.replay.text_tables import Grid
from ratelimit_mail.cli.replay.time_bins import Bins, moment
from ratelimit_mail.cli.replay.timeline import Timeline
from ratelimit_mail.cli.replay.wording import many, percent
from ratelimit_mail.policy import Policy

__all__ = ["render"]


@attrs.frozen
class Section:
    """A part of the page: words, pictures, then tables."""

    title: str
    words: str = ""
    charts: list[Chart] = attrs.field(factory=list)
    grids: list[Grid] = attrs.field(factory=list)


def render(report: Report, policy: Policy, timeline: Timeline, demand: Demand) -> str:
    """The whole page; the same for the same data."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = files(__package__).joinpath("page.html.j2")
    template = environment.from_string(source.read_text(encoding="utf-8"))
    return template.render(
        file=escape(report.file),
        policy=escape(report.policy),
        figures=_figures(report),
        facts=text_tables.data(report),
        sections=_sections(report, policy, timeline, demand),
    )


def _figures(report: Report) -> list[tuple[str, str, str]]:
    """The few numbers that matter most, and their shares."""
    tally, counts = report.tally, report.tally.all
    seen = len(tally.by_sender)
    return [
        ("messages", f"{counts.messages:,}", f"of {many(seen, 'senders')}"),
        *(
            (kind, f"{number:,}", percent(number, counts.messages))
            for kind, number in counts.of(tally.kinds).items()
        ),
        ("senders touched", f"{tally.touched:,}", percent(tally.touched, seen)),
    ]


def _sections(report: Report, policy: Policy, timeline: Timeline, demand: Demand) -> list[Section]:
    sections = [
        Section("Mail over time", _left_out(timeline.bins), figures.mail(report, timeline)),
        Section(
            "Mail against each limit",
            f"Each bar is the peak of its {timeline.bins.unit}, as if nothing had been refused:"
            " what stands above the line is what the limit holds back.",
            figures.limits(policy, demand),
        ),
        Section("Senders", "", figures.senders(report), text_tables.senders_of(report)),
        Section("Decisions", "", [], text_tables.tables_of(report)),
    ]
    if report.compared:
        sections.append(
            Section(
                "Policies side by side",
                "",
                figures.compared(report),
                [text_tables.comparison(report)],
            )
        )
    if report.suggested is not None:
        sections.append(
            Section(
                "Numbers that would touch few",
                "Each limit alone, in its own window: the smallest number that keeps the share of"
                f" senders touched within {report.touch:g} %, found by replays.",
                [],
                [text_tables.suggestions(report)],
            )
        )
    return sections


def _left_out(bins: Bins) -> str:
    """Which messages the pictures over time leave out, if any."""
    parts = []
    if bins.before:
        parts.append(f"{bins.before:,} before {moment(bins.edges[0]):%Y-%m-%d}")
    if bins.after:
        parts.append(f"{bins.after:,} from {moment(bins.edges[-1]):%Y-%m-%d} on")
    if not parts:
        return ""
    return (
        f"Messages left out of the pictures over time, but counted: {' and '.join(parts)}."
        " So few of them, so far from the rest, are often dated by a wrong clock."
    )
