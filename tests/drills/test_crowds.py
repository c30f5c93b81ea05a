"""Many concurrent calls for one sender: threads of eight processes, and a thousand tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

import pytest
from rlm_testkit.load import (
    ENVELOPE,
    SENDER,
    Row,
    charged_at,
    fullest_window,
    load_from_processes,
    one_limit_policy,
    used_on_server,
)
from rlm_testkit.redis_backends import unique_prefix
from rlm_testkit.servers import Server

from ratelimit_mail import AsyncLimiter, MessageRateLimit, Policy
from ratelimit_mail.backends import AsyncRedisBackend

pytestmark = pytest.mark.drill

Report = Callable[[Row], None]


def test_eight_processes_of_four_threads_for_ten_seconds(server: Server, report: Report) -> None:
    limit, prefix = 10_000, unique_prefix()
    tally = load_from_processes(
        server.url, prefix=prefix, limit=limit, processes=8, threads=4, seconds=10
    )
    report(Row.from_tally(f"{server.name}: 8 processes of 4 threads", tally, limit))
    assert tally.admitted == used_on_server(server.url, one_limit_policy(limit), prefix) == limit
    assert tally.failed == 0


TASKS, RATE = 1000, 150

CROWD = Policy(
    name="test", limits=[MessageRateLimit(f"{RATE}/second"), MessageRateLimit("100000/day")]
)


async def test_a_thousand_tasks_of_which_a_tenth_is_cancelled(
    server: Server, report: Report
) -> None:
    backend = AsyncRedisBackend.from_url(server.url, prefix=unique_prefix(), timeout=30)
    sleeping = 0
    moments: list[int] = []

    async def sleep(seconds: float) -> None:
        nonlocal sleeping
        sleeping += 1
        await asyncio.sleep(seconds)

    async def send() -> None:
        moments.append(charged_at(await limiter.acquire(ENVELOPE)))

    limiter = AsyncLimiter(CROWD, backend, sleep=sleep)
    tasks = [asyncio.create_task(send()) for _ in range(TASKS)]
    while sleeping < TASKS - RATE:
        await asyncio.sleep(0.01)
    cancelled = Random(1).sample([task for task in tasks if not task.done()], TASKS // 10)
    for task in cancelled:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    _, day = await limiter.usage(SENDER)
    await backend.aclose()
    admitted, over = len(moments), max(0, fullest_window(1000, moments) - RATE)
    lost = day.used - admitted
    report(Row(f"{server.name}: 1,000 tasks, 100 cancelled", TASKS, admitted, lost, over))
    assert admitted == day.used == TASKS - len(cancelled)
    assert over == 0
