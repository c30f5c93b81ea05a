"""A server that does not answer: each call ends after the timeout, and few calls wait for it."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest
from rlm_testkit.faults import (
    PER_DAY_100,
    RETRY_SECONDS,
    MakeLimiter,
    connect,
    limiter_factory,
    limiter_kind,
    once_available,
    script_proxy,
)
from rlm_testkit.load import ENVELOPE, Load, one_limit_policy, used_on_server
from rlm_testkit.proxy import Proxy
from rlm_testkit.redis_backends import KINDS, unique_prefix
from rlm_testkit.servers import Server, wait_until

from ratelimit_mail import AsyncLimiter
from ratelimit_mail.backends import AsyncRedisBackend
from ratelimit_mail.backends.redis.connections import MAX_CONNECTIONS
from ratelimit_mail.exceptions import BackendUnavailable

kind = pytest.fixture(limiter_kind, params=KINDS)
prefix = pytest.fixture(unique_prefix)
proxy = pytest.fixture(script_proxy)
make_limiter = pytest.fixture(limiter_factory)

TIMEOUT = 0.3
"""The timeout of the backends; a call before the stall may miss it on a slow machine."""

SLACK = 5
"""How many seconds later than the timeout a call may end; the proxy would stall for ever."""


def test_a_call_takes_no_longer_than_the_timeout(make_limiter: MakeLimiter, proxy: Proxy) -> None:
    limiter = make_limiter(timeout=TIMEOUT)
    once_available(lambda: limiter.try_acquire(ENVELOPE))
    proxy.stalled.set()
    start = time.monotonic()
    with pytest.raises(BackendUnavailable, match=r"(?i)time"):
        limiter.try_acquire(ENVELOPE)
    assert time.monotonic() - start < TIMEOUT + SLACK


def test_a_new_connection_takes_no_longer_than_the_timeout(
    make_limiter: MakeLimiter, proxy: Proxy
) -> None:
    proxy.stalled.set()
    start = time.monotonic()
    with pytest.raises(BackendUnavailable):
        make_limiter(timeout=TIMEOUT).try_acquire(ENVELOPE)
    assert time.monotonic() - start < TIMEOUT + SLACK


def test_while_the_server_stalls_one_call_at_a_time_tries_it_and_no_other_call_waits(
    make_limiter: MakeLimiter, proxy: Proxy, server: Server, prefix: str
) -> None:
    policy = one_limit_policy(2000)
    limiter = make_limiter(policy, timeout=TIMEOUT)
    with Load(limiter, workers=8) as load:
        load.wait_for(lambda tally: tally.admitted > 50)
        proxy.stalled.set()
        failed = load.tally.failed
        load.wait_for(lambda tally: tally.failed >= failed + 8)
        wait_until(lambda: limiter.counter.active <= 1)
        before, since = load.tally, time.monotonic()
        limiter.counter.restart()
        load.wait_for(lambda _: limiter.counter.calls >= 4)
        tries, elapsed = limiter.counter.calls, time.monotonic() - since
        answered = load.tally.failed - before.failed
        assert limiter.counter.max_active == 1
        assert tries <= 1 + elapsed / TIMEOUT
        assert answered > 10 * tries  # a call that tries takes as long as hundreds that do not

        proxy.stalled.clear()
        back, admitted = time.monotonic(), load.tally.admitted
        load.wait_for(lambda tally: tally.admitted > admitted + 50)
    tally = load.tally
    assert tally.last_failure - back < RETRY_SECONDS  # the drills measure it
    assert tally.admitted <= used_on_server(server.url, policy, prefix) <= 2000


async def test_many_tasks_wait_for_a_stalled_server_together_not_one_after_another(
    proxy: Proxy, prefix: str
) -> None:
    backend = AsyncRedisBackend.from_url(proxy.url, prefix=prefix, timeout=TIMEOUT)
    limiter = AsyncLimiter(PER_DAY_100, backend)
    await connect(limiter)
    proxy.stalled.set()
    before = proxy.connections
    answers = await asyncio.gather(
        *(limiter.try_acquire(ENVELOPE) for _ in range(500)), return_exceptions=True
    )
    assert {type(answer) for answer in answers} == {BackendUnavailable}
    assert proxy.connections - before <= MAX_CONNECTIONS
    await backend.aclose()


def test_an_outage_is_logged_when_it_begins_and_when_it_ends(
    make_limiter: MakeLimiter, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ratelimit_mail")
    limiter = make_limiter()
    limiter.try_acquire(ENVELOPE)
    with proxy.away():
        for _ in range(50):
            with pytest.raises(BackendUnavailable):
                limiter.try_acquire(ENVELOPE)
    once_available(lambda: limiter.try_acquire(ENVELOPE))
    levels = [record.levelname for record in caplog.records if record.name == "ratelimit_mail"]
    assert levels == ["WARNING", "INFO"]
