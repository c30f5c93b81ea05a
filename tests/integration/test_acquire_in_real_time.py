"""`acquire` in real time: order, cancellation, threads, and several event loops at once."""

from __future__ import annotations

import asyncio
import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence

import pytest
from rlm_testkit.builders import envelope_to

from ratelimit_mail import AsyncLimiter, Limiter, MessageRateLimit, Policy
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.backends.base import TAKE, Intent, Verdict
from ratelimit_mail.counting.charge import Charge

ENVELOPE = envelope_to()
POLICY = Policy(name="test", limits=[MessageRateLimit("10/second")])


@pytest.fixture(autouse=True)
def no_waiter_is_taken_for_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine may stall for longer than a waiter waits for the one ahead of it."""
    monkeypatch.setattr("ratelimit_mail.limiter.operations.LONGEST_WAIT_FOR_FIRST", 60)


class AnnouncingBackend(MemoryBackend):
    """Counts in memory, and says when a message has been booked."""

    def __init__(self) -> None:
        super().__init__()
        self.booked = threading.Semaphore(0)

    def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        verdict = super().apply(charges, intent)
        self.booked.release()
        return verdict


def most_in_a_second(moments: Iterable[float]) -> int:
    """Return the most of `moments` in any second, wherever it begins."""
    ordered = sorted(moments)
    # A millisecond, because the limiter counts in whole ones.
    return max(bisect_left(ordered, start + 0.999) - i for i, start in enumerate(ordered))


def test_threads_send_in_the_order_of_their_calls_and_within_the_limit() -> None:
    backend = AnnouncingBackend()
    limiter = Limiter(POLICY, backend)
    sent: list[tuple[int, float]] = []

    def send(number: int) -> None:
        with limiter.sending(ENVELOPE):
            sent.append((number, time.monotonic()))

    threads = [threading.Thread(target=send, args=(i,)) for i in range(25)]
    for thread in threads:
        thread.start()
        assert backend.booked.acquire(timeout=60)
    for thread in threads:
        thread.join()
    assert [number for number, _ in sent] == list(range(25))
    assert most_in_a_second(moment for _, moment in sent) <= 10


async def test_tasks_send_in_the_order_of_their_calls_and_within_the_limit() -> None:
    limiter = AsyncLimiter(POLICY)
    sent: list[tuple[int, float]] = []

    async def send(number: int) -> None:
        async with limiter.sending(ENVELOPE):
            sent.append((number, time.monotonic()))

    await asyncio.gather(*(send(i) for i in range(25)))
    assert [number for number, _ in sent] == list(range(25))
    assert most_in_a_second(moment for _, moment in sent) <= 10


async def test_waiters_behind_a_cancelled_one_keep_their_order() -> None:
    limiter = AsyncLimiter(POLICY)
    sent: list[int] = []

    async def send(number: int) -> None:
        await limiter.acquire(ENVELOPE)
        sent.append(number)

    tasks = [asyncio.create_task(send(i)) for i in range(25)]
    await asyncio.sleep(0)  # all have booked
    for i in (10, 13, 24):
        tasks[i].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert sent == [i for i in range(25) if i not in (10, 13, 24)]


async def test_a_waiting_message_does_not_hold_up_another_sender() -> None:
    limiter = AsyncLimiter(Policy(name="test", limits=[MessageRateLimit("1/day")]))
    assert await limiter.acquire(ENVELOPE)
    waiting = asyncio.create_task(limiter.acquire(ENVELOPE))
    other = envelope_to(sender="bob@uwo.ca")
    assert await asyncio.wait_for(limiter.acquire(other), timeout=60)
    waiting.cancel()


def test_event_loops_in_several_threads_share_one_limiter() -> None:
    backend = MemoryBackend()
    limiter = AsyncLimiter(POLICY, backend)
    sent: list[float] = []

    async def send() -> None:
        async with limiter.sending(ENVELOPE):
            sent.append(time.monotonic())

    async def send_eight() -> None:
        await asyncio.gather(*(send() for _ in range(8)))

    threads = [threading.Thread(target=lambda: asyncio.run(send_eight())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sent) == 24
    assert most_in_a_second(sent) <= 10


async def test_a_thousand_waits_with_a_tenth_cancelled_stay_within_the_limit() -> None:
    limiter = AsyncLimiter(Policy(name="test", limits=[MessageRateLimit("600/second")]))
    sent: list[float] = []

    async def send() -> None:
        async with limiter.sending(ENVELOPE):
            sent.append(time.monotonic())

    tasks = [asyncio.create_task(send()) for _ in range(1000)]
    await asyncio.sleep(0.01)
    for task in tasks[5::10]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(sent) >= 900
    assert most_in_a_second(sent) <= 600


def test_a_waiter_whose_event_loop_was_closed_does_not_hold_up_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ratelimit_mail.limiter.operations.LONGEST_WAIT_FOR_FIRST", 1)
    limiter = AsyncLimiter(Policy(name="test", limits=[MessageRateLimit("2/second")]))
    abandoned = asyncio.new_event_loop()
    tasks = [abandoned.create_task(limiter.acquire(ENVELOPE)) for _ in range(3)]
    abandoned.run_until_complete(asyncio.sleep(0))
    abandoned.close()

    async def acquire() -> float:
        start = time.monotonic()
        assert await limiter.acquire(ENVELOPE)
        return time.monotonic() - start

    assert asyncio.run(acquire()) < 100
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        task.get_coro().close()


async def test_a_timeout_is_respected_behind_a_stuck_waiter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ratelimit_mail.limiter.operations.LONGEST_WAIT_FOR_FIRST", 600)
    limiter = AsyncLimiter(Policy(name="test", limits=[MessageRateLimit("2/second")]))
    is_stuck, release = threading.Event(), threading.Event()

    async def wait_in_stuck_loop() -> None:
        for _ in range(3):  # the third waits, in an event loop that then blocks
            task = asyncio.create_task(limiter.acquire(ENVELOPE))
            await asyncio.sleep(0)  # it has booked
        is_stuck.set()
        release.wait(110)
        await task

    thread = threading.Thread(target=asyncio.run, args=(wait_in_stuck_loop(),))
    thread.start()
    assert await asyncio.to_thread(is_stuck.wait, 60)
    await asyncio.sleep(1.2)  # until there is room for the one that is stuck, and for one more
    start = time.monotonic()
    assert await limiter.acquire(ENVELOPE, timeout=0)
    assert time.monotonic() - start < 100
    release.set()
    thread.join()
