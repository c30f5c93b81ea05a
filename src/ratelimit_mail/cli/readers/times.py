"""Parse times in data files and mail headers, as milliseconds since the epoch."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from ratelimit_mail._util.epoch import milliseconds_of
from ratelimit_mail._util.text import show

__all__ = ["parse_mail_time", "parse_time"]

_UNIX: Final = re.compile(r"([0-9]{1,20})(?:\.([0-9]{1,20}))?")
_END: Final = 253_402_300_800_000  # the end of the year 9999
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


def parse_time(text: str) -> int:
    """Parse Unix seconds, whole or decimal, or ISO 8601, which is UTC without a time zone."""
    if unix := _UNIX.fullmatch(text):
        return _in_range(int(unix[1]) * 1000 + int(f"{unix[2] or ''}000"[:3]), text)
    try:
        if len(text) > _LONGEST:
            raise ValueError(text)
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"time: {show(text)} is neither Unix seconds nor ISO 8601") from None
    return _in_range(_milliseconds(moment), text)


def parse_mail_time(text: str) -> int | None:
    """Parse the time of a Date or Received header or a `From ` line; return None if invalid.

    Without a zone it is UTC. A zone, or anything else, that is not understood makes it invalid:
    a time that is hours wrong is worse than the time of the next header.
    """
    try:
        return _in_range(_milliseconds(_mail_time(text[:_LONGEST])), text)
    except (ValueError, OverflowError):
        return None


def _mail_time(text: str) -> datetime:
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
    if half and not 1 <= hour <= 12:
        raise ValueError(text)
    if half:
        hour = hour % 12 + (12 if half == "p" else 0)
    if second == 60:  # a leap second
        second = 59
    return datetime(_full_year(year), month, int(day), hour, minute, second, tzinfo=_zone(zones))


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


def _zone(words: list[str]) -> timezone:
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
    return timezone(timedelta(hours=_ZONES[names[0]])) if names else UTC


def _milliseconds(moment: datetime) -> int:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return milliseconds_of(moment)


def _in_range(time: int, text: str) -> int:
    if time < 0:
        raise ValueError(f"time: {show(text)} is before 1970")
    if time >= _END:
        raise ValueError(f"time: {show(text)} is after the year 9999; it must be in seconds")
    return time
