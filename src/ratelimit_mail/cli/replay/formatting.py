"""Format numbers, shares and times for a report."""

from __future__ import annotations

from datetime import timedelta

from ratelimit_mail._util import text
from ratelimit_mail.cli.replay.report import share
from ratelimit_mail.cli.replay.time_bins import moment

__all__ = ["amount_of", "day", "duration", "percent", "rounded_up", "timestamp"]


def amount_of(amount: int, things: str) -> str:
    """Return `amount` with the plural `things`: `1 message`, `30,000 messages`."""
    return f"{amount:,} {things.removesuffix('s') if amount == 1 else things}"


def percent(part: int, whole: int) -> str:
    """Return the share of `part` in `whole`, in percent."""
    value = share(part, whole)
    return "<0.01 %" if 0 < value < 0.0001 else f"{value * 100:.2f} %"


def timestamp(time: int) -> str:
    """Return a time in milliseconds since the epoch as date and time of day."""
    return f"{moment(time):%Y-%m-%d %H:%M:%S} UTC"


def duration(milliseconds: int) -> str:
    """Return a length of time in days, hours, minutes and seconds."""
    return str(timedelta(seconds=milliseconds // 1000))


def day(time: int) -> str:
    """Return a time in milliseconds since the epoch as a day in UTC: `3 March 2026`."""
    at = moment(time)
    return f"{at.day} {at:%B} {at.year}"


def rounded_up(milliseconds: int) -> str:
    """Return a length of time in at most two units, never less than it is: `3 h 20 min`."""
    seconds = -(-milliseconds // 1000)
    step = 1 if seconds < 3600 else 60 if seconds < 86_400 else 3600
    return text.duration(-(-seconds // step) * step) if seconds > 0 else "0 s"
