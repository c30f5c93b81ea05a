"""Calls in memory and on a file that signals break off, and cancelled waits on servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from rlm_testkit.interrupted_limiter import InterruptedLimiter
from rlm_testkit.interrupted_sqlite import interrupt_sqlite
from rlm_testkit.load import Row
from rlm_testkit.redis_backends import unique_prefix
from rlm_testkit.servers import Server
from rlm_testkit.waits import ENVELOPE, ONE_A_DAY, booked_places, cancel_waits

from ratelimit_mail import AsyncLimiter
from ratelimit_mail.backends import AsyncRedisBackend

pytestmark = pytest.mark.drill

Report = Callable[[Row], None]
SEEDS, INTERRUPTS = 50, 20_000
CANCELLED = 10_000


@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_million_calls_in_memory_that_signals_break_off(report: Report) -> None:
    for seed in range(SEEDS):
        InterruptedLimiter(seed).run(INTERRUPTS)
    report(Row("memory: 1,000,000 signals", SEEDS * INTERRUPTS, 0, 0, 0))


@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_calls_on_a_file_that_signals_break_off(tmp_path: Path, report: Report) -> None:
    interrupt_sqlite(tmp_path, INTERRUPTS, seed=2)
    report(Row("SQLite: 20,000 signals", INTERRUPTS, 0, 0, 0))


async def test_ten_thousand_waits_that_are_cancelled_again_and_again(
    server: Server, report: Report
) -> None:
    prefix = unique_prefix()
    backend = AsyncRedisBackend.from_url(server.url, prefix=prefix, timeout=30)
    limiter = AsyncLimiter(ONE_A_DAY, backend)
    assert await limiter.try_acquire(ENVELOPE)
    await cancel_waits(limiter, CANCELLED, Random(1))
    await backend.aclose()
    places = await asyncio.to_thread(booked_places, server.url, prefix)
    report(Row(f"{server.name}: 10,000 waits cancelled", CANCELLED, 1, places - 1, 0))
    assert places == 1
