"""Async tasks that are cancelled while they send, settle, redeem or refund."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from rlm_testkit.builders import campus_policy, envelope_to

from ratelimit_mail import AsyncLimiter, Envelope, Limiter, MessageRateLimit
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.backends.base import TAKE, Intent, Reading, Register, Verdict
from ratelimit_mail.counting.charge import Charge, Ledger
from ratelimit_mail.smtp_errors import NOT_SENT
from ratelimit_mail.testing import ManualClock

ENVELOPE = envelope_to(["bob@example.com"])
POLICY = campus_policy(MessageRateLimit("2/minute"))


class SlowBackend:
    """An async backend that answers after a few rounds of the event loop, before or after it acts.

    rounds: how many before and after. calls: the methods that have answered.
    """

    def __init__(self, clock: Callable[[], int], before: int = 2, after: int = 2) -> None:
        self.memory = MemoryBackend(clock)
        self.before, self.after = before, after
        self.calls: list[str] = []

    async def _call(self, method: str, *args: Any) -> Any:
        for _ in range(self.before):
            await asyncio.sleep(0)
        # As a server does: receipts are values, and an answer that is lost leaves the old one.
        result = getattr(self.memory, method)(*args)
        for _ in range(self.after):
            await asyncio.sleep(0)
        self.calls.append(method)
        return result

    async def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        verdict: Verdict = await self._call("apply", charges, intent)
        return verdict

    async def apply_many(self, messages: Any) -> list[Verdict]:
        verdicts: list[Verdict] = await self._call("apply_many", messages)
        return verdicts

    async def refund(self, receipt: Any) -> None:
        await self._call("refund", receipt)

    async def settle(self, receipt: Any, charges: Sequence[Charge] | None = None) -> Any:
        return await self._call("settle", receipt, charges)

    async def redeem(self, receipt: Any, charges: Sequence[Charge]) -> Verdict:
        verdict: Verdict = await self._call("redeem", receipt, charges)
        return verdict

    def shard_of(self, charges: Sequence[Charge]) -> str:
        return ""

    def now(self) -> int:
        return self.memory.now()

    async def usage(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        readings: list[list[Reading]] = await self._call("usage", ledger, subject)
        return readings

    async def top(self, ledger: Ledger, n: int) -> list[str]:
        subjects: list[str] = await self._call("top", ledger, n)
        return subjects

    async def reset(self, ledgers: Sequence[Ledger], subject: str) -> None:
        await self._call("reset", ledgers, subject)

    async def read_register(self, name: str) -> Register:
        return self.memory.read_register(name)

    async def write_register(self, name: str, changes: Mapping[str, str | None]) -> None:
        self.memory.write_register(name, changes)


class SendingOnSlowBackend:
    """A limiter on a slow backend, and a task that sends one message with it.

    outcome: what the sending raises; None if it ends by itself.
    is_decorated: whether it uses the decorator.
    """

    def __init__(self, outcome: BaseException | None = None, *, is_decorated: bool = False) -> None:
        self.clock = ManualClock()
        self.backend = SlowBackend(self.clock)
        self.limiter = AsyncLimiter(POLICY, self.backend, sleep=self.clock.sleep)
        self.outcome = outcome
        self.is_decorated = is_decorated
        self.is_sending = asyncio.Event()
        self.may_end = asyncio.Event()

    async def _send(self, envelope: Envelope) -> None:
        self.is_sending.set()
        await self.may_end.wait()
        self.clock.advance(20)
        if self.outcome is not None:
            raise self.outcome

    async def send(self) -> None:
        if self.is_decorated:
            await self.limiter.limited()(self._send)(ENVELOPE)
        else:
            async with self.limiter.sending(ENVELOPE):
                await self._send(ENVELOPE)

    async def usage(self) -> tuple[int, float]:
        (usage,) = await self.limiter.usage("ann@uwo.ca")
        return usage.used, usage.resets_in


async def cancel_repeatedly(task: asyncio.Task[Any], times: int) -> None:
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task


with_or_without_decorator = pytest.mark.parametrize("is_decorated", [False, True])


@with_or_without_decorator
@pytest.mark.parametrize("times", [1, 2, 5])
async def test_a_task_cancelled_while_it_sends_leaves_one_settled_charge(
    is_decorated: bool, times: int
) -> None:
    scene = SendingOnSlowBackend(is_decorated=is_decorated)
    task = asyncio.create_task(scene.send())
    await scene.is_sending.wait()
    scene.clock.advance(20)
    await cancel_repeatedly(task, times)
    assert await scene.usage() == (1, 60)
    assert scene.backend.calls.count("settle") == 1


@with_or_without_decorator
@pytest.mark.parametrize("rounds", range(8))
async def test_a_task_cancelled_again_and_again_while_it_settles_leaves_one_charge(
    is_decorated: bool, rounds: int
) -> None:
    scene = SendingOnSlowBackend(is_decorated=is_decorated)
    task = asyncio.create_task(scene.send())
    await scene.is_sending.wait()
    scene.may_end.set()
    for _ in range(rounds):
        await asyncio.sleep(0)
    if not task.done():
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
    await asyncio.gather(task, return_exceptions=True)
    assert (await scene.usage())[0] == 1
    assert scene.backend.calls.count("settle") == 1


@with_or_without_decorator
@pytest.mark.parametrize("rounds", range(8))
async def test_a_task_cancelled_while_it_refunds_leaves_no_charge(
    is_decorated: bool, rounds: int
) -> None:
    scene = SendingOnSlowBackend(NOT_SENT[0](550, b"no", "ann@uwo.ca"), is_decorated=is_decorated)
    task = asyncio.create_task(scene.send())
    await scene.is_sending.wait()
    scene.may_end.set()
    for _ in range(rounds + 1):
        await asyncio.sleep(0)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    await asyncio.gather(task, return_exceptions=True)
    assert (await scene.usage())[0] == 0


@pytest.mark.parametrize("rounds", range(16))
async def test_a_wait_that_is_cancelled_at_any_moment_leaves_no_charge(rounds: int) -> None:
    scene = SendingOnSlowBackend()
    for _ in range(2):
        assert await scene.limiter.try_acquire(ENVELOPE)
    task = asyncio.create_task(scene.limiter.acquire(ENVELOPE))
    for _ in range(rounds):
        await asyncio.sleep(0)
    is_early = not task.done()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    await asyncio.gather(task, return_exceptions=True)
    scene.clock.advance(61 if scene.clock() == 1_000_000_000_000 else 1)
    expected = 0 if is_early and task.cancelled() else 1
    assert (await scene.usage())[0] == expected


@pytest.mark.parametrize("rounds", range(6))
async def test_a_redemption_that_is_cancelled_can_still_be_refunded(rounds: int) -> None:
    scene = SendingOnSlowBackend()
    for _ in range(2):
        assert await scene.limiter.try_acquire(ENVELOPE)
    reservation = await scene.limiter.reserve(ENVELOPE)
    scene.clock.advance(70)
    task = asyncio.create_task(reservation.redeem())
    for _ in range(rounds):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await scene.limiter.refund(reservation.decision)
    assert (await scene.usage())[0] == 0


async def test_a_settle_by_hand_that_is_cancelled_is_finished() -> None:
    scene = SendingOnSlowBackend()
    decision = await scene.limiter.try_acquire(ENVELOPE)
    scene.clock.advance(20)
    task = asyncio.create_task(scene.limiter.settle(decision))
    await asyncio.sleep(0)
    await cancel_repeatedly(task, 4)
    assert await scene.usage() == (1, 60)


# The garbage collector ends a sending that was abandoned, perhaps while the backend is locked.


def test_a_sending_that_the_garbage_collector_ends_is_settled() -> None:
    clock = ManualClock()
    limiter = Limiter(POLICY, MemoryBackend(clock))

    def send() -> Any:
        with limiter.sending(ENVELOPE):
            yield

    generator = send()
    next(generator)
    clock.advance(20)
    del generator
    gc.collect()
    assert limiter.usage("ann@uwo.ca")[0].resets_in == 60


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_ending_a_sending_never_waits_for_the_lock_of_the_backend(kind: str) -> None:
    clock = ManualClock()
    backend = MemoryBackend(clock)
    if kind == "sync":
        sending = Limiter(POLICY, backend).sending(ENVELOPE)
        sending.__enter__()
        clock.advance(20)
        with backend._lock:
            sending.__exit__(None, None, None)
    else:
        async_sending = AsyncLimiter(POLICY, backend).sending(ENVELOPE)
        asyncio.run(async_sending.__aenter__())
        clock.advance(20)
        with backend._lock:
            asyncio.run(async_sending.__aexit__(None, None, None))
    clock.advance(10)
    (usage,) = Limiter(POLICY, backend).usage("ann@uwo.ca")
    assert (usage.used, usage.resets_in) == (1, 50)


def test_refunds_and_settlements_during_a_call_of_the_backend_are_applied_in_order() -> None:
    clock = ManualClock()
    backend = MemoryBackend(clock)
    limiter = Limiter(POLICY, backend)
    settled, refunded, both = [
        limiter.try_acquire(envelope_to(sender=f"{name}@uwo.ca")) for name in ("ann", "bob", "kim")
    ]
    clock.advance(20)
    with backend._lock:
        limiter.refund(refunded)
        limiter.settle(settled)
        limiter.settle(both)
        limiter.refund(both)
    used = {name: limiter.usage(f"{name}@uwo.ca")[0].used for name in ("ann", "bob", "kim")}
    assert used == {"ann": 1, "bob": 0, "kim": 0}
    assert limiter.usage("ann@uwo.ca")[0].resets_in == 60
