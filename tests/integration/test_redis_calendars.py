"""Limits of a calendar by a server's clock, and bookings years ahead."""

from __future__ import annotations

from contextlib import closing

import pytest
from rlm_testkit.builders import campus_policy, envelope_to
from rlm_testkit.redis_backends import unique_prefix, valkey_only
from rlm_testkit.servers import Server

from ratelimit_mail import Limiter, MessageRateLimit
from ratelimit_mail.backends import Backend, MemoryBackend, RedisBackend
from ratelimit_mail.testing import ManualClock

HOUR = 3_600_000
EVENING = 1_729_976_400_000
"""2024-10-26, 23:00 in Berlin. The next day has 25 hours."""


def test_the_day_ends_by_the_clock_of_the_server(server: Server) -> None:
    with closing(RedisBackend.from_url(server.url, prefix=unique_prefix(), timeout=30)) as backend:
        before = backend.now()
        limit = next(
            each
            for zone in ("Pacific/Chatham", "America/Havana")
            for each in [MessageRateLimit("1/calendar day", time_zone=zone)]
            if each.renewed_at(before) > before + HOUR  # no midnight comes during the test
        )
        limiter = Limiter(campus_policy(limit), backend)
        assert limiter.try_acquire(envelope_to())
        decision = limiter.try_acquire(envelope_to())
        assert decision.retry_after is not None
        midnight = before + decision.retry_after * 1000
        assert midnight <= limit.renewed_at(before) <= midnight + backend.now() - before


@valkey_only
@pytest.mark.parametrize(("rate", "times"), [("1/calendar month", 58), ("5/calendar day", 300)])
def test_bookings_far_ahead_are_those_of_memory(server: Server, rate: str, times: int) -> None:
    def booked_at(backend: Backend) -> list[int]:
        limit = MessageRateLimit(rate, time_zone="Europe/Berlin")
        limiter = Limiter(campus_policy(limit), backend)
        return [limiter.reserve(envelope_to()).at for _ in range(times)]

    clock = ManualClock(EVENING)
    redis = RedisBackend.from_url(server.url, prefix=unique_prefix(), clock=clock, timeout=30)
    with closing(redis):
        assert booked_at(redis) == booked_at(MemoryBackend(clock=clock))
