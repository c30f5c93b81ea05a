"""A message whose event loop is closed while it waits or is sent gives back what it has not used.

The garbage collector closes what waited in it, in an order of its own, in whatever thread it runs.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Generator
from inspect import CORO_SUSPENDED, getcoroutinestate
from typing import Any, Final

import pytest
from rlm_testkit.builders import envelope_to
from rlm_testkit.servers import wait_until

from ratelimit_mail import AsyncLimiter, Limiter, MessageRateLimit, Policy
from ratelimit_mail.backends import MemoryBackend

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

DAY: Final = 86_400
ENVELOPE: Final = envelope_to()
ONE_A_DAY: Final = Policy(name="test", limits=[MessageRateLimit("1/day")])

Send = Callable[[AsyncLimiter], Awaitable[object]]


async def acquire(limiter: AsyncLimiter) -> None:
    await limiter.acquire(ENVELOPE)


async def sending(limiter: AsyncLimiter) -> None:
    async with limiter.sending(ENVELOPE):
        pass


async def decorated(limiter: AsyncLimiter) -> None:
    @limiter.limited(envelope=lambda: ENVELOPE, on_denied="wait")
    async def send() -> None:
        pass

    await send()


class Wait:
    """A task that waits behind the one message of the day, in an event loop that is closed."""

    def __init__(self, send: Send) -> None:
        self.backend = MemoryBackend()
        self.limiter = Limiter(ONE_A_DAY, self.backend)
        assert self.limiter.try_acquire(ENVELOPE)
        self._tasks: list[asyncio.Task[object]] = []
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda _, __: None)
        loop.run_until_complete(self._begin(send))
        loop.close()
        assert self.places() == 2

    async def _begin(self, send: Send) -> None:
        coroutine: Any = send(AsyncLimiter(ONE_A_DAY, self.backend))
        self._tasks.append(asyncio.create_task(coroutine))
        while self.places() < 2:
            await asyncio.sleep(0)

    def places(self) -> int:
        (usage,) = self.limiter.usage(ENVELOPE.sender)
        return round(usage.resets_in / DAY)

    def coroutine(self) -> Any:
        return self._tasks[0].get_coro()

    def steps(self) -> Generator[Any, Any, Any]:
        """Return the generator of the wait, which the coroutines run."""
        coroutine = self.coroutine()
        while "steps" not in coroutine.cr_frame.f_locals:
            coroutine = coroutine.cr_await
        steps: Generator[Any, Any, Any] = coroutine.cr_frame.f_locals["steps"]
        return steps

    def forget(self) -> None:
        self._tasks.clear()
        gc.collect()


@pytest.mark.parametrize("send", [acquire, sending, decorated])
def test_a_wait_that_is_collected_gives_its_place_back(send: Send) -> None:
    wait = Wait(send)
    wait.forget()
    wait_until(lambda: wait.places() == 1)


@pytest.mark.parametrize("send", [acquire, sending])
def test_a_wait_whose_steps_are_closed_before_its_coroutine_gives_its_place_back(
    send: Send,
) -> None:
    wait = Wait(send)
    wait.steps().close()
    wait_until(lambda: wait.places() == 1)
    wait.forget()
    assert wait.places() == 1


@pytest.mark.parametrize("send", [acquire, sending, decorated])
def test_a_wait_that_is_collected_while_the_thread_holds_the_backend_does_not_stop_it(
    send: Send,
) -> None:
    wait = Wait(send)
    with wait.backend._lock:
        wait.forget()
    wait_until(lambda: wait.places() == 1)


@pytest.mark.parametrize("is_decorated", [False, True])
def test_a_message_that_is_sent_when_its_event_loop_is_closed_stays_counted(
    is_decorated: bool,
) -> None:
    limiter = AsyncLimiter(ONE_A_DAY)

    @limiter.limited(envelope=lambda: ENVELOPE)
    async def send() -> None:
        await asyncio.get_running_loop().create_future()

    async def send_in_block() -> None:
        async with limiter.sending(ENVELOPE):
            await asyncio.get_running_loop().create_future()

    async def begin() -> None:
        sends: Any = send() if is_decorated else send_in_block()
        tasks.append(asyncio.create_task(sends))
        await asyncio.sleep(0)

    tasks: list[asyncio.Task[object]] = []
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _, __: None)
    loop.run_until_complete(begin())
    loop.close()
    coroutine: Any = tasks.pop().get_coro()
    assert getcoroutinestate(coroutine) == CORO_SUSPENDED
    coroutine.close()
    assert not asyncio.run(limiter.check(ENVELOPE))
