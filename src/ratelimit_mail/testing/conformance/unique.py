"""Tests of limits on unique recipients, of which each counts once in a window."""

from __future__ import annotations

from ratelimit_mail.decision import Action
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.limiter import Limiter
from ratelimit_mail.limits import MessageRateLimit, RecipientRateLimit
from ratelimit_mail.testing.conformance.idempotency import used_of
from ratelimit_mail.testing.conformance.suite import ConformanceTests

__all__ = ["UniqueTests"]

TWO_A_MINUTE = RecipientRateLimit("2/minute", unique=True)
THREE_A_MINUTE = RecipientRateLimit("3/minute", unique=True)


def to(*names: str, sender: str = "ann@uwo.ca", envelope_id: str | None = None) -> Envelope:
    """Return an envelope to these users of example.com, or to whole addresses."""
    addresses = [name if "@" in name else f"{name}@example.com" for name in names]
    return Envelope(sender, addresses, id=envelope_id)


def resets_in(limiter: Limiter) -> float:
    """Return the seconds until nothing counts for the first limit of ann@uwo.ca."""
    return limiter.usage("ann@uwo.ca")[0].resets_in


class UniqueTests(ConformanceTests):
    """Tests of limits on unique recipients, of which each counts once in a window."""

    def test_a_recipient_counts_once(self) -> None:
        """However many messages go to it."""
        limiter, _ = self.limiter(TWO_A_MINUTE)
        for _ in range(5):
            assert limiter.try_acquire(to("bob", "eve"))
        assert used_of(limiter) == [2]
        assert limiter.try_acquire(to("kim")).retry_after == 60
        assert limiter.try_acquire(to("bob", "eve", "kim")).action is Action.REJECT
        assert limiter.try_acquire(to("kim", sender="joe@uwo.ca"))

    def test_a_recipient_counts_until_a_window_after_the_last_message(self) -> None:
        """Each message to it moves its moment forward."""
        limiter, clock = self.limiter(TWO_A_MINUTE)
        assert limiter.try_acquire(to("bob"))
        clock.advance(20)
        assert limiter.try_acquire(to("eve"))
        clock.advance(20)
        assert limiter.try_acquire(to("bob"))
        assert limiter.try_acquire(to("kim")).retry_after == 40
        clock.advance(39.999)
        assert not limiter.check(to("kim"))
        clock.advance(0.001)
        assert limiter.try_acquire(to("kim"))
        assert limiter.check(to("eve")).retry_after == 20

    def test_only_new_recipients_need_room(self) -> None:
        """The time to wait takes into account which recipients are counted already."""
        limiter, clock = self.limiter(THREE_A_MINUTE)
        for name in ("bob", "eve", "kim"):
            assert limiter.try_acquire(to(name))
            clock.advance(10)
        assert limiter.try_acquire(to("kim", "joe")).retry_after == 30
        assert limiter.check(to("bob", "joe")).retry_after == 40
        assert limiter.check(to("bob", "joe", "sue")).retry_after == 50
        assert limiter.try_acquire(to("eve", "kim"))
        assert limiter.check(to("joe")).retry_after == 30

    def test_a_refused_message_moves_nothing(self) -> None:
        """All limits of a message are charged, or none is."""
        limiter, clock = self.limiter(TWO_A_MINUTE, MessageRateLimit("2/hour"))
        assert limiter.try_acquire(to("bob"))
        assert limiter.try_acquire(to("eve"))
        clock.advance(30)
        assert not limiter.try_acquire(to("bob"))
        assert not limiter.try_acquire(to("kim"))
        assert (used_of(limiter), resets_in(limiter)) == ([2, 2], 30)

    def test_addresses_are_compared_as_the_policy_compares_them(self) -> None:
        """Case does not make another recipient, and external ones are counted apart."""
        limiter, _ = self.limiter(
            RecipientRateLimit("2/minute", count="external", unique=True), TWO_A_MINUTE
        )
        assert limiter.try_acquire(to("Bob", "bob", "BOB@Example.COM", "kim@uwo.ca"))
        assert used_of(limiter) == [1, 2]
        assert limiter.try_acquire(to("kim@uwo.ca", "bob"))
        refused = limiter.try_acquire(to("eve"))
        assert str(refused.limit) == "2 unique recipients per minute per sender"

    def test_each_domain_may_have_a_count_of_its_own(self) -> None:
        """A scope of several words counts the recipients of each subject."""
        limiter, _ = self.limiter(
            RecipientRateLimit("2/minute", scope=("sender", "recipient_domain"), unique=True)
        )
        assert limiter.try_acquire(to("bob", "eve", "bob@x.org", "eve@x.org"))
        assert not limiter.try_acquire(to("bob", "kim"))
        assert limiter.try_acquire(to("bob", "eve", "eve@x.org", "kim@y.org"))

    def test_a_refund_puts_the_moment_before_back(self) -> None:
        """The recipients are counted as if the message had never been sent."""
        limiter, clock = self.limiter(TWO_A_MINUTE)
        assert limiter.try_acquire(to("bob"))
        clock.advance(20)
        second = limiter.try_acquire(to("bob", "eve"))
        assert (used_of(limiter), resets_in(limiter)) == ([2], 60)
        clock.advance(10)
        limiter.refund(second)
        assert (used_of(limiter), resets_in(limiter)) == ([1], 30)
        clock.advance(30)
        assert used_of(limiter) == [0]

    def test_a_refund_leaves_recipients_that_a_later_message_has_reached(self) -> None:
        """Also one of the same millisecond."""
        limiter, clock = self.limiter(TWO_A_MINUTE)
        first = limiter.try_acquire(to("bob", "eve"))
        second = limiter.try_acquire(to("bob"))
        limiter.refund(first)
        assert used_of(limiter) == [1]
        clock.advance(1)
        limiter.refund(second)
        assert used_of(limiter) == [1]
        other = limiter.try_acquire(to("kim"))
        clock.advance(1)
        again = limiter.try_acquire(to("kim"))
        limiter.refund(other)
        assert used_of(limiter) == [2]
        limiter.refund(again)
        assert (used_of(limiter), resets_in(limiter)) == ([2], 59)

    def test_a_refund_of_many_messages_of_one_moment_frees_nothing_too_much(self) -> None:
        """However many there are."""
        limiter, _ = self.limiter(TWO_A_MINUTE)
        decisions = [limiter.try_acquire(to("bob")) for _ in range(1100)]
        for decision in decisions[1:]:
            limiter.refund(decision)
        assert used_of(limiter) == [1]

    def test_a_moment_that_has_left_its_window_is_not_put_back(self) -> None:
        """It counts no more."""
        limiter, clock = self.limiter(TWO_A_MINUTE)
        assert limiter.try_acquire(to("bob"))
        clock.advance(50)
        second = limiter.try_acquire(to("bob"))
        clock.advance(10)
        assert limiter.try_acquire(to("eve"))
        limiter.refund(second)
        assert used_of(limiter) == [1]

    def test_a_settled_message_counts_from_its_end(self) -> None:
        """Of one that was refused in part, only recipients that it reached."""
        limiter, clock = self.limiter(THREE_A_MINUTE)
        assert limiter.try_acquire(to("bob", "eve"))
        clock.advance(10)
        envelope = to("bob", "eve", "kim")
        decision = limiter.try_acquire(envelope)
        clock.advance(20)
        limiter.settle(decision)
        assert (used_of(limiter), resets_in(limiter)) == ([3], 60)
        clock.advance(10)
        limiter.settle(decision, refused=envelope.recipients[1:])
        assert (used_of(limiter), resets_in(limiter)) == ([2], 60)
        clock.advance(20)
        assert used_of(limiter) == [1]

    def test_a_batch_counts_a_recipient_once(self) -> None:
        """As messages one after another."""
        limiter, _ = self.limiter(TWO_A_MINUTE, MessageRateLimit("9/hour"))
        batch = [to("bob"), to("bob"), to("eve"), to("kim"), to("bob", "eve"), to("bob", "kim")]
        decisions = limiter.try_acquire_many(batch)
        assert [decision.allowed for decision in decisions] == [
            True,
            True,
            True,
            False,
            True,
            False,
        ]
        assert used_of(limiter) == [2, 4]
        for decision in reversed(decisions):
            if decision:
                limiter.refund(decision)
        assert used_of(limiter) == [0, 0]

    def test_a_message_with_an_id_is_charged_and_refunded_once(self) -> None:
        """By the envelope too, which knows nothing of what was counted before."""
        limiter, clock = self.limiter(TWO_A_MINUTE)
        assert limiter.try_acquire(to("bob"))
        clock.advance(10)
        for _ in range(3):
            assert limiter.try_acquire(to("bob", "eve", envelope_id="1"))
        clock.advance(10)
        limiter.refund(to("bob", "eve", envelope_id="1"))
        assert (used_of(limiter), resets_in(limiter)) == ([1], 40)
        settled = limiter.try_acquire(to("bob", "eve", envelope_id="1"))
        clock.advance(10)
        limiter.settle(settled)
        assert (used_of(limiter), resets_in(limiter)) == ([2], 60)
        limiter.refund(to("bob", "eve", envelope_id="1"))
        assert (used_of(limiter), resets_in(limiter)) == ([1], 30)

    def test_a_reset_forgets_recipients(self) -> None:
        """What was charged before can then not be refunded."""
        limiter, clock = self.limiter(TWO_A_MINUTE)
        before = limiter.try_acquire(to("bob", "eve"))
        limiter.reset("ann@uwo.ca")
        assert used_of(limiter) == [0]
        assert limiter.try_acquire(to("bob", "kim"))
        clock.advance(1)
        limiter.refund(before)
        assert used_of(limiter) == [2]
        assert limiter.try_acquire(to("bob", "kim"))
        assert not limiter.try_acquire(to("eve"))

    def test_a_booking_ahead_counts_beside_what_was_sent(self) -> None:
        """Until it is used: then its recipients count once."""
        limiter, clock = self.limiter(TWO_A_MINUTE)
        assert limiter.try_acquire(to("bob"))
        clock.advance(10)
        assert limiter.try_acquire(to("eve"))
        reservation = limiter.reserve(to("kim", "eve"))
        assert reservation.delay == 50
        assert not limiter.check(to("bob"))
        clock.advance(50)
        assert reservation.redeem()
        assert (used_of(limiter), resets_in(limiter)) == ([2], 60)
        clock.advance(10)
        assert limiter.try_acquire(to("eve"))
        assert (used_of(limiter), resets_in(limiter)) == ([2], 60)

    def test_a_cancelled_booking_leaves_what_was_sent(self) -> None:
        """It takes its own events out."""
        limiter, clock = self.limiter(TWO_A_MINUTE)
        assert limiter.try_acquire(to("bob", "eve"))
        clock.advance(10)
        reservation = limiter.reserve(to("bob", "kim"))
        assert reservation.delay == 50
        reservation.cancel()
        assert limiter.try_acquire(to("bob", "eve"))
        assert (used_of(limiter), resets_in(limiter)) == ([2], 60)

    def test_a_booking_whose_recipients_are_counted_goes_at_once(self) -> None:
        """It takes no more room than a message that is sent now."""
        limiter, clock = self.limiter(TWO_A_MINUTE)
        assert limiter.try_acquire(to("bob", "eve"))
        clock.advance(10)
        reservation = limiter.reserve(to("bob"))
        assert reservation.delay == 0
        assert (used_of(limiter), resets_in(limiter)) == ([2], 60)
        clock.advance(20)
        assert reservation.redeem()
        assert resets_in(limiter) == 60
        reservation.cancel()
        assert (used_of(limiter), resets_in(limiter)) == ([2], 30)

    def test_a_clock_that_goes_back_frees_no_room(self) -> None:
        """A recipient is counted at the newest moment."""
        limiter, clock = self.limiter(TWO_A_MINUTE, RecipientRateLimit("9/day", unique=True))
        assert limiter.try_acquire(to("bob", "eve"))
        clock.advance(-30)
        assert limiter.try_acquire(to("bob"))
        assert not limiter.try_acquire(to("kim"))
        clock.advance(89.999)
        assert not limiter.try_acquire(to("kim"))
        clock.advance(0.001)
        assert limiter.try_acquire(to("kim", "joe"))

    def test_a_booking_before_the_newest_moment_moves_its_recipients(self) -> None:
        """For their count it is that moment, though another count is waited for."""
        limiter, clock = self.limiter(
            RecipientRateLimit("9/day", unique=True),
            MessageRateLimit("1/minute", scope="recipient_domain"),
        )
        clock.advance(200)
        assert limiter.try_acquire(to("kim@x.org"))
        clock.advance(-200)
        assert limiter.try_acquire(to("eve"))
        reservation = limiter.reserve(to("eve", "joe"))
        assert reservation.delay == 60
        clock.advance(60)
        assert reservation.redeem()
        assert used_of(limiter) == [3]
        reservation.cancel()
        assert used_of(limiter) == [2]

    def test_a_long_list_of_recipients_counts_exactly(self) -> None:
        """Messages to some of them and to others."""
        limiter, clock = self.limiter(RecipientRateLimit("2500/hour", unique=True))
        names = [f"user{number}" for number in range(2500)]
        for start in range(0, 2500, 500):
            assert limiter.try_acquire(to(*names[start : start + 500]))
            clock.advance(60)
        assert limiter.try_acquire(to("new")).retry_after == 3300
        assert limiter.try_acquire(to(*names[250:750]))
        assert used_of(limiter) == [2500]
        clock.advance(3300)
        assert used_of(limiter) == [2250]
        assert not limiter.check(to(*(f"new{number}" for number in range(251))))
        assert limiter.try_acquire(to(*(f"new{number}" for number in range(250))))
