"""CalendarChart: months of days, with how much falls on each."""

from __future__ import annotations

import calendar
from collections.abc import Mapping, Sequence
from datetime import date
from typing import ClassVar, Final

import attrs

from ratelimit_mail.cli.html.heat_map import WEEKDAYS, level_of, thresholds_of

__all__ = ["MOST_MONTHS", "CalendarChart", "calendar_chart"]

MOST_MONTHS: Final = 12


@attrs.frozen
class Day:
    """A day: its number in the month, its text, and the step of its color."""

    number: int
    text: str
    level: int
    title: str


@attrs.frozen
class Month:
    """A month: its name, and its weeks from Monday; None stands for a day of another month."""

    name: str
    weeks: Sequence[Sequence[Day | None]]


@attrs.frozen(kw_only=True)
class CalendarChart:
    """A calendar. name: unique within the page. note: what it leaves out."""

    template: ClassVar[str] = "calendar.html.j2"
    wide: ClassVar[bool] = True
    weekdays: ClassVar[Sequence[str]] = WEEKDAYS

    name: str
    title: str
    words: str
    months: Sequence[Month]
    note: str = ""


def calendar_chart(
    name: str, title: str, words: str, by_day: Mapping[date, int], things: str
) -> CalendarChart:
    """Return a calendar with the months of the first to the last of the days, at most a year.

    things: what is counted, such as `messages`.
    """
    first, last = min(by_day), max(by_day)
    count = 12 * (last.year - first.year) + last.month - first.month + 1
    thresholds = thresholds_of(list(by_day.values()))
    months = [
        _month(
            first.year + (first.month - 1 + i) // 12,
            (first.month - 1 + i) % 12 + 1,
            by_day,
            thresholds,
            things,
        )
        for i in range(min(count, MOST_MONTHS))
    ]
    omitted = count - len(months)
    note = f"and {omitted:,} more months, until {last.day} {last:%B} {last.year}" if omitted else ""
    return CalendarChart(name=name, title=title, words=words, months=months, note=note)


def _month(
    year: int, month: int, by_day: Mapping[date, int], thresholds: Sequence[int], things: str
) -> Month:
    weeks = []
    for week in calendar.Calendar().monthdayscalendar(year, month):
        days: list[Day | None] = []
        for number in week:
            if not number:
                days.append(None)
                continue
            day = date(year, month, number)
            amount = by_day.get(day, 0)
            title = f"{day:%A} {number} {day:%B}: {amount:,} {things}"
            days.append(Day(number, _text(amount), level_of(amount, thresholds), title))
        weeks.append(days)
    return Month(f"{date(year, month, 1):%B} {year}", weeks)


def _text(amount: int) -> str:
    """Return a number for the cell of a day, which is narrow; its title has all digits."""
    if amount >= 1_000_000:
        return f"{amount / 1_000_000:.3g}M"
    if amount >= 100_000:
        return f"{amount // 1000}k"
    return f"{amount:,}" if amount else ""
