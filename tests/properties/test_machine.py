"""A stateful machine: any order of verbs, the memory backend beside the brute force."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
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
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.conditions import has_tag
from ratelimit_mail.limiter import Reservation
from ratelimit_mail.testing import BruteForceBackend, ManualClock

SECOND = 1000
DAY = 86_400 * SECOND

POLICY = Policy(
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
envelopes = st.builds(
    Envelope,
    senders,
    st.lists(
        st.sampled_from(["c@uwo.ca", "d@x.org", "e@x.org", "f@y.org"]), min_size=1, max_size=4
    ),
    st.builds(Client, tags=st.sampled_from([set(), {"wireless"}])),
)


class Pair:
    """The same done to both limiters, whose answers must be the same."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.brute_force = BruteForceBackend(self.clock)
        self.limiters = [
            Limiter(POLICY, MemoryBackend(self.clock)),
            Limiter(POLICY, self.brute_force),
        ]

    def do(self, verb: Callable[[Limiter, int], Any]) -> list[Any]:
        answers = []
        for i, limiter in enumerate(self.limiters):
            try:
                answers.append(verb(limiter, i))
            except RateLimitExceeded as error:
                answers.append(error.decision)
        assert answers[0] == answers[1]
        return answers


class Machine(RuleBasedStateMachine):
    decisions = Bundle("decisions")
    reservations = Bundle("reservations")

    @initialize()
    def start(self) -> None:
        self.pair = Pair()

    @rule(target=decisions, envelope=envelopes)
    def try_acquire(self, envelope: Envelope) -> list[Decision]:
        return self.pair.do(lambda limiter, _: limiter.try_acquire(envelope))

    @rule(envelope=envelopes)
    def check_twice(self, envelope: Envelope) -> None:
        first = self.pair.do(lambda limiter, _: limiter.check(envelope))
        assert first == self.pair.do(lambda limiter, _: limiter.check(envelope))

    @rule(
        target=reservations,
        envelope=envelopes,
        max_delay=st.sampled_from([None, None, 0, 1, 5]),
    )
    def reserve(self, envelope: Envelope, max_delay: float | None) -> list[Reservation | Decision]:
        now = self.pair.clock()

        kept: list[Reservation | Decision] = []

        def verb(limiter: Limiter, _: int) -> float:
            reservation = limiter.reserve(envelope, max_delay)
            if reservation.delay:
                assert reservation.at == now + round(reservation.delay * 1000)
            kept.append(reservation)
            return reservation.delay

        return kept if self.pair.do(verb) and kept else []

    @rule(pair=consumes(reservations))
    def cancel(self, pair: list[Any]) -> None:
        for reservation in pair:
            if isinstance(reservation, Reservation):
                reservation.cancel()

    @rule(pair=consumes(decisions))
    def refund(self, pair: list[Decision]) -> None:
        if pair[0]:
            self.pair.do(lambda limiter, i: limiter.refund(pair[i]))

    @rule(sender=senders)
    def reset(self, sender: str) -> None:
        self.pair.do(lambda limiter, _: limiter.reset(sender))

    @rule(seconds=st.sampled_from([0.001, 0.5, 0.999, 1, 2, 5, 30]))
    def time_passes(self, seconds: float) -> None:
        self.pair.clock.advance(seconds)

    @rule(seconds=st.sampled_from([0.001, 1, 3, 3600]))
    def the_clock_goes_back(self, seconds: float) -> None:
        self.pair.clock.advance(-seconds)

    @invariant()
    def usage_agrees(self) -> None:
        if hasattr(self, "pair"):
            self.pair.do(lambda limiter, _: limiter.usage("ann@uwo.ca"))
            self.pair.do(lambda limiter, _: limiter.usage("bob@uwo.ca"))
            self.pair.do(lambda limiter, _: limiter.usage(scope="global"))

    @invariant()
    def no_window_is_ever_above_its_limit(self) -> None:
        if not hasattr(self, "pair"):
            return
        for unit, scope, amount, length in (
            (0, "sender", 3, 2 * SECOND),
            (0, "sender", 20, DAY),
            (1, "global", 9, 5 * SECOND),
            (1, "global", 90, DAY),
        ):
            events = [
                event
                for event in self.pair.brute_force.events
                if (event.name[0], event.name[2]) == (f"machine:{scope}", unit)
                and not event.refused
            ]
            for end in events:
                held = sum(
                    event.cost
                    for event in events
                    if event.name == end.name and end.moment - length < event.moment <= end.moment
                )
                assert held <= amount


TestMachine = Machine.TestCase
TestMachine.settings = settings(stateful_step_count=30)
