"""Every key of the Redis backend expires, and not too early; reading creates no keys."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from rlm_testkit.redis_backends import ANN, envelope_from, limits_per, unique_prefix, valkey_only
from rlm_testkit.servers import Server, command, wait_until

from ratelimit_mail import (
    AsyncLimiter,
    Limiter,
    MessageRateLimit,
    Policy,
    RateLimitExceeded,
    RecipientRateLimit,
)
from ratelimit_mail.backends import AsyncRedisBackend, RedisBackend
from ratelimit_mail.testing import ManualClock

SECOND = 1000
HOUR = 3600 * SECOND

prefix = pytest.fixture(unique_prefix)


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


def milliseconds_to_live(client: redis.Redis, prefix: str) -> dict[str, int]:
    """Return the milliseconds until each key expires, or -1 if it never does."""
    ttls: dict[str, int] = {}
    for key in client.scan_iter(f"{prefix}*", count=10_000):
        ttls[key.decode().removeprefix(prefix)] = int(command(client, "PTTL", key))
    return ttls


def play(limiter: Limiter) -> Iterator[tuple[str, Any]]:
    """Call each method in each of its cases; yield the name and the result after each call."""
    yield from _charges(limiter)
    yield from _bookings(limiter)
    for subject, scope in ((ANN, "sender"), ("uwo.ca", "sender_domain"), (None, "global")):
        limiter.reset(subject, scope=scope)
        yield f"reset of {scope}", None
    yield "try_acquire after a reset", limiter.try_acquire(envelope_from())


def _charges(limiter: Limiter) -> Iterator[tuple[str, Any]]:
    decision = limiter.try_acquire(envelope_from())
    yield "try_acquire", decision
    by_id = limiter.try_acquire(envelope_from(envelope_id="1"))
    yield "try_acquire by id", by_id
    limiter.refund(decision)
    limiter.refund(by_id)
    yield "refund", None
    batch = limiter.try_acquire_many(
        [
            envelope_from(),
            envelope_from(envelope_id="2"),
            envelope_from(recipients=9),
            envelope_from(envelope_id="3"),
        ]
    )
    yield "try_acquire_many", [bool(each) for each in batch]
    yield "refused", limiter.try_acquire(envelope_from())
    yield "refused by id", limiter.try_acquire(envelope_from(envelope_id="4"))
    yield "too much", limiter.try_acquire(envelope_from(recipients=9))


def _bookings(limiter: Limiter) -> Iterator[tuple[str, Any]]:
    booked = [limiter.reserve(envelope_from(envelope_id=each)) for each in (None, "5", None, "6")]
    yield "reserve", booked[-1].delay
    refused = None
    try:
        limiter.reserve(envelope_from(), max_delay=0)
    except RateLimitExceeded as error:
        refused = error
    yield "a refused reservation", refused
    for each in booked[::2]:
        each.cancel()
    yield "cancel", None


def test_every_key_expires_whatever_was_done(
    server: Server, client: redis.Redis, prefix: str
) -> None:
    policy = Policy(name="test", limits=limits_per("hour"))
    with contextlib.closing(
        RedisBackend.from_url(server.url, prefix=prefix, timeout=30)
    ) as backend:
        results: dict[str, Any] = {}
        keys: set[str] = set()
        for name, result in play(Limiter(policy, backend)):
            ttls = milliseconds_to_live(client, prefix)
            # The last booking is two hours ahead; its key lives a little more than an hour longer.
            assert all(0 < each < 4 * HOUR for each in ttls.values()), (name, ttls)
            keys |= ttls.keys()
            results[name] = result
    # The calls had the results that this test is about.
    assert results["try_acquire_many"] == [True, True, False, False]
    assert [bool(results[each]) for each in ("refused", "refused by id")] == [False, False]
    assert (results["too much"].retry_after, results["reserve"] > 3500) == (None, True)
    assert results["a refused reservation"] is not None
    counts = ("sender:0", "sender:1", "sender_domain:2", "recipient_domain:1", "global:0")
    for name in (*counts, "bookings:0", "bookings:places", ":once:"):
        assert any(name in key for key in keys), name


def test_reading_creates_no_key(server: Server, client: redis.Redis, prefix: str) -> None:
    policy = Policy(name="test", limits=limits_per("hour"))
    with contextlib.closing(
        RedisBackend.from_url(server.url, prefix=prefix, timeout=30)
    ) as backend:
        limiter = Limiter(policy, backend)
        assert limiter.check(envelope_from())
        assert limiter.check(envelope_from(envelope_id="1"))
        assert not limiter.check(envelope_from(recipients=9))
        assert limiter.usage(ANN)[0].used == 0
        limiter.reset(ANN)
        assert limiter.try_acquire_many([]) == []
        assert milliseconds_to_live(client, prefix) == {}


def test_a_refused_message_changes_no_key_if_refused_attempts_do_not_count(
    server: Server, client: redis.Redis, prefix: str
) -> None:
    policy = Policy(name="test", limits=[RecipientRateLimit("3/hour", scope="sender_domain")])
    with contextlib.closing(
        RedisBackend.from_url(server.url, prefix=prefix, timeout=30)
    ) as backend:
        limiter = Limiter(policy, backend)
        assert not limiter.try_acquire(envelope_from(recipients=4))
        assert limiter.try_acquire(envelope_from(recipients=3))
        before = {
            key: client.dump(f"{prefix}{key}") for key in milliseconds_to_live(client, prefix)
        }
        assert not limiter.try_acquire(envelope_from())
        with pytest.raises(RateLimitExceeded):
            limiter.reserve(envelope_from(), max_delay=1)
        assert {
            key: client.dump(f"{prefix}{key}") for key in milliseconds_to_live(client, prefix)
        } == before


@valkey_only
def test_nothing_is_left_once_every_window_is_over(
    server: Server, client: redis.Redis, prefix: str
) -> None:
    policy = Policy(name="test", limits=limits_per("second"))
    with contextlib.closing(
        RedisBackend.from_url(server.url, prefix=prefix, timeout=30)
    ) as backend:
        assert list(play(Limiter(policy, backend, remember=1)))
        ttls = milliseconds_to_live(client, prefix)
        assert ttls
        assert -1 not in ttls.values()
        wait_until(lambda: not milliseconds_to_live(client, prefix))


async def test_every_key_of_an_async_backend_expires(
    server: Server, client: redis.Redis, prefix: str
) -> None:
    policy = Policy(name="test", limits=limits_per("second"))
    async with contextlib.aclosing(
        AsyncRedisBackend.from_url(server.url, prefix=prefix, timeout=30)
    ) as backend:
        limiter = AsyncLimiter(policy, backend, remember=1)
        assert await limiter.try_acquire(envelope_from(envelope_id="1"))
        booked = [await limiter.reserve(envelope_from()) for _ in range(4)]
        await booked[-1].cancel()
        ttls = await asyncio.to_thread(milliseconds_to_live, client, prefix)
        assert len(ttls) > 3
        assert all(0 < each < 9 * SECOND for each in ttls.values())


def test_a_key_does_not_expire_before_its_window_is_over(
    server: Server, client: redis.Redis, prefix: str
) -> None:
    policy = Policy(name="test", limits=[MessageRateLimit("2/second"), MessageRateLimit("2/hour")])
    with contextlib.closing(
        RedisBackend.from_url(server.url, prefix=prefix, timeout=30)
    ) as backend:
        limiter = Limiter(policy, backend)
        for _ in range(2):
            assert limiter.try_acquire(envelope_from())
            (ttl,) = milliseconds_to_live(client, prefix).values()
            assert HOUR - SECOND < ttl <= HOUR + HOUR // 8
        booked = limiter.reserve(envelope_from())
        assert booked.delay > 3590
        assert (
            min(milliseconds_to_live(client, prefix).values()) > booked.delay * 1000 + HOUR - SECOND
        )


def test_a_key_expires_also_with_a_clock_of_the_backend(
    server: Server, client: redis.Redis, prefix: str
) -> None:
    policy = Policy(name="test", limits=limits_per("second"))
    with contextlib.closing(
        RedisBackend.from_url(server.url, prefix=prefix, timeout=30, clock=ManualClock())
    ) as backend:
        for name, _ in play(Limiter(policy, backend, remember=1)):
            ttls = milliseconds_to_live(client, prefix)
            assert all(0 < each <= 2 * HOUR for each in ttls.values()), (name, ttls)


def test_a_booking_that_could_go_at_once_waits_ahead_of_those_of_an_expired_queue(
    server: Server, client: redis.Redis, prefix: str
) -> None:
    clock = ManualClock()
    policy = Policy(name="test", limits=[MessageRateLimit("1/minute")])
    with contextlib.closing(
        RedisBackend.from_url(server.url, prefix=prefix, clock=clock, timeout=30)
    ) as backend:
        limiter = Limiter(policy, backend)
        at_once, overdue = limiter.reserve(envelope_from()), limiter.reserve(envelope_from())
        assert (at_once.delay, overdue.delay) == (0, 60)
        clock.advance(4 * 3600)
        for key in client.scan_iter(
            f"{prefix}*", count=10_000
        ):  # as the server does at some moment
            client.delete(key)
        assert limiter.try_acquire(envelope_from())
        assert at_once.redeem().retry_after == 60
        assert overdue.redeem().retry_after == 120


def test_a_queue_does_not_expire_before_a_booking_that_is_spread(
    server: Server, client: redis.Redis, prefix: str
) -> None:
    policy = Policy(name="test", limits=[RecipientRateLimit("1/minute", on_oversize="spread")])
    with contextlib.closing(
        RedisBackend.from_url(server.url, prefix=prefix, timeout=30)
    ) as backend:
        limiter = Limiter(policy, backend)
        assert limiter.try_acquire(envelope_from())
        assert limiter.reserve(envelope_from(recipients=9)).delay > 0
        ttls = milliseconds_to_live(client, prefix)
        queue = {name: ttl for name, ttl in ttls.items() if "bookings" in name}
        assert len(queue) == 2
        # Its first part goes in a minute, and the last one leaves the window 9 minutes later.
        assert min(queue.values()) > 9 * 60 * SECOND


def test_a_key_of_two_policies_lives_as_long_as_the_longer_window_needs(
    server: Server, client: redis.Redis, prefix: str
) -> None:
    with contextlib.closing(
        RedisBackend.from_url(server.url, prefix=prefix, timeout=30)
    ) as backend:
        for rate in ("9/second", "9/hour", "9/second"):
            limits = [MessageRateLimit(rate)]
            assert Limiter(Policy(name="test", limits=limits), backend).try_acquire(envelope_from())
        (ttl,) = milliseconds_to_live(client, prefix).values()
        assert ttl > HOUR - SECOND
