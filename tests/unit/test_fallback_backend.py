"""`on_backend_error`: what a limiter answers while its backend is away."""

from __future__ import annotations

from typing import Any

import pytest
from rlm_testkit.builders import campus_policy, envelope_to
from rlm_testkit.outages import (
    OUTAGE_POLICY,
    UNREACHABLE,
    InterruptibleBackend,
    LimiterInOutage,
    fallback_for,
    log_lines,
    sync_and_async,
)

from ratelimit_mail import (
    Action,
    AsyncLimiter,
    Limiter,
    MessageRateLimit,
    Policy,
    RateLimitExceeded,
    RecipientLimit,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.backends.adapters import InlineAdapter
from ratelimit_mail.exceptions import BackendError, BackendUnavailable
from ratelimit_mail.testing import BruteForceBackend, ManualClock

EXTERNAL = envelope_to(["b@x.org"])
TOO_LARGE = envelope_to(21)

BROKEN = BackendError("another program's value")


# What each choice answers.


@sync_and_async
def test_raise_raises_and_says_when_the_backend_was_not_tried(mode: str) -> None:
    limiter = LimiterInOutage(mode)
    limiter.take_backend_away()
    with pytest.raises(BackendUnavailable) as caught:
        limiter.try_acquire(EXTERNAL)
    assert caught.value is UNREACHABLE
    for method in (limiter.try_acquire, limiter.check, limiter.acquire, limiter.reserve):
        with pytest.raises(BackendUnavailable, match=r"the server is away \(not tried again"):
            method(EXTERNAL)
    with pytest.raises(BackendUnavailable):
        limiter.try_acquire_many([EXTERNAL])


@sync_and_async
def test_allow_accepts_and_charges_nothing(mode: str) -> None:
    limiter = LimiterInOutage(mode, "allow")
    limiter.take_backend_away()
    for _ in range(2):  # the backend is tried in vain, and then not tried
        for decision in (
            limiter.try_acquire(EXTERNAL),
            limiter.check(EXTERNAL),
            limiter.acquire(EXTERNAL),
        ):
            assert (decision.action, decision.degraded) == (Action.ACCEPT, True)
            assert (decision.limit, decision.retry_after) == (None, 0)
            assert str(decision.reply) == "250 2.0.0 OK"
        reservation = limiter.reserve(EXTERNAL, max_delay=0)
        assert reservation.delay == 0
        assert reservation.decision.degraded
        assert [each.degraded for each in limiter.try_acquire_many([EXTERNAL] * 9)] == [True] * 9
    assert limiter.slept == []
    limiter.bring_backend_back()
    limiter.seconds += 1
    assert limiter.usage("ann@uwo.ca")[0].used == 0


@sync_and_async
def test_a_message_that_was_allowed_is_refunded_without_a_call(mode: str) -> None:
    limiter = LimiterInOutage(mode, "allow")
    limiter.take_backend_away()
    decision = limiter.try_acquire(EXTERNAL)
    limiter.count_calls()
    limiter.seconds += 1
    limiter.refund(decision)
    assert limiter.count_calls() == 0
    with pytest.raises(ValueError, match="refunded or cancelled already"):
        limiter.refund(decision)


@sync_and_async
def test_deny_defers_until_the_backend_is_tried_again(mode: str) -> None:
    limiter = LimiterInOutage(mode, "deny")
    limiter.take_backend_away()
    for wait in (0.05, 0.1, 0.2, 0.4, 0.5, 0.5):
        decision = limiter.try_acquire(EXTERNAL)
        assert (decision.action, decision.degraded) == (Action.DEFER, True)
        assert decision.limit is None
        assert decision.retry_after == pytest.approx(wait, abs=0.002)
        limiter.seconds += wait / 2
        assert limiter.check(EXTERNAL).retry_after == pytest.approx(max(wait / 2, 0.05), abs=0.002)
        limiter.seconds += wait / 2 + 0.001
    (denied,) = limiter.try_acquire_many([EXTERNAL])
    assert str(denied.reply) == "451 4.3.0 Sending limits cannot be checked now. Try again later."
    with pytest.raises(ValueError, match="nothing to refund"):
        limiter.refund(denied)


@sync_and_async
@pytest.mark.parametrize("method", ["acquire", "reserve"])
def test_deny_raises_at_once_instead_of_waiting(mode: str, method: str) -> None:
    limiter = LimiterInOutage(mode, "deny")
    limiter.take_backend_away()
    with pytest.raises(RateLimitExceeded, match=r"the backend is away; it fits in 0\.05") as caught:
        getattr(limiter, method)(EXTERNAL)
    assert caught.value.decision.degraded
    assert limiter.slept == []


@sync_and_async
@pytest.mark.parametrize("on_backend_error", ["allow", "deny", "memory"])
def test_a_message_that_never_fits_is_rejected_all_the_same(
    mode: str, on_backend_error: str
) -> None:
    limiter = LimiterInOutage(mode, fallback_for(on_backend_error))
    limiter.take_backend_away()
    for _ in range(2):
        decision = limiter.try_acquire(TOO_LARGE)
        assert (decision.action, decision.limit) == (Action.REJECT, RecipientLimit(20))
        with pytest.raises(RateLimitExceeded, match="it can never go"):
            limiter.acquire(TOO_LARGE)


@sync_and_async
def test_the_decision_on_a_message_with_nothing_to_count_is_not_degraded(mode: str) -> None:
    policy = campus_policy(MessageRateLimit("1/day", count="external"))
    limiter = LimiterInOutage(mode, "deny", policy)
    limiter.take_backend_away()
    internal = envelope_to(["b@uwo.ca"])
    batch = limiter.try_acquire_many([internal, EXTERNAL, internal])
    assert [each.degraded for each in batch] == [False, True, False]
    assert [each.allowed for each in batch] == [True, False, True]


# What only the backend can answer, and errors that are not an outage.


@sync_and_async
@pytest.mark.parametrize("on_backend_error", ["raise", "allow", "deny", "memory"])
def test_usage_and_reset_raise_whatever_is_configured(mode: str, on_backend_error: str) -> None:
    limiter = LimiterInOutage(mode, fallback_for(on_backend_error))
    limiter.take_backend_away()
    for method in (limiter.usage, limiter.reset):
        for pause in (0, 1):
            limiter.seconds += pause
            with pytest.raises(BackendUnavailable):
                method("ann@uwo.ca")


@sync_and_async
@pytest.mark.parametrize("on_backend_error", ["raise", "allow", "deny", "memory"])
def test_an_error_that_is_not_an_outage_is_always_raised(mode: str, on_backend_error: str) -> None:
    limiter = LimiterInOutage(mode, fallback_for(on_backend_error))
    limiter.take_backend_away(BROKEN)
    for _ in range(3):
        with pytest.raises(BackendError) as caught:
            limiter.try_acquire(EXTERNAL)
        assert caught.value is BROKEN
    assert limiter.backend.calls.count("apply") == 3  # each call tries: it is not an outage
    with pytest.raises(BackendError):
        limiter.try_acquire_many([EXTERNAL])


# Refunds and broken-off waits.


@sync_and_async
def test_a_refund_that_failed_can_be_repeated(mode: str) -> None:
    limiter = LimiterInOutage(mode)
    decision = limiter.try_acquire(EXTERNAL)
    limiter.take_backend_away()
    with pytest.raises(BackendUnavailable):
        limiter.check(EXTERNAL)
    for _ in range(2):
        with pytest.raises(BackendUnavailable):
            limiter.refund(decision)
    limiter.bring_backend_back()
    limiter.seconds += 1
    limiter.refund(decision)
    assert limiter.usage("ann@uwo.ca")[0].used == 0


@sync_and_async
@pytest.mark.parametrize("on_backend_error", ["allow", "deny", "memory"])
def test_a_lost_refund_is_logged(
    mode: str, on_backend_error: str, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = LimiterInOutage(mode, fallback_for(on_backend_error))
    decision = limiter.try_acquire(EXTERNAL)
    limiter.take_backend_away()
    limiter.refund(decision)
    (lost,) = (line for line in log_lines(caplog) if line[1].startswith("a refund is lost"))
    assert lost[0] == "WARNING"
    limiter.bring_backend_back()
    limiter.seconds += 1
    assert limiter.usage("ann@uwo.ca")[0].used == 1


def test_a_wait_interrupted_during_an_outage_raises_the_interruption(
    caplog: pytest.LogCaptureFixture,
) -> None:
    backend = InterruptibleBackend(ManualClock())

    def sleep(_: float) -> None:
        backend.error = UNREACHABLE
        raise KeyboardInterrupt

    limiter = Limiter(
        Policy(name="test", limits=[MessageRateLimit("1/minute")]), backend, sleep=sleep
    )
    assert limiter.acquire(EXTERNAL)
    with pytest.raises(KeyboardInterrupt):
        limiter.acquire(EXTERNAL)
    warning = "a wait that was broken off stays counted: the server is away"
    assert ("WARNING", warning) in log_lines(caplog)


# Arguments.


@pytest.mark.parametrize(
    "on_backend_error", ["ignore", "", "Raise", None, 5, ["allow"], MemoryBackend]
)
@pytest.mark.parametrize("limiter_class", [Limiter, AsyncLimiter])
def test_an_invalid_on_backend_error_raises(limiter_class: Any, on_backend_error: Any) -> None:
    with pytest.raises(
        TypeError,
        match=r"on_backend_error: .* is neither 'raise', 'allow' or 'deny', nor a backend",
    ):
        limiter_class(OUTAGE_POLICY, on_backend_error=on_backend_error)


def test_a_sync_limiter_refuses_an_async_fallback_and_the_other_way_round() -> None:
    clock = ManualClock()
    with pytest.raises(TypeError, match=r"on_backend_error: .* must be awaited: use AsyncLimiter"):
        Limiter(
            OUTAGE_POLICY,
            on_backend_error=InlineAdapter(MemoryBackend(clock)),  # type: ignore[arg-type]
        )
    with pytest.raises(TypeError, match=r"on_backend_error: .* would block the event loop"):
        AsyncLimiter(
            OUTAGE_POLICY,
            on_backend_error=BruteForceBackend(clock),  # type: ignore[arg-type]
        )


@pytest.mark.parametrize("limiter_class", [Limiter, AsyncLimiter])
def test_a_memory_backend_is_a_fallback_for_both_limiters(limiter_class: Any) -> None:
    assert limiter_class(OUTAGE_POLICY, on_backend_error=MemoryBackend())
