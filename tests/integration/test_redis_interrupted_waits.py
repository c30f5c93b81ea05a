"""Waits on a real server that are broken off give their places back, whatever comes meanwhile."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from random import Random

import anyio
import pytest
from rlm_testkit.interrupts import Interrupt
from rlm_testkit.proxy import Proxy
from rlm_testkit.redis_backends import unique_prefix, valkey_only
from rlm_testkit.servers import Server, wait_until
from rlm_testkit.waits import (
    ENVELOPE,
    ONE_A_DAY,
    booked_places,
    cancel_waits,
    raising_handler,
)

import ratelimit_mail.limiter.blocks
from ratelimit_mail import AsyncLimiter, Limiter
from ratelimit_mail.backends import AsyncRedisBackend, RedisBackend

pytestmark = valkey_only


class Scene:
    """A server behind a proxy, and a limit whose one message of the day was sent."""

    def __init__(self, server: Server) -> None:
        self.proxy = Proxy(server.port)
        self.prefix = unique_prefix()
        self._server = server
        backend = RedisBackend.from_url(server.url, prefix=self.prefix, timeout=30)
        assert Limiter(ONE_A_DAY, backend).try_acquire(ENVELOPE)
        backend.close()

    def places(self) -> int:
        return booked_places(self._server.url, self.prefix)

    def limiter(self) -> Limiter:
        backend = RedisBackend.from_url(self.proxy.url, prefix=self.prefix, timeout=30)
        return Limiter(ONE_A_DAY, backend)

    def async_backend(self) -> AsyncRedisBackend:
        return AsyncRedisBackend.from_url(self.proxy.url, prefix=self.prefix, timeout=30)


@pytest.fixture
def scene(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(ratelimit_mail.limiter.blocks, "REFRESH_SECONDS", 3600)
    scene = Scene(server)
    yield scene
    scene.proxy.close()


async def release_later(proxy: Proxy) -> None:
    await asyncio.sleep(0.05)
    proxy.answers_withheld.clear()


async def test_a_cancel_scope_gives_back_the_places_of_all_that_wait(scene: Scene) -> None:
    backend = scene.async_backend()
    limiter = AsyncLimiter(ONE_A_DAY, backend)
    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(limiter.acquire, ENVELOPE)
        while await asyncio.to_thread(scene.places) < 21:
            await asyncio.sleep(0.01)
        scene.proxy.answers_withheld.set()
        release = asyncio.create_task(release_later(scene.proxy))
        group.cancel_scope.cancel()
    await release
    await backend.aclose()
    assert scene.places() == 1


async def test_a_cancel_scope_gives_back_places_whose_booking_is_on_its_way(scene: Scene) -> None:
    backend = scene.async_backend()
    limiter = AsyncLimiter(ONE_A_DAY, backend)
    await limiter.check(ENVELOPE)  # which reads the blocks, so that the next call is the booking
    scene.proxy.answers_withheld.set()
    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(limiter.acquire, ENVELOPE)
        while await asyncio.to_thread(scene.places) == 1:
            await asyncio.sleep(0.01)
        release = asyncio.create_task(release_later(scene.proxy))
        group.cancel_scope.cancel()
    await release
    await backend.aclose()
    assert scene.places() == 1


async def test_hundreds_of_waits_that_are_cancelled_again_and_again_leave_no_place(
    scene: Scene,
) -> None:
    backend = scene.async_backend()
    await cancel_waits(AsyncLimiter(ONE_A_DAY, backend), 400, Random(1))
    await backend.aclose()
    assert await asyncio.to_thread(scene.places) == 1


class Sleepers:
    """Tasks that wait in `acquire`, and how many of them know their booking and sleep."""

    def __init__(self, scene: Scene) -> None:
        self.tasks: list[asyncio.Task[object]] = []
        self._sleeping = 0
        self._limiter = AsyncLimiter(ONE_A_DAY, scene.async_backend(), sleep=self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self._sleeping += 1
        await asyncio.sleep(seconds)

    async def begin(self, number: int) -> None:
        """Begin so many tasks, and return when all of them sleep."""
        self.tasks.extend(
            asyncio.create_task(self._limiter.acquire(ENVELOPE)) for _ in range(number)
        )
        while self._sleeping < number:
            await asyncio.sleep(0.01)


def test_an_event_loop_that_ends_gives_back_the_places_of_its_tasks(scene: Scene) -> None:
    sleepers = Sleepers(scene)
    asyncio.run(sleepers.begin(5))
    assert all(task.cancelled() for task in sleepers.tasks)
    assert scene.places() == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_event_loop_that_is_closed_while_tasks_wait_gives_their_places_back(
    scene: Scene,
) -> None:
    sleepers = Sleepers(scene)
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _, __: None)
    loop.run_until_complete(sleepers.begin(5))
    loop.close()
    assert scene.places() == 6
    sleepers.tasks.clear()
    del loop
    gc.collect()
    wait_until(lambda: scene.places() == 1)


def interrupt_when(condition: Callable[[], bool], interrupt: Callable[[], None]) -> None:
    """Call `interrupt` in a thread once `condition` holds."""

    def wait() -> None:
        wait_until(condition)
        interrupt()

    threading.Thread(target=wait, daemon=True).start()


def test_a_signal_while_a_booking_is_on_its_way_gives_the_place_back(scene: Scene) -> None:
    limiter = scene.limiter()
    limiter.check(ENVELOPE)  # which reads the blocks, so that the next call is the booking
    scene.proxy.answers_withheld.set()

    def interrupt() -> None:
        send_signal()
        time.sleep(0.05)
        send_signal()  # the first is being dealt with
        time.sleep(0.05)
        scene.proxy.answers_withheld.clear()

    with raising_handler() as send_signal:
        interrupt_when(lambda: scene.places() == 2, interrupt)
        with pytest.raises(Interrupt):
            limiter.acquire(ENVELOPE)
    assert scene.places() == 1


def test_a_second_signal_while_a_place_is_given_back_does_not_prevent_it(scene: Scene) -> None:
    limiter = scene.limiter()

    def interrupt() -> None:
        scene.proxy.answers_withheld.set()
        for _ in range(5):
            send_signal()
            time.sleep(0.03)
        scene.proxy.answers_withheld.clear()

    with raising_handler() as send_signal:
        interrupt_when(lambda: scene.places() == 2, interrupt)
        with pytest.raises(Interrupt):
            limiter.acquire(ENVELOPE)
    assert scene.places() == 1


def test_a_message_whose_sending_a_signal_ends_is_settled_in_spite_of_a_second(
    scene: Scene,
) -> None:
    limiter = scene.limiter()
    limiter.reset("ann@uwo.ca")

    def interrupt() -> None:
        scene.proxy.answers_withheld.set()
        for _ in range(3):
            send_signal()
            time.sleep(0.03)
        scene.proxy.answers_withheld.clear()

    admitted: list[float] = []

    def send() -> None:
        with limiter.sending(ENVELOPE):
            time.sleep(0.3)
            admitted.append(limiter.usage("ann@uwo.ca")[0].resets_in)
            interrupt_when(lambda: bool(admitted), interrupt)
            time.sleep(60)

    with raising_handler() as send_signal, pytest.raises(Interrupt):
        send()
    (usage,) = limiter.usage("ann@uwo.ca")
    assert usage.used == 1
    assert usage.resets_in > admitted[0]  # it stands at the end of its sending
