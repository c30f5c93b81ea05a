"""Which clients of redis-py will do, and that none of them charges twice."""

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
    COLOURS,
    POLICY,
    Colour,
    both_colours,
    letter,
    new_prefix,
    text_of,
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

prefix = pytest.fixture(new_prefix)
colour = pytest.fixture(both_colours, params=COLOURS)

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
def test_a_client_is_one_of_redis_py(client: Any) -> None:
    for made in (RedisBackend, AsyncRedisBackend):
        with pytest.raises(TypeError, match=f"client: a .* or .* needed .*{type(client).__name__}"):
            made(client)


def test_a_client_of_the_other_colour_is_refused() -> None:
    with pytest.raises(TypeError, match="its asyncio twin for an AsyncRedisBackend"):
        RedisBackend(redis.asyncio.Redis(password=RIGHT))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="its asyncio twin for an AsyncRedisBackend"):
        RedisBackend(redis.asyncio.RedisCluster("127.0.0.1"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="its blocking twin for a RedisBackend") as caught:
        AsyncRedisBackend(redis.Redis(password=RIGHT))  # type: ignore[arg-type]
    assert RIGHT not in text_of(caught.value)


def test_a_limiter_refuses_a_backend_of_the_other_colour() -> None:
    blocking, awaited = RedisBackend(redis.Redis()), AsyncRedisBackend(redis.asyncio.Redis())
    with pytest.raises(TypeError, match="must be awaited: use AsyncLimiter"):
        Limiter(POLICY, awaited)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="would block the event loop: use Limiter"):
        AsyncLimiter(POLICY, blocking)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"on_backend_error: .* must be awaited"):
        Limiter(POLICY, blocking, on_backend_error=awaited)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"on_backend_error: .* would block the event loop"):
        AsyncLimiter(POLICY, awaited, on_backend_error=blocking)  # type: ignore[arg-type]


def client_of(**options: Any) -> Any:
    return pytest.param(options, id=" ".join(f"{key}={value}" for key, value in options.items()))


CLIENTS = [
    client_of(),
    client_of(decode_responses=True),
    client_of(protocol=2),
    client_of(protocol=3),
    client_of(protocol=3, decode_responses=True),
    client_of(health_check_interval=1),
    client_of(max_connections=1),
    client_of(single_connection_client=True),
    client_of(single_connection_client=True, repeats=False),
    client_of(single_connection_client=True, protocol=3, decode_responses=True),
]


@valkey_only
@pytest.mark.parametrize("options", CLIENTS)
def test_any_client_of_redis_py_has_the_answers_of_the_memory(
    options: dict[str, Any], colour: Colour, server: Server, prefix: str
) -> None:
    for seed in range(4):
        script = generated_script(random.Random(seed))
        own = f"{prefix}{seed}:"
        answers = play(script, partial(colour.on, server.port, own, **options))
        assert answers == play(script, MemoryBackend), f"seed {seed}"


@valkey_only
@pytest.mark.parametrize("options", CLIENTS)
def test_a_client_that_would_repeat_a_command_does_not_charge_twice(
    options: dict[str, Any], colour: Colour, server: Server, prefix: str
) -> None:
    with contextlib.closing(Proxy(server.port, only=b"EVALSHA")) as proxy:
        limiter = Limiter(POLICY, colour.on(proxy.port, prefix, **options))
        assert limiter.try_acquire(letter("bob@uwo.ca"))
        proxy.lose_answers = 1
        with contextlib.suppress(BackendUnavailable):
            limiter.try_acquire(letter())
        assert proxy.lose_answers == 0
    assert used(Limiter(POLICY, colour.at(server.url, prefix=prefix)))[0] == 1


class Detour:
    """Proxies before every node of a cluster, and the way by them."""

    def __init__(self, cluster: Cluster) -> None:
        self._proxies = {node.port: Proxy(node.port, only=b"EVALSHA") for node in cluster.nodes}
        self.first = cluster.masters[0].port

    def remap(self, place: tuple[str, int]) -> tuple[str, int]:
        """Where to find the node that is told to be at `place`."""
        host, port = place
        return host, self._proxies[port].port if port in self._proxies else port

    @property
    def lost(self) -> int:
        return sum(proxy.lost for proxy in self._proxies.values())

    def lose_answers(self, count: int) -> None:
        """Each node's next answers are lost, so many of them."""
        for proxy in self._proxies.values():
            proxy.lose_answers = count

    def close(self) -> None:
        for proxy in self._proxies.values():
            proxy.close()


@pytest.mark.parametrize("by", ["url", "client", "client without retries"])
def test_a_client_of_a_cluster_does_not_charge_twice(
    by: str, colour: Colour, cluster: Cluster, prefix: str
) -> None:
    ledger, subject, costs = POLICY.plan(letter()).charges[0]
    with contextlib.closing(Detour(cluster)) as detour:
        way: dict[str, Any] = {"address_remap": detour.remap}
        if by == "url":
            backend = colour.at(cluster.url, prefix=prefix, **way)
        else:
            way |= {"host": "127.0.0.1", "port": detour.first}
            way |= {} if by == "client" else {"retry": colour.no_retry}
            backend = colour.made(
                lambda: RedisBackend(redis.RedisCluster(**way), prefix=prefix),
                lambda: AsyncRedisBackend(redis.asyncio.RedisCluster(**way), prefix=prefix),
            )
        backend.apply([(ledger, subject, costs)])
        detour.lose_answers(1)
        with contextlib.suppress(BackendUnavailable):
            backend.apply([(ledger, subject, costs)])
        assert detour.lost == 1
        detour.lose_answers(0)
        assert backend.usage(ledger, subject)[0][0].used == 2
