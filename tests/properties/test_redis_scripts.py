"""Generated scripts on real servers: memory, Valkey and Redis, sync and async, answer alike."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from typing import TypeVar

import attrs
import pytest
import redis
import redis.asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from rlm_testkit.redis_backends import unique_prefix
from rlm_testkit.servers import Server

from ratelimit_mail import MessageRateLimit, Policy, RecipientRateLimit, Tier
from ratelimit_mail.backends import (
    AsyncRedisBackend,
    Backend,
    MemoryBackend,
    RedisBackend,
)
from ratelimit_mail.conditions import has_tag
from ratelimit_mail.testing import BruteForceBackend, ManualClock, Script, generated_script, play
from ratelimit_mail.testing.sync_adapter import SyncAdapter

T = TypeVar("T")

FEWER_EXAMPLES = settings(max_examples=settings().max_examples // 2)
"""50 scripts, and 10,000 with the profile "oracle", because each is played three times."""

LARGE = Policy(
    name="large",
    internal_domains=["uwo.ca", ".uwo.ca"],
    limits=[
        MessageRateLimit("5/5 seconds"),
        RecipientRateLimit("60/day", denied="count"),
        MessageRateLimit("900/day", scope="global", resolution="1 second"),
    ],
)
"""One log is trimmed all the time; two grow until their entries are merged."""


SHORT = Policy(
    name="short",
    internal_domains=["uwo.ca", ".uwo.ca"],
    limits=[
        MessageRateLimit("3/second"),
        RecipientRateLimit("9/second", scope="recipient_domain", denied="count"),
        MessageRateLimit("6/2 seconds", scope="global", resolution="1 second"),
    ],
)
TIERED = Policy(
    name="tiered",
    internal_domains=["uwo.ca", ".uwo.ca"],
    tiers=[
        Tier(
            "wireless",
            when=has_tag("wireless"),
            limits=[
                RecipientRateLimit("6/2 seconds", scope="client", count="external"),
                MessageRateLimit("4/second", enforce=False),
            ],
        ),
        Tier(
            "wired",
            limits=[
                MessageRateLimit("3/second", denied="count"),
                RecipientRateLimit("9/10 seconds", scope="submitter", resolution="1 second"),
            ],
        ),
    ],
)
"""Each tier records what the other counts, in other units and scopes."""

EDGES = (0, 0, 0.001, 0.001, 0.002, 0.5, 0.997, 0.998, 0.999)
"""Pauses after which some events have just left a window of SHORT, and some are about to."""


BackendMakers = list[Callable[[ManualClock], Backend]]


@pytest.fixture(scope="module")
def make_backends(server: Server) -> Iterator[BackendMakers]:
    """Return functions that make a new sync and a new async backend on the server."""
    client = server.client()
    loop = asyncio.new_event_loop()
    async_client = redis.asyncio.Redis(port=server.port)
    yield [
        lambda clock: RedisBackend(client, prefix=unique_prefix(), clock=clock),
        lambda clock: SyncAdapter(
            AsyncRedisBackend(async_client, prefix=unique_prefix(), clock=clock),
            loop.run_until_complete,
        ),
    ]
    loop.run_until_complete(async_client.aclose())
    loop.close()
    client.close()


@FEWER_EXAMPLES
@given(seed=st.integers(0, 1 << 64), jumps=st.booleans())
def test_generated_scripts_give_the_answers_of_a_memory_backend(
    make_backends: BackendMakers, seed: int, jumps: bool
) -> None:
    script = generated_script(random.Random(seed), jumps=jumps)
    expected = play(script, MemoryBackend)
    for make_backend in make_backends:
        assert play(script, make_backend) == expected


@pytest.mark.parametrize("seed", range(6))
def test_long_scripts_give_the_answers_of_a_memory_backend(
    make_backends: BackendMakers, seed: int
) -> None:
    script = generated_script(random.Random(seed), steps=300, jumps=bool(seed % 2))
    expected = play(script, MemoryBackend)
    for make_backend in make_backends:
        assert play(script, make_backend) == expected


def script_under(policy: Policy, seed: int, pauses: Callable[[float], float]) -> Script:
    """Return a long script without resets, with its pauses changed by a function."""
    script = generated_script(random.Random(seed), steps=600, jumps=True)
    steps = [
        (method, arguments, pauses(pause))
        for method, arguments, pause in script.steps
        if method != "reset"
    ]
    return attrs.evolve(script, policy=policy, steps=tuple(steps))


@pytest.mark.parametrize("seed", range(4))
def test_large_logs_give_the_answers_of_a_memory_backend(
    make_backends: BackendMakers, seed: int
) -> None:
    script = script_under(LARGE, seed, abs)
    expected = play(script, MemoryBackend)
    for make_backend in make_backends:
        assert play(script, make_backend) == expected


@pytest.mark.parametrize("seed", range(4))
def test_short_windows_give_the_answers_of_a_memory_backend(
    make_backends: BackendMakers, seed: int
) -> None:
    source = random.Random(seed)
    script = script_under(SHORT, seed, lambda _: source.choice(EDGES))
    expected = play(script, MemoryBackend)
    for make_backend in make_backends:
        assert play(script, make_backend) == expected


@pytest.mark.parametrize("seed", range(4))
def test_tiers_that_record_for_one_another_have_the_answers_of_memory(
    make_backends: BackendMakers, seed: int
) -> None:
    script = script_under(TIERED, seed, abs)
    expected = play(script, MemoryBackend)
    assert expected == play(script, BruteForceBackend)
    for backend in make_backends:
        assert play(script, backend) == expected
