"""Several messages at once, on a limiter: what is asked of a backend, and what is refused."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratelimit_mail import (
    AsyncLimiter,
    Client,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientLimit,
    RecipientRateLimit,
    Tier,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.backends.base import TAKE, Intent, Message, Reading, Verdict
from ratelimit_mail.conditions import has_tag
from ratelimit_mail.counting.charge import Charge, Ledger
from ratelimit_mail.testing import ManualClock, generated_script

LETTER = Envelope("ann@uwo.ca", ["b@x.org"])
INSIDE = Envelope("ann@uwo.ca", ["b@uwo.ca"])
TOO_LARGE = Envelope("ann@uwo.ca", [f"r{i}@x.org" for i in range(6)])


def policy_of(*limits: Any) -> Policy:
    return Policy(name="test", limits=limits, internal_domains=["uwo.ca"])


class Counting:
    """A backend in memory that counts what it is asked."""

    def __init__(self) -> None:
        self._memory = MemoryBackend(ManualClock())
        self.batches: list[int] = []

    def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        raise AssertionError("asked one by one")

    def apply_many(self, messages: Sequence[Message]) -> list[Verdict]:
        self.batches.append(len(messages))
        return self._memory.apply_many(messages)

    def refund(self, receipt: Any) -> None:
        self._memory.refund(receipt)

    def shard_of(self, charges: Sequence[Charge]) -> str:
        return ""

    def now(self) -> int:
        return self._memory.now()

    def usage(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        return self._memory.usage(ledger, subject)

    def reset(self, ledgers: Sequence[Ledger], subject: str) -> None:
        self._memory.reset(ledgers, subject)


@given(st.integers(0, 1 << 32), st.data())
def test_a_batch_has_the_same_answers_as_one_by_one(seed: int, data: st.DataObject) -> None:
    script = generated_script(random.Random(seed))
    clock = ManualClock()
    together, apart, awaited = (MemoryBackend(clock) for _ in range(3))
    many, one = (Limiter(script.policy, each, remember=5) for each in (together, apart))
    other = AsyncLimiter(script.policy, awaited, remember=5)
    envelopes = [step[1][0] for step in script.steps if isinstance(step[1][0], Envelope)]
    while envelopes:
        size = data.draw(st.integers(1, 6))
        batch, envelopes = envelopes[:size], envelopes[size:]
        one_by_one = [one.try_acquire(envelope) for envelope in batch]
        assert many.try_acquire_many(batch) == one_by_one
        assert asyncio.run(other.try_acquire_many(batch)) == one_by_one
        clock.advance(data.draw(st.sampled_from([0, 0.001, 0.5, 1, 4])))
    for sender in ("ann@uwo.ca", "bob@uwo.ca"):
        assert many.usage(sender) == one.usage(sender)


def test_a_batch_is_one_call() -> None:
    backend = Counting()
    limiter = Limiter(policy_of(MessageRateLimit("3/day")), backend)
    assert [bool(each) for each in limiter.try_acquire_many([LETTER] * 5)] == [1, 1, 1, 0, 0]
    assert backend.batches == [5]


@pytest.mark.parametrize("batch", [[], [INSIDE], [TOO_LARGE], [INSIDE, TOO_LARGE, INSIDE]], ids=len)
def test_a_batch_that_needs_no_backend_asks_none(batch: list[Envelope]) -> None:
    backend = Counting()
    limiter = Limiter(
        policy_of(RecipientLimit(5), MessageRateLimit("9/day", count="external")), backend
    )
    decisions = limiter.try_acquire_many(batch)
    assert [each.allowed for each in decisions] == [each is INSIDE for each in batch]
    assert backend.batches == []


def test_only_those_that_need_the_backend_are_asked_about() -> None:
    backend = Counting()
    limiter = Limiter(
        policy_of(RecipientLimit(5), MessageRateLimit("2/day", count="external")), backend
    )
    batch = [INSIDE, LETTER, TOO_LARGE, LETTER, INSIDE, LETTER]
    assert [bool(each) for each in limiter.try_acquire_many(batch)] == [1, 1, 0, 1, 1, 0]
    assert backend.batches == [3]


def test_an_attempt_that_can_never_fit_is_asked_about_where_it_counts() -> None:
    backend = Counting()
    limiter = Limiter(policy_of(RecipientRateLimit("5/day", denied="count")), backend)
    never, after = limiter.try_acquire_many([TOO_LARGE, LETTER])
    assert (never.retry_after, after.retry_after) == (None, 86_400)
    assert backend.batches == [2]


def test_each_decision_can_be_refunded_and_once() -> None:
    limiter = Limiter(policy_of(MessageRateLimit("3/day")))
    decisions = limiter.try_acquire_many([LETTER] * 4)
    for left, decision in zip((2, 1, 0), decisions, strict=False):
        limiter.refund(decision)
        assert limiter.usage("ann@uwo.ca")[0].used == left
        with pytest.raises(ValueError, match="already"):
            limiter.refund(decision)
    with pytest.raises(ValueError, match="nothing to refund"):
        limiter.refund(decisions[3])


def test_a_batch_is_anything_that_gives_envelopes() -> None:
    limiter = Limiter(policy_of(MessageRateLimit("9/day", scope="global")))
    for batch in ((LETTER, LETTER), iter([LETTER]), {LETTER: 1}, (LETTER for _ in range(3))):
        assert all(limiter.try_acquire_many(batch))
    assert limiter.usage(scope="global")[0].used == 7


@pytest.mark.parametrize(
    "batch", [[LETTER, None], [LETTER, "ann@uwo.ca"], "ann@uwo.ca", [[LETTER]]]
)
def test_what_is_no_envelope_is_named_and_nothing_is_charged(batch: Any) -> None:
    backend = Counting()
    limiter = Limiter(policy_of(MessageRateLimit("9/day")), backend)
    with pytest.raises(TypeError, match="an Envelope is needed, not"):
        limiter.try_acquire_many(batch)
    assert backend.batches == []


@pytest.mark.parametrize("batch", [None, 5, LETTER])
def test_what_is_no_batch_is_refused(batch: Any) -> None:
    limiter = Limiter(policy_of(MessageRateLimit("9/day")))
    with pytest.raises(TypeError, match="not iterable"):
        limiter.try_acquire_many(batch)
    with pytest.raises(TypeError, match="not iterable"):
        asyncio.run(AsyncLimiter(policy_of()).try_acquire_many(batch))


def test_each_of_a_batch_meets_the_limits_of_its_own_tier() -> None:
    tier = Tier("wireless", when=has_tag("wireless"), limits=[MessageRateLimit("1/hour")])
    limiter = Limiter(Policy(name="test", limits=[MessageRateLimit("3/hour")], tiers=[tier]))
    wireless = Envelope("ann@uwo.ca", ["b@x.org"], Client(tags={"wireless"}))
    decisions = limiter.try_acquire_many([wireless, wireless, LETTER, LETTER, LETTER])
    assert [bool(each) for each in decisions] == [1, 0, 1, 1, 0]
    assert [each.tier for each in decisions] == ["wireless", "wireless", None, None, None]
