"""SimulatedTime: a clock that jumps to the next wake-up when all senders are asleep."""

from __future__ import annotations

import asyncio
import heapq
import threading
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

__all__ = ["SimulatedTime"]


class SimulatedTime:
    """A clock for threads and tasks that take no real time, and that no slow machine disturbs.

    Time stands still while a sender works, and moves when all of them sleep: to the moment at
    which the first wakes.

    senders: how many there are. Each calls `finish` at its end.
    """

    def __init__(self, senders: int, now: int = 1_000_000_000_000) -> None:
        self._lock = threading.Lock()
        self._now = now
        self._awake = senders
        self._sleepers: list[tuple[int, int, Callable[[], Any]]] = []
        self._numbers = count()

    def __call__(self) -> int:
        """Return the time in milliseconds since the epoch."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Sleep in a thread."""
        awake = threading.Event()
        self._fall_asleep(seconds, awake.set)
        awake.wait()

    async def async_sleep(self, seconds: float) -> None:
        """Sleep in a task, of any event loop."""
        awake = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._fall_asleep(seconds, partial(loop.call_soon_threadsafe, awake.set))
        await awake.wait()

    def finish(self) -> None:
        """Count the caller no longer."""
        with self._lock:
            self._awake -= 1
            self._wake_first()

    def _fall_asleep(self, seconds: float, wake: Callable[[], Any]) -> None:
        with self._lock:
            end = self._now + round(seconds * 1000)
            heapq.heappush(self._sleepers, (end, next(self._numbers), wake))
            self._awake -= 1
            self._wake_first()

    def _wake_first(self) -> None:
        if self._awake or not self._sleepers:
            return
        self._now = max(self._now, self._sleepers[0][0])
        while self._sleepers and self._sleepers[0][0] <= self._now:
            self._awake += 1
            heapq.heappop(self._sleepers)[2]()
