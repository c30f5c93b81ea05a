"""Clocks that jump."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ratelimit_mail.limiter import Limiter
from ratelimit_mail.limits import MessageRateLimit
from ratelimit_mail.overrides import Override
from ratelimit_mail.testing.clock import ManualClock
from ratelimit_mail.testing.conformance.suite import Suite, letter, policy_of

YEAR = 365 * 24 * 3600

__all__ = ["Clocks"]


class Clocks(Suite):
    """Clocks that jump."""

    def test_overrides_end_by_the_clock_of_the_backend(self) -> None:
        """What `present` is for."""
        clock = ManualClock()
        end = datetime.fromtimestamp(clock() / 1000, UTC) + timedelta(hours=1)
        policy = policy_of(MessageRateLimit("1/minute", name="a minute")).evolve(
            overrides=[Override({"a minute": 2}, senders=[letter().sender], ends=end)]
        )
        limiter = Limiter(policy, self.backend(clock))
        clock.advance(3599.999)
        assert limiter.try_acquire(letter())
        assert limiter.try_acquire(letter())
        clock.advance(0.001)
        assert limiter.try_acquire(letter()).retry_after == 59.999

    def test_a_clock_that_goes_back_an_hour_frees_no_room(self) -> None:
        """Point 3.9."""
        limiter, clock = self.limiter(MessageRateLimit("2/minute"))
        assert all(limiter.try_acquire(letter()) for _ in range(2))
        clock.advance(-3600)
        assert limiter.try_acquire(letter()).retry_after == 3660
        clock.advance(3659.999)
        assert not limiter.try_acquire(letter())
        clock.advance(0.001)
        assert limiter.try_acquire(letter())

    def test_what_is_sent_while_the_clock_is_back_stands_at_the_newest_event(self) -> None:
        """Point 3.9: for the count, time stands still until the clock has caught up."""
        limiter, clock = self.limiter(MessageRateLimit("2/minute"))
        assert limiter.try_acquire(letter())
        clock.advance(-30)
        assert limiter.try_acquire(letter())
        assert limiter.try_acquire(letter()).retry_after == 90

    def test_a_clock_that_goes_forward_a_year_and_back_frees_no_room(self) -> None:
        """Point 3.9: who sent nothing in between is not even touched."""
        limiter, clock = self.limiter(MessageRateLimit("2/day"))
        assert all(limiter.try_acquire(letter()) for _ in range(2))
        start = clock()
        clock.set(start + YEAR * 1000)
        assert limiter.try_acquire(letter(sender="bob@uwo.ca"))
        clock.set(start)
        assert limiter.try_acquire(letter()).retry_after == 86400
        assert limiter.try_acquire(letter(sender="bob@uwo.ca"))
        refused = limiter.try_acquire(letter(sender="bob@uwo.ca"))
        assert refused.retry_after == 86400 + YEAR
