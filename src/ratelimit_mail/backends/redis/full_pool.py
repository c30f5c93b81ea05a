"""Wait for a connection, in order, while all connections of a redis-py pool are in use.

A pool of redis-py raises an error if all its connections are in use. That is not an outage: the
server is well, and another thread or task returns a connection soon. So calls wait in a queue. The
first one tries the pool whenever a connection is returned, and at short intervals, because the
application may use the pool too. All others wait behind it, and so do new calls.

If a call times out meanwhile, the server is away: then the queue ends with that error.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Any, Final, TypeVar

from ratelimit_mail.backends.redis.errors import TIMED_OUT, NotSent, PoolFull, is_pool_full

__all__ = ["AsyncPoolQueue", "PoolQueue", "longest_wait"]

POLL_SECONDS: Final = 0.005
"""How often the first call tries the pool, if no connection is returned by this library."""

CHECK_SECONDS: Final = 0.25
"""How often the other calls check whether the first one still exists."""

DEFAULT_TIMEOUT: Final = 5.0
"""The timeout that redis-py 8 uses for a client without timeouts."""

T = TypeVar("T")


def longest_wait(settings: Mapping[str, Any]) -> float:
    """Return how many seconds a call waits for a connection with these settings.

    A call that has a connection may take as long to connect and to get an answer. So a call that
    waits this long while no other call times out waits for a pool that is too small.
    """
    timeouts = (settings.get("socket_connect_timeout"), settings.get("socket_timeout"))
    return sum(DEFAULT_TIMEOUT if each is None else float(each) for each in timeouts)


class _Waiter:
    """A call of a thread that waits for a connection."""

    def __init__(self, timeout: float) -> None:
        self.event = threading.Event()
        self.deadline = monotonic() + timeout
        self.outage: BaseException | None = None
        self._pid = os.getpid()

    @property
    def exists(self) -> bool:
        """Whether it still waits: not in the parent of this process, and not interrupted."""
        return self._pid == os.getpid() and monotonic() < self.deadline + 1


class PoolQueue:
    """The threads that wait for a connection of a pool."""

    def __init__(self) -> None:
        self.waiters: deque[_Waiter] = deque()

    def run(self, attempt: Callable[[], T], timeout: float) -> T:
        """Return the result of `attempt`, which is repeated while the pool is full.

        Raises PoolFull after `timeout` seconds, and NotSent if the server is away.
        """
        if not self.waiters:
            with contextlib.suppress(PoolFull):
                return _raise_pool_full(attempt)
        waiter = _Waiter(timeout)
        try:
            self.waiters.append(waiter)
            while True:
                waiter.event.clear()
                is_first = self._first() is waiter
                if is_first:
                    with contextlib.suppress(PoolFull):
                        return _raise_pool_full(attempt)
                if waiter.outage is not None:
                    raise NotSent(waiter.outage) from waiter.outage
                seconds = waiter.deadline - monotonic()
                if seconds <= 0:
                    raise PoolFull(timeout)
                waiter.event.wait(min(seconds, POLL_SECONDS if is_first else CHECK_SECONDS))
        finally:
            with contextlib.suppress(ValueError):
                self.waiters.remove(waiter)
            self.wake()

    def wake(self) -> None:
        """Let the first thread try, because a connection was returned."""
        first = self._first()
        if first is not None:
            first.event.set()

    def fail(self, error: BaseException) -> None:
        """End the waiting of all threads, because the server does not answer."""
        for waiter in tuple(self.waiters):
            waiter.outage = error
            waiter.event.set()

    def _first(self) -> _Waiter | None:
        with contextlib.suppress(IndexError):  # another thread may have removed the last one
            while not self.waiters[0].exists:
                self.waiters.popleft()
            return self.waiters[0]
        return None


def _raise_pool_full(attempt: Callable[[], T]) -> T:
    """Return the result of `attempt`; PoolFull if the pool is full."""
    try:
        return attempt()
    except Exception as error:
        if is_pool_full(error):
            raise PoolFull(0) from error
        raise


class _AsyncWaiter:
    """A call of a task that waits for a connection."""

    def __init__(self, timeout: float) -> None:
        self.event = asyncio.Event()
        self.deadline = monotonic() + timeout
        self.outage: BaseException | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def exists(self) -> bool:
        """Whether it still waits: not in another event loop, which has ended."""
        return self._loop is asyncio.get_running_loop()


class AsyncPoolQueue:
    """The tasks of an event loop that wait for a connection of a pool; see `PoolQueue`."""

    def __init__(self) -> None:
        self.waiters: deque[_AsyncWaiter] = deque()

    async def run(self, attempt: Callable[[], Awaitable[T]], timeout: float) -> T:
        """See `PoolQueue.run`; `attempt` may hold the connection for long, unlike there."""
        if not self.waiters:
            with contextlib.suppress(PoolFull):
                return await self._attempt(attempt)
        waiter = _AsyncWaiter(timeout)
        self.waiters.append(waiter)
        try:
            while True:
                waiter.event.clear()
                is_first = self._first() is waiter
                if is_first:
                    # It takes a connection at once, and the next one need not wait until the
                    # attempt ends.
                    self.waiters.popleft()
                    self.wake()
                    with contextlib.suppress(PoolFull):
                        return await self._attempt(attempt)
                    self.waiters.appendleft(waiter)
                if waiter.outage is not None:
                    raise NotSent(waiter.outage) from waiter.outage
                seconds = waiter.deadline - monotonic()
                if seconds <= 0:
                    raise PoolFull(timeout)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(seconds, POLL_SECONDS) if is_first else seconds):
                        await waiter.event.wait()
        finally:
            with contextlib.suppress(ValueError):
                self.waiters.remove(waiter)
            self.wake()

    async def _attempt(self, attempt: Callable[[], Awaitable[T]]) -> T:
        try:
            result = await attempt()
        except Exception as error:
            if is_pool_full(error):
                raise PoolFull(0) from error
            if isinstance(error, TIMED_OUT):
                self.fail(error)
            self.wake()
            raise
        self.wake()
        return result

    def wake(self) -> None:
        """Let the first task try, because a connection was returned."""
        if self.waiters:
            first = self._first()
            if first is not None:
                first.event.set()

    def fail(self, error: BaseException) -> None:
        """End the waiting of all tasks, because the server does not answer."""
        for waiter in tuple(self.waiters):
            if waiter.exists:
                waiter.outage = error
                waiter.event.set()

    def _first(self) -> _AsyncWaiter | None:
        while self.waiters and not self.waiters[0].exists:
            self.waiters.popleft()
        return self.waiters[0] if self.waiters else None
