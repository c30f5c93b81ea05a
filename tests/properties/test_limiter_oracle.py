"""The limiter compared with a plain list of admitted messages, and with the brute force."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratelimit_mail import (
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientRateLimit,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.limits import RateLimit
from ratelimit_mail.testing import BruteForceBackend, ManualClock, generated_script, play

SENDERS = ["ann@uwo.ca", "bob@uwo.ca", "cy@sub.uwo.ca"]
RECIPIENTS = ["d@uwo.ca", "e@x.org", "f@x.org", "g@y.org"]

SUBJECT: dict[str, Callable[[Envelope], str]] = {
    "sender": lambda envelope: envelope.sender,
    "sender_domain": lambda envelope: envelope.sender.rpartition("@")[2],
    "global": lambda envelope: "",
}

limits = st.builds(
    lambda kind, amount, seconds, scope, count: kind(
        f"{amount}/{seconds} seconds", scope=scope, count=count
    ),
    st.sampled_from([MessageRateLimit, RecipientRateLimit]),
    st.integers(1, 6),
    st.integers(1, 4),
    st.sampled_from(list(SUBJECT)),
    st.sampled_from(["all", "external"]),
)
envelopes = st.builds(
    Envelope,
    st.sampled_from(SENDERS),
    st.lists(st.sampled_from(RECIPIENTS), min_size=1, unique=True),
)
pauses = st.sampled_from([0, 0, 1, 400, 999, 1000, 1001, 2500, 9000])
scripts = st.lists(st.tuples(pauses, envelopes), max_size=25)


def cost_of(limit: RateLimit, envelope: Envelope) -> int:
    counted = [r for r in envelope.recipients if limit.count == "all" or not r.endswith("@uwo.ca")]
    return len(counted) if isinstance(limit, RecipientRateLimit) else min(1, len(counted))


class Oracle:
    """A list of all admitted messages, and the rule "at most N in any window"."""

    def __init__(self, limits: list[RateLimit]) -> None:
        self.limits = limits
        self.admitted: list[tuple[int, Envelope]] = []

    def fits(self, now: int, envelope: Envelope) -> bool:
        for limit in self.limits:
            subject = SUBJECT[limit.scope[0]]
            used = sum(
                cost_of(limit, other)
                for moment, other in self.admitted
                if moment > now - limit.window and subject(other) == subject(envelope)
            )
            if cost_of(limit, envelope) and used + cost_of(limit, envelope) > limit.limit:
                return False
        return True


@given(st.lists(limits, min_size=1, max_size=3), scripts)
def test_the_limiter_admits_exactly_what_the_definition_admits(
    rate_limits: list[RateLimit], script: list[tuple[int, Envelope]]
) -> None:
    clock = ManualClock(0)
    policy = Policy(name="oracle", limits=rate_limits, internal_domains=["uwo.ca"])
    limiter = Limiter(policy, MemoryBackend(clock))
    oracle = Oracle(rate_limits)
    for pause, envelope in script:
        clock.advance(pause / 1000)
        decision = limiter.try_acquire(envelope)
        assert decision.allowed == oracle.fits(clock(), envelope)
        if decision:
            oracle.admitted.append((clock(), envelope))
        elif decision.retry_after is None:
            assert any(cost_of(limit, envelope) > limit.limit for limit in rate_limits)
        else:
            fits_at = clock() + round(decision.retry_after * 1000)
            assert oracle.fits(fits_at, envelope)
            assert not oracle.fits(fits_at - 1, envelope)


@given(st.lists(limits, min_size=1, max_size=3), scripts, st.data())
def test_after_a_refund_the_limiter_answers_as_if_the_message_had_not_been_sent(
    rate_limits: list[RateLimit], script: list[tuple[int, Envelope]], data: st.DataObject
) -> None:
    clock = ManualClock(0)
    policy = Policy(name="oracle", limits=rate_limits, internal_domains=["uwo.ca"])
    limiter = Limiter(policy, MemoryBackend(clock))
    oracle = Oracle(rate_limits)
    accepted = []
    for pause, envelope in script:
        clock.advance(pause / 1000)
        decision = limiter.try_acquire(envelope)
        assert decision.allowed == oracle.fits(clock(), envelope)
        if decision:
            accepted.append(decision)
            oracle.admitted.append((clock(), envelope))
            if data.draw(st.integers(0, 2)) == 0:
                i = data.draw(st.integers(0, len(accepted) - 1))
                limiter.refund(accepted.pop(i))
                del oracle.admitted[i]


@given(st.randoms(use_true_random=False), st.booleans())
def test_generated_scripts_have_the_answers_of_the_brute_force(
    source: random.Random, jumps: bool
) -> None:
    script = generated_script(source, jumps=jumps)
    assert play(script, MemoryBackend) == play(script, BruteForceBackend)


@pytest.mark.parametrize("seed", range(8))
def test_long_scripts_have_the_answers_of_the_brute_force(seed: int) -> None:
    script = generated_script(random.Random(seed), steps=400, jumps=bool(seed % 2))
    assert play(script, MemoryBackend) == play(script, BruteForceBackend)


@given(st.randoms(use_true_random=False))
def test_policies_on_one_backend_answer_as_if_each_had_its_own(
    source: random.Random,
) -> None:
    clock = ManualClock(0)
    shared = MemoryBackend(clock)
    pairs = [
        (Limiter(policy, shared), Limiter(policy, MemoryBackend(clock)))
        for name in ("one", "two")
        for policy in [
            Policy(
                name=name, limits=[MessageRateLimit("2/second"), RecipientRateLimit("5/3 seconds")]
            )
        ]
    ]
    for _ in range(20):
        clock.advance(source.choice([0, 0.3, 1, 2]))
        envelope = Envelope(source.choice(SENDERS), RECIPIENTS[: source.randint(1, 3)])
        on_shared, on_own = source.choice(pairs)
        assert on_shared.try_acquire(envelope) == on_own.try_acquire(envelope)
