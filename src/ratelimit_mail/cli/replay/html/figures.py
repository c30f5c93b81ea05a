"""The pictures of one report: which there are, and what each says in words."""

from __future__ import annotations

from collections.abc import Iterator

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.replay.demand import Demand
from ratelimit_mail.cli.replay.html.canvas import DARK, DEFERRED, MAIL, REJECTED
from ratelimit_mail.cli.replay.html.row_charts import in_rows
from ratelimit_mail.cli.replay.html.time_charts import Chart, Series, against, over_time
from ratelimit_mail.cli.replay.outcome import MOST_TOUCHED, Report, share
from ratelimit_mail.cli.replay.policy_numbers import own_limits
from ratelimit_mail.cli.replay.time_bins import moment
from ratelimit_mail.cli.replay.timeline import Busy, Timeline
from ratelimit_mail.cli.replay.wording import many, percent
from ratelimit_mail.limits import Limit, RateLimit
from ratelimit_mail.policy import Policy
from ratelimit_mail.rates import window_text

__all__ = ["compared", "limits", "mail", "senders"]


def mail(report: Report, timeline: Timeline) -> list[Chart]:
    """The mail as it came, and what was refused of it."""
    return [_per_hour(timeline), _refused(report, timeline)]


def _per_hour(timeline: Timeline) -> Chart:
    unit, bins = timeline.unit, timeline.bins
    title = f"Messages per {unit}"
    if bins.unit != unit:
        title += f", the busiest {unit} of each {bins.unit}"
    sender, own = timeline.peak_of_one()
    words = (
        f"Peak {unit}: {_peak(timeline.peak())}. Busiest sender: {escape(sender)}, {_peak(own)}."
    )
    everybody = Series("all senders", timeline.busiest_hours(), MAIL)
    one = Series("busiest sender", timeline.busiest_senders(), DARK)
    label = f"messages per {unit}"
    return over_time("mail", title, words, bins, label, everybody, one, stacked=False)


def _peak(busy: Busy) -> str:
    return f"{many(busy.messages, 'messages')} at {moment(busy.start):%Y-%m-%d %H:%M} UTC"


def _refused(report: Report, timeline: Timeline) -> Chart:
    bins, counts = timeline.bins, report.tally.all
    title = f"Deferred and rejected per {bins.unit}"
    if not counts.refused:
        return Chart(title, "Nothing was refused: every message could go at once.")
    series = [
        Series(kind, values, colour)
        for kind, colour in (("deferred", DEFERRED), ("rejected", REJECTED))
        if any(values := [getattr(each, kind) for each in timeline.outcomes])
    ]
    words = (
        f"{counts.deferred:,} deferred ({percent(counts.deferred, counts.messages)}) and"
        f" {counts.rejected:,} rejected ({percent(counts.rejected, counts.messages)})"
        f" of {many(counts.messages, 'messages')}."
    )
    if not series:
        return Chart(title, f"{words} All of them lie outside of the time that is drawn.")
    label = f"messages per {bins.unit}"
    if len(series) == 1:
        label = f"{series[0].name} {label}"
    return over_time("refused", title, words, bins, label, *series, stacked=True)


def limits(policy: Policy, demand: Demand) -> list[Chart]:
    """What was sent against each limit, as if nothing had been refused."""
    return list(_limits(policy, demand))


def _limits(policy: Policy, demand: Demand) -> Iterator[Chart]:
    for place, (tier, limit) in enumerate(own_limits(policy)):
        title = str(limit) if tier is None else f"{tier}: {limit}"
        peaks, most = demand.peaks[place], max(demand.by_sender[place].values(), default=0)
        if not most:
            yield Chart(title, "No message met this limit.")
            continue
        words, label = _met(limit, most)
        if any(peaks):
            yield against(f"limit-{place}", title, words, demand.bins, label, peaks, limit.limit)
        else:
            yield Chart(title, f"{words} None of it in the time that is drawn.")


def _met(limit: Limit, most: int) -> tuple[str, str]:
    """The peak in words, and what the vertical axis is."""
    part = f"{share(most, limit.limit) * 100:,.4g} % of the limit"
    if not isinstance(limit, RateLimit):
        return f"Largest message: {many(most, 'recipients')}, {part}.", "recipients of one message"
    window = window_text(limit.rate)
    whose = "" if limit.scope == ("global",) else f" of one {' and '.join(limit.scope)}"
    whose = whose.replace("_", " ")
    return (
        f"Most in any {window}{whose}: {many(most, limit.unit)}, {part}.",
        f"{limit.unit} in any {window}",
    )


def senders(report: Report) -> list[Chart]:
    """What share of the senders was touched, and who most."""
    return [_touched(report), *_most_touched(report)]


def _touched(report: Report) -> Chart:
    tally = report.tally
    seen = len(tally.by_sender)
    title = "Senders touched"
    words = (
        f"{tally.touched:,} of {many(seen, 'senders')} ({percent(tally.touched, seen)}) had a"
        " message deferred or rejected."
    )
    if not tally.touched:
        return Chart(title, words)
    rows = {"by any limit": tally.touched}
    rows.update({escape(limit): len(found) for limit, found in tally.touched_by.items()})
    return in_rows(
        "touched",
        title,
        words,
        list(rows),
        [("senders", MAIL, [share(n, seen) * 100 for n in rows.values()])],
        [f"{percent(n, seen)} ({n:,})" for n in rows.values()],
        "share of all senders",
        report.touch,
    )


def _most_touched(report: Report) -> Iterator[Chart]:
    most = report.tally.most_touched(MOST_TOUCHED)
    if not most:
        return
    first, counts = most[0]
    parts = [
        (kind, colour, [getattr(x, kind) for _, x in most])
        for kind, colour in (("deferred", DEFERRED), ("rejected", REJECTED))
        if any(getattr(x, kind) for _, x in most)
    ]
    yield in_rows(
        "most",
        "Most touched senders",
        f"Most of all {escape(first)}: {counts.refused:,} of {many(counts.messages, 'messages')}.",
        [escape(sender) for sender, _ in most],
        parts,
        [f"{x.refused:,} of {x.messages:,}" for _, x in most],
        " or ".join(kind for kind, _, _ in parts) + " messages",
    )


def compared(report: Report) -> list[Chart]:
    """The policies side by side."""
    tallies = report.side_by_side
    names = [escape(name) for name in tallies]
    seen = len(report.tally.by_sender)
    touched = [tally.touched for tally in tallies.values()]
    charts = [
        in_rows(
            "compared-touched",
            "Senders touched, by policy",
            f"Of {many(seen, 'senders')}.",
            names,
            [("senders", MAIL, [share(n, seen) * 100 for n in touched])],
            [f"{percent(n, seen)} ({n:,})" for n in touched],
            "share of all senders",
            report.touch,
        )
    ]
    refused = [tally.all.refused for tally in tallies.values()]
    title, words = (
        "Messages refused, by policy",
        f"Of {many(report.tally.all.messages, 'messages')}.",
    )
    if not any(refused):
        return [*charts, Chart(title, "No policy refused anything.")]
    parts = [
        (kind, colour, [getattr(tally.all, kind) for tally in tallies.values()])
        for kind, colour in (("deferred", DEFERRED), ("rejected", REJECTED))
    ]
    notes = [f"{n:,}" for n in refused]
    return [
        *charts,
        in_rows("compared-refused", title, words, names, parts, notes, "messages"),
    ]
