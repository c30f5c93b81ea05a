"""Run scripts on a server through a redis-py client, sync and async.

A script is called by its digest; its text is sent if the server does not know it. A call is sent
once, whatever the client's own settings say: repeating a call whose answer was lost would charge a
message twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, Self

import redis.asyncio
from redis import exceptions
from redis.crc import key_slot
from redis.exceptions import NoScriptError

from ratelimit_mail._util.text import show
from ratelimit_mail.backends.redis.connections import (
    PipelinedConnections,
    ReusedConnections,
    close_outside_of_loop,
)
from ratelimit_mail.backends.redis.errors import (
    CLIENT_ERRORS,
    NO_SETTINGS,
    UNREACHABLE,
    backend_error,
)
from ratelimit_mail.backends.redis.full_pool import AsyncPoolQueue, PoolQueue, longest_wait
from ratelimit_mail.backends.redis.scripts import Script

__all__ = ["AsyncTransport", "Transport"]

_REDIRECTED: Final = (exceptions.AskError, exceptions.TryAgainError)
"""Another node decides. A MovedError is an AskError too."""

_Argument = bytes | str | int


def _describe_server(client: Any) -> str:
    """Return where the server of a client is, without user name and password."""
    pool = getattr(client, "connection_pool", None)
    if pool is None:
        return "the Redis Cluster"
    service = getattr(pool, "service_name", None)
    if service is not None:
        return f"Redis, the master of {service!r} by Sentinel"
    settings = pool.connection_kwargs
    if "path" in settings:
        return f"Redis at {settings['path']}"
    host, port = settings.get("host", "localhost"), settings.get("port", 6379)
    return f"Redis at {host}:{port}/{settings.get('db', 0)}"


def _sentinels_of(client: Any) -> Sequence[Any]:
    """Return the clients by which the client of a Sentinel set asks for the master."""
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    return () if manager is None else manager.sentinels


def _node_of(client: Any, key: bytes) -> str:
    try:
        return str(client.get_node_from_key(key).name)
    except (*CLIENT_ERRORS, AttributeError, LookupError):  # not connected, or during a change
        return ""


def _cluster_settings(client: Any) -> Mapping[str, Any]:
    """Return the settings of the connections of a cluster client."""
    manager_settings: Mapping[str, Any] = client.nodes_manager.connection_kwargs
    return manager_settings


def _settings(client: Any) -> Mapping[str, Any]:
    """Return the settings of the connections of a client; none if it has not been made."""
    if client is None:
        return NO_SETTINGS
    pool = getattr(client, "connection_pool", None)
    if pool is None:
        return _cluster_settings(client)
    settings: Mapping[str, Any] = pool.connection_kwargs
    return settings


class Transport:
    """A sync redis-py client, made when it is first needed.

    make_client: returns the client.
    sharded: whether that is the client of a cluster.
    server: a description of the server, without user name and password.
    """

    def __init__(self, make_client: Callable[[], Any], *, sharded: bool, server: str) -> None:
        self.sharded = sharded
        self.server = server
        self._make_client = make_client
        self._lock = threading.Lock()
        self._client: Any = None
        self._redirected = PoolQueue()
        self._send: Callable[..., Any] = self._connect_and_send

    @classmethod
    def from_client(cls, client: Any) -> Self:
        """Return the transport of an existing client; TypeError if it is not a sync client."""
        if not isinstance(client, redis.Redis | redis.RedisCluster):
            raise TypeError(
                "client: a redis.Redis or redis.RedisCluster is needed (or, for an"
                f" AsyncRedisBackend, its asyncio counterpart), not {show(type(client))}"
            )
        return cls(
            lambda: client,
            sharded=isinstance(client, redis.RedisCluster),
            server=_describe_server(client),
        )

    def _connect(self) -> None:
        """Make the client, which may connect."""
        with self._lock:
            if self._client is None:
                self._client = self._make_client()

    def _connect_and_send(self, *command: _Argument) -> Any:
        """Make the client, and send a command."""
        self._connect()
        self._send = self._send_to_node
        if not self.sharded:
            self._send = ReusedConnections(self._client.connection_pool).call
        return self._send(*command)

    def _send_to_node(self, *command: _Argument) -> Any:
        """Send a command to the node of a cluster that has its first key, as far as is known."""
        client = self._client
        try:
            node = client.get_node_from_key(command[3])
            if node is not None and node.redis_connection is not None:
                return ReusedConnections(node.redis_connection.connection_pool).call(*command)
        except _REDIRECTED:
            pass
        except UNREACHABLE:
            self._learn_nodes()
            raise
        return self._redirected.run(
            partial(client.execute_command, *command), longest_wait(_cluster_settings(client))
        )

    def _learn_nodes(self) -> None:
        """Learn the nodes of a cluster anew: a replica may have taken over."""
        with contextlib.suppress(*CLIENT_ERRORS):
            self._client.nodes_manager.initialize()

    def run(self, script: Script, keys: Sequence[bytes], arguments: Sequence[bytes]) -> Any:
        """Run a script, and return its reply."""
        try:
            try:
                return self._send("EVALSHA", script.sha, len(keys), *keys, *arguments)
            except NoScriptError:  # a new server, a restart, a SCRIPT FLUSH
                return self._send("EVAL", script.text, len(keys), *keys, *arguments)
        except CLIENT_ERRORS as error:
            raise backend_error(error, self.server, _settings(self._client)) from error

    def masters(self) -> Sequence[Any]:
        """Return the masters of a cluster, for `run_at`; one None for a single server."""
        if not self.sharded:
            return [None]
        try:
            self._connect()
            return list(self._client.get_primaries())
        except CLIENT_ERRORS as error:
            raise backend_error(error, self.server) from error

    def run_at(self, master: Any, script: Script, arguments: Sequence[bytes]) -> Any:
        """Run a script without declared keys at one of `masters`, and return its reply."""
        if master is None:
            return self.run(script, (), arguments)
        try:
            pool = self._client.get_redis_connection(master).connection_pool
            call = ReusedConnections(pool).call
            try:
                return call("EVALSHA", script.sha, 0, *arguments)
            except NoScriptError:
                return call("EVAL", script.text, 0, *arguments)
        except CLIENT_ERRORS as error:
            if isinstance(error, UNREACHABLE):
                self._learn_nodes()
            raise backend_error(error, self.server) from error

    def slot(self, key: bytes) -> int:
        """Return the slot of a key in a cluster."""
        return key_slot(key)

    def node(self, key: bytes) -> str:
        """Return the node of a cluster that has a key; empty if it is not known."""
        return _node_of(self._client, key)

    def close(self) -> None:
        """Close the client's connections."""
        if self._client is not None:
            if not self.sharded:
                ReusedConnections(self._client.connection_pool).release_all()
            self._client.close()
            for sentinel in _sentinels_of(self._client):
                sentinel.close()


class AsyncTransport:
    """An async redis-py client, which belongs to one event loop; see `Transport`."""

    def __init__(self, client: Any) -> None:
        if not isinstance(client, redis.asyncio.Redis | redis.asyncio.RedisCluster):
            raise TypeError(
                "client: a redis.asyncio.Redis or redis.asyncio.RedisCluster is needed (or, for a"
                f" RedisBackend, its sync counterpart), not {show(type(client))}"
            )
        self.sharded = isinstance(client, redis.asyncio.RedisCluster)
        self.server = _describe_server(client)
        self.is_closed = False
        self._calls = 0
        self._client: Any = client
        self._pipelined: PipelinedConnections | None = None
        # By node. They belong to the client, so that all backends that use the client share them.
        owner: Any = self._client
        self._queues: dict[str, AsyncPoolQueue] = getattr(owner, "_ratelimit_mail", {})
        owner._ratelimit_mail = self._queues
        self._connecting = asyncio.Lock() if self.sharded else None
        self._send: Callable[..., Any] = self._send_to_node
        if isinstance(client, redis.asyncio.Redis):
            self._pipelined = PipelinedConnections(client.connection_pool)
            self._send = self._pipelined.call

    async def _connect(self) -> None:
        """Learn the nodes of the cluster, once."""
        if self._connecting is not None:
            # Initialized by several calls at once, the client cuts connections that are in use.
            async with self._connecting:
                await self._client.initialize()
            self._connecting = None

    async def _send_to_node(self, *command: _Argument) -> Any:
        """See `Transport._send_to_node`; connect first."""
        await self._connect()
        client = self._client
        try:
            node = client.get_node_from_key(command[3])
            if node is not None:
                return await self._run(node.name, partial(node.execute_command, *command))
        except _REDIRECTED:
            pass
        except UNREACHABLE:
            await self._learn_nodes()
            raise
        return await self._run("", partial(client.execute_command, *command))

    async def _run(self, node: str, attempt: Callable[[], Awaitable[Any]]) -> Any:
        """Return the result of `attempt`, repeated while all connections to the node are in use."""
        queue = self._queues.get(node)
        if queue is None:
            queue = self._queues.setdefault(node, AsyncPoolQueue())
        return await queue.run(attempt, longest_wait(_cluster_settings(self._client)))

    async def _learn_nodes(self) -> None:
        """See `Transport._learn_nodes`."""
        with contextlib.suppress(*CLIENT_ERRORS):
            await self._client.nodes_manager.initialize()

    async def run(self, script: Script, keys: Sequence[bytes], arguments: Sequence[bytes]) -> Any:
        """See `Transport.run`."""
        self._calls += 1
        try:
            try:
                return await self._send("EVALSHA", script.sha, len(keys), *keys, *arguments)
            except NoScriptError:
                return await self._send("EVAL", script.text, len(keys), *keys, *arguments)
        except CLIENT_ERRORS as error:
            raise backend_error(error, self.server, _settings(self._client)) from error
        finally:
            self._calls -= 1

    async def masters(self) -> Sequence[Any]:
        """See `Transport.masters`."""
        if not self.sharded:
            return [None]
        try:
            await self._connect()
            return list(self._client.get_primaries())
        except CLIENT_ERRORS as error:
            raise backend_error(error, self.server) from error

    async def run_at(self, master: Any, script: Script, arguments: Sequence[bytes]) -> Any:
        """See `Transport.run_at`."""
        if master is None:
            return await self.run(script, (), arguments)
        self._calls += 1
        call = partial(self._run, master.name)
        try:
            try:
                command = ("EVALSHA", script.sha, 0, *arguments)
                return await call(partial(master.execute_command, *command))
            except NoScriptError:
                command = ("EVAL", script.text, 0, *arguments)
                return await call(partial(master.execute_command, *command))
        except CLIENT_ERRORS as error:
            if isinstance(error, UNREACHABLE):
                await self._learn_nodes()
            raise backend_error(error, self.server) from error
        finally:
            self._calls -= 1

    def slot(self, key: bytes) -> int:
        """See `Transport.slot`."""
        return key_slot(key)

    def node(self, key: bytes) -> str:
        """See `Transport.node`."""
        return _node_of(self._client, key)

    async def close(self) -> None:
        """See `Transport.close`."""
        if self._pipelined is not None:
            await self._pipelined.close()
        await self._client.aclose()
        for sentinel in _sentinels_of(self._client):
            await sentinel.aclose()

    async def finish(self) -> None:
        """Wait until the calls that were begun are answered, at most as long as they may take."""
        settings = (
            _cluster_settings(self._client)
            if self.sharded
            else self._client.connection_pool.connection_kwargs
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest_wait(settings)):
                while self._calls:
                    await asyncio.sleep(0.001)

    def abandon(self, *, is_loop_closed: bool) -> None:
        """Close the client's connections outside of their event loop, which does not run."""
        for connection in _connections_of(self._client):
            close_outside_of_loop(connection, is_loop_closed=is_loop_closed)
        if self._pipelined is not None:
            self._pipelined.abandon(is_loop_closed=is_loop_closed)
        else:
            self._client._initialize = True  # or redis-py warns that the client is not closed


def _connections_of(client: Any) -> Iterator[Any]:
    """Return all connections of an async client, and of the Sentinels that it uses."""
    if isinstance(client, redis.asyncio.RedisCluster):
        manager = client.nodes_manager
        for node in (*manager.nodes_cache.values(), *manager.startup_nodes.values()):
            yield from node._connections
        return
    for each in (client, *_sentinels_of(client)):
        pool = each.connection_pool
        yield from (*pool._available_connections, *pool._in_use_connections)
