"""The fast paths answer as the brute force does, whatever else is called."""

from __future__ import annotations

from contextlib import AbstractContextManager
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
    Override,
    Policy,
    RateLimitExceeded,
    RecipientRateLimit,
    Tier,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.conditions import has_tag
from ratelimit_mail.events import Dispatcher, Event
from ratelimit_mail.testing import BruteForceBackend, ManualClock

RECIPIENTS = (["a@example.com"], ["a@example.com", "b@example.com", "c@uwo.ca"], ["d@uwo.ca"])


def envelope_of_kind(sender: str, kind: int) -> Envelope:
    """Return a message of one of three kinds; the second is submitted by a wireless client."""
    return Envelope(sender, RECIPIENTS[kind], Client(tags=["wireless"] if kind == 1 else []))


def policy_with(
    messages: int,
    recipients: int,
    denied: Any,
    tier_messages: int = 0,
    shadow_messages: int = 0,
    override: int = 0,
) -> Policy:
    """Return a policy of two limits, and a tier with a third unless `tier_messages` is 0.

    shadow_messages: unless it is 0, a shadow limit. override: unless it is 0, that of one sender.
    """
    tier_limits = [MessageRateLimit(f"{tier_messages}/minute")] if tier_messages else []
    tiers = [Tier("wireless", when=has_tag("wireless"), limits=tier_limits)] if tier_limits else []
    shadow = [MessageRateLimit(f"{shadow_messages or 1}/5 seconds", enforce=False)]
    overrides = [Override({"messages": override or 1}, senders=["s1@uwo.ca", "example.org"])]
    return campus_policy(
        MessageRateLimit(f"{messages}/10 seconds", name="messages", denied=denied),
        RecipientRateLimit(f"{recipients}/minute", count="external"),
        *(shadow if shadow_messages else ()),
        tiers=tiers,
        overrides=overrides if override else (),
    )


class Recorded(Dispatcher):
    """A dispatcher that keeps the events in a list, at once."""

    def __init__(self) -> None:
        super().__init__(print)
        self.events: list[Event] = []

    def dispatch(self, event: Event) -> None:
        self.events.append(event)


operations = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 1), st.integers(0, 2), st.integers(1, 70)),
        st.tuples(st.just("send_other"), st.integers(0, 1), st.integers(0, 2), st.integers(1, 9)),
        st.tuples(st.just("move_clock"), st.integers(-2_000, 12_000)),
        st.tuples(st.just("acquire"), st.integers(0, 1), st.integers(0, 2), st.integers(1, 9)),
        st.tuples(st.just("sending"), st.integers(0, 1), st.integers(0, 2), st.integers(0, 4_000)),
        st.tuples(st.just("check"), st.integers(0, 1), st.integers(0, 2)),
        st.tuples(st.just("settle"), st.integers(0, 40)),
        st.tuples(st.just("refund"), st.integers(0, 40)),
        st.tuples(st.just("reserve"), st.integers(0, 1), st.integers(0, 2)),
        st.tuples(st.just("reset"), st.integers(0, 1)),
        st.tuples(st.just("usage"), st.integers(0, 1)),
    ),
    max_size=40,
)


class LimiterPair:
    """Limiters of two policies of one name on one backend, and what they have accepted."""

    def __init__(self, backend: Any, policies: list[Policy], *, listens: bool) -> None:
        self.events = Recorded()
        on_event = self.events if listens else None
        self.limiter, self.other = (Limiter(each, backend, on_event=on_event) for each in policies)
        self.accepted: list[tuple[Limiter, Decision]] = []

    def send(self, limiter: Limiter, envelope: Envelope) -> object:
        decision = limiter.try_acquire(envelope)
        if decision:
            self.accepted.append((limiter, decision))
        return decision

    def acquire(self, envelope: Envelope) -> object:
        try:
            decision = self.limiter.acquire(envelope, timeout=0)
        except RateLimitExceeded as error:
            return error.decision
        self.accepted.append((self.limiter, decision))
        return decision

    def begin_sending(self, envelope: Envelope) -> AbstractContextManager[Decision] | None:
        sending = self.limiter.sending(envelope, timeout=0)
        try:
            self.accepted.append((self.limiter, sending.__enter__()))
        except RateLimitExceeded:
            return None
        return sending

    def settle(self, number: int) -> None:
        if self.accepted:
            limiter, decision = self.accepted[number % len(self.accepted)]
            limiter.settle(decision)

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
    st.sampled_from([0, 0, 3, 20]),
    st.sampled_from([0, 0, 2, 40]),
    st.booleans(),
    operations,
)
def test_the_fast_paths_answer_as_the_brute_force(
    messages: int,
    recipients: int,
    other_messages: int,
    denied: Any,
    tier_messages: int,
    shadow_messages: int,
    override: int,
    listens: bool,
    script: list[Any],
) -> None:
    clock = ManualClock()
    policies = [
        policy_with(each, recipients, denied, tier_messages, shadow_messages, override)
        for each in (messages, other_messages)
    ]
    pairs = [
        LimiterPair(backend, policies, listens=listens)
        for backend in (MemoryBackend(clock), BruteForceBackend(clock))
    ]
    has_two_limiters = False
    for operation, *arguments in script:
        has_two_limiters |= operation == "send_other"
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
        elif operation == "acquire":
            for _ in range(arguments[2]):
                answers = [pair.acquire(envelope_of_kind(sender, arguments[1])) for pair in pairs]
                assert answers[0] == answers[1]
        elif operation == "sending":
            sendings = [
                pair.begin_sending(envelope_of_kind(sender, arguments[1])) for pair in pairs
            ]
            clock.advance(arguments[2] / 1000)
            for sending in sendings:
                if sending is not None:
                    sending.__exit__(None, None, None)
            assert (sendings[0] is None) == (sendings[1] is None)
        elif operation == "check":
            answers = [pair.limiter.check(envelope_of_kind(sender, arguments[1])) for pair in pairs]
            assert answers[0] == answers[1]
        elif operation == "settle":
            for pair in pairs:
                pair.settle(arguments[0])
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
        # What another limiter counts may be noticed later, and in memory is noticed at once.
        if not has_two_limiters:
            assert pairs[0].events.events == pairs[1].events.events


def test_a_decision_of_the_fast_path_equals_one_that_is_constructed() -> None:
    limiter = Limiter(policy_with(9, 9, "ignore"))
    first, second = (limiter.try_acquire(Envelope("a@uwo.ca", RECIPIENTS[0])) for _ in range(2))
    constructed = Decision(first.action)
    assert first == second == constructed
    assert repr(second) == repr(constructed)
    as_dict = attrs.asdict(second, recurse=False)
    assert as_dict | {"refund_token": None} == attrs.asdict(constructed)
    assert hash(second) == hash(constructed)
