"""A clock to turn by hand."""

from __future__ import annotations

import threading

from ratelimit_mail._util.text import show

__all__ = ["ManualClock"]


class ManualClock:
    """A clock that stands still until it is turned: hand it to a backend as `clock=`.

    now: where it starts, in milliseconds since the epoch.

    `Limiter(..., sleep=clock.advance)` and `AsyncLimiter(..., sleep=clock.sleep)` let a
    test wait in no time. Safe for threads.
    """

    def __init__(self, now: int = 1_000_000_000_000) -> None:
        self._lock = threading.Lock()
        self._now = now

    def __call__(self) -> int:
        """The time in milliseconds since the epoch."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Turn the clock on by `seconds`, or back if they are negative."""
        with self._lock:
            self._now += round(seconds * 1000)

    def set(self, now: int) -> None:
        """Turn the clock to `now`, in milliseconds since the epoch."""
        if not isinstance(now, int):
            raise TypeError(f"now: integer milliseconds are needed, not {show(now)}")
        with self._lock:
            self._now = now

    async def sleep(self, seconds: float) -> None:
        """What `advance` does, for an AsyncLimiter."""
        self.advance(seconds)
