"""The tables of a report as plain text, for the terminal and the HTML page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.replay.formatting import duration, percent, timestamp
from ratelimit_mail.cli.replay.report import MOST_AFFECTED_SHOWN, Report
from ratelimit_mail.cli.replay.suggest import Effect, Numbers, Suggestion
from ratelimit_mail.cli.replay.tally import KINDS, DecisionCounts, Tally

__all__ = [
    "LIKENESS",
    "ReportTable",
    "comparison_table",
    "decision_tables",
    "heavy_sender_table",
    "replay_facts",
    "sender_tables",
    "suggestion_table",
]

MOST_HEAVY_SHOWN: Final = 10

LIKENESS: Final = {"theft": "theft", "burst": "burst", "bulk": "bulk mail", None: "-"}


@attrs.frozen
class ReportTable:
    """One table: the first column is text, the others are numbers.

    An indented row is a part of the total in the last row above it that is not indented.
    note: an explanation below the table.
    """

    title: str
    headings: tuple[str, ...]
    rows: list[tuple[str, ...]] = attrs.field(factory=list)
    note: str | None = None

    def is_total(self, row: tuple[str, ...]) -> bool:
        """Return whether the rows below `row` are its parts."""
        return any(each[0].startswith(" ") for each in self.rows) and not row[0].startswith(" ")


def replay_facts(report: Report) -> list[tuple[str, str]]:
    """Return what was replayed, as names and values."""
    moved = report.out_of_order
    order = f"{moved:,} came after a later message; sorted by time" if moved else "as in the file"
    return [
        ("messages", f"{report.tally.all.messages:,}, each tried once at its time"),
        ("from", timestamp(report.first)),
        ("to", f"{timestamp(report.last)}, {duration(report.last - report.first)} later"),
        ("order", order),
        ("skipped", f"{report.rejected_rows:,} that cannot be read"),
    ]


def decision_tables(report: Report) -> list[ReportTable]:
    """Return the tables of the decisions of one policy."""
    tally = report.tally
    tables = [_decisions(tally), _limits("Refusals by limit", tally.by_limit)]
    if tally.by_rule:
        tables.append(_rules(tally))
    if tally.by_shadow:
        title = "Would have been refused (limits that only report)"
        tables.append(_limits(title, tally.by_shadow))
    return tables


def sender_tables(report: Report) -> list[ReportTable]:
    """Return the tables of how many senders were affected, and which most."""
    tally = report.tally
    return [_senders(tally), *([_most_affected(tally)] if tally.affected else [])]


def comparison_table(report: Report) -> ReportTable:
    """Return the table with one row for each policy."""
    shown = _kinds(report)
    kinds = [kind for kind in KINDS.values() if kind in shown]
    table = ReportTable(
        "Policies on the same mail",
        ("policy", *kinds, "affected", "share"),
        note="affected: senders with a message deferred or rejected; share: of all senders",
    )
    for name, tally in report.side_by_side.items():
        counts = [f"{getattr(tally.all, kind):,}" for kind in kinds]
        share = percent(tally.affected, len(tally.by_sender))
        table.rows.append((escape(name), *counts, f"{tally.affected:,}", share))
    return table


def suggestion_table(report: Report) -> ReportTable:
    """Return the table of the numbers at which each limit affects few enough senders."""
    notes = [
        "smallest: one less affects too many senders; rounded: the next number that a person"
        " would set; messages: those that it would have refused"
    ]
    if apart := len(report.set_apart):
        senders = "sender" if apart == 1 else f"{apart:,} senders"
        notes.append(
            f"without: found and counted without the mail of the {senders} set apart below, so that"
            " a number makes no room for a theft"
        )
    table = ReportTable(
        f"Numbers that affect at most {report.touch:g} % of the senders",
        ("limit, by itself", "senders", "share", "messages", "share"),
    )
    for each in report.suggested or []:
        table.rows.extend(_suggestion(each, report))
        if each.remark is not None:
            notes.append(f"{each.limit}: {each.remark}")
    return attrs.evolve(table, note="\n".join(notes))


def heavy_sender_table(report: Report) -> ReportTable | None:
    """Return the table of the heaviest senders and what their mail looks like, if there are any."""
    if not report.heavy:
        return None
    shown = report.heavy[:MOST_HEAVY_SHOWN]
    table = ReportTable(
        f"Heavy senders (at most {MOST_HEAVY_SHOWN})",
        ("sender", "looks like", "a minute", "an hour", "a day", "new"),
    )
    notes = [
        "a minute, an hour, a day: the most external recipients in one; new: those of the burst, or"
        " of the last day with many, that never had mail from the sender before"
    ]
    for each in shown:
        table.rows.append(
            (
                escape(each.sender),
                LIKENESS[each.looks_like],
                f"{each.minute:,}",
                f"{each.hour:,}",
                f"{each.day:,}",
                "unknown" if each.new is None else f"{each.new:.0%}",
            )
        )
        if each.is_set_apart:
            notes.append(f"{escape(each.sender)}: {each.reason}")
    apart, named = len(report.set_apart), sum(1 for each in shown if each.is_set_apart)
    if apart > named:
        notes.append(f"{apart - named:,} more are set apart; --json names them")
    return attrs.evolve(table, note="\n".join(notes))


def _suggestion(each: Suggestion, report: Report) -> list[tuple[str, ...]]:
    tier = "" if each.tier is None else f"{each.tier}: "
    senders, messages = len(report.tally.by_sender), report.tally.all.messages
    rows: list[tuple[str, ...]] = [(f"{tier}{each.limit}", "", "", "", "")]
    rows += _numbers(
        each.numbers,
        senders,
        lambda effect: _shares(effect.senders, senders, effect.messages, messages),
    )
    without, apart = each.without, len(report.set_apart)
    if without is None or each.numbers.number is None:
        return rows
    of_apart = sum(sender.messages for sender in report.set_apart)
    rows.append(("  without those set apart", "", "", "", ""))
    rows += _numbers(
        without,
        senders - apart,
        lambda effect: _shares(
            effect.senders - effect.senders_apart,
            senders - apart,
            effect.messages - effect.messages_apart,
            messages - of_apart,
        ),
        indent="    ",
    )
    if (effect := without.rounded_effect) is not None:
        numbers = _shares(effect.senders_apart, apart, effect.messages_apart, of_apart)
        rows.append((f"    {effect.number:,} for those set apart", *numbers))
    return rows


def _numbers(
    numbers: Numbers, senders: int, shares: Callable[[Effect], tuple[str, ...]], indent: str = "  "
) -> list[tuple[str, ...]]:
    """Return the rows of numbers that were found in the mail of so many senders."""
    exact, rounded, below = numbers.exact_effect, numbers.rounded_effect, numbers.affected_below
    if exact is None or rounded is None:
        if not numbers.affected:
            return [(f"{indent}no message is subject to it", "", "", "", "")]
        share = percent(numbers.affected, senders)
        text = f"{indent}no number fits, because of overrides"
        return [(text, f"{numbers.affected:,}", share, "", "")]
    rows = [(f"{indent}{exact.number:,} is the smallest", *shares(exact))]
    if rounded.number != exact.number:
        rows.insert(0, (f"{indent}{rounded.number:,} rounded", *shares(rounded)))
    if below is not None:
        text = f"{indent}{exact.number - 1:,} is one less"
        rows.append((text, f"{below:,}", percent(below, senders), "", ""))
    return rows


def _shares(senders: int, of_senders: int, messages: int, of_messages: int) -> tuple[str, ...]:
    return (
        f"{senders:,}",
        percent(senders, of_senders),
        f"{messages:,}",
        percent(messages, of_messages),
    )


def _kinds(report: Report) -> set[str]:
    return {kind for tally in report.side_by_side.values() for kind in tally.kinds}


def _decisions(tally: Tally) -> ReportTable:
    table = ReportTable("Decisions", ("", "messages", "share"))
    table.rows.extend(_counts("all", tally.all, tally.kinds))
    if set(tally.by_tier) != {None}:
        for tier, counts in tally.by_tier.items():
            table.rows.extend(_counts("no tier" if tier is None else tier, counts, tally.kinds))
    return table


def _counts(name: str, counts: DecisionCounts, kinds: tuple[str, ...]) -> list[tuple[str, ...]]:
    total = counts.messages
    numbers = counts.of(kinds).items()
    rows = [(f"  {kind}", f"{number:,}", percent(number, total)) for kind, number in numbers]
    return [(name, f"{total:,}", ""), *rows]


def _limits(title: str, by_limit: dict[str, DecisionCounts]) -> ReportTable:
    table = ReportTable(title, ("limit", "deferred", "rejected"))
    for limit, counts in by_limit.items():
        table.rows.append((limit, f"{counts.deferred:,}", f"{counts.rejected:,}"))
    return table


def _rules(tally: Tally) -> ReportTable:
    table = ReportTable("Rejected or held by rules", ("rule", "rejected", "held"))
    for rule, counts in tally.by_rule.items():
        table.rows.append((escape(rule), f"{counts.rejected:,}", f"{counts.held:,}"))
    return table


def _senders(tally: Tally) -> ReportTable:
    seen, affected = len(tally.by_sender), tally.affected
    table = ReportTable("Senders", ("", "senders", "share"))
    table.rows.append(("seen", f"{seen:,}", ""))
    table.rows.append(("affected: deferred or rejected", f"{affected:,}", percent(affected, seen)))
    return table


def _most_affected(tally: Tally) -> ReportTable:
    title = f"Most affected senders (at most {MOST_AFFECTED_SHOWN})"
    table = ReportTable(title, ("sender", "messages", *tally.kinds))
    for sender, counts in tally.most_affected(MOST_AFFECTED_SHOWN):
        numbers = (counts.messages, *counts.of(tally.kinds).values())
        table.rows.append((escape(sender), *(f"{number:,}" for number in numbers)))
    return table
