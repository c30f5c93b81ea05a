"""The report of a plan as an HTML page: when a mailing goes, with a calendar."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import accumulate, islice, pairwise
from typing import Final

import attrs

from ratelimit_mail._util.text import duration, escape
from ratelimit_mail.cli.html.calendar_chart import calendar_chart
from ratelimit_mail.cli.html.column_chart import ColumnChart, Series, column_chart
from ratelimit_mail.cli.html.page import Block, KeyFigure, Page, Section
from ratelimit_mail.cli.html.rules import rules_table
from ratelimit_mail.cli.html.tables import Bar, Cell, Column, Row, Table, cell_of
from ratelimit_mail.cli.plan.batches import Batch, batches_of, days_of
from ratelimit_mail.cli.plan.json_output import Outcome
from ratelimit_mail.cli.tables import number_of
from ratelimit_mail.planner import CannotFinish, MailingPlan
from ratelimit_mail.policy import Policy

__all__ = ["PlanResults", "plan_page"]

MOST_ROWS: Final = 30
MOST_SENTENCES: Final = 3
"""Of more policies, the summary names the soonest and the latest only."""

MOST_COLUMNS: Final = 400
MOST_HOURS: Final = timedelta(days=5)
"""The longest mailing whose charts have a column for each hour; longer ones have days."""

ASSUMPTIONS: Final = (
    "The messages go in their order, each as soon as it fits, and never before the one ahead of it."
    " Nothing else is sent during the mailing, and sending takes no time.",
    "A limit of 30 a minute lets 30 messages go at once, and the next 30 when the minute is over.",
    "The plan waits for a limit that rejects as it does for any other.",
)


@attrs.frozen(kw_only=True)
class PlanResults:
    """Everything that the page of a plan shows.

    outcomes: the plan of each policy, or why there is none.
    policies: the policies, in the same order.
    zone: the time zone of all times.
    in_full: whether the first plan is shown in full.
    has_history: whether what was sent before was counted.
    """

    outcomes: Sequence[Outcome]
    policies: Sequence[Policy]
    zone: tzinfo
    in_full: bool
    has_history: bool

    @property
    def plan(self) -> MailingPlan | None:
        """The plan that is shown in full, if there is one."""
        first = self.outcomes[0][1]
        return first if self.in_full and isinstance(first, MailingPlan) else None


def plan_page(results: PlanResults) -> Page:
    """Return the page of a plan, or of several, of which at least one can finish."""
    plan = results.plan
    days: dict[date, Batch] = {}
    sections: list[Section] = []
    if plan is None:
        title = "When this mailing goes under each policy"
        plans = (outcome for _, outcome in results.outcomes if isinstance(outcome, MailingPlan))
        subtitle = _subtitle(next(plans), results.zone)
    else:
        title = f"When this mailing goes under {escape(plan.policy)}"
        subtitle = _subtitle(plan, results.zone)
        days = days_of(plan, results.zone)
        sections += [
            _calendar_section(plan, days, results.zone),
            _batch_section(plan, results.zone),
            Section(
                "The rules",
                blocks=[rules_table("rules", f"Policy {plan.policy}", results.policies[0])],
            ),
        ]
    if len(results.outcomes) > 1 or plan is None:
        sections.append(_comparison(results))
    sections.append(Section("What the plan assumes", [*ASSUMPTIONS, _history(results)]))
    return Page(
        title=title,
        subtitle=subtitle,
        summary=list(_summary(results, len(days))),
        key_figures=[] if plan is None else _key_figures(plan, results.zone),
        sections=sections,
    )


def _subtitle(plan: MailingPlan, zone: tzinfo) -> str:
    return f"{_amount(plan)}, from {_time(plan.start, zone)}"


def _history(results: PlanResults) -> str:
    if results.has_history:
        return "What the sender had sent before was read from the store, and takes its place."
    return "Nothing was sent before the start."


def _summary(results: PlanResults, days: int) -> Iterator[str]:
    """Yield the summary. days: on how many days the plan that is shown in full goes."""
    plan, zone = results.plan, results.zone
    if plan is not None:
        if plan.first == plan.last:
            goes = "goes" if plan.messages == 1 else "go"
            yield f"{_amount(plan)} {goes} at once: {_time(plan.last, zone)}."
        else:
            yield (
                f"{_amount(plan)} go from {_time(plan.first, zone)} to {_time(plan.last, zone)},"
                f" which is {_length(plan.last - plan.start)} after the start."
            )
            yield f"Half of the messages will have gone by {_time(plan.half, zone)}."
            batches = sum(1 for _ in batches_of(plan))
            yield (
                f"They go on {number_of(days, 'day')}, in"
                f" {'1 batch' if batches == 1 else f'{batches:,} batches'}: between two batches"
                " nothing goes for an hour or longer."
            )
        if plan.longest_held is None:
            yield "No limit delays a message."
        else:
            yield f"What delays the mailing longest: {escape(str(plan.longest_held))}."
    others = results.outcomes[0 if plan is None else 1 :]
    if len(others) > MOST_SENTENCES:
        yield from _soonest_and_latest(others, zone)
        return
    for name, outcome in others:
        if isinstance(outcome, CannotFinish):
            yield f"Under {escape(name)} it can never finish: {escape(str(outcome))}."
        else:
            yield f"Under {escape(name)} {_end(outcome, zone)}."


def _soonest_and_latest(outcomes: Sequence[Outcome], zone: tzinfo) -> Iterator[str]:
    """Yield which of many policies let the mailing end first and last, and which never."""
    plans = [(name, each) for name, each in outcomes if isinstance(each, MailingPlan)]
    never = [escape(name) for name, each in outcomes if isinstance(each, CannotFinish)]
    if plans:
        soonest = min(plans, key=lambda item: item[1].last)
        latest = max(plans, key=lambda item: item[1].last)
        yield f"Soonest: under {escape(soonest[0])} {_end(soonest[1], zone)}."
        yield f"Latest: under {escape(latest[0])} {_end(latest[1], zone)}."
    if never:
        more = f" and {len(never) - MOST_SENTENCES:,} more" if len(never) > MOST_SENTENCES else ""
        yield f"It can never finish under {', '.join(never[:MOST_SENTENCES])}{more}."


def _end(plan: MailingPlan, zone: tzinfo) -> str:
    if plan.last == plan.start:
        return "it goes at once"
    return f"it ends on {_time(plan.last, zone)}, {_length(plan.last - plan.start)} after the start"


def _key_figures(plan: MailingPlan, zone: tzinfo) -> list[KeyFigure]:
    return [
        KeyFigure("Messages", f"{plan.messages:,}", f"{plan.recipients:,} recipients"),
        *(
            KeyFigure(
                name,
                _day(moment, zone, with_year=False),
                f"{_local(moment, zone).year}, {_clock(moment, zone)}",
            )
            for name, moment in (
                ("First goes", plan.first),
                ("Half gone by", plan.half),
                ("Last goes", plan.last),
            )
        ),
        KeyFigure("Takes", _length(plan.last - plan.start), "from the start"),
    ]


def _calendar_section(plan: MailingPlan, days: Mapping[date, Batch], zone: tzinfo) -> Section:
    """Return the calendar, the charts, and the days as a table."""
    by_day = {day: batch.messages for day, batch in days.items()}
    most = max(by_day, key=lambda day: by_day[day])
    words = (
        f"Messages on each day, in {zone}. Most on {most:%A} {most.day} {most:%B}:"
        f" {by_day[most]:,}."
    )
    blocks: list[Block] = [calendar_chart("calendar", "Calendar", words, by_day, "messages")]
    blocks += _charts(plan, by_day, zone)
    gone = list(accumulate(batch.messages for batch in days.values()))
    rows = []
    for (day, batch), total in islice(zip(days.items(), gone, strict=True), MOST_ROWS):
        share = 100 * total / plan.messages
        bar = Bar([("mail", share)], f"{total:,} of {plan.messages:,} messages have gone by then")
        cells = [
            Cell(_clock(batch.first, zone)),
            Cell(_clock(batch.last, zone)),
            cell_of(batch.messages),
            cell_of(batch.recipients),
            Cell(f"{total:,} ({int(share)} %)", total),
        ]
        rows.append(Row(f"{day:%a} {day.day} {day:%b} {day.year}", cells, bar))
    headings = ("first", "last", "messages", "recipients", "gone by then")
    blocks.append(
        Table(
            name="days",
            title="Day by day",
            words="The bars show what share of all messages has gone.",
            columns=[Column("day", is_number=False), *map(Column, headings)],
            rows=rows,
            note=_more(len(days), "days"),
            stacks=True,
            wide=True,
        )
    )
    return Section("What goes on which day", (), blocks)


def _charts(plan: MailingPlan, by_day: Mapping[date, int], zone: tzinfo) -> list[Block]:
    """Return the messages of each period, and how many have gone by then."""
    edges, period = _edges(plan, by_day, zone)
    offsets = [(edge - plan.start).total_seconds() for edge in edges]
    values = [
        bisect_left(plan.delays, end) - bisect_left(plan.delays, start)
        for start, end in pairwise(offsets)
    ]
    names = [
        _time(moment, zone) if period == "hour" else _day(moment, zone) for moment in edges[:-1]
    ]

    def chart(name: str, title: str, words: str, series: Series) -> ColumnChart:
        return column_chart(
            name,
            title,
            words,
            label="messages",
            period=f"{names[0]} to {names[-1]}, one column per {period}.",
            edges=[int(edge.timestamp() * 1000) for edge in edges],
            names=names,
            series=[series],
            zone=zone,
        )

    return [
        chart(
            "sent",
            f"Messages per {period}",
            f"At most {max(values):,} in one column.",
            Series("messages", values, "mail"),
        ),
        chart(
            "gone",
            "Messages that have gone",
            f"Half of them by {_time(plan.half, zone)}, the last on {_time(plan.last, zone)}.",
            Series("messages have gone", list(accumulate(values)), "mail"),
        ),
    ]


def _edges(
    plan: MailingPlan, by_day: Mapping[date, int], zone: tzinfo
) -> tuple[list[datetime], str]:
    """Return the start of each column and the end of the last, and the name of one column."""
    if plan.last - plan.first < MOST_HOURS:
        hour = timedelta(hours=1)
        first = plan.first.replace(minute=0, second=0, microsecond=0)
        return [first + hour * i for i in range((plan.last - first) // hour + 2)], "hour"
    day, last = min(by_day), max(by_day)
    step = timedelta(days=-(-((last - day).days + 1) // MOST_COLUMNS))
    days = [day + step * i for i in range((last - day) // step + 2)]
    edges = [datetime.combine(each, time(), zone).astimezone(UTC) for each in days]
    return edges, "day" if step.days == 1 else f"{step.days} days"


def _batch_section(plan: MailingPlan, zone: tzinfo) -> Section:
    """Return the batches, and the limits that delay them."""
    batches = list(batches_of(plan))
    rows = [
        Row(
            f"{number:,}",
            [
                Cell(_time(batch.first, zone)),
                Cell(_time(batch.last, zone)),
                cell_of(batch.messages),
                cell_of(batch.recipients),
            ],
        )
        for number, batch in enumerate(batches[:MOST_ROWS], 1)
    ]
    blocks: list[Block] = [
        Table(
            name="batches",
            title="Batches",
            words="Between two batches nothing goes for an hour or longer.",
            columns=[
                Column("batch", is_number=False),
                Column("from", is_number=False),
                Column("to", is_number=False),
                Column("messages"),
                Column("recipients"),
            ],
            rows=rows,
            note=_more(len(batches), "batches"),
            stacks=True,
            wide=True,
        )
    ]
    if not plan.held:
        return Section("Batches", ["No limit delays a message: all of them fit at once."], blocks)
    blocks.append(
        Table(
            name="held",
            title="What delays the mailing, and when",
            columns=[
                Column("limit", is_number=False),
                Column("from", is_number=False),
                Column("to", is_number=False),
                Column("still to go"),
            ],
            rows=[
                Row(
                    escape(str(held.limit)),
                    [
                        Cell(_time(held.start, zone)),
                        Cell(_time(held.end, zone)),
                        cell_of(held.waiting),
                    ],
                )
                for held in plan.held[:MOST_ROWS]
            ],
            note=_more(len(plan.held), "periods"),
            stacks=True,
            wide=True,
        )
    )
    return Section("Batches, and what delays them", (), blocks)


def _comparison(results: PlanResults) -> Section:
    """Return a row for each policy, with a bar for how long the mailing takes."""
    plans = [outcome for _, outcome in results.outcomes if isinstance(outcome, MailingPlan)]
    longest = max((plan.last - plan.start for plan in plans), default=timedelta())
    rows = []
    for name, outcome in results.outcomes:
        if isinstance(outcome, CannotFinish):
            cells = [Cell("never"), Cell(""), Cell(escape(str(outcome)))]
            rows.append(Row(escape(name), cells))
            continue
        takes = outcome.last - outcome.start
        held = "nothing" if outcome.longest_held is None else str(outcome.longest_held)
        cells = [
            Cell(_length(takes), takes.total_seconds()),
            Cell(_time(outcome.last, results.zone), outcome.last.timestamp()),
            Cell(escape(held)),
        ]
        share = 100 * (takes / longest) if longest else 0
        rows.append(Row(escape(name), cells, Bar([("mail", share)], _length(takes))))
    return Section(
        "Under each policy",
        (),
        [
            Table(
                name="policies",
                title="How long the mailing takes",
                columns=[
                    Column("policy", is_number=False),
                    Column("takes"),
                    Column("last goes", is_number=False),
                    Column("what delays it longest", is_number=False),
                ],
                rows=rows,
                sorts=True,
                stacks=True,
                wide=True,
            )
        ],
    )


def _amount(plan: MailingPlan) -> str:
    return f"{number_of(plan.messages, 'message')} to {number_of(plan.recipients, 'recipient')}"


def _more(rows: int, things: str) -> str:
    if rows <= MOST_ROWS:
        return ""
    return f"and {rows - MOST_ROWS:,} more {things}; --json has all hours"


def _local(moment: datetime, zone: tzinfo) -> datetime:
    """Return a moment in whole seconds, rounded up, so that the message has gone by then."""
    return (moment + timedelta(microseconds=-moment.microsecond % 1_000_000)).astimezone(zone)


def _time(moment: datetime, zone: tzinfo) -> str:
    return f"{_day(moment, zone)}, {_clock(moment, zone)}"


def _day(moment: datetime, zone: tzinfo, *, with_year: bool = True) -> str:
    local = _local(moment, zone)
    day = f"{local:%a} {local.day} {local:%b}"
    return f"{day} {local.year}" if with_year else day


def _clock(moment: datetime, zone: tzinfo) -> str:
    """Return the time of day, without seconds if there are none, and the zone's short name."""
    local = _local(moment, zone)
    return f"{local:%H:%M:%S} {local:%Z}" if local.second else f"{local:%H:%M} {local:%Z}"


def _length(span: timedelta) -> str:
    """Return a length of time, never less than it is: `2 d 2 h 46 min`, or `40 s`."""
    seconds = -(-span // timedelta(seconds=1))
    if seconds < 3600:
        return duration(seconds) if seconds else "at once"
    hours, minutes = divmod(-(-seconds // 60), 60)
    days, hours = divmod(hours, 24)
    units = ((days, "d"), (hours, "h"), (minutes, "min"))
    return " ".join(f"{number:,} {unit}" for number, unit in units if number)
