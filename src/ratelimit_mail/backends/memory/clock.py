"""Clocks for counts in memory; for one that goes back see `counting/event_log.py`.

They return integer milliseconds since the epoch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

__all__ = ["Ticks", "steady_ticks", "ticks_of"]

Ticks = tuple[Callable[[Any], int], Any, int]
"""A function, its argument, and a number: the sum of the result and the number is the time in
nanoseconds. So the usual clock needs no call of a Python function."""

BOOTTIME: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)
"""The clock of Linux that goes on while the computer sleeps."""


def steady_ticks() -> Ticks:
    """Return the wall clock at the start plus the time that has passed: its steps do nothing.

    The time while the computer slept has passed too, where a clock tells it: on Linux.
    """
    if BOOTTIME is not None:
        try:
            return time.clock_gettime_ns, BOOTTIME, time.time_ns() - time.clock_gettime_ns(BOOTTIME)
        except OSError:  # an old kernel, or a sandbox
            pass
    return _monotonic, None, time.time_ns() - time.monotonic_ns()


def _monotonic(_: None) -> int:
    return time.monotonic_ns()


def ticks_of(clock: Callable[[], int]) -> Ticks:
    """Return the ticks of a clock of milliseconds; a result that is not an int raises TypeError."""

    def checked(_: None) -> int:
        now = clock()
        if type(now) is not int:
            raise TypeError(f"clock: must give integer milliseconds since the epoch, not {now!r}")
        return now * 1_000_000

    return checked, None, 0
