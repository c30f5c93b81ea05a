"""ManualClock: a clock that only moves when a test moves it."""

from __future__ import annotations

import threading

from ratelimit_mail._util.text import show

__all__ = ["ManualClock"]


class ManualClock:
    """A clock that only moves when it is moved. Pass it to a backend as `clock=`.

    With `Limiter(..., sleep=clock.advance)` or `AsyncLimiter(..., sleep=clock.sleep)`, waiting
    takes no time. Thread-safe.

    now: the start, in milliseconds since the epoch.
    """

    def __init__(self, now: int = 1_000_000_000_000) -> None:
        self._lock = threading.Lock()
        self._now = now

    def __call__(self) -> int:
        """Return the time in milliseconds since the epoch."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock forward by `seconds`, or back if negative."""
        with self._lock:
            self._now += round(seconds * 1000)

    def set(self, now: int) -> None:
        """Set the clock to `now`, in milliseconds since the epoch."""
        if not isinstance(now, int):
            raise TypeError(f"now: integer milliseconds are needed, not {show(now)}")
        with self._lock:
            self._now = now

    async def sleep(self, seconds: float) -> None:
        """Move the clock forward like `advance`, for an AsyncLimiter.

        seconds: how long.
        """
        self.advance(seconds)
