"""Overrides, exemptions, grants and counts per node on real servers, as in memory."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
import redis
from rlm_testkit.redis_backends import ANN, Colour, colour_at, letter, new_prefix
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

prefix = pytest.fixture(new_prefix)
colour = pytest.fixture(colour_at)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON_MS)


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


def policy_of(**options: Any) -> Policy:
    return Policy(name="uwo", internal_domains=["uwo.ca"], **{"limits": LIMITS, **options})


def passing(limiter: Limiter, sender: str = ANN) -> int:
    """How many go before one is turned away."""
    sent = 0
    while sent < 50 and limiter.try_acquire(letter(sender)):
        sent += 1
    return sent


def used(limiter: Limiter, sender: str = ANN) -> list[tuple[int, int]]:
    return [(usage.used, usage.limit.limit) for usage in limiter.usage(sender)]


def test_what_was_sent_before_a_raise_counts_and_what_was_sent_in_it_counts_after(
    colour: Colour, server: Server, prefix: str, clock: ManualClock
) -> None:
    hour = timedelta(hours=1)
    raised = Override(
        {"messages a minute": "30/hour", "recipients a day": 12},
        senders=[ANN],
        starts=NOON + hour,
        ends=NOON + 2 * hour,
    )
    backend = colour.at(server.url, prefix=prefix, clock=clock)
    limiter = Limiter(policy_of(overrides=[raised]), backend)
    assert passing(limiter) == 3
    clock.advance(120)
    assert passing(limiter) == 3
    clock.advance(3480 - 0.001)
    assert used(limiter) == [(0, 3), (6, 9)]
    clock.advance(0.001)  # 13:00, and the window is another
    assert used(limiter) == [(4, 30), (6, 12)]  # the refused attempt of 12:02 is one of them
    assert passing(limiter) == 6
    clock.advance(3600)
    assert used(limiter) == [(0, 3), (12, 9)]
    decision = limiter.try_acquire(letter())
    assert decision.limit == LIMITS[2]
    assert passing(limiter, BOB) == 3


def test_an_override_ends_to_the_millisecond_by_the_clock_that_is_given(
    colour: Colour, server: Server, prefix: str, clock: ManualClock
) -> None:
    raised = Override(
        {"recipients a message": 5}, senders=[ANN], ends=NOON + timedelta(milliseconds=3)
    )
    backend = colour.at(server.url, prefix=prefix, clock=clock)
    limiter = Limiter(policy_of(overrides=[raised]), backend)
    message = letter(recipients=5)
    allowed = []
    for _ in range(5):
        allowed.append(bool(limiter.check(message)))
        clock.advance(0.001)
    assert allowed == [True, True, True, False, False]


async def test_an_async_limiter_ends_an_override_by_the_clock_too(
    server: Server, prefix: str, clock: ManualClock
) -> None:
    raised = Override({"recipients a message": 5}, senders=[ANN], ends=NOON)
    backend = AsyncRedisBackend.from_url(server.url, prefix=prefix, clock=clock)
    try:
        limiter = AsyncLimiter(policy_of(overrides=[raised]), backend)
        message = letter(recipients=5)
        clock.set(NOON_MS - 1)
        assert await limiter.try_acquire(message)
        clock.set(NOON_MS)
        assert not await limiter.try_acquire(message)
        assert [each.used for each in await limiter.usage(ANN)] == [1, 5]
    finally:
        await backend.aclose()


def test_without_a_clock_an_override_ends_when_it_says(
    colour: Colour, server: Server, prefix: str
) -> None:
    ends = datetime.now(UTC) + timedelta(milliseconds=300)
    hour = timedelta(hours=1)
    overrides = [
        Override({"recipients a message": 5}, senders=[ANN], ends=ends),
        Override({"recipients a message": 50}, senders=[ANN], starts=ends + hour),
        Override({"recipients a message": 50}, senders=[ANN], ends=ends - hour),
    ]
    limiter = Limiter(policy_of(overrides=overrides), colour.at(server.url, prefix=prefix))
    message = letter(recipients=5)

    def is_over() -> bool:
        before = time.time()
        is_denied = not limiter.check(message)
        after = time.time()
        # To the millisecond, which is what a time is cut to.
        if is_denied:
            assert after >= ends.timestamp() - 0.001
        else:
            assert before < ends.timestamp()
        return is_denied

    wait_until(is_over)
    assert limiter.check(letter(recipients=3))


def test_the_exempt_and_those_without_a_grant_leave_no_key(
    colour: Colour, server: Server, prefix: str, client: redis.Redis
) -> None:
    policy = policy_of(
        exemptions=[Exemption(senders=[ANN])], grants=[Grant(senders=[ANN, "eve@uwo.ca"])]
    )
    limiter = Limiter(policy, colour.at(server.url, prefix=prefix))
    for _ in range(9):
        assert limiter.try_acquire(letter(ANN, recipients=50))
        assert limiter.acquire(letter(ANN, known_by="1"))
        assert str(limiter.try_acquire(letter(BOB)).rule) == "senders must be granted first"
        assert limiter.try_acquire(letter(BOB, known_by="2")).rule is not None
    assert [*client.scan_iter(f"{prefix}*")] == []
    assert limiter.try_acquire(letter("eve@uwo.ca"))
    assert [*client.scan_iter(f"{prefix}*")] != []


def test_each_node_counts_on_its_own_and_with_others_of_its_name(
    colour: Colour, server: Server, prefix: str, clock: ManualClock
) -> None:
    policy = policy_of(per_node=True)
    limiters = [
        Limiter(policy, colour.at(server.url, prefix=prefix, clock=clock), node=node)
        for node in ("mail1", "mail2", "mail1", "mail 1")
    ]
    together = Limiter(policy_of(), colour.at(server.url, prefix=prefix, clock=clock))
    first, second, again, other = limiters
    assert passing(first) == 3
    assert passing(again) == 0
    assert [passing(each) for each in (second, other, together)] == [3, 3, 3]
    second.reset(ANN)
    assert [used(each)[1][0] for each in (*limiters, together)] == [3, 0, 3, 3, 3]
    assert second.reserve(letter()).delay == 0
    assert first.reserve(letter()).delay > 0
    assert again.reserve(letter()).delay > 0
    assert second.reserve(letter(known_by="1")).delay == 0
    assert second.try_acquire(letter(known_by="1"))


@pytest.mark.parametrize("seed", range(6))
def test_generated_scripts_with_exceptions_have_the_answers_of_the_memory(
    colour: Colour, server: Server, prefix: str, seed: int
) -> None:
    source = random.Random(seed)
    script = generated_script(source, steps=120)
    named = [attrs.evolve(limit, name=f"limit {i}") for i, limit in enumerate(script.policy.limits)]
    begin = datetime.fromtimestamp(1_700_000_000, UTC)

    def some_time() -> dict[str, Any]:
        starts = begin + timedelta(milliseconds=source.randint(0, 40_000))
        return {"starts": starts, "ends": starts + timedelta(seconds=source.randint(1, 40))}

    policy = attrs.evolve(
        script.policy,
        limits=named,
        tiers=(),
        overrides=[
            Override({limit.name or "": source.randint(1, 9)}, senders=[sender], **some_time())
            for limit in named
            for sender in (ANN, "uwo.ca", "<>")
        ],
        exemptions=[
            Exemption([named[0].name or ""], when=has_tag("wireless"), **some_time()),
            Exemption(senders=[BOB], **some_time()),
        ],
        grants=[Grant(senders=["uwo.ca"]), Grant(senders=["<>"], **some_time())],
    )
    script = attrs.evolve(script, policy=policy)
    answers = play(script, lambda clock: colour.at(server.url, prefix=prefix, clock=clock))
    assert answers == play(script, MemoryBackend)
    plain = policy.evolve(overrides=(), exemptions=(), grants=None)
    assert answers != play(attrs.evolve(script, policy=plain), MemoryBackend)
