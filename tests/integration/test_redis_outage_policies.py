"""What a limiter answers while its server is away: raise, allow, deny, or a fallback."""

from __future__ import annotations

import pytest
from rlm_testkit.faults import (
    BACKEND_ERROR_POLICIES,
    CALLS,
    PER_DAY_100,
    MakeLimiter,
    envelope_with_id,
    limiter_factory,
    limiter_kind,
    on_backend_error,
    once_available,
    script_proxy,
    try_acquire_undegraded,
)
from rlm_testkit.load import ENVELOPE, AnyLimiter, one_limit_policy, used_on_server
from rlm_testkit.proxy import Proxy
from rlm_testkit.redis_backends import KINDS, unique_prefix
from rlm_testkit.servers import Server

from ratelimit_mail import (
    Action,
    Envelope,
    RateLimitExceeded,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.exceptions import BackendUnavailable

kind = pytest.fixture(limiter_kind, params=KINDS)
prefix = pytest.fixture(unique_prefix)
proxy = pytest.fixture(script_proxy)
make_limiter = pytest.fixture(limiter_factory)


@pytest.mark.parametrize("method", CALLS)
def test_by_default_every_method_raises(
    make_limiter: MakeLimiter, proxy: Proxy, method: str
) -> None:
    limiter = make_limiter()
    with proxy.away():
        for _ in range(3):  # only the first call tries the server
            with pytest.raises(BackendUnavailable):
                CALLS[method](limiter)
    once_available(lambda: CALLS[method](limiter))


@pytest.mark.parametrize("policy", BACKEND_ERROR_POLICIES)
@pytest.mark.parametrize("method", ["usage", "reset"])
def test_usage_and_reset_raise_whatever_the_policy_says(
    make_limiter: MakeLimiter, proxy: Proxy, policy: str, method: str
) -> None:
    limiter = make_limiter(on_backend_error=on_backend_error(policy))
    with proxy.away():
        for _ in range(3):
            with pytest.raises(BackendUnavailable):
                CALLS[method](limiter)
    once_available(lambda: CALLS[method](limiter))


@pytest.mark.parametrize("method", ["try_acquire", "acquire", "check"])
def test_allow_accepts_every_message_as_degraded(
    make_limiter: MakeLimiter, proxy: Proxy, server: Server, prefix: str, method: str
) -> None:
    limiter = make_limiter(one_limit_policy(1), on_backend_error="allow")
    with proxy.away():
        for _ in range(5):
            decision = CALLS[method](limiter)
            assert decision
            assert decision.degraded
            assert str(decision.reply) == "250 2.0.0 OK"
        if method != "check":
            limiter.refund(decision)  # nothing was counted
            with pytest.raises(ValueError, match="refunded"):
                limiter.refund(decision)
    assert used_on_server(server.url, one_limit_policy(1), prefix) == 0


def test_allow_books_for_now_and_calls_a_decorated_function(
    make_limiter: MakeLimiter, proxy: Proxy
) -> None:
    limiter = make_limiter(one_limit_policy(1), on_backend_error="allow")
    sent: list[Envelope] = []
    with proxy.away():
        reservation = limiter.reserve(ENVELOPE, max_delay=0)
        assert reservation.delay == 0.0
        assert reservation.decision.degraded
        limiter.wait(reservation.cancel())
        for on_denied in ("wait", "raise", "skip"):
            limiter.limited(sent.append, on_denied=on_denied)(ENVELOPE)
        assert all(decision.degraded for decision in limiter.try_acquire_many([ENVELOPE] * 3))
    assert sent == [ENVELOPE] * 3


@pytest.mark.parametrize("method", ["try_acquire", "check"])
def test_deny_defers_every_message_as_degraded(
    make_limiter: MakeLimiter, proxy: Proxy, server: Server, prefix: str, method: str
) -> None:
    limiter = make_limiter(on_backend_error="deny")
    with proxy.away():
        for _ in range(5):
            decision = CALLS[method](limiter)
            assert decision.action is Action.DEFER
            assert decision.degraded
            assert decision.limit is None
            assert 0 < decision.retry_after < 1
            assert str(decision.reply).startswith("451 4.3.0 ")
            with pytest.raises(ValueError, match="refund"):
                limiter.refund(decision)
        many = limiter.try_acquire_many([ENVELOPE] * 3)
    assert [(bool(decision), decision.degraded) for decision in many] == [(False, True)] * 3
    assert used_on_server(server.url, PER_DAY_100, prefix) == 0


def test_with_deny_no_call_waits_for_the_server(make_limiter: MakeLimiter, proxy: Proxy) -> None:
    limiter = make_limiter(on_backend_error="deny")
    sent: list[Envelope] = []
    with proxy.away():
        for call in (
            limiter.acquire,
            limiter.reserve,
            limiter.limited(sent.append),
            limiter.limited(sent.append, on_denied="raise"),
        ):
            with pytest.raises(
                RateLimitExceeded, match=r"451 4\.3\.0 .*the backend is away"
            ) as caught:
                call(ENVELOPE)
            assert caught.value.decision.degraded
        skipped = limiter.limited(sent.append, on_denied="skip")(ENVELOPE)
        assert skipped.reply.code == 451
    assert not sent


def test_a_fallback_counts_during_the_outage(
    make_limiter: MakeLimiter, proxy: Proxy, server: Server, prefix: str
) -> None:
    limiter = make_limiter(one_limit_policy(3), on_backend_error=MemoryBackend())
    assert not limiter.try_acquire(ENVELOPE).degraded
    sent: list[Envelope] = []
    with proxy.away():
        limiter.limited(sent.append)(ENVELOPE)
        decision = limiter.acquire(ENVELOPE)
        assert decision.degraded
        assert limiter.check(ENVELOPE).degraded
        last = limiter.try_acquire(ENVELOPE)
        assert last
        refused = limiter.try_acquire(ENVELOPE)
        assert refused.degraded
        assert str(refused.reply).startswith("450 4.7.1 ")
        assert str(refused.limit) == str(one_limit_policy(3).limits[0])
        with pytest.raises(RateLimitExceeded):
            limiter.acquire(ENVELOPE, timeout=60)
        ahead = limiter.reserve(ENVELOPE)
        assert ahead.delay > 3600
        assert ahead.decision.degraded
        limiter.refund(last)
        assert [bool(each) for each in limiter.try_acquire_many([ENVELOPE] * 2)] == [True, False]
    assert sent == [ENVELOPE]
    assert used_on_server(server.url, one_limit_policy(3), prefix) == 1
    assert not once_available(lambda: try_acquire_undegraded(limiter, ENVELOPE)).degraded
    assert used_on_server(server.url, one_limit_policy(3), prefix) == 2
    limiter.refund(decision)  # in the fallback, where it was counted
    assert used_on_server(server.url, one_limit_policy(3), prefix) == 2


def test_a_fallback_remembers_ids(make_limiter: MakeLimiter, proxy: Proxy) -> None:
    limiter = make_limiter(one_limit_policy(2), on_backend_error=MemoryBackend())
    with proxy.away():
        answers = [limiter.try_acquire(envelope_with_id("job")) for _ in range(5)]
        assert all(answers)
        assert limiter.try_acquire(ENVELOPE)
        assert not limiter.try_acquire(ENVELOPE)


def test_the_fallback_can_be_another_server(
    make_limiter: MakeLimiter, kind: str, proxy: Proxy, server: Server
) -> None:
    other_prefix = unique_prefix()
    other = AnyLimiter(kind, server.url, PER_DAY_100, prefix=other_prefix, backend={"timeout": 30})
    limiter = make_limiter(on_backend_error=other.backend)
    with proxy.away():
        assert limiter.try_acquire(ENVELOPE).degraded
        assert used_on_server(server.url, PER_DAY_100, other_prefix) == 1
    limiter.wait(other.backend.aclose() if limiter.is_async else None)  # in this event loop too
    other.close()


def test_a_fallback_that_is_away_too_raises(make_limiter: MakeLimiter, proxy: Proxy) -> None:
    limiter = make_limiter(on_backend_error=make_limiter().backend)
    with proxy.away(), pytest.raises(BackendUnavailable):
        limiter.try_acquire(ENVELOPE)
