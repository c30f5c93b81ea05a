"""Generated scripts on real servers: memory, Valkey and Redis, in both colours, answer alike."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable, Iterator
from typing import TypeVar

import attrs
import pytest
import redis
import redis.asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from rlm_testkit.servers import Server

from ratelimit_mail import MessageRateLimit, Policy, RecipientRateLimit
from ratelimit_mail.backends import (
    AsyncRedisBackend,
    Backend,
    MemoryBackend,
    RedisBackend,
)
from ratelimit_mail.testing import ManualClock, Script, generated_script, play
from ratelimit_mail.testing.sync_adapter import SyncAdapter

T = TypeVar("T")

HALF = settings(max_examples=settings().max_examples // 2)
"""50 scripts, and 10,000 for the oracle, each played three times."""

LARGE = Policy(
    name="large",
    internal_domains=["uwo.ca", ".uwo.ca"],
    limits=[
        MessageRateLimit("5/5 seconds"),
        RecipientRateLimit("60/day", denied="count"),
        MessageRateLimit("900/day", scope="global", resolution="1 second"),
    ],
)
"""One log is trimmed all the time; two grow until what cannot be told apart is kept as one."""


SHORT = Policy(
    name="short",
    internal_domains=["uwo.ca", ".uwo.ca"],
    limits=[
        MessageRateLimit("3/second"),
        RecipientRateLimit("9/second", scope="recipient_domain", denied="count"),
        MessageRateLimit("6/2 seconds", scope="global", resolution="1 second"),
    ],
)
EDGES = (0, 0, 0.001, 0.001, 0.002, 0.5, 0.997, 0.998, 0.999)
"""Pauses after which some of what SHORT counts has just left, and some is just about to."""


Makers = list[Callable[[ManualClock], Backend]]


def own_prefix() -> str:
    return f"test-{uuid.uuid4().hex[:12]}:"


@pytest.fixture(scope="module")
def both_colours(server: Server) -> Iterator[Makers]:
    """What makes an empty backend on the server, in each colour."""
    client = server.client()
    loop = asyncio.new_event_loop()
    awaited = redis.asyncio.Redis(port=server.port)
    yield [
        lambda clock: RedisBackend(client, prefix=own_prefix(), clock=clock),
        lambda clock: SyncAdapter(
            AsyncRedisBackend(awaited, prefix=own_prefix(), clock=clock), loop.run_until_complete
        ),
    ]
    loop.run_until_complete(awaited.aclose())
    loop.close()
    client.close()


@HALF
@given(seed=st.integers(0, 1 << 64), jumps=st.booleans())
def test_generated_scripts_have_the_answers_of_memory(
    both_colours: Makers, seed: int, jumps: bool
) -> None:
    script = generated_script(random.Random(seed), jumps=jumps)
    expected = play(script, MemoryBackend)
    for backend in both_colours:
        assert play(script, backend) == expected


@pytest.mark.parametrize("seed", range(6))
def test_long_scripts_have_the_answers_of_memory(both_colours: Makers, seed: int) -> None:
    script = generated_script(random.Random(seed), steps=300, jumps=bool(seed % 2))
    expected = play(script, MemoryBackend)
    for backend in both_colours:
        assert play(script, backend) == expected


def script_under(policy: Policy, seed: int, pauses: Callable[[float], float]) -> Script:
    """A long script of messages without ids, whose pauses are made of those that were drawn."""
    script = generated_script(random.Random(seed), steps=600, jumps=True)
    steps = [
        (verb, arguments, pauses(pause))
        for verb, arguments, pause in script.steps
        if verb != "reset"
    ]
    return attrs.evolve(script, policy=policy, steps=tuple(steps))


@pytest.mark.parametrize("seed", range(4))
def test_large_logs_have_the_answers_of_memory(both_colours: Makers, seed: int) -> None:
    script = script_under(LARGE, seed, abs)
    expected = play(script, MemoryBackend)
    for backend in both_colours:
        assert play(script, backend) == expected


@pytest.mark.parametrize("seed", range(4))
def test_short_windows_have_the_answers_of_memory(both_colours: Makers, seed: int) -> None:
    source = random.Random(seed)
    script = script_under(SHORT, seed, lambda _: source.choice(EDGES))
    expected = play(script, MemoryBackend)
    for backend in both_colours:
        assert play(script, backend) == expected
