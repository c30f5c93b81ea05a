"""The fast path of `try_acquire` answers as the brute force does, whatever else is called."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from rlm_testkit.builders import campus_policy

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


def envelope_of_kind(sender: str, kind: int) -> Envelope:
    """Return a message of one of three kinds; the second is submitted by a wireless client."""
    return Envelope(sender, RECIPIENTS[kind], Client(tags=["wireless"] if kind == 1 else []))


def policy_with(messages: int, recipients: int, denied: Any, tier_messages: int = 0) -> Policy:
    """Return a policy of two limits, and a tier with a third unless `tier_messages` is 0."""
    tier_limits = [MessageRateLimit(f"{tier_messages}/minute")] if tier_messages else []
    tiers = [Tier("wireless", when=has_tag("wireless"), limits=tier_limits)] if tier_limits else []
    return campus_policy(
        MessageRateLimit(f"{messages}/10 seconds", denied=denied),
        RecipientRateLimit(f"{recipients}/minute", count="external"),
        tiers=tiers,
    )


operations = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 1), st.integers(0, 2), st.integers(1, 70)),
        st.tuples(st.just("send_other"), st.integers(0, 1), st.integers(0, 2), st.integers(1, 9)),
        st.tuples(st.just("move_clock"), st.integers(-2_000, 12_000)),
        st.tuples(st.just("refund"), st.integers(0, 40)),
        st.tuples(st.just("reserve"), st.integers(0, 1), st.integers(0, 2)),
        st.tuples(st.just("reset"), st.integers(0, 1)),
        st.tuples(st.just("usage"), st.integers(0, 1)),
    ),
    max_size=40,
)


class LimiterPair:
    """Limiters of two policies of one name on one backend, and what they have accepted."""

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
            reservation = self.limiter.reserve(envelope, max_delay=30)
        except RateLimitExceeded as error:
            return error.decision
        self.accepted.append((self.limiter, reservation.decision))
        return reservation.at, reservation.delay


@given(
    st.integers(1, 90),
    st.integers(1, 200),
    st.integers(1, 90),
    st.sampled_from(["ignore", "count"]),
    st.sampled_from([0, 20]),
    operations,
)
def test_the_fast_path_answers_as_the_brute_force(
    messages: int,
    recipients: int,
    other_messages: int,
    denied: Any,
    tier_messages: int,
    script: list[Any],
) -> None:
    clock = ManualClock()
    policies = [
        policy_with(each, recipients, denied, tier_messages) for each in (messages, other_messages)
    ]
    pairs = [
        LimiterPair(backend, policies)
        for backend in (MemoryBackend(clock), BruteForceBackend(clock))
    ]
    for operation, *arguments in script:
        if operation == "move_clock":
            clock.advance(arguments[0] / 1000)
            continue
        sender = f"s{arguments[0]}@uwo.ca"
        if operation in ("send", "send_other"):
            for _ in range(arguments[2]):
                decisions = [
                    pair.send(
                        pair.limiter if operation == "send" else pair.other,
                        envelope_of_kind(sender, arguments[1]),
                    )
                    for pair in pairs
                ]
                assert decisions[0] == decisions[1]
        elif operation == "reserve":
            bookings = [pair.reserve(envelope_of_kind(sender, arguments[1])) for pair in pairs]
            assert bookings[0] == bookings[1]
        elif operation == "refund":
            for pair in pairs:
                pair.refund(arguments[0])
        elif operation == "reset":
            for pair in pairs:
                pair.limiter.reset(sender)
        elif operation == "usage":
            usages = [pair.limiter.usage(sender) for pair in pairs]
            assert usages[0] == usages[1]


def test_a_decision_of_the_fast_path_equals_one_that_is_constructed() -> None:
    limiter = Limiter(policy_with(9, 9, "ignore"))
    first, second = (limiter.try_acquire(Envelope("a@uwo.ca", RECIPIENTS[0])) for _ in range(2))
    constructed = Decision(first.action)
    assert first == second == constructed
    assert repr(second) == repr(constructed)
    as_dict = attrs.asdict(second, recurse=False)
    assert as_dict | {"refund_token": None} == attrs.asdict(constructed)
    assert hash(second) == hash(constructed)
