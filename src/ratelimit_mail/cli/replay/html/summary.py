"""The summary of a replay: sentences for a reader who reads nothing else, and a few numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.html.page import KeyFigure
from ratelimit_mail.cli.replay.formatting import amount_of, day, percent, rounded_up
from ratelimit_mail.cli.replay.html.results import Results
from ratelimit_mail.cli.replay.report_tables import LIKENESS
from ratelimit_mail.cli.replay.retry import Delays
from ratelimit_mail.cli.replay.suggest import quota_of

__all__ = ["key_figures", "lateness", "mark_in_words", "summary"]

MOST_TIERS: Final = 8
"""Further tiers are in a table only."""


def summary(results: Results) -> list[str]:
    """Return what the replay found, in sentences."""
    return list(_sentences(results))


def _sentences(results: Results) -> Iterator[str]:
    report, tally = results.report, results.report.tally
    seen, affected = len(tally.by_sender), tally.affected
    policy = escape(report.policy)
    yield _outcome(results)
    yield (
        f"{amount_of(tally.all.messages, 'messages')} of {amount_of(seen, 'senders')},"
        f" from {day(report.first)} to {day(report.last)},"
        f" {'was' if tally.all.messages == 1 else 'were'} replayed under {policy}."
    )
    if affected:
        yield (
            f"{affected:,} of {amount_of(seen, 'senders')} ({percent(affected, seen)}) would be"
            " affected: at least one of their messages is delayed or refused. That is"
            f" {mark_in_words(affected, seen, report.touch)}."
        )
    yield from _tiers(results)
    delays = results.all_delays()
    yield from lateness(delays)
    if delays.never:
        yield _never(results, delays)
    if delays.held:
        yield f"{amount_of(delays.held, 'messages')} would wait for a moderator."
    if apart := report.set_apart:
        names = [f"{escape(each.sender)} ({LIKENESS[each.looks_like]})" for each in apart[:3]]
        more = f" and {len(apart) - 3:,} more" if len(apart) > 3 else ""
        looks = "looks" if len(apart) == 1 else "look"
        yield (
            f"The mail of {amount_of(len(apart), 'senders')} {looks} like a theft, a burst or bulk"
            f" mail: {', '.join(names)}{more}."
        )
    for name, compared in report.compared.items():
        seen = len(compared.by_sender)
        yield (
            f"Under {escape(name)} instead, {compared.affected:,} of {amount_of(seen, 'senders')}"
            f" ({percent(compared.affected, seen)}) would be affected."
        )


def _outcome(results: Results) -> str:
    """Return the sentence that comes first."""
    delays = results.all_delays()
    if delays.at_once == delays.messages:
        return "No sender would notice: every message goes at once."
    outcomes = [
        f"{number:,} ({percent(number, delays.messages)}) {what}"
        for number, what in (
            (delays.at_once, "go at once"),
            (len(delays.delays), "go later"),
            (delays.never, "never go"),
            (delays.held, "wait for a moderator"),
        )
        if number
    ]
    *most, last = outcomes
    joined = f"{', '.join(most)} and {last}" if most else last
    return f"Of {amount_of(delays.messages, 'messages')}, {joined}."


def _tiers(results: Results) -> Iterator[str]:
    """Yield a sentence for each tier with clients, or with senders if no client is known."""
    by_tier = results.report.by_tier
    if by_tier is None:
        return
    for tier, counts in list(by_tier.tiers.items())[:MOST_TIERS]:
        if not counts.messages:
            continue
        name = "without a tier" if tier is None else f"in {escape(tier)}"
        things, seen, affected = "senders", len(counts.senders), len(counts.affected_senders)
        if counts.clients:
            things, seen, affected = "clients", len(counts.clients), len(counts.affected_clients)
        yield (
            f"{affected:,} of {amount_of(seen, things)} {name} ({percent(affected, seen)}) would be"
            f" affected, {mark_in_words(affected, seen, results.report.touch)}."
        )


def mark_in_words(affected: int, seen: int, touch: float) -> str:
    """Return how a number of affected senders or clients is to the share that may be affected."""
    few = affected <= quota_of(touch, seen)
    return f"{'within' if few else 'more than'} the mark of {touch:g} %"


def lateness(delays: Delays) -> Iterator[str]:
    """Yield how late the delayed messages would be, if there are any."""
    half, most, longest = (delays.percentile(share) for share in (0.5, 0.95, 1.0))
    if half is None or most is None or longest is None:
        return
    if len(delays.delays) == 1:
        yield f"The delayed message would go within {rounded_up(half)}."
        return
    yield (
        f"Of the delayed messages, half would go within {rounded_up(half)}, 95 % within"
        f" {rounded_up(most)}, and the last after {rounded_up(longest)}."
    )


def _never(results: Results, delays: Delays) -> str:
    """Return how many messages would never go, and why."""
    if not delays.given_up:
        why = f"a limit or rule rejects {'it' if delays.never == 1 else 'them'}"
    elif not delays.rejected:
        why = f"{'it is' if delays.never == 1 else 'they are'} given up after 5 days"
    else:
        why = (
            f"a limit or rule rejects {delays.rejected:,}, and {delays.given_up:,} are given up"
            " after 5 days"
        )
    sentence = f"{amount_of(delays.never, 'messages')} would never go, because {why}"
    by_cause = {**results.report.tally.by_limit, **results.report.tally.by_rule}
    most = max(by_cause.items(), key=lambda item: item[1].rejected, default=None)
    if most is not None and most[1].rejected:
        sentence += f". Most are rejected by {escape(most[0])}"
    return f"{sentence}."


def key_figures(results: Results) -> list[KeyFigure]:
    """Return the most important numbers."""
    tally, delays = results.report.tally, results.all_delays()
    seen, total, later = len(tally.by_sender), delays.messages, len(delays.delays)
    figures = [
        KeyFigure("Messages", f"{total:,}", f"of {amount_of(seen, 'senders')}"),
        KeyFigure("Go at once", percent(delays.at_once, total), f"{delays.at_once:,} messages"),
        KeyFigure("Go later", percent(later, total), amount_of(later, "messages")),
        KeyFigure("Never go", percent(delays.never, total), amount_of(delays.never, "messages")),
        KeyFigure(
            "Senders affected",
            percent(tally.affected, seen),
            f"{tally.affected:,} of {seen:,}; mark: {results.report.touch:g} %",
        ),
    ]
    if delays.held:
        figures.append(KeyFigure("Held", f"{delays.held:,}", "for a moderator"))
    longest = delays.percentile(1.0)
    if longest is not None:
        most = delays.percentile(0.95) or 0
        figures.append(
            KeyFigure(
                "95 % within", rounded_up(most), f"of the delayed; the last {rounded_up(longest)}"
            )
        )
    return figures
