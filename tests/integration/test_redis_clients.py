"""Which redis-py clients a backend accepts, and that none of them charges a message twice."""

from __future__ import annotations

import contextlib
import random
from functools import partial
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.asyncio.retry
import redis.retry
from rlm_testkit.proxy import Proxy
from rlm_testkit.redis_backends import (
    KINDS,
    POLICY,
    BackendFactory,
    both_kinds,
    envelope_from,
    text_of,
    unique_prefix,
    used,
    valkey_only,
)
from rlm_testkit.servers import Cluster, Server

from ratelimit_mail import (
    AsyncLimiter,
    Limiter,
)
from ratelimit_mail.backends import AsyncRedisBackend, MemoryBackend, RedisBackend
from ratelimit_mail.exceptions import BackendUnavailable
from ratelimit_mail.testing import generated_script, play

prefix = pytest.fixture(unique_prefix)
backends = pytest.fixture(both_kinds, params=KINDS)

RIGHT = "Hunter2"


@pytest.mark.parametrize(
    "client",
    [
        None,
        "redis://127.0.0.1",
        redis.Redis,
        redis.ConnectionPool(),
        MemoryBackend(),
    ],
)
def test_a_client_that_is_not_of_redis_py_is_refused(client: Any) -> None:
    for backend_type in (RedisBackend, AsyncRedisBackend):
        with pytest.raises(TypeError, match=f"client: a .* or .* needed .*{type(client).__name__}"):
            backend_type(client)


def test_an_async_client_for_a_sync_backend_and_the_reverse_are_refused() -> None:
    with pytest.raises(TypeError, match="for an AsyncRedisBackend, its asyncio counterpart"):
        RedisBackend(redis.asyncio.Redis(password=RIGHT))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="for an AsyncRedisBackend, its asyncio counterpart"):
        RedisBackend(redis.asyncio.RedisCluster("127.0.0.1"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="for a RedisBackend, its sync counterpart") as caught:
        AsyncRedisBackend(redis.Redis(password=RIGHT))  # type: ignore[arg-type]
    assert RIGHT not in text_of(caught.value)


def test_a_sync_limiter_refuses_an_async_backend_and_the_reverse() -> None:
    sync_backend = RedisBackend(redis.Redis())
    async_backend = AsyncRedisBackend(redis.asyncio.Redis())
    with pytest.raises(TypeError, match="must be awaited: use AsyncLimiter"):
        Limiter(POLICY, async_backend)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="would block the event loop: use Limiter"):
        AsyncLimiter(POLICY, sync_backend)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"on_backend_error: .* must be awaited"):
        Limiter(POLICY, sync_backend, on_backend_error=async_backend)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"on_backend_error: .* would block the event loop"):
        AsyncLimiter(POLICY, async_backend, on_backend_error=sync_backend)  # type: ignore[arg-type]


def client_options(**options: Any) -> Any:
    return pytest.param(options, id=" ".join(f"{key}={value}" for key, value in options.items()))


CLIENTS = [
    client_options(),
    client_options(decode_responses=True),
    client_options(protocol=2),
    client_options(protocol=3),
    client_options(protocol=3, decode_responses=True),
    client_options(health_check_interval=1),
    client_options(max_connections=1),
    client_options(single_connection_client=True),
    client_options(single_connection_client=True, retries=False),
    client_options(single_connection_client=True, protocol=3, decode_responses=True),
]


@valkey_only
@pytest.mark.parametrize("options", CLIENTS)
def test_any_redis_py_client_gives_the_answers_of_a_memory_backend(
    options: dict[str, Any], backends: BackendFactory, server: Server, prefix: str
) -> None:
    for seed in range(4):
        script = generated_script(random.Random(seed))
        own = f"{prefix}{seed}:"
        answers = play(script, partial(backends.from_client, server.port, own, **options))
        assert answers == play(script, MemoryBackend), f"seed {seed}"


@valkey_only
@pytest.mark.parametrize("options", CLIENTS)
def test_a_client_that_would_retry_a_command_does_not_charge_twice(
    options: dict[str, Any], backends: BackendFactory, server: Server, prefix: str
) -> None:
    with contextlib.closing(Proxy(server.port, only=b"EVALSHA")) as proxy:
        limiter = Limiter(POLICY, backends.from_client(proxy.port, prefix, **options))
        assert limiter.try_acquire(envelope_from("bob@uwo.ca"))
        proxy.lose_answers = 1
        with contextlib.suppress(BackendUnavailable):
            limiter.try_acquire(envelope_from())
        assert proxy.lose_answers == 0
    assert used(Limiter(POLICY, backends.from_url(server.url, prefix=prefix)))[0] == 1


class ProxiedCluster:
    """A proxy in front of every node of a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._proxies = {node.port: Proxy(node.port, only=b"EVALSHA") for node in cluster.nodes}
        self.first = cluster.masters[0].port

    def remap(self, address: tuple[str, int]) -> tuple[str, int]:
        """Return the address of the proxy in front of a node."""
        host, port = address
        return host, self._proxies[port].port if port in self._proxies else port

    @property
    def lost(self) -> int:
        return sum(proxy.lost for proxy in self._proxies.values())

    def lose_answers(self, count: int) -> None:
        """Lose the next `count` answers of each node."""
        for proxy in self._proxies.values():
            proxy.lose_answers = count

    def close(self) -> None:
        for proxy in self._proxies.values():
            proxy.close()


@pytest.mark.parametrize("by", ["url", "client", "client without retries"])
def test_a_client_of_a_cluster_does_not_charge_twice(
    by: str, backends: BackendFactory, cluster: Cluster, prefix: str
) -> None:
    ledger, subject, costs = POLICY.plan(envelope_from()).charges[0]
    with contextlib.closing(ProxiedCluster(cluster)) as proxied:
        options: dict[str, Any] = {"address_remap": proxied.remap}
        if by == "url":
            backend = backends.from_url(cluster.url, prefix=prefix, **options)
        else:
            options |= {"host": "127.0.0.1", "port": proxied.first}
            options |= {} if by == "client" else {"retry": backends.no_retry}
            backend = backends.make(
                lambda: RedisBackend(redis.RedisCluster(**options), prefix=prefix),
                lambda: AsyncRedisBackend(redis.asyncio.RedisCluster(**options), prefix=prefix),
            )
        backend.apply([(ledger, subject, costs)])
        proxied.lose_answers(1)
        with contextlib.suppress(BackendUnavailable):
            backend.apply([(ledger, subject, costs)])
        assert proxied.lost == 1
        proxied.lose_answers(0)
        assert backend.usage(ledger, subject)[0][0].used == 2
