"""Overrides, exemptions, grants and counts per node on real servers, with the answers of memory."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
import redis
from rlm_testkit.redis_backends import (
    ANN,
    BackendFactory,
    envelope_from,
    one_kind_per_server,
    unique_prefix,
)
from rlm_testkit.servers import Server, wait_until

from ratelimit_mail import (
    AsyncLimiter,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientLimit,
    RecipientRateLimit,
)
from ratelimit_mail.backends import AsyncRedisBackend, MemoryBackend
from ratelimit_mail.conditions import has_tag
from ratelimit_mail.overrides import Exemption, Grant, Override
from ratelimit_mail.testing import ManualClock, generated_script, play

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOON_MS = int(NOON.timestamp()) * 1000
BOB = "bob@uwo.ca"

LIMITS = [
    RecipientLimit(3, name="recipients a message"),
    MessageRateLimit("3/minute", name="messages a minute", denied="count"),
    RecipientRateLimit("9/day", name="recipients a day"),
]

prefix = pytest.fixture(unique_prefix)
backends = pytest.fixture(one_kind_per_server)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON_MS)


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


def campus_policy(**options: Any) -> Policy:
    return Policy(name="uwo", internal_domains=["uwo.ca"], **{"limits": LIMITS, **options})


def accepted_in_a_row(limiter: Limiter, sender: str = ANN) -> int:
    """Return how many messages are accepted before the first denial, at most 50."""
    accepted = 0
    while accepted < 50 and limiter.try_acquire(envelope_from(sender)):
        accepted += 1
    return accepted


def used(limiter: Limiter, sender: str = ANN) -> list[tuple[int, int]]:
    """Return how much of each limit is used, and the limit."""
    return [(usage.used, usage.limit.limit) for usage in limiter.usage(sender)]


def test_what_was_sent_before_a_raise_counts_and_what_was_sent_in_it_counts_after(
    backends: BackendFactory, server: Server, prefix: str, clock: ManualClock
) -> None:
    hour = timedelta(hours=1)
    raised = Override(
        {"messages a minute": "30/hour", "recipients a day": 12},
        senders=[ANN],
        starts=NOON + hour,
        ends=NOON + 2 * hour,
    )
    backend = backends.from_url(server.url, prefix=prefix, clock=clock)
    limiter = Limiter(campus_policy(overrides=[raised]), backend)
    assert accepted_in_a_row(limiter) == 3
    clock.advance(120)
    assert accepted_in_a_row(limiter) == 3
    clock.advance(3480 - 0.001)
    assert used(limiter) == [(0, 3), (6, 9)]
    clock.advance(0.001)  # 13:00: a different window
    assert used(limiter) == [(4, 30), (6, 12)]  # the refused attempt of 12:02 is one of them
    assert accepted_in_a_row(limiter) == 6
    clock.advance(3600)
    assert used(limiter) == [(0, 3), (12, 9)]
    decision = limiter.try_acquire(envelope_from())
    assert decision.limit == LIMITS[2]
    assert accepted_in_a_row(limiter, BOB) == 3


def test_an_override_ends_to_the_millisecond_by_the_clock_of_the_backend(
    backends: BackendFactory, server: Server, prefix: str, clock: ManualClock
) -> None:
    raised = Override(
        {"recipients a message": 5}, senders=[ANN], ends=NOON + timedelta(milliseconds=3)
    )
    backend = backends.from_url(server.url, prefix=prefix, clock=clock)
    limiter = Limiter(campus_policy(overrides=[raised]), backend)
    message = envelope_from(recipients=5)
    allowed = []
    for _ in range(5):
        allowed.append(bool(limiter.check(message)))
        clock.advance(0.001)
    assert allowed == [True, True, True, False, False]


async def test_an_async_limiter_ends_an_override_by_the_clock_too(
    server: Server, prefix: str, clock: ManualClock
) -> None:
    raised = Override({"recipients a message": 5}, senders=[ANN], ends=NOON)
    backend = AsyncRedisBackend.from_url(server.url, prefix=prefix, timeout=30, clock=clock)
    try:
        limiter = AsyncLimiter(campus_policy(overrides=[raised]), backend)
        message = envelope_from(recipients=5)
        clock.set(NOON_MS - 1)
        assert await limiter.try_acquire(message)
        clock.set(NOON_MS)
        assert not await limiter.try_acquire(message)
        assert [each.used for each in await limiter.usage(ANN)] == [1, 5]
    finally:
        await backend.aclose()


def test_without_a_clock_an_override_ends_when_it_says(
    backends: BackendFactory, server: Server, prefix: str
) -> None:
    ends = datetime.now(UTC) + timedelta(milliseconds=300)
    hour = timedelta(hours=1)
    overrides = [
        Override({"recipients a message": 5}, senders=[ANN], ends=ends),
        Override({"recipients a message": 50}, senders=[ANN], starts=ends + hour),
        Override({"recipients a message": 50}, senders=[ANN], ends=ends - hour),
    ]
    limiter = Limiter(
        campus_policy(overrides=overrides), backends.from_url(server.url, prefix=prefix)
    )
    message = envelope_from(recipients=5)

    def is_over() -> bool:
        before = time.time()
        is_denied = not limiter.check(message)
        after = time.time()
        # Times are truncated to the millisecond.
        if is_denied:
            assert after >= ends.timestamp() - 0.001
        else:
            assert before < ends.timestamp()
        return is_denied

    wait_until(is_over)
    assert limiter.check(envelope_from(recipients=3))


def test_exempt_senders_and_senders_without_a_grant_leave_no_key(
    backends: BackendFactory, server: Server, prefix: str, client: redis.Redis
) -> None:
    policy = campus_policy(
        exemptions=[Exemption(senders=[ANN])], grants=[Grant(senders=[ANN, "eve@uwo.ca"])]
    )
    limiter = Limiter(policy, backends.from_url(server.url, prefix=prefix))
    for _ in range(9):
        assert limiter.try_acquire(envelope_from(ANN, recipients=50))
        assert limiter.acquire(envelope_from(ANN, envelope_id="1"))
        assert str(limiter.try_acquire(envelope_from(BOB)).rule) == "senders must be granted first"
        assert limiter.try_acquire(envelope_from(BOB, envelope_id="2")).rule is not None
    assert [*client.scan_iter(f"{prefix}*", count=10_000)] == []
    assert limiter.try_acquire(envelope_from("eve@uwo.ca"))
    assert [*client.scan_iter(f"{prefix}*", count=10_000)] != []


def test_nodes_share_counts_only_with_nodes_of_the_same_name(
    backends: BackendFactory, server: Server, prefix: str, clock: ManualClock
) -> None:
    policy = campus_policy(per_node=True)
    limiters = [
        Limiter(policy, backends.from_url(server.url, prefix=prefix, clock=clock), node=node)
        for node in ("mail1", "mail2", "mail1", "mail 1")
    ]
    together = Limiter(campus_policy(), backends.from_url(server.url, prefix=prefix, clock=clock))
    first, second, again, other = limiters
    assert accepted_in_a_row(first) == 3
    assert accepted_in_a_row(again) == 0
    assert [accepted_in_a_row(each) for each in (second, other, together)] == [3, 3, 3]
    second.reset(ANN)
    assert [used(each)[1][0] for each in (*limiters, together)] == [3, 0, 3, 3, 3]
    assert second.reserve(envelope_from()).delay == 0
    assert first.reserve(envelope_from()).delay > 0
    assert again.reserve(envelope_from()).delay > 0
    assert second.reserve(envelope_from(envelope_id="1")).delay == 0
    assert second.try_acquire(envelope_from(envelope_id="1"))


@pytest.mark.parametrize("seed", range(6))
def test_generated_scripts_with_overrides_have_the_answers_of_a_memory_backend(
    backends: BackendFactory, server: Server, prefix: str, seed: int
) -> None:
    source = random.Random(seed)
    script = generated_script(source, steps=120)
    named = [attrs.evolve(limit, name=f"limit {i}") for i, limit in enumerate(script.policy.limits)]
    begin = datetime.fromtimestamp(1_700_000_000, UTC)

    def random_period() -> dict[str, Any]:
        starts = begin + timedelta(milliseconds=source.randint(0, 40_000))
        return {"starts": starts, "ends": starts + timedelta(seconds=source.randint(1, 40))}

    policy = attrs.evolve(
        script.policy,
        limits=named,
        tiers=(),
        overrides=[
            Override({limit.name or "": source.randint(1, 9)}, senders=[sender], **random_period())
            for limit in named
            for sender in (ANN, "uwo.ca", "<>")
        ],
        exemptions=[
            Exemption([named[0].name or ""], when=has_tag("wireless"), **random_period()),
            Exemption(senders=[BOB], **random_period()),
        ],
        grants=[Grant(senders=["uwo.ca"]), Grant(senders=["<>"], **random_period())],
    )
    script = attrs.evolve(script, policy=policy)
    answers = play(script, lambda clock: backends.from_url(server.url, prefix=prefix, clock=clock))
    assert answers == play(script, MemoryBackend)
    plain = policy.evolve(overrides=(), exemptions=(), grants=None)
    assert answers != play(attrs.evolve(script, policy=plain), MemoryBackend)
