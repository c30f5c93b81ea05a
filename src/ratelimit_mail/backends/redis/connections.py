"""Use the connections of a redis-py pool at a lower cost: reused (sync) or pipelined (async).

`ReusedConnections` holds on to a connection for some milliseconds, so that not every call asks the
pool. If client and server share one core, a check then takes 0.75 times as long.
`PipelinedConnections` sends the waiting calls of many tasks together.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Sequence
from functools import partial
from threading import get_ident
from time import monotonic
from typing import Any, Final

import redis
import redis.asyncio
from redis.exceptions import ResponseError
from redis.sentinel import SentinelConnectionPool

from ratelimit_mail._util.undisturbed import INTERRUPTIONS, undisturbed
from ratelimit_mail.backends.redis.errors import (
    CLIENT_ERRORS,
    TIMED_OUT,
    UNREACHABLE,
    NotSent,
    PoolFull,
    is_pool_full,
)
from ratelimit_mail.backends.redis.full_pool import AsyncPoolQueue, PoolQueue, longest_wait

__all__ = [
    "MAX_CALLS_TOGETHER",
    "MAX_CONNECTIONS",
    "MAX_REUSE_SECONDS",
    "PipelinedConnections",
    "ReusedConnections",
    "close_outside_of_loop",
]

MAX_REUSE_SECONDS: Final = 0.005
"""How long a connection is reused. Then it is returned to the pool, which checks whether the server
has closed it, and whether there is another master or another password."""

_REUSABLE_POOLS: Final = (redis.ConnectionPool, SentinelConnectionPool)
"""Pools in which no caller waits until another one releases a connection."""

_Argument = bytes | str | int


class _PoolState:
    """What the backends of a process that use the same pool share.

    idle: the connections that are held, each with the time at which it left the pool.
    """

    def __init__(self) -> None:
        self.idle: list[tuple[Any, float]] = []
        self.queue = PoolQueue()


class ReusedConnections:
    """Send commands by the connections of a pool, and reuse them for the next commands.

    The application may need connections of the pool too, so at most half of its `max_connections`
    are held. If all connections are in use, a call waits until one is returned.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        state: _PoolState = vars(pool).get("_ratelimit_mail") or vars(pool).setdefault(
            "_ratelimit_mail", _PoolState()
        )
        self._idle = state.idle
        self._queue = state.queue
        is_reusable = type(pool) in _REUSABLE_POOLS and pool.cache is None
        self._max_idle = pool.max_connections // 2 if is_reusable else 0

    def call(self, *command: _Argument) -> Any:
        """Send a command once, and return its answer."""
        queue = self._queue
        thread = get_ident()
        try:
            queue.busy.add(thread)
            try:
                connection, since = self._wait() if queue.waiters else self._take()
            except UNREACHABLE as error:
                connection, since = self._wait_if_full(error)
            is_answered = False
            try:
                connection.send_command(*command)
                answer = connection.read_response(disconnect_on_error=False)
                is_answered = True
                return answer
            except ResponseError:
                is_answered = True
                raise
            except TIMED_OUT as error:
                queue.fail(error)
                raise
            except CLIENT_ERRORS:
                raise
            except BaseException as error:  # of a signal handler
                deferred = INTERRUPTIONS.deferred
                if deferred is None:
                    raise
                with contextlib.suppress(*CLIENT_ERRORS):
                    late = partial(self._late_answer, connection)
                    answer = undisturbed(late, interruptions=deferred)
                    is_answered = True
                    deferred.insert(0, error)
                    return answer
                raise
            finally:
                if is_answered and len(self._idle) < self._max_idle:
                    self._idle.append((connection, since))
                else:
                    if not is_answered:  # or a late answer would be read as that of the next one
                        connection.disconnect()
                    self._pool.release(connection)
                if queue.waiters:
                    if is_answered:
                        queue.answered_at = monotonic()
                    queue.wake()
        finally:
            queue.busy.discard(thread)

    def _late_answer(self, connection: Any) -> Any:
        """Return the answer to a command that was sent, unless it was not sent at all."""
        if not connection.can_read(timeout=longest_wait(self._pool.connection_kwargs)):
            raise redis.TimeoutError("there is no answer")
        return connection.read_response(disconnect_on_error=False)

    def _wait_if_full(self, error: Exception) -> tuple[Any, float]:
        """Wait for a connection if `error` says that the pool is full; else raise NotSent."""
        if isinstance(error, NotSent):
            raise error
        if is_pool_full(error):
            if isinstance(self._pool, redis.BlockingConnectionPool):  # it has its own queue
                raise PoolFull(self._pool.timeout or 0) from error
            return self._wait()
        if isinstance(error, TIMED_OUT):
            self._queue.fail(error)
        raise NotSent(error) from error

    def _wait(self) -> tuple[Any, float]:
        """Return a connection once all calls that waited before have got one."""
        try:
            return self._queue.run(self._take, longest_wait(self._pool.connection_kwargs))
        except NotSent:
            raise
        except UNREACHABLE as error:
            if isinstance(error, TIMED_OUT):
                self._queue.fail(error)
            raise NotSent(error) from error

    def _take(self) -> tuple[Any, float]:
        """Return a connection that is held, or one of the pool, with the time of now."""
        now = monotonic()
        try:
            connection, since = self._idle.pop()
        except IndexError:
            pass
        else:
            # A forked process must not use the connections of its parent.
            if now - since < MAX_REUSE_SECONDS and connection.pid == os.getpid():
                return connection, since
            self._pool.release(connection)
        return self._pool.get_connection(), now

    def release_all(self) -> None:
        """Return all held connections to the pool."""
        while self._idle:
            self._pool.release(self._idle.pop()[0])


MAX_CONNECTIONS: Final = 4
"""How many connections an event loop uses at the same time."""

MAX_CALLS_TOGETHER: Final = 32
"""How many calls are sent together, and would lose their answers together."""

_Call = tuple[Sequence[_Argument], asyncio.Future[Any], float]
"""A command, the future of its answer, and the time at which it was made."""


class PipelinedConnections:
    """Send the commands of one event loop by the connections of a pool, many at once.

    If all connections are in use, the calls wait until one is returned.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        # The queue belongs to the pool, so that all backends that use the pool share it.
        self._queue = AsyncPoolQueue.of(pool)
        self._max_senders = min(MAX_CONNECTIONS, pool.max_connections)
        is_blocking = isinstance(pool, redis.asyncio.BlockingConnectionPool)  # has its own queue
        self._longest_wait = 0.0 if is_blocking else longest_wait(pool.connection_kwargs)
        self._waiting: deque[_Call] = deque()
        self._senders: list[asyncio.Task[None]] = []

    async def call(self, *command: _Argument) -> Any:
        """Send a command once, and return its answer."""
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append((command, answer, monotonic()))
        self._senders = [sender for sender in self._senders if not sender.done()]
        if len(self._senders) < self._max_senders:
            self._senders.append(asyncio.create_task(self._send_waiting()))
        return await answer

    async def close(self) -> None:
        """Cancel the calls in progress; those that wait fail as not sent."""
        for sender in self._senders:
            sender.cancel()
        await asyncio.gather(*self._senders, return_exceptions=True)
        _fail(self._next_calls(len(self._waiting)), NotSent(_closed_error()))

    def abandon(self, *, is_loop_closed: bool) -> None:
        """End the calls in progress outside of their event loop, which does not run."""
        for sender in self._senders:
            if not is_loop_closed:
                sender.cancel()
            elif not sender.done():
                task: Any = sender
                task._log_destroy_pending = False  # it is ended here
                with contextlib.suppress(Exception):
                    task.get_coro().close()

    async def _send_waiting(self) -> None:
        """Send the waiting calls by one connection at a time, until no call waits."""
        queue = self._queue
        while self._waiting:
            try:
                if queue.waiters:
                    connection = await self._wait()
                else:
                    queue.busy += 1
                    try:
                        connection = await self._pool.get_connection()
                    finally:
                        queue.busy -= 1
            except Exception as error:
                try:
                    connection = await self._wait_if_full(error)
                except PoolFull as pool_full:
                    self._fail_older_than(self._longest_wait, pool_full)
                    continue
                except Exception as other:
                    not_sent = NotSent(other) if isinstance(other, UNREACHABLE) else other
                    _fail(self._next_calls(len(self._waiting)), not_sent)
                    return
            calls = self._next_calls(MAX_CALLS_TOGETHER)
            writer = connection._writer
            is_loop_gone = False
            queue.busy += 1
            try:
                await _exchange(connection, calls)
                if queue.waiters:
                    queue.answered_at = monotonic()
            except GeneratorExit:
                is_loop_gone = True  # nothing can be awaited
                raise
            except BaseException as error:
                # A late answer would be read as that of the next command. What is not sent yet must
                # not delay the end of the event loop.
                writer.transport.abort()
                await connection.disconnect(nowait=True)
                cause = error if isinstance(error, Exception) else _closed_error()
                _fail(calls, cause)
                if isinstance(cause, TIMED_OUT):
                    queue.fail(cause)
                if isinstance(cause, UNREACHABLE):
                    _fail(self._next_calls(len(self._waiting)), NotSent(cause))
                if cause is not error:
                    raise
            finally:
                queue.busy -= 1
                if not is_loop_gone:
                    await self._pool.release(connection)
                    if queue.waiters:
                        queue.wake()

    async def _wait_if_full(self, error: Exception) -> Any:
        """Wait for a connection if `error` says that the pool is full; else raise it again."""
        if is_pool_full(error) and not isinstance(error, PoolFull):
            if self._longest_wait:
                return await self._wait()
            raise PoolFull(self._pool.timeout) from error
        if isinstance(error, TIMED_OUT):
            self._queue.fail(error)
        raise error

    async def _wait(self) -> Any:
        """Return a connection; wait for it as long as the call that was made first may wait."""
        waited = monotonic() - self._waiting[0][2]
        return await self._queue.run(self._pool.get_connection, self._longest_wait, waited)

    def _fail_older_than(self, seconds: float, error: Exception) -> None:
        """Fail the calls that have waited for so long."""
        end = monotonic() - seconds
        while self._waiting and self._waiting[0][2] <= end:
            _fail([self._waiting.popleft()], error)

    def _next_calls(self, limit: int) -> list[_Call]:
        """Remove and return the calls that waited longest, without those of cancelled tasks."""
        calls: list[_Call] = []
        while self._waiting and len(calls) < limit:
            call = self._waiting.popleft()
            if not call[1].done():
                calls.append(call)
        return calls


async def _exchange(connection: Any, calls: Sequence[_Call]) -> None:
    """Send the commands together, and set the answer of each."""
    if not calls:
        return
    commands = connection.pack_commands([call[0] for call in calls])
    await connection.send_packed_command(commands)
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        # asyncio.wait_for of Python 3.11, by which redis-py sends, may lose a cancellation. The end
        # of the event loop would then wait for the answers.
        raise asyncio.CancelledError
    for call in calls:
        try:
            result = await connection.read_response()
        except ResponseError as error:
            _fail([call], error)
        else:
            if not call[1].done():
                call[1].set_result(result)


def _fail(calls: Sequence[_Call], error: Exception) -> None:
    for _, answer, _ in calls:
        if not answer.done():
            answer.set_exception(error)
            answer.exception()  # or asyncio reports it as never retrieved if its task is cancelled


def _closed_error() -> ConnectionError:
    return ConnectionError("it was closed")


def close_outside_of_loop(connection: Any, *, is_loop_closed: bool) -> None:
    """Close an async connection whose event loop does not run.

    asyncio closes a socket by a callback of the event loop. In a closed event loop it does not run.
    """
    writer = connection._writer
    connection._reader = connection._writer = None  # it is not connected any more
    if writer is None:
        return
    # With TLS, a transport is on top of another one.
    upper: Any = writer.transport
    lower: Any = getattr(getattr(upper, "_ssl_protocol", None), "_transport", None)
    for transport in filter(None, (upper, lower)):
        with contextlib.suppress(Exception):
            transport.close()  # an error of a closed event loop comes after it is marked as closing
        if is_loop_closed:
            with contextlib.suppress(Exception):
                transport._call_connection_lost(None)
