"""`on_backend_error` with another backend: it counts a share of each limit during an outage."""

from __future__ import annotations

import asyncio

import pytest
from rlm_testkit.builders import envelope_to
from rlm_testkit.outages import (
    AsyncInterruptibleBackend,
    InterruptibleBackend,
    LimiterInOutage,
    fallback_for,
    sync_and_async,
)

from ratelimit_mail import Action, MessageRateLimit, RateLimitExceeded
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.exceptions import BackendUnavailable
from ratelimit_mail.testing import ManualClock

EXTERNAL = envelope_to(["b@x.org"])


@sync_and_async
def test_the_fallback_counts_its_share_of_each_limit(mode: str) -> None:
    limiter = LimiterInOutage(mode, fallback_for("memory"), fallback_share=1 / 4)
    limiter.take_backend_away()
    decisions = [limiter.try_acquire(EXTERNAL) for _ in range(4)]
    assert [each.allowed for each in decisions] == [True, True, False, False]
    assert all(each.degraded for each in decisions)
    refused = decisions[-1]
    assert refused.limit == MessageRateLimit("8/minute")  # the whole limit, not its share
    assert refused.retry_after == 60
    assert "rate limit exceeded" in str(refused.reply)
    # The backend itself has not counted them.
    limiter.bring_backend_back()
    limiter.seconds += 1
    assert not limiter.try_acquire(EXTERNAL).degraded
    assert limiter.usage("ann@uwo.ca")[0].used == 1


@sync_and_async
def test_a_message_larger_than_the_share_is_deferred(mode: str) -> None:
    limiter = LimiterInOutage(mode, fallback_for("memory"), fallback_share=1 / 8)
    limiter.take_backend_away()
    decision = limiter.try_acquire(envelope_to(6))  # an eighth of 40 recipients is 5
    assert (decision.action, decision.degraded) == (Action.DEFER, True)
    assert decision.limit is None
    assert 0 < decision.retry_after <= 0.5
    assert limiter.try_acquire(EXTERNAL)


@sync_and_async
def test_a_refund_goes_to_the_backend_that_was_charged(mode: str) -> None:
    limiter = LimiterInOutage(mode, fallback_for("memory"), fallback_share=1 / 8)
    before_outage = limiter.try_acquire(EXTERNAL)
    limiter.take_backend_away()
    in_fallback = limiter.try_acquire(EXTERNAL)
    assert not limiter.try_acquire(EXTERNAL)
    limiter.refund(in_fallback)
    assert limiter.try_acquire(EXTERNAL)
    limiter.bring_backend_back()
    limiter.seconds += 1
    limiter.refund(before_outage)
    assert limiter.usage("ann@uwo.ca")[0].used == 0


@sync_and_async
def test_a_charge_of_the_fallback_is_refunded_there_also_after_the_outage(mode: str) -> None:
    limiter = LimiterInOutage(mode, fallback_for("memory"), fallback_share=1 / 8)
    limiter.take_backend_away()
    in_fallback = limiter.try_acquire(EXTERNAL)
    limiter.bring_backend_back()
    limiter.seconds += 1
    assert not limiter.try_acquire(EXTERNAL).degraded
    limiter.refund(in_fallback)
    assert limiter.usage("ann@uwo.ca")[0].used == 1
    limiter.take_backend_away()
    assert limiter.try_acquire(EXTERNAL)


@sync_and_async
def test_bookings_and_waits_go_on_in_the_fallback(mode: str) -> None:
    clock = ManualClock()
    limiter = LimiterInOutage(mode, MemoryBackend(clock), fallback_share=1 / 8)
    limiter.on_sleep = clock.advance
    limiter.take_backend_away()
    assert limiter.acquire(EXTERNAL).degraded
    assert limiter.acquire(EXTERNAL).degraded
    assert limiter.slept == [60]
    reservation = limiter.reserve(EXTERNAL)
    assert reservation.delay == 60
    if mode == "sync":
        reservation.cancel()
    else:
        asyncio.run(reservation.cancel())
    assert limiter.reserve(EXTERNAL).delay == 60
    with pytest.raises(RateLimitExceeded) as caught:
        limiter.reserve(EXTERNAL, max_delay=5)
    assert caught.value.decision.degraded
    assert caught.value.decision.limit == MessageRateLimit("8/minute")


@sync_and_async
def test_an_envelope_with_an_id_is_charged_once_in_the_fallback(mode: str) -> None:
    limiter = LimiterInOutage(mode, fallback_for("memory"), fallback_share=1 / 4)
    identified = envelope_to(["b@x.org"], id="job-1")
    limiter.take_backend_away()
    assert all(limiter.try_acquire(identified) for _ in range(5))
    assert limiter.try_acquire(EXTERNAL)
    assert not limiter.try_acquire(EXTERNAL)


@sync_and_async
def test_the_fallback_decides_a_batch_in_order(mode: str) -> None:
    limiter = LimiterInOutage(mode, fallback_for("memory"), fallback_share=1 / 4)
    limiter.take_backend_away()
    for expected in ([1, 1, 0], [0, 0, 0]):
        decisions = limiter.try_acquire_many([EXTERNAL] * 3)
        assert [bool(each) for each in decisions] == expected
        assert all(each.degraded for each in decisions)


@sync_and_async
def test_the_error_of_a_fallback_that_is_away_too_is_raised(mode: str) -> None:
    fallback = InterruptibleBackend(ManualClock())
    limiter = LimiterInOutage(
        mode, fallback if mode == "sync" else AsyncInterruptibleBackend(fallback)
    )
    limiter.take_backend_away()
    fallback.error = BackendUnavailable("the fallback is away too")
    with pytest.raises(BackendUnavailable, match="the fallback is away too"):
        limiter.try_acquire(EXTERNAL)
