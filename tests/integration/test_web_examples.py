"""The examples for FastAPI, Flask and asyncio against a real SMTP server."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rlm_testkit.servers import wait_until

from ratelimit_mail import AsyncLimiter, MessageRateLimit, Policy

pytest.importorskip("aiosmtpd")

from rlm_testkit.smtp_servers import Sink, SMTPServerThread

ROOT = Path(__file__).parents[2]
SENDER = "shop@example.org"


@pytest.fixture
def sink() -> Sink:
    return Sink(clock=lambda: time.monotonic_ns() // 1_000_000)


@pytest.fixture
def server(sink: Sink) -> Iterator[SMTPServerThread]:
    with SMTPServerThread(sink) as server:
        yield server


@pytest.fixture
def settings(tmp_path: Path, server: SMTPServerThread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTBOX", str(tmp_path / "outbox.db"))
    monkeypatch.setenv("STORE", f"sqlite:///{tmp_path}/counts.db")
    monkeypatch.setenv("SMTP_URL", f"smtp://127.0.0.1:{server.port}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *sys.path]))


def recipients(sink: Sink) -> list[str]:
    return [address for each in sink.arrivals for address in each.recipients]


@contextlib.asynccontextmanager
async def fastapi_client() -> AsyncIterator[Any]:
    """Start the application, and stop it at the end."""
    httpx = pytest.importorskip("httpx")
    app = pytest.importorskip("examples.fastapi_app").app
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            yield client


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.01)


async def test_fastapi_answers_at_once_and_sends_each_order_once(
    settings: None, sink: Sink
) -> None:
    async with fastapi_client() as client:
        for number in (1, 2, 1):
            order = {"number": number, "email": f"user{number}@example.com"}
            assert (await client.post("/orders", json=order)).status_code == 202

        async def is_sent() -> bool:
            return bool((await client.get("/messages/2")).json()["state"] == "sent")

        await until(is_sent)
        assert (await client.get("/messages/3")).status_code == 404
        bad = {"number": 3, "email": "a@b.example\nBcc: c@d.example"}
        assert (await client.post("/orders", json=bad)).status_code == 422
    assert sorted(recipients(sink)) == ["user1@example.com", "user2@example.com"]


async def test_what_fastapi_could_not_send_waits_for_the_next_start(
    settings: None, sink: Sink
) -> None:
    async def are_sent() -> bool:
        return len(sink.arrivals) == 30

    async with fastapi_client() as client:
        for number in range(35):  # 30 a minute may go
            order = {"number": number, "email": f"user{number}@example.com"}
            await client.post("/orders", json=order)
        await until(are_sent)
    async with fastapi_client() as client:  # it stopped at once, though 5 messages wait
        states = [(await client.get(f"/messages/{each}")).json()["state"] for each in range(1, 36)]
    assert (states.count("sent"), states.count("queued")) == (30, 5)
    assert len(sink.arrivals) == 30


def test_flask_puts_and_its_command_sends(settings: None, sink: Sink) -> None:
    flask_app = pytest.importorskip("examples.flask_app")
    client = flask_app.create_app().test_client()
    for number in (1, 2, 1):
        response = client.post(
            "/orders", data={"number": number, "email": f"user{number}@example.com"}
        )
        assert (response.status_code, response.json["state"]) == (202, "queued")
    bad = client.post("/orders", data={"number": 3, "email": "a@b.example\nBcc: c@d.example"})
    assert bad.status_code == 422
    assert sink.arrivals == []

    command = [sys.executable, "-m", "flask", "--app", "examples.flask_app", "send-mail"]
    subprocess.run([*command, "--until-empty"], check=True, timeout=100)
    assert sorted(recipients(sink)) == ["user1@example.com", "user2@example.com"]
    assert client.get("/messages/1").json["state"] == "sent"
    assert client.get("/messages/3").status_code == 404

    client.post("/orders", data={"number": 4, "email": "user4@example.com"})
    with subprocess.Popen(command) as process:
        wait_until(lambda: len(sink.arrivals) == 3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(100) == 0


async def test_a_hundred_tasks_of_asyncio_keep_to_the_limit(
    server: SMTPServerThread, sink: Sink
) -> None:
    pytest.importorskip("aiosmtplib")
    example: Any = importlib.import_module("examples.asyncio_newsletter")
    limiter = AsyncLimiter(Policy(name="test", limits=[MessageRateLimit("50/5 seconds")]))
    addresses = [f"user{number}@example.com" for number in range(100)]
    sent = await example.send_all(limiter, "127.0.0.1", server.port, addresses)
    assert sent == addresses
    assert sorted(recipients(sink)) == sorted(addresses)
    moments = sorted(each.moment for each in sink.arrivals)
    assert all(moments[i + 50] - moments[i] >= 4999 for i in range(50))


async def test_tasks_of_asyncio_that_wait_end_and_those_that_send_finish(
    server: SMTPServerThread, sink: Sink
) -> None:
    pytest.importorskip("aiosmtplib")
    example: Any = importlib.import_module("examples.asyncio_newsletter")
    limiter = AsyncLimiter(Policy(name="test", limits=[MessageRateLimit("10/hour")]))
    addresses = [f"user{number}@example.com" for number in range(30)]
    sending = asyncio.create_task(example.send_all(limiter, "127.0.0.1", server.port, addresses))
    while not sink.arrivals:
        await asyncio.sleep(0.001)
    sending.cancel()
    sent = await sending
    assert sorted(sent) == sorted(recipients(sink))
    [usage] = await limiter.usage("news@example.org")
    assert usage.used == len(sent)
    assert usage.resets_in <= 3600  # no place is booked any more


def test_the_newsletter_is_a_program(settings: None, sink: Sink, server: SMTPServerThread) -> None:
    pytest.importorskip("aiosmtplib")
    program = ROOT / "examples" / "asyncio_newsletter.py"
    command = [sys.executable, str(program), f"smtp://127.0.0.1:{server.port}", "ann@example.org"]
    result = subprocess.run(command, check=True, capture_output=True, text=True, timeout=100)
    assert result.stdout == "ann@example.org\n"
    assert recipients(sink) == ["ann@example.org"]


def test_the_examples_are_named_in_their_readme() -> None:
    text = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\w+\.(?:py|toml)", text))
    files = {each.name for each in (ROOT / "examples").iterdir() if each.suffix in (".py", ".toml")}
    assert files <= named
