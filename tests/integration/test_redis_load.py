"""Many concurrent calls for one sender stay within the limit, even if the server is restarted."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from itertools import pairwise

import pytest
from rlm_testkit.load import (
    ENVELOPE,
    SENDER,
    AnyLimiter,
    Load,
    Timetable,
    load_from_processes,
    one_limit_policy,
    used_on_server,
)
from rlm_testkit.redis_backends import KINDS, unique_prefix
from rlm_testkit.servers import Server

from ratelimit_mail import (
    AsyncLimiter,
    MessageRateLimit,
    Policy,
)
from ratelimit_mail.backends import AsyncRedisBackend
from ratelimit_mail.testing import ManualClock

PATIENT = {"timeout": 30}
"""The settings of a backend for which a slow machine is not an outage."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_server_with_persistence_admits_no_more_than_the_limit(
    own_server: Server, kind: str
) -> None:
    policy = one_limit_policy(600)
    limiter = AnyLimiter(kind, own_server.url, policy, prefix="mail:", backend=PATIENT)
    with Load(limiter) as load:
        load.wait_for(lambda tally: tally.admitted > 100)
        own_server.kill()
        load.wait_for(lambda tally: tally.failed > 100)
        own_server.start()
        back = time.monotonic()
        load.wait_for(lambda tally: tally.admitted > 300)
        tally = load.exhaust()
    used = used_on_server(own_server.url, policy, "mail:")
    limiter.close()
    assert tally.admitted <= used == 600
    assert tally.last_failure - back < 10  # the drills measure it


@pytest.mark.parametrize("kind", KINDS)
def test_no_call_fails_when_the_server_forgets_its_scripts(server: Server, kind: str) -> None:
    policy, prefix = one_limit_policy(400), unique_prefix()
    limiter = AnyLimiter(kind, server.url, policy, prefix=prefix, backend=PATIENT)
    flushes = 0
    with Load(limiter) as load, server.client() as client:
        while not load.tally.refused:
            client.script_flush()
            flushes += 1
    limiter.close()
    assert load.tally.admitted == 400
    assert load.tally.failed == 0
    assert flushes > 10


def test_eight_processes_of_four_threads_send_exactly_the_limit(server: Server) -> None:
    prefix, limit = unique_prefix(), 600
    tally = load_from_processes(
        server.url, prefix=prefix, limit=limit, processes=8, threads=4, seconds=0.3
    )
    assert tally.admitted == limit
    assert tally.calls > limit
    assert tally.failed == 0
    assert used_on_server(server.url, one_limit_policy(limit), prefix) == limit


MINUTE = 60_000
TASKS = 1000

CROWD = Policy(name="test", limits=[MessageRateLimit("100/minute"), MessageRateLimit("100000/day")])
"""The limit per minute decides; the count per day shows how much was charged."""


async def test_cancelling_some_of_a_thousand_waiting_tasks_does_not_affect_the_others(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ratelimit_mail.limiter.operations.LONGEST_WAIT_FOR_FIRST", 60)
    clock = ManualClock()
    start = clock()
    timetable = Timetable(clock)
    backend = AsyncRedisBackend.from_url(
        server.url, prefix=unique_prefix(), clock=clock, timeout=30
    )
    limiter = AsyncLimiter(CROWD, backend, sleep=timetable.sleep)
    sent: list[tuple[int, int]] = []

    async def send(number: int) -> None:
        assert await limiter.acquire(ENVELOPE)
        sent.append((clock(), number))

    tasks = [asyncio.create_task(send(number)) for number in range(TASKS)]
    while len(timetable) + len(sent) < TASKS:
        await asyncio.sleep(0.01)
    assert len(sent) == 100

    waiting = [task for task in tasks if not task.done()]
    cancelled = waiting[4::9]
    for task in cancelled:
        task.cancel()
    await asyncio.wait(cancelled)
    while timetable.advance():
        due = sum(not task.done() for task in tasks) - len(timetable)
        expected = len(sent) + due
        while len(sent) < expected:
            await asyncio.sleep(0)
    await asyncio.gather(*tasks, return_exceptions=True)

    assert len(cancelled) == 100
    assert all(task.cancelled() for task in cancelled)
    assert len(sent) == TASKS - len(cancelled)
    assert all(one < other for one, other in pairwise(sent[100:])), "they are sent in order"
    per_minute = Counter((moment - start) // MINUTE for moment, _ in sent)
    assert max(per_minute.values()) <= 100
    assert all(timetable.due[tasks[number]] == moment for moment, number in sent[100:])
    minute, day = await limiter.usage(SENDER)
    assert day.used == TASKS - len(cancelled)
    assert minute.used == per_minute[9]
    await backend.aclose()
