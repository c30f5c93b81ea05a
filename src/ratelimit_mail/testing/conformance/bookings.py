"""Reservations, waits, refunds and resets."""

from __future__ import annotations

from ratelimit_mail.exceptions import RateLimitExceeded
from ratelimit_mail.limits import MessageRateLimit, RecipientRateLimit
from ratelimit_mail.testing.conformance.suite import Suite, letter

__all__ = ["Bookings"]


class Bookings(Suite):
    """Reservations, waits, refunds and resets."""

    def test_a_reservation_books_the_first_moment_that_fits(self) -> None:
        """Point 3.10, over all limits."""
        limiter, _ = self.limiter(MessageRateLimit("1/second"), RecipientRateLimit("4/minute"))
        delays = [limiter.reserve(letter(cost)).delay for cost in (1, 2, 1, 3)]
        assert delays == [0, 1, 2, 61]

    def test_no_window_with_bookings_in_it_passes_its_limit(self) -> None:
        """Point 3.10: neither for now nor for later."""
        limiter, clock = self.limiter(MessageRateLimit("2/minute"))
        assert limiter.try_acquire(letter())
        clock.advance(50)
        assert limiter.try_acquire(letter())
        assert limiter.reserve(letter()).delay == 10
        clock.advance(9.999)
        assert not limiter.try_acquire(letter())
        clock.advance(0.001)
        assert limiter.try_acquire(letter()).retry_after == 50

    def test_reservations_of_a_sender_leave_in_the_order_booked(self) -> None:
        """Point 3.10: the small one waits behind the large one."""
        limiter, _ = self.limiter(RecipientRateLimit("5/minute"))
        assert limiter.try_acquire(letter(3))
        assert limiter.reserve(letter(4)).delay == 60
        assert limiter.reserve(letter(1)).delay == 60
        assert limiter.reserve(letter(1)).delay == 120

    def test_a_direct_message_passes_between_bookings_where_there_is_room(self) -> None:
        """Point 3.10."""
        limiter, _ = self.limiter(RecipientRateLimit("5/minute"))
        assert limiter.try_acquire(letter(3))
        assert limiter.reserve(letter(3)).delay == 60
        assert limiter.try_acquire(letter(2))
        assert limiter.try_acquire(letter(1)).retry_after == 60

    def test_a_queue_on_a_shared_scope_holds_up_nobody_before_it(self) -> None:
        """Point 3.10: bookings take room only in the windows in which they stand."""
        limiter, clock = self.limiter(
            MessageRateLimit("1/hour"), MessageRateLimit("2/minute", scope="global")
        )
        for i in range(5):
            assert limiter.reserve(letter()).delay == i * 3600
        clock.advance(120)
        assert limiter.reserve(letter(sender="bob@uwo.ca")).delay == 0

    def test_a_reservation_too_far_ahead_is_refused_and_charges_nothing(self) -> None:
        """`max_delay` is kept, and says when it would have been."""
        limiter, _ = self.limiter(MessageRateLimit("1/minute"))
        assert limiter.try_acquire(letter())
        try:
            limiter.reserve(letter(), max_delay=59.999)
        except RateLimitExceeded as error:
            assert error.decision.retry_after == 60
        else:
            raise AssertionError("booked beyond max_delay")
        assert limiter.reserve(letter(), max_delay=60).delay == 60

    def test_a_cancelled_reservation_takes_exactly_its_own_event_out(self) -> None:
        """Point 3.10."""
        limiter, _ = self.limiter(MessageRateLimit("1/minute"))
        reservations = [limiter.reserve(letter()) for _ in range(4)]
        reservations[2].cancel()
        assert limiter.reserve(letter()).delay == 240
        reservations[3].cancel()
        assert not limiter.try_acquire(letter())
        assert limiter.usage("ann@uwo.ca")[0].resets_in == 300

    def test_acquire_waits_until_its_turn_has_come(self) -> None:
        """Point 3.10: a reservation and a sleep."""
        limiter, clock = self.limiter(MessageRateLimit("2/minute"))
        start = clock()
        moments = []
        for _ in range(5):
            assert limiter.acquire(letter())
            moments.append(clock() - start)
        assert moments == [0, 0, 60_000, 60_000, 120_000]

    def test_a_refund_takes_exactly_its_own_event_out(self) -> None:
        """Point 3.10, of every limit."""
        limiter, clock = self.limiter(MessageRateLimit("9/minute"), RecipientRateLimit("9/day"))
        decisions = []
        for cost in (1, 2, 4):
            decisions.append(limiter.try_acquire(letter(cost)))
            clock.advance(1)
        limiter.refund(decisions[1])
        minute, day = limiter.usage("ann@uwo.ca")
        assert (minute.used, day.used) == (2, 5)
        clock.advance(58)
        assert limiter.usage("ann@uwo.ca")[0].used == 1

    def test_a_refund_of_what_has_left_by_itself_changes_nothing(self) -> None:
        """No room is made that was not taken."""
        limiter, clock = self.limiter(MessageRateLimit("2/minute"))
        old = limiter.try_acquire(letter())
        clock.advance(60)
        assert all(limiter.try_acquire(letter()) for _ in range(2))
        limiter.refund(old)
        assert not limiter.try_acquire(letter())

    def test_a_refund_after_a_reset_takes_nothing_from_newer_events(self) -> None:
        """Not even from one of the same moment and cost."""
        limiter, _ = self.limiter(MessageRateLimit("1/minute"))
        old = limiter.try_acquire(letter())
        limiter.reset("ann@uwo.ca")
        assert limiter.try_acquire(letter())
        limiter.refund(old)
        assert not limiter.try_acquire(letter())

    def test_a_reset_forgets_one_subject_and_no_other(self) -> None:
        """Bookings included."""
        limiter, _ = self.limiter(
            MessageRateLimit("1/minute"), MessageRateLimit("3/day", scope="global")
        )
        limiter.reserve(letter())
        limiter.reserve(letter())
        assert limiter.try_acquire(letter(sender="bob@uwo.ca"))
        limiter.reset("ann@uwo.ca")
        assert limiter.usage("ann@uwo.ca")[0].used == 0
        assert limiter.usage(scope="global")[0].remaining == 0
        assert not limiter.check(letter(sender="bob@uwo.ca"))
        limiter.reset(scope="global")
        assert limiter.reserve(letter()).delay == 0

    def test_usage_says_what_is_used_what_remains_and_when_it_is_empty(self) -> None:
        """Bookings take from what remains before they are used."""
        limiter, clock = self.limiter(RecipientRateLimit("5/minute"))
        assert limiter.try_acquire(letter(2))
        clock.advance(10)
        assert limiter.try_acquire(letter(1))
        assert limiter.reserve(letter(4)).delay == 50
        (usage,) = limiter.usage("ann@uwo.ca")
        assert (usage.used, usage.remaining, usage.resets_in) == (3, 0, 110)
