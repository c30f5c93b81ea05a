"""The clients of cluster URLs, on a real cluster: the sync one connects when it is created."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from rlm_testkit.redis_backends import unique_prefix
from rlm_testkit.servers import Cluster, command, free_port

from ratelimit_mail import AsyncLimiter, Decision, Envelope, Limiter, MessageRateLimit, Policy
from ratelimit_mail.backends import AsyncRedisBackend, RedisBackend
from ratelimit_mail.backends.redis.urls import client_from_url
from ratelimit_mail.exceptions import BackendError

ENVELOPE = Envelope("ann@uwo.ca", ["bob@example.com"])

BACKEND_TYPES = [RedisBackend, AsyncRedisBackend]


prefix = pytest.fixture(unique_prefix)


def try_acquire_twice(backend_type: Any, url: str, prefix: str, **options: Any) -> list[Decision]:
    """Return the decisions on two messages under a limit of one."""
    policy = Policy(name="test", limits=[MessageRateLimit("1/minute")])

    async def try_async() -> list[Decision]:
        backend = AsyncRedisBackend.from_url(url, prefix=prefix, timeout=10, **options)
        async with contextlib.aclosing(backend):
            limiter = AsyncLimiter(policy, backend)
            return [await limiter.try_acquire(ENVELOPE) for _ in range(2)]

    if backend_type is AsyncRedisBackend:
        return asyncio.run(try_async())
    with contextlib.closing(
        RedisBackend.from_url(url, prefix=prefix, timeout=10, **options)
    ) as backend:
        limiter = Limiter(policy, backend)
        return [limiter.try_acquire(ENVELOPE) for _ in range(2)]


def with_login(url: str, login: str) -> str:
    """Return a URL with a user name and a password."""
    return url.replace("://", f"://{login}@")


@pytest.fixture
def password(cluster: Cluster) -> Iterator[str]:
    """Create the user `ann` on every node, and return the password."""
    password = f"Hunter2-{uuid.uuid4().hex[:6]}"
    for node in cluster.nodes:
        with node.client() as client:
            command(client, "ACL", "SETUSER", "ann", "on", f">{password}", "~*", "&*", "+@all")
    yield password
    for node in cluster.nodes:
        with node.client() as client:
            command(client, "ACL", "DELUSER", "ann")


def test_the_client_of_a_cluster_url_finds_all_masters(cluster: Cluster) -> None:
    client: Any = client_from_url(cluster.url + "/0", timeout=2, is_async=False, options={})
    with contextlib.closing(client):
        ports = {node.port for node in client.get_nodes()}
        assert type(client) is redis.RedisCluster
    assert ports >= {node.port for node in cluster.masters}


def test_a_cluster_client_has_the_timeout_and_does_not_retry_a_command(
    cluster: Cluster,
) -> None:
    url = cluster.url + "?client_name=mailer"
    client: Any = client_from_url(url, timeout=2, is_async=False, options={})
    with contextlib.closing(client):
        assert client.retry.get_retries() == 0
        for node in client.get_nodes():
            kwargs = client.get_redis_connection(node).connection_pool.connection_kwargs
            assert (kwargs["socket_timeout"], kwargs["socket_connect_timeout"]) == (2, 2)
            assert kwargs["client_name"] == "mailer"
            assert kwargs["retry"].get_retries() == 0


@pytest.mark.parametrize("backend_type", BACKEND_TYPES)
def test_one_node_that_answers_is_enough_to_find_the_others(
    backend_type: Any, cluster: Cluster, prefix: str
) -> None:
    dead = f"127.0.0.1:{free_port()}"
    url = f"redis+cluster://{dead},127.0.0.1:{cluster.masters[2].port}"
    assert [bool(each) for each in try_acquire_twice(backend_type, url, prefix)] == [True, False]


@pytest.mark.parametrize("backend_type", BACKEND_TYPES)
def test_a_cluster_client_uses_the_login_of_its_url(
    backend_type: Any, cluster: Cluster, password: str, prefix: str
) -> None:
    url = with_login(cluster.url, f"ann:{password}")
    assert [bool(each) for each in try_acquire_twice(backend_type, url, prefix)] == [True, False]


@pytest.mark.parametrize("backend_type", BACKEND_TYPES)
def test_the_error_for_a_refused_login_does_not_show_the_password(
    backend_type: Any,
    cluster: Cluster,
    password: str,
    prefix: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = with_login(cluster.url, "ann:Wrong3")
    caplog.set_level("DEBUG")
    with pytest.raises(BackendError, match="password") as caught:
        try_acquire_twice(backend_type, url, prefix)
    text = "\n".join([*traceback.format_exception(caught.value), repr(caught.value), caplog.text])
    assert "Wrong3" not in text
    assert password not in text


def test_the_repr_of_a_backend_on_a_cluster_does_not_show_the_password(
    cluster: Cluster, password: str
) -> None:
    with contextlib.closing(
        RedisBackend.from_url(with_login(cluster.url, f"ann:{password}"))
    ) as backend:
        assert repr(backend) == "<RedisBackend on the Redis Cluster, prefix 'ratelimit-mail:'>"
