"""Several messages at once: in order, and each with its own decision."""

from __future__ import annotations

import random

from ratelimit_mail.decision import Action
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.limiter import Limiter
from ratelimit_mail.limits import Limit, MessageRateLimit, RecipientLimit, RecipientRateLimit
from ratelimit_mail.testing.clock import ManualClock
from ratelimit_mail.testing.conformance.suite import Suite, letter, policy_of

__all__ = ["Batches"]

SENDERS = ("ann@uwo.ca", "bob@uwo.ca")
DOMAINS = ("uwo.ca", "a.org", "b.org")


def _random_letter(source: random.Random) -> Envelope:
    many = source.randint(1, 5)
    recipients = [f"r{i}@{source.choice(DOMAINS)}" for i in range(many)]
    return Envelope(source.choice(SENDERS), recipients, id=source.choice((None, None, "1", "2")))


class Batches(Suite):
    """Several messages at once: in order, and each with its own decision."""

    def test_a_batch_is_decided_in_order(self) -> None:
        """The first have the room, and a small one finds what a large one leaves."""
        limiter, _ = self.limiter(RecipientRateLimit("6/minute"))
        batch = [letter(cost) for cost in (3, 2, 4, 1, 1)]
        assert [bool(each) for each in limiter.try_acquire_many(batch)] == [1, 1, 0, 1, 0]
        assert limiter.usage("ann@uwo.ca")[0].used == 6

    def test_each_of_a_batch_has_its_own_decision(self) -> None:
        """A refund takes exactly one out."""
        limiter, _ = self.limiter(RecipientRateLimit("9/minute"))
        small, large, refused = limiter.try_acquire_many([letter(1), letter(5), letter(4)])
        assert refused.retry_after == 60
        limiter.refund(large)
        assert limiter.usage("ann@uwo.ca")[0].used == 1
        limiter.refund(small)
        assert limiter.usage("ann@uwo.ca")[0].used == 0

    def test_a_batch_has_the_same_answers_as_one_by_one(self) -> None:
        """Whatever is in it, and in whatever order."""
        limits: list[Limit] = [
            MessageRateLimit("3/2 seconds"),
            RecipientRateLimit("9/5 seconds", denied="count"),
            RecipientRateLimit("4/3 seconds", count="external", on_excess="reject"),
            RecipientLimit(4),
        ]
        scopes = ("global", "recipient_domain", "sender")
        for seed in range(6):
            source = random.Random(seed)
            clock = ManualClock()
            scope = scopes[seed % len(scopes)]
            policy = policy_of(*limits, MessageRateLimit("4/second", scope=scope))
            together = Limiter(policy, self.backend(clock), remember=3)
            apart = Limiter(policy, self.backend(clock), remember=3)
            for _ in range(8):
                clock.advance(source.choice((0, 0.001, 0.5, 1, 3)))
                batch = [_random_letter(source) for _ in range(source.randint(0, 7))]
                one_by_one = [apart.try_acquire(envelope) for envelope in batch]
                assert together.try_acquire_many(batch) == one_by_one
                for sender in SENDERS:
                    assert together.usage(sender) == apart.usage(sender)

    def test_an_empty_batch_has_no_decisions(self) -> None:
        """And charges nothing."""
        limiter, _ = self.limiter(MessageRateLimit("1/minute"))
        assert limiter.try_acquire_many([]) == []
        (accepted,) = limiter.try_acquire_many(iter([letter()]))
        assert accepted

    def test_messages_with_nothing_to_count_stand_in_their_places(self) -> None:
        """And so do those that can never fit."""
        limiter, _ = self.limiter(
            RecipientLimit(4), RecipientRateLimit("3/minute", count="external")
        )
        inside = letter(domain="uwo.ca")
        batch = [inside, letter(5), letter(2), letter(4), inside, letter(2), letter(1)]
        decisions = limiter.try_acquire_many(batch)
        told = [(decision.action, decision.retry_after) for decision in decisions]
        accepted, never = (Action.ACCEPT, 0), (Action.REJECT, None)
        deferred = (Action.DEFER, 60)
        assert told == [accepted, never, accepted, never, accepted, deferred, accepted]
        assert limiter.usage("ann@uwo.ca")[0].used == 3

    def test_refused_ones_of_a_batch_are_counted_where_that_counts(self) -> None:
        """Also those that can never fit; and what comes behind them meets that."""
        limiter, _ = self.limiter(RecipientRateLimit("5/minute", denied="count"))
        batch = [letter(2), letter(6), letter(1)]
        assert [bool(each) for each in limiter.try_acquire_many(batch)] == [1, 0, 0]
        assert limiter.usage("ann@uwo.ca")[0].used == 9

    def test_a_large_batch_admits_exactly_the_limit(self) -> None:
        """The first ones, though they may not all be decided on in one step."""
        limiter, _ = self.limiter(MessageRateLimit("120/day"))
        decisions = limiter.try_acquire_many([letter() for _ in range(250)])
        assert [each.allowed for each in decisions] == [True] * 120 + [False] * 130
        assert limiter.usage("ann@uwo.ca")[0].used == 120

    def test_a_batch_with_very_many_recipients_is_decided(self) -> None:
        """Each of them a count of its own."""
        limiter, _ = self.limiter(MessageRateLimit("2/day", scope="recipient"))
        decisions = limiter.try_acquire_many([letter(400) for _ in range(3)])
        assert [each.allowed for each in decisions] == [True, True, False]
        for i in (0, 399):
            assert limiter.usage(f"r{i}@example.com", scope="recipient")[0].used == 2

    def test_a_batch_with_what_is_no_message_charges_nothing(self) -> None:
        """It is named before anything is asked."""
        limiter, _ = self.limiter(MessageRateLimit("9/minute"))
        try:
            limiter.try_acquire_many([letter(), "ann@uwo.ca"])  # type: ignore[list-item]
        except TypeError as error:
            assert "an Envelope is needed" in str(error)
        else:
            raise AssertionError("taken for a message")
        assert limiter.usage("ann@uwo.ca")[0].used == 0
