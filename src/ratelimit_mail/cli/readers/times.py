"""Parse times in data files and mail headers, as milliseconds since the epoch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final

from ratelimit_mail._util.epoch import milliseconds_of
from ratelimit_mail._util.text import show

__all__ = [
    "AMBIGUOUS",
    "TimeParser",
    "date_order_of",
    "is_numeric_date",
    "parse_mail_time",
    "parse_time",
]

_UNIX: Final = re.compile(r"([0-9]{1,20})(?:\.([0-9]{1,20}))?")
_NUMERIC_DATE: Final = re.compile(
    r"\s*+([0-9]{1,4})([/.-])([0-9]{1,2})[/.-]([0-9]{1,4})(?:[\sT,]++(.*))?", re.DOTALL
)
_NUMERIC_CLOCK: Final = re.compile(
    r"([0-9]{1,2})[:.]([0-9]{2})(?:[:.]([0-9]{2})(?:[.,]([0-9]{1,9}))?)?"
    r"(?:\s*+([AaPp])\.?[Mm]\.?)?(?:\s*+(\S.*))?",
    re.DOTALL,
)
AMBIGUOUS: Final = "may be a day or a month first; --date-order dmy or mdy says which"
_END: Final = 253_402_300_800_000  # the end of the year 9999
_SECONDS: Final = 11
"""The digits of a Unix time that is in seconds, whatever its number."""
_LONGEST: Final = 200

_COMMENT: Final = re.compile(r"\([^()]*+\)")
_CLOCK: Final = re.compile(
    r"\b([0-9]{1,2})[:.]([0-9]{2})(?:[:.]([0-9]{2})(?:[.,][0-9]++)?)?(?![0-9:])"
    r"(?:\s*([AaPp])\.?[Mm]\b\.?)?"
)
_ZONE_SIGN: Final = re.compile(r"(?<=[A-Za-z0-9])([+-][0-9])")
_ZONE_NUMBER: Final = re.compile(r"([+-])([0-9]{1,2}):?([0-9]{2})?")
_MONTH_NAMES: Final = (
    *("", "january", "february", "march", "april", "may", "june", "july", "august", "september"),
    *("october", "november", "december"),
)
_MONTHS: Final[dict[str, int]] = {
    name[:3]: number for number, name in enumerate(_MONTH_NAMES) if name
}
_WEEKDAYS: Final = (
    *("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"),
    *("tues", "thurs"),
)
_ZONES: Final = {
    **dict.fromkeys(("ut", "utc", "gmt", "z", "wet"), 0),
    "est": -5,
    "edt": -4,
    "cst": -6,
    "cdt": -5,
    "mst": -7,
    "mdt": -6,
    "pst": -8,
    "pdt": -7,
    "cet": 1,
    "cest": 2,
    "met": 1,
    "mest": 2,
    "mesz": 2,
    "mez": 1,
    "west": 1,
    "eet": 2,
    "eest": 3,
    "msk": 3,
    "jst": 9,
    "aest": 10,
    "aedt": 11,
    "nzst": 12,
    "nzdt": 13,
}
"""The hours from UTC of the zones that RFC 5322 names, and of other names with one meaning."""


def parse_time(text: str, zone: tzinfo = UTC) -> int:
    """Parse Unix seconds, milliseconds or microseconds, or ISO 8601, in `zone` if it has none.

    A Unix time is in seconds up to the year 9999, in milliseconds if it would be after that, and
    else in microseconds. No mail is so old that its milliseconds could be seconds.
    """
    if unix := _UNIX.fullmatch(text):
        number = int(unix[1])
        if number * 1000 < _END:
            return number * 1000 + int(f"{unix[2] or ''}000"[:3])
        return _in_range(number if number < _END else number // 1000, text)
    try:
        if len(text) > _LONGEST:
            raise ValueError(text)
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"time: {show(text)} is neither Unix seconds nor ISO 8601") from None
    return _in_range(_milliseconds(moment, zone), text)


class TimeParser:
    """Parse the times of one file: as `parse_time` does, and dates as people and programs write.

    order: the order of the numbers in a date such as 03/04/2025: `dmy`, `mdy` or `ymd`; None if
        the file does not say it. zone: the time zone of times without one.
    """

    def __init__(self, order: str | None = None, zone: tzinfo = UTC) -> None:
        self._order = order
        self._zone = zone

    def __call__(self, text: str) -> int:
        """Return milliseconds since the epoch; raise ValueError with the reason if invalid."""
        if text.isdecimal() and text.isascii() and len(text) <= _SECONDS:
            return int(text) * 1000  # the most frequent form, for which no pattern is needed
        try:
            return parse_time(text, self._zone)
        except ValueError as error:
            if len(text) > _LONGEST:
                raise
            if numeric := _NUMERIC_DATE.fullmatch(text):
                return self._numeric(numeric, text)
            time = parse_mail_time(text, self._zone)
            if time is None:
                raise error from None
            return time

    def _numeric(self, numeric: re.Match[str], text: str) -> int:
        first, separator, second, third, clock = numeric.groups()
        order = self._order
        if len(first) >= 3:
            order = "ymd"
        elif order is None and (
            separator == "." or (first.lstrip("0") == second.lstrip("0") and len(third) == 4)
        ):
            order = "dmy"
        if order is None:
            raise ValueError(f"time: {show(text)} {AMBIGUOUS}")
        by_letter = dict(zip(order, (first, second, third), strict=True))
        try:
            year = by_letter["y"]
            if len(year) not in (2, 4):
                raise ValueError(year)
            hour, minute, second_of, fraction, half, rest = (
                match.groups() if (match := _clock_of(clock)) else ("0", "0", "0", "", "", "")
            )
            moment = datetime(
                _full_year(year),
                int(by_letter["m"]),
                int(by_letter["d"]),
                _hour(int(hour), (half or "").lower()),
                int(minute),
                min(int(second_of or 0), 59) if second_of == "60" else int(second_of or 0),
                int(f"{fraction or ''}000000"[:6]),
                tzinfo=_zone((rest or "").lower().split(), self._zone),
            )
        except ValueError:
            raise ValueError(
                f"time: {show(text)} is not a date and time in the order {order}"
            ) from None
        return _in_range(_milliseconds(moment, self._zone), text)


def _clock_of(text: str | None) -> re.Match[str] | None:
    """Return the match of a time of day, None if there is none; raise ValueError if invalid."""
    if text is None or not text.strip():
        return None
    match = _NUMERIC_CLOCK.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return match


def is_numeric_date(text: str) -> bool:
    """Return whether a cell is a date in numbers in an order that is not evident."""
    match = _NUMERIC_DATE.fullmatch(text[:_LONGEST])
    return match is not None and len(match[1]) < 3


def date_order_of(cells: Iterable[str]) -> str | None:
    """Return the order of day, month and year in the times of a file, `dmy` or `mdy`.

    A number above 12 shows it, and so does a dot between the numbers. Windows in the United States
    writes neither day nor month with a zero, and AM or PM: no other common format is like that.
    Returns None if nothing shows it, or if the dates contradict each other.
    """
    orders = set[str]()
    habits = set[str]()
    for cell in cells:
        match = _NUMERIC_DATE.fullmatch(cell[:_LONGEST])
        if match is None or len(match[1]) >= 3:
            continue
        first, separator, second, third, clock = match.groups()
        if len(third) != 4:
            return None
        if separator == "." or int(first) > 12:
            orders.add("dmy")
        elif int(second) > 12:
            orders.add("mdy")
        elif len(second) == 1 and separator == "/" and _is_half_day(clock or ""):
            habits.add("mdy")
    if len(orders) == 1:
        return orders.pop()
    return habits.pop() if habits and not orders else None


def _is_half_day(clock: str) -> bool:
    match = _NUMERIC_CLOCK.fullmatch(clock)
    return match is not None and match[5] is not None and match[5].isupper()


def _hour(hour: int, half: str) -> int:
    """Return an hour of 24; one with AM or PM is from 1 to 12."""
    if not half:
        return hour
    if not 1 <= hour <= 12:
        raise ValueError(hour)
    return hour % 12 + (12 if half == "p" else 0)


def parse_mail_time(text: str, zone: tzinfo = UTC) -> int | None:
    """Parse the time of a Date or Received header or a `From ` line; return None if invalid.

    Without a zone it is in `zone`. A zone, or anything else, that is not understood makes it
    invalid: a time that is hours wrong is worse than the time of the next header.
    """
    try:
        return _in_range(_milliseconds(_mail_time(text[:_LONGEST], zone), zone), text)
    except (ValueError, OverflowError):
        return None


def _mail_time(text: str, default: tzinfo) -> datetime:
    """Parse a date of RFC 5322, its obsolete forms, or asctime; raise ValueError if invalid."""
    while "(" in text:
        text, before = _COMMENT.sub(" ", text), text
        if text == before:
            raise ValueError(text)
    clock = _CLOCK.search(text)
    if clock is None:
        raise ValueError(text)
    hour, minute, second = (int(number or 0) for number in clock.group(1, 2, 3))
    before_clock = text[: clock.start()].replace("-", " ").replace(",", " ").split()
    month, numbers, zones = 0, list[str](), list[str]()
    half = (clock[4] or "").lower()
    for word in before_clock + _ZONE_SIGN.sub(r" \1", text[clock.end() :]).split():
        name = word.rstrip(".,").lower()
        if name.isdecimal() and name.isascii():
            numbers.append(name)
        elif (number := _month(name)) is not None:
            if month:
                raise ValueError(text)
            month = number
        elif not _is_weekday(name):
            zones.append(name)
    day, year = numbers  # ValueError if there are not two
    if len(day) == 4:
        day, year = year, day
    hour = _hour(hour, half)
    if second == 60:  # a leap second
        second = 59
    zone = _zone(zones, default)
    return datetime(_full_year(year), month, int(day), hour, minute, second, tzinfo=zone)


def _month(name: str) -> int | None:
    number = _MONTHS.get(name[:3])
    return number if number and _MONTH_NAMES[number].startswith(name) else None


def _is_weekday(name: str) -> bool:
    return len(name) >= 3 and any(each.startswith(name) for each in _WEEKDAYS)


def _full_year(year: str) -> int:
    """Return a year; one of two digits as RFC 5322 reads it."""
    if len(year) == 2:
        return int(year) + (2000 if int(year) < 50 else 1900)
    return int(year) + (1900 if len(year) == 3 else 0)


def _zone(words: list[str], default: tzinfo) -> tzinfo:
    """Return the time zone that some words name together; raise ValueError if they name none.

    A number decides; a name beside it says the same ("-0500 EST") or is the zone that the number
    counts from ("GMT +0100").
    """
    offsets = [offset for word in words if (offset := _ZONE_NUMBER.fullmatch(word))]
    names = [word for word in words if not _ZONE_NUMBER.fullmatch(word)]
    if len(offsets) > 1 or len(names) > 1 or any(not name.isalpha() for name in names):
        raise ValueError(words)
    if offsets:
        sign, hours, minutes = offsets[0].groups()
        if int(minutes or 0) >= 60:
            raise ValueError(words)
        length = timedelta(hours=int(hours), minutes=int(minutes or 0))
        return timezone(-length if sign == "-" else length)
    if names and names[0] not in _ZONES:
        raise ValueError(words)
    return timezone(timedelta(hours=_ZONES[names[0]])) if names else default


def _milliseconds(moment: datetime, zone: tzinfo) -> int:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    return milliseconds_of(moment)


def _in_range(time: int, text: str) -> int:
    if time < 0:
        raise ValueError(f"time: {show(text)} is before 1970")
    if time >= _END:
        raise ValueError(f"time: {show(text)} is after the year 9999")
    return time
