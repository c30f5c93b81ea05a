"""What is counted together, and what never is."""

from __future__ import annotations

from ratelimit_mail.conditions import has_tag
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.limiter import Limiter
from ratelimit_mail.limits import MessageRateLimit
from ratelimit_mail.policy import Policy, Tier
from ratelimit_mail.testing.clock import ManualClock
from ratelimit_mail.testing.conformance.suite import Suite, letter, policy_of

__all__ = ["Subjects"]


class Subjects(Suite):
    """What is counted together, and what never is."""

    def test_senders_do_not_share_a_count(self) -> None:
        """Scope `sender`; the null sender is one of its own."""
        limiter, _ = self.limiter(MessageRateLimit("1/minute"))
        for sender in ("ann@uwo.ca", "Ann@uwo.ca", "bob@uwo.ca", "<>"):
            assert limiter.try_acquire(letter(sender=sender))
            assert not limiter.try_acquire(letter(sender=sender))

    def test_a_global_count_is_one_for_all(self) -> None:
        """Scope `global`."""
        limiter, _ = self.limiter(MessageRateLimit("2/minute", scope="global"))
        answers = [limiter.try_acquire(letter(sender=f"{s}@uwo.ca")).allowed for s in "abc"]
        assert answers == [True, True, False]

    def test_subjects_of_several_parts_do_not_collide(self) -> None:
        """Point 3.8, whatever characters the parts have."""
        limiter, _ = self.limiter(MessageRateLimit("1/minute", scope=("client", "user")))
        for user in ("1", "11", "1:1", "1:", ":1", "8:10.1.1.1", "{1}", "a*", "\u00e9"):
            for address in ("10.1.1.1", "10.1.1.11", None):
                client = Client(address=address, user=user)
                envelope = Envelope("ann@uwo.ca", ["b@example.com"], client)
                assert limiter.try_acquire(envelope)
                assert not limiter.try_acquire(envelope)

    def test_policies_on_one_backend_do_not_mix(self) -> None:
        """Each counts for itself, even where one's name continues the other's."""
        backend = self.backend(ManualClock())
        for name in ("a", "a sender", "a.sender", "aa"):
            limiter = Limiter(policy_of(MessageRateLimit("1/minute"), name=name), backend)
            assert limiter.try_acquire(letter())
            assert not limiter.try_acquire(letter())

    def test_history_outlives_the_numbers(self) -> None:
        """Point 3.8: a limit raised, a window added."""
        backend = self.backend(ManualClock())
        before = Limiter(policy_of(MessageRateLimit("3/day")), backend)
        assert all(before.try_acquire(letter()) for _ in range(3))
        after = Limiter(policy_of(MessageRateLimit("5/day"), MessageRateLimit("4/hour")), backend)
        assert [bool(after.try_acquire(letter())) for _ in range(3)] == [1, 0, 0]

    def test_history_outlives_a_change_of_tier(self) -> None:
        """Point 3.8: what was sent in one tier counts in the next."""
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
        assert [limiter.try_acquire(letter()).allowed for _ in range(2)] == [True, False]
