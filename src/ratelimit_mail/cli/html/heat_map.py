"""HeatMap: how much falls on each hour of the week, as a drawing and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

import attrs

from ratelimit_mail.cli.html.palette import LEVELS

__all__ = ["WEEKDAYS", "HeatMap", "heat_map", "level_of", "thresholds_of"]

WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@attrs.frozen
class Hour:
    """One hour of the week: its number, the step of its color, and the text under the pointer."""

    number: int
    level: int
    title: str


@attrs.frozen(kw_only=True)
class HeatMap:
    """A heat map. name: unique within the page. days: 24 hours for each of `WEEKDAYS`."""

    template: ClassVar[str] = "heat_map.html.j2"
    wide: ClassVar[bool] = False
    weekdays: ClassVar[Sequence[str]] = WEEKDAYS

    name: str
    title: str
    words: str
    days: Sequence[Sequence[Hour]]
    legend: Sequence[tuple[int, str]]


def heat_map(name: str, title: str, words: str, week: Sequence[int], things: str) -> HeatMap:
    """Return a map of the 168 hours of a week, Monday first.

    things: what is counted, such as `messages`.
    """
    thresholds = thresholds_of(week)
    days = [
        [
            Hour(
                number := week[24 * day + hour],
                level_of(number, thresholds),
                f"{WEEKDAYS[day]} {hour:02}:00 to {hour + 1:02}:00: {number:,} {things}",
            )
            for hour in range(24)
        ]
        for day in range(7)
    ]
    return HeatMap(name=name, title=title, words=words, days=days, legend=_legend(thresholds))


def thresholds_of(numbers: Sequence[int]) -> list[int]:
    """Return the least number of each step above zero, so that each has about as many members."""
    above = sorted(number for number in numbers if number)
    return sorted({above[len(above) * step // LEVELS] for step in range(LEVELS)}) if above else []


def level_of(number: int, thresholds: Sequence[int]) -> int:
    """Return the step of a number: 0 for zero, LEVELS for the highest."""
    if not number:
        return 0
    step = sum(1 for least in thresholds if number >= least)
    return LEVELS - len(thresholds) + max(step, 1)


def _legend(thresholds: Sequence[int]) -> list[tuple[int, str]]:
    legend = [(0, "0")]
    for i, least in enumerate(thresholds):
        level = level_of(least, thresholds)
        if i + 1 == len(thresholds):
            legend.append((level, f"{least:,} or more"))
        elif thresholds[i + 1] - 1 == least:
            legend.append((level, f"{least:,}"))
        else:
            legend.append((level, f"{least:,} to {thresholds[i + 1] - 1:,}"))
    return legend
