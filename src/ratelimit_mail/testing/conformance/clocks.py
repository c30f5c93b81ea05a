"""Tests of clocks that jump."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ratelimit_mail.limiter import Limiter
from ratelimit_mail.limits import MessageRateLimit
from ratelimit_mail.overrides import Override
from ratelimit_mail.testing.clock import ManualClock
from ratelimit_mail.testing.conformance.suite import ConformanceTests, envelope_to, policy_with

YEAR = 365 * 24 * 3600

__all__ = ["ClockTests"]


class ClockTests(ConformanceTests):
    """Tests of clocks that jump."""

    def test_overrides_end_by_the_clock_of_the_backend(self) -> None:
        """By the time that `now` returns."""
        clock = ManualClock()
        end = datetime.fromtimestamp(clock() / 1000, UTC) + timedelta(hours=1)
        policy = policy_with(MessageRateLimit("1/minute", name="a minute")).evolve(
            overrides=[Override({"a minute": 2}, senders=[envelope_to().sender], ends=end)]
        )
        limiter = Limiter(policy, self.backend(clock))
        clock.advance(3599.999)
        assert limiter.try_acquire(envelope_to())
        assert limiter.try_acquire(envelope_to())
        clock.advance(0.001)
        assert limiter.try_acquire(envelope_to()).retry_after == 59.999

    def test_a_clock_that_goes_back_an_hour_frees_no_capacity(self) -> None:
        """A message counts until its window after the original time is over."""
        limiter, clock = self.limiter(MessageRateLimit("2/minute"))
        assert all(limiter.try_acquire(envelope_to()) for _ in range(2))
        clock.advance(-3600)
        assert limiter.try_acquire(envelope_to()).retry_after == 3660
        clock.advance(3659.999)
        assert not limiter.try_acquire(envelope_to())
        clock.advance(0.001)
        assert limiter.try_acquire(envelope_to())

    def test_a_message_sent_while_the_clock_is_back_counts_from_the_newest_event(self) -> None:
        """For the count, time stands still until the clock has caught up."""
        limiter, clock = self.limiter(MessageRateLimit("2/minute"))
        assert limiter.try_acquire(envelope_to())
        clock.advance(-30)
        assert limiter.try_acquire(envelope_to())
        assert limiter.try_acquire(envelope_to()).retry_after == 90

    def test_a_clock_that_goes_forward_a_year_and_back_frees_no_capacity(self) -> None:
        """A sender who sent nothing in between is not affected at all."""
        limiter, clock = self.limiter(MessageRateLimit("2/day"))
        assert all(limiter.try_acquire(envelope_to()) for _ in range(2))
        start = clock()
        clock.set(start + YEAR * 1000)
        assert limiter.try_acquire(envelope_to(sender="bob@uwo.ca"))
        clock.set(start)
        assert limiter.try_acquire(envelope_to()).retry_after == 86400
        assert limiter.try_acquire(envelope_to(sender="bob@uwo.ca"))
        refused = limiter.try_acquire(envelope_to(sender="bob@uwo.ca"))
        assert refused.retry_after == 86400 + YEAR
