"""WorkingHours: the hours of the week in which a mailing is sent."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Final, cast

import attrs

from ratelimit_mail._util.text import show

__all__ = ["WorkingHours"]

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_NOTATION: Final = re.compile(
    r"(?:([a-z,-]{3,40}) +)?([0-9]{1,2}:[0-9]{2}) *- *([0-9]{1,2}:[0-9]{2})", re.IGNORECASE
)


def _days(value: object) -> tuple[int, ...]:
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        raise TypeError(f"days: a list of numbers from 0 (Monday) is needed, not {show(value)}")
    days = tuple(sorted(set(value)))
    if not days or not all(type(day) is int and 0 <= day <= 6 for day in days):
        raise ValueError(f"days: {show(value)} is not a list of numbers from 0 (Monday) to 6")
    return days


def _is_zone(_: object, attribute: attrs.Attribute[tzinfo], value: object) -> None:
    if not isinstance(value, tzinfo):
        raise TypeError(f"{attribute.name}: a tzinfo is needed, not {show(value)}")


@attrs.frozen
class WorkingHours:
    """The hours of the week in which a mailing is sent.

    opens, closes: the local time of day; a message goes from `opens` on and before `closes`. If
        `closes` is not after `opens`, it is on the following day.
    days: the days on which they begin, from 0 for Monday to 6.
    zone: the time zone, such as `zoneinfo.ZoneInfo("Europe/London")`; daylight saving time is
        taken into account.
    """

    opens: time = attrs.field(validator=attrs.validators.instance_of(time))
    closes: time = attrs.field(validator=attrs.validators.instance_of(time))
    days: tuple[int, ...] = attrs.field(default=(0, 1, 2, 3, 4), converter=_days)
    zone: tzinfo = attrs.field(default=cast("tzinfo", UTC), validator=_is_zone)

    @classmethod
    def parse(cls, text: str, zone: tzinfo = UTC) -> WorkingHours:
        """Return the hours that a notation names.

        zone: the time zone of these hours.
        text: such as `"08:00-18:00"` (Monday to Friday), `"mon-sat 08:00-18:00"`,
            `"mon,wed,fri 22:00-06:00"` or `"mon-sun 00:00-24:00"`.

        Raises ValueError.
        """
        match = _NOTATION.fullmatch(text.strip())
        try:
            if match is None:
                raise ValueError(text)
            days, opens, closes = match.groups()
            return cls(_time(opens), _time(closes), _numbers(days or "mon-fri"), zone)
        except ValueError:
            raise ValueError(
                f"{show(text)} is not a notation of hours such as 'mon-fri 08:00-18:00'"
            ) from None

    def next_open(self, moment: datetime) -> datetime:
        """Return the first moment from an aware `moment` on that is within the hours, in UTC."""
        moment = moment.astimezone(UTC)
        today = moment.astimezone(self.zone).date()
        for number in range(-1, 9):
            day = today + timedelta(days=number)
            if day.weekday() not in self.days:
                continue
            end = day if self.closes > self.opens else day + timedelta(days=1)
            opens = datetime.combine(day, self.opens, self.zone).astimezone(UTC)
            closes = datetime.combine(end, self.closes, self.zone).astimezone(UTC)
            if moment < closes and opens < closes:
                return max(moment, opens)
        raise AssertionError("a week has a day on which the hours begin")

    def __str__(self) -> str:
        names = ", ".join(DAYS[day].capitalize() for day in self.days)
        if len(self.days) > 2 and self.days[-1] - self.days[0] == len(self.days) - 1:
            names = f"{DAYS[self.days[0]]} to {DAYS[self.days[-1]]}".title().replace("To", "to")
        return f"working hours {names} {self.opens:%H:%M} to {self.closes:%H:%M} {self.zone}"


def _time(text: str) -> time:
    hour, minute = map(int, text.split(":"))
    return time(0) if (hour, minute) == (24, 0) else time(hour, minute)


def _numbers(days: str) -> list[int]:
    numbers: list[int] = []
    for each in days.lower().split(","):
        first, dash, last = each.partition("-")
        start, end = DAYS.index(first), DAYS.index(last if dash else first)
        numbers += [day % 7 for day in range(start, end + 1 + 7 * (end < start))]
    return numbers
