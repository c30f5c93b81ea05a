"""Errors and outages of the counts of shadow limits (`enforce=False`) change no decision."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from rlm_testkit.builders import envelope_to
from rlm_testkit.shadow_limits import (
    ANN,
    BOB,
    ENVELOPE,
    EVE,
    SHADOW_TWO_A_MINUTE,
    TEN_A_MINUTE,
    shadow_limiter,
    used,
)

from ratelimit_mail import AsyncLimiter, Decision, Envelope, Limiter, MessageRateLimit, Policy
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.backends.adapters import InlineAdapter
from ratelimit_mail.backends.base import TAKE, Intent, Message, Reading, Register, Verdict
from ratelimit_mail.counting.charge import Charge, Ledger
from ratelimit_mail.exceptions import BackendError, BackendUnavailable
from ratelimit_mail.testing import ManualClock


def is_shadow(charges: Sequence[Charge]) -> bool:
    return any(":shadow" in ledger.name for ledger, _, _ in charges)


class ForeignShadowCounts(MemoryBackend):
    """A backend in which another program's values stand in place of the shadow counts."""

    def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        if is_shadow(charges):
            raise BackendError("another program's value stands there")
        return super().apply(charges, intent)


def charging_methods(limiter: Limiter) -> list[Callable[[Envelope], Decision]]:
    return [
        limiter.try_acquire,
        limiter.acquire,
        lambda envelope: limiter.reserve(envelope).decision,
        lambda envelope: limiter.try_acquire_many([envelope])[0],
    ]


def test_an_error_of_the_shadow_counts_is_logged_and_does_not_change_the_decision(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = ManualClock()
    limiter = shadow_limiter(
        TEN_A_MINUTE, SHADOW_TWO_A_MINUTE, backend=ForeignShadowCounts(clock), clock=clock
    )
    for number, method in enumerate(charging_methods(limiter), start=1):
        with caplog.at_level(logging.WARNING):
            decision = method(ENVELOPE)
        assert decision
        assert decision.shadow is None
        assert used(limiter) == [1, 0]
        assert len(caplog.records) == number
        assert "another program's value" in caplog.text
        limiter.refund(decision)
        assert used(limiter) == [0, 0]


def test_check_has_no_shadow_after_an_error_of_the_shadow_counts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = ManualClock()
    limiter = shadow_limiter(
        TEN_A_MINUTE, SHADOW_TWO_A_MINUTE, backend=ForeignShadowCounts(clock), clock=clock
    )
    with caplog.at_level(logging.WARNING):
        assert limiter.check(ENVELOPE).shadow is None


def test_a_shadow_limit_does_not_change_by_what_a_policy_is_sharded() -> None:
    limits = [MessageRateLimit("9/day"), MessageRateLimit("9/day", scope="sender_domain")]
    shadow = MessageRateLimit("9/day", scope="client", enforce=False)
    assert Policy(name="test", limits=limits).shard == "sender_domain"
    assert Policy(name="test", limits=[*limits, shadow]).shard == "sender_domain"


class ShardedBySender:
    """A backend with a shard for each sender, of which Bob's is away."""

    def __init__(self) -> None:
        self._memory = MemoryBackend(ManualClock())

    def shard_of(self, charges: Sequence[Charge]) -> str:
        return charges[0][1]

    def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        if self.shard_of(charges) == BOB:
            raise BackendUnavailable("no answer")
        return self._memory.apply(charges, intent)

    def apply_many(self, messages: Sequence[Message]) -> list[Verdict]:
        return [self.apply(*message) for message in messages]

    def refund(self, receipt: Any) -> None:
        self._memory.refund(receipt)

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


@pytest.mark.parametrize(
    "shadow_limits", [[], [SHADOW_TWO_A_MINUTE]], ids=["no shadow limit", "a shadow limit"]
)
def test_a_shard_that_is_away_does_not_affect_senders_of_another(shadow_limits: list[Any]) -> None:
    policy = Policy(name="test", limits=[TEN_A_MINUTE, *shadow_limits])
    limiter = Limiter(policy, ShardedBySender(), on_backend_error="deny")
    assert limiter.try_acquire(envelope_to([EVE], BOB)).degraded
    assert not limiter.try_acquire(ENVELOPE).degraded


class SilentShadowCounts(InlineAdapter):
    """A backend that never answers for shadow limits.

    was_called: set when it is called for them.
    """

    def __init__(self, backend: MemoryBackend) -> None:
        super().__init__(backend)
        self.was_called = asyncio.Event()

    async def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        if is_shadow(charges):
            self.was_called.set()
            await asyncio.Event().wait()
        return await super().apply(charges, intent)


async def test_a_wait_cancelled_during_the_shadow_call_gives_its_booking_back() -> None:
    backend = SilentShadowCounts(MemoryBackend(ManualClock()))
    policy = Policy(name="test", limits=[MessageRateLimit("1/minute"), SHADOW_TWO_A_MINUTE])
    limiter = AsyncLimiter(policy, backend)
    waiting = asyncio.create_task(limiter.acquire(ENVELOPE))
    await asyncio.wait_for(backend.was_called.wait(), timeout=30)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await limiter.usage(ANN))[0].used == 0
