"""Many at once on one sender: nobody passes the limit, whatever the server forgets."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from itertools import pairwise

import pytest
from rlm_testkit.load import (
    COLOURS,
    LETTER,
    SENDER,
    Asked,
    Load,
    Timetable,
    at_most,
    held,
    in_processes,
    own_prefix,
)
from rlm_testkit.servers import Server

from ratelimit_mail import (
    AsyncLimiter,
    MessageRateLimit,
    Policy,
)
from ratelimit_mail.backends import AsyncRedisBackend
from ratelimit_mail.testing import ManualClock


@pytest.mark.parametrize("colour", COLOURS)
def test_a_killed_server_that_kept_its_data_lets_no_more_through(
    own_server: Server, colour: str
) -> None:
    policy = at_most(600)
    asked = Asked(colour, own_server.url, policy, prefix="mail:")
    with Load(asked) as load:
        load.wait_for(lambda tally: tally.admitted > 100)
        own_server.kill()
        load.wait_for(lambda tally: tally.failed > 100)
        own_server.start()
        back = time.monotonic()
        load.wait_for(lambda tally: tally.admitted > 300)
        tally = load.exhaust()
    kept = held(own_server.url, policy, "mail:")
    asked.close()
    assert tally.admitted <= kept == 600
    assert tally.last_failure - back < 2


@pytest.mark.parametrize("colour", COLOURS)
def test_nobody_notices_that_the_server_forgets_its_scripts(server: Server, colour: str) -> None:
    asked = Asked(colour, server.url, at_most(400), prefix=own_prefix())
    flushed = 0
    with Load(asked) as load, server.client() as client:
        while not load.tally.refused:
            client.script_flush()
            flushed += 1
    asked.close()
    assert load.tally.admitted == 400
    assert load.tally.failed == 0
    assert flushed > 10


def test_eight_processes_of_four_threads_send_exactly_the_limit(server: Server) -> None:
    prefix, limit = own_prefix(), 1500
    tally = in_processes(server.url, prefix=prefix, limit=limit, processes=8, threads=4, seconds=2)
    assert tally.admitted == limit
    assert tally.asked > limit
    assert tally.failed == 0
    assert held(server.url, at_most(limit), prefix) == limit


MINUTE = 60_000
TASKS = 1000

CROWD = Policy(name="test", limits=[MessageRateLimit("100/minute"), MessageRateLimit("100000/day")])
"""What the minute lets through decides; what the day holds tells how much was charged."""


async def test_of_a_thousand_waiting_tasks_those_that_are_cancelled_harm_nobody(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ratelimit_mail.limiter.operations.LONGEST_TURN", 60)
    clock = ManualClock()
    start = clock()
    timetable = Timetable(clock)
    backend = AsyncRedisBackend.from_url(server.url, prefix=own_prefix(), clock=clock, timeout=30)
    limiter = AsyncLimiter(CROWD, backend, sleep=timetable.sleep)
    left: list[tuple[int, int]] = []

    async def send(number: int) -> None:
        assert await limiter.acquire(LETTER)
        left.append((clock(), number))

    tasks = [asyncio.create_task(send(number)) for number in range(TASKS)]
    while len(timetable) + len(left) < TASKS:
        await asyncio.sleep(0.01)
    assert len(left) == 100

    waiting = [task for task in tasks if not task.done()]
    cancelled = waiting[4::9]
    for task in cancelled:
        task.cancel()
    await asyncio.wait(cancelled)
    while timetable.turn():
        due = sum(not task.done() for task in tasks) - len(timetable)
        expected = len(left) + due
        while len(left) < expected:
            await asyncio.sleep(0)
    await asyncio.gather(*tasks, return_exceptions=True)

    assert len(cancelled) == 100
    assert all(task.cancelled() for task in cancelled)
    assert len(left) == TASKS - len(cancelled)
    assert all(one < other for one, other in pairwise(left[100:])), "they leave in turn"
    per_minute = Counter((moment - start) // MINUTE for moment, _ in left)
    assert max(per_minute.values()) <= 100
    assert all(timetable.due[tasks[number]] == moment for moment, number in left[100:])
    minute, day = await limiter.usage(SENDER)
    assert day.used == TASKS - len(cancelled)
    assert minute.used == per_minute[9]
    await backend.aclose()
