"""Connections of a pool that are kept for some milliseconds, so that not every call asks the pool.

With client and server on one core, a check then takes 0.75 times as long.
"""

from __future__ import annotations

import os
from time import monotonic
from typing import Any, Final

import redis
from redis.exceptions import ResponseError
from redis.sentinel import SentinelConnectionPool

from ratelimit_mail.backends.redis.errors import AWAY, NotSent

__all__ = ["LONGEST", "Kept"]

LONGEST: Final = 0.005
"""For how many seconds; then the pool sees a connection again, which looks whether the server has
closed it, whether there is another master, and whether there is another password."""

_KNOWN: Final = (redis.ConnectionPool, SentinelConnectionPool)
"""Pools that make nobody wait for a connection that another gives back."""


class Kept:
    """Calls by the connections of a pool, and those that are kept between them.

    Others may need connections of the pool too: at most half as many are kept as it may have.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        # Each with the time when the pool gave it; for all who call by the pool, as long as it is.
        self._idle: list[tuple[Any, float]] = vars(pool).setdefault("_ratelimit_mail_kept", [])
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
        except AWAY as error:
            raise NotSent(error) from error

    def give_back(self) -> None:
        """Let the pool have what is kept."""
        while self._idle:
            self._pool.release(self._idle.pop()[0])
