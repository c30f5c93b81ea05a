"""Tests of messages with an id: a repeated message gets the first answer and no second charge."""

from __future__ import annotations

from ratelimit_mail.conditions import has_tag
from ratelimit_mail.decision import Action
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.exceptions import RateLimitExceeded
from ratelimit_mail.limiter import Limiter
from ratelimit_mail.limits import Limit, MessageRateLimit, RecipientRateLimit
from ratelimit_mail.policy import Policy, Tier
from ratelimit_mail.testing.clock import ManualClock
from ratelimit_mail.testing.conformance.suite import ConformanceTests, envelope_to, policy_with

__all__ = ["IdempotencyTests"]


def envelope_with_id(
    id: str = "job-1",  # noqa: A002 - as the envelope calls it
    recipients: int = 1,
    sender: str = "ann@uwo.ca",
    domain: str = "example.com",
) -> Envelope:
    """Return an envelope of `envelope_to` with an id."""
    plain = envelope_to(recipients, sender, domain)
    return Envelope(plain.sender, plain.recipients, id=id)


def used_of(limiter: Limiter, sender: str = "ann@uwo.ca") -> list[int]:
    """Return how much of each of its limits a sender has used."""
    return [usage.used for usage in limiter.usage(sender)]


class IdempotencyTests(ConformanceTests):
    """Tests of messages with an id: a repeated one gets the first answer, without a charge."""

    def limiter_that_remembers(self, seconds: float, *limits: Limit) -> tuple[Limiter, ManualClock]:
        """Return a limiter that remembers answers for `seconds`, and its clock."""
        clock = ManualClock()
        return Limiter(policy_with(*limits), self.backend(clock), remember=seconds), clock

    def test_a_repeated_message_is_charged_once(self) -> None:
        """In every limit, however much later it is repeated."""
        limiter, clock = self.limiter(MessageRateLimit("3/hour"), RecipientRateLimit("5/day"))
        for _ in range(9):
            assert limiter.try_acquire(envelope_with_id(recipients=2))
            clock.advance(1)
        assert used_of(limiter) == [1, 2]
        clock.advance(3590)
        assert limiter.try_acquire(envelope_with_id(recipients=2))
        assert used_of(limiter) == [1, 2]

    def test_a_repeated_message_is_charged_once_in_every_scope(self) -> None:
        """Also if a backend stores its counts in different places."""
        limiter, _ = self.limiter(
            MessageRateLimit("5/day"),
            MessageRateLimit("5/day", scope="recipient_domain"),
            MessageRateLimit("5/day", scope="global"),
        )
        envelope = Envelope("ann@uwo.ca", ["x@a.org", "y@b.org"], id="job-1")
        for _ in range(7):
            assert limiter.try_acquire(envelope)
        for subject, scope in (
            ("ann@uwo.ca", "sender"),
            ("a.org", "recipient_domain"),
            ("b.org", "recipient_domain"),
            (None, "global"),
        ):
            assert limiter.usage(subject, scope=scope)[0].used == 1

    def test_a_repeated_wait_waits_for_the_same_booking(self) -> None:
        """Once its time has come, it does not wait any more."""
        limiter, clock = self.limiter(MessageRateLimit("1/minute"))
        start = clock()
        assert limiter.acquire(envelope_to())
        for _ in range(3):
            assert limiter.acquire(envelope_with_id())
            assert clock() - start == 60_000
        assert limiter.acquire(envelope_with_id("job-2"))
        assert clock() - start == 120_000

    def test_a_repeated_reservation_is_the_same_booking(self) -> None:
        """Its delay is counted from now."""
        limiter, clock = self.limiter(MessageRateLimit("1/minute"))
        assert limiter.try_acquire(envelope_to())
        first = limiter.reserve(envelope_with_id())
        clock.advance(20)
        again = limiter.reserve(envelope_with_id())
        assert (first.delay, again.delay) == (60, 40)
        assert again.at == first.at
        assert limiter.reserve(envelope_to()).delay == 100
        clock.advance(50)
        assert limiter.reserve(envelope_with_id()).delay == 0

    def test_a_reservation_that_was_refused_is_refused_again(self) -> None:
        """Until the moment that the refusal names."""
        limiter, clock = self.limiter(MessageRateLimit("1/minute"))
        filler = limiter.try_acquire(envelope_to())
        for pause, wait in ((0, 60), (10, 50), (49.999, 0.001)):
            clock.advance(pause)
            try:
                limiter.reserve(envelope_with_id(), max_delay=0)
            except RateLimitExceeded as error:
                assert error.decision.retry_after == wait
            else:
                raise AssertionError("booked, though it was refused")
            if pause == 0:
                limiter.refund(filler)
        clock.advance(0.001)
        assert limiter.reserve(envelope_with_id(), max_delay=0).delay == 0

    def test_an_id_twice_in_one_batch_is_charged_once(self) -> None:
        """A later call with the same id is not charged either."""
        limiter, _ = self.limiter(MessageRateLimit("2/minute"))
        batch = [
            envelope_with_id(),
            envelope_with_id("job-2"),
            envelope_with_id(),
            envelope_with_id("job-3"),
            envelope_with_id("job-2"),
        ]
        assert [bool(each) for each in limiter.try_acquire_many(batch)] == [1, 1, 1, 0, 1]
        assert limiter.try_acquire(envelope_with_id("job-2"))
        assert [bool(each) for each in limiter.try_acquire_many(batch)] == [1, 1, 1, 0, 1]
        assert used_of(limiter) == [2]

    def test_a_refusal_is_remembered_until_the_moment_that_it_names(self) -> None:
        """The same limit is reported with the time from now; then the message is decided anew."""
        limit = MessageRateLimit("1/minute", on_excess="reject")
        limiter, clock = self.limiter(limit, MessageRateLimit("9/day"))
        filler = limiter.try_acquire(envelope_to())
        first = limiter.try_acquire(envelope_with_id())
        limiter.refund(filler)
        clock.advance(59.999)
        again = limiter.try_acquire(envelope_with_id())
        assert [first.retry_after, again.retry_after] == [60, 0.001]
        assert (first.action, first.limit) == (again.action, again.limit) == (Action.REJECT, limit)
        assert limiter.try_acquire(envelope_with_id("job-2"))
        clock.advance(0.001)
        assert limiter.try_acquire(envelope_with_id()).retry_after == 59.999
        clock.advance(59.999)
        assert limiter.try_acquire(envelope_with_id())
        assert used_of(limiter) == [1, 2]

    def test_a_refusal_is_remembered_no_longer_than_an_answer(self) -> None:
        """Even if the moment that it names is later."""
        limiter, clock = self.limiter_that_remembers(10, MessageRateLimit("1/minute"))
        filler = limiter.try_acquire(envelope_to())
        assert not limiter.try_acquire(envelope_with_id())
        limiter.refund(filler)
        clock.advance(9.999)
        assert not limiter.try_acquire(envelope_with_id())
        clock.advance(0.001)
        assert limiter.try_acquire(envelope_with_id())

    def test_a_refused_attempt_that_counts_is_counted_once(self) -> None:
        """A retry after a lost answer does not extend the denial of its sender."""
        limiter, clock = self.limiter(MessageRateLimit("1/minute", denied="count"))
        assert limiter.try_acquire(envelope_to())
        clock.advance(10)
        assert limiter.try_acquire(envelope_with_id()).retry_after == 60
        clock.advance(10)
        assert limiter.try_acquire(envelope_with_id()).retry_after == 50
        assert used_of(limiter) == [2]
        assert limiter.try_acquire(envelope_with_id("job-2")).retry_after == 60
        assert used_of(limiter) == [3]

    def test_a_repeated_message_that_can_never_fit_is_counted_once(self) -> None:
        """If refused attempts count."""
        limiter, _ = self.limiter(RecipientRateLimit("5/minute", denied="count"))
        for _ in range(3):
            assert limiter.try_acquire(envelope_with_id(recipients=6)).retry_after is None
        assert used_of(limiter) == [6]

    def test_another_id_sender_or_recipient_is_another_message(self) -> None:
        """So is a message without an id."""
        limiter, _ = self.limiter(MessageRateLimit("9/minute", scope="global"))
        envelopes = [
            envelope_with_id(),
            envelope_with_id("job-2"),
            envelope_with_id("job-1 "),
            envelope_with_id(sender="bob@uwo.ca"),
            envelope_with_id(domain="a.org"),
            envelope_with_id(recipients=2),
            envelope_to(),
            envelope_to(),
        ]
        for envelope in [*envelopes, *envelopes[:6]]:
            assert limiter.try_acquire(envelope)
        assert limiter.usage(scope="global")[0].used == len(envelopes)

    def test_another_policy_decides_anew(self) -> None:
        """Each policy on a backend counts separately."""
        backend = self.backend(ManualClock())
        for name in ("a", "aa"):
            limiter = Limiter(policy_with(MessageRateLimit("9/minute"), name=name), backend)
            assert limiter.try_acquire(envelope_with_id())
            assert used_of(limiter) == [1]

    def test_another_client_with_other_charges_is_another_message(self) -> None:
        """If it has another count or another tier."""
        policy = Policy(
            name="clients",
            limits=[MessageRateLimit("9/minute", scope="client")],
            tiers=[Tier("wireless", when=has_tag("w"), limits=[MessageRateLimit("9/hour")])],
        )
        limiter = Limiter(policy, self.backend(ManualClock()))
        home, away = Client(address="10.0.0.1"), Client(address="10.0.0.2", tags={"w"})
        for _ in range(2):
            for client in (home, away):
                assert limiter.try_acquire(
                    Envelope("ann@uwo.ca", ["b@example.com"], client, id="job-1")
                )
        for address in ("10.0.0.1", "10.0.0.2"):
            assert limiter.usage(address, scope="client")[0].used == 1
        # Both are recorded for the tier's limit, one of them from another tier.
        assert limiter.usage("ann@uwo.ca", client=away)[0].used == 2

    def test_a_check_neither_stores_nor_uses_an_answer(self) -> None:
        """It reads the counts as they are."""
        limiter, _ = self.limiter(MessageRateLimit("1/minute"))
        filler = limiter.try_acquire(envelope_to())
        assert not limiter.check(envelope_with_id())
        limiter.refund(filler)
        assert limiter.check(envelope_with_id())
        assert limiter.try_acquire(envelope_with_id())
        assert not limiter.check(envelope_with_id())
        assert used_of(limiter) == [1]

    def test_a_refunded_message_is_decided_anew(self) -> None:
        """It is charged again, once."""
        limiter, _ = self.limiter(MessageRateLimit("2/minute"), RecipientRateLimit("9/day"))
        limiter.refund(limiter.try_acquire(envelope_with_id(recipients=2)))
        assert used_of(limiter) == [0, 0]
        for _ in range(3):
            assert limiter.try_acquire(envelope_with_id(recipients=2))
        assert used_of(limiter) == [1, 2]

    def test_several_refunds_of_one_decision_remove_its_charge_once(self) -> None:
        """They do not remove the charge of another message of the same moment and cost."""
        limiter, _ = self.limiter(MessageRateLimit("9/minute"))
        decisions = [limiter.try_acquire(envelope_with_id()) for _ in range(3)]
        assert limiter.try_acquire(envelope_to())
        for decision in decisions:
            limiter.refund(decision)
        assert used_of(limiter) == [1]

    def test_a_late_refund_does_not_remove_a_newer_charge_of_the_message(self) -> None:
        """One caller refunds, the message is charged anew, and then another caller refunds."""
        limiter, _ = self.limiter(MessageRateLimit("9/minute"))
        first, second = (
            limiter.try_acquire(envelope_with_id()),
            limiter.try_acquire(envelope_with_id()),
        )
        limiter.refund(first)
        third = limiter.try_acquire(envelope_with_id())
        limiter.refund(second)
        assert used_of(limiter) == [1]
        limiter.refund(third)
        assert used_of(limiter) == [0]

    def test_a_booking_cancelled_by_one_caller_is_free(self) -> None:
        """When another caller cancels it too, that changes nothing."""
        limiter, _ = self.limiter(MessageRateLimit("1/minute"))
        assert limiter.try_acquire(envelope_to())
        first, second = limiter.reserve(envelope_with_id()), limiter.reserve(envelope_with_id())
        first.cancel()
        assert limiter.reserve(envelope_to()).delay == 60
        second.cancel()
        assert limiter.reserve(envelope_with_id()).delay == 120

    def test_an_answer_is_forgotten_after_its_lifetime(self) -> None:
        """Then the message is decided and charged anew."""
        limiter, clock = self.limiter_that_remembers(10, MessageRateLimit("2/minute"))
        for pause, expected in ((0, 1), (9.999, 1), (0.001, 2), (9.999, 2)):
            clock.advance(pause)
            assert limiter.try_acquire(envelope_with_id())
            assert used_of(limiter) == [expected]
        clock.advance(0.001)
        assert limiter.try_acquire(envelope_with_id()).retry_after == 40
