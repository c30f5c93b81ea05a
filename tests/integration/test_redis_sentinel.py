"""Backends under Sentinel: connections are closed, and a late answer is not read."""

from __future__ import annotations

import asyncio
import threading

import pytest
from rlm_testkit.faults import PER_DAY_100, limiter_kind, once_available, script_proxy
from rlm_testkit.load import ENVELOPE, SENDER, AnyLimiter, one_limit_policy, used_on_server
from rlm_testkit.proxy import Proxy
from rlm_testkit.redis_backends import KINDS, unique_prefix
from rlm_testkit.servers import SentinelSet, Server, valkey, wait_until

from ratelimit_mail import AsyncLimiter
from ratelimit_mail.backends import AsyncRedisBackend
from ratelimit_mail.exceptions import BackendUnavailable

kind = pytest.fixture(limiter_kind, params=KINDS)
prefix = pytest.fixture(unique_prefix)
proxy = pytest.fixture(script_proxy)

TIMEOUT = 2.0


async def test_a_closed_backend_leaves_no_connection_to_a_sentinel_open(
    sentinels: SentinelSet, prefix: str
) -> None:
    proxy = Proxy(sentinels.sentinels[0].port)
    url = f"redis+sentinel://127.0.0.1:{proxy.port}/{sentinels.SERVICE}"
    backend = AsyncRedisBackend.from_url(url, prefix=prefix, timeout=30)
    assert await AsyncLimiter(PER_DAY_100, backend).try_acquire(ENVELOPE)
    await backend.aclose()
    try:
        await asyncio.to_thread(wait_until, lambda: not proxy.open)
    finally:
        proxy.close()


def test_a_late_answer_is_not_read_as_that_to_the_next_call(
    kind: str, server: Server, proxy: Proxy, prefix: str
) -> None:
    """Under Sentinel, redis-py leaves it to its caller to close such a connection."""
    sentinel = Server(valkey(), sentinel=f"sentinel monitor mail 127.0.0.1 {proxy.port} 1\n")
    url = f"redis+sentinel://127.0.0.1:{sentinel.port}/mail"
    policy = one_limit_policy(1_000_000)
    limiter = AnyLimiter(kind, url, policy, prefix=prefix, backend={"timeout": TIMEOUT})
    try:
        assert once_available(lambda: limiter.try_acquire(ENVELOPE))
        used = used_on_server(server.url, policy, prefix)
        proxy.answers_withheld.set()
        with pytest.raises(BackendUnavailable):
            limiter.try_acquire(ENVELOPE)
        before = proxy.requests + proxy.connections

        def answer_late() -> None:
            wait_until(lambda: proxy.requests + proxy.connections > before)
            proxy.answers_withheld.clear()

        thread = threading.Thread(target=answer_late)
        thread.start()
        # Another limiter, which has seen no outage.
        (usage,) = limiter.wait(type(limiter.limiter)(policy, limiter.backend).usage(SENDER))
        thread.join()
        assert usage.used == used + 1
    finally:
        limiter.close()
        sentinel.stop()
