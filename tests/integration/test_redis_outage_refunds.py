"""Refunds and waits that an outage interrupts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from rlm_testkit.faults import (
    BACKEND_ERROR_POLICIES,
    PER_DAY_100,
    MakeLimiter,
    limiter_factory,
    limiter_kind,
    on_backend_error,
    once_available,
    script_proxy,
)
from rlm_testkit.load import ENVELOPE, SENDER, one_limit_policy, used_on_server
from rlm_testkit.proxy import Proxy
from rlm_testkit.redis_backends import KINDS, unique_prefix
from rlm_testkit.servers import Server

from ratelimit_mail.exceptions import BackendUnavailable

kind = pytest.fixture(limiter_kind, params=KINDS)
prefix = pytest.fixture(unique_prefix)
proxy = pytest.fixture(script_proxy)
make_limiter = pytest.fixture(limiter_factory)


def test_a_refund_during_an_outage_that_raises_can_be_repeated(
    make_limiter: MakeLimiter, proxy: Proxy, server: Server, prefix: str
) -> None:
    limiter = make_limiter()
    decision = limiter.try_acquire(ENVELOPE)
    with proxy.away():
        with pytest.raises(BackendUnavailable):
            limiter.check(ENVELOPE)
        for _ in range(3):
            with pytest.raises(BackendUnavailable):
                limiter.refund(decision)
    assert used_on_server(server.url, PER_DAY_100, prefix) == 1
    once_available(lambda: limiter.refund(decision))
    assert used_on_server(server.url, PER_DAY_100, prefix) == 0
    with pytest.raises(ValueError, match="refunded"):
        limiter.refund(decision)


@pytest.mark.parametrize("policy", ["allow", "deny", "fallback"])
def test_a_refund_during_an_outage_that_does_not_raise_is_lost_with_a_warning(
    make_limiter: MakeLimiter,
    proxy: Proxy,
    server: Server,
    prefix: str,
    policy: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    limiter = make_limiter(on_backend_error=on_backend_error(policy))
    decision = limiter.try_acquire(ENVELOPE)
    with proxy.away():
        limiter.refund(decision)
    assert "a refund is lost" in caplog.text
    assert used_on_server(server.url, PER_DAY_100, prefix) == 1
    with pytest.raises(ValueError, match="refunded"):
        limiter.refund(decision)


def sleep_of_kind(kind: str, sleep: Callable[[float], object]) -> Any:
    """Return the argument `sleep` for a sync or async limiter."""

    async def sleep_async(seconds: float) -> None:
        sleep(seconds)

    return sleep_async if kind == "async" else sleep


@pytest.mark.parametrize("policy", BACKEND_ERROR_POLICIES)
def test_a_call_that_already_waits_is_not_delayed_by_an_outage(
    make_limiter: MakeLimiter, kind: str, proxy: Proxy, policy: str
) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        proxy.leave()

    limiter = make_limiter(
        one_limit_policy(1),
        on_backend_error=on_backend_error(policy),
        sleep=sleep_of_kind(kind, sleep),
    )
    assert limiter.acquire(ENVELOPE)
    decision = limiter.acquire(ENVELOPE)
    assert decision
    assert not decision.degraded
    assert len(slept) == 1


class Interrupted(Exception):
    """Ends a wait."""


@pytest.mark.parametrize("policy", BACKEND_ERROR_POLICIES)
def test_the_error_that_ends_a_wait_is_not_replaced_by_the_outage(
    make_limiter: MakeLimiter,
    kind: str,
    proxy: Proxy,
    policy: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def sleep(_: float) -> None:
        proxy.leave()
        raise Interrupted

    limiter = make_limiter(
        one_limit_policy(1),
        on_backend_error=on_backend_error(policy),
        sleep=sleep_of_kind(kind, sleep),
    )
    assert limiter.acquire(ENVELOPE)
    with pytest.raises(Interrupted):
        limiter.acquire(ENVELOPE)
    assert "stays counted" in caplog.text
    proxy.come_back()
    once_available(lambda: limiter.usage(SENDER))
    assert limiter.reserve(ENVELOPE).delay > 24 * 3600, "the booking still counts"
