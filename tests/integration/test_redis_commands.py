"""The commands that the Redis backend sends: one call per message, and no scan of the keys."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from rlm_testkit.redis_backends import ANN, envelope_from, limits_per, spare_server
from rlm_testkit.servers import Server, command

from ratelimit_mail import (
    AsyncLimiter,
    Limiter,
    MessageRateLimit,
    Policy,
)
from ratelimit_mail.backends import AsyncRedisBackend, RedisBackend
from ratelimit_mail.backends.base import TAKE
from ratelimit_mail.limiter import blocks
from ratelimit_mail.testing import ManualClock

spare = pytest.fixture(spare_server)


@pytest.fixture(autouse=True)
def _blocks_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no call for the blocks come in between on a slow machine."""
    monkeypatch.setattr(blocks, "REFRESH_SECONDS", 1e9)


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
        decisions = [limiter.try_acquire(envelope_from()) for _ in range(2)]
        reservation = limiter.reserve(envelope_from())
        first = limiter.reserve(envelope_from())
        limiter.settle(decisions[0])
        assert first.redeem()
        requests: list[Callable[[], Any]] = [
            lambda: limiter.try_acquire(envelope_from()),
            lambda: limiter.try_acquire(envelope_from(recipients=5)),
            lambda: limiter.try_acquire(envelope_from(envelope_id="1", recipients=5)),
            lambda: limiter.try_acquire(envelope_from(recipients=1001)),
            lambda: limiter.check(envelope_from(recipients=5)),
            lambda: limiter.reserve(envelope_from(envelope_id="2", recipients=5)),
            lambda: limiter.settle(decisions[1]),
            reservation.redeem,
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
        charges = policy.plan(envelope_from()).charges
        for _ in range(2):
            with counted(client) as calls:
                for _ in range(9):
                    assert backend.apply(charges, TAKE).receipt
            assert (calls["evalsha"], calls["eval"]) == (9, 1)
            command(client, "SCRIPT", "FLUSH")


def commands_beside_bookings(spare: Server, size: int) -> dict[str, int]:
    """Return how many commands some calls run in their scripts, beside so many bookings."""
    clock = ManualClock()
    limits = [MessageRateLimit("1/second"), MessageRateLimit("9000/30 days", scope="global")]
    backend = RedisBackend.from_url(spare.url, prefix=f"{size}:", clock=clock, timeout=30)
    with contextlib.closing(backend), spare.client() as client:
        limiter = Limiter(Policy(name="test", limits=limits), backend)
        own, other = envelope_from(), envelope_from(sender="eve@uwo.ca")
        reservations = [limiter.reserve(own) for _ in range(size)]
        assert not limiter.check(own)
        clock.advance(0.5)
        calls: dict[str, Callable[[], object]] = {
            "check": lambda: limiter.check(own),
            "refuse": lambda: limiter.try_acquire(own),
            "usage": lambda: limiter.usage(ANN),
            "send before the bookings": lambda: limiter.try_acquire(other),
            "redeem early": reservations[size // 2].redeem,
            "cancel": reservations[size // 2 + 5].cancel,
            "book": lambda: limiter.reserve(own),
        }
        numbers = {}
        for name, call in calls.items():
            with counted(client) as commands:
                call()
            commands.pop("evalsha", None)
            numbers[name] = sum(commands.values())
    return numbers


def test_a_call_runs_hardly_more_commands_however_many_bookings_its_sender_has(
    spare: Server,
) -> None:
    few, many = commands_beside_bookings(spare, 50), commands_beside_bookings(spare, 1000)
    for name, number in many.items():
        assert number <= 2 * few[name] + 40, (name, few, many)
