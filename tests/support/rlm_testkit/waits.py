"""Waits of `acquire` that are broken off, and how many places they leave booked."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from types import FrameType
from typing import Any, Final

from ratelimit_mail import AsyncLimiter, Limiter, MessageRateLimit, Policy
from ratelimit_mail.backends import RedisBackend
from rlm_testkit.builders import envelope_to
from rlm_testkit.interrupts import Interrupt

__all__ = ["ENVELOPE", "ONE_A_DAY", "booked_places", "cancel_waits", "raising_handler"]

ENVELOPE: Final = envelope_to()
ONE_A_DAY: Final = Policy(name="test", limits=[MessageRateLimit("1/day")])
DAY: Final = 86_400


def booked_places(url: str, prefix: str) -> int:
    """Return how many places are taken, the message that was sent at first included."""
    backend = RedisBackend.from_url(url, prefix=prefix, timeout=30)
    (usage,) = Limiter(ONE_A_DAY, backend).usage(ENVELOPE.sender)  # which takes no place itself
    backend.close()
    return round(usage.resets_in / DAY)


async def cancel_waits(limiter: AsyncLimiter, number: int, random: Random) -> None:
    """Begin as many waits, and cancel each again and again from a random moment on."""

    async def cancel(task: asyncio.Task[Any]) -> None:
        for _ in range(random.randrange(40)):
            await asyncio.sleep(0)
        if random.random() < 0.3:
            await asyncio.sleep(random.uniform(0, 0.02))
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)

    remaining = number
    while remaining > 0:
        tasks = [asyncio.create_task(limiter.acquire(ENVELOPE)) for _ in range(min(50, remaining))]
        await asyncio.gather(*map(cancel, tasks))
        assert all(task.cancelled() for task in tasks)
        remaining -= len(tasks)


@contextmanager
def raising_handler() -> Iterator[Callable[[], None]]:
    """Yield a function that raises Interrupt in the main thread by a signal, from any thread.

    At the end no signal raises any more.
    """
    is_armed = True

    def interrupt(_: int, __: FrameType | None) -> None:
        if is_armed:
            raise Interrupt

    assert threading.current_thread() is threading.main_thread()
    previous = signal.signal(signal.SIGUSR1, interrupt)
    try:
        yield lambda: os.kill(os.getpid(), signal.SIGUSR1)
    finally:
        is_armed = False
        signal.signal(signal.SIGUSR1, previous)
