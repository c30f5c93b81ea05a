"""Calendar: the hours, days or months of a time zone, as moments at which each begins.

Times are milliseconds since the epoch. A day begins at the first moment whose local date is that
day or a later one: so a day may have 23 or 25 hours, a midnight that the clocks skip is the moment
of the skip, and of two midnights the first one counts. An hour begins when the local minutes are 0;
where the clocks change by less than an hour, the change begins one too.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Final

import attrs

from ratelimit_mail._util.epoch import datetime_of, milliseconds_of
from ratelimit_mail._util.text import show

__all__ = ["UNITS", "Calendar", "calendar_of"]

MINUTE: Final = 60_000
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
CYCLE: Final = 146_097 * DAY
"""After 400 years the same dates fall on the same days of the week, and all rules repeat."""
FIRST: Final = milliseconds_of(datetime(200, 1, 1, tzinfo=UTC))
LAST: Final = milliseconds_of(datetime(9800, 1, 1, tzinfo=UTC))

UNITS: Final = {"hour": HOUR, "day": DAY, "month": 31 * DAY}
"""The units of a calendar, each with the length that it has, or has at most, without a change of
the clocks."""

# Zones that moved had days of 27 hours; daylight saving time makes days of at most 26.
_LONGEST_CHANGE: Final = 3 * HOUR

_LOOKED_AHEAD: Final = 1827 * DAY
_LOOKED_BACK: Final = {"hour": 7 * DAY, "day": 7 * DAY, "month": 93 * DAY}

MOST_CACHED: Final = 4096

AGREED: Final = 30 * DAY
"""For so long all machines compute the same stretches."""

Stretch = tuple[int, int]
"""A moment at which a period begins, and how many milliseconds after it each further one begins."""


@attrs.frozen
class Calendar:
    """The hours, days or months of a time zone.

    unit: `"hour"`, `"day"` or `"month"`. time_zone: a name such as `"Europe/Berlin"`; `"UTC"`
        needs no table of time zones.

    Raises ValueError if this machine does not know the time zone.
    """

    unit: str
    time_zone: str = "UTC"
    _zone: tzinfo = attrs.field(init=False, repr=False, eq=False)
    _periods: dict[int, tuple[int, int]] = attrs.field(
        init=False, repr=False, eq=False, factory=dict
    )
    """By the hour of a moment, the period in which a moment of that hour was."""

    @_zone.default
    def _find_zone(self) -> tzinfo:
        return _zone_of(self.time_zone)

    def __str__(self) -> str:
        return f"calendar {self.unit} ({self.time_zone})"

    @property
    def longest(self) -> int:
        """The most milliseconds that a period has."""
        return HOUR if self.unit == "hour" else UNITS[self.unit] + _LONGEST_CHANGE

    def period(self, moment: int) -> tuple[int, int]:
        """Return when the period that contains `moment` begins, and when the next one begins."""
        cached = self._periods.get(moment // HOUR)
        if cached is not None and cached[0] <= moment < cached[1]:
            return cached
        shift = 0
        if not FIRST <= moment < LAST:
            beginning = LAST if moment >= LAST else FIRST + CYCLE
            shift = ((moment - beginning) // CYCLE + 1) * CYCLE
        find = self._hour if self.unit == "hour" else self._days
        start, end = find(moment - shift)
        period = (start + shift, end + shift)
        if len(self._periods) >= MOST_CACHED:
            self._periods.clear()
        self._periods[moment // HOUR] = period
        return period

    def stretches(self, moment: int) -> tuple[Stretch, ...]:
        """Return when periods begin, from some time before `moment` until five years after it.

        Each stretch lasts until the next one begins, and the last one for ever. They are the same
        for all moments of `AGREED` milliseconds, so that different machines agree.
        """
        return _stretches(self, moment - moment % AGREED)

    def _find_stretches(self, moment: int) -> tuple[Stretch, ...]:
        until = moment + _LOOKED_AHEAD
        start, end = self.period(moment - _LOOKED_BACK[self.unit])
        usual = UNITS[self.unit]
        stretches = [(start, max(usual, end - start))]
        while start < until:
            start, end = end, self.period(end)[1]
            first, step = stretches[-1]
            # One that is shorter ends where the next stretch begins.
            if end - start > step or step > usual or (start - first) % step:
                stretches.append((start, max(usual, end - start)))
            while self.unit != "month" and end - start == usual and start < until:
                if self._offset(start) != self._offset(end + DAY):
                    break
                start, end = start + DAY, end + DAY  # a day on which the clocks do not change
        return tuple(stretches)

    def _offset(self, moment: int) -> int:
        """Return by how much local time is ahead of UTC."""
        offset = datetime_of(moment).astimezone(self._zone).utcoffset() or timedelta()
        return offset // timedelta(milliseconds=1)

    def _hour(self, moment: int) -> tuple[int, int]:
        offset = self._offset(moment)
        start = moment - (moment + offset) % HOUR
        end = start + HOUR
        if (before := self._offset(start)) != offset and (before - offset) % HOUR:
            start = _first(lambda each: self._offset(each) == offset, start, moment)
        if (after := self._offset(end - 1)) != offset and (after - offset) % HOUR:
            end = _first(lambda each: self._offset(each) == after, moment, end - 1)
        return start, end

    def _days(self, moment: int) -> tuple[int, int]:
        day = datetime_of(moment).astimezone(self._zone).date()
        if self.unit == "month":
            day = day.replace(day=1)
        start, end = self._start_of(day), self._start_of(day := self._next(day))
        while end <= moment:  # the clocks went back over midnight
            start, end = end, self._start_of(day := self._next(day))
        return start, end

    def _next(self, day: date) -> date:
        if self.unit == "day":
            return day + timedelta(days=1)
        return (day + timedelta(days=31)).replace(day=1)

    def _start_of(self, day: date) -> int:
        """Return the first moment whose local date is `day` or later."""
        midnight = datetime.combine(day, time(), self._zone)
        start = milliseconds_of(midnight)
        otherwise = milliseconds_of(midnight.replace(fold=1))
        if otherwise >= start:
            return start  # the only midnight, or the first of two
        return _first(
            lambda each: datetime_of(each).astimezone(self._zone).date() >= day, otherwise, start
        )


def _first(holds: Callable[[int], bool], low: int, high: int) -> int:
    """Return the first moment up to `high`, from `low` on, from which on `holds` is true."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def _zone_of(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    import difflib  # only here, because few limits have a time zone
    import zoneinfo

    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        pass
    near = difflib.get_close_matches(name[:100], sorted(zoneinfo.available_timezones()), n=1)
    if near:
        raise ValueError(
            f"time_zone: {show(name)} is not a time zone that this machine knows; did you mean"
            f" {near[0]!r}?"
        )
    raise ValueError(
        f"time_zone: {show(name)} is not a time zone that this machine knows; names are such as"
        " 'Europe/Berlin' or 'UTC'. A system without a table of time zones, such as Windows, needs"
        " the package tzdata: pip install tzdata"
    )


@lru_cache(maxsize=1024)
def _stretches(calendar: Calendar, moment: int) -> tuple[Stretch, ...]:
    return calendar._find_stretches(moment)


@lru_cache(maxsize=1024)
def calendar_of(unit: str, time_zone: str) -> Calendar:
    """Return the calendar of a unit and a time zone; equal ones are one object."""
    return Calendar(unit, time_zone)
