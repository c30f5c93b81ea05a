"""Waiting in real time: order, cancellation, threads, and several event loops at once."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from ratelimit_mail import AsyncLimiter, Envelope, Limiter, MessageRateLimit, Policy
from ratelimit_mail.backends import MemoryBackend

LETTER = Envelope("ann@uwo.ca", ["bob@example.com"])
POLICY = Policy(name="test", limits=[MessageRateLimit("10/second")])


def most_in_a_second(moments: list[float]) -> int:
    # A sleep may end a little late, never early: 20 ms is what a busy machine is granted.
    return max(sum(1 for m in moments if start <= m < start + 0.98) for start in moments)


def test_threads_leave_in_the_order_in_which_they_came_and_within_the_limit() -> None:
    limiter = Limiter(POLICY)
    left: list[tuple[int, float]] = []

    def send(number: int) -> None:
        limiter.acquire(LETTER)
        left.append((number, time.monotonic()))

    threads = [threading.Thread(target=send, args=(i,)) for i in range(25)]
    for thread in threads:
        thread.start()
        time.sleep(0.002)
    for thread in threads:
        thread.join()
    assert [number for number, _ in left] == list(range(25))
    assert most_in_a_second([moment for _, moment in left]) <= 10


async def test_tasks_leave_in_the_order_in_which_they_came_and_within_the_limit() -> None:
    limiter = AsyncLimiter(POLICY)
    left: list[tuple[int, float]] = []

    async def send(number: int) -> None:
        await limiter.acquire(LETTER)
        left.append((number, time.monotonic()))

    await asyncio.gather(*(send(i) for i in range(25)))
    assert [number for number, _ in left] == list(range(25))
    assert most_in_a_second([moment for _, moment in left]) <= 10


async def test_those_behind_a_cancelled_wait_keep_their_order() -> None:
    limiter = AsyncLimiter(POLICY)
    left: list[int] = []

    async def send(number: int) -> None:
        await limiter.acquire(LETTER)
        left.append(number)

    tasks = [asyncio.create_task(send(i)) for i in range(25)]
    await asyncio.sleep(0.05)
    for i in (10, 13, 24):
        tasks[i].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert left == [i for i in range(25) if i not in (10, 13, 24)]


async def test_waiting_does_not_hold_up_another_sender() -> None:
    limiter = AsyncLimiter(Policy(name="test", limits=[MessageRateLimit("1/day")]))
    assert await limiter.acquire(LETTER)
    waits = asyncio.create_task(limiter.acquire(LETTER))
    other = Envelope("bob@uwo.ca", ["ann@example.com"])
    assert await asyncio.wait_for(limiter.acquire(other), timeout=5)
    waits.cancel()


def test_event_loops_in_several_threads_share_one_limiter() -> None:
    backend = MemoryBackend()
    limiter = AsyncLimiter(POLICY, backend)
    left: list[float] = []

    async def send() -> None:
        await limiter.acquire(LETTER)
        left.append(time.monotonic())

    async def some() -> None:
        await asyncio.gather(*(send() for _ in range(8)))

    threads = [threading.Thread(target=lambda: asyncio.run(some())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(left) == 24
    assert most_in_a_second(left) <= 10


async def test_a_thousand_waits_with_a_tenth_cancelled_keep_to_the_limit() -> None:
    limiter = AsyncLimiter(Policy(name="test", limits=[MessageRateLimit("600/second")]))
    left: list[float] = []

    async def send() -> None:
        await limiter.acquire(LETTER)
        left.append(time.monotonic())

    start = time.monotonic()
    tasks = [asyncio.create_task(send()) for _ in range(1000)]
    await asyncio.sleep(0.01)
    for task in tasks[5::10]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(left) >= 900
    assert sum(1 for moment in left if moment < start + 0.98) <= 600


def test_a_loop_that_was_closed_while_somebody_waited_holds_up_nobody() -> None:
    limiter = AsyncLimiter(Policy(name="test", limits=[MessageRateLimit("2/second")]))
    abandoned = asyncio.new_event_loop()
    tasks = [abandoned.create_task(limiter.acquire(LETTER)) for _ in range(3)]
    abandoned.run_until_complete(asyncio.sleep(0))
    abandoned.close()

    async def acquire() -> float:
        start = time.monotonic()
        assert await limiter.acquire(LETTER)
        return time.monotonic() - start

    assert asyncio.run(acquire()) < 10
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        task.get_coro().close()


async def test_a_timeout_is_kept_behind_somebody_who_is_stuck(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ratelimit_mail.limiter.operations.LONGEST_WAIT_FOR_FIRST", 30)
    limiter = AsyncLimiter(Policy(name="test", limits=[MessageRateLimit("2/second")]))
    asleep = threading.Event()

    async def stuck() -> None:
        for _ in range(3):  # the third waits, in an event loop that then stands still
            task = asyncio.create_task(limiter.acquire(LETTER))
            await asyncio.sleep(0.01)
        asleep.wait(30)
        await task

    thread = threading.Thread(target=asyncio.run, args=(stuck(),))
    thread.start()
    await asyncio.sleep(1.2)
    start = time.monotonic()
    assert await limiter.acquire(LETTER, timeout=0)
    assert time.monotonic() - start < 20
    asleep.set()
    thread.join()
