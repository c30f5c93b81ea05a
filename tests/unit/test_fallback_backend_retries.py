"""When a limiter tries a backend again that is away: seldom, and by one call at a time."""

from __future__ import annotations

import asyncio
import logging

import pytest
from rlm_testkit.builders import envelope_to
from rlm_testkit.outages import (
    UNREACHABLE,
    LimiterInOutage,
    fallback_for,
    log_lines,
    sync_and_async,
)

from ratelimit_mail import Decision
from ratelimit_mail.exceptions import BackendError, BackendUnavailable

EXTERNAL = envelope_to(["b@x.org"])

BROKEN = BackendError("another program's value")


@sync_and_async
@pytest.mark.parametrize("on_backend_error", ["raise", "allow", "deny", "memory"])
def test_a_backend_that_is_away_is_tried_at_growing_intervals(
    mode: str, on_backend_error: str
) -> None:
    limiter = LimiterInOutage(mode, fallback_for(on_backend_error))

    def try_once() -> None:
        try:
            limiter.try_acquire(EXTERNAL)
        except BackendUnavailable:
            assert on_backend_error == "raise"

    limiter.take_backend_away()
    try_once()
    assert limiter.count_calls() == 1
    for pause in (0.05, 0.1, 0.2, 0.4, 0.5, 0.5):
        limiter.seconds += pause - 0.001
        for _ in range(3):
            try_once()
        assert limiter.count_calls() == 0
        limiter.seconds += 0.002
        for _ in range(3):
            try_once()
        assert limiter.count_calls() == 1


@sync_and_async
def test_all_is_normal_as_soon_as_the_backend_answers(mode: str) -> None:
    limiter = LimiterInOutage(mode, "allow")
    limiter.take_backend_away()
    for _ in range(5):
        limiter.seconds += 1
        assert limiter.try_acquire(EXTERNAL).degraded
    limiter.bring_backend_back()
    assert limiter.try_acquire(EXTERNAL).degraded
    limiter.seconds += 0.51
    assert not limiter.try_acquire(EXTERNAL).degraded
    assert not limiter.try_acquire(EXTERNAL).degraded
    assert limiter.usage("ann@uwo.ca")[0].used == 2


@sync_and_async
def test_the_beginning_and_the_end_of_an_outage_are_logged_once(
    mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "ratelimit_mail")
    limiter = LimiterInOutage(mode, "allow")
    limiter.take_backend_away()
    for _ in range(4):
        limiter.try_acquire(EXTERNAL)
        limiter.seconds += 1
    limiter.bring_backend_back()
    limiter.try_acquire(EXTERNAL)
    limiter.try_acquire(EXTERNAL)
    (beginning, end) = log_lines(caplog)
    assert beginning[0] == "WARNING"
    assert str(UNREACHABLE) in beginning[1]
    assert end == ("INFO", "the backend is back")


@sync_and_async
def test_a_shard_that_is_away_does_not_affect_the_other_shards(mode: str) -> None:
    limiter = LimiterInOutage(mode, "allow")
    limiter.backend.shard_away = "ann@uwo.ca"
    limiter.take_backend_away()
    assert limiter.try_acquire(EXTERNAL).degraded
    for _ in range(3):
        assert not limiter.try_acquire(envelope_to(["b@x.org"], "bob@uwo.ca")).degraded


# Tries that end without an answer.


@sync_and_async
def test_after_a_try_that_raised_another_error_the_next_call_tries(mode: str) -> None:
    limiter = LimiterInOutage(mode, "allow")
    limiter.take_backend_away()
    limiter.try_acquire(EXTERNAL)
    limiter.seconds += 1
    limiter.take_backend_away(BROKEN)
    for _ in range(2):
        with pytest.raises(BackendError):
            limiter.try_acquire(EXTERNAL)
    limiter.bring_backend_back()
    assert not limiter.try_acquire(EXTERNAL).degraded


def test_after_a_try_that_was_interrupted_the_next_call_tries() -> None:
    limiter = LimiterInOutage("sync", "allow")
    limiter.take_backend_away()
    limiter.try_acquire(EXTERNAL)
    limiter.seconds += 1
    limiter.take_backend_away(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        limiter.try_acquire(EXTERNAL)
    limiter.bring_backend_back()
    assert not limiter.try_acquire(EXTERNAL).degraded


def limiter_on_silent_backend() -> LimiterInOutage:
    """Return a limiter whose backend was away, is due for a try, and now never answers."""
    limiter = LimiterInOutage("async", "allow")
    limiter.take_backend_away()
    limiter.try_acquire(EXTERNAL)
    limiter.bring_backend_back()
    limiter.seconds += 1
    limiter.count_calls()
    limiter.async_backend.is_silent = True
    return limiter


def test_one_task_at_a_time_tries_and_the_others_do_not_wait_for_it() -> None:
    outage = limiter_on_silent_backend()

    async def acquire_together() -> list[Decision]:
        trying = asyncio.create_task(outage.limiter.try_acquire(EXTERNAL))
        await asyncio.sleep(0)
        decisions = await asyncio.gather(*(outage.limiter.try_acquire(EXTERNAL) for _ in range(10)))
        assert not trying.done()
        trying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trying
        return decisions

    assert all(each.degraded for each in asyncio.run(acquire_together()))
    assert outage.count_calls() == 1


def test_after_a_try_that_was_cancelled_the_next_call_tries() -> None:
    outage = limiter_on_silent_backend()

    async def cancel_one() -> None:
        trying = asyncio.create_task(outage.limiter.try_acquire(EXTERNAL))
        await asyncio.sleep(0)
        trying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trying

    asyncio.run(cancel_one())
    outage.async_backend.is_silent = False
    assert not outage.try_acquire(EXTERNAL).degraded


def test_after_a_try_whose_coroutine_was_closed_the_next_call_tries() -> None:
    outage = limiter_on_silent_backend()

    async def close_one() -> None:
        trying = outage.limiter.try_acquire(EXTERNAL)
        trying.send(None)
        trying.close()

    asyncio.run(close_one())
    outage.async_backend.is_silent = False
    assert not outage.try_acquire(EXTERNAL).degraded
