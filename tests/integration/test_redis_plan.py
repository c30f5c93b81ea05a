"""The planner with counts on a server: the same plan as with the same counts in memory."""

from __future__ import annotations

import pytest
from rlm_testkit.redis_backends import unique_prefix
from rlm_testkit.servers import Server

from ratelimit_mail import Envelope, Limiter, MessageRateLimit, Policy, RecipientRateLimit
from ratelimit_mail.backends import Backend, MemoryBackend, RedisBackend
from ratelimit_mail.planner import plan_mailing
from ratelimit_mail.testing import ManualClock

prefix = pytest.fixture(unique_prefix)

ANN, BOB = "ann@uwo.ca", "bob@example.com"

POLICY = Policy(
    name="example",
    limits=[
        MessageRateLimit("20/10 minutes", denied="count"),
        RecipientRateLimit("60/day", scope="sender"),
        MessageRateLimit("50/hour", scope="global", resolution="1 second"),
    ],
)


def delays(backend: Backend, clock: ManualClock) -> tuple[float, ...]:
    """Return the plan of 50 messages after some were sent."""
    limiter = Limiter(POLICY, backend)
    for i in range(30):
        limiter.try_acquire(Envelope(ANN, [BOB]))
        clock.advance(7.001 + i % 3)
    return plan_mailing(POLICY, [1] * 50, sender=ANN, backend=backend).delays


def test_the_plan_is_the_same_as_from_memory(server: Server, prefix: str) -> None:
    clock = ManualClock(1_795_435_200_000)
    backend = RedisBackend.from_url(server.url, prefix=prefix, clock=clock)
    in_redis = delays(backend, clock)
    backend.close()
    clock = ManualClock(1_795_435_200_000)
    assert in_redis == delays(MemoryBackend(clock), clock)
    assert in_redis[-1] > 80_000


def test_with_the_clock_of_the_server_a_plan_is_never_too_early(
    server: Server, prefix: str
) -> None:
    backend = RedisBackend.from_url(server.url, prefix=prefix)
    limiter = Limiter(POLICY, backend)
    for _ in range(20):
        assert limiter.try_acquire(Envelope(ANN, [BOB]))
    plan = plan_mailing(POLICY, [1], sender=ANN, backend=backend)
    retry_after = limiter.check(Envelope(ANN, [BOB])).retry_after
    backend.close()
    assert retry_after is not None
    assert retry_after <= plan.delays[0] <= 600
