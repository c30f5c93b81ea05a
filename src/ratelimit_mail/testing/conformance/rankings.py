"""Tests of `top`: the subjects that used most of their limits, by exact usage."""

from __future__ import annotations

import random

from ratelimit_mail.backends.base import Backend, Intent
from ratelimit_mail.counting.charge import ONE_MESSAGE, UNITS, Charge, Count, Ledger, costs_of
from ratelimit_mail.counting.window import Retention, Window
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.limits import MessageRateLimit, RecipientRateLimit
from ratelimit_mail.testing.brute_force import BruteForceBackend
from ratelimit_mail.testing.clock import ManualClock
from ratelimit_mail.testing.conformance.suite import ConformanceTests, envelope_to

__all__ = ["RankingTests"]

MINUTE = 60_000
HOUR = 60 * MINUTE


def _ledger(*windows: Window, name: str = "test:sender", unit: int = 0) -> Ledger:
    span = max(window.length for window in windows)
    return Ledger(name, (Count(unit, windows, Retention(span)),), span)


class RankingTests(ConformanceTests):
    """Tests of `top`."""

    def test_the_subjects_that_used_most_come_first(self) -> None:
        """As many as are asked for, and none that used nothing."""
        backend = self.backend(ManualClock())
        ledger = _ledger(Window(100, HOUR))
        assert backend.top(ledger, 3) == []
        for number in range(1, 60):
            backend.apply([(ledger, f"s{number}@uwo.ca", costs_of(0, number))])
        assert backend.top(ledger, 3) == ["s59@uwo.ca", "s58@uwo.ca", "s57@uwo.ca"]
        assert len(backend.top(ledger, 100)) == 59
        assert backend.top(_ledger(Window(100, HOUR), name="other:sender"), 3) == []

    def test_the_subjects_that_used_most_of_any_unit_come_first(self) -> None:
        """Every unit that is counted is looked at."""
        backend = self.backend(ManualClock())
        for unit in range(len(UNITS)):
            ledger = _ledger(Window(100, HOUR), name=f"unit-{unit}:sender", unit=unit)
            for number in (1, 3, 2):
                backend.apply([(ledger, f"s{number}@uwo.ca", costs_of(unit, number))])
            assert backend.top(ledger, 2) == ["s3@uwo.ca", "s2@uwo.ca"]

    def test_what_has_left_the_window_does_not_count(self) -> None:
        """The size of a log says nothing: only its window does."""
        clock = ManualClock()
        backend = self.backend(clock)
        ledger = _ledger(Window(100, MINUTE), Window(100_000, HOUR))
        for _ in range(70):
            backend.apply([(ledger, "long@uwo.ca", ONE_MESSAGE)])
        clock.advance(120)
        backend.apply([(ledger, "short@uwo.ca", costs_of(0, 3))])
        assert backend.top(ledger, 2) == ["short@uwo.ca", "long@uwo.ca"]
        assert backend.top(ledger, 1) == ["short@uwo.ca"]

    def test_the_largest_share_of_any_window_counts(self) -> None:
        """Of any unit: 5 of 10 messages are more than 90 of 1,000 recipients."""
        backend = self.backend(ManualClock())
        counts = (
            Count(0, (Window(10, HOUR),), Retention(HOUR)),
            Count(1, (Window(1000, HOUR),), Retention(HOUR)),
        )
        ledger = Ledger("test:sender", counts, HOUR)
        backend.apply([(ledger, "many@uwo.ca", (1, 90, 0, 0, 0, 0, 0, 0))])
        for _ in range(5):
            backend.apply([(ledger, "often@uwo.ca", (1, 1, 0, 0, 0, 0, 0, 0))])
        backend.apply([(ledger, "most@uwo.ca", (1, 800, 0, 0, 0, 0, 0, 0))])
        assert backend.top(ledger, 3) == ["most@uwo.ca", "often@uwo.ca", "many@uwo.ca"]

    def test_bookings_and_refunds_count_as_in_usage(self) -> None:
        """A booking is not used before its time, and what is refunded is not used."""
        clock = ManualClock()
        backend = self.backend(clock)
        ledger = _ledger(Window(2, MINUTE))
        queue: Charge = (_ledger(Window(99, HOUR), name="test:bookings"), "a@uwo.ca", ONE_MESSAGE)
        charge: Charge = (ledger, "a@uwo.ca", ONE_MESSAGE)
        first = backend.apply([charge])
        backend.apply([charge])
        backend.apply([charge], Intent(queue=queue))
        refunded = backend.apply([(ledger, "b@uwo.ca", costs_of(0, 2))])
        backend.refund(refunded.receipt)
        assert backend.top(ledger, 5) == ["a@uwo.ca"]
        backend.refund(first.receipt)
        backend.apply([(ledger, "c@uwo.ca", costs_of(0, 2))])
        assert backend.top(ledger, 5) == ["c@uwo.ca", "a@uwo.ca"]
        clock.advance(61)
        backend.reset([ledger], "c@uwo.ca")
        assert backend.top(ledger, 5) == ["a@uwo.ca"]  # its booking's time has come

    def test_a_subject_may_have_any_characters(self) -> None:
        """And is returned as it was charged."""
        backend = self.backend(ManualClock())
        ledger = _ledger(Window(100, HOUR), name="te.st-1:sender")
        subjects = ["", "%", "a}b{c@d", "*?[x]@uwo.ca", "x}:te.st-1:sender:0", "\u00fc@d", "5:a:0"]
        for number, subject in enumerate(subjects, 1):
            backend.apply([(ledger, subject, costs_of(0, number))])
        assert backend.top(ledger, 10) == subjects[::-1]

    def test_generated_charges_are_ranked_as_by_the_brute_force(self) -> None:
        """By the shares that the subjects hold; of equal ones, any may be first."""
        windows = (Window(50, MINUTE, 1), Window(400, HOUR, 1000))
        counts = tuple(Count(unit, windows, Retention(HOUR + 999, 1)) for unit in (0, 1))
        ledger = Ledger("test:sender", counts, HOUR + 999)
        for seed in range(3):
            generator = random.Random(seed)
            clock = ManualClock()
            backends = (self.backend(clock), BruteForceBackend(clock))
            for _ in range(120):
                subject = f"s{round(generator.expovariate(0.1))}@uwo.ca"
                charge: Charge = (ledger, subject, (1, generator.randint(1, 20), 0, 0, 0, 0, 0, 0))
                for backend in backends:
                    backend.apply([charge])
                clock.advance(generator.choice((0, 0.5, 7)))
            for n in (1, 5, 100):
                shares = [
                    [self._share(backend, ledger, each) for each in backend.top(ledger, n)]
                    for backend in backends
                ]
                assert shares[0] == shares[1], f"seed {seed}"

    @staticmethod
    def _share(backend: Backend, ledger: Ledger, subject: str) -> float:
        readings = backend.usage(ledger, subject)
        return max(
            each.used / window.limit
            for count, of_count in zip(ledger.counts, readings, strict=True)
            for window, each in zip(count.windows, of_count, strict=True)
        )

    def test_the_limiter_names_subjects_and_their_usages(self) -> None:
        """In each scope, by the limits of each."""
        limiter, _ = self.limiter(
            MessageRateLimit("10/hour"),
            RecipientRateLimit("50/hour", scope=("sender", "recipient_domain")),
            MessageRateLimit("20/hour", scope="global"),
            MessageRateLimit("20/hour", scope="client"),
        )
        client = Client(address="2001:db8::1")
        for sender, count in (("ann@uwo.ca", 3), ("bob@uwo.ca", 5), ("eve@uwo.ca", 1)):
            for _ in range(count):
                assert limiter.try_acquire(envelope_to(2, sender=sender))
        assert limiter.try_acquire(Envelope("<>", ["x@a.org"], client=client))
        first, second = limiter.top(n=2)
        assert (first.subject, first.share, first.usages[0].used) == ("bob@uwo.ca", 0.5, 5)
        assert (second.subject, second.scope, second.block) == ("ann@uwo.ca", ("sender",), None)
        pairs = limiter.top(("recipient_domain", "sender"), n=1)
        assert [each.subject for each in pairs] == [("bob@uwo.ca", "example.com")]
        [everybody] = limiter.top("global")
        assert (everybody.subject, everybody.usages[0].used) == (None, 10)
        network = [each.subject for each in limiter.top("client")]
        assert "2001:db8::/64" in network
        assert limiter.top("user") == ()
