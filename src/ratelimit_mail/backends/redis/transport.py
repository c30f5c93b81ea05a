"""The way to a server, in both colours: scripts are called by digest, and told where unknown.

A call is sent once, whatever the client's own settings: its repeats would charge a message twice
where only the answer was lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

import redis.asyncio
from redis import exceptions
from redis.crc import key_slot
from redis.exceptions import NoScriptError

from ratelimit_mail._util.text import show
from ratelimit_mail.backends.redis.connections import PipelinedConnections, ReusedConnections
from ratelimit_mail.backends.redis.errors import CLIENT_ERRORS, UNREACHABLE, backend_error
from ratelimit_mail.backends.redis.scripts import Script

__all__ = ["AsyncTransport", "Transport", "place_of"]

_ELSEWHERE: Final = (exceptions.AskError, exceptions.TryAgainError)
"""Not decided here; MovedError is one of the first."""

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


def _sentinels_of(client: Any) -> Sequence[Any]:
    """The clients by which a Sentinel's client asks for the master."""
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    return () if manager is None else manager.sentinels


def _node_of(client: Any, key: bytes) -> str:
    try:
        return str(client.get_node_from_key(key).name)
    except (*CLIENT_ERRORS, AttributeError, LookupError):  # not connected yet, or in between
        return ""


class Transport:
    """A client of redis-py, made when it is first needed."""

    def __init__(self, make: Callable[[], Any], *, sharded: bool, where: str) -> None:
        self.sharded = sharded
        self.where = where
        self._make = make
        self._lock = threading.Lock()
        self._client: Any = None
        self._send: Callable[..., Any] = self._first

    @classmethod
    def to(cls, client: Any) -> Transport:
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
        self._send = self._in_cluster
        if not self.sharded:
            self._send = ReusedConnections(self._client.connection_pool).call
        return self._send(*command)

    def _in_cluster(self, *command: _Part) -> Any:
        """Send a command to the node that has its first key, as far as the client knows."""
        client = self._client
        try:
            node = client.get_node_from_key(command[3])
            if node is not None and node.redis_connection is not None:
                return ReusedConnections(node.redis_connection.connection_pool).call(*command)
        except _ELSEWHERE:
            pass
        except UNREACHABLE:
            with contextlib.suppress(*CLIENT_ERRORS):
                client.nodes_manager.initialize()  # somebody else may have taken over
            raise
        return client.execute_command(*command)

    def run(self, program: Script, keys: Sequence[bytes], arguments: Sequence[bytes]) -> Any:
        """What a program replies."""
        try:
            try:
                return self._send("EVALSHA", program.sha, len(keys), *keys, *arguments)
            except NoScriptError:  # a new server, a restart, a SCRIPT FLUSH
                return self._send("EVAL", program.text, len(keys), *keys, *arguments)
        except CLIENT_ERRORS as error:
            raise backend_error(error, self.where) from error

    def slot(self, key: bytes) -> int:
        """The slot of a key in a cluster."""
        return key_slot(key)

    def node(self, key: bytes) -> str:
        """The node of a cluster that has a key, as far as is known."""
        return _node_of(self._client, key)

    def close(self) -> None:
        """Close the client's connections."""
        if self._client is not None:
            if not self.sharded:
                ReusedConnections(self._client.connection_pool).give_back()
            self._client.close()
            for sentinel in _sentinels_of(self._client):
                sentinel.close()


class AsyncTransport:
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
        self._piped: PipelinedConnections | None = None
        self._send: Callable[..., Any] = self._in_cluster
        if self.sharded:
            self._starting: asyncio.Lock | None = asyncio.Lock()
        else:
            self._piped = PipelinedConnections(self.client.connection_pool)
            self._send = self._piped.call

    async def _in_cluster(self, *command: _Part) -> Any:
        if self._starting is not None:
            # Started by several calls at once, the client cuts connections that are in use.
            async with self._starting:
                await self.client.initialize()
            self._starting = None
        client = self.client
        try:
            node = client.get_node_from_key(command[3])
            if node is not None:
                return await node.execute_command(*command)
        except _ELSEWHERE:
            pass
        except UNREACHABLE:
            with contextlib.suppress(*CLIENT_ERRORS):
                await client.nodes_manager.initialize()
            raise
        return await client.execute_command(*command)

    async def run(self, program: Script, keys: Sequence[bytes], arguments: Sequence[bytes]) -> Any:
        """See `Link.run`."""
        try:
            try:
                return await self._send("EVALSHA", program.sha, len(keys), *keys, *arguments)
            except NoScriptError:
                return await self._send("EVAL", program.text, len(keys), *keys, *arguments)
        except CLIENT_ERRORS as error:
            raise backend_error(error, self.where) from error

    def slot(self, key: bytes) -> int:
        """See `Link.slot`."""
        return key_slot(key)

    def node(self, key: bytes) -> str:
        """See `Link.node`."""
        return _node_of(self.client, key)

    async def close(self) -> None:
        """See `Link.close`."""
        if self._piped is not None:
            await self._piped.close()
        await self.client.aclose()
        for sentinel in _sentinels_of(self.client):
            await sentinel.aclose()
