"""Tests of windows: at most N in any window, and all limits are charged or none."""

from __future__ import annotations

import threading

from ratelimit_mail.envelope import Envelope
from ratelimit_mail.limits import ByteRateLimit, MessageRateLimit, RecipientRateLimit
from ratelimit_mail.testing.conformance.suite import ConformanceTests, envelope_to

__all__ = ["WindowTests"]


class WindowTests(ConformanceTests):
    """Tests of windows: at most N in any window, and all limits are charged or none."""

    def test_the_limit_is_admitted_and_no_more(self) -> None:
        """Admit exactly N messages."""
        limiter, _ = self.limiter(MessageRateLimit("3/minute"))
        assert [bool(limiter.try_acquire(envelope_to())) for _ in range(5)] == [1, 1, 1, 0, 0]

    def test_an_event_leaves_exactly_one_window_later(self) -> None:
        """An event at t counts at `now` while t > now - W."""
        limiter, clock = self.limiter(MessageRateLimit("1/minute"))
        assert limiter.try_acquire(envelope_to())
        clock.advance(59.999)
        assert limiter.try_acquire(envelope_to()).retry_after == 0.001
        clock.advance(0.001)
        assert limiter.try_acquire(envelope_to())

    def test_the_window_slides(self) -> None:
        """It is not a fixed window."""
        limiter, clock = self.limiter(MessageRateLimit("2/minute"))
        assert limiter.try_acquire(envelope_to())
        clock.advance(40)
        assert limiter.try_acquire(envelope_to())
        clock.advance(20)
        assert limiter.try_acquire(envelope_to())
        assert limiter.try_acquire(envelope_to()).retry_after == 40

    def test_with_a_resolution_events_leave_at_the_end_of_their_slot(self) -> None:
        """They leave at most one slot late, and never early."""
        limiter, clock = self.limiter(MessageRateLimit("2/minute", resolution="10 seconds"))
        for _ in range(2):
            assert limiter.try_acquire(envelope_to())
            clock.advance(3)
        # Both are in the slot of the first ten seconds, whose last millisecond is 9.999.
        assert limiter.try_acquire(envelope_to()).retry_after == 63.999
        clock.advance(63.998)
        assert not limiter.try_acquire(envelope_to())
        clock.advance(0.001)
        assert limiter.try_acquire(envelope_to())

    def test_retry_after_is_exact_to_the_millisecond(self) -> None:
        """Also for several limits at once."""
        limiter, clock = self.limiter(
            MessageRateLimit("3/10 seconds"), RecipientRateLimit("10/minute")
        )
        for cost in (1, 4, 5):
            assert limiter.try_acquire(envelope_to(cost))
            clock.advance(1.234)
        decision = limiter.try_acquire(envelope_to(3))
        assert decision.retry_after is not None
        assert decision.retry_after > 10
        clock.advance(decision.retry_after - 0.001)
        assert not limiter.check(envelope_to(3))
        clock.advance(0.001)
        assert limiter.check(envelope_to(3))

    def test_a_refused_message_is_not_charged_to_any_limit(self) -> None:
        """The limit per minute is not charged if the limit per day refuses."""
        limiter, _ = self.limiter(MessageRateLimit("10/minute"), RecipientRateLimit("5/day"))
        assert limiter.try_acquire(envelope_to(4))
        for _ in range(20):
            assert not limiter.try_acquire(envelope_to(2))
        minute, day = limiter.usage("ann@uwo.ca")
        assert (minute.used, day.used) == (1, 4)

    def test_a_refused_message_is_not_charged_in_any_scope(self) -> None:
        """Other subjects of the message are not charged either."""
        limiter, _ = self.limiter(
            MessageRateLimit("10/minute"), MessageRateLimit("1/minute", scope="recipient_domain")
        )
        assert limiter.try_acquire(envelope_to(domain="a.org"))
        both = Envelope("ann@uwo.ca", ["x@a.org", "x@b.org"])
        assert not limiter.try_acquire(both)
        assert limiter.usage("ann@uwo.ca")[0].used == 1
        assert limiter.usage("b.org", scope="recipient_domain")[0].used == 0

    def test_a_check_charges_nothing(self) -> None:
        """Not even if refused attempts count."""
        limiter, _ = self.limiter(MessageRateLimit("1/minute", denied="count"))
        for _ in range(5):
            assert limiter.check(envelope_to())
        assert limiter.try_acquire(envelope_to())
        first = limiter.check(envelope_to()).retry_after
        assert limiter.check(envelope_to()).retry_after == first == 60

    def test_events_of_one_slot_leave_together(self) -> None:
        """Nothing of them remains after that."""
        limiter, clock = self.limiter(MessageRateLimit("3/second", resolution="1 second"))
        clock.set(clock() // 1000 * 1000)
        assert limiter.try_acquire(envelope_to())
        clock.advance(0.8)
        assert limiter.try_acquire(envelope_to())
        clock.advance(1.5)
        assert limiter.reserve(envelope_to()).delay == 0
        assert [bool(limiter.try_acquire(envelope_to())) for _ in range(3)] == [True, True, False]
        assert limiter.check(envelope_to()).retry_after == 1.699

    def test_what_was_sent_in_all_never_overflows(self) -> None:
        """Running totals of bytes grow without end while a count is in use."""
        terabyte = 10**12
        limiter, clock = self.limiter(ByteRateLimit("1 TB/second"), ByteRateLimit("1 TB/2 seconds"))
        envelope = Envelope("ann@uwo.ca", ["bob@example.com"], size=terabyte)
        for _ in range(300):  # more than six bytes hold
            assert limiter.try_acquire(envelope)
            assert limiter.try_acquire(envelope).retry_after == 2
            clock.advance(2)
        assert limiter.try_acquire(envelope)
        assert [each.used for each in limiter.usage("ann@uwo.ca")] == [terabyte, terabyte]
        assert limiter.reserve(envelope).delay == 2

    def test_threads_with_one_sender_admit_exactly_the_limit(self) -> None:
        """Eight threads charge at once, and no thread sees half of a charge."""
        limiter, _ = self.limiter(MessageRateLimit("100/day"), RecipientRateLimit("250/day"))
        admitted: list[bool] = []

        def work() -> None:
            for _ in range(40):
                admitted.append(limiter.try_acquire(envelope_to(2)).allowed)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(admitted), sum(admitted)) == (320, 100)
