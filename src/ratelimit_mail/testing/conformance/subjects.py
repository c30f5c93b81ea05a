"""Tests of subjects: which messages are counted together."""

from __future__ import annotations

from ratelimit_mail.conditions import has_tag
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.limiter import Limiter
from ratelimit_mail.limits import MessageRateLimit
from ratelimit_mail.policy import Policy, Tier
from ratelimit_mail.testing.clock import ManualClock
from ratelimit_mail.testing.conformance.suite import ConformanceTests, envelope_to, policy_with

__all__ = ["SubjectTests"]


class SubjectTests(ConformanceTests):
    """Tests of subjects: which messages are counted together."""

    def test_senders_do_not_share_a_count(self) -> None:
        """With the scope `sender`, each sender has its own count, and so has the null sender."""
        limiter, _ = self.limiter(MessageRateLimit("1/minute"))
        for sender in ("ann@uwo.ca", "anne@uwo.ca", "bob@uwo.ca", "<>"):
            assert limiter.try_acquire(envelope_to(sender=sender))
            assert not limiter.try_acquire(envelope_to(sender=sender))

    def test_the_global_scope_has_one_count(self) -> None:
        """All senders share it."""
        limiter, _ = self.limiter(MessageRateLimit("2/minute", scope="global"))
        answers = [limiter.try_acquire(envelope_to(sender=f"{s}@uwo.ca")).allowed for s in "abc"]
        assert answers == [True, True, False]

    def test_subjects_of_several_scopes_do_not_collide(self) -> None:
        """Whatever characters their values contain."""
        limiter, _ = self.limiter(MessageRateLimit("1/minute", scope=("client", "user")))
        for user in ("1", "11", "1:1", "1:", ":1", "8:10.1.1.1", "{1}", "a*", "\u00e9"):
            for address in ("10.1.1.1", "10.1.1.11", None):
                client = Client(address=address, user=user)
                envelope = Envelope("ann@uwo.ca", ["b@example.com"], client)
                assert limiter.try_acquire(envelope)
                assert not limiter.try_acquire(envelope)

    def test_policies_on_one_backend_have_separate_counts(self) -> None:
        """Even if the name of one policy starts with the name of another."""
        backend = self.backend(ManualClock())
        for name in ("a", "a sender", "a.sender", "aa"):
            limiter = Limiter(policy_with(MessageRateLimit("1/minute"), name=name), backend)
            assert limiter.try_acquire(envelope_to())
            assert not limiter.try_acquire(envelope_to())

    def test_the_history_remains_when_limits_change(self) -> None:
        """A higher limit and an additional window count earlier messages."""
        backend = self.backend(ManualClock())
        before = Limiter(policy_with(MessageRateLimit("3/day")), backend)
        assert all(before.try_acquire(envelope_to()) for _ in range(3))
        after = Limiter(policy_with(MessageRateLimit("5/day"), MessageRateLimit("4/hour")), backend)
        assert [bool(after.try_acquire(envelope_to())) for _ in range(3)] == [1, 0, 0]

    def test_the_history_remains_when_the_tier_changes(self) -> None:
        """Messages that were sent in one tier count in the next."""
        clock = ManualClock()
        policy = Policy(
            name="tiers",
            tiers=[
                Tier("high", when=has_tag("wireless"), limits=[MessageRateLimit("2/minute")]),
                Tier("low", limits=[MessageRateLimit("3/day")]),
            ],
        )
        limiter = Limiter(policy, self.backend(clock))
        wireless = Envelope("ann@uwo.ca", ["b@example.com"], Client(tags={"wireless"}))
        assert limiter.try_acquire(wireless)
        assert limiter.try_acquire(wireless)
        clock.advance(3600)
        assert [limiter.try_acquire(envelope_to()).allowed for _ in range(2)] == [True, False]
