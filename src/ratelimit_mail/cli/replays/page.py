"""The report as one page of HTML that needs nothing else: no network, no script, no font."""

from __future__ import annotations

from importlib.resources import files

import attrs
from jinja2 import Environment, StrictUndefined

from ratelimit_mail.cli.escaping import safe
from ratelimit_mail.cli.replays import grids, pictures
from ratelimit_mail.cli.replays.bins import Bins, moment
from ratelimit_mail.cli.replays.charts import Chart
from ratelimit_mail.cli.replays.demand import Demand
from ratelimit_mail.cli.replays.grids import Grid
from ratelimit_mail.cli.replays.outcome import Report
from ratelimit_mail.cli.replays.timeline import Timeline
from ratelimit_mail.cli.replays.wording import many, percent
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
    source = files("ratelimit_mail.cli.replays").joinpath("page.html.j2")
    template = environment.from_string(source.read_text(encoding="utf-8"))
    return template.render(
        file=safe(report.file),
        policy=safe(report.policy),
        figures=_figures(report),
        facts=grids.data(report),
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
        Section("Mail over time", _left_out(timeline.bins), pictures.mail(report, timeline)),
        Section(
            "Mail against each limit",
            f"Each bar is the peak of its {timeline.bins.unit}, as if nothing had been refused:"
            " what stands above the line is what the limit holds back.",
            pictures.limits(policy, demand),
        ),
        Section("Senders", "", pictures.senders(report), grids.senders_of(report)),
        Section("Decisions", "", [], grids.tables_of(report)),
    ]
    if report.compared:
        sections.append(
            Section(
                "Policies side by side", "", pictures.compared(report), [grids.comparison(report)]
            )
        )
    if report.suggested is not None:
        sections.append(
            Section(
                "Numbers that would touch few",
                "Each limit alone, in its own window: the smallest number that keeps the share of"
                f" senders touched within {report.touch:g} %, found by replays.",
                [],
                [grids.suggestions(report)],
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
