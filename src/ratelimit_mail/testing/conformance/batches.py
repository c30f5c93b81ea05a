"""Tests of batches: several messages in one call, in order, each with its own decision."""

from __future__ import annotations

import random

from ratelimit_mail.decision import Action
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.limiter import Limiter
from ratelimit_mail.limits import Limit, MessageRateLimit, RecipientLimit, RecipientRateLimit
from ratelimit_mail.testing.clock import ManualClock
from ratelimit_mail.testing.conformance.suite import ConformanceTests, envelope_to, policy_with

__all__ = ["BatchTests"]

SENDERS = ("ann@uwo.ca", "bob@uwo.ca")
DOMAINS = ("uwo.ca", "a.org", "b.org")


def _random_envelope(source: random.Random) -> Envelope:
    count = source.randint(1, 5)
    recipients = [f"r{i}@{source.choice(DOMAINS)}" for i in range(count)]
    return Envelope(source.choice(SENDERS), recipients, id=source.choice((None, None, "1", "2")))


class BatchTests(ConformanceTests):
    """Tests of batches: several messages in one call, in order, each with its own decision."""

    def test_a_batch_is_decided_in_order(self) -> None:
        """A small message may fit after a large one that did not."""
        limiter, _ = self.limiter(RecipientRateLimit("6/minute"))
        batch = [envelope_to(cost) for cost in (3, 2, 4, 1, 1)]
        assert [bool(each) for each in limiter.try_acquire_many(batch)] == [1, 1, 0, 1, 0]
        assert limiter.usage("ann@uwo.ca")[0].used == 6

    def test_each_message_of_a_batch_has_its_own_decision(self) -> None:
        """A refund removes the charge of exactly one message."""
        limiter, _ = self.limiter(RecipientRateLimit("9/minute"))
        small, large, refused = limiter.try_acquire_many(
            [envelope_to(1), envelope_to(5), envelope_to(4)]
        )
        assert refused.retry_after == 60
        limiter.refund(large)
        assert limiter.usage("ann@uwo.ca")[0].used == 1
        limiter.refund(small)
        assert limiter.usage("ann@uwo.ca")[0].used == 0

    def test_a_batch_has_the_same_answers_as_separate_calls(self) -> None:
        """For messages of any kind, in any order."""
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
            policy = policy_with(*limits, MessageRateLimit("4/second", scope=scope))
            batched = Limiter(policy, self.backend(clock), remember=3)
            separate = Limiter(policy, self.backend(clock), remember=3)
            for _ in range(8):
                clock.advance(source.choice((0, 0.001, 0.5, 1, 3)))
                batch = [_random_envelope(source) for _ in range(source.randint(0, 7))]
                one_by_one = [separate.try_acquire(envelope) for envelope in batch]
                assert batched.try_acquire_many(batch) == one_by_one
                for sender in SENDERS:
                    assert batched.usage(sender) == separate.usage(sender)

    def test_an_empty_batch_has_no_decisions(self) -> None:
        """It charges nothing."""
        limiter, _ = self.limiter(MessageRateLimit("1/minute"))
        assert limiter.try_acquire_many([]) == []
        (accepted,) = limiter.try_acquire_many(iter([envelope_to()]))
        assert accepted

    def test_messages_without_charges_keep_their_places(self) -> None:
        """So do messages that can never fit."""
        limiter, _ = self.limiter(
            RecipientLimit(4), RecipientRateLimit("3/minute", count="external")
        )
        inside = envelope_to(domain="uwo.ca")
        batch = [
            inside,
            envelope_to(5),
            envelope_to(2),
            envelope_to(4),
            inside,
            envelope_to(2),
            envelope_to(1),
        ]
        decisions = limiter.try_acquire_many(batch)
        answers = [(decision.action, decision.retry_after) for decision in decisions]
        accepted, never = (Action.ACCEPT, 0), (Action.REJECT, None)
        deferred = (Action.DEFER, 60)
        assert answers == [accepted, never, accepted, never, accepted, deferred, accepted]
        assert limiter.usage("ann@uwo.ca")[0].used == 3

    def test_refused_messages_of_a_batch_count_if_refused_attempts_count(self) -> None:
        """Also those that can never fit; later messages of the batch are subject to them."""
        limiter, _ = self.limiter(RecipientRateLimit("5/minute", denied="count"))
        batch = [envelope_to(2), envelope_to(6), envelope_to(1)]
        assert [bool(each) for each in limiter.try_acquire_many(batch)] == [1, 0, 0]
        assert limiter.usage("ann@uwo.ca")[0].used == 9

    def test_a_large_batch_admits_exactly_the_limit(self) -> None:
        """The first messages, even if the batch is decided in several steps."""
        limiter, _ = self.limiter(MessageRateLimit("120/day"))
        decisions = limiter.try_acquire_many([envelope_to() for _ in range(250)])
        assert [each.allowed for each in decisions] == [True] * 120 + [False] * 130
        assert limiter.usage("ann@uwo.ca")[0].used == 120

    def test_a_batch_with_very_many_recipients_is_decided(self) -> None:
        """Each recipient has its own count."""
        limiter, _ = self.limiter(MessageRateLimit("2/day", scope="recipient"))
        decisions = limiter.try_acquire_many([envelope_to(400) for _ in range(3)])
        assert [each.allowed for each in decisions] == [True, True, False]
        for i in (0, 399):
            assert limiter.usage(f"r{i}@example.com", scope="recipient")[0].used == 2

    def test_a_batch_with_an_invalid_message_is_not_charged(self) -> None:
        """The error is raised before the backend is asked."""
        limiter, _ = self.limiter(MessageRateLimit("9/minute"))
        try:
            limiter.try_acquire_many([envelope_to(), "ann@uwo.ca"])  # type: ignore[list-item]
        except TypeError as error:
            assert "an Envelope is needed" in str(error)
        else:
            raise AssertionError("accepted as a message")
        assert limiter.usage("ann@uwo.ca")[0].used == 0
