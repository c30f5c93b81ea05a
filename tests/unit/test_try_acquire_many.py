"""`try_acquire_many`: one call of the backend, the same decisions as one message at a time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rlm_testkit.builders import campus_policy, envelope_to

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
from ratelimit_mail.backends.base import TAKE, Intent, Message, Reading, Register, Verdict
from ratelimit_mail.conditions import has_tag
from ratelimit_mail.counting.charge import Charge, Ledger
from ratelimit_mail.testing import ManualClock, generated_script

EXTERNAL = envelope_to(["b@x.org"])
INTERNAL = envelope_to(["b@uwo.ca"])
TOO_LARGE = envelope_to(6)


class BatchRecorder:
    """A backend in memory that records the size of each batch, and takes nothing but batches."""

    def __init__(self) -> None:
        self._memory = MemoryBackend(ManualClock())
        self.batches: list[int] = []

    def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        raise AssertionError("a message was applied on its own")

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

    def top(self, ledger: Ledger, n: int) -> list[str]:
        return self._memory.top(ledger, n)

    def reset(self, ledgers: Sequence[Ledger], subject: str) -> None:
        self._memory.reset(ledgers, subject)

    def settle(self, receipt: Any, charges: Sequence[Charge] | None = None) -> Any:
        return self._memory.settle(receipt, charges)

    def redeem(self, receipt: Any, charges: Sequence[Charge]) -> Verdict:
        return self._memory.redeem(receipt, charges)

    def read_register(self, name: str) -> Register:
        return self._memory.read_register(name)

    def write_register(self, name: str, changes: Mapping[str, str | None]) -> None:
        self._memory.write_register(name, changes)


@given(st.integers(0, 1 << 32), st.data())
def test_a_batch_gets_the_same_decisions_as_one_message_at_a_time(
    seed: int, data: st.DataObject
) -> None:
    script = generated_script(random.Random(seed))
    clock = ManualClock()
    batched, single = (Limiter(script.policy, MemoryBackend(clock), remember=5) for _ in range(2))
    async_batched = AsyncLimiter(script.policy, MemoryBackend(clock), remember=5)
    envelopes = [step[1][0] for step in script.steps if isinstance(step[1][0], Envelope)]
    while envelopes:
        size = data.draw(st.integers(1, 6))
        batch, envelopes = envelopes[:size], envelopes[size:]
        expected = [single.try_acquire(envelope) for envelope in batch]
        assert batched.try_acquire_many(batch) == expected
        assert asyncio.run(async_batched.try_acquire_many(batch)) == expected
        clock.advance(data.draw(st.sampled_from([0, 0.001, 0.5, 1, 4])))
    for sender in ("ann@uwo.ca", "bob@uwo.ca"):
        assert batched.usage(sender) == single.usage(sender)


def test_a_batch_is_one_call_of_the_backend() -> None:
    backend = BatchRecorder()
    limiter = Limiter(campus_policy(MessageRateLimit("3/day")), backend)
    assert [bool(each) for each in limiter.try_acquire_many([EXTERNAL] * 5)] == [1, 1, 1, 0, 0]
    assert backend.batches == [5]


@pytest.mark.parametrize(
    "batch", [[], [INTERNAL], [TOO_LARGE], [INTERNAL, TOO_LARGE, INTERNAL]], ids=len
)
def test_a_batch_with_nothing_to_count_does_not_call_the_backend(batch: list[Envelope]) -> None:
    backend = BatchRecorder()
    limiter = Limiter(
        campus_policy(RecipientLimit(5), MessageRateLimit("9/day", count="external")), backend
    )
    decisions = limiter.try_acquire_many(batch)
    assert [each.allowed for each in decisions] == [each is INTERNAL for each in batch]
    assert backend.batches == []


def test_only_messages_with_something_to_count_are_sent_to_the_backend() -> None:
    backend = BatchRecorder()
    limiter = Limiter(
        campus_policy(RecipientLimit(5), MessageRateLimit("2/day", count="external")), backend
    )
    batch = [INTERNAL, EXTERNAL, TOO_LARGE, EXTERNAL, INTERNAL, EXTERNAL]
    assert [bool(each) for each in limiter.try_acquire_many(batch)] == [1, 1, 0, 1, 1, 0]
    assert backend.batches == [3]


def test_a_message_that_never_fits_is_sent_to_the_backend_if_refused_attempts_count() -> None:
    backend = BatchRecorder()
    limiter = Limiter(campus_policy(RecipientRateLimit("5/day", denied="count")), backend)
    never, after = limiter.try_acquire_many([TOO_LARGE, EXTERNAL])
    assert (never.retry_after, after.retry_after) == (None, 86_400)
    assert backend.batches == [2]


def test_each_decision_of_a_batch_can_be_refunded_once() -> None:
    limiter = Limiter(campus_policy(MessageRateLimit("3/day")))
    decisions = limiter.try_acquire_many([EXTERNAL] * 4)
    for still_used, decision in zip((2, 1, 0), decisions, strict=False):
        limiter.refund(decision)
        assert limiter.usage("ann@uwo.ca")[0].used == still_used
        with pytest.raises(ValueError, match="already"):
            limiter.refund(decision)
    with pytest.raises(ValueError, match="nothing to refund"):
        limiter.refund(decisions[3])


def test_any_iterable_of_envelopes_is_a_batch() -> None:
    limiter = Limiter(campus_policy(MessageRateLimit("9/day", scope="global")))
    for batch in (
        (EXTERNAL, EXTERNAL),
        iter([EXTERNAL]),
        {EXTERNAL: 1},
        (EXTERNAL for _ in range(3)),
    ):
        assert all(limiter.try_acquire_many(batch))
    assert limiter.usage(scope="global")[0].used == 7


@pytest.mark.parametrize(
    "batch", [[EXTERNAL, None], [EXTERNAL, "ann@uwo.ca"], "ann@uwo.ca", [[EXTERNAL]]]
)
def test_a_batch_with_something_else_than_envelopes_raises_and_charges_nothing(batch: Any) -> None:
    backend = BatchRecorder()
    limiter = Limiter(campus_policy(MessageRateLimit("9/day")), backend)
    with pytest.raises(TypeError, match="an Envelope is needed, not"):
        limiter.try_acquire_many(batch)
    assert backend.batches == []


@pytest.mark.parametrize("batch", [None, 5, EXTERNAL])
def test_a_batch_that_is_not_iterable_raises(batch: Any) -> None:
    limiter = Limiter(campus_policy(MessageRateLimit("9/day")))
    with pytest.raises(TypeError, match="not iterable"):
        limiter.try_acquire_many(batch)
    with pytest.raises(TypeError, match="not iterable"):
        asyncio.run(AsyncLimiter(campus_policy()).try_acquire_many(batch))


def test_each_message_of_a_batch_is_subject_to_the_limits_of_its_own_tier() -> None:
    tier = Tier("wireless", when=has_tag("wireless"), limits=[MessageRateLimit("1/hour")])
    limiter = Limiter(Policy(name="test", limits=[MessageRateLimit("3/hour")], tiers=[tier]))
    wireless = envelope_to(["b@x.org"], client=Client(tags={"wireless"}))
    decisions = limiter.try_acquire_many([wireless, wireless, EXTERNAL, EXTERNAL, EXTERNAL])
    assert [bool(each) for each in decisions] == [1, 0, 1, 1, 0]
    assert [each.tier for each in decisions] == ["wireless", "wireless", None, None, None]
