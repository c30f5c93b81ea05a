"""Clocks of a backend in memory: integer milliseconds since the epoch."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["steady_clock", "whole_clock"]


def steady_clock() -> Callable[[], int]:
    """The wall clock's start plus the monotonic clock: no step of the wall clock shows."""
    start = time.time_ns() - time.monotonic_ns()
    monotonic = time.monotonic_ns
    return lambda: (start + monotonic()) // 1_000_000


def whole_clock(clock: Callable[[], int]) -> Callable[[], int]:
    """`clock`, held to its word that it gives whole milliseconds."""

    def checked() -> int:
        now = clock()
        if type(now) is not int:
            raise TypeError(f"clock: must give integer milliseconds since the epoch, not {now!r}")
        return now

    return checked
