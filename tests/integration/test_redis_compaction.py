"""Refused attempts that count are compacted in Redis, a few of them with each call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from rlm_testkit.builders import envelope_to
from rlm_testkit.redis_backends import unique_prefix, valkey_only
from rlm_testkit.servers import Server

from ratelimit_mail import Limiter, MessageRateLimit, Policy
from ratelimit_mail.backends import MemoryBackend, RedisBackend
from ratelimit_mail.testing import ManualClock

pytestmark = valkey_only

LIMIT = 100
POLICY = Policy(
    name="test",
    limits=[
        MessageRateLimit(f"{LIMIT}/hour", denied="count"),
        MessageRateLimit("5/10 seconds", on_excess="reject"),
    ],
)
ENVELOPE = envelope_to(1)


class Scene:
    """A sender who never stops, on Redis and in memory."""

    def __init__(self, client: redis.Redis) -> None:
        self.clock = ManualClock()
        self.prefix = unique_prefix()
        self.client = client
        self.limiter = Limiter(POLICY, RedisBackend(client, prefix=self.prefix, clock=self.clock))
        self.in_memory = Limiter(POLICY, MemoryBackend(clock=self.clock))

    def answers(self, messages: int) -> list[tuple[bool, float | None]]:
        """Return the answers on several messages at once; those in memory must be the same."""
        envelopes = [ENVELOPE] * messages
        answers, in_memory = (
            [(each.allowed, each.retry_after) for each in limiter.try_acquire_many(envelopes)]
            for limiter in (self.limiter, self.in_memory)
        )
        assert answers == in_memory
        return answers

    def entries(self) -> int:
        """Return how many entries the sender's log has, which are all whole."""
        [key] = self.client.scan_iter(f"{self.prefix}*:0")
        values: Any = self.client.lrange(key, 0, -1)
        assert b"" not in values
        return len(values) - 1

    def changed_entries(self) -> int:
        """Return how many entries the server has set until now."""
        return int(self.client.info("commandstats")["cmdstat_lset"]["calls"])


@pytest.fixture
def scene(server: Server) -> Iterator[Scene]:
    with server.client() as client:
        yield Scene(client)


def test_no_call_changes_many_entries_and_the_log_stays_short(scene: Scene) -> None:
    most_changed = most_entries = 0
    changed_before = 0
    for i in range(900):
        scene.clock.advance(2 if i < LIMIT else 0.5)
        scene.answers(1)
        changed = scene.changed_entries() if i else 0
        most_changed = max(most_changed, changed - changed_before) if i > 1 else 0
        changed_before = changed
        if i % 20 == 0:
            most_entries = max(most_entries, scene.entries())
    assert 20 < most_changed < 140
    assert most_entries < 5 * LIMIT


def test_in_batches_the_log_stays_short_too(scene: Scene) -> None:
    most_entries = 0
    for _ in range(50):
        scene.clock.advance(60)
        scene.answers(20)
        scene.clock.advance(0.001)
        scene.answers(20)
        most_entries = max(most_entries, scene.entries())
    assert most_entries < 5 * LIMIT


def test_attempts_may_be_taken_out_and_leave_while_a_log_is_compacted(scene: Scene) -> None:
    accepted = []
    for i in range(700):
        scene.clock.advance(0.9 if i % 3 else 21)
        answers = [limiter.try_acquire(ENVELOPE) for limiter in (scene.limiter, scene.in_memory)]
        assert answers[0].retry_after == answers[1].retry_after
        if answers[0]:
            accepted.append(answers)
        if i % 40 == 39 and accepted:
            for limiter, decision in zip(
                (scene.limiter, scene.in_memory), accepted.pop(), strict=True
            ):
                limiter.refund(decision)
    assert scene.entries() < 5 * LIMIT
