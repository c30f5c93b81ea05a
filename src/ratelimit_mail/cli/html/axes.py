"""The axes of a chart: round numbers, and round moments with their labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

import attrs

__all__ = ["Scale", "Tick", "scale_for", "short_number", "time_ticks"]

MOST_TICKS: Final = 6

_STEPS: Final = (
    *(("minute", n) for n in (1, 5, 10, 30)),
    *(("hour", n) for n in (1, 3, 6, 12)),
    *(("day", n) for n in (1, 2, 7, 14)),
    *(("month", n) for n in (1, 3, 6)),
    *(("year", n) for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)),
)
_SECONDS: Final = {
    "minute": 60,
    "hour": 3600,
    "day": 86_400,
    "month": 30 * 86_400,
    "year": 365 * 86_400,
}


@attrs.frozen
class Tick:
    """A label, and its place along the axis, from 0 to 100."""

    place: float
    label: str


@attrs.frozen
class Scale:
    """A vertical axis: where a value is, from 0 at the bottom to 100."""

    place: Callable[[float], float]
    ticks: list[Tick]
    is_log: bool


def scale_for(highest: float, *, log: bool = False) -> Scale:
    """Return a scale for values up to `highest`."""
    if log:
        floor, top = 0.8, highest * 2
        width = math.log(top / floor)

        def log_place(value: float) -> float:
            return 100 * math.log(max(value, floor) / floor) / width

        powers = range(int(math.log10(top)) + 1)
        step = -(-len(powers) // 5)
        marks: list[float] = [10.0**power for power in powers[::step]]
        return Scale(log_place, [Tick(log_place(x), short_number(x)) for x in marks], is_log=True)
    step_size = _round_step(highest / 5)
    top = max(highest * 1.08, step_size)
    linear = [step_size * i for i in range(int(top / step_size) + 1)]
    return Scale(
        lambda value: 100 * value / top,
        [Tick(100 * x / top, short_number(x)) for x in linear],
        is_log=False,
    )


def _round_step(step: float) -> int:
    """Return the least 1, 2 or 5 times a power of ten that is not less than `step`."""
    if step <= 1:
        return 1
    power = int(10.0 ** int(math.log10(step)))
    return next(n * power for n in (1, 2, 5, 10, 20) if n * power >= step)


def short_number(value: float) -> str:
    """Return a number for an axis: `9,000`, `25k`, `3M`, `2G`."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            size = 1e3 if unit == "k" else size
            return f"{value / size:,.6g}{unit}"
    return f"{value:,.0f}"


def time_ticks(start: int, end: int, zone: tzinfo = UTC) -> list[Tick]:
    """Return ticks from `start` to `end`, in milliseconds since the epoch."""
    span = (end - start) / 1000
    unit, number = next(
        (step for step in _STEPS if span / (_SECONDS[step[0]] * step[1]) <= MOST_TICKS),
        _STEPS[-1],
    )
    ticks: list[Tick] = []
    for at in _moments(_datetime(start, zone), unit, number):
        place = 100 * (at.timestamp() * 1000 - start) / (end - start)
        if place > 100 or len(ticks) > 2 * MOST_TICKS:
            break
        if place >= 0:
            ticks.append(Tick(place, _label(at, unit, is_first=not ticks)))
    return ticks


def _datetime(time: int, zone: tzinfo) -> datetime:
    in_utc = datetime.fromtimestamp(time // 1000, UTC)
    try:
        return in_utc.astimezone(zone)
    except OverflowError:  # of the last hours of the year 9999, which the zone has in the next
        return in_utc


def _moments(start: datetime, unit: str, number: int) -> Iterator[datetime]:
    """Yield round moments from one that is not after `start` on."""
    at = start.replace(second=0, microsecond=0)
    if unit == "minute":
        at = at.replace(minute=at.minute - at.minute % number)
    elif unit == "hour":
        at = at.replace(minute=0, hour=at.hour - at.hour % number)
    else:
        at = at.replace(minute=0, hour=0)
    if unit == "day" and number >= 7:
        at -= timedelta(days=at.weekday())
    if unit in ("month", "year"):
        month = at.month - (at.month - 1) % number if unit == "month" else 1
        at = at.replace(day=1, month=month)
    if unit == "year":
        at = at.replace(year=max(1, at.year - at.year % number))
    try:
        while True:
            yield at
            at = _next(at, unit, number)
    except (ValueError, OverflowError):  # after the year 9999
        return


def _next(at: datetime, unit: str, number: int) -> datetime:
    if unit in ("minute", "hour"):
        later = at.astimezone(UTC) + timedelta(seconds=_SECONDS[unit] * number)
        return later.astimezone(at.tzinfo)
    if unit == "day":
        return at + timedelta(days=number)
    months = at.month - 1 + (number if unit == "month" else 12 * number)
    return at.replace(year=at.year + months // 12, month=months % 12 + 1)


def _label(at: datetime, unit: str, *, is_first: bool) -> str:
    """Return a short label; January is its year, and another month has its year only if first."""
    if unit == "year" or (unit == "month" and at.month == 1):
        return f"{at.year}"
    if unit == "month":
        return f"{at:%b} {at.year}" if is_first else f"{at:%b}"
    if unit == "day" or (at.hour, at.minute) == (0, 0):
        return f"{at.day} {at:%b}"
    return f"{at:%H:%M}"
