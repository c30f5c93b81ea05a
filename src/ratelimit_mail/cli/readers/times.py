"""Parse times in data files and mail headers, as milliseconds since the epoch."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from ratelimit_mail._util.epoch import milliseconds_of
from ratelimit_mail._util.text import show

__all__ = ["parse_mail_time", "parse_time"]

_UNIX: Final = re.compile(r"([0-9]{1,20})(?:\.([0-9]{1,20}))?")
_END: Final = 253_402_300_800_000  # the end of the year 9999
_LONGEST: Final = 200


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
    """Parse the time of a Date or Received header or a `From ` line; return None if invalid."""
    try:
        return _in_range(_milliseconds(parsedate_to_datetime(text[:_LONGEST].strip())), text)
    except (ValueError, TypeError, OverflowError, IndexError):  # errors of the parser
        return None


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
