"""RetrySchedule: when a message is tried again that a server has put off, and when to give up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import attrs

from ratelimit_mail._util.text import show

__all__ = ["RetrySchedule", "seconds_of"]

MINUTE: Final = 60.0
HOUR: Final = 3600.0
DAY: Final = 86400.0

LONGEST: Final = 10 * 366 * DAY


def seconds_of(field: str, value: object, *, least: float = 0.0) -> float:
    """Return a number of seconds. Raises TypeError or ValueError that names `field`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{field}: a number of seconds is needed, not {show(value)}")
    if not least <= value <= LONGEST:
        raise ValueError(
            f"{field}: {show(value)} is not a number of seconds from {least:g} to {LONGEST:g}"
        )
    return float(value)


def _delays(values: Iterable[float]) -> tuple[float, ...]:
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"delays: a list of seconds is needed, not {show(values)}")
    delays = tuple(seconds_of("delays", each, least=0.001) for each in values)
    if not delays:
        raise ValueError("delays: the list is empty; at least one is needed")
    return delays


def _give_up(value: Any) -> float:
    return seconds_of("give_up", value)


def _reconnect(values: Iterable[float]) -> tuple[float, ...]:
    try:
        return _delays(values)
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace("delays", "reconnect", 1)) from None


@attrs.frozen
class RetrySchedule:
    """When a message is tried again after a temporary refusal (4xx).

    delays: the seconds after the first, second, ... attempt; the last one is repeated. The default
        is that of RFC 5321, 4.5.4.1: two attempts in the first hour, half an hour apart, and then
        one every two to three hours.
    give_up: how many seconds after its first attempt a message fails; by default 5 days. The last
        attempt is made at that time.
    reconnect: the seconds for which nothing is sent after the first, second, ... failure in a row
        to reach the server, or to log in; the last one is repeated.
    """

    delays: tuple[float, ...] = attrs.field(
        default=(30 * MINUTE, 2 * HOUR, 3 * HOUR), converter=_delays
    )
    give_up: float = attrs.field(default=5 * DAY, kw_only=True, converter=_give_up)
    reconnect: tuple[float, ...] = attrs.field(
        default=(5.0, 30.0, 2 * MINUTE, 5 * MINUTE), kw_only=True, converter=_reconnect
    )

    def next_attempt(self, first: int, attempts: int, now: int) -> int | None:
        """Return when a message is tried next, in milliseconds since the epoch; None for never.

        first: the time of its first attempt. attempts: how many it had. now: the present.
        """
        end = first + round(self.give_up * 1000)
        if now >= end:
            return None
        delay = self.delays[min(attempts, len(self.delays)) - 1]
        return min(end, now + round(delay * 1000))

    def pause(self, failures: int) -> float:
        """Return for how many seconds nothing is sent after so many failures in a row."""
        return self.reconnect[min(failures, len(self.reconnect)) - 1]
