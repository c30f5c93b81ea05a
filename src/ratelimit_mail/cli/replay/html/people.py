"""The section about people: how many are affected, who most, and how late their mail would be."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

import attrs

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.html.page import Block, Section
from ratelimit_mail.cli.html.tables import (
    Bar,
    Cell,
    Column,
    Row,
    Table,
    cell_of,
    full_length,
    table,
)
from ratelimit_mail.cli.replay.formatting import percent, rounded_up
from ratelimit_mail.cli.replay.html.results import Results
from ratelimit_mail.cli.replay.html.summary import lateness
from ratelimit_mail.cli.replay.report import share
from ratelimit_mail.cli.replay.retry import Delays
from ratelimit_mail.cli.replay.tally import Tally

__all__ = ["people_section"]

MOST_SENDERS: Final = 25
MOST_ROWS: Final = 40
"""The rows of tables of tiers and limits."""

MINUTE: Final = 60_000
STEPS: Final = (
    (MINUTE, "up to 1 minute"),
    (10 * MINUTE, "1 to 10 minutes"),
    (60 * MINUTE, "10 minutes to 1 hour"),
    (4 * 60 * MINUTE, "1 to 4 hours"),
    (24 * 60 * MINUTE, "4 to 24 hours"),
    (5 * 24 * 60 * MINUTE, "1 to 5 days"),
)
"""The longest delay of each step, in milliseconds, and its name."""


def people_section(results: Results) -> Section:
    """Return the section."""
    report = results.report
    blocks: list[Block] = [_by_tier(results), _by_limit(results)]
    if report.tally.by_shadow:
        blocks.append(_by_shadow(report.tally))
    delays = results.all_delays()
    sentences = []
    if report.tally.affected:
        sentences.append(
            "A sender or client is affected if at least one of its messages is deferred (it may go"
            " later) or rejected."
        )
    else:
        sentences.append("No sender is affected: nothing was deferred or rejected.")
    if delays.at_once < delays.messages:
        blocks.append(_how_late(delays))
        if len(results.delays[report.name]) > 1:
            blocks.append(_late_by_tier(results))
    if report.tally.affected:
        blocks.append(_senders(results))
    return Section("Who is affected", sentences, blocks)


def _by_tier(results: Results) -> Table:
    """Return the table of who was seen and affected: in all, and in each tier."""
    tally = results.report.tally
    counts = tally.all
    groups = [
        (
            "everybody",
            [
                ("messages", counts.messages, counts.refused),
                ("senders", len(tally.by_sender), tally.affected),
            ],
        )
    ]
    tiers = {} if results.report.by_tier is None else results.report.by_tier.tiers
    for tier, each in list(tiers.items())[: MOST_ROWS // 4]:
        numbers = [("messages", each.messages, each.refused)]
        if each.clients:
            numbers.append(("clients", len(each.clients), len(each.affected_clients)))
        numbers.append(("senders", len(each.senders), len(each.affected_senders)))
        groups.append(("no tier" if tier is None else escape(tier), numbers))
    mark = results.report.touch / 100
    full = full_length(
        [mark, *(share(affected, seen) for _, each in groups for _, seen, affected in each[1:])]
    )
    rows = []
    for name, numbers in groups:
        rows.append(Row(name, [Cell("")] * 3, is_total=True))
        messages, *subjects = numbers
        rows.append(attrs.evolve(_affected_row(*messages, full, mark), bar=None))
        rows.extend(_affected_row(*each, full, mark) for each in subjects)
    return Table(
        name="affected",
        title="How many are affected",
        words=_bars_in_words("The bars are shares of clients and senders", full, mark),
        columns=[
            Column("", is_number=False),
            Column("seen"),
            Column("affected"),
            Column("share"),
        ],
        rows=rows,
        note="Messages are affected if they are deferred or rejected when they are tried once.",
    )


def _bars_in_words(what: str, full: float, mark: float) -> str:
    """Return what bars are, how long a whole one is, and what their line is."""
    words = f"{what}; a whole bar is {100 * full:g} %"
    return f"{words}, and the line is the mark of {100 * mark:g} %." if mark else f"{words}."


def _share_bar(part: int, whole: int, name: str, full: float, mark: float) -> Bar:
    return Bar(
        [("rejected", 100 * share(part, whole) / full)],
        f"{part:,} of {whole:,} {name}: {percent(part, whole)}",
        100 * mark / full if mark else None,
    )


def _affected_row(name: str, seen: int, affected: int, full: float, mark: float) -> Row:
    bar = _share_bar(affected, seen, name, full, mark)
    cells = [cell_of(seen), cell_of(affected), Cell(percent(affected, seen))]
    return Row(name, cells, bar, depth=1)


def _by_limit(results: Results) -> Table:
    """Return the table of how many messages and senders each limit and rule refuses."""
    tally = results.report.tally
    seen = len(tally.by_sender)
    kinds = [kind for kind in tally.kinds if kind != "accepted"]
    mark = results.report.touch / 100
    causes = [*tally.by_limit.items(), *tally.by_rule.items()]
    more = len(causes) - MOST_ROWS
    causes = causes[:MOST_ROWS]
    affected = [len(tally.affected_by.get(name, ())) for name, _ in causes]
    full = full_length([mark, *(share(senders, seen) for senders in affected)])
    rows = []
    for (name, counts), senders in zip(causes, affected, strict=True):
        bar = _share_bar(senders, seen, "senders", full, mark)
        cells = [*(cell_of(getattr(counts, kind)) for kind in kinds), cell_of(senders)]
        rows.append(Row(escape(name), [*cells, Cell(percent(senders, seen))], bar))
    return Table(
        name="by-limit",
        title="What holds mail back",
        words=_bars_in_words("The bars are the share of all senders", full, mark),
        columns=[
            Column("limit or rule", is_number=False),
            *map(Column, (*kinds, "senders", "share")),
        ],
        rows=rows,
        note=f"and {more:,} more limits and rules" if more > 0 else "",
        stacks=True,
    )


def _by_shadow(tally: Tally) -> Table:
    """Return the table of what limits that only report would have refused."""
    rows = [
        (escape(name), f"{counts.deferred:,}", f"{counts.rejected:,}")
        for name, counts in list(tally.by_shadow.items())[:MOST_ROWS]
    ]
    title = "Would have been refused (limits that only report)"
    return table("by-shadow", title, ("limit", "deferred", "rejected"), rows)


def _how_late(delays: Delays) -> Table:
    """Return the table of delays in steps."""
    steps = [0] * (len(STEPS) + 1)
    longest = [limit for limit, _ in STEPS]
    for delay in delays.delays:
        steps[bisect_left(longest, delay)] += 1
    last = max((step for step, number in enumerate(steps) if number), default=-1)
    names = [*(name for _, name in STEPS), "more than 5 days"]
    rows = [("at once", delays.at_once, "mail")]
    rows += [(names[step], steps[step], "deferred") for step in range(last + 1)]
    rows += [
        (name, number, color)
        for name, number, color in (
            ("never: rejected", delays.rejected, "rejected"),
            ("never: given up after 5 days", delays.given_up, "rejected"),
            ("held for a moderator", delays.held, "held"),
        )
        if number
    ]
    total = delays.messages
    return Table(
        name="how-late",
        title="How late mail would be",
        words=" ".join(["If a queue tries deferred messages again.", *lateness(delays)]),
        columns=[Column("delay", is_number=False), Column("messages"), Column("share")],
        rows=[
            Row(
                name,
                [cell_of(number), Cell(percent(number, total))],
                Bar(
                    [(color, 100 * share(number, total))],
                    f"{name}: {number:,} of {total:,} messages",
                ),
            )
            for name, number, color in rows
        ],
    )


def _late_by_tier(results: Results) -> Table:
    return Table(
        name="late-by-tier",
        title="How late, by tier",
        columns=[
            Column("tier", is_number=False),
            *map(Column, ("at once", "later", "half within", "95 % within", "all within", "never")),
        ],
        rows=[
            Row("no tier" if tier is None else escape(tier), list(_delay_cells(delays)))
            for tier, delays in list(results.delays[results.report.name].items())[:MOST_ROWS]
        ],
        stacks=True,
        wide=True,
    )


def _delay_cells(delays: Delays) -> Iterator[Cell]:
    yield cell_of(delays.at_once)
    yield cell_of(len(delays.delays))
    for part in (0.5, 0.95, 1.0):
        late = delays.percentile(part)
        yield Cell("-") if late is None else Cell(rounded_up(late), late)
    yield cell_of(delays.never)


def _senders(results: Results) -> Table:
    """Return the table of the most affected senders, and one row for the others."""
    tally = results.report.tally
    most = tally.most_affected(MOST_SENDERS)
    kinds = [kind for kind in tally.kinds if kind != "accepted"]
    columns = [Column("sender", is_number=False), *map(Column, ("messages", *kinds))]
    columns += map(Column, ("go later", "on average after", "at latest after", "never go"))
    rows = []
    for sender, counts in most:
        late = results.sender_delays.of(sender)
        cells = [cell_of(counts.messages), *map(cell_of, counts.of(tuple(kinds)).values())]
        cells.append(cell_of(late.later))
        average = late.total // late.later if late.later else 0
        cells += [
            Cell(rounded_up(delay) if late.later else "-", delay)
            for delay in (average, late.longest)
        ]
        cells.append(cell_of(late.never))
        bar = Bar(
            [
                (kind, 100 * share(getattr(counts, kind), counts.messages))
                for kind in ("deferred", "rejected")
            ],
            f"{counts.refused:,} of {counts.messages:,} messages deferred or rejected",
        )
        rows.append(Row(escape(sender), cells, bar))
    return Table(
        name="senders",
        title="The most affected senders",
        words="The bars are the share of their messages that is deferred or rejected.",
        columns=columns,
        rows=rows,
        rest=_rest(results, [sender for sender, _ in most], kinds),
        note=(
            "Deferred and rejected: when each message is tried once. The columns after that: when"
            " a queue tries deferred messages again, and later messages wait behind them."
        ),
        sorts=True,
        stacks=True,
        wide=True,
        legend=[("deferred", "deferred"), ("rejected", "rejected")],
    )


def _rest(results: Results, shown: list[str], kinds: list[str]) -> Row | None:
    """Return the row of the affected senders that are not shown."""
    tally = results.report.tally
    number = tally.affected - len(shown)
    if not number:
        return None
    known = set(shown)
    totals = dict.fromkeys(["messages", *kinds], 0)
    for sender, counts in tally.by_sender.items():
        if counts.refused and sender not in known:
            for name in totals:
                totals[name] += getattr(counts, name)
    cells = [*map(cell_of, totals.values()), *[Cell("")] * 4]
    return Row(f"{number:,} more affected senders", cells)
