"""The commands that the Redis backend sends: one call per message, and no scan of the keys."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from rlm_testkit.redis_backends import envelope_from, limits_per, spare_server
from rlm_testkit.servers import Server, command

from ratelimit_mail import (
    AsyncLimiter,
    Limiter,
    Policy,
)
from ratelimit_mail.backends import AsyncRedisBackend, RedisBackend

spare = pytest.fixture(spare_server)


def calls_of(client: redis.Redis) -> dict[str, int]:
    """Return how often each command was called so far."""
    info = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): stats["calls"] for name, stats in info.items()}


@contextlib.contextmanager
def counted(client: redis.Redis) -> Iterator[dict[str, int]]:
    """Count how often each command is called; the result is filled at the end."""
    before, calls = calls_of(client), dict[str, int]()
    yield calls
    for name, count in calls_of(client).items():
        if count > before.get(name, 0) and name not in ("info", "client|setinfo", "hello"):
            calls[name] = count - before.get(name, 0)


SCANNING_COMMANDS = {
    "scan",
    "keys",
    "randomkey",
    "dbsize",
    "sort",
    "hscan",
    "sscan",
    "flushdb",
    "flushall",
}


def test_usage_and_reset_do_not_scan_the_keys(spare: Server) -> None:
    policy = Policy(name="test", limits=limits_per("hour", limit=1000))
    backend = RedisBackend.from_url(spare.url, timeout=30)
    with contextlib.closing(backend), spare.client() as client:
        limiter = Limiter(policy, backend)
        assert all(
            limiter.try_acquire_many([envelope_from(sender=f"{i}@uwo.ca") for i in range(99)])
        )
        with counted(client) as calls:
            assert limiter.usage("7@uwo.ca")[0].used == 1
            limiter.reset("7@uwo.ca")
            assert limiter.usage("7@uwo.ca")[0].used == 0
        assert not SCANNING_COMMANDS & calls.keys()
        assert calls["evalsha"] + calls.get("eval", 0) <= 8


def test_a_message_is_one_call_of_a_script_whatever_its_limits_and_scopes(
    spare: Server,
) -> None:
    policy = Policy(name="test", limits=limits_per("hour", limit=1000))
    backend = RedisBackend.from_url(spare.url, timeout=30)
    with contextlib.closing(backend), spare.client() as client:
        limiter = Limiter(policy, backend)
        assert limiter.try_acquire(envelope_from())
        requests: list[Callable[[], Any]] = [
            lambda: limiter.try_acquire(envelope_from()),
            lambda: limiter.try_acquire(envelope_from(recipients=5)),
            lambda: limiter.try_acquire(envelope_from(envelope_id="1", recipients=5)),
            lambda: limiter.try_acquire(envelope_from(recipients=1001)),
            lambda: limiter.check(envelope_from(recipients=5)),
            lambda: limiter.reserve(envelope_from(envelope_id="2", recipients=5)),
            lambda: limiter.try_acquire_many(
                [envelope_from(envelope_id=str(i), recipients=5) for i in range(50)]
            ),
        ]
        for request in requests:
            with counted(client) as calls:
                request()
            assert calls["evalsha"] == 1
            assert "eval" not in calls
            assert "script|load" not in calls


async def test_a_message_is_one_call_of_a_script_for_an_async_backend(spare: Server) -> None:
    policy = Policy(name="test", limits=limits_per("hour", limit=1000))
    async with contextlib.aclosing(AsyncRedisBackend.from_url(spare.url, timeout=30)) as backend:
        limiter = AsyncLimiter(policy, backend)
        assert await limiter.try_acquire(envelope_from())
        with spare.client() as client, counted(client) as calls:
            assert await limiter.try_acquire(envelope_from(recipients=5))
        assert calls["evalsha"] == 1
        assert "eval" not in calls


def test_the_text_of_a_script_is_sent_once(spare: Server) -> None:
    policy = Policy(name="test", limits=limits_per("hour", limit=1000))
    backend = RedisBackend.from_url(spare.url, timeout=30)
    with contextlib.closing(backend), spare.client() as client:
        limiter = Limiter(policy, backend)
        for _ in range(2):
            with counted(client) as calls:
                for _ in range(9):
                    assert limiter.try_acquire(envelope_from())
            assert (calls["evalsha"], calls["eval"]) == (9, 1)
            command(client, "SCRIPT", "FLUSH")
