"""Wait for a connection, in order, while all connections of a redis-py pool are in use.

A pool of redis-py raises an error if all its connections are in use. That is not an outage: the
server is well, and another thread or task returns a connection soon. So calls wait in a queue. The
first one tries the pool whenever a connection is returned, and at short intervals, because the
application may use the pool too. All others wait behind it, and so do new calls.

If the server does not answer those that have a connection, the calls that wait for one meet the
same outage.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Any, Final, TypeVar
from weakref import WeakSet

from redis import exceptions

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


def _error_at_end(timeout: float, answered_at: float, busy: int) -> Exception:
    """Return the error of a call that has waited for a connection for `timeout` seconds.

    answered_at: when another call that uses the pool was answered.
    busy: how many calls have a connection, or try to connect.
    """
    if busy > 0 and monotonic() - answered_at > timeout / 2:
        # These calls do not wait for the pool, but for the server: a client that retries to connect
        # may do that for much longer than its timeouts say.
        return NotSent(exceptions.TimeoutError(f"no answer within {timeout / 2:g} seconds"))
    return PoolFull(timeout)


class _Waiter:
    """A call of a thread that waits for a connection."""

    def __init__(self, timeout: float) -> None:
        self.event = threading.Event()
        self.deadline = monotonic() + timeout
        self.is_trying = False
        self.outage: BaseException | None = None

    @property
    def exists(self) -> bool:
        """Whether it still waits, and was not interrupted by an exception."""
        return self.is_trying or monotonic() < self.deadline + 1


class PoolQueue:
    """The threads that wait for a connection of a pool.

    busy: the threads that use the pool, with those that wait.
    answered_at: when a call was answered while another one waited.
    """

    def __init__(self) -> None:
        self.waiters: deque[_Waiter] = deque()
        self.busy: set[int] = set()
        self.answered_at = -math.inf
        _queues.add(self)

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
                    waiter.is_trying = True
                    with contextlib.suppress(PoolFull):
                        return _raise_pool_full(attempt)
                    waiter.is_trying = False
                if waiter.outage is not None:
                    raise NotSent(waiter.outage) from waiter.outage
                seconds = waiter.deadline - monotonic()
                if seconds <= 0:
                    waiting = sum(not each.is_trying for each in tuple(self.waiters))
                    raise _error_at_end(timeout, self.answered_at, len(self.busy) - waiting)
                waiter.event.wait(min(seconds, POLL_SECONDS if is_first else CHECK_SECONDS))
        finally:
            waiter.is_trying = False
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

    def forget(self) -> None:
        """Forget the threads of the parent, in a forked process."""
        self.waiters.clear()
        self.busy.clear()


_queues: WeakSet[PoolQueue] = WeakSet()


def _forget_parent() -> None:
    for queue in list(_queues):
        queue.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)


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
    """The tasks of an event loop that wait for a connection of a pool; see `PoolQueue`.

    busy: how many tasks use the pool, without those that wait.
    """

    def __init__(self) -> None:
        self.waiters: deque[_AsyncWaiter] = deque()
        self.busy = 0
        self.answered_at = -math.inf

    @classmethod
    def of(cls, pool: Any) -> AsyncPoolQueue:
        """Return the queue of a pool, made when it is first needed."""
        queue: AsyncPoolQueue | None = getattr(pool, "_ratelimit_mail", None)
        if queue is None:
            queue = pool._ratelimit_mail = cls()
        return queue

    async def run(
        self, attempt: Callable[[], Awaitable[T]], timeout: float, waited: float = 0.0
    ) -> T:
        """See `PoolQueue.run`; `attempt` may hold the connection for long, unlike there.

        waited: how many of the `timeout` seconds the call has waited before.
        """
        if not self.waiters:
            with contextlib.suppress(PoolFull):
                return await self._attempt(attempt)
        waiter = _AsyncWaiter(timeout - waited)
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
                    raise _error_at_end(timeout, self.answered_at, self.busy)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(seconds, POLL_SECONDS) if is_first else seconds):
                        await waiter.event.wait()
        finally:
            with contextlib.suppress(ValueError):
                self.waiters.remove(waiter)
            self.wake()

    async def _attempt(self, attempt: Callable[[], Awaitable[T]]) -> T:
        self.busy += 1
        try:
            result = await attempt()
        except Exception as error:
            if is_pool_full(error):
                raise PoolFull(0) from error
            if isinstance(error, TIMED_OUT):
                self.fail(error)
            self.wake()
            raise
        finally:
            self.busy -= 1
        self.answered_at = monotonic()
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
