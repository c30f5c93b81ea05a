"""A stateful machine: any order of verbs on several backends, whose answers must be the same."""

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
        RecipientRateLimit("6/5 seconds", count="external", denied="count", on_excess="reject"),
        RecipientRateLimit("40/day", count="external"),
        RecipientRateLimit("9/5 seconds", scope="global"),
        RecipientRateLimit("90/day", scope="global"),
    ],
    tiers=[Tier("wireless", when=has_tag("wireless"), limits=[MessageRateLimit("1/second")])],
)

senders = st.sampled_from(["ann@uwo.ca", "bob@uwo.ca"])
recipients = st.lists(
    st.sampled_from(["c@uwo.ca", "d@x.org", "e@x.org", "f@y.org"]), min_size=1, max_size=4
)
clients = st.builds(Client, tags=st.sampled_from([set(), {"wireless"}]))
envelopes = st.builds(Envelope, senders, recipients, clients)
jobs = st.builds(
    Envelope,
    senders,
    st.sampled_from([["c@uwo.ca"], ["d@x.org", "f@y.org"]]),
    id=st.sampled_from(["1", "2"]),
)
delays = st.sampled_from([None, None, 0, 1, 5])

Held = list[Any]
"""The same decision or reservation, as each limiter gave it."""


class Machine(RuleBasedStateMachine):
    """The same done to a limiter on each backend."""

    remember = 3.0
    """For how many seconds the limiters remember the answer to an id."""

    decisions: Bundle[Held] = Bundle("decisions")
    reservations: Bundle[Held] = Bundle("reservations")

    @abstractmethod
    def backends(self, clock: ManualClock) -> Sequence[Backend]:
        """Empty backends whose time is `clock`; the answers of the first are right."""

    @initialize()
    def start(self) -> None:
        self.clock = ManualClock()
        self.limiters = [
            Limiter(POLICY, backend, remember=self.remember)
            for backend in self.backends(self.clock)
        ]

    def do(self, verb: Callable[[Limiter, int], Any]) -> list[Any]:
        """What each limiter answers, which must be the same."""
        answers = []
        for i, limiter in enumerate(self.limiters):
            try:
                answers.append(verb(limiter, i))
            except RateLimitExceeded as error:
                answers.append(error.decision)
        assert answers[1:] == answers[:-1]
        return answers

    def book(self, envelope: Envelope, max_delay: float | None) -> Held:
        """The reservations of all limiters, or nothing where it is refused."""
        now = self.clock()
        kept: list[Reservation] = []

        def verb(limiter: Limiter, _: int) -> float:
            reservation = limiter.reserve(envelope, max_delay)
            if reservation.delay:
                assert reservation.at == now + round(reservation.delay * 1000)
            kept.append(reservation)
            return reservation.delay

        self.do(verb)
        return kept

    @rule(target=decisions, envelope=envelopes)
    def try_acquire(self, envelope: Envelope) -> Held:
        return self.do(lambda limiter, _: limiter.try_acquire(envelope))

    @rule(target=decisions, batch=st.lists(envelopes, max_size=4))
    def try_acquire_many(self, batch: list[Envelope]) -> MultipleResults[Held]:
        answers = self.do(lambda limiter, _: limiter.try_acquire_many(batch))
        return multiple(*map(list, zip(*answers, strict=True)))

    @rule(envelope=envelopes)
    def check_twice(self, envelope: Envelope) -> None:
        first = self.do(lambda limiter, _: limiter.check(envelope))
        assert first == self.do(lambda limiter, _: limiter.check(envelope))

    @rule(target=reservations, envelope=envelopes, max_delay=delays)
    def reserve(self, envelope: Envelope, max_delay: float | None) -> Held:
        return self.book(envelope, max_delay)

    @rule(held=consumes(reservations))
    def cancel(self, held: list[Reservation]) -> None:
        for reservation in held:
            reservation.cancel()

    @rule(held=consumes(decisions))
    def refund(self, held: list[Decision]) -> None:
        if held[0]:
            self.do(lambda limiter, i: limiter.refund(held[i]))

    @rule(sender=senders)
    def reset(self, sender: str) -> None:
        self.do(lambda limiter, _: limiter.reset(sender))

    @rule(seconds=st.sampled_from([0.001, 0.5, 0.999, 1, 2, 5, 30]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def usage_agrees(self) -> None:
        if hasattr(self, "limiters"):
            self.do(lambda limiter, _: limiter.usage("ann@uwo.ca"))
            self.do(lambda limiter, _: limiter.usage("bob@uwo.ca"))
            self.do(lambda limiter, _: limiter.usage(scope="global"))


class MachineWithJumps(Machine):
    """With a clock that goes back; no ids, because their answers may be forgotten meanwhile."""

    @rule(seconds=st.sampled_from([0.001, 1, 3, 3600]))
    def the_clock_goes_back(self, seconds: float) -> None:
        self.clock.advance(-seconds)


class MachineWithIds(Machine):
    """With messages that are asked about again under the same id."""

    @rule(target=Machine.decisions, envelope=jobs)
    def try_acquire_a_job(self, envelope: Envelope) -> Held:
        return self.do(lambda limiter, _: limiter.try_acquire(envelope))

    @rule(target=Machine.decisions, batch=st.lists(jobs, max_size=4))
    def try_acquire_many_jobs(self, batch: list[Envelope]) -> MultipleResults[Held]:
        answers = self.do(lambda limiter, _: limiter.try_acquire_many(batch))
        return multiple(*map(list, zip(*answers, strict=True)))

    @rule(target=Machine.reservations, envelope=jobs, max_delay=delays)
    def reserve_a_job(self, envelope: Envelope, max_delay: float | None) -> Held:
        return self.book(envelope, max_delay)
