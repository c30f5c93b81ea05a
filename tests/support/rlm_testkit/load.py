"""Load on a limiter of either colour, and what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import multiprocessing
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, Final, NamedTuple

from ratelimit_mail import AsyncLimiter, Decision, Envelope, Limiter, MessageRateLimit, Policy
from ratelimit_mail.backends import AsyncRedisBackend, RedisBackend
from ratelimit_mail.backends.base import TAKE, Intent, Verdict
from ratelimit_mail.counting.charge import Charge
from ratelimit_mail.exceptions import BackendUnavailable
from ratelimit_mail.testing import ManualClock
from rlm_testkit.servers import wait_until

SENDER: Final = "ann@uwo.ca"
LETTER: Final = Envelope(SENDER, ["bob@example.com"])
COLOURS: Final = ("blocking", "awaited")

PAUSE: Final = 0.001
"""Seconds that one waits after an answer, so that a machine of two cores keeps up."""


def own_prefix() -> str:
    """What keeps the counts of one test from those of another on the same server."""
    return f"test-{uuid.uuid4().hex[:12]}:"


def at_most(limit: int, per: str = "day") -> Policy:
    """A policy of one limit."""
    return Policy(name="test", limits=[MessageRateLimit(f"{limit}/{per}")])


def held(url: str, policy: Policy, prefix: str) -> int:
    """What a server holds for the sender under the first limit, asked by a way of one's own."""
    backend = RedisBackend.from_url(url, prefix=prefix, timeout=10)
    try:
        return Limiter(policy, backend).usage(SENDER)[0].used
    finally:
        backend.close()


def moment_of(decision: Decision) -> int:
    """When an accepted message is counted, by the server's clock."""
    assert decision.refund_token is not None
    moments = decision.refund_token[1].moments
    found: int = moments if isinstance(moments, int) else moments[0]
    return found


def most_in(window: int, moments: Sequence[int]) -> int:
    """How many of `moments` stand in the fullest window of so many milliseconds."""
    return max(sum(end - window < moment <= end for moment in moments) for end in moments)


class Watch:
    """How often a backend is tried, and by how many calls at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.tries = 0
        self.inside = 0
        self.most = 0

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        with self._lock:
            self.tries += 1
            self.inside += 1
            self.most = max(self.most, self.inside)
        try:
            yield
        finally:
            with self._lock:
                self.inside -= 1

    def forget(self) -> None:
        """Count anew from now on."""
        with self._lock:
            self.tries, self.most = 0, self.inside


class Watched(RedisBackend):
    """A backend that tells how often it is tried."""

    watch: Watch

    def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        with self.watch.one():
            return super().apply(charges, intent)


class AsyncWatched(AsyncRedisBackend):
    """The same, to be awaited."""

    watch: Watch

    async def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        with self.watch.one():
            return await super().apply(charges, intent)


class Asked:
    """A limiter of either colour with its counts on a server, asked in the same words.

    backend: for the limiter: keyword arguments of `from_url`; options: of the limiter.
    """

    def __init__(
        self,
        colour: str,
        url: str,
        policy: Policy,
        *,
        prefix: str,
        backend: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.watch = Watch()
        self.is_async = colour == "awaited"
        made: type[Any] = AsyncWatched if self.is_async else Watched
        self.backend = made.from_url(url, prefix=prefix, **(backend or {}))
        self.backend.watch = self.watch
        limiter: type[Any] = AsyncLimiter if self.is_async else Limiter
        self.limiter = limiter(policy, self.backend, **options)
        self._loop = asyncio.new_event_loop() if self.is_async else None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """A verb of the limiter."""
        verb = getattr(self.limiter, name)
        return lambda *args, **options: self.wait(verb(*args, **options))

    def wait(self, answer: Any) -> Any:
        """The answer of something that this colour may have to await."""
        return answer if self._loop is None else self._loop.run_until_complete(answer)

    def limited(self, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        """What the limiter makes of a send function."""
        if not self.is_async:
            decorated: Callable[..., Any] = self.limiter.limited(**options)(function)
            return decorated

        async def send(*args: Any) -> Any:
            return function(*args)

        awaited = self.limiter.limited(**options)(send)
        return lambda *args: self.wait(awaited(*args))

    async def leave_loop(self) -> None:
        """Close what is connected in the event loop that runs."""
        pool = getattr(self.backend._link.client, "connection_pool", None)
        manager = getattr(pool, "sentinel_manager", None)
        await self.backend.aclose()
        for sentinel in manager.sentinels if manager else ():
            await sentinel.aclose()  # which nobody else does

    def close(self) -> None:
        if self._loop is None:
            self.backend.close()
        else:
            self.wait(self.leave_loop())
            self._loop.close()


class Tally(NamedTuple):
    """What came of a load.

    failed: calls that raised BackendUnavailable. first_failure, last_failure: when the first and
        the last of these ended; 0.0 where there are none.
    """

    asked: int
    admitted: int
    refused: int
    failed: int
    first_failure: float
    last_failure: float


class Row(NamedTuple):
    """What came of one drill.

    lost: charged on the server, but the caller got an error; where a replica has taken over, less
        what that was not told. over: admitted above the limit.
    away, normal: how many seconds until the server was there again, and from then on until no
        call failed any more; the worst of several times.
    """

    fault: str
    asked: int
    admitted: int
    lost: int
    over: int
    away: float | None = None
    normal: float | None = None

    @classmethod
    def of(
        cls,
        fault: str,
        tally: Tally,
        limit: int,
        away: float | None = None,
        normal: float | None = None,
    ) -> Row:
        """The row of a load that went on until there was no room left, so all of it is charged."""
        lost, over = max(0, limit - tally.admitted), max(0, tally.admitted - limit)
        return cls(fault, tally.asked, tally.admitted, lost, over, away, normal)


class Load:
    """Several who ask for one message again and again, in threads or tasks, until it is over.

    Anything but an answer or BackendUnavailable is raised at the end.
    """

    def __init__(self, asked: Asked, workers: int = 4, letter: Envelope = LETTER) -> None:
        self._asked = asked
        self._letter = letter
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._notes = [0, 0, 0]
        self._failures = (0.0, 0.0)
        self._before_failure = 0
        self._wrong: list[BaseException] = []
        self._workers = workers
        if asked.is_async:
            self._threads = [threading.Thread(target=lambda: asyncio.run(self._tasks()))]
        else:
            self._threads = [threading.Thread(target=self._thread) for _ in range(workers)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        for error in self._wrong:
            raise error

    @property
    def tally(self) -> Tally:
        with self._lock:
            admitted, refused, failed = self._notes
            asked = admitted + refused + failed
            return Tally(asked, admitted, refused, failed, *self._failures)

    def wait_for(self, what: Callable[[Tally], bool], max_delay: float = 60) -> None:
        """Until `what` is true of the tally; raises what went wrong."""

        def holds() -> bool:
            return bool(self._wrong) or what(self.tally)

        wait_until(holds, max_delay)
        for error in self._wrong:
            raise error

    def recover(self, back: float) -> float:
        """How many seconds after `back` the last call failed before many in a row were admitted."""
        begin = self.tally.admitted
        self.wait_for(lambda tally: tally.admitted > max(begin, self._before_failure) + 200)
        return max(0.0, self.tally.last_failure - back)

    def exhaust(self) -> Tally:
        """Ask until there is no room left."""
        refused = self.tally.refused
        self.wait_for(lambda tally: tally.refused > refused)
        return self.tally

    def _note(self, outcome: int) -> None:
        with self._lock:
            self._notes[outcome] += 1
            if outcome == 2:
                now = time.monotonic()
                self._failures = (self._failures[0] or now, now)
                self._before_failure = self._notes[0]

    def _thread(self) -> None:
        while not self._over.wait(PAUSE):
            try:
                self._note(0 if self._asked.limiter.try_acquire(self._letter) else 1)
            except BackendUnavailable:
                self._note(2)
            except BaseException as error:
                self._wrong.append(error)
                return

    async def _task(self) -> None:
        while not self._over.is_set():
            try:
                self._note(0 if await self._asked.limiter.try_acquire(self._letter) else 1)
            except BackendUnavailable:
                self._note(2)
            await asyncio.sleep(PAUSE)

    async def _tasks(self) -> None:
        try:
            await asyncio.gather(*(self._task() for _ in range(self._workers)))
        except BaseException as error:
            self._wrong.append(error)
        finally:
            await self._asked.leave_loop()


class Timetable:
    """Sleep in the time of a clock that is turned by hand, from one waking to the next.

    Of those who wake at the same moment, who lay down last wakes first. due: who wakes when.
    """

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._numbers = count()
        self._asleep: list[tuple[int, int, asyncio.Future[None]]] = []
        self.due: dict[asyncio.Task[Any] | None, int] = {}

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        at = self.due[asyncio.current_task()] = self._clock() + round(seconds * 1000)
        heapq.heappush(self._asleep, (at, -next(self._numbers), woken))
        await woken

    def __len__(self) -> int:
        return sum(not woken.done() for _, _, woken in self._asleep)

    def turn(self) -> bool:
        """Turn the clock to the next moment at which somebody wakes, if there is one."""
        while self._asleep and self._asleep[0][2].done():  # cancelled
            heapq.heappop(self._asleep)
        if not self._asleep:
            return False
        at = self._asleep[0][0]
        self._clock.set(at)
        while self._asleep and self._asleep[0][0] == at:
            _, _, woken = heapq.heappop(self._asleep)
            if not woken.done():
                woken.set_result(None)
        return True


def in_processes(
    url: str, *, prefix: str, limit: int, processes: int, threads: int, seconds: float
) -> Tally:
    """Ask for one sender from several processes at once, until time is up and no room is left."""
    context = multiprocessing.get_context("spawn")
    gate = context.Barrier(processes)
    tallies: Any = context.Queue()
    started = [
        context.Process(
            target=_process, args=(url, prefix, limit, threads, seconds, gate, tallies), daemon=True
        )
        for _ in range(processes)
    ]
    for process in started:
        process.start()
    found = [tallies.get(timeout=seconds + 90) for _ in started]
    for process in started:
        process.join()
        process.close()
    tallies.close()
    tallies.join_thread()
    return Tally(*(sum(numbers) for numbers in zip(*found, strict=True)))


def _process(
    url: str, prefix: str, limit: int, threads: int, seconds: float, gate: Any, tallies: Any
) -> None:
    # Eight processes on two cores: a slow machine is no outage.
    asked = Asked("blocking", url, at_most(limit), prefix=prefix, backend={"timeout": 30})
    asked.check(LETTER)
    gate.wait(60)
    with Load(asked, threads) as load:
        time.sleep(seconds)
        load.exhaust()
    asked.close()
    tallies.put(tuple(load.tally))
