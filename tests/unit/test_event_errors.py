"""The event detector survives failing backends, and rejects invalid options."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from rlm_testkit.event_scene import CountingBackend, EventScene

from ratelimit_mail import AsyncLimiter, Envelope, Limiter, MessageRateLimit, Policy, RecipientLimit
from ratelimit_mail._util.steps import run_async
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.backends.adapters import InlineAdapter
from ratelimit_mail.backends.base import Reading
from ratelimit_mail.counting.charge import Ledger
from ratelimit_mail.exceptions import BackendUnavailable
from ratelimit_mail.testing import ManualClock

MINUTE = MessageRateLimit("5/minute")


class BrokenBackend(CountingBackend):
    """A backend whose counts cannot be read."""

    error: Exception = BackendUnavailable("no connection")

    def usage(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        self.reads += 1
        raise self.error


def test_a_failing_backend_does_no_harm_and_is_not_read_each_time() -> None:
    clock = ManualClock(0)
    scene = EventScene(MessageRateLimit("50/day"), backend=BrokenBackend(clock))
    for _ in range(49):
        scene.send()
    assert scene.backend.reads == 1
    clock.advance(10)
    scene.send()
    assert scene.backend.reads == 2
    for _ in range(50):
        scene.send()
    assert scene.new_kinds() == ["FirstDenial", "BurstAfterDenial"]


def test_an_unexpected_error_is_logged_once_and_not_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = ManualClock(0)
    backend = BrokenBackend(clock)
    backend.error = ZeroDivisionError("\n\x1b")
    scene = EventScene(MessageRateLimit("2/day"), backend=backend)
    for _ in range(3):
        scene.send()
    [line] = [record.getMessage() for record in caplog.records]
    assert line.isprintable()
    assert line.startswith("events are lost: ZeroDivisionError: ")


def test_a_time_beyond_the_calendar_raises_nothing(caplog: pytest.LogCaptureFixture) -> None:
    scene = EventScene(RecipientLimit(1))
    scene.clock.set(10**18)
    scene.send(recipients=2)
    with caplog.at_level(logging.WARNING):
        assert scene.new_kinds() == []
    assert "events are lost: OverflowError" in caplog.text


async def test_an_async_backend_is_awaited() -> None:
    scene = EventScene(MessageRateLimit("5/day"))
    envelope = Envelope("ann@uwo.ca", ["bob@example.com"])
    plan = scene.policy.plan(envelope)
    for _ in range(6):
        decision = scene.limiter.try_acquire(envelope)
        await run_async(
            scene.detector.observe_steps(InlineAdapter(scene.backend), envelope, plan, decision, 0)
        )
    assert scene.new_kinds() == ["NearLimit", "FirstDenial"]


class UnreadableBackend(InlineAdapter):
    """A backend whose counts take forever to be read."""

    def __init__(self, backend: MemoryBackend) -> None:
        super().__init__(backend)
        self.reading = asyncio.Event()

    async def usage(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        self.reading.set()
        await asyncio.Event().wait()
        raise AssertionError


async def test_a_wait_cancelled_while_counts_are_read_refunds_its_reservation() -> None:
    memory = MemoryBackend(ManualClock())
    backend = UnreadableBackend(memory)
    policy = Policy(name="campus", limits=[MessageRateLimit("10/day")])
    limiter = AsyncLimiter(policy, backend, on_event=lambda _: None)
    waiting = asyncio.create_task(limiter.acquire(Envelope("ann@uwo.ca", ["bob@example.com"])))
    await backend.reading.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert Limiter(policy, memory).usage("ann@uwo.ca")[0].used == 0


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"near": 0}, "near: 0 is not above 0 and at most 1"),
        ({"near": 1.01}, "near: 1.01 is not above 0 and at most 1"),
        ({"near": float("nan")}, "near: nan is not above 0"),
        ({"near": "80%"}, "near: a number is needed, not '80%'"),
        ({"burst": 0}, "burst: 0 is not above 0"),
        ({"burst": 1.5}, "burst: a whole number is needed, not 1.5"),
        ({"burst": 10**9}, "burst: 1000000000 is not above 0 and at most 1000"),
        ({"burst_seconds": 0}, "burst_seconds: 0 is not above 0"),
        ({"burst_seconds": float("inf")}, "burst_seconds: inf is not above 0 and at most 86400"),
        ({"most_subjects": True}, "most_subjects: a whole number is needed, not True"),
    ],
)
def test_an_invalid_option_raises_an_error(options: dict[str, Any], error: str) -> None:
    with pytest.raises((TypeError, ValueError)) as raised:
        EventScene(MINUTE, **options)
    assert str(raised.value).startswith(error)
