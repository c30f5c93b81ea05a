"""Workers that send through the adapters, of which two are stopped for 55 seconds."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from email.message import EmailMessage
from typing import Final

import pytest
from rlm_testkit.load import SENDER, Row, fullest_window
from rlm_testkit.redis_backends import unique_prefix
from rlm_testkit.servers import Server

from ratelimit_mail import AsyncLimiter, Limiter, MessageRateLimit, Policy, RecipientRateLimit
from ratelimit_mail.adapters.smtplib import LimitedSMTP
from ratelimit_mail.backends import AsyncRedisBackend, RedisBackend

pytest.importorskip("aiosmtpd")
pytest.importorskip("aiosmtplib")

from aiosmtpd.smtp import Envelope
from rlm_testkit.smtp_servers import Sink, SMTPServerThread

from ratelimit_mail.adapters import aiosmtplib

pytestmark = pytest.mark.drill

Report = Callable[[Row], None]

RATE: Final = 20
STOPPED_SECONDS: Final = 55
POLICY: Final = Policy(
    name="test", limits=[MessageRateLimit(f"{RATE}/minute"), RecipientRateLimit("1000/day")]
)


def message() -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"] = SENDER, "bob@example.com, eve@example.net"
    message.set_content("Hello")
    return message


def send_with_smtplib(url: str, prefix: str, port: int, number: int) -> None:
    limiter = Limiter(POLICY, RedisBackend.from_url(url, prefix=prefix, timeout=30))
    with LimitedSMTP("127.0.0.1", port, "worker", limiter=limiter) as smtp:
        for _ in range(number):
            smtp.send_message(message())


def send_with_aiosmtplib(url: str, prefix: str, port: int, number: int) -> None:
    async def send_all() -> None:
        backend = AsyncRedisBackend.from_url(url, prefix=prefix, timeout=30)
        limiter = AsyncLimiter(POLICY, backend)
        async with aiosmtplib.LimitedSMTP(
            limiter=limiter, hostname="127.0.0.1", port=port, timeout=300
        ) as smtp:
            await asyncio.gather(*(smtp.send_message(message()) for _ in range(number)))
        await backend.aclose()

    asyncio.run(send_all())


def test_two_workers_of_four_are_stopped_for_55_seconds(server: Server, report: Report) -> None:
    async def delay(_: Envelope) -> None:
        await asyncio.sleep(0.3)

    sink = Sink(
        {("RCPT", "eve@example.net"): "550 5.1.1 no such user"},
        clock=lambda: time.time_ns() // 1_000_000,
        delay=delay,
    )
    number, prefix = 15, unique_prefix()
    context = multiprocessing.get_context("spawn")
    with SMTPServerThread(sink) as smtp_server:
        arguments = (server.url, prefix, smtp_server.port, number)
        workers = [
            context.Process(target=target, args=arguments)
            for target in (send_with_smtplib, send_with_aiosmtplib) * 2
        ]
        for worker in workers:
            worker.start()
        while len(sink.arrivals) < RATE // 2:
            time.sleep(0.01)
        for worker in workers[:2]:
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGSTOP)
        time.sleep(STOPPED_SECONDS)
        for worker in workers[:2]:
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGCONT)
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0] * len(workers)
    backend = RedisBackend.from_url(server.url, prefix=prefix)
    _, day = Limiter(POLICY, backend).usage(SENDER)
    backend.close()
    total, arrived = number * len(workers), len(sink.arrivals)
    over = max(0, fullest_window(60_000, [each.moment for each in sink.arrivals]) - RATE)
    name = f"{server.name}: 4 workers, 2 stopped for 55 s"
    report(Row(name, total, arrived, day.used - arrived, over))
    assert arrived == day.used == total
    assert over == 0
