"""The tables of a report as plain text, for a terminal and a page alike."""

from __future__ import annotations

import attrs

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.replay.outcome import MOST_TOUCHED, Report
from ratelimit_mail.cli.replay.suggest import Suggestion
from ratelimit_mail.cli.replay.tally import Counts, Tally
from ratelimit_mail.cli.replay.wording import length, percent, when

__all__ = ["Grid", "comparison", "data", "senders_of", "suggestions", "tables_of"]


@attrs.frozen
class Grid:
    """One table: the first column is text, the others are numbers.

    A row is strong where the rows below it, whose text is indented, are its parts.
    note: what a reader must know to read it.
    """

    title: str
    headings: tuple[str, ...]
    rows: list[tuple[str, ...]] = attrs.field(factory=list)
    note: str | None = None

    def is_strong(self, row: tuple[str, ...]) -> bool:
        """Whether the rows below `row` are its parts."""
        return any(each[0].startswith(" ") for each in self.rows) and not row[0].startswith(" ")


def data(report: Report) -> list[tuple[str, str]]:
    """What was replayed."""
    moved = report.out_of_order
    order = f"{moved:,} stood after a later one; sorted by time" if moved else "as in the data"
    return [
        ("messages", f"{report.tally.all.messages:,}, each tried once at its time"),
        ("from", when(report.first)),
        ("to", f"{when(report.last)}, {length(report.last - report.first)} later"),
        ("order", order),
        ("broken", f"{report.broken:,} left out"),
    ]


def tables_of(report: Report) -> list[Grid]:
    """The tables of one policy's decisions."""
    tally = report.tally
    tables = [_decisions(tally), _limits("Refusals by limit", tally.by_limit)]
    if tally.by_rule:
        tables.append(_rules(tally))
    if tally.by_shadow:
        title = "Would have been refused (limits that only report)"
        tables.append(_limits(title, tally.by_shadow))
    return tables


def senders_of(report: Report) -> list[Grid]:
    """How many senders were touched, and who most."""
    tally = report.tally
    return [_senders(tally), *([_most_touched(tally)] if tally.touched else [])]


def comparison(report: Report) -> Grid:
    """The policies side by side."""
    kinds = [
        kind for kind in ("accepted", "deferred", "rejected", "held") if kind in _kinds(report)
    ]
    grid = Grid("Policies on the same mail", ("policy", *kinds, "touched", "share"))
    for name, tally in report.side_by_side.items():
        counts = [f"{getattr(tally.all, kind):,}" for kind in kinds]
        share = percent(tally.touched, len(tally.by_sender))
        grid.rows.append((escape(name), *counts, f"{tally.touched:,}", share))
    return attrs.evolve(
        grid, note="touched: senders with a message deferred or rejected; share: of all senders"
    )


def suggestions(report: Report) -> Grid:
    """Where each limit would touch few enough senders."""
    grid = Grid(
        f"Numbers that touch at most {report.touch:g} % of the senders",
        ("limit, alone", "touched", "share"),
        note="one less: the next lower number, which touches too many",
    )
    for each in report.suggested or []:
        grid.rows.extend(_suggestion(each, len(report.tally.by_sender)))
    return grid


def _suggestion(each: Suggestion, senders: int) -> list[tuple[str, ...]]:
    place = "" if each.tier is None else f"{each.tier}: "
    now = (f"{place}{each.limit}", "", "")
    if each.number is None and not each.touched:
        return [now, ("  no message met it", "", "")]
    if each.number is None:
        row = (
            "  no number will do: overrides",
            f"{each.touched:,}",
            percent(each.touched, senders),
        )
        return [now, row]
    rows: list[tuple[str, ...]] = [now]
    rows.append((f"  {each.text}", f"{each.touched:,}", percent(each.touched, senders)))
    if each.below is not None:
        rows.append(("  one less", f"{each.below:,}", percent(each.below, senders)))
    return rows


def _kinds(report: Report) -> set[str]:
    return {kind for tally in report.side_by_side.values() for kind in tally.kinds}


def _decisions(tally: Tally) -> Grid:
    grid = Grid("Decisions", ("", "messages", "share"))
    grid.rows.extend(_counted("all", tally.all, tally.kinds))
    if set(tally.by_tier) != {None}:
        for tier, counts in tally.by_tier.items():
            grid.rows.extend(_counted("no tier" if tier is None else tier, counts, tally.kinds))
    return grid


def _counted(name: str, counts: Counts, kinds: tuple[str, ...]) -> list[tuple[str, ...]]:
    whole = counts.messages
    parts = counts.of(kinds).items()
    rows = [(f"  {kind}", f"{part:,}", percent(part, whole)) for kind, part in parts]
    return [(name, f"{whole:,}", ""), *rows]


def _limits(title: str, by_limit: dict[str, Counts]) -> Grid:
    grid = Grid(title, ("limit", "deferred", "rejected"))
    for limit, counts in by_limit.items():
        grid.rows.append((limit, f"{counts.deferred:,}", f"{counts.rejected:,}"))
    return grid


def _rules(tally: Tally) -> Grid:
    grid = Grid("Turned away or held by rules", ("rule", "rejected", "held"))
    for rule, counts in tally.by_rule.items():
        grid.rows.append((escape(rule), f"{counts.rejected:,}", f"{counts.held:,}"))
    return grid


def _senders(tally: Tally) -> Grid:
    seen, touched = len(tally.by_sender), tally.touched
    grid = Grid("Senders", ("", "senders", "share"))
    grid.rows.append(("seen", f"{seen:,}", ""))
    grid.rows.append(("touched: deferred or rejected", f"{touched:,}", percent(touched, seen)))
    return grid


def _most_touched(tally: Tally) -> Grid:
    title = f"Most touched senders (at most {MOST_TOUCHED})"
    grid = Grid(title, ("sender", "messages", *tally.kinds))
    for sender, counts in tally.most_touched(MOST_TOUCHED):
        numbers = (counts.messages, *counts.of(tally.kinds).values())
        grid.rows.append((escape(sender), *(f"{number:,}" for number in numbers)))
    return grid
