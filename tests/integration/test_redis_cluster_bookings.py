"""Bookings over several slots of a cluster: in all slots or in none, in the order of the sender."""

from __future__ import annotations

import asyncio

import pytest
import redis
from rlm_testkit.multi_slot import (
    ENVELOPE,
    SLOTS,
    charge_slot,
    cluster_client,
    per_slot,
    used,
)
from rlm_testkit.redis_backends import unique_prefix
from rlm_testkit.servers import Cluster

from ratelimit_mail import (
    AsyncLimiter,
    Client,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RateLimitExceeded,
    Tier,
)
from ratelimit_mail.backends import AsyncRedisBackend, MemoryBackend, RedisBackend
from ratelimit_mail.conditions import has_tag
from ratelimit_mail.testing import ManualClock

client = pytest.fixture(cluster_client, scope="module")


SENDERS = ("ann@uwo.ca", "bob@uwo.ca")
DOMAINS = ("a.org", "b.org", "c.org")
NAMES = ("x", "y", "z")


@pytest.mark.parametrize("full", range(3))
def test_a_booking_that_one_slot_refuses_is_in_no_other_slot(
    client: redis.RedisCluster, full: int
) -> None:
    backend = RedisBackend(client, prefix=unique_prefix(), clock=ManualClock())
    limiter = Limiter(per_slot("1/day"), backend)
    assert charge_slot(limiter, full)
    with pytest.raises(RateLimitExceeded) as caught:
        limiter.reserve(ENVELOPE, max_delay=10)
    assert caught.value.decision.retry_after == 86_400
    assert used(limiter) == [int(slot == full) for slot in range(3)]
    # Nor is it in the sender's queue, where the next booking would be after it.
    assert limiter.reserve(Envelope("ann@uwo.ca", ["x@c.org"])).delay == (86_400 if not full else 0)


def test_bookings_over_several_slots_are_in_the_order_of_the_sender(
    client: redis.RedisCluster,
) -> None:
    backend = RedisBackend(client, prefix=unique_prefix(), clock=ManualClock())
    limits = [
        MessageRateLimit("9/minute"),
        MessageRateLimit("1/minute", scope="recipient_domain"),
    ]
    limiter = Limiter(Policy(name="test", limits=limits), backend)
    delays = [
        limiter.reserve(Envelope("ann@uwo.ca", [f"x@{domain}" for domain in domains])).delay
        for domains in (["a.org"], ["a.org", "b.org"], ["c.org"], ["a.org"], ["d.org"])
    ]
    assert delays == [0, 60, 60, 120, 120]
    # Those of another sender may be earlier if the domain has room.
    assert limiter.reserve(Envelope("bob@uwo.ca", ["x@d.org"])).delay == 0
    assert limiter.reserve(Envelope("bob@uwo.ca", ["x@b.org"])).delay == 0


def test_a_slot_that_only_records_for_another_tier_refuses_no_booking(
    client: redis.RedisCluster,
) -> None:
    policy = Policy(
        name="test",
        tiers=[
            Tier(
                "away",
                when=has_tag("away"),
                limits=[MessageRateLimit("1/minute", scope="recipient_domain")],
            ),
            Tier("home", limits=[MessageRateLimit("9/minute", scope="client")]),
        ],
    )
    away = Client(address="10.0.0.1", tags={"away"})
    clock = ManualClock()
    backend = RedisBackend(client, prefix=unique_prefix(), clock=clock)
    for limiter in (Limiter(policy, backend), Limiter(policy, MemoryBackend(clock))):
        delays = [limiter.reserve(Envelope("ann@uwo.ca", ["x@a.org"], away)).delay for _ in "12"]
        assert delays == [0, 60]
        with pytest.raises(RateLimitExceeded) as caught:  # only the queue is in the way
            limiter.reserve(Envelope("ann@uwo.ca", ["x@b.org"], away), max_delay=10)
        assert caught.value.decision.limit == policy.tiers[0].limits[0]
        assert caught.value.decision.retry_after == 60
        home = Client(address="10.0.0.1")
        assert limiter.usage("10.0.0.1", scope="client", client=home)[0].used == 1
        # The other tier's limit has room, so its mail stands in the same queue.
        assert limiter.reserve(Envelope("ann@uwo.ca", ["x@c.org"], home)).delay == 60


async def test_a_cancelled_wait_is_taken_back_in_every_slot(cluster: Cluster) -> None:
    backend = AsyncRedisBackend.from_url(
        cluster.url, prefix=unique_prefix(), clock=ManualClock(), timeout=30
    )
    asleep = asyncio.Event()

    async def sleep(_: float) -> None:
        asleep.set()
        await asyncio.Event().wait()

    limiter = AsyncLimiter(per_slot("1/minute"), backend, sleep=sleep)
    try:
        assert await limiter.try_acquire(ENVELOPE)
        waiting = asyncio.create_task(limiter.acquire(ENVELOPE))
        await asleep.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        for subject, scope in SLOTS:
            (usage,) = await limiter.usage(subject, scope=scope)
            assert (usage.used, usage.resets_in) == (1, 60)
        assert (await limiter.reserve(ENVELOPE)).delay == 60
    finally:
        await backend.aclose()
