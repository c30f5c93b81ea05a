"""What the Redis backend asks the server: one call a message, and no search for keys."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from rlm_testkit.redis_backends import letter, limits_per, spare_server
from rlm_testkit.servers import Server, command

from ratelimit_mail import (
    AsyncLimiter,
    Limiter,
    Policy,
)
from ratelimit_mail.backends import AsyncRedisBackend, RedisBackend

alone = pytest.fixture(spare_server)


def calls_of(client: redis.Redis) -> dict[str, int]:
    """How often each command was called so far."""
    told = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): stats["calls"] for name, stats in told.items()}


@contextlib.contextmanager
def counted(client: redis.Redis) -> Iterator[dict[str, int]]:
    """How often each command is called meanwhile; it is known at the end."""
    before, calls = calls_of(client), dict[str, int]()
    yield calls
    for name, count in calls_of(client).items():
        if count > before.get(name, 0) and name not in ("info", "client|setinfo", "hello"):
            calls[name] = count - before.get(name, 0)


SCANNING = {"scan", "keys", "randomkey", "dbsize", "sort", "hscan", "sscan", "flushdb", "flushall"}


def test_usage_and_reset_do_not_search_for_keys(alone: Server) -> None:
    policy = Policy(name="test", limits=limits_per("hour", most=1000))
    backend = RedisBackend.from_url(alone.url)
    with contextlib.closing(backend), alone.client() as client:
        limiter = Limiter(policy, backend)
        assert all(limiter.try_acquire_many([letter(sender=f"{i}@uwo.ca") for i in range(99)]))
        with counted(client) as calls:
            assert limiter.usage("7@uwo.ca")[0].used == 1
            limiter.reset("7@uwo.ca")
            assert limiter.usage("7@uwo.ca")[0].used == 0
        assert not SCANNING & calls.keys()
        assert calls["evalsha"] + calls.get("eval", 0) <= 8


def test_one_message_is_one_call_of_a_script_however_many_its_limits_and_scopes(
    alone: Server,
) -> None:
    policy = Policy(name="test", limits=limits_per("hour", most=1000))
    backend = RedisBackend.from_url(alone.url)
    with contextlib.closing(backend), alone.client() as client:
        limiter = Limiter(policy, backend)
        assert limiter.try_acquire(letter())
        asked: list[Callable[[], Any]] = [
            lambda: limiter.try_acquire(letter()),
            lambda: limiter.try_acquire(letter(recipients=5)),
            lambda: limiter.try_acquire(letter(known_by="1", recipients=5)),
            lambda: limiter.try_acquire(letter(recipients=1001)),
            lambda: limiter.check(letter(recipients=5)),
            lambda: limiter.reserve(letter(known_by="2", recipients=5)),
            lambda: limiter.try_acquire_many(
                [letter(known_by=str(i), recipients=5) for i in range(50)]
            ),
        ]
        for ask in asked:
            with counted(client) as calls:
                ask()
            assert calls["evalsha"] == 1
            assert "eval" not in calls
            assert "script|load" not in calls


async def test_one_message_is_one_call_of_a_script_for_who_awaits(alone: Server) -> None:
    policy = Policy(name="test", limits=limits_per("hour", most=1000))
    async with contextlib.aclosing(AsyncRedisBackend.from_url(alone.url)) as backend:
        limiter = AsyncLimiter(policy, backend)
        assert await limiter.try_acquire(letter())
        with alone.client() as client, counted(client) as calls:
            assert await limiter.try_acquire(letter(recipients=5))
        assert calls["evalsha"] == 1
        assert "eval" not in calls


def test_the_text_of_a_script_is_sent_once(alone: Server) -> None:
    policy = Policy(name="test", limits=limits_per("hour", most=1000))
    backend = RedisBackend.from_url(alone.url)
    with contextlib.closing(backend), alone.client() as client:
        limiter = Limiter(policy, backend)
        for _ in range(2):
            with counted(client) as calls:
                for _ in range(9):
                    assert limiter.try_acquire(letter())
            assert (calls["evalsha"], calls["eval"]) == (9, 1)
            command(client, "SCRIPT", "FLUSH")
