"""Limits that only report change nothing, and answer as a limiter of their own does."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st

from ratelimit_mail import (
    Decision,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RateLimitExceeded,
    RecipientLimit,
    RecipientRateLimit,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.backends.base import REFUSE
from ratelimit_mail.limits import Limit
from ratelimit_mail.testing import ManualClock

ADDRESSES = ["ann@uwo.ca", "bob@uwo.ca", "eve@x.org", "fay@y.org"]


def rate_limits(*denied: str) -> st.SearchStrategy[Limit]:
    return st.builds(
        lambda kind, amount, seconds, others: kind(f"{amount}/{seconds} seconds", **others),
        st.sampled_from([MessageRateLimit, RecipientRateLimit]),
        st.integers(1, 5),
        st.integers(1, 4),
        st.fixed_dictionaries(
            {
                "scope": st.sampled_from(["sender", "recipient", "global"]),
                "direction": st.sampled_from(["outbound", "outbound", "inbound"]),
                "denied": st.sampled_from(denied),
                "on_excess": st.sampled_from(["defer", "reject"]),
            }
        ),
    )


any_limits = st.lists(
    rate_limits("ignore", "count") | st.builds(RecipientLimit, st.integers(1, 3)), max_size=3
)
envelopes = st.builds(
    lambda sender, recipients, known_by, direction: Envelope(
        sender, recipients, id=known_by, direction=direction
    ),
    st.sampled_from(ADDRESSES),
    st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=4, unique=True),
    st.none() | st.sampled_from(["1", "2"]),
    st.sampled_from(["outbound", "outbound", "inbound"]),
)
plain_envelopes = envelopes.map(lambda e: Envelope(e.sender, e.recipients, direction=e.direction))


def scripts(letters: st.SearchStrategy[Envelope]) -> st.SearchStrategy[list[tuple[str, Any]]]:
    return st.lists(
        st.one_of(
            st.tuples(st.just("try_acquire"), letters),
            st.tuples(st.just("try_acquire"), letters),
            st.tuples(st.just("reserve"), letters),
            st.tuples(st.just("check"), letters),
            st.tuples(st.just("many"), st.lists(letters, max_size=3)),
            st.tuples(st.just("refund"), st.integers(0, 9)),
            st.tuples(st.just("reset"), st.sampled_from(ADDRESSES)),
            st.tuples(st.just("wait"), st.sampled_from([0.001, 0.4, 0.999, 1, 2.5])),
        ),
        max_size=20,
    )


def limiter_of(limits: list[Limit], clock: ManualClock, *, partial: bool = False) -> Limiter:
    policy = Policy(name="test", limits=limits, internal_domains=["uwo.ca"], partial=partial)
    return Limiter(policy, MemoryBackend(clock), sleep=clock.advance)


def only_reported(limits: list[Limit]) -> list[Limit]:
    return [attrs.evolve(limit, enforce=False) for limit in limits]


def do(limiter: Limiter, verb: str, asked: Any) -> list[Decision]:
    """The decisions that a verb gives; that of a booking is its own or the error's."""
    if verb == "many":
        return limiter.try_acquire_many(asked)
    if verb == "reserve":
        return [book(limiter, asked)[0]]
    decision: Decision = getattr(limiter, verb)(asked)
    return [decision]


def book(limiter: Limiter, envelope: Envelope, most: float | None = None) -> tuple[Decision, float]:
    """The decision of a booking, or of the error, and in how many seconds the message goes."""
    try:
        reservation = limiter.reserve(envelope, max_delay=most)
    except RateLimitExceeded as error:
        return error.decision, 0.0
    return reservation.decision, reservation.delay


def bare(decision: Decision) -> Decision:
    """`decision` without what limits that only report say."""
    recipients = decision.recipients and {
        address: attrs.evolve(each, shadow=None) for address, each in decision.recipients.items()
    }
    return attrs.evolve(decision, shadow=None, recipients=recipients)


@given(any_limits, any_limits, scripts(envelopes), st.booleans())
def test_limits_that_only_report_change_nothing(
    enforced: list[Limit], reported: list[Limit], script: list[tuple[str, Any]], partial: bool
) -> None:
    clock = ManualClock(0)
    without = limiter_of(enforced, clock, partial=partial)
    beside = limiter_of(enforced + only_reported(reported), clock, partial=partial)
    held: list[tuple[Decision, Decision]] = []
    for verb, asked in script:
        if verb == "wait":
            clock.advance(asked)
        elif verb == "reset":
            for limiter in (without, beside):
                limiter.reset(asked)
        elif verb == "refund":
            if held:
                pair = held.pop(asked % len(held))
                without.refund(pair[0])
                beside.refund(pair[1])
        else:
            expected, given = do(without, verb, asked), do(beside, verb, asked)
            assert [bare(decision) for decision in given] == expected
            if verb != "check":
                held += [pair for pair in zip(expected, given, strict=True) if pair[0]]
        for address in ADDRESSES:
            for scope in ("sender", "recipient"):
                subject = (address,)
                assert beside.usage(subject, scope=scope) == without.usage(subject, scope=scope)


class OnlyReported:
    """The limits that only report, enforced by a limiter of their own."""

    def __init__(self, limits: list[Limit], clock: ManualClock) -> None:
        self._backend = MemoryBackend(clock)
        self._policy = Policy(name="test", limits=limits, internal_domains=["uwo.ca"])
        self.limiter = Limiter(self._policy, self._backend)

    def accepted(self, envelope: Envelope) -> Decision:
        """The answer to a message that goes now."""
        return self.limiter.try_acquire(envelope)

    def booked(self, envelope: Envelope, delay: float) -> Decision:
        """The answer to a message that goes in so many seconds."""
        return book(self.limiter, envelope, delay)[0]

    def turned_away(self, envelope: Envelope, limit: Limit | None) -> Decision:
        """The answer to a message that an enforced limit turned away."""
        answer = self.limiter.check(envelope)
        if not isinstance(limit, RecipientLimit):
            self._backend.apply(self._policy.plan(envelope).charges, REFUSE)
        return answer


@given(any_limits, st.lists(rate_limits("ignore", "count"), min_size=1, max_size=3), st.data())
def test_they_answer_as_a_limiter_of_their_own_that_is_asked_about_what_is_accepted(
    enforced: list[Limit], reported: list[Limit], data: st.DataObject
) -> None:
    clock = ManualClock(0)
    beside = limiter_of(enforced + only_reported(reported), clock)
    alone = OnlyReported(reported, clock)
    held: list[tuple[Decision, Decision]] = []
    for verb, asked in data.draw(scripts(plain_envelopes)):
        if verb == "wait":
            clock.advance(asked)
        elif verb == "reset":
            beside.reset(asked)
            alone.limiter.reset(asked)
        elif verb == "refund":
            if held:
                decision, answer = held.pop(asked % len(held))
                beside.refund(decision)
                if answer:
                    alone.limiter.refund(answer)
        else:
            letters = asked if verb == "many" else [asked]
            delay = 0.0
            if verb == "reserve":
                booked, delay = book(beside, asked)
                decisions = [booked]
            else:
                decisions = do(beside, verb, asked)
            for letter, decision in zip(letters, decisions, strict=True):
                if verb == "check":
                    answer = alone.limiter.check(letter)
                elif not decision:
                    answer = alone.turned_away(letter, decision.limit)
                elif verb == "reserve" and beside.policy.plan(letter).charges:
                    answer = alone.booked(letter, delay)
                else:
                    answer = alone.accepted(letter)
                assert decision.shadow == shadow_of(answer)
                if decision and verb != "check":
                    held.append((decision, answer))


def shadow_of(decision: Decision) -> Decision:
    """`decision` as limits that only report give it."""
    limit = decision.limit and attrs.evolve(decision.limit, enforce=False)
    return attrs.evolve(decision, limit=limit)


@given(
    any_limits,
    any_limits.filter(bool),
    st.lists(st.tuples(st.sampled_from([0, 0.001, 0.4, 1, 2.5]), plain_envelopes), max_size=20),
)
def test_until_the_first_that_they_would_turn_away_alone_they_tell_what_enforcing_them_does(
    enforced: list[Limit], reported: list[Limit], script: list[tuple[float, Envelope]]
) -> None:
    clock = ManualClock(0)
    beside = limiter_of(enforced + only_reported(reported), clock)
    together = limiter_of(enforced + reported, clock)
    for pause, letter in script:
        clock.advance(pause)
        decision, expected = beside.try_acquire(letter), together.try_acquire(letter)
        assert decision.shadow is not None
        assert expected.allowed is (decision.allowed and decision.shadow.allowed)
        # From here on it counts where they only report, and not where they are enforced: also a
        # refused attempt, as what a recipient limit refuses counts nowhere.
        if not decision.shadow and (decision or isinstance(decision.shadow.limit, RecipientLimit)):
            break


@given(st.lists(rate_limits("ignore", "count"), min_size=1, max_size=3), scripts(envelopes))
def test_the_same_limits_beside_themselves_would_turn_away_the_same(
    limits: list[Limit], script: list[tuple[str, Any]]
) -> None:
    clock = ManualClock(0)
    beside = limiter_of(limits + only_reported(limits), clock)
    for verb, asked in script:
        if verb == "wait":
            clock.advance(asked)
        elif verb in ("try_acquire", "many", "check"):
            for decision in do(beside, verb, asked):
                assert decision.shadow is not None
                assert decision.shadow.action is decision.action
