"""Shadow limits change no decision, and answer as a limiter of their own would."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from rlm_testkit.builders import campus_policy

from ratelimit_mail import (
    Decision,
    Envelope,
    Limiter,
    MessageRateLimit,
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
        lambda limit_class, amount, seconds, options: limit_class(
            f"{amount}/{seconds} seconds", **options
        ),
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
    lambda sender, recipients, envelope_id, direction: Envelope(
        sender, recipients, id=envelope_id, direction=direction
    ),
    st.sampled_from(ADDRESSES),
    st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=4, unique=True),
    st.none() | st.sampled_from(["1", "2"]),
    st.sampled_from(["outbound", "outbound", "inbound"]),
)
envelopes_without_id = envelopes.map(
    lambda e: Envelope(e.sender, e.recipients, direction=e.direction)
)


def scripts(envelopes: st.SearchStrategy[Envelope]) -> st.SearchStrategy[list[tuple[str, Any]]]:
    """Generate calls of a limiter, each an operation with its argument, and pauses."""
    return st.lists(
        st.one_of(
            st.tuples(st.just("try_acquire"), envelopes),
            st.tuples(st.just("try_acquire"), envelopes),
            st.tuples(st.just("reserve"), envelopes),
            st.tuples(st.just("check"), envelopes),
            st.tuples(st.just("try_acquire_many"), st.lists(envelopes, max_size=3)),
            st.tuples(st.just("refund"), st.integers(0, 9)),
            st.tuples(st.just("reset"), st.sampled_from(ADDRESSES)),
            st.tuples(st.just("wait"), st.sampled_from([0.001, 0.4, 0.999, 1, 2.5])),
        ),
        max_size=20,
    )


def limiter_under(limits: list[Limit], clock: ManualClock, *, partial: bool = False) -> Limiter:
    policy = campus_policy(*limits, partial=partial)
    return Limiter(policy, MemoryBackend(clock), sleep=clock.advance)


def as_shadow_limits(limits: list[Limit]) -> list[Limit]:
    return [attrs.evolve(limit, enforce=False) for limit in limits]


def decide(limiter: Limiter, operation: str, argument: Any) -> list[Decision]:
    """Return the decisions of an operation; that of a booking is its own or the error's."""
    if operation == "try_acquire_many":
        return limiter.try_acquire_many(argument)
    if operation == "reserve":
        return [book(limiter, argument)[0]]
    decision: Decision = getattr(limiter, operation)(argument)
    return [decision]


def book(
    limiter: Limiter, envelope: Envelope, max_delay: float | None = None
) -> tuple[Decision, float]:
    """Return the decision of a booking, or of the error, and its delay in seconds."""
    try:
        reservation = limiter.reserve(envelope, max_delay=max_delay)
    except RateLimitExceeded as error:
        return error.decision, 0.0
    return reservation.decision, reservation.delay


def without_shadow(decision: Decision) -> Decision:
    recipients = decision.recipients and {
        address: attrs.evolve(each, shadow=None) for address, each in decision.recipients.items()
    }
    return attrs.evolve(decision, shadow=None, recipients=recipients)


@given(any_limits, any_limits, scripts(envelopes), st.booleans())
def test_shadow_limits_change_no_decision(
    enforced: list[Limit], shadow: list[Limit], script: list[tuple[str, Any]], partial: bool
) -> None:
    clock = ManualClock(0)
    plain = limiter_under(enforced, clock, partial=partial)
    shadowed = limiter_under(enforced + as_shadow_limits(shadow), clock, partial=partial)
    accepted: list[tuple[Decision, Decision]] = []
    for operation, argument in script:
        if operation == "wait":
            clock.advance(argument)
        elif operation == "reset":
            for limiter in (plain, shadowed):
                limiter.reset(argument)
        elif operation == "refund":
            if accepted:
                pair = accepted.pop(argument % len(accepted))
                plain.refund(pair[0])
                shadowed.refund(pair[1])
        else:
            expected = decide(plain, operation, argument)
            decisions = decide(shadowed, operation, argument)
            assert [without_shadow(decision) for decision in decisions] == expected
            if operation != "check":
                accepted += [pair for pair in zip(expected, decisions, strict=True) if pair[0]]
        for address in ADDRESSES:
            for scope in ("sender", "recipient"):
                subject = (address,)
                usages = shadowed.usage(subject, scope=scope)
                enforced_usages = tuple(each for each in usages if each.limit.enforce)
                assert enforced_usages == plain.usage(subject, scope=scope)


class SeparateLimiter:
    """A limiter that enforces the shadow limits of another one."""

    def __init__(self, limits: list[Limit], clock: ManualClock) -> None:
        self._backend = MemoryBackend(clock)
        self._policy = campus_policy(*limits)
        self.limiter = Limiter(self._policy, self._backend)

    def decide_accepted(self, envelope: Envelope) -> Decision:
        """Return the answer to a message that the enforced limits accepted."""
        return self.limiter.try_acquire(envelope)

    def decide_booked(self, envelope: Envelope, delay: float) -> Decision:
        """Return the answer to a message that was booked for so many seconds ahead."""
        return book(self.limiter, envelope, delay)[0]

    def decide_turned_away(self, envelope: Envelope, limit: Limit | None) -> Decision:
        """Return the answer to a message that the enforced `limit` turned away."""
        answer = self.limiter.check(envelope)
        if not isinstance(limit, RecipientLimit):
            self._backend.apply(self._policy.plan(envelope).charges, REFUSE)
        return answer


@given(any_limits, st.lists(rate_limits("ignore", "count"), min_size=1, max_size=3), st.data())
def test_shadow_limits_answer_as_a_limiter_that_sees_only_accepted_messages(
    enforced: list[Limit], shadow: list[Limit], data: st.DataObject
) -> None:
    clock = ManualClock(0)
    shadowed = limiter_under(enforced + as_shadow_limits(shadow), clock)
    separate = SeparateLimiter(shadow, clock)
    accepted: list[tuple[Decision, Decision]] = []
    for operation, argument in data.draw(scripts(envelopes_without_id)):
        if operation == "wait":
            clock.advance(argument)
        elif operation == "reset":
            shadowed.reset(argument)
            separate.limiter.reset(argument)
        elif operation == "refund":
            if accepted:
                decision, answer = accepted.pop(argument % len(accepted))
                shadowed.refund(decision)
                if answer:
                    separate.limiter.refund(answer)
        else:
            batch = argument if operation == "try_acquire_many" else [argument]
            delay = 0.0
            if operation == "reserve":
                booked, delay = book(shadowed, argument)
                decisions = [booked]
            else:
                decisions = decide(shadowed, operation, argument)
            for envelope, decision in zip(batch, decisions, strict=True):
                if operation == "check":
                    answer = separate.limiter.check(envelope)
                elif not decision:
                    answer = separate.decide_turned_away(envelope, decision.limit)
                elif operation == "reserve" and shadowed.policy.plan(envelope).charges:
                    answer = separate.decide_booked(envelope, delay)
                else:
                    answer = separate.decide_accepted(envelope)
                assert decision.shadow == as_shadow(answer)
                if decision and operation != "check":
                    accepted.append((decision, answer))


def as_shadow(decision: Decision) -> Decision:
    """Return `decision` as shadow limits report it."""
    limit = decision.limit and attrs.evolve(decision.limit, enforce=False)
    return attrs.evolve(decision, limit=limit)


@given(
    any_limits,
    any_limits.filter(bool),
    st.lists(
        st.tuples(st.sampled_from([0, 0.001, 0.4, 1, 2.5]), envelopes_without_id), max_size=20
    ),
)
def test_until_shadow_limits_alone_turn_a_message_away_they_report_what_enforcing_them_does(
    enforced: list[Limit], shadow: list[Limit], script: list[tuple[float, Envelope]]
) -> None:
    clock = ManualClock(0)
    shadowed = limiter_under(enforced + as_shadow_limits(shadow), clock)
    all_enforced = limiter_under(enforced + shadow, clock)
    for pause, envelope in script:
        clock.advance(pause)
        decision, expected = shadowed.try_acquire(envelope), all_enforced.try_acquire(envelope)
        assert decision.shadow is not None
        assert expected.allowed is (decision.allowed and decision.shadow.allowed)
        # From here on the counts differ: this message counts for the enforced limits of `shadowed`
        # and not for those of `all_enforced`. So does a refused attempt, because an attempt that a
        # recipient limit refuses counts nowhere.
        if not decision.shadow and (decision or isinstance(decision.shadow.limit, RecipientLimit)):
            break


@given(st.lists(rate_limits("ignore", "count"), min_size=1, max_size=3), scripts(envelopes))
def test_shadow_limits_equal_to_the_enforced_ones_report_the_same_actions(
    limits: list[Limit], script: list[tuple[str, Any]]
) -> None:
    clock = ManualClock(0)
    limiter = limiter_under(limits + as_shadow_limits(limits), clock)
    for operation, argument in script:
        if operation == "wait":
            clock.advance(argument)
        elif operation in ("try_acquire", "try_acquire_many", "check"):
            for decision in decide(limiter, operation, argument):
                assert decision.shadow is not None
                assert decision.shadow.action is decision.action
