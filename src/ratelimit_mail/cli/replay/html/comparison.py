"""The section that compares policies: the same mail before and after a change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.html.page import Block, Section
from ratelimit_mail.cli.html.rules import rules_table
from ratelimit_mail.cli.html.tables import Bar, Cell, Column, Row, Table, cell_of
from ratelimit_mail.cli.replay.formatting import amount_of, percent, rounded_up
from ratelimit_mail.cli.replay.html.results import Results
from ratelimit_mail.cli.replay.report import share
from ratelimit_mail.cli.replay.tally import Tally

__all__ = ["comparison_section"]

MOST_NAMED: Final = 5


def comparison_section(results: Results) -> Section:
    """Return the section."""
    report = results.report
    sentences = [
        "The same mail under each policy, each with empty counts at the start and with a queue that"
        f" tries again. The change is that from {escape(report.name)}."
    ]
    sentences += [
        sentence
        for name, tally in report.compared.items()
        for sentence in _changes(escape(name), report.tally, tally)
    ]
    blocks: list[Block] = [_table(results)]
    blocks += [
        rules_table(f"rules-{number}", f"Policy {escape(name)}", results.policies[name])
        for number, name in enumerate(report.compared, 1)
    ]
    return Section("Before and after", sentences, blocks)


def _table(results: Results) -> Table:
    report = results.report
    rows = []
    for name, tally in report.side_by_side.items():
        delays = results.all_delays(name)
        seen, total = len(tally.by_sender), delays.messages
        most, longest = delays.percentile(0.95), delays.percentile(1.0)
        change = tally.affected - report.tally.affected
        cells = [
            cell_of(tally.affected),
            Cell(percent(tally.affected, seen), share(tally.affected, seen)),
            Cell("-" if tally is report.tally else f"{change:+,}", change),
            cell_of(delays.at_once),
            cell_of(len(delays.delays)),
            cell_of(delays.never),
            Cell("-" if most is None else rounded_up(most), most or 0),
            Cell("-" if longest is None else rounded_up(longest), longest or 0),
        ]
        bar = Bar(
            [
                ("mail", 100 * share(delays.at_once, total)),
                ("deferred", 100 * share(len(delays.delays), total)),
                ("rejected", 100 * share(delays.never, total)),
                ("held", 100 * share(delays.held, total)),
            ],
            f"{delays.at_once:,} at once, {len(delays.delays):,} later, {delays.never:,} never",
        )
        rows.append(Row(escape(name), cells, bar))
    headings = ("senders affected", "share", "change", "at once", "later", "never")
    late = ("95 % of the later within", "all within")
    return Table(
        name="policies",
        title="Policies on the same mail",
        words="The bars are the messages that go at once, later and never.",
        columns=[Column("policy", is_number=False), *map(Column, headings + late)],
        rows=rows,
        sorts=True,
        stacks=True,
        wide=True,
        legend=[("at once", "mail"), ("later", "deferred"), ("never", "rejected")],
    )


def _changes(name: str, before: Tally, after: Tally) -> Iterator[str]:
    """Yield which senders another policy affects in addition, and which it no longer affects."""
    if before.by_sender.keys() != after.by_sender.keys():
        return  # the policies do not take the same addresses for one sender
    first = {sender for sender, counts in before.by_sender.items() if counts.refused}
    second = {sender for sender, counts in after.by_sender.items() if counts.refused}
    if first == second:
        yield f"Under {name} the same senders are affected."
        return
    for senders, words in ((second - first, "in addition"), (first - second, "no longer")):
        if senders:
            yield (
                f"Under {name}, {amount_of(len(senders), 'senders')}"
                f" {'is' if len(senders) == 1 else 'are'} affected {words}: {_named(senders)}."
            )


def _named(senders: set[str]) -> str:
    names = [escape(sender) for sender in sorted(senders)[:MOST_NAMED]]
    more = len(senders) - len(names)
    return ", ".join(names) + (f" and {more:,} more" if more else "")
