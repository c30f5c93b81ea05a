"""The short way of most messages answers as the brute force does, whatever happens between."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st

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
from ratelimit_mail.testing import BruteForceBackend, ManualClock

RECIPIENTS = (["a@example.com"], ["a@example.com", "b@example.com", "c@uwo.ca"], ["d@uwo.ca"])


def letter(sender: str, kind: int) -> Envelope:
    """A message of one of three kinds; the second comes by a wireless client."""
    return Envelope(sender, RECIPIENTS[kind], Client(tags=["wireless"] if kind == 1 else []))


def policy(messages: int, recipients: int, denied: Any, of_tier: int = 0) -> Policy:
    limits = [MessageRateLimit(f"{of_tier}/minute")] if of_tier else []
    return Policy(
        name="short",
        internal_domains=["uwo.ca"],
        tiers=[Tier("wireless", when=has_tag("wireless"), limits=limits)] if limits else [],
        limits=[
            MessageRateLimit(f"{messages}/10 seconds", denied=denied),
            RecipientRateLimit(f"{recipients}/minute", count="external"),
        ],
    )


steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 1), st.integers(0, 2), st.integers(1, 70)),
        st.tuples(st.just("other"), st.integers(0, 1), st.integers(0, 2), st.integers(1, 9)),
        st.tuples(st.just("turn"), st.integers(-2_000, 12_000)),
        st.tuples(st.just("refund"), st.integers(0, 40)),
        st.tuples(st.just("reserve"), st.integers(0, 1), st.integers(0, 2)),
        st.tuples(st.just("reset"), st.integers(0, 1)),
        st.tuples(st.just("usage"), st.integers(0, 1)),
    ),
    max_size=40,
)


class World:
    """Two policies of one name on one backend, and what they have answered."""

    def __init__(self, backend: Any, policies: list[Policy]) -> None:
        self.limiter, self.other = (Limiter(each, backend) for each in policies)
        self.accepted: list[tuple[Limiter, Decision]] = []

    def send(self, limiter: Limiter, envelope: Envelope) -> object:
        decision = limiter.try_acquire(envelope)
        if decision:
            self.accepted.append((limiter, decision))
        return decision

    def refund(self, number: int) -> None:
        if self.accepted:
            limiter, decision = self.accepted.pop(number % len(self.accepted))
            limiter.refund(decision)

    def reserve(self, envelope: Envelope) -> object:
        try:
            booked = self.limiter.reserve(envelope, max_delay=30)
        except RateLimitExceeded as error:
            return error.decision
        self.accepted.append((self.limiter, booked.decision))
        return booked.at, booked.delay


@given(
    st.integers(1, 90),
    st.integers(1, 200),
    st.integers(1, 90),
    st.sampled_from(["ignore", "count"]),
    st.sampled_from([0, 20]),
    steps,
)
def test_the_short_way_answers_as_the_brute_force(
    messages: int, recipients: int, others: int, denied: Any, of_tier: int, script: list[Any]
) -> None:
    clock = ManualClock()
    policies = [policy(each, recipients, denied, of_tier) for each in (messages, others)]
    worlds = [
        World(backend, policies) for backend in (MemoryBackend(clock), BruteForceBackend(clock))
    ]
    for verb, *how in script:
        if verb == "turn":
            clock.advance(how[0] / 1000)
            continue
        sender = f"s{how[0]}@uwo.ca"
        if verb in ("send", "other"):
            for _ in range(how[2]):
                answers = [
                    world.send(
                        world.limiter if verb == "send" else world.other,
                        letter(sender, how[1]),
                    )
                    for world in worlds
                ]
                assert answers[0] == answers[1]
        elif verb == "reserve":
            booked = [world.reserve(letter(sender, how[1])) for world in worlds]
            assert booked[0] == booked[1]
        elif verb == "refund":
            for world in worlds:
                world.refund(how[0])
        elif verb == "reset":
            for world in worlds:
                world.limiter.reset(sender)
        elif verb == "usage":
            read = [world.limiter.usage(sender) for world in worlds]
            assert read[0] == read[1]


def test_an_accepted_decision_is_as_one_that_is_built() -> None:
    limiter = Limiter(policy(9, 9, "ignore"))
    first, second = (limiter.try_acquire(Envelope("a@uwo.ca", RECIPIENTS[0])) for _ in range(2))
    built = Decision(first.action)
    assert first == second == built
    assert repr(second) == repr(built)
    assert attrs.asdict(second, recurse=False) | {"refund_token": None} == attrs.asdict(built)
    assert hash(second) == hash(built)
