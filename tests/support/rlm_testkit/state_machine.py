"""Machine: run operations in any order on several backends, and compare their answers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from ratelimit_mail import (
    Client,
    Decision,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RateLimitExceeded,
    RecipientRateLimit,
    Tier,
)
from ratelimit_mail.backends import Backend
from ratelimit_mail.conditions import has_tag
from ratelimit_mail.limiter import Reservation
from ratelimit_mail.testing import ManualClock

__all__ = ["DAY", "SECOND", "Machine", "MachineWithIds", "MachineWithJumps"]

SECOND: Final = 1000
DAY: Final = 86_400 * SECOND

POLICY: Final = Policy(
    name="machine",
    internal_domains=["uwo.ca"],
    limits=[
        MessageRateLimit("3/2 seconds"),
        MessageRateLimit("20/day"),
        MessageRateLimit("14/calendar day", time_zone="Asia/Kathmandu"),
        RecipientRateLimit("6/5 seconds", count="external", denied="count", on_excess="reject"),
        RecipientRateLimit("40/day", count="external"),
        RecipientRateLimit("9/5 seconds", scope="global"),
        RecipientRateLimit("30/calendar hour", scope="global"),
        RecipientRateLimit("90/day", scope="global"),
        RecipientRateLimit("2/2 seconds", count="external", unique=True),
        RecipientRateLimit("3/day", count="external", unique=True),
    ],
    tiers=[Tier("wireless", when=has_tag("wireless"), limits=[MessageRateLimit("1/second")])],
)

senders = st.sampled_from(["ann@uwo.ca", "bob@uwo.ca"])
recipients = st.lists(
    st.sampled_from(["c@uwo.ca", "d@x.org", "e@x.org", "f@y.org"]), min_size=1, max_size=4
)
clients = st.builds(Client, tags=st.sampled_from([set(), {"wireless"}]))
envelopes = st.builds(Envelope, senders, recipients, clients)
envelopes_with_ids = st.builds(
    Envelope,
    senders,
    st.sampled_from([["c@uwo.ca"], ["d@x.org", "f@y.org"]]),
    id=st.sampled_from(["1", "2"]),
)
delays = st.sampled_from([None, None, 0, 1, 5])

Answers = list[Any]
"""The decision or reservation of each limiter, for the same operation."""


class Machine(RuleBasedStateMachine):
    """Run the same operations on a limiter on each backend."""

    remember = 3.0
    """How many seconds the limiters remember the answer for an id."""

    decisions: Bundle[Answers] = Bundle("decisions")
    reservations: Bundle[Answers] = Bundle("reservations")

    @abstractmethod
    def backends(self, clock: ManualClock) -> Sequence[Backend]:
        """Return empty backends whose time is `clock`."""

    @initialize()
    def start(self) -> None:
        self.clock = ManualClock()
        self.limiters = [
            Limiter(POLICY, backend, remember=self.remember)
            for backend in self.backends(self.clock)
        ]

    def on_each(self, operation: Callable[[Limiter, int], Any]) -> list[Any]:
        """Run an operation on each limiter; the answers must be the same."""
        answers = []
        for i, limiter in enumerate(self.limiters):
            try:
                answers.append(operation(limiter, i))
            except RateLimitExceeded as error:
                answers.append(error.decision)
        assert answers[1:] == answers[:-1]
        return answers

    def book(self, envelope: Envelope, max_delay: float | None) -> Answers:
        """Return the reservations of all limiters, or none if it is refused."""
        now = self.clock()
        reservations: list[Reservation] = []

        def reserve(limiter: Limiter, _: int) -> float:
            reservation = limiter.reserve(envelope, max_delay)
            if reservation.delay:
                assert reservation.at == now + round(reservation.delay * 1000)
            reservations.append(reservation)
            return reservation.delay

        self.on_each(reserve)
        return reservations

    @rule(target=decisions, envelope=envelopes)
    def try_acquire(self, envelope: Envelope) -> Answers:
        return self.on_each(lambda limiter, _: limiter.try_acquire(envelope))

    @rule(target=decisions, batch=st.lists(envelopes, max_size=4))
    def try_acquire_many(self, batch: list[Envelope]) -> MultipleResults[Answers]:
        answers = self.on_each(lambda limiter, _: limiter.try_acquire_many(batch))
        return multiple(*map(list, zip(*answers, strict=True)))

    @rule(envelope=envelopes)
    def check_twice(self, envelope: Envelope) -> None:
        first = self.on_each(lambda limiter, _: limiter.check(envelope))
        assert first == self.on_each(lambda limiter, _: limiter.check(envelope))

    @rule(target=reservations, envelope=envelopes, max_delay=delays)
    def reserve(self, envelope: Envelope, max_delay: float | None) -> Answers:
        return self.book(envelope, max_delay)

    @rule(answers=consumes(reservations))
    def cancel(self, answers: list[Reservation]) -> None:
        for reservation in answers:
            reservation.cancel()

    @rule(answers=consumes(decisions))
    def refund(self, answers: list[Decision]) -> None:
        if answers[0]:
            self.on_each(lambda limiter, i: limiter.refund(answers[i]))

    @rule(sender=senders)
    def reset(self, sender: str) -> None:
        self.on_each(lambda limiter, _: limiter.reset(sender))

    @rule(seconds=st.sampled_from([0.001, 0.5, 0.999, 1, 2, 5, 30, 790, 58_000]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def usage_agrees(self) -> None:
        if hasattr(self, "limiters"):
            self.on_each(lambda limiter, _: limiter.usage("ann@uwo.ca"))
            self.on_each(lambda limiter, _: limiter.usage("bob@uwo.ca"))
            self.on_each(lambda limiter, _: limiter.usage(scope="global"))


class MachineWithJumps(Machine):
    """A machine whose clock also goes back; without ids, because answers may be forgotten."""

    @rule(seconds=st.sampled_from([0.001, 1, 3, 3600]))
    def the_clock_goes_back(self, seconds: float) -> None:
        self.clock.advance(-seconds)


class MachineWithIds(Machine):
    """A machine with messages that are repeated with the same id."""

    @rule(target=Machine.decisions, envelope=envelopes_with_ids)
    def try_acquire_with_id(self, envelope: Envelope) -> Answers:
        return self.on_each(lambda limiter, _: limiter.try_acquire(envelope))

    @rule(target=Machine.decisions, batch=st.lists(envelopes_with_ids, max_size=4))
    def try_acquire_many_with_ids(self, batch: list[Envelope]) -> MultipleResults[Answers]:
        answers = self.on_each(lambda limiter, _: limiter.try_acquire_many(batch))
        return multiple(*map(list, zip(*answers, strict=True)))

    @rule(target=Machine.reservations, envelope=envelopes_with_ids, max_delay=delays)
    def reserve_with_id(self, envelope: Envelope, max_delay: float | None) -> Answers:
        return self.book(envelope, max_delay)
