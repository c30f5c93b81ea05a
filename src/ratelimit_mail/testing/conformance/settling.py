"""Tests of settling: what a message was charged moves to the end of its sending."""

from __future__ import annotations

from ratelimit_mail.envelope import Envelope
from ratelimit_mail.limits import MessageRateLimit, RecipientRateLimit
from ratelimit_mail.testing.conformance.idempotency import envelope_with_id, used_of
from ratelimit_mail.testing.conformance.suite import ConformanceTests, envelope_to

__all__ = ["SettleTests"]


class SettleTests(ConformanceTests):
    """Tests of settling: what a message was charged moves to the end of its sending."""

    def test_a_settled_message_counts_from_the_end_of_its_sending(self) -> None:
        """It leaves its windows one window after that."""
        limiter, clock = self.limiter(MessageRateLimit("1/minute"))
        decision = limiter.try_acquire(envelope_to())
        clock.advance(40)
        limiter.settle(decision)
        assert used_of(limiter) == [1]
        clock.advance(59.999)
        assert limiter.try_acquire(envelope_to()).retry_after == 0.001
        clock.advance(0.001)
        assert limiter.try_acquire(envelope_to())

    def test_a_message_may_be_settled_more_than_once(self) -> None:
        """It counts once, at the last time."""
        limiter, clock = self.limiter(MessageRateLimit("3/minute"), RecipientRateLimit("9/day"))
        decision = limiter.try_acquire(envelope_to(2))
        for _ in range(3):
            clock.advance(10)
            limiter.settle(decision)
        assert used_of(limiter) == [1, 2]
        assert limiter.usage("ann@uwo.ca")[0].resets_in == 60

    def test_settling_moves_only_the_charges_of_its_own_message(self) -> None:
        """Other messages of the same moment stay where they are."""
        limiter, clock = self.limiter(MessageRateLimit("3/minute"))
        decisions = [limiter.try_acquire(envelope_to()) for _ in range(3)]
        clock.advance(50)
        limiter.settle(decisions[1])
        clock.advance(10)
        assert used_of(limiter) == [1]
        assert [bool(limiter.try_acquire(envelope_to())) for _ in range(3)] == [1, 1, 0]

    def test_settling_never_refuses(self) -> None:
        """A window may then hold more than its limit, and has room once the excess has left."""
        limiter, clock = self.limiter(MessageRateLimit("1/minute"))
        first = limiter.try_acquire(envelope_to())
        clock.advance(60)
        second = limiter.try_acquire(envelope_to())
        limiter.settle(first)
        limiter.settle(second)
        assert used_of(limiter) == [2]
        assert limiter.try_acquire(envelope_to()).retry_after == 60

    def test_a_message_is_settled_though_nothing_of_it_is_left(self) -> None:
        """Its charges left their windows while it was being sent."""
        limiter, clock = self.limiter(MessageRateLimit("2/minute"))
        decision = limiter.try_acquire(envelope_to())
        clock.advance(3600)
        limiter.settle(decision)
        assert used_of(limiter) == [1]

    def test_recipients_that_were_refused_are_not_charged(self) -> None:
        """Neither in the count of the sender nor in those of recipients."""
        limiter, clock = self.limiter(
            RecipientRateLimit("9/minute"), MessageRateLimit("2/minute", scope="recipient_domain")
        )
        envelope = Envelope("ann@uwo.ca", ["x@a.org", "y@a.org", "z@b.org"])
        decision = limiter.try_acquire(envelope)
        clock.advance(30)
        limiter.settle(decision, refused=["y@a.org", "z@b.org"])
        assert used_of(limiter) == [1]
        assert limiter.usage("a.org", scope="recipient_domain")[0].used == 1
        assert limiter.usage("b.org", scope="recipient_domain")[0].used == 0

    def test_a_settled_message_can_be_refunded(self) -> None:
        """Its charges are taken out where they are then."""
        limiter, clock = self.limiter(MessageRateLimit("2/minute"))
        decision, _ = limiter.try_acquire(envelope_to()), limiter.try_acquire(envelope_to())
        clock.advance(10)
        limiter.settle(decision)
        limiter.refund(decision)
        assert used_of(limiter) == [1]
        assert limiter.usage("ann@uwo.ca")[0].resets_in == 50

    def test_a_refund_and_a_settlement_by_two_callers_with_one_id_count_what_is_there(self) -> None:
        """Each finds the charge where the other has left it."""
        limiter, clock = self.limiter(MessageRateLimit("5/minute"))
        first = limiter.try_acquire(envelope_with_id())
        second = limiter.try_acquire(envelope_with_id())
        assert (first.repeated, second.repeated) == (False, True)
        clock.advance(10)
        assert limiter.try_acquire(envelope_to())
        limiter.settle(first)
        assert used_of(limiter) == [2]
        clock.advance(10)
        limiter.settle(second)
        assert used_of(limiter) == [2]
        limiter.refund(first)
        assert used_of(limiter) == [1]
        limiter.settle(second)
        assert used_of(limiter) == [2]
        limiter.refund(second)
        assert used_of(limiter) == [1]
        assert limiter.usage("ann@uwo.ca")[0].resets_in == 50

    def test_an_id_stays_remembered_when_its_message_is_settled(self) -> None:
        """A repeated message is still not charged again."""
        limiter, clock = self.limiter(MessageRateLimit("5/minute"))
        limiter.settle(limiter.try_acquire(envelope_with_id()))
        clock.advance(30)
        again = limiter.try_acquire(envelope_with_id())
        assert again.repeated
        limiter.settle(again)
        assert limiter.usage("ann@uwo.ca")[0].resets_in == 60
        limiter.refund(envelope_with_id())
        assert used_of(limiter) == [0]

    def test_a_settled_booking_leaves_its_queue(self) -> None:
        """The next booking is not behind it any more."""
        limiter, clock = self.limiter(MessageRateLimit("1/minute"))
        assert limiter.try_acquire(envelope_to())
        reservation = limiter.reserve(envelope_to())
        assert reservation.delay == 60
        clock.advance(10)
        limiter.settle(reservation.decision)
        assert used_of(limiter) == [2]
        assert limiter.reserve(envelope_to()).delay == 60

    def test_a_message_of_a_batch_is_settled_alone(self) -> None:
        """The others of its batch stay where they are."""
        limiter, clock = self.limiter(RecipientRateLimit("9/minute"))
        decisions = limiter.try_acquire_many([envelope_to(i) for i in (1, 2, 3)])
        clock.advance(50)
        limiter.settle(decisions[1])
        clock.advance(10)
        assert used_of(limiter) == [2]

    def test_settling_after_a_reset_charges_the_message_once(self) -> None:
        """What was charged since the reset stays."""
        limiter, _ = self.limiter(MessageRateLimit("5/minute"))
        decision = limiter.try_acquire(envelope_to())
        limiter.reset("ann@uwo.ca")
        assert limiter.try_acquire(envelope_to())
        limiter.settle(decision)
        assert used_of(limiter) == [2]

    def test_a_message_of_which_nothing_was_counted_is_settled(self) -> None:
        """With all recipients that count refused, and with none of them."""
        limiter, clock = self.limiter(
            RecipientRateLimit("9/minute", count="external"),
            RecipientRateLimit("9/minute", count="external", scope="recipient_domain"),
        )
        envelope = Envelope("ann@uwo.ca", ["x@uwo.ca", "y@a.org"])
        decision = limiter.try_acquire(envelope)
        clock.advance(1)
        for refused in (["y@a.org"], ["y@a.org"], ["x@uwo.ca"]):
            limiter.settle(decision, refused=refused)
            assert used_of(limiter) == [len({"y@a.org"} - set(refused))]
