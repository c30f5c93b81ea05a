"""`acquire` when it wakes: it redeems its booking, and waits again if there is no room."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from rlm_testkit.builders import campus_policy, envelope_to
from rlm_testkit.either_limiter import EitherLimiter, sync_and_async

from ratelimit_mail import AsyncLimiter, MessageRateLimit, RateLimitExceeded
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.limiter.wait_queue import Waiter, WaitQueue
from ratelimit_mail.testing import ManualClock

ENVELOPE = envelope_to(["bob@example.com"])
ONE_A_MINUTE = MessageRateLimit("1/minute")


class LimiterWithEvents(EitherLimiter):
    """A limiter whose n-th sleep is followed by a call."""

    def __init__(self, mode: str, *limits: MessageRateLimit) -> None:
        super().__init__(mode, *limits)
        self.after_sleep: dict[int, Callable[[], object]] = {}

    def _sleep(self, seconds: float) -> None:
        super()._sleep(seconds)
        if (call := self.after_sleep.get(len(self.slept))) is not None:
            call()


def settle_now(limiter: LimiterWithEvents, times: int = 1) -> Callable[[], None]:
    """Accept a message now; return a call that settles it directly in the backend."""
    receipts = [limiter.try_acquire(ENVELOPE).refund_token[2] for _ in range(times)]

    def settle() -> None:
        for receipt in receipts:
            limiter.backend.settle(receipt)

    return settle


@sync_and_async
def test_a_wait_whose_room_was_settled_away_goes_on_until_there_is_room(mode: str) -> None:
    limiter = LimiterWithEvents(mode, ONE_A_MINUTE)
    limiter.after_sleep[1] = settle_now(limiter)
    start = limiter.clock()
    assert limiter.acquire(ENVELOPE)
    assert limiter.slept == [60, 60]
    assert limiter.clock() - start == 120_000
    assert (limiter.used(), limiter.resets_in()) == ([1], [60])


@sync_and_async
def test_a_wait_that_goes_on_respects_its_timeout_and_gives_its_place_back(mode: str) -> None:
    limiter = LimiterWithEvents(mode, ONE_A_MINUTE)
    limiter.after_sleep[1] = settle_now(limiter)
    with pytest.raises(RateLimitExceeded) as caught:
        limiter.acquire(ENVELOPE, timeout=119.999)
    assert caught.value.decision.retry_after == 60
    assert caught.value.decision.limit == ONE_A_MINUTE
    assert limiter.slept == [60]
    assert limiter.reserve(ENVELOPE).delay == 60


@sync_and_async
def test_a_wait_that_goes_on_may_use_all_of_its_timeout(mode: str) -> None:
    limiter = LimiterWithEvents(mode, ONE_A_MINUTE)
    limiter.after_sleep[1] = settle_now(limiter)
    assert limiter.acquire(ENVELOPE, timeout=120)


@sync_and_async
def test_a_wait_that_wakes_late_counts_when_it_wakes(mode: str) -> None:
    limiter = EitherLimiter(mode, ONE_A_MINUTE)
    assert limiter.try_acquire(ENVELOPE)
    limiter.oversleep = 55
    assert limiter.acquire(ENVELOPE)
    assert (limiter.used(), limiter.resets_in()) == ([1], [60])


@sync_and_async
def test_a_sleep_that_ends_early_is_followed_by_another(mode: str) -> None:
    limiter = EitherLimiter(mode, ONE_A_MINUTE)
    assert limiter.try_acquire(ENVELOPE)
    start = limiter.clock()
    limiter.oversleep = -10
    assert limiter.acquire(ENVELOPE)
    assert limiter.slept[:2] == [60, 10]
    assert limiter.clock() - start >= 50_000


@sync_and_async
def test_a_sleep_that_does_not_move_the_clock_is_taken_at_its_word_in_the_end(mode: str) -> None:
    limiter = EitherLimiter(mode, ONE_A_MINUTE)
    assert limiter.try_acquire(ENVELOPE)
    limiter.moves_clock = False
    assert limiter.acquire(ENVELOPE)
    assert limiter.slept == [60, 60, 60]


@sync_and_async
def test_a_wait_that_is_interrupted_after_it_was_booked_anew_gives_its_place_back(
    mode: str,
) -> None:
    limiter = LimiterWithEvents(mode, ONE_A_MINUTE)
    limiter.after_sleep[1] = settle_now(limiter)

    def interrupt() -> None:
        raise KeyboardInterrupt

    limiter.after_sleep[2] = interrupt
    with pytest.raises(KeyboardInterrupt):
        limiter.acquire(ENVELOPE)
    assert limiter.used() == [0]  # at the second waking, the settled one has left as well
    assert limiter.reserve(ENVELOPE).delay == 0


@sync_and_async
def test_a_blocked_sender_is_refused_when_its_wait_ends(mode: str) -> None:
    limiter = LimiterWithEvents(mode, ONE_A_MINUTE)
    assert limiter.try_acquire(ENVELOPE)
    blocking = EitherLimiter("sync", ONE_A_MINUTE, backend=limiter.backend)
    limiter.after_sleep[1] = lambda: blocking.block("ann@uwo.ca", reason="account stolen")
    with pytest.raises(RateLimitExceeded) as caught:
        limiter.acquire(ENVELOPE)
    assert caught.value.decision.block is not None
    assert limiter.used() == [0]


async def test_tasks_of_one_sender_go_in_order_though_their_room_is_settled_away() -> None:
    clock = ManualClock()
    wakeups: list[tuple[int, asyncio.Event]] = []

    async def sleep(seconds: float) -> None:
        wakeups.append((clock() + round(seconds * 1000), event := asyncio.Event()))
        await event.wait()

    limiter = AsyncLimiter(
        campus_policy(MessageRateLimit("2/minute")), MemoryBackend(clock), sleep=sleep
    )
    sent: list[tuple[int, int]] = []

    async def send(number: int) -> None:
        async with limiter.sending(ENVELOPE):
            sent.append((number, clock()))
            await sleep(7.5)

    start = clock()
    tasks = [asyncio.create_task(send(number)) for number in range(9)]
    while not all(task.done() for task in tasks):
        for _ in range(20):
            await asyncio.sleep(0)
        if wakeups:
            clock.set(max(clock(), min(at for at, _ in wakeups)))
            for each in [each for each in wakeups if each[0] <= clock()]:
                wakeups.remove(each)
                each[1].set()
    assert [number for number, _ in sent] == list(range(9))
    # Each pair goes a window after the end of the one before.
    assert [(at - start) / 1000 for _, at in sent] == [67.5 * (i // 2) for i in range(9)]


@sync_and_async
def test_a_message_that_waits_behind_a_late_waiter_counts_when_it_goes(mode: str) -> None:
    limiter = EitherLimiter(mode, MessageRateLimit("2/minute"))
    operations = limiter.limiter._operations

    def wait_until_first(queue: WaitQueue, waiter: Waiter, longest: float) -> None:
        limiter.clock.advance(longest)
        queue.overtake(waiter)

    async def async_wait_until_first(queue: WaitQueue, waiter: Waiter, longest: float) -> None:
        wait_until_first(queue, waiter, longest)

    operations._wait_until_first = wait_until_first if mode == "sync" else async_wait_until_first
    operations._wait_queue.join(operations.policy.sender_subject(ENVELOPE), limiter.clock() - 1)
    with limiter.sending(ENVELOPE):  # it has room at once, and waits for a second
        assert (limiter.used(), limiter.resets_in()) == ([1], [60])


class SeparateSleeps:
    """A limiter for two messages a minute, whose waits sleep until a test wakes each of them.

    Two messages went at first and were settled 5 s later, so that who has booked a place after 60 s
    finds room after 65 s only.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # So that no waiter is taken for stuck, however slow the machine is.
        monkeypatch.setattr("ratelimit_mail.limiter.operations.LONGEST_WAIT_FOR_FIRST", 3600)
        self.clock = ManualClock()
        self.start = self.clock()
        self.sleeps: list[tuple[float, asyncio.Event]] = []
        self.when_asleep: dict[int, Callable[[], object]] = {}
        self.sent: list[str] = []
        self.limiter = AsyncLimiter(
            campus_policy(MessageRateLimit("2/minute")),
            MemoryBackend(self.clock),
            sleep=self._sleep,
        )

    async def _sleep(self, seconds: float) -> None:
        self.sleeps.append((seconds, event := asyncio.Event()))
        self.when_asleep.get(len(self.sleeps), lambda: None)()
        await event.wait()

    async def send(self, name: str) -> None:
        assert await self.limiter.acquire(ENVELOPE)
        self.sent.append(name)

    async def send_two(self) -> list[asyncio.Task[None]]:
        decisions = [await self.limiter.try_acquire(ENVELOPE) for _ in range(2)]
        tasks = []
        for name in ("first", "second"):
            tasks.append(asyncio.create_task(self.send(name)))
            await self.rest()
        self.clock.advance(5)
        for decision in decisions:
            await self.limiter.settle(decision)
        assert [seconds for seconds, _ in self.sleeps] == [60, 60]
        self.clock.advance(55)
        return tasks

    async def wake(self, number: int) -> None:
        self.sleeps[number][1].set()
        await self.rest()

    @staticmethod
    async def rest() -> None:
        """Let the tasks go on as far as they can."""
        for _ in range(50):
            await asyncio.sleep(0)


async def test_a_message_that_is_booked_anew_stays_ahead_of_a_later_one_that_wakes_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = SeparateSleeps(monkeypatch)
    tasks = await scene.send_two()
    await scene.wake(0)
    assert [seconds for seconds, _ in scene.sleeps] == [60, 60, 5]
    scene.clock.advance(5)  # there is room for both now
    await scene.wake(1)
    assert scene.sent == []
    await scene.wake(2)
    await asyncio.gather(*tasks)
    assert scene.sent == ["first", "second"]


async def test_a_waiter_that_is_first_only_while_another_is_booked_anew_waits_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = SeparateSleeps(monkeypatch)
    tasks = await scene.send_two()
    await scene.wake(1)  # it waits behind the first
    # The first is booked anew, and there is room for both before the second goes on.
    scene.when_asleep[3] = lambda: scene.clock.advance(5)
    await scene.wake(0)
    assert [seconds for seconds, _ in scene.sleeps] == [60, 60, 5]
    assert scene.sent == []
    await scene.wake(2)
    await asyncio.gather(*tasks)
    assert scene.sent == ["first", "second"]
