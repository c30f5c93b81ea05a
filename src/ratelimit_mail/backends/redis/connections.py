"""Connections of a pool that are kept for some milliseconds, so that not every call asks the pool.

With client and server on one core, a check then takes 0.75 times as long.
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

__all__ = ["LONGEST", "PipelinedConnections", "ReusedConnections"]

LONGEST: Final = 0.005
"""For how many seconds; then the pool sees a connection again, which looks whether the server has
closed it, whether there is another master, and whether there is another password."""

_KNOWN: Final = (redis.ConnectionPool, SentinelConnectionPool)
"""Pools that make nobody wait for a connection that another gives back."""


class ReusedConnections:
    """Calls by the connections of a pool, and those that are kept between them.

    Others may need connections of the pool too: at most half as many are kept as it may have.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        # Each with the time when the pool gave it; for all who call by the pool, as long as it is.
        self._idle: list[tuple[Any, float]] = vars(pool).setdefault("_ratelimit_mail_idle", [])
        may_keep = type(pool) in _KNOWN and pool.cache is None
        self._most = pool.max_connections // 2 if may_keep else 0

    def call(self, *command: bytes | str | int) -> Any:
        """Send a command once, and read its answer."""
        connection, since = self._take()
        answered = False
        try:
            connection.send_command(*command)
            answer = connection.read_response()
            answered = True
            return answer
        except ResponseError:
            answered = True
            raise
        finally:
            if answered and len(self._idle) < self._most:
                self._idle.append((connection, since))
            else:
                if not answered:  # or what still comes would answer the next command
                    connection.disconnect()
                self._pool.release(connection)

    def _take(self) -> tuple[Any, float]:
        now = monotonic()
        try:
            try:
                connection, since = self._idle.pop()
            except IndexError:
                pass
            else:
                if now - since < LONGEST and connection.pid == os.getpid():  # the same process
                    return connection, since
                self._pool.release(connection)
            return self._pool.get_connection(), now
        except UNREACHABLE as error:
            raise NotSent(error) from error

    def give_back(self) -> None:
        """Let the pool have what is kept."""
        while self._idle:
            self._pool.release(self._idle.pop()[0])


MOST_CONNECTIONS: Final = 4
"""How many are in use at once."""

MOST_TOGETHER: Final = 32
"""How many calls are sent together, and so lose their answers together."""

_Part = bytes | str | int
_Call = tuple[Sequence[_Part], asyncio.Future[Any]]


class PipelinedConnections:
    """Calls of one event loop by the connections of a pool."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._most = min(MOST_CONNECTIONS, pool.max_connections)
        self._waiting: deque[_Call] = deque()
        self._carriers: list[asyncio.Task[None]] = []

    async def call(self, *command: _Part) -> Any:
        """Send a command once, and read its answer."""
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append((command, answer))
        self._carriers = [carrier for carrier in self._carriers if not carrier.done()]
        if len(self._carriers) < self._most:
            self._carriers.append(asyncio.create_task(self._carry()))
        return await answer

    async def close(self) -> None:
        """Break off what is under way."""
        for carrier in self._carriers:
            carrier.cancel()
        await asyncio.gather(*self._carriers, return_exceptions=True)
        _fail(self._next(len(self._waiting)), NotSent(_closed()))

    async def _carry(self) -> None:
        """Send what waits, until nothing does."""
        while self._waiting:
            try:
                connection = await self._pool.get_connection()
            except Exception as error:
                not_sent = NotSent(error) if isinstance(error, UNREACHABLE) else error
                _fail(self._next(len(self._waiting)), not_sent)
                return
            calls = self._next(MOST_TOGETHER)
            try:
                await _exchange(connection, calls)
            except BaseException as error:
                # What still comes would answer the next command.
                await connection.disconnect(nowait=True)
                broken = error if isinstance(error, Exception) else _closed()
                _fail(calls, broken)
                if isinstance(broken, UNREACHABLE):
                    _fail(self._next(len(self._waiting)), NotSent(broken))
                if broken is not error:
                    raise
            finally:
                await self._pool.release(connection)

    def _next(self, most: int) -> list[_Call]:
        """Those that waited longest; without those whose task has been cancelled."""
        calls: list[_Call] = []
        while self._waiting and len(calls) < most:
            call = self._waiting.popleft()
            if not call[1].done():
                calls.append(call)
        return calls


async def _exchange(connection: Any, calls: Sequence[_Call]) -> None:
    """Send commands, and hand each its answer."""
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
            answer.exception()  # or asyncio complains where its task is cancelled just now


def _closed() -> ConnectionError:
    return ConnectionError("it was closed")
