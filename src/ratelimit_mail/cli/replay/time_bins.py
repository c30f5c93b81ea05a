"""Bins of time for charts: minutes, hours, days, weeks, months or years in UTC."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import attrs

__all__ = ["Bins", "bins_for", "moment"]

HOUR: Final = 3_600_000
DAY: Final = 24 * HOUR

LONGEST: Final = {
    "minute": 6 * HOUR,
    "hour": 14 * DAY,
    "day": 400 * DAY,
    "week": 8 * 366 * DAY,
    "month": 50 * 366 * DAY,
}
"""The longest span, in milliseconds, for which bins of each length are used."""

STEPS: Final = {
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "month": timedelta(days=31),
    "year": timedelta(days=366),
}

OUTLIERS: Final = 1000
"""One message in this many, at either end, may be left out of the charts."""


@attrs.frozen
class Bins:
    """Consecutive bins of one unit.

    unit: `minute`, `hour`, `day`, `week`, `month` or `year`.
    edges: the start of each bin, in milliseconds since the epoch, and the end of the last.
    before, after: how many messages are before the first bin and after the last.
    """

    unit: str
    edges: Sequence[int]
    before: int = 0
    after: int = 0

    def __len__(self) -> int:
        return len(self.edges) - 1

    @property
    def names(self) -> list[str]:
        """What each bin is called, such as `Wed 15 Nov 2023`."""
        return [_name(moment(edge), self.unit) for edge in self.edges[:-1]]

    def find(self, time: int) -> int | None:
        """Return the index of the bin that contains `time`, or None if there is none."""
        if not self.edges[0] <= time < self.edges[-1]:
            return None
        return bisect_right(self.edges, time) - 1


def bins_for(times: Collection[int]) -> Bins:
    """Return bins for messages at `times`, which are sorted, and may be read twice.

    Some mail is dated decades wrong because a clock was wrong. If the outermost messages would
    take up more than a fifth of a chart, they are left out.
    """
    outliers = len(times) // OUTLIERS
    places = (0, outliers, len(times) - 1 - outliers, len(times) - 1)
    at_place = {i: time for i, time in enumerate(times) if i in places}
    earliest, first, last, latest = map(at_place.__getitem__, places)
    if (latest - earliest) * 4 <= (last - first) * 5:
        first, last = earliest, latest
    span = last - first
    unit = next((unit for unit, longest in LONGEST.items() if span <= longest), "year")
    start = _floor(moment(first), unit)
    edges = [_milliseconds(start)]
    while edges[-1] <= last:
        try:
            start = _floor(start + STEPS[unit], unit)
        except OverflowError:  # after the year 9999
            edges.append(last + 1)
        else:
            edges.append(_milliseconds(start))
    before = after = 0
    if earliest < edges[0] or latest >= edges[-1]:
        for time in times:
            before += time < edges[0]
            after += time >= edges[-1]
    return Bins(unit, array("q", edges), before, after)


def moment(time: int) -> datetime:
    """Convert milliseconds since the epoch to a datetime in UTC."""
    return datetime.fromtimestamp(time // 1000, UTC)


def _floor(at: datetime, unit: str) -> datetime:
    """Return the start of the bin that contains `at`."""
    if unit == "minute":
        return at.replace(second=0)
    if unit == "hour":
        return at.replace(minute=0, second=0)
    midnight = at.replace(hour=0, minute=0, second=0)
    if unit == "week":
        return midnight - timedelta(days=midnight.weekday())
    if unit == "month":
        return midnight.replace(day=1)
    if unit == "year":
        return midnight.replace(month=1, day=1)
    return midnight


def _name(at: datetime, unit: str) -> str:
    """Return the name of the bin that begins at a moment."""
    if unit in ("minute", "hour"):
        return f"{at:%Y-%m-%d %H:%M}"
    if unit == "year":
        return f"{at.year}"
    if unit == "month":
        return f"{at:%B} {at.year}"
    words = f"{at:%a} {at.day} {at:%b} {at.year}"
    return f"week from {words}" if unit == "week" else words


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp()) * 1000
