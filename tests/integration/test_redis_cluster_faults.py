"""A cluster behind proxies that lose answers: messages are charged once, connections are closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import redis
from rlm_testkit.faults import PER_DAY_100, cluster_proxies, limiter_kind, once_available
from rlm_testkit.load import ENVELOPE, AnyLimiter, used_on_server
from rlm_testkit.proxy import Proxy
from rlm_testkit.redis_backends import KINDS, unique_prefix
from rlm_testkit.servers import Cluster, wait_until

from ratelimit_mail import AsyncLimiter, Limiter
from ratelimit_mail.backends import AsyncRedisBackend, RedisBackend
from ratelimit_mail.exceptions import BackendUnavailable

kind = pytest.fixture(limiter_kind, params=KINDS)
prefix = pytest.fixture(unique_prefix)
proxies = pytest.fixture(cluster_proxies)


def remap_to(proxies: dict[int, Proxy]) -> Callable[[tuple[str, int]], tuple[str, int]]:
    """Return the `address_remap` that sends a client of the cluster to the proxy of each node."""
    return lambda address: (address[0], proxies[int(address[1])].port)


def lose_one_answer_each(proxies: dict[int, Proxy]) -> None:
    for proxy in proxies.values():
        proxy.lose_answers = 1


def test_a_charge_in_a_cluster_whose_answer_is_lost_is_made_once(
    kind: str, cluster: Cluster, proxies: dict[int, Proxy], prefix: str
) -> None:
    options = {"address_remap": remap_to(proxies), "timeout": 30}
    limiter = AnyLimiter(kind, cluster.url, PER_DAY_100, prefix=prefix, backend=options)
    limiter.check(ENVELOPE)
    lose_one_answer_each(proxies)
    with pytest.raises(BackendUnavailable):
        limiter.try_acquire(ENVELOPE)
    once_available(lambda: limiter.check(ENVELOPE))
    limiter.close()
    assert sum(proxy.lost for proxy in proxies.values()) == 1
    assert used_on_server(cluster.url, PER_DAY_100, prefix) == 1


def test_a_backend_with_a_cluster_client_charges_once(
    kind: str, cluster: Cluster, proxies: dict[int, Proxy], prefix: str
) -> None:
    options: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": cluster.masters[0].port,
        "address_remap": remap_to(proxies),
    }

    async def charge_async() -> None:
        client = redis.asyncio.RedisCluster(**options)
        try:
            limiter = AsyncLimiter(PER_DAY_100, AsyncRedisBackend(client, prefix=prefix))
            await limiter.check(ENVELOPE)
            lose_one_answer_each(proxies)
            await limiter.try_acquire(ENVELOPE)
        finally:
            await client.aclose()

    def charge() -> None:
        client = redis.RedisCluster(**options)
        try:
            limiter = Limiter(PER_DAY_100, RedisBackend(client, prefix=prefix))
            limiter.check(ENVELOPE)
            lose_one_answer_each(proxies)
            limiter.try_acquire(ENVELOPE)
        finally:
            client.close()

    with pytest.raises(BackendUnavailable):
        charge() if kind == "sync" else asyncio.run(charge_async())
    assert used_on_server(cluster.url, PER_DAY_100, prefix) == 1


async def test_a_backend_that_is_closed_during_an_outage_leaves_no_connection_open(
    cluster: Cluster, proxies: dict[int, Proxy], prefix: str
) -> None:
    backend = AsyncRedisBackend.from_url(
        cluster.url, prefix=prefix, timeout=30, address_remap=remap_to(proxies)
    )
    limiter = AsyncLimiter(PER_DAY_100, backend)
    await limiter.check(ENVELOPE)
    lose_one_answer_each(proxies)
    with pytest.raises(BackendUnavailable):
        await limiter.try_acquire(ENVELOPE)
    await backend.aclose()
    await asyncio.to_thread(wait_until, lambda: not any(proxy.open for proxy in proxies.values()))
