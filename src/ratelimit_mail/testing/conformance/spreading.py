"""Tests of messages that cost more than a limit, which holds them for several windows."""

from __future__ import annotations

from ratelimit_mail.decision import Action
from ratelimit_mail.limits import MessageRateLimit, RecipientRateLimit
from ratelimit_mail.testing.conformance.idempotency import envelope_with_id, used_of
from ratelimit_mail.testing.conformance.suite import ConformanceTests, envelope_to

__all__ = ["SpreadTests"]

ONE_A_SECOND = RecipientRateLimit("1/second", on_oversize="spread")


class SpreadTests(ConformanceTests):
    """Tests of messages that cost more than a limit, which holds them for several windows."""

    def test_a_message_above_the_limit_goes_and_holds_the_limit(self) -> None:
        """For as many windows as its cost takes."""
        limiter, clock = self.limiter(ONE_A_SECOND)
        assert limiter.try_acquire(envelope_to(5))
        assert limiter.try_acquire(envelope_to()).retry_after == 5
        clock.advance(4.999)
        assert not limiter.check(envelope_to())
        clock.advance(0.001)
        assert limiter.check(envelope_to())

    def test_a_message_above_the_limit_waits_until_nothing_is_held(self) -> None:
        """In any window that it would be in."""
        limiter, clock = self.limiter(RecipientRateLimit("3/minute", on_oversize="spread"))
        assert limiter.try_acquire(envelope_to(1))
        clock.advance(20)
        assert limiter.try_acquire(envelope_to(7)).retry_after == 40
        clock.advance(40)
        assert limiter.try_acquire(envelope_to(7))
        assert limiter.try_acquire(envelope_to(3)).retry_after == 180
        assert limiter.try_acquire(envelope_to(2)).retry_after == 120

    def test_usage_shows_what_the_present_window_holds(self) -> None:
        """What follows is held like bookings."""
        limiter, clock = self.limiter(RecipientRateLimit("2/minute", on_oversize="spread"))
        assert limiter.try_acquire(envelope_to(5))
        (usage,) = limiter.usage("ann@uwo.ca")
        assert (usage.used, usage.remaining, usage.resets_in) == (2, 0, 180)
        clock.advance(120)
        (usage,) = limiter.usage("ann@uwo.ca")
        assert (usage.used, usage.remaining, usage.resets_in) == (1, 1, 60)

    def test_another_limit_without_spread_refuses_for_good(self) -> None:
        """The smallest limit that does not spread decides."""
        limiter, _ = self.limiter(ONE_A_SECOND, RecipientRateLimit("4/day"))
        assert limiter.try_acquire(envelope_to(5)).action is Action.REJECT
        assert limiter.try_acquire(envelope_to(4))

    def test_two_limits_that_spread_hold_a_message_together(self) -> None:
        """It is spread so that both keep their limit."""
        limiter, clock = self.limiter(
            ONE_A_SECOND, RecipientRateLimit("3/10 seconds", on_oversize="spread")
        )
        assert limiter.try_acquire(envelope_to(5))
        assert limiter.check(envelope_to()).retry_after == 12
        clock.advance(12)
        assert limiter.try_acquire(envelope_to())

    def test_a_spread_message_is_refunded_as_a_whole(self) -> None:
        """With everything that it holds in the future."""
        limiter, clock = self.limiter(ONE_A_SECOND, MessageRateLimit("9/day"))
        decision = limiter.try_acquire(envelope_to(5))
        clock.advance(0.5)
        limiter.refund(decision)
        assert used_of(limiter) == [0, 0]
        assert limiter.try_acquire(envelope_to(5))

    def test_a_spread_message_is_settled_as_a_whole(self) -> None:
        """It is spread anew from the end of its sending."""
        limiter, clock = self.limiter(ONE_A_SECOND)
        decision = limiter.try_acquire(envelope_to(5))
        clock.advance(2)
        limiter.settle(decision)
        assert limiter.try_acquire(envelope_to()).retry_after == 5

    def test_a_spread_message_of_which_some_were_refused_holds_less(self) -> None:
        """Only what its other recipients take."""
        limiter, _ = self.limiter(ONE_A_SECOND)
        envelope = envelope_to(5)
        decision = limiter.try_acquire(envelope)
        limiter.settle(decision, refused=envelope.recipients[:3])
        assert limiter.try_acquire(envelope_to()).retry_after == 2

    def test_spread_messages_are_booked_one_after_another(self) -> None:
        """Each when the one before it has left."""
        limiter, clock = self.limiter(ONE_A_SECOND)
        assert [limiter.reserve(envelope_to(3)).delay for _ in range(3)] == [0, 3, 6]
        assert limiter.reserve(envelope_to()).delay == 9
        clock.advance(9)
        assert not limiter.check(envelope_to())

    def test_a_booked_spread_message_is_redeemed(self) -> None:
        """It is spread from the moment of its use."""
        limiter, clock = self.limiter(ONE_A_SECOND)
        assert limiter.try_acquire(envelope_to(3))
        reservation = limiter.reserve(envelope_to(4))
        assert reservation.delay == 3
        clock.advance(5)
        assert reservation.redeem()
        assert limiter.try_acquire(envelope_to()).retry_after == 4

    def test_a_batch_is_not_taken_for_one_message_above_the_limit(self) -> None:
        """Each message of a batch counts by itself."""
        limiter, _ = self.limiter(RecipientRateLimit("3/minute", on_oversize="spread"))
        answers = limiter.try_acquire_many([envelope_to(2), envelope_to(1), envelope_to(1)])
        assert [answer.allowed for answer in answers] == [True, True, False]
        others = [envelope_to(4, sender=f"{i}@uwo.ca") for i in range(3)]
        assert all(limiter.try_acquire_many(others))
        assert limiter.try_acquire(envelope_to(1, sender="1@uwo.ca")).retry_after == 60

    def test_a_message_of_a_batch_that_is_spread_is_refunded_as_a_whole(self) -> None:
        """Its parts leave the others of the batch alone."""
        limiter, _ = self.limiter(RecipientRateLimit("3/minute", on_oversize="spread"))
        decisions = limiter.try_acquire_many([envelope_to(7), envelope_to(1, sender="bob@uwo.ca")])
        limiter.refund(decisions[0])
        assert used_of(limiter) == [0]
        assert used_of(limiter, "bob@uwo.ca") == [1]
        assert limiter.try_acquire(envelope_to(7))

    def test_a_spread_message_with_an_id_is_charged_once(self) -> None:
        """A repeated message gets the first answer."""
        limiter, clock = self.limiter(ONE_A_SECOND)
        for _ in range(3):
            assert limiter.try_acquire(envelope_with_id(recipients=3))
            clock.advance(0.5)
        assert limiter.try_acquire(envelope_to()).retry_after == 1.5
        limiter.refund(envelope_with_id(recipients=3))
        assert limiter.try_acquire(envelope_to())

    def test_parts_follow_the_newest_event_when_the_clock_is_behind_it(self) -> None:
        """For the count it is still that time: its windows hold one part each."""
        limiter, clock = self.limiter(ONE_A_SECOND)
        sent = limiter.try_acquire(envelope_to(3))
        clock.advance(-10)
        limiter.settle(sent)
        clock.advance(10)
        (usage,) = limiter.usage("ann@uwo.ca")
        assert (usage.used, usage.resets_in) == (1, 3)
        limiter.refund(sent)
        clock.advance(-10)
        assert limiter.try_acquire(envelope_to(3))
        clock.advance(10)
        (usage,) = limiter.usage("ann@uwo.ca")
        assert (usage.used, usage.resets_in) == (1, 3)
        assert limiter.check(envelope_to()).retry_after == 3

    def test_a_spread_message_fits_at_its_time_when_the_clock_is_behind_it(self) -> None:
        """Each part is checked where it would stand."""
        limiter, clock = self.limiter(ONE_A_SECOND, MessageRateLimit("9/day"))
        limiter.refund(limiter.try_acquire(envelope_to(1)))
        assert limiter.reserve(envelope_to(1)).delay == 0
        limiter.settle(limiter.reserve(envelope_to(1)).decision)
        clock.advance(-1.5)
        assert limiter.try_acquire(envelope_to(3)).retry_after == 2.5
        clock.advance(2.5)
        assert limiter.try_acquire(envelope_to(3))
        assert limiter.check(envelope_to()).retry_after == 3
