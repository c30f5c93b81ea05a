"""What the Redis backend stores of unique recipients, for how long, and what a repetition takes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from rlm_testkit.redis_backends import unique_prefix
from rlm_testkit.servers import Server

from ratelimit_mail import Envelope, Limiter, Policy, RecipientRateLimit
from ratelimit_mail.backends import RedisBackend
from ratelimit_mail.exceptions import BackendError
from ratelimit_mail.testing import ManualClock

prefix = pytest.fixture(unique_prefix)

POLICY = Policy(name="test", limits=[RecipientRateLimit("1000/hour", unique=True)])


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


def to(*names: str) -> Envelope:
    return Envelope("ann@uwo.ca", [f"{name}@example.com" for name in names])


def members_key(prefix: str) -> str:
    return f"{prefix}{{ann@uwo.ca}}::test:sender:6"


def test_recipients_are_stored_as_digests_and_forgotten_after_a_window(
    client: redis.Redis, prefix: str
) -> None:
    clock = ManualClock()
    limiter = Limiter(POLICY, RedisBackend(client, prefix=prefix, clock=clock))
    for number in range(50):
        assert limiter.try_acquire(to(f"user{number}", "bob"))
        clock.advance(1)
    key = members_key(prefix)
    assert client.zcard(key) == 52  # and the generation of the log
    assert all(b"@" not in member and b"bob" not in member for member in client.zrange(key, 0, -1))
    assert 0 < client.pttl(key) <= 2 * 3_600_000 + 450_000
    clock.advance(3601)
    assert limiter.try_acquire(to("bob"))
    assert client.zcard(key) == 2
    limiter.reset("ann@uwo.ca")
    assert client.exists(key) == 0


def test_recipients_of_a_log_that_was_lost_do_not_count(client: redis.Redis, prefix: str) -> None:
    clock = ManualClock()
    limiter = Limiter(POLICY, RedisBackend(client, prefix=prefix, clock=clock))
    lost = limiter.try_acquire(to("bob", "eve"))
    client.delete(f"{prefix}{{ann@uwo.ca}}:test:sender:6")
    assert limiter.usage("ann@uwo.ca")[0].used == 0
    assert limiter.try_acquire(to("bob"))
    limiter.refund(lost)
    assert limiter.usage("ann@uwo.ca")[0].used == 1


def test_a_value_of_another_program_is_not_touched(client: redis.Redis, prefix: str) -> None:
    limiter = Limiter(POLICY, RedisBackend(client, prefix=prefix))
    client.set(members_key(prefix), "mine")
    for call in (
        lambda: limiter.try_acquire(to("bob")),
        lambda: limiter.usage("ann@uwo.ca"),
    ):
        with pytest.raises(BackendError, match="::test:sender:6' holds a value that is not of"):
            call()
    assert client.get(members_key(prefix)) == b"mine"


def test_no_call_reads_all_recipients_while_bookings_are_ahead(
    client: redis.Redis, prefix: str
) -> None:
    def ranges_read() -> int:
        stats = client.info("commandstats")
        return sum(
            stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("zrangebyscore", "zscan")
        )

    clock = ManualClock()
    limiter = Limiter(POLICY, RedisBackend(client, prefix=prefix, clock=clock))
    for number in range(10):
        assert limiter.try_acquire(to(*(f"user{number}.{i}" for i in range(100))))
        clock.advance(1)
    booking = limiter.reserve(to("eve"))
    before = ranges_read()
    assert limiter.try_acquire(to("user5.5"))
    assert not limiter.check(to("bob"))
    (usage,) = limiter.usage("ann@uwo.ca")
    assert (usage.used, usage.remaining) == (1000, 0)
    assert ranges_read() == before
    clock.advance(booking.delay)
    assert booking.redeem()
