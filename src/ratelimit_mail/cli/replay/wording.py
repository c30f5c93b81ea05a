"""How numbers and times are written in a report."""

from __future__ import annotations

from datetime import timedelta

from ratelimit_mail.cli.replay.outcome import share
from ratelimit_mail.cli.replay.time_bins import moment

__all__ = ["length", "many", "percent", "when"]


def many(amount: int, things: str) -> str:
    """`amount` of `things`, a plural: `1 message`, `30,000 messages`."""
    return f"{amount:,} {things.removesuffix('s') if amount == 1 else things}"


def percent(part: int, whole: int) -> str:
    """The share of `part` in `whole`."""
    value = share(part, whole)
    return "<0.01 %" if 0 < value < 0.0001 else f"{value * 100:.2f} %"


def when(time: int) -> str:
    """A time in milliseconds since the epoch."""
    return f"{moment(time):%Y-%m-%d %H:%M:%S} UTC"


def length(milliseconds: int) -> str:
    """A length of time."""
    return str(timedelta(seconds=milliseconds // 1000))
