"""Fallbacks that share a limit, and messages that need no server, while the server is away."""

from __future__ import annotations

from typing import Any

import pytest
from rlm_testkit.builders import envelope_to
from rlm_testkit.faults import (
    BACKEND_ERROR_POLICIES,
    MakeLimiter,
    limiter_factory,
    limiter_kind,
    on_backend_error,
    once_available,
    script_proxy,
    try_acquire_undegraded,
)
from rlm_testkit.load import ENVELOPE, SENDER, one_limit_policy
from rlm_testkit.proxy import Proxy
from rlm_testkit.redis_backends import KINDS, unique_prefix

from ratelimit_mail import (
    Action,
    Envelope,
    MessageRateLimit,
    Policy,
    RateLimitExceeded,
    RecipientLimit,
    RecipientRateLimit,
)
from ratelimit_mail.backends import MemoryBackend

kind = pytest.fixture(limiter_kind, params=KINDS)
prefix = pytest.fixture(unique_prefix)
proxy = pytest.fixture(script_proxy)
make_limiter = pytest.fixture(limiter_factory)


@pytest.mark.parametrize(("limit", "together"), [(80, 80), (30, 24), (8, 8), (7, 0)])
def test_eight_nodes_with_an_eighth_each_stay_within_the_limit_together(
    make_limiter: MakeLimiter, proxy: Proxy, limit: int, together: int
) -> None:
    nodes = [
        make_limiter(
            one_limit_policy(limit), on_backend_error=MemoryBackend(), fallback_share=1 / 8
        )
        for _ in range(8)
    ]
    with proxy.away():
        answers = [node.try_acquire(ENVELOPE) for _ in range(12) for node in nodes]
    assert all(decision.degraded for decision in answers)
    assert sum(decision.allowed for decision in answers) == together <= limit


def test_unique_recipients_count_once_while_the_server_is_away_too(
    make_limiter: MakeLimiter, proxy: Proxy
) -> None:
    policy = Policy(name="test", limits=[RecipientRateLimit("8/hour", unique=True)])
    limiter = make_limiter(policy, on_backend_error=MemoryBackend(), fallback_share=1 / 2)
    names = [f"user{number}@example.com" for number in range(9)]
    assert limiter.try_acquire(Envelope(SENDER, names[:4]))
    with proxy.away():
        for _ in range(3):
            decision = limiter.try_acquire(Envelope(SENDER, names[:4]))
            assert decision
            assert decision.degraded
        assert not limiter.try_acquire(Envelope(SENDER, names[4:5]))
        limiter.refund(decision)
        assert not limiter.try_acquire(Envelope(SENDER, names[4:5]))
    once_available(lambda: try_acquire_undegraded(limiter, Envelope(SENDER, names[:4])))
    assert limiter.usage(SENDER)[0].used == 4
    assert limiter.try_acquire(Envelope(SENDER, names[4:8]))
    assert not limiter.try_acquire(Envelope(SENDER, names[8:]))


@pytest.mark.parametrize("on_excess", ["defer", "reject"])
def test_a_message_larger_than_the_share_is_deferred_and_not_rejected(
    make_limiter: MakeLimiter, proxy: Proxy, on_excess: Any
) -> None:
    policy = Policy(name="test", limits=[RecipientRateLimit("80/hour", on_excess=on_excess)])
    limiter = make_limiter(policy, on_backend_error=MemoryBackend(), fallback_share=1 / 8)
    with proxy.away():
        assert limiter.try_acquire(envelope_to(10, SENDER))
        assert limiter.try_acquire(envelope_to(1, SENDER)).limit == policy.limits[0]
        decision = limiter.try_acquire(envelope_to(11, SENDER))
        assert decision.action is Action.DEFER
        assert decision.retry_after is not None
        assert decision.degraded
        assert decision.reply.code == 451
        with pytest.raises(RateLimitExceeded, match=r"451 4\.3\.0"):
            limiter.acquire(envelope_to(11, SENDER))
        never = limiter.try_acquire(envelope_to(81, SENDER))
        assert never.action is Action.REJECT
        assert never.retry_after is None
    assert once_available(lambda: try_acquire_undegraded(limiter, envelope_to(11, SENDER)))


@pytest.mark.parametrize("policy", BACKEND_ERROR_POLICIES)
def test_a_recipient_limit_needs_no_server_and_is_not_shared(
    make_limiter: MakeLimiter, proxy: Proxy, policy: str
) -> None:
    limits = [RecipientLimit(20), MessageRateLimit("80/hour")]
    limiter = make_limiter(
        Policy(name="test", limits=limits),
        on_backend_error=on_backend_error(policy),
        fallback_share=1 / 8,
    )
    with proxy.away():
        rejected = limiter.try_acquire(envelope_to(21, SENDER))
        assert rejected.action is Action.REJECT
        assert rejected.limit == limits[0]
        assert rejected.reply.code == 550
        assert not rejected.degraded
        if policy == "fallback":
            assert limiter.try_acquire(envelope_to(20, SENDER))


@pytest.mark.parametrize("policy", BACKEND_ERROR_POLICIES)
def test_a_message_with_nothing_to_count_needs_no_server(
    make_limiter: MakeLimiter, proxy: Proxy, policy: str
) -> None:
    limits = [RecipientRateLimit("80/hour", count="external")]
    campus = Policy(name="test", internal_domains=["uwo.ca"], limits=limits)
    limiter = make_limiter(campus, on_backend_error=on_backend_error(policy))
    with proxy.away():
        for call in (limiter.try_acquire, limiter.acquire, limiter.check):
            decision = call(Envelope(SENDER, ["eve@uwo.ca"]))
            assert decision
            assert not decision.degraded
    assert limiter.counter.calls == 0
