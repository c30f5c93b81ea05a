"""The way to a server, in both colours: scripts are called by digest, and told where unknown.

A call is sent once: a client's own repeats would charge a message twice where only the answer
was lost. A cluster's client, or one bound to a single connection, repeats as its maker set it to.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

import redis.asyncio
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ratelimit_mail.backends.redis.programs import Program
from ratelimit_mail.backends.redis.troubles import TROUBLES, explained
from ratelimit_mail.showing import show

__all__ = ["AsyncLink", "Link", "place_of"]

MOST_CONNECTIONS: Final = 64
"""How many calls of one event loop are under way at once; more only wait inside the server."""

_Part = bytes | str | int


def place_of(client: Any) -> str:
    """Where a client's server is, for people, without user name and password."""
    pool = getattr(client, "connection_pool", None)
    if pool is None:
        return "the Redis Cluster"
    service = getattr(pool, "service_name", None)
    if service is not None:
        return f"Redis, the master of {service!r} by Sentinel"
    told = pool.connection_kwargs
    if "path" in told:
        return f"Redis at {told['path']}"
    return f"Redis at {told.get('host', 'localhost')}:{told.get('port', 6379)}/{told.get('db', 0)}"


def _node_of(client: Any, key: bytes) -> str:
    try:
        return str(client.get_node_from_key(key).name)
    except (*TROUBLES, AttributeError, LookupError):  # not connected yet, or in between
        return ""


class Link:
    """A client of redis-py, made when it is first needed."""

    def __init__(self, make: Callable[[], Any], *, sharded: bool, where: str) -> None:
        self.sharded = sharded
        self.where = where
        self._make = make
        self._lock = threading.Lock()
        self._client: Any = None
        self._send: Callable[..., Any] = self._first

    @classmethod
    def to(cls, client: Any) -> Link:
        """The link by a client that is there. Raises TypeError for what is none."""
        if not isinstance(client, redis.Redis | redis.RedisCluster):
            raise TypeError(
                "client: a redis.Redis or redis.RedisCluster is needed (or its asyncio twin for an"
                f" AsyncRedisBackend), not {show(type(client))}"
            )
        return cls(
            lambda: client,
            sharded=isinstance(client, redis.RedisCluster),
            where=place_of(client),
        )

    def _first(self, *command: _Part) -> Any:
        """Make the client, which may connect, and send a command."""
        with self._lock:
            if self._client is None:
                self._client = self._make()
        # A client that is bound to one connection has a lock for it.
        pooled = not self.sharded and self._client.connection is None
        self._send = self._once if pooled else self._client.execute_command
        return self._send(*command)

    def _once(self, *command: _Part) -> Any:
        """Send a command by a connection of the pool, and read its answer."""
        pool = self._client.connection_pool
        connection = pool.get_connection()
        try:
            connection.send_command(*command)
            return connection.read_response()
        finally:
            pool.release(connection)

    def run(self, program: Program, keys: Sequence[bytes], arguments: Sequence[bytes]) -> Any:
        """What a program replies."""
        try:
            try:
                return self._send("EVALSHA", program.sha, len(keys), *keys, *arguments)
            except NoScriptError:  # a new server, a restart, a SCRIPT FLUSH
                return self._send("EVAL", program.text, len(keys), *keys, *arguments)
        except TROUBLES as error:
            raise explained(error, self.where) from error

    def slot(self, key: bytes) -> int:
        """The slot of a key in a cluster."""
        return key_slot(key)

    def node(self, key: bytes) -> str:
        """The node of a cluster that has a key, as far as is known."""
        return _node_of(self._client, key)

    def close(self) -> None:
        """Close the client's connections."""
        if self._client is not None:
            self._client.close()


class AsyncLink:
    """The same, for a client to be awaited."""

    client: Any

    def __init__(self, client: Any) -> None:
        if not isinstance(client, redis.asyncio.Redis | redis.asyncio.RedisCluster):
            raise TypeError(
                "client: a redis.asyncio.Redis or redis.asyncio.RedisCluster is needed (or its"
                f" blocking twin for a RedisBackend), not {show(type(client))}"
            )
        self.client = client
        self.sharded = isinstance(client, redis.asyncio.RedisCluster)
        self.where = place_of(client)
        self._send: Callable[..., Any] = self._once
        most = MOST_CONNECTIONS
        if self.sharded:
            self._send = self._in_cluster
            self._starting: asyncio.Lock | None = asyncio.Lock()
        elif self.client.single_connection_client:
            self._send = self.client.execute_command
        else:
            most = min(most, self.client.connection_pool.max_connections)
        self._places = asyncio.Semaphore(most)
        self._failures = 0

    async def _once(self, *command: _Part) -> Any:
        failures = self._failures
        async with self._places:
            if self._failures != failures:
                raise ConnectionError("it did not answer those who came before")
            pool = self.client.connection_pool
            try:
                connection = await pool.get_connection()
                try:
                    await connection.send_command(*command)
                    return await connection.read_response()
                finally:
                    await pool.release(connection)
            except (OSError, RedisConnectionError, RedisTimeoutError):
                self._failures += 1
                raise

    async def _in_cluster(self, *command: _Part) -> Any:
        if self._starting is not None:
            # Started by several calls at once, the client cuts connections that are in use.
            async with self._starting:
                await self.client.initialize()
            self._starting = None
        return await self.client.execute_command(*command)

    async def run(self, program: Program, keys: Sequence[bytes], arguments: Sequence[bytes]) -> Any:
        """See `Link.run`."""
        try:
            try:
                return await self._send("EVALSHA", program.sha, len(keys), *keys, *arguments)
            except NoScriptError:
                return await self._send("EVAL", program.text, len(keys), *keys, *arguments)
        except TROUBLES as error:
            raise explained(error, self.where) from error

    def slot(self, key: bytes) -> int:
        """See `Link.slot`."""
        return key_slot(key)

    def node(self, key: bytes) -> str:
        """See `Link.node`."""
        return _node_of(self.client, key)

    async def close(self) -> None:
        """See `Link.close`."""
        await self.client.aclose()
