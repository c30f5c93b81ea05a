"""The section about time: when mail is sent, when it is held back, and the rhythm of the week."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, tzinfo

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.html.column_chart import ColumnChart, Series, column_chart
from ratelimit_mail.cli.html.heat_map import WEEKDAYS, heat_map
from ratelimit_mail.cli.html.page import Block, Section
from ratelimit_mail.cli.replay.formatting import amount_of, day, percent
from ratelimit_mail.cli.replay.html.results import Results
from ratelimit_mail.cli.replay.time_bins import Bins, moment
from ratelimit_mail.cli.replay.timeline import Peak

__all__ = ["period_of", "time_section"]


def time_section(results: Results) -> Section:
    """Return the section."""
    timeline = results.timeline
    sender, peak = timeline.peak_of_one_sender()
    sentences = [
        f"The busiest {timeline.unit} had {_peak(timeline.peak())}. The most of one sender in"
        f" one {timeline.unit} was {_peak(peak)}, from {escape(sender)}."
    ]
    if left_out := _left_out(timeline.bins):
        sentences.append(left_out)
    blocks: list[Block] = [_messages(results)]
    if (refused := _refused(results)) is not None:
        blocks.append(refused)
    blocks += _week(results)
    return Section("When", sentences, blocks)


def _peak(peak: Peak) -> str:
    return f"{amount_of(peak.messages, 'messages')} at {moment(peak.start):%Y-%m-%d %H:%M} UTC"


def _messages(results: Results) -> ColumnChart:
    bins = results.timeline.bins
    values = [each.messages for each in results.timeline.decisions]
    highest = max(values)
    words = (
        f"At most {amount_of(highest, 'messages')} in one {bins.unit}"
        f" ({bins.names[values.index(highest)]})."
    )
    return column_chart(
        "messages",
        f"Messages per {bins.unit}",
        words,
        label=f"messages per {bins.unit}",
        period=period_of(bins),
        edges=bins.edges,
        names=bins.names,
        series=[Series("messages", values, "mail")],
    )


def _refused(results: Results) -> ColumnChart | None:
    bins, counts = results.timeline.bins, results.report.tally.all
    series = [
        Series(kind, values, kind)
        for kind in ("deferred", "rejected")
        if any(values := [getattr(each, kind) for each in results.timeline.decisions])
    ]
    if not series:
        return None
    words = (
        f"{counts.deferred:,} deferred ({percent(counts.deferred, counts.messages)}) and"
        f" {counts.rejected:,} rejected ({percent(counts.rejected, counts.messages)})"
        f" of {amount_of(counts.messages, 'messages')}."
    )
    return column_chart(
        "refused",
        f"Deferred and rejected per {bins.unit}",
        words,
        label=f"{series[0].name} messages" if len(series) == 1 else "messages",
        period=period_of(bins),
        edges=bins.edges,
        names=bins.names,
        series=series,
    )


def _week(results: Results) -> list[Block]:
    """Return a map of all messages, and one of those that were refused, if there are any."""
    rhythm = results.timeline.rhythm(results.report.timezone)
    zone = _zone_name(rhythm.zone)
    maps: list[Block] = []
    for name, title, week, things in (
        ("week", "The week", rhythm.messages, "messages"),
        ("week-refused", "The week: deferred and rejected", rhythm.refused, "refused messages"),
    ):
        if any(week):
            maps.append(heat_map(name, title, _week_in_words(week, zone), week, things))
    return maps


def _week_in_words(week: Sequence[int], zone: str) -> str:
    busiest = max(range(168), key=lambda hour: (week[hour], -hour))
    total = sum(week)
    office = sum(week[24 * day + hour] for day in range(5) for hour in range(8, 18))
    return (
        f"Most on {WEEKDAYS[busiest // 24]} from {busiest % 24:02}:00 to {busiest % 24 + 1:02}:00:"
        f" {week[busiest]:,} of {total:,}. Mon to Fri, 08:00 to 18:00: {percent(office, total)}."
        f" Hours are those of {zone}."
    )


def _zone_name(zone: tzinfo) -> str:
    return "UTC" if zone is UTC else str(zone)


def period_of(bins: Bins) -> str:
    """Return what the time axis of a chart shows: its start, its end and one column."""
    first, last = moment(bins.edges[0]), moment(bins.edges[-1] - 1)
    if len(bins) == 1 and bins.unit in ("minute", "hour"):
        span = f"{first:%Y-%m-%d %H:%M}"
    elif first.date() == last.date():
        span = f"{first:%Y-%m-%d %H:%M} to {last:%H:%M}"
    else:
        span = f"{first:%Y-%m-%d} to {last:%Y-%m-%d}"
    return f"{span} UTC, one column per {bins.unit}."


def _left_out(bins: Bins) -> str:
    """Return which messages the charts over time leave out, if any."""
    periods = []
    if bins.before:
        periods.append(f"{bins.before:,} before {day(bins.edges[0])}")
    if bins.after:
        periods.append(f"{bins.after:,} from {day(bins.edges[-1])} on")
    if not periods:
        return ""
    return (
        f"The charts over time leave out messages that are counted: {' and '.join(periods)}."
        " A few messages far from the rest often come from a wrong clock."
    )
