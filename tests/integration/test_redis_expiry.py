"""Every key of the Redis backend expires, not too early, and none is left by looking."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from rlm_testkit.redis_backends import ANN, letter, limits_per, new_prefix, valkey_only
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

prefix = pytest.fixture(new_prefix)


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


def lives(client: redis.Redis, prefix: str) -> dict[str, int]:
    """The milliseconds that each key has left, or -1 where it never expires."""
    left: dict[str, int] = {}
    for key in client.scan_iter(f"{prefix}*"):
        left[key.decode().removeprefix(prefix)] = int(command(client, "PTTL", key))
    return left


def play(limiter: Limiter) -> Iterator[tuple[str, Any]]:
    """Each verb in each of its ways: after each its name, and what it gave."""
    yield from _charges(limiter)
    yield from _bookings(limiter)
    for subject, scope in ((ANN, "sender"), ("uwo.ca", "sender_domain"), (None, "global")):
        limiter.reset(subject, scope=scope)
        yield f"reset of {scope}", None
    yield "try_acquire after a reset", limiter.try_acquire(letter())


def _charges(limiter: Limiter) -> Iterator[tuple[str, Any]]:
    decision = limiter.try_acquire(letter())
    yield "try_acquire", decision
    by_id = limiter.try_acquire(letter(known_by="1"))
    yield "try_acquire by id", by_id
    limiter.refund(decision)
    limiter.refund(by_id)
    yield "refund", None
    batch = limiter.try_acquire_many(
        [letter(), letter(known_by="2"), letter(recipients=9), letter(known_by="3")]
    )
    yield "try_acquire_many", [bool(each) for each in batch]
    yield "refused", limiter.try_acquire(letter())
    yield "refused by id", limiter.try_acquire(letter(known_by="4"))
    yield "too much", limiter.try_acquire(letter(recipients=9))


def _bookings(limiter: Limiter) -> Iterator[tuple[str, Any]]:
    booked = [limiter.reserve(letter(known_by=each)) for each in (None, "5", None, "6")]
    yield "reserve", booked[-1].delay
    late = None
    try:
        limiter.reserve(letter(), max_delay=0)
    except RateLimitExceeded as error:
        late = error
    yield "a refused reservation", late
    for each in booked[::2]:
        each.cancel()
    yield "cancel", None


def test_every_key_expires_whatever_was_done(
    server: Server, client: redis.Redis, prefix: str
) -> None:
    policy = Policy(name="test", limits=limits_per("hour"))
    with contextlib.closing(RedisBackend.from_url(server.url, prefix=prefix)) as backend:
        given: dict[str, Any] = {}
        keys: set[str] = set()
        for verb, gave in play(Limiter(policy, backend)):
            left = lives(client, prefix)
            # The last booking is two hours ahead; its key lives an hour more, and a little.
            assert all(0 < each < 4 * HOUR for each in left.values()), (verb, left)
            keys |= left.keys()
            given[verb] = gave
    # All of that was done, and in each way that was meant.
    assert given["try_acquire_many"] == [True, True, False, False]
    assert [bool(given[each]) for each in ("refused", "refused by id")] == [False, False]
    assert (given["too much"].retry_after, given["reserve"] > 3500) == (None, True)
    assert given["a refused reservation"] is not None
    kinds = ("sender:0", "sender:1", "sender_domain:2", "recipient_domain:1", "global:0")
    for part in (*kinds, "bookings:0", ":once:"):
        assert any(part in key for key in keys), part


def test_to_look_leaves_no_key(server: Server, client: redis.Redis, prefix: str) -> None:
    policy = Policy(name="test", limits=limits_per("hour"))
    with contextlib.closing(RedisBackend.from_url(server.url, prefix=prefix)) as backend:
        limiter = Limiter(policy, backend)
        assert limiter.check(letter())
        assert limiter.check(letter(known_by="1"))
        assert not limiter.check(letter(recipients=9))
        assert limiter.usage(ANN)[0].used == 0
        limiter.reset(ANN)
        assert limiter.try_acquire_many([]) == []
        assert lives(client, prefix) == {}


def test_what_is_refused_leaves_no_key_where_refused_attempts_do_not_count(
    server: Server, client: redis.Redis, prefix: str
) -> None:
    policy = Policy(name="test", limits=[RecipientRateLimit("3/hour", scope="sender_domain")])
    with contextlib.closing(RedisBackend.from_url(server.url, prefix=prefix)) as backend:
        limiter = Limiter(policy, backend)
        assert not limiter.try_acquire(letter(recipients=4))
        assert limiter.try_acquire(letter(recipients=3))
        before = {key: client.dump(f"{prefix}{key}") for key in lives(client, prefix)}
        assert not limiter.try_acquire(letter())
        with pytest.raises(RateLimitExceeded):
            limiter.reserve(letter(), max_delay=1)
        assert {key: client.dump(f"{prefix}{key}") for key in lives(client, prefix)} == before


@valkey_only
def test_nothing_is_left_once_every_window_is_over(
    server: Server, client: redis.Redis, prefix: str
) -> None:
    policy = Policy(name="test", limits=limits_per("second"))
    with contextlib.closing(RedisBackend.from_url(server.url, prefix=prefix)) as backend:
        assert list(play(Limiter(policy, backend, remember=1)))
        left = lives(client, prefix)
        assert left
        assert -1 not in left.values()
        wait_until(lambda: not lives(client, prefix))


async def test_every_key_of_who_awaits_expires(
    server: Server, client: redis.Redis, prefix: str
) -> None:
    policy = Policy(name="test", limits=limits_per("second"))
    async with contextlib.aclosing(
        AsyncRedisBackend.from_url(server.url, prefix=prefix)
    ) as backend:
        limiter = AsyncLimiter(policy, backend, remember=1)
        assert await limiter.try_acquire(letter(known_by="1"))
        booked = [await limiter.reserve(letter()) for _ in range(4)]
        await booked[-1].cancel()
        left = await asyncio.to_thread(lives, client, prefix)
        assert len(left) > 3
        assert all(0 < each < 9 * SECOND for each in left.values())


def test_a_key_does_not_expire_before_its_window_is_over(
    server: Server, client: redis.Redis, prefix: str
) -> None:
    policy = Policy(name="test", limits=[MessageRateLimit("2/second"), MessageRateLimit("2/hour")])
    with contextlib.closing(RedisBackend.from_url(server.url, prefix=prefix)) as backend:
        limiter = Limiter(policy, backend)
        for _ in range(2):
            assert limiter.try_acquire(letter())
            (left,) = lives(client, prefix).values()
            assert HOUR - SECOND < left <= HOUR + HOUR // 8
        booked = limiter.reserve(letter())
        assert booked.delay > 3590
        assert min(lives(client, prefix).values()) > booked.delay * 1000 + HOUR - SECOND


def test_with_a_clock_of_ones_own_a_key_expires_all_the_same(
    server: Server, client: redis.Redis, prefix: str
) -> None:
    policy = Policy(name="test", limits=limits_per("second"))
    with contextlib.closing(
        RedisBackend.from_url(server.url, prefix=prefix, clock=ManualClock())
    ) as backend:
        for verb, _ in play(Limiter(policy, backend, remember=1)):
            left = lives(client, prefix)
            assert all(0 < each <= 2 * HOUR for each in left.values()), (verb, left)


def test_a_key_of_two_policies_lives_as_long_as_the_longer_needs(
    server: Server, client: redis.Redis, prefix: str
) -> None:
    with contextlib.closing(RedisBackend.from_url(server.url, prefix=prefix)) as backend:
        for rate in ("9/second", "9/hour", "9/second"):
            limits = [MessageRateLimit(rate)]
            assert Limiter(Policy(name="test", limits=limits), backend).try_acquire(letter())
        (left,) = lives(client, prefix).values()
        assert left > HOUR - SECOND
