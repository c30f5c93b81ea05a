"""Print plans as tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import groupby, pairwise
from typing import Final, NamedTuple

from rich.console import Console
from rich.text import Text

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.tables import FittedTable, print_table
from ratelimit_mail.planner import CannotFinish, Cause, Hour, MailingPlan

__all__ = ["MOST_ROWS", "print_comparison", "print_plan", "times_table"]

MOST_ROWS: Final = 50

HOUR: Final = timedelta(hours=1)


def print_plan(plan: MailingPlan, console: Console, zone: tzinfo = UTC) -> None:
    """Print one plan in full. zone: the time zone of the times that are shown."""
    console.print(
        Text(f"Plan of {_messages(plan)} under {plan.policy}", style="bold"), soft_wrap=True
    )
    for table in (times_table(plan, zone), _held(plan), _by_hour(plan)):
        console.print()
        if isinstance(table, FittedTable):
            print_table(table, console)
        else:
            console.print(table)


def print_comparison(
    outcomes: Sequence[tuple[str, MailingPlan | CannotFinish]], console: Console
) -> None:
    """Print a row for each policy: a summary of its plan, or the reason why there is none."""
    table = FittedTable(
        *("policy", "first", "half", "last", "longest delay by"),
        right=("first", "half", "last"),
        title="Side by side: when messages will have gone, after the start",
    )
    never: list[Text] = []
    for name, outcome in outcomes:
        if isinstance(outcome, CannotFinish):
            never.append(Text(escape(f"never: {name}: {outcome}")))
            table.add_row(Text(name), "", "", "never", "")
        else:
            moments = (outcome.first, outcome.half, outcome.last)
            times = [_duration(moment - outcome.start) for moment in moments]
            longest = "nothing" if outcome.longest_held is None else str(outcome.longest_held)
            table.add_row(Text(name), *times, Text(longest))
    print_table(table, console)
    if never:
        console.print()
    for why in never:
        console.print(why)


def times_table(plan: MailingPlan, zone: tzinfo = UTC) -> FittedTable:
    """Return a table of the start, the first message, half of them and the last."""
    table = FittedTable("name", "value", has_header=False)
    table.add_row("recipients", Text(f"{plan.recipients:,} in all"))
    table.add_row("start", Text(_moment(plan.start, zone)))
    for name, moment in (("first", plan.first), ("half", plan.half), ("last", plan.last)):
        table.add_row(
            name, Text(f"{_moment(moment, zone)}, after {_duration(moment - plan.start)}")
        )
    return table


def _held(plan: MailingPlan) -> FittedTable | Text:
    if not plan.held:
        return Text("No limit delays a message: all of them fit at once.")
    table = FittedTable(
        *("from", "to", "limit", "still to go"),
        right=("from", "to", "still to go"),
        title="Which limit delays the mailing, by time after the start",
    )
    for held in plan.held[:MOST_ROWS]:
        times = (_duration(held.start - plan.start), _duration(held.end - plan.start))
        table.add_row(*times, Text(str(held.limit)), f"{held.waiting:,}")
    _note_omitted_rows(table, len(plan.held))
    return table


class _Row(NamedTuple):
    """Consecutive hours with the same numbers."""

    first: int
    last: int
    messages: int
    recipients: int
    held: tuple[Cause, ...]


def _by_hour(plan: MailingPlan) -> FittedTable:
    headings = ("hours", "messages\nan hour", "recipients\nan hour")
    title = "Messages by hour after the start"
    table = FittedTable(*headings, "delayed by", right=headings, title=title)
    rows = list(_merged(_with_gaps(plan)))
    for row in rows[:MOST_ROWS]:
        hours = f"{row.first:,}" if row.first == row.last else f"{row.first:,} to {row.last:,}"
        numbers = (f"{row.messages:,}", f"{row.recipients:,}")
        table.add_row(hours, *numbers, Text("\n".join(map(str, row.held))))
    _note_omitted_rows(table, len(rows))
    return table


def _with_gaps(plan: MailingPlan) -> Iterator[_Row]:
    """Yield the hours of the plan, and the periods between them in which no message goes."""
    hours = plan.by_hour
    for hour, following in pairwise(hours):
        yield _row(hour)
        if following.number > hour.number + 1:
            start = plan.start + (hour.number + 1) * HOUR
            end = plan.start + following.number * HOUR
            held = plan.held_between(start, end)
            yield _Row(hour.number + 1, following.number - 1, 0, 0, held)
    yield _row(hours[-1])


def _row(hour: Hour) -> _Row:
    return _Row(hour.number, hour.number, hour.messages, hour.recipients, hour.held)


def _merged(rows: Iterable[_Row]) -> Iterator[_Row]:
    """Yield `rows`, with consecutive rows that have the same numbers merged."""
    for _, group in groupby(rows, lambda row: row[2:]):
        first, *more = group
        yield first._replace(last=more[-1].last) if more else first


def _note_omitted_rows(table: FittedTable, rows: int) -> None:
    if rows > MOST_ROWS:
        table.caption = f"and {rows - MOST_ROWS:,} more rows; --json has all of them"


def _messages(plan: MailingPlan) -> str:
    return "1 message" if plan.messages == 1 else f"{plan.messages:,} messages"


def _moment(moment: datetime, zone: tzinfo) -> str:
    whole = moment + (
        timedelta(seconds=1) - timedelta.resolution
    )  # rounded up, so that the message has gone by then
    return f"{whole.astimezone(zone):%Y-%m-%d %H:%M:%S %Z}"


def _duration(time: timedelta) -> str:
    """Return a length of time, rounded up to whole seconds: `02:46:00`, `2 d 02:46:00`."""
    whole = -(-time // timedelta(seconds=1))
    days, seconds = divmod(whole, 24 * 3600)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{days:,} d {clock}" if days else clock
