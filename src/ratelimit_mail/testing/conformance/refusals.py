"""Tests of refused attempts: which limits count them."""

from __future__ import annotations

from ratelimit_mail.decision import Action
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.limits import MessageRateLimit, RecipientRateLimit
from ratelimit_mail.testing.conformance.suite import ConformanceTests, envelope_to

__all__ = ["RefusalTests"]


class RefusalTests(ConformanceTests):
    """Tests of refused attempts: which limits count them."""

    def test_refused_attempts_that_count_extend_the_denial(self) -> None:
        """With `denied="count"`."""
        limiter, clock = self.limiter(MessageRateLimit("2/minute", denied="count"))
        for _ in range(2):
            assert limiter.try_acquire(envelope_to())
        for _ in range(50):
            clock.advance(10)
            assert not limiter.try_acquire(envelope_to())
        assert limiter.check(envelope_to()).retry_after == 50
        clock.advance(50)
        assert limiter.try_acquire(envelope_to())

    def test_retry_after_includes_the_refused_attempt_itself(self) -> None:
        """With `denied="count"`, the attempt counts as sent."""
        limiter, clock = self.limiter(RecipientRateLimit("5/minute", denied="count"))
        assert limiter.try_acquire(envelope_to(4))
        clock.advance(10)
        assert limiter.try_acquire(envelope_to(3)).retry_after == 60
        clock.advance(59.999)
        assert not limiter.check(envelope_to(3))
        clock.advance(0.001)
        assert limiter.check(envelope_to(3))

    def test_a_refusal_is_counted_only_by_limits_that_count_it(self) -> None:
        """Regardless of the limit that refused."""
        limiter, _ = self.limiter(
            MessageRateLimit("1/minute"),
            RecipientRateLimit("9/hour", denied="count"),
            RecipientRateLimit("8/day"),
        )
        assert limiter.try_acquire(envelope_to(2))
        assert not limiter.try_acquire(envelope_to(3))
        minute, hour, day = limiter.usage("ann@uwo.ca")
        assert (minute.used, hour.used, day.used) == (1, 5, 2)

    def test_a_message_that_can_never_fit_counts_as_refused(self) -> None:
        """With `denied="count"`."""
        limiter, _ = self.limiter(RecipientRateLimit("5/minute", denied="count"))
        decision = limiter.try_acquire(envelope_to(6))
        assert (decision.action, decision.retry_after) == (Action.REJECT, None)
        assert not limiter.try_acquire(envelope_to(1))

    def test_a_count_that_is_full_by_the_refused_attempt_is_not_named(self) -> None:
        """With `denied="count"`, for two subjects of one limit of which only one refused."""
        domains = RecipientRateLimit("2/10 seconds", scope="recipient_domain", denied="count")
        senders = MessageRateLimit("1/7 seconds")
        limiter, clock = self.limiter(senders, domains)
        assert limiter.try_acquire(envelope_to(2, sender="bob@uwo.ca", domain="full.com"))
        clock.advance(5)
        assert limiter.try_acquire(envelope_to(1, domain="free.com"))
        clock.advance(1)
        decision = limiter.try_acquire(Envelope("ann@uwo.ca", ["a@full.com", "b@free.com"]))
        assert (decision.limit, decision.retry_after) == (senders, 9)
