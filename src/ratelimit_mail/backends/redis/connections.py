"""Use the connections of a redis-py pool at a lower cost: reused (sync) or pipelined (async).

`ReusedConnections` holds on to a connection for some milliseconds, so that not every call asks the
pool. If client and server share one core, a check then takes 0.75 times as long.
`PipelinedConnections` sends the waiting calls of many tasks together.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Sequence
from time import monotonic
from typing import Any, Final

import redis
from redis.exceptions import ResponseError
from redis.sentinel import SentinelConnectionPool

from ratelimit_mail.backends.redis.errors import UNREACHABLE, NotSent

__all__ = [
    "MAX_CALLS_TOGETHER",
    "MAX_CONNECTIONS",
    "MAX_REUSE_SECONDS",
    "PipelinedConnections",
    "ReusedConnections",
]

MAX_REUSE_SECONDS: Final = 0.005
"""How long a connection is reused. Then it is returned to the pool, which checks whether the server
has closed it, and whether there is another master or another password."""

_REUSABLE_POOLS: Final = (redis.ConnectionPool, SentinelConnectionPool)
"""Pools in which no caller waits until another one releases a connection."""

_Argument = bytes | str | int


class ReusedConnections:
    """Send commands by the connections of a pool, and reuse them for the next commands.

    The application may need connections of the pool too, so at most half of its `max_connections`
    are held.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        # Each with the time at which it left the pool. The list belongs to the pool, so that all
        # backends that use the pool share it.
        self._idle: list[tuple[Any, float]] = vars(pool).setdefault("_ratelimit_mail_idle", [])
        is_reusable = type(pool) in _REUSABLE_POOLS and pool.cache is None
        self._max_idle = pool.max_connections // 2 if is_reusable else 0

    def call(self, *command: _Argument) -> Any:
        """Send a command once, and return its answer."""
        connection, since = self._acquire()
        is_answered = False
        try:
            connection.send_command(*command)
            answer = connection.read_response()
            is_answered = True
            return answer
        except ResponseError:
            is_answered = True
            raise
        finally:
            if is_answered and len(self._idle) < self._max_idle:
                self._idle.append((connection, since))
            else:
                if not is_answered:  # or a late answer would be read as that of the next command
                    connection.disconnect()
                self._pool.release(connection)

    def _acquire(self) -> tuple[Any, float]:
        """Return a connection and the time at which it left the pool."""
        now = monotonic()
        try:
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
        except UNREACHABLE as error:
            raise NotSent(error) from error

    def release_all(self) -> None:
        """Return all held connections to the pool."""
        while self._idle:
            self._pool.release(self._idle.pop()[0])


MAX_CONNECTIONS: Final = 4
"""How many connections an event loop uses at the same time."""

MAX_CALLS_TOGETHER: Final = 32
"""How many calls are sent together, and would lose their answers together."""

_Call = tuple[Sequence[_Argument], asyncio.Future[Any]]
"""A command, and the future of its answer."""


class PipelinedConnections:
    """Send the commands of one event loop by the connections of a pool, many at once."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._max_senders = min(MAX_CONNECTIONS, pool.max_connections)
        self._waiting: deque[_Call] = deque()
        self._senders: list[asyncio.Task[None]] = []

    async def call(self, *command: _Argument) -> Any:
        """Send a command once, and return its answer."""
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append((command, answer))
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

    async def _send_waiting(self) -> None:
        """Send the waiting calls by one connection at a time, until no call waits."""
        while self._waiting:
            try:
                connection = await self._pool.get_connection()
            except Exception as error:
                not_sent = NotSent(error) if isinstance(error, UNREACHABLE) else error
                _fail(self._next_calls(len(self._waiting)), not_sent)
                return
            calls = self._next_calls(MAX_CALLS_TOGETHER)
            try:
                await _exchange(connection, calls)
            except BaseException as error:
                # A late answer would be read as that of the next command.
                await connection.disconnect(nowait=True)
                cause = error if isinstance(error, Exception) else _closed_error()
                _fail(calls, cause)
                if isinstance(cause, UNREACHABLE):
                    _fail(self._next_calls(len(self._waiting)), NotSent(cause))
                if cause is not error:
                    raise
            finally:
                await self._pool.release(connection)

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
    commands = connection.pack_commands([command for command, _ in calls])
    await connection.send_packed_command(commands)
    for call in calls:
        try:
            result = await connection.read_response()
        except ResponseError as error:
            _fail([call], error)
        else:
            if not call[1].done():
                call[1].set_result(result)


def _fail(calls: Sequence[_Call], error: Exception) -> None:
    for _, answer in calls:
        if not answer.done():
            answer.set_exception(error)
            answer.exception()  # or asyncio reports it as never retrieved if its task is cancelled


def _closed_error() -> ConnectionError:
    return ConnectionError("it was closed")
