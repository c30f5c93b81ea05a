"""Convert between datetimes and whole milliseconds since the epoch, 1970 in UTC."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Final

__all__ = ["datetime_of", "milliseconds_of", "start_of"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def milliseconds_of(moment: datetime) -> int:
    """Return an aware datetime in milliseconds since the epoch, rounded down."""
    return (moment - _EPOCH) // _MILLISECOND


def datetime_of(milliseconds: int) -> datetime:
    """Return the datetime, in UTC, of so many milliseconds since the epoch."""
    return _EPOCH + milliseconds * _MILLISECOND


def start_of(moment: date) -> datetime:
    """Return a datetime as it is, and for a plain date the start of that day in UTC."""
    if isinstance(moment, datetime):
        return moment
    return datetime.combine(moment, time(), UTC)
