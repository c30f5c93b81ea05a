"""Clocks that jump."""

from __future__ import annotations

from ratelimit_mail.limits import MessageRateLimit
from ratelimit_mail.testing.conformance.suite import Suite, letter

YEAR = 365 * 24 * 3600

__all__ = ["Clocks"]


class Clocks(Suite):
    """Clocks that jump."""

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
