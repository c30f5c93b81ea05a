"""Put load on a sync or async limiter with its counts in Redis, and count the outcomes."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, Final, NamedTuple

from ratelimit_mail import AsyncLimiter, Decision, Envelope, Limiter, MessageRateLimit, Policy
from ratelimit_mail.backends import AsyncRedisBackend, RedisBackend
from ratelimit_mail.backends.base import TAKE, Intent, Verdict
from ratelimit_mail.backends.redis.codec import Receipt
from ratelimit_mail.counting.charge import Charge
from ratelimit_mail.exceptions import BackendUnavailable
from ratelimit_mail.limiter.refunds import RECEIPTS
from ratelimit_mail.testing import ManualClock
from rlm_testkit.servers import wait_until

SENDER: Final = "ann@uwo.ca"
ENVELOPE: Final = Envelope(SENDER, ["bob@example.com"])

PAUSE: Final = 0.001
"""Seconds that a worker waits after an answer, so that a machine with two cores can keep up."""


def one_limit_policy(limit: int, per: str = "day") -> Policy:
    """Return a policy with one message rate limit."""
    return Policy(name="test", limits=[MessageRateLimit(f"{limit}/{per}")])


def used_on_server(url: str, policy: Policy, prefix: str) -> int:
    """Return what a server has counted for SENDER under the first limit, by its own connection."""
    backend = RedisBackend.from_url(url, prefix=prefix, timeout=30)
    try:
        return Limiter(policy, backend).usage(SENDER)[0].used
    finally:
        backend.close()


def charged_at(decision: Decision) -> int:
    """Return when an accepted message is counted, by the backend's clock."""
    assert decision.refund_token is not None
    receipt = decision.refund_token[RECEIPTS]
    if isinstance(receipt, Receipt):  # of a server
        moments = receipt.moments
        return moments if isinstance(moments, int) else moments[0]
    moment: int = receipt[0][3]
    return moment


def fullest_window(length: int, moments: Sequence[int]) -> int:
    """Return how many of `moments` the fullest window of `length` milliseconds contains."""
    return max(sum(end - length < moment <= end for moment in moments) for end in moments)


class CallCounter:
    """Count the calls of a backend.

    calls: how many there were. active, max_active: how many are in progress, and were at most.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.calls = 0
        self.active = 0
        self.max_active = 0

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        with self._lock:
            self.calls += 1
            self.active += 1
            self.max_active = max(self.max_active, self.active)
        try:
            yield
        finally:
            with self._lock:
                self.active -= 1

    def restart(self) -> None:
        """Count anew from now on."""
        with self._lock:
            self.calls, self.max_active = 0, self.active


class CountedBackend(RedisBackend):
    """A backend that counts the calls of `apply`."""

    counter: CallCounter

    def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        with self.counter.call():
            return super().apply(charges, intent)


class AsyncCountedBackend(AsyncRedisBackend):
    """An async backend that counts the calls of `apply`."""

    counter: CallCounter

    async def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        with self.counter.call():
            return await super().apply(charges, intent)


class AnyLimiter:
    """A sync or async limiter with its counts on a server, called in the same way.

    kind: "sync" or "async". backend: keyword arguments of `from_url`. options: of the limiter.
    """

    def __init__(
        self,
        kind: str,
        url: str,
        policy: Policy,
        *,
        prefix: str,
        backend: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.counter = CallCounter()
        self.is_async = kind == "async"
        backend_type: type[Any] = AsyncCountedBackend if self.is_async else CountedBackend
        self.backend = backend_type.from_url(url, prefix=prefix, **(backend or {}))
        self.backend.counter = self.counter
        limiter_type: type[Any] = AsyncLimiter if self.is_async else Limiter
        self.limiter = limiter_type(policy, self.backend, **options)
        self._loop = asyncio.new_event_loop() if self.is_async else None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return a method of the limiter that needs no `await`."""
        method = getattr(self.limiter, name)
        return lambda *args, **options: self.wait(method(*args, **options))

    def wait(self, result: Any) -> Any:
        """Return a result; for an async limiter, wait for it."""
        return result if self._loop is None else self._loop.run_until_complete(result)

    def limited(self, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        """Decorate a send function with the limiter."""
        if not self.is_async:
            decorated: Callable[..., Any] = self.limiter.limited(**options)(function)
            return decorated

        async def send(*args: Any) -> Any:
            return function(*args)

        async_decorated = self.limiter.limited(**options)(send)
        return lambda *args: self.wait(async_decorated(*args))

    def close(self) -> None:
        if self._loop is None:
            self.backend.close()
        else:
            self.wait(self.backend.aclose())
            self._loop.close()


class Tally(NamedTuple):
    """The outcomes of a load.

    failed: calls that raised BackendUnavailable. first_failure, last_failure: when the first and
        the last of these ended; 0.0 if there were none.
    """

    calls: int
    admitted: int
    refused: int
    failed: int
    first_failure: float
    last_failure: float


class Row(NamedTuple):
    """The outcome of one drill.

    lost: charged on the server, but the caller got an error; if a replica has taken over, less the
        charges that had not reached it. over: admitted above the limit.
    away, normal: how many seconds until the server was back, and from then on until no call failed
        any more; the longest of several times.
    """

    fault: str
    calls: int
    admitted: int
    lost: int
    over: int
    away: float | None = None
    normal: float | None = None

    @classmethod
    def from_tally(
        cls,
        fault: str,
        tally: Tally,
        limit: int,
        away: float | None = None,
        normal: float | None = None,
    ) -> Row:
        """Return the row of a load that continued until the limit was reached."""
        lost, over = max(0, limit - tally.admitted), max(0, tally.admitted - limit)
        return cls(fault, tally.calls, tally.admitted, lost, over, away, normal)


class Load:
    """Workers that ask for one message again and again, in threads or tasks, until the end.

    Any error but BackendUnavailable is raised at the end.
    """

    def __init__(
        self, limiter: AnyLimiter, workers: int = 4, envelope: Envelope = ENVELOPE
    ) -> None:
        self._limiter = limiter
        self._envelope = envelope
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._outcomes = [0, 0, 0]
        self._failures = (0.0, 0.0)
        self._admitted_before_failure = 0
        self._errors: list[BaseException] = []
        self._workers = workers
        if limiter.is_async:
            self._threads = [threading.Thread(target=lambda: asyncio.run(self._run_tasks()))]
        else:
            self._threads = [threading.Thread(target=self._run_thread) for _ in range(workers)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        for error in self._errors:
            raise error

    @property
    def tally(self) -> Tally:
        with self._lock:
            admitted, refused, failed = self._outcomes
            calls = admitted + refused + failed
            return Tally(calls, admitted, refused, failed, *self._failures)

    def wait_for(self, condition: Callable[[Tally], bool], timeout: float = 60) -> None:
        """Wait until a condition is true of the tally, or raise the error of a worker."""

        def holds() -> bool:
            return bool(self._errors) or condition(self.tally)

        wait_until(holds, timeout)
        for error in self._errors:
            raise error

    def recover(self, back: float) -> float:
        """Wait until many calls in a row are admitted.

        Returns how many seconds after `back` the last call failed.
        """
        before = self.tally.admitted
        self.wait_for(
            lambda tally: tally.admitted > max(before, self._admitted_before_failure) + 200
        )
        return max(0.0, self.tally.last_failure - back)

    def exhaust(self) -> Tally:
        """Wait until the limit is reached, and return the tally."""
        refused = self.tally.refused
        self.wait_for(lambda tally: tally.refused > refused)
        return self.tally

    def _count(self, outcome: int) -> None:
        with self._lock:
            self._outcomes[outcome] += 1
            if outcome == 2:
                now = time.monotonic()
                self._failures = (self._failures[0] or now, now)
                self._admitted_before_failure = self._outcomes[0]

    def _run_thread(self) -> None:
        while not self._ended.wait(PAUSE):
            try:
                self._count(0 if self._limiter.limiter.try_acquire(self._envelope) else 1)
            except BackendUnavailable:
                self._count(2)
            except BaseException as error:
                self._errors.append(error)
                return

    async def _run_task(self) -> None:
        while not self._ended.is_set():
            try:
                self._count(0 if await self._limiter.limiter.try_acquire(self._envelope) else 1)
            except BackendUnavailable:
                self._count(2)
            await asyncio.sleep(PAUSE)

    async def _run_tasks(self) -> None:
        try:
            await asyncio.gather(*(self._run_task() for _ in range(self._workers)))
        except BaseException as error:
            self._errors.append(error)
        finally:
            await self._limiter.backend.aclose()


class Timetable:
    """Sleep in the time of a manual clock, which is advanced from one waking to the next.

    Of the tasks that wake at the same moment, the last to fall asleep wakes first.
    due: when each task wakes.
    """

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._numbers = count()
        self._sleeping: list[tuple[int, int, asyncio.Future[None]]] = []
        self.due: dict[asyncio.Task[Any] | None, int] = {}

    async def sleep(self, seconds: float) -> None:
        waking = asyncio.get_running_loop().create_future()
        at = self.due[asyncio.current_task()] = self._clock() + round(seconds * 1000)
        heapq.heappush(self._sleeping, (at, -next(self._numbers), waking))
        await waking

    def __len__(self) -> int:
        return sum(not waking.done() for _, _, waking in self._sleeping)

    def advance(self) -> bool:
        """Set the clock to the next moment at which a task wakes; return whether there is one."""
        while self._sleeping and self._sleeping[0][2].done():  # cancelled
            heapq.heappop(self._sleeping)
        if not self._sleeping:
            return False
        at = self._sleeping[0][0]
        self._clock.set(at)
        while self._sleeping and self._sleeping[0][0] == at:
            _, _, waking = heapq.heappop(self._sleeping)
            if not waking.done():
                waking.set_result(None)
        return True


def load_from_processes(
    url: str, *, prefix: str, limit: int, processes: int, threads: int, seconds: float
) -> Tally:
    """Put load on one sender from several processes, until it is over and no room is left."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    queue: Any = context.Queue()
    started = [
        context.Process(
            target=_run_process,
            args=(url, prefix, limit, threads, seconds, barrier, queue),
            daemon=True,
        )
        for _ in range(processes)
    ]
    for process in started:
        process.start()
    tallies = [queue.get(timeout=seconds + 90) for _ in started]
    for process in started:
        process.join()
        process.close()
    queue.close()
    queue.join_thread()
    return Tally(*(sum(numbers) for numbers in zip(*tallies, strict=True)))


def _run_process(
    url: str, prefix: str, limit: int, threads: int, seconds: float, barrier: Any, queue: Any
) -> None:
    # Eight processes on two cores: a slow machine is not an outage.
    policy = one_limit_policy(limit)
    limiter = AnyLimiter("sync", url, policy, prefix=prefix, backend={"timeout": 30})
    limiter.check(ENVELOPE)
    barrier.wait(60)
    with Load(limiter, threads) as load:
        time.sleep(seconds)
        load.exhaust()
    limiter.close()
    queue.put(tuple(load.tally))
