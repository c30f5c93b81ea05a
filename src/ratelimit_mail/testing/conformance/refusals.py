"""Which attempts are counted though they were refused."""

from __future__ import annotations

from ratelimit_mail.decision import Action
from ratelimit_mail.limits import MessageRateLimit, RecipientRateLimit
from ratelimit_mail.testing.conformance.suite import Suite, letter

__all__ = ["Refusals"]


class Refusals(Suite):
    """Which attempts are counted though they were refused."""

    def test_refused_attempts_that_count_keep_one_out(self) -> None:
        """Point 3.6: `denied="count"`."""
        limiter, clock = self.limiter(MessageRateLimit("2/minute", denied="count"))
        for _ in range(2):
            assert limiter.try_acquire(letter())
        for _ in range(50):
            clock.advance(10)
            assert not limiter.try_acquire(letter())
        assert limiter.check(letter()).retry_after == 50
        clock.advance(50)
        assert limiter.try_acquire(letter())

    def test_the_refused_attempt_is_part_of_its_own_retry_after(self) -> None:
        """Point 3.7: with `denied="count"` it is among what was sent."""
        limiter, clock = self.limiter(RecipientRateLimit("5/minute", denied="count"))
        assert limiter.try_acquire(letter(4))
        clock.advance(10)
        assert limiter.try_acquire(letter(3)).retry_after == 60
        clock.advance(59.999)
        assert not limiter.check(letter(3))
        clock.advance(0.001)
        assert limiter.check(letter(3))

    def test_a_refusal_is_counted_only_by_limits_that_count_it(self) -> None:
        """Point 3.6: whichever limit refused."""
        limiter, _ = self.limiter(
            MessageRateLimit("1/minute"),
            RecipientRateLimit("9/hour", denied="count"),
            RecipientRateLimit("8/day"),
        )
        assert limiter.try_acquire(letter(2))
        assert not limiter.try_acquire(letter(3))
        minute, hour, day = limiter.usage("ann@uwo.ca")
        assert (minute.used, hour.used, day.used) == (1, 5, 2)

    def test_what_can_never_fit_counts_as_refused_too(self) -> None:
        """Points 3.5 and 3.6."""
        limiter, _ = self.limiter(RecipientRateLimit("5/minute", denied="count"))
        decision = limiter.try_acquire(letter(6))
        assert (decision.action, decision.retry_after) == (Action.REJECT, None)
        assert not limiter.try_acquire(letter(1))
