"""The section about each limit: how near senders come to it, and when."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.html.column_chart import Series, column_chart
from ratelimit_mail.cli.html.page import Block, Section
from ratelimit_mail.cli.html.tables import Bar, Cell, Column, Row, Table, cell_of
from ratelimit_mail.cli.replay.demand import Demand
from ratelimit_mail.cli.replay.formatting import amount_of, percent
from ratelimit_mail.cli.replay.html.results import Results
from ratelimit_mail.cli.replay.html.rhythm import period_of
from ratelimit_mail.cli.replay.policy_variants import own_limits
from ratelimit_mail.cli.replay.report import share
from ratelimit_mail.limits import Limit, MessageSizeLimit, RateLimit
from ratelimit_mail.rates import window_text

__all__ = ["limits_section"]

MOST_LIMITS: Final = 16

SHARES: Final = (
    (0.25, "up to a quarter of the limit"),
    (0.5, "up to half"),
    (0.75, "up to three quarters"),
    (1.0, "up to the limit"),
    (2.0, "above it, up to twice the limit"),
    (10.0, "2 to 10 times the limit"),
    (float("inf"), "more than 10 times"),
)
"""Steps of what the heaviest use of a sender is of a limit, and their names."""

STEPS_ALWAYS: Final = 5
"""How many of the steps are shown even if no sender is in the last of them."""


def limits_section(results: Results) -> Section:
    """Return the section."""
    sentences = [
        "As if nothing had been refused: the highest use of each limit at the time of a message of"
        " each sender. A limit holds back what is above it."
    ]
    limits = own_limits(results.policy)
    if len(limits) > MOST_LIMITS:
        more = len(limits) - MOST_LIMITS
        sentences.append(f"The first {MOST_LIMITS} limits are shown; {more:,} more are not.")
    blocks: list[Block] = []
    for index, (tier, limit) in enumerate(limits[:MOST_LIMITS]):
        title = str(limit) if tier is None else f"{tier}: {limit}"
        blocks.extend(_limit(results.demand, index, escape(title), limit))
    return Section("How near senders come to each limit", sentences, blocks)


def _limit(demand: Demand, index: int, title: str, limit: Limit) -> Iterator[Block]:
    """Yield the steps of one limit, and its peaks over time."""
    usages = demand.by_sender[index]
    peaks = demand.peaks[index]
    highest = max(usages.values(), default=0)
    words, label = _usage_in_words(limit, highest)
    if not highest:
        words = "No message is subject to this limit."
    yield _steps(f"limit-{index}", title, words, demand, index, limit)
    if any(peaks):
        bins = demand.bins
        yield column_chart(
            f"peaks-{index}",
            f"{title}: the peak of each {bins.unit}",
            "The limit holds back what is above the line.",
            label=label,
            period=period_of(bins),
            edges=bins.edges,
            names=bins.names,
            series=[Series(f"{label} (limit {limit.limit:,})", peaks, "mail")],
            limit=limit.limit,
        )


def _steps(name: str, title: str, words: str, demand: Demand, index: int, limit: Limit) -> Table:
    """Return the table of how many senders come how near."""
    counts = [0] * len(SHARES)
    usages = demand.by_sender[index].values()
    for used in usages:
        counts[next(i for i, (most, _) in enumerate(SHARES) if used <= most * limit.limit)] += 1
    rows = []
    last = max([STEPS_ALWAYS, *(step for step, number in enumerate(counts, 1) if number)])
    for (most, step), number in zip(SHARES[:last], counts, strict=False):
        color = "mail" if most <= 1 else "rejected"
        upper = "" if most == float("inf") else f" (at most {int(most * limit.limit):,})"
        bar = Bar(
            [(color, 100 * share(number, len(usages)))],
            f"{step}: {number:,} of {amount_of(len(usages), 'senders')}",
        )
        rows.append(
            Row(f"{step}{upper}", [cell_of(number), Cell(percent(number, len(usages)))], bar)
        )
    return Table(
        name=name,
        title=title,
        words=words,
        columns=[
            Column("highest use", is_number=False),
            Column("senders"),
            Column("share"),
        ],
        rows=rows if usages else [],
        legend=[("within the limit", "mail"), ("above it", "rejected")] if usages else [],
    )


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
