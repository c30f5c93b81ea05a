"""Tests of redeeming: a booking is checked again when it is used, and counts from then on."""

from __future__ import annotations

from ratelimit_mail.decision import Action
from ratelimit_mail.limiter import Limiter
from ratelimit_mail.limits import MessageRateLimit, RecipientRateLimit
from ratelimit_mail.testing.clock import ManualClock
from ratelimit_mail.testing.conformance.idempotency import envelope_with_id, used_of
from ratelimit_mail.testing.conformance.suite import (
    ConformanceTests,
    envelope_to,
    policy_with,
    value_error,
)

__all__ = ["RedeemTests"]


class RedeemTests(ConformanceTests):
    """Tests of redeeming: a booking is checked again when it is used, and counts from then on."""

    def test_a_booking_counts_from_the_moment_of_its_use(self) -> None:
        """Not from its booked time."""
        limiter, clock = self.limiter(MessageRateLimit("1/minute"))
        assert limiter.try_acquire(envelope_to())
        reservation = limiter.reserve(envelope_to())
        clock.advance(100)
        assert reservation.redeem()
        assert limiter.usage("ann@uwo.ca")[0].resets_in == 60
        assert limiter.try_acquire(envelope_to()).retry_after == 60

    def test_before_its_time_a_booking_is_not_used(self) -> None:
        """Nothing changes by asking."""
        limiter, clock = self.limiter(MessageRateLimit("1/minute"))
        assert limiter.try_acquire(envelope_to())
        reservation = limiter.reserve(envelope_to())
        for wait in (60, 30, 0.001):
            clock.set(reservation.at - round(wait * 1000))
            decision = reservation.redeem()
            assert (decision.action, decision.retry_after) == (Action.DEFER, wait)
        clock.advance(0.001)
        assert reservation.redeem()

    def test_a_booking_that_lost_its_room_is_booked_anew(self) -> None:
        """At the first moment with room; it stays ahead of later bookings."""
        limiter, clock = self.limiter(MessageRateLimit("1/minute"))
        sent = limiter.try_acquire(envelope_to())
        first, second = limiter.reserve(envelope_to()), limiter.reserve(envelope_to())
        assert (first.delay, second.delay) == (60, 120)
        clock.advance(59)
        limiter.settle(sent)  # so the sending took 59 seconds
        clock.advance(1)
        decision = first.redeem()
        assert (decision.action, decision.retry_after) == (Action.DEFER, 59)
        assert str(decision.limit) == "1 message per minute per sender"
        clock.advance(59)
        assert first.redeem()
        clock.advance(1)
        assert second.redeem().retry_after == 59

    def test_bookings_behind_a_booking_do_not_count_in_its_check(self) -> None:
        """Each is checked in its own turn."""
        limiter, clock = self.limiter(MessageRateLimit("1/minute"))
        assert limiter.try_acquire(envelope_to())
        reservations = [limiter.reserve(envelope_to()) for _ in range(3)]
        clock.advance(100)
        assert reservations[0].redeem()
        clock.advance(20)
        assert reservations[1].redeem().retry_after == 40
        clock.advance(40)
        assert reservations[1].redeem()
        clock.advance(20)
        assert reservations[2].redeem().retry_after == 40

    def test_a_booking_is_not_before_the_bookings_ahead_of_it(self) -> None:
        """One that is booked anew takes those behind it along."""
        limiter, clock = self.limiter(RecipientRateLimit("5/minute"))
        sent = limiter.try_acquire(envelope_to(5))
        large, small = limiter.reserve(envelope_to(5)), limiter.reserve(envelope_to(1))
        assert (large.delay, small.delay) == (60, 120)
        clock.advance(50)
        limiter.settle(sent)
        clock.advance(10)
        assert large.redeem().retry_after == 50
        clock.advance(60)
        assert large.redeem()
        assert small.redeem().retry_after == 60

    def test_a_booking_that_could_go_at_once_is_checked_again_too(self) -> None:
        """It has no place in the queue until it must wait."""
        limiter, clock = self.limiter(MessageRateLimit("1/minute"))
        reservation = limiter.reserve(envelope_to())
        assert reservation.delay == 0
        clock.advance(90)
        assert limiter.try_acquire(envelope_to())
        assert reservation.redeem().retry_after == 60
        clock.advance(60)
        assert reservation.redeem()

    def test_a_redeemed_booking_can_be_cancelled(self) -> None:
        """Before and after it was used."""
        limiter, clock = self.limiter(MessageRateLimit("1/minute"))
        assert limiter.try_acquire(envelope_to())
        reservations = [limiter.reserve(envelope_to()) for _ in range(2)]
        clock.advance(60)
        assert reservations[0].redeem()
        reservations[0].cancel()
        assert used_of(limiter) == [0]
        assert reservations[1].redeem().retry_after == 60
        reservations[1].cancel()
        assert limiter.try_acquire(envelope_to())

    def test_a_cancelled_booking_leaves_its_queue(self) -> None:
        """The others are not behind it any more."""
        limiter, clock = self.limiter(MessageRateLimit("1/minute"))
        sent = limiter.try_acquire(envelope_to())
        first, second = limiter.reserve(envelope_to()), limiter.reserve(envelope_to())
        limiter.settle(sent)
        first.cancel()
        clock.advance(120)
        assert second.redeem()
        with value_error("cancelled"):
            first.redeem()

    def test_a_booking_is_used_after_a_reset(self) -> None:
        """It counts once then."""
        limiter, clock = self.limiter(
            MessageRateLimit("1/minute"), MessageRateLimit("5/day", scope="global")
        )
        assert limiter.try_acquire(envelope_to())
        reservation = limiter.reserve(envelope_to())
        limiter.reset("ann@uwo.ca")
        clock.advance(60)
        assert reservation.redeem()
        assert used_of(limiter) == [1]
        assert limiter.usage(scope="global")[0].used == 2

    def test_a_booking_that_is_booked_anew_after_a_reset_has_its_place(self) -> None:
        """Ahead of what was booked since."""
        limiter, clock = self.limiter(MessageRateLimit("1/minute"))
        assert limiter.try_acquire(envelope_to())
        old = limiter.reserve(envelope_to())
        assert old.delay == 60
        limiter.reset("ann@uwo.ca")
        clock.advance(30)
        sent = limiter.try_acquire(envelope_to())
        new = limiter.reserve(envelope_to())
        assert new.delay == 60
        assert old.redeem().retry_after == 30
        clock.advance(30)
        assert old.redeem().retry_after == 30
        limiter.settle(sent)
        assert old.redeem().retry_after == 30
        clock.advance(30)
        assert new.redeem().retry_after == 60
        assert old.redeem().retry_after == 30
        clock.advance(30)
        assert old.redeem()
        clock.advance(30)
        assert new.redeem().retry_after == 30
        new.cancel()
        assert used_of(limiter) == [1]

    def test_a_cancelled_booking_of_before_a_reset_takes_out_no_later_booking(self) -> None:
        """Neither from the queue nor from the counts."""
        limiter, clock = self.limiter(MessageRateLimit("1/minute"))
        assert limiter.try_acquire(envelope_to())
        old = [limiter.reserve(envelope_to()) for _ in range(3)]
        limiter.reset("ann@uwo.ca")
        assert limiter.try_acquire(envelope_to())
        new = [limiter.reserve(envelope_to()) for _ in range(3)]
        old[0].cancel()
        old[1].cancel()
        limiter.settle(old[2].decision)
        assert limiter.reserve(envelope_to()).delay == 240
        clock.advance(60)
        assert new[0].redeem()
        clock.advance(60)
        assert new[1].redeem()

    def test_a_booking_of_which_a_shared_limit_was_reset_is_used(self) -> None:
        """It counts there from then on."""
        limiter, clock = self.limiter(
            MessageRateLimit("1/minute"), MessageRateLimit("5/day", scope="global")
        )
        assert limiter.try_acquire(envelope_to())
        reservation = limiter.reserve(envelope_to())
        limiter.reset(scope="global")
        clock.advance(60)
        assert reservation.redeem()
        assert limiter.usage(scope="global")[0].used == 1

    def test_a_repeated_reservation_that_another_caller_cancelled_is_booked_again(self) -> None:
        """It takes out nothing that was charged since, and counts once."""
        limiter, clock = self.limiter(MessageRateLimit("2/minute"))
        assert limiter.try_acquire(envelope_to())
        assert limiter.try_acquire(envelope_to())
        first, second = limiter.reserve(envelope_with_id()), limiter.reserve(envelope_with_id())
        later = limiter.reserve(envelope_to())
        assert (first.delay, second.delay, later.delay) == (60, 60, 60)
        first.cancel()
        clock.advance(60)
        assert second.redeem()
        assert used_of(limiter) == [2]
        assert later.redeem()
        assert used_of(limiter) == [2]
        second.cancel()
        assert used_of(limiter) == [1]

    def test_a_cancelled_repeated_reservation_waits_for_room_ahead_of_the_queue(self) -> None:
        """Its next booking is that of all its callers."""
        limiter, clock = self.limiter(MessageRateLimit("1/minute"))
        assert limiter.try_acquire(envelope_to())
        first, second = limiter.reserve(envelope_with_id()), limiter.reserve(envelope_with_id())
        first.cancel()
        assert second.redeem().retry_after == 60
        assert second.redeem().retry_after == 60
        later = limiter.reserve(envelope_to())
        assert later.delay == 120
        clock.advance(60)
        assert second.redeem()
        assert used_of(limiter) == [1]
        clock.advance(60)
        assert later.redeem()
        second.cancel()
        assert used_of(limiter) == [1]

    def test_a_booking_that_enters_an_empty_queue_again_is_not_one_of_before(self) -> None:
        """Who has redeemed or cancelled another one does not take it out."""
        limiter, clock = self.limiter(MessageRateLimit("1/minute"))
        at_once = limiter.reserve(envelope_to())
        gone = limiter.reserve(envelope_to())
        assert (at_once.delay, gone.delay) == (0, 60)
        gone.cancel()
        sent = limiter.try_acquire(envelope_to())
        assert not sent
        clock.advance(30)
        limiter.settle(at_once.decision)
        assert used_of(limiter) == [1]
        late = limiter.reserve(envelope_to())
        clock.advance(60)
        assert late.redeem()
        waiting = limiter.reserve(envelope_to())
        limiter.reset("ann@uwo.ca")
        assert limiter.try_acquire(envelope_to())
        again = limiter.reserve(envelope_to())
        waiting.cancel()
        clock.advance(60)
        assert again.redeem()
        assert used_of(limiter) == [1]

    def test_a_booking_that_enters_ahead_of_a_queue_is_not_one_of_before_a_reset(self) -> None:
        """Each has a place of its own, the one that entered last is the first."""
        limiter, clock = self.limiter(RecipientRateLimit("5/minute"))
        at_once, old = limiter.reserve(envelope_to(5)), limiter.reserve(envelope_to())
        assert (at_once.delay, old.delay) == (0, 60)
        limiter.reset("ann@uwo.ca")
        clock.advance(60)
        assert limiter.try_acquire(envelope_to(3))
        assert limiter.reserve(envelope_to(3)).delay == 60
        assert at_once.redeem().retry_after == 60
        assert old.redeem().retry_after == 120

    def test_a_booking_that_could_go_at_once_waits_ahead_of_a_booking_overdue_for_hours(
        self,
    ) -> None:
        """However much of the queue the backend has forgotten."""
        limiter, clock = self.limiter(MessageRateLimit("1/minute"))
        at_once, overdue = limiter.reserve(envelope_to()), limiter.reserve(envelope_to())
        assert (at_once.delay, overdue.delay) == (0, 60)
        for hour in range(8):
            clock.advance(3600)
            assert limiter.try_acquire(envelope_to(sender=f"sender{hour}@uwo.ca"))
        assert limiter.try_acquire(envelope_to())
        assert at_once.redeem().retry_after == 60
        assert overdue.redeem().retry_after == 120

    def test_a_booking_that_could_go_at_once_waits_ahead_of_an_overdue_booking(self) -> None:
        """Also when the queue has had another booking since."""
        limiter, clock = self.limiter(MessageRateLimit("1/minute"))
        at_once, overdue = limiter.reserve(envelope_to()), limiter.reserve(envelope_to())
        clock.advance(121)
        assert limiter.try_acquire(envelope_to())
        limiter.reserve(envelope_to()).cancel()
        assert at_once.redeem().retry_after == 60
        assert overdue.redeem().retry_after == 120

    def test_a_booking_that_could_go_at_once_waits_ahead_of_one_of_before_a_reset(self) -> None:
        """The order is that in which they were booked."""
        limiter, clock = self.limiter(MessageRateLimit("1/minute"))
        at_once, old = limiter.reserve(envelope_to()), limiter.reserve(envelope_to())
        limiter.reset("ann@uwo.ca")
        clock.advance(60)
        assert limiter.try_acquire(envelope_to())
        assert at_once.redeem().retry_after == 60
        assert old.redeem().retry_after == 120
        clock.advance(60)
        assert at_once.redeem()
        assert old.redeem().retry_after == 60

    def test_an_overdue_booking_that_is_spread_stays_behind_until_all_of_it_has_gone(self) -> None:
        """Later bookings of the queue do not change that."""
        limiter, clock = self.limiter(RecipientRateLimit("1/second", on_oversize="spread"))
        assert limiter.try_acquire(envelope_to())
        first, second = limiter.reserve(envelope_to()), limiter.reserve(envelope_to(5))
        assert (first.delay, second.delay) == (1, 2)
        clock.advance(3.5)
        assert limiter.reserve(envelope_to()).delay == 3.5
        assert first.redeem()
        assert second.redeem().retry_after == 1

    def test_an_overdue_booking_that_is_spread_over_hours_stays_behind_for_hours(self) -> None:
        """Its queue is not idle meanwhile."""
        limiter, clock = self.limiter(RecipientRateLimit("1/hour", on_oversize="spread"))
        assert limiter.try_acquire(envelope_to())
        first, second = limiter.reserve(envelope_to()), limiter.reserve(envelope_to(12))
        assert (first.delay, second.delay) == (3600, 7200)
        for hour in range(9):
            clock.advance(3600)
            assert limiter.try_acquire(envelope_to(sender=f"sender{hour}@uwo.ca"))
        assert first.redeem()
        assert second.redeem().retry_after == 3600

    def test_a_worker_that_was_stopped_sends_no_more_than_the_limit_at_once(self) -> None:
        """However many of its bookings are due meanwhile."""
        limiter, clock = self.limiter(MessageRateLimit("2/second"))
        reservations = [limiter.reserve(envelope_to()) for _ in range(20)]
        clock.advance(55)
        for used in range(0, 20, 2):
            assert [bool(each.redeem()) for each in reservations[used : used + 3]] == [
                True,
                True,
                False,
            ][: 20 - used]
            clock.advance(1)

    def test_a_repeated_reservation_uses_the_same_booking(self) -> None:
        """Whoever redeems it first, the other finds it used."""
        limiter, clock = self.limiter(MessageRateLimit("1/minute"))
        assert limiter.try_acquire(envelope_to())
        first, second = limiter.reserve(envelope_with_id()), limiter.reserve(envelope_with_id())
        assert (first.delay, second.delay) == (60, 60)
        clock.advance(90)
        assert first.redeem()
        clock.advance(10)
        assert second.redeem()
        assert used_of(limiter) == [1]
        assert limiter.usage("ann@uwo.ca")[0].resets_in == 60
        second.cancel()
        assert used_of(limiter) == [0]

    def test_a_repeated_reservation_is_booked_anew_for_all_its_callers(self) -> None:
        """Its place and its time are the same for each."""
        limiter, clock = self.limiter(MessageRateLimit("1/minute"))
        sent = limiter.try_acquire(envelope_to())
        first, second = limiter.reserve(envelope_with_id()), limiter.reserve(envelope_with_id())
        later = limiter.reserve(envelope_to())
        clock.advance(30)
        limiter.settle(sent)
        clock.advance(30)
        assert first.redeem().retry_after == 30
        assert second.redeem().retry_after == 30
        clock.advance(30)
        assert second.redeem()
        assert first.redeem()
        assert later.redeem().retry_after == 30

    def test_a_booking_with_an_id_is_remembered_until_its_time_and_as_long_again(self) -> None:
        """However far ahead it is, it is never booked twice."""
        clock = ManualClock()
        limiter = Limiter(policy_with(MessageRateLimit("1/hour")), self.backend(clock), remember=10)
        assert limiter.try_acquire(envelope_to())
        booked = limiter.reserve(envelope_with_id())
        for _ in range(4):
            clock.advance(900)
            again = limiter.reserve(envelope_with_id())
            assert again.at == booked.at
            assert again.decision.repeated
        clock.advance(9.999)
        assert limiter.reserve(envelope_with_id()).decision.repeated
        clock.advance(0.001)
        assert not limiter.reserve(envelope_with_id()).decision.repeated

    def test_a_booking_is_refunded_by_its_id(self) -> None:
        """It leaves its queue, and the id is charged anew."""
        limiter, _ = self.limiter(MessageRateLimit("1/minute"))
        assert limiter.try_acquire(envelope_to())
        assert limiter.reserve(envelope_with_id()).delay == 60
        limiter.refund(envelope_with_id())
        with value_error("nothing to refund"):
            limiter.refund(envelope_with_id())
        again = limiter.reserve(envelope_with_id())
        assert (again.delay, again.decision.repeated) == (60, False)
