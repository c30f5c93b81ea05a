"""Clocks for counts in memory; for one that goes back see `counting/event_log.py`.

They return integer milliseconds since the epoch.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ratelimit_mail._util.text import show

__all__ = ["steady_clock", "whole_clock"]


def steady_clock() -> Callable[[], int]:
    """Return the wall clock at the start plus the monotonic clock: its steps do nothing."""
    start = time.time_ns() - time.monotonic_ns()
    monotonic = time.monotonic_ns
    return lambda: (start + monotonic()) // 1_000_000


def whole_clock(clock: Callable[[], int]) -> Callable[[], int]:
    """Return `clock` with a check: a result that is not an int raises TypeError."""

    def checked() -> int:
        now = clock()
        if type(now) is not int:
            raise TypeError(
                f"clock: must give integer milliseconds since the epoch, not {show(now)}"
            )
        return now

    return checked
