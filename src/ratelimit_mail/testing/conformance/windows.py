"""At most N in any window, all limits or none."""

from __future__ import annotations

import threading

from ratelimit_mail.envelope import Envelope
from ratelimit_mail.limits import MessageRateLimit, RecipientRateLimit
from ratelimit_mail.testing.conformance.suite import Suite, letter

__all__ = ["Windows"]


class Windows(Suite):
    """At most N in any window, all limits or none."""

    def test_admits_the_limit_and_not_one_more(self) -> None:
        """Point 3.1: at most N."""
        limiter, _ = self.limiter(MessageRateLimit("3/minute"))
        assert [bool(limiter.try_acquire(letter())) for _ in range(5)] == [1, 1, 1, 0, 0]

    def test_an_event_leaves_exactly_one_window_after_it_came(self) -> None:
        """Point 3.1: an event at t counts at now while t > now - W."""
        limiter, clock = self.limiter(MessageRateLimit("1/minute"))
        assert limiter.try_acquire(letter())
        clock.advance(59.999)
        assert limiter.try_acquire(letter()).retry_after == 0.001
        clock.advance(0.001)
        assert limiter.try_acquire(letter())

    def test_the_window_slides_instead_of_starting_afresh(self) -> None:
        """Point 3.1: not a fixed window."""
        limiter, clock = self.limiter(MessageRateLimit("2/minute"))
        assert limiter.try_acquire(letter())
        clock.advance(40)
        assert limiter.try_acquire(letter())
        clock.advance(20)
        assert limiter.try_acquire(letter())
        assert limiter.try_acquire(letter()).retry_after == 40

    def test_a_resolution_makes_events_leave_at_the_end_of_their_slot(self) -> None:
        """Point 3.1: late by at most a slot, never early."""
        limiter, clock = self.limiter(MessageRateLimit("2/minute", resolution="10 seconds"))
        for _ in range(2):
            assert limiter.try_acquire(letter())
            clock.advance(3)
        # Both stand in the slot of the first ten seconds, whose last millisecond is 9.999.
        assert limiter.try_acquire(letter()).retry_after == 63.999
        clock.advance(63.998)
        assert not limiter.try_acquire(letter())
        clock.advance(0.001)
        assert limiter.try_acquire(letter())

    def test_retry_after_is_exact_to_the_millisecond(self) -> None:
        """Point 3.7, for several limits at once."""
        limiter, clock = self.limiter(
            MessageRateLimit("3/10 seconds"), RecipientRateLimit("10/minute")
        )
        for cost in (1, 4, 5):
            assert limiter.try_acquire(letter(cost))
            clock.advance(1.234)
        decision = limiter.try_acquire(letter(3))
        assert decision.retry_after is not None
        assert decision.retry_after > 10
        clock.advance(decision.retry_after - 0.001)
        assert not limiter.check(letter(3))
        clock.advance(0.001)
        assert limiter.check(letter(3))

    def test_a_refused_message_charges_no_limit(self) -> None:
        """Point 3.3: the minute stays free when the day refuses."""
        limiter, _ = self.limiter(MessageRateLimit("10/minute"), RecipientRateLimit("5/day"))
        assert limiter.try_acquire(letter(4))
        for _ in range(20):
            assert not limiter.try_acquire(letter(2))
        minute, day = limiter.usage("ann@uwo.ca")
        assert (minute.used, day.used) == (1, 4)

    def test_a_refused_message_charges_no_other_scope(self) -> None:
        """Point 3.3, across subjects."""
        limiter, _ = self.limiter(
            MessageRateLimit("10/minute"), MessageRateLimit("1/minute", scope="recipient_domain")
        )
        assert limiter.try_acquire(letter(domain="a.org"))
        both = Envelope("ann@uwo.ca", ["x@a.org", "x@b.org"])
        assert not limiter.try_acquire(both)
        assert limiter.usage("ann@uwo.ca")[0].used == 1
        assert limiter.usage("b.org", scope="recipient_domain")[0].used == 0

    def test_a_check_charges_nothing(self) -> None:
        """Not even where refused attempts count."""
        limiter, _ = self.limiter(MessageRateLimit("1/minute", denied="count"))
        for _ in range(5):
            assert limiter.check(letter())
        assert limiter.try_acquire(letter())
        first = limiter.check(letter()).retry_after
        assert limiter.check(letter()).retry_after == first == 60

    def test_what_stands_as_one_in_a_slot_leaves_as_one(self) -> None:
        """Point 3.1: and what has left is forgotten without a trace."""
        limiter, clock = self.limiter(MessageRateLimit("3/second", resolution="1 second"))
        clock.set(clock() // 1000 * 1000)
        assert limiter.try_acquire(letter())
        clock.advance(0.8)
        assert limiter.try_acquire(letter())
        clock.advance(1.5)
        assert limiter.reserve(letter()).delay == 0
        assert [bool(limiter.try_acquire(letter())) for _ in range(3)] == [True, True, False]
        assert limiter.check(letter()).retry_after == 1.699

    def test_threads_on_one_sender_admit_exactly_the_limit(self) -> None:
        """Point 3.3: eight threads, no half seen."""
        limiter, _ = self.limiter(MessageRateLimit("100/day"), RecipientRateLimit("250/day"))
        admitted: list[bool] = []

        def work() -> None:
            for _ in range(40):
                admitted.append(limiter.try_acquire(letter(2)).allowed)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(admitted), sum(admitted)) == (320, 100)
