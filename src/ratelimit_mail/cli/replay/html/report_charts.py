"""The charts of a report, and the description of each in words."""

from __future__ import annotations

from collections.abc import Iterator

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.replay.demand import Demand
from ratelimit_mail.cli.replay.formatting import amount_of, percent
from ratelimit_mail.cli.replay.html.horizontal_bars import horizontal_bar_chart
from ratelimit_mail.cli.replay.html.svg_figure import DARK, DEFERRED, MAIL, REJECTED
from ratelimit_mail.cli.replay.html.time_charts import (
    Chart,
    Series,
    bars_over_time,
    peaks_against_limit,
)
from ratelimit_mail.cli.replay.policy_variants import own_limits
from ratelimit_mail.cli.replay.report import MOST_AFFECTED_SHOWN, Report, share
from ratelimit_mail.cli.replay.time_bins import moment
from ratelimit_mail.cli.replay.timeline import Peak, Timeline
from ratelimit_mail.limits import Limit, MessageSizeLimit, RateLimit
from ratelimit_mail.policy import Policy
from ratelimit_mail.rates import window_text

__all__ = ["comparison_charts", "limit_charts", "mail_charts", "sender_charts"]


def mail_charts(report: Report, timeline: Timeline) -> list[Chart]:
    """Draw the mail over time, and how much of it was refused."""
    return [_per_hour(timeline), _refused(report, timeline)]


def _per_hour(timeline: Timeline) -> Chart:
    unit, bins = timeline.unit, timeline.bins
    title = f"Messages per {unit}"
    if bins.unit != unit:
        title += f", the busiest {unit} of each {bins.unit}"
    sender, peak = timeline.peak_of_one_sender()
    words = (
        f"Peak {unit}: {_in_words(timeline.peak())}."
        f" Busiest sender: {escape(sender)}, {_in_words(peak)}."
    )
    all_senders = Series("all senders", timeline.busiest_hours(), MAIL)
    one_sender = Series("busiest sender", timeline.busiest_senders(), DARK)
    label = f"messages per {unit}"
    return bars_over_time("mail", title, words, bins, label, all_senders, one_sender, stacked=False)


def _in_words(peak: Peak) -> str:
    return f"{amount_of(peak.messages, 'messages')} at {moment(peak.start):%Y-%m-%d %H:%M} UTC"


def _refused(report: Report, timeline: Timeline) -> Chart:
    bins, counts = timeline.bins, report.tally.all
    title = f"Deferred and rejected per {bins.unit}"
    if not counts.refused:
        return Chart(title, "Nothing was refused: every message was accepted at once.")
    series = [
        Series(kind, values, color)
        for kind, color in (("deferred", DEFERRED), ("rejected", REJECTED))
        if any(values := [getattr(each, kind) for each in timeline.decisions])
    ]
    words = (
        f"{counts.deferred:,} deferred ({percent(counts.deferred, counts.messages)}) and"
        f" {counts.rejected:,} rejected ({percent(counts.rejected, counts.messages)})"
        f" of {amount_of(counts.messages, 'messages')}."
    )
    if not series:
        return Chart(title, f"{words} All of them are outside the time that the charts show.")
    label = f"messages per {bins.unit}"
    if len(series) == 1:
        label = f"{series[0].name} {label}"
    return bars_over_time("refused", title, words, bins, label, *series, stacked=True)


def limit_charts(policy: Policy, demand: Demand) -> list[Chart]:
    """Draw the peak usage of each limit, as if nothing had been refused."""
    return list(_limits(policy, demand))


def _limits(policy: Policy, demand: Demand) -> Iterator[Chart]:
    for index, (tier, limit) in enumerate(own_limits(policy)):
        title = str(limit) if tier is None else f"{tier}: {limit}"
        peaks, highest = demand.peaks[index], max(demand.by_sender[index].values(), default=0)
        if not highest:
            yield Chart(title, "No message is subject to this limit.")
            continue
        words, label = _usage_in_words(limit, highest)
        if any(peaks):
            yield peaks_against_limit(
                f"limit-{index}", title, words, demand.bins, label, peaks, limit.limit
            )
        else:
            yield Chart(title, f"{words} None of it in the time that the charts show.")


def _usage_in_words(limit: Limit, highest: int) -> tuple[str, str]:
    """Return the highest usage in words, and the label of the vertical axis."""
    part = f"{share(highest, limit.limit) * 100:,.4g} % of the limit"
    if isinstance(limit, MessageSizeLimit):
        return f"Largest message: {amount_of(highest, 'bytes')}, {part}.", "bytes of one message"
    if not isinstance(limit, RateLimit):
        return (
            f"Largest message: {amount_of(highest, 'recipients')}, {part}.",
            "recipients of one message",
        )
    window = window_text(limit.rate)
    subject = "" if limit.scope == ("global",) else f" of one {' and '.join(limit.scope)}"
    subject = subject.replace("_", " ")
    return (
        f"Most in any {window}{subject}: {amount_of(highest, limit.counted)}, {part}.",
        f"{limit.counted} in any {window}",
    )


def sender_charts(report: Report) -> list[Chart]:
    """Draw the share of senders that were affected, and the most affected senders."""
    return [_affected(report), *_most_affected(report)]


def _affected(report: Report) -> Chart:
    tally = report.tally
    seen = len(tally.by_sender)
    title = "Senders affected"
    words = (
        f"{tally.affected:,} of {amount_of(seen, 'senders')} ({percent(tally.affected, seen)})"
        " had a message deferred or rejected."
    )
    if not tally.affected:
        return Chart(title, words)
    rows = {"by any limit": tally.affected}
    rows.update({escape(limit): len(senders) for limit, senders in tally.affected_by.items()})
    return horizontal_bar_chart(
        "affected",
        title,
        words,
        list(rows),
        [("senders", MAIL, [share(n, seen) * 100 for n in rows.values()])],
        [f"{percent(n, seen)} ({n:,})" for n in rows.values()],
        "share of all senders",
        report.touch,
    )


def _most_affected(report: Report) -> Iterator[Chart]:
    most = report.tally.most_affected(MOST_AFFECTED_SHOWN)
    if not most:
        return
    first, counts = most[0]
    segments = [
        (kind, color, [getattr(x, kind) for _, x in most])
        for kind, color in (("deferred", DEFERRED), ("rejected", REJECTED))
        if any(getattr(x, kind) for _, x in most)
    ]
    yield horizontal_bar_chart(
        "most",
        "Most affected senders",
        f"The most affected is {escape(first)}: {counts.refused:,} of"
        f" {amount_of(counts.messages, 'messages')}.",
        [escape(sender) for sender, _ in most],
        segments,
        [f"{x.refused:,} of {x.messages:,}" for _, x in most],
        " or ".join(kind for kind, _, _ in segments) + " messages",
    )


def comparison_charts(report: Report) -> list[Chart]:
    """Draw how many senders and messages each policy affects."""
    tallies = report.side_by_side
    names = [escape(name) for name in tallies]
    seen = len(report.tally.by_sender)
    affected = [tally.affected for tally in tallies.values()]
    charts = [
        horizontal_bar_chart(
            "compared-affected",
            "Senders affected, by policy",
            f"Of {amount_of(seen, 'senders')}.",
            names,
            [("senders", MAIL, [share(n, seen) * 100 for n in affected])],
            [f"{percent(n, seen)} ({n:,})" for n in affected],
            "share of all senders",
            report.touch,
        )
    ]
    refused = [tally.all.refused for tally in tallies.values()]
    title, words = (
        "Messages refused, by policy",
        f"Of {amount_of(report.tally.all.messages, 'messages')}.",
    )
    if not any(refused):
        return [*charts, Chart(title, "No policy refused any message.")]
    segments = [
        (kind, color, [getattr(tally.all, kind) for tally in tallies.values()])
        for kind, color in (("deferred", DEFERRED), ("rejected", REJECTED))
    ]
    notes = [f"{n:,}" for n in refused]
    return [
        *charts,
        horizontal_bar_chart("compared-refused", title, words, names, segments, notes, "messages"),
    ]
