"""Tests of reservations, waits, refunds and resets."""

from __future__ import annotations

from ratelimit_mail.exceptions import RateLimitExceeded
from ratelimit_mail.limits import MessageRateLimit, RecipientRateLimit
from ratelimit_mail.testing.conformance.suite import ConformanceTests, envelope_to

__all__ = ["BookingTests"]


class BookingTests(ConformanceTests):
    """Tests of reservations, waits, refunds and resets."""

    def test_a_reservation_books_the_first_moment_that_fits(self) -> None:
        """Over all limits."""
        limiter, _ = self.limiter(MessageRateLimit("1/second"), RecipientRateLimit("4/minute"))
        delays = [limiter.reserve(envelope_to(cost)).delay for cost in (1, 2, 1, 3)]
        assert delays == [0, 1, 2, 61]

    def test_bookings_never_exceed_a_window(self) -> None:
        """Neither now nor later."""
        limiter, clock = self.limiter(MessageRateLimit("2/minute"))
        assert limiter.try_acquire(envelope_to())
        clock.advance(50)
        assert limiter.try_acquire(envelope_to())
        assert limiter.reserve(envelope_to()).delay == 10
        clock.advance(9.999)
        assert not limiter.try_acquire(envelope_to())
        clock.advance(0.001)
        assert limiter.try_acquire(envelope_to()).retry_after == 50

    def test_reservations_of_a_sender_keep_their_order(self) -> None:
        """A small message waits behind a large one."""
        limiter, _ = self.limiter(RecipientRateLimit("5/minute"))
        assert limiter.try_acquire(envelope_to(3))
        assert limiter.reserve(envelope_to(4)).delay == 60
        assert limiter.reserve(envelope_to(1)).delay == 60
        assert limiter.reserve(envelope_to(1)).delay == 120

    def test_a_direct_message_may_go_before_a_booking(self) -> None:
        """If the windows have capacity for both."""
        limiter, _ = self.limiter(RecipientRateLimit("5/minute"))
        assert limiter.try_acquire(envelope_to(3))
        assert limiter.reserve(envelope_to(3)).delay == 60
        assert limiter.try_acquire(envelope_to(2))
        assert limiter.try_acquire(envelope_to(1)).retry_after == 60

    def test_bookings_do_not_delay_other_senders_before_their_time(self) -> None:
        """A booking takes capacity only from the windows that contain it."""
        limiter, clock = self.limiter(
            MessageRateLimit("1/hour"), MessageRateLimit("2/minute", scope="global")
        )
        for i in range(5):
            assert limiter.reserve(envelope_to()).delay == i * 3600
        clock.advance(120)
        assert limiter.reserve(envelope_to(sender="bob@uwo.ca")).delay == 0

    def test_a_reservation_too_far_ahead_is_refused_and_charges_nothing(self) -> None:
        """The error says when the message would have gone."""
        limiter, _ = self.limiter(MessageRateLimit("1/minute"))
        assert limiter.try_acquire(envelope_to())
        try:
            limiter.reserve(envelope_to(), max_delay=59.999)
        except RateLimitExceeded as error:
            assert error.decision.retry_after == 60
        else:
            raise AssertionError("booked beyond max_delay")
        assert limiter.reserve(envelope_to(), max_delay=60).delay == 60

    def test_cancelling_a_reservation_removes_exactly_its_charge(self) -> None:
        """Other reservations of the sender stay."""
        limiter, _ = self.limiter(MessageRateLimit("1/minute"))
        reservations = [limiter.reserve(envelope_to()) for _ in range(4)]
        reservations[2].cancel()
        assert limiter.reserve(envelope_to()).delay == 240
        reservations[3].cancel()
        assert not limiter.try_acquire(envelope_to())
        assert limiter.usage("ann@uwo.ca")[0].resets_in == 300

    def test_acquire_waits_until_the_message_may_go(self) -> None:
        """It makes a reservation and sleeps."""
        limiter, clock = self.limiter(MessageRateLimit("2/minute"))
        start = clock()
        moments = []
        for _ in range(5):
            assert limiter.acquire(envelope_to())
            moments.append(clock() - start)
        assert moments == [0, 0, 60_000, 60_000, 120_000]

    def test_a_refund_removes_exactly_its_own_charge(self) -> None:
        """From every limit."""
        limiter, clock = self.limiter(MessageRateLimit("9/minute"), RecipientRateLimit("9/day"))
        decisions = []
        for cost in (1, 2, 4):
            decisions.append(limiter.try_acquire(envelope_to(cost)))
            clock.advance(1)
        limiter.refund(decisions[1])
        minute, day = limiter.usage("ann@uwo.ca")
        assert (minute.used, day.used) == (2, 5)
        clock.advance(58)
        assert limiter.usage("ann@uwo.ca")[0].used == 1

    def test_a_refund_after_the_window_changes_nothing(self) -> None:
        """It does not free capacity of later messages."""
        limiter, clock = self.limiter(MessageRateLimit("2/minute"))
        old = limiter.try_acquire(envelope_to())
        clock.advance(60)
        assert all(limiter.try_acquire(envelope_to()) for _ in range(2))
        limiter.refund(old)
        assert not limiter.try_acquire(envelope_to())

    def test_a_refund_after_a_reset_does_not_remove_newer_charges(self) -> None:
        """Not even a charge of the same moment and cost."""
        limiter, _ = self.limiter(MessageRateLimit("1/minute"))
        old = limiter.try_acquire(envelope_to())
        limiter.reset("ann@uwo.ca")
        assert limiter.try_acquire(envelope_to())
        limiter.refund(old)
        assert not limiter.try_acquire(envelope_to())

    def test_a_reset_forgets_only_its_subject(self) -> None:
        """With its bookings."""
        limiter, _ = self.limiter(
            MessageRateLimit("1/minute"), MessageRateLimit("3/day", scope="global")
        )
        limiter.reserve(envelope_to())
        limiter.reserve(envelope_to())
        assert limiter.try_acquire(envelope_to(sender="bob@uwo.ca"))
        limiter.reset("ann@uwo.ca")
        assert limiter.usage("ann@uwo.ca")[0].used == 0
        assert limiter.usage(scope="global")[0].remaining == 0
        assert not limiter.check(envelope_to(sender="bob@uwo.ca"))
        limiter.reset(scope="global")
        assert limiter.reserve(envelope_to()).delay == 0

    def test_usage_returns_what_is_used_what_remains_and_when_it_is_empty(self) -> None:
        """Bookings reduce what remains before they are used."""
        limiter, clock = self.limiter(RecipientRateLimit("5/minute"))
        assert limiter.try_acquire(envelope_to(2))
        clock.advance(10)
        assert limiter.try_acquire(envelope_to(1))
        assert limiter.reserve(envelope_to(4)).delay == 50
        (usage,) = limiter.usage("ann@uwo.ca")
        assert (usage.used, usage.remaining, usage.resets_in) == (3, 0, 110)
