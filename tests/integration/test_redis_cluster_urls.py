"""What the URL of a cluster makes, against a real one: its blocking client connects at once."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from rlm_testkit.redis_backends import new_prefix
from rlm_testkit.servers import Cluster, command, free_port

from ratelimit_mail import AsyncLimiter, Decision, Envelope, Limiter, MessageRateLimit, Policy
from ratelimit_mail.backends import AsyncRedisBackend, RedisBackend
from ratelimit_mail.backends.redis.urls import client_from
from ratelimit_mail.exceptions import BackendError

LETTER = Envelope("ann@uwo.ca", ["bob@example.com"])

COLOURS = [RedisBackend, AsyncRedisBackend]


prefix = pytest.fixture(new_prefix)


def asked_twice(colour: Any, url: str, prefix: str, **options: Any) -> list[Decision]:
    """What two messages under a limit of one are answered."""
    policy = Policy(name="test", limits=[MessageRateLimit("1/minute")])

    async def ask() -> list[Decision]:
        backend = AsyncRedisBackend.from_url(url, prefix=prefix, **options)
        async with contextlib.aclosing(backend):
            limiter = AsyncLimiter(policy, backend)
            return [await limiter.try_acquire(LETTER) for _ in range(2)]

    if colour is AsyncRedisBackend:
        return asyncio.run(ask())
    with contextlib.closing(RedisBackend.from_url(url, prefix=prefix, **options)) as backend:
        limiter = Limiter(policy, backend)
        return [limiter.try_acquire(LETTER) for _ in range(2)]


def of_login(url: str, login: str) -> str:
    return url.replace("://", f"://{login}@")


@pytest.fixture
def password(cluster: Cluster) -> Iterator[str]:
    """The password of a user `ann` of every node."""
    word = f"Hunter2-{uuid.uuid4().hex[:6]}"
    for node in cluster.nodes:
        with node.client() as client:
            command(client, "ACL", "SETUSER", "ann", "on", f">{word}", "~*", "&*", "+@all")
    yield word
    for node in cluster.nodes:
        with node.client() as client:
            command(client, "ACL", "DELUSER", "ann")


def test_the_url_of_a_cluster_makes_a_client_of_it(cluster: Cluster) -> None:
    client: Any = client_from(cluster.url + "/0", timeout=2, is_async=False, options={})
    with contextlib.closing(client):
        found = {node.port for node in client.get_nodes()}
        assert type(client) is redis.RedisCluster
    assert found >= {node.port for node in cluster.masters}


def test_a_client_of_a_cluster_waits_a_bounded_time_and_does_not_repeat_a_command(
    cluster: Cluster,
) -> None:
    url = cluster.url + "?client_name=mailer"
    client: Any = client_from(url, timeout=2, is_async=False, options={})
    with contextlib.closing(client):
        assert client.retry.get_retries() == 0
        for node in client.get_nodes():
            told = client.get_redis_connection(node).connection_pool.connection_kwargs
            assert (told["socket_timeout"], told["socket_connect_timeout"]) == (2, 2)
            assert told["client_name"] == "mailer"
            assert told["retry"].get_retries() == 0


@pytest.mark.parametrize("colour", COLOURS)
def test_one_node_that_answers_is_enough_to_find_the_others(
    colour: Any, cluster: Cluster, prefix: str
) -> None:
    dead = f"127.0.0.1:{free_port()}"
    url = f"redis+cluster://{dead},127.0.0.1:{cluster.masters[2].port}"
    assert [bool(each) for each in asked_twice(colour, url, prefix)] == [True, False]


@pytest.mark.parametrize("colour", COLOURS)
def test_a_cluster_takes_the_login_of_its_url(
    colour: Any, cluster: Cluster, password: str, prefix: str
) -> None:
    url = of_login(cluster.url, f"ann:{password}")
    assert [bool(each) for each in asked_twice(colour, url, prefix)] == [True, False]


@pytest.mark.parametrize("colour", COLOURS)
def test_a_login_that_a_cluster_refuses_is_told_of_without_the_password(
    colour: Any,
    cluster: Cluster,
    password: str,
    prefix: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = of_login(cluster.url, "ann:Wrong3")
    caplog.set_level("DEBUG")
    with pytest.raises(BackendError, match="password") as caught:
        asked_twice(colour, url, prefix)
    told = "\n".join([*traceback.format_exception(caught.value), repr(caught.value), caplog.text])
    assert "Wrong3" not in told
    assert password not in told


def test_the_repr_of_a_backend_on_a_cluster_tells_no_password(
    cluster: Cluster, password: str
) -> None:
    with contextlib.closing(
        RedisBackend.from_url(of_login(cluster.url, f"ann:{password}"))
    ) as backend:
        assert repr(backend) == "<RedisBackend on the Redis Cluster, prefix 'ratelimit-mail:'>"
