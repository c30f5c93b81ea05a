"""A call whose answer is lost charges once; a repeated id gets the answer that was lost."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
import redis
from rlm_testkit.faults import (
    CHARGING_CALLS,
    PER_DAY_100,
    MakeLimiter,
    envelope_with_id,
    limiter_factory,
    limiter_kind,
    once_available,
    script_proxy,
)
from rlm_testkit.load import ENVELOPE, SENDER, AnyLimiter, one_limit_policy, used_on_server
from rlm_testkit.proxy import Proxy
from rlm_testkit.redis_backends import KINDS, unique_prefix
from rlm_testkit.servers import Server

from ratelimit_mail import AsyncLimiter, Envelope, Limiter
from ratelimit_mail.backends import AsyncRedisBackend, RedisBackend
from ratelimit_mail.exceptions import BackendUnavailable
from ratelimit_mail.testing import ManualClock

kind = pytest.fixture(limiter_kind, params=KINDS)
prefix = pytest.fixture(unique_prefix)
proxy = pytest.fixture(script_proxy)
make_limiter = pytest.fixture(limiter_factory)

MESSAGES_CHARGED = {"try_acquire_many": 3}
"""How many messages a call of CHARGING_CALLS charges, if that is not one."""


@pytest.mark.parametrize("method", CHARGING_CALLS)
def test_a_charge_whose_answer_is_lost_is_made_once(
    make_limiter: MakeLimiter, proxy: Proxy, server: Server, prefix: str, method: str
) -> None:
    limiter = make_limiter()
    limiter.try_acquire(ENVELOPE)
    proxy.lose_answers = 1
    with pytest.raises(BackendUnavailable):
        CHARGING_CALLS[method](limiter, ENVELOPE)
    assert proxy.lost == 1
    charged = MESSAGES_CHARGED.get(method, 1)
    assert used_on_server(server.url, PER_DAY_100, prefix) == 1 + charged


@pytest.mark.parametrize("method", ["try_acquire", "acquire", "reserve"])
def test_a_repeated_id_gets_the_answer_that_was_lost(
    make_limiter: MakeLimiter, proxy: Proxy, server: Server, prefix: str, method: str
) -> None:
    limiter = make_limiter(one_limit_policy(2))
    limiter.try_acquire(ENVELOPE)
    call = CHARGING_CALLS[method]
    proxy.lose_answers = 1
    with pytest.raises(BackendUnavailable):
        call(limiter, envelope_with_id("job 1"))
    # The message itself has used up the limit: a new answer would be a refusal.
    answer = once_available(lambda: call(limiter, envelope_with_id("job 1")))
    assert getattr(answer, "decision", answer)
    assert not getattr(answer, "decision", answer).degraded
    assert not limiter.try_acquire(envelope_with_id("job 2"))
    assert used_on_server(server.url, one_limit_policy(2), prefix) == 2


def test_a_repeated_batch_with_ids_is_charged_once(
    make_limiter: MakeLimiter, proxy: Proxy, server: Server, prefix: str
) -> None:
    batch = [envelope_with_id(f"job {number}") for number in range(5)]
    limiter = make_limiter(one_limit_policy(3))
    limiter.check(ENVELOPE)
    proxy.lose_answers = 1
    with pytest.raises(BackendUnavailable):
        limiter.try_acquire_many(batch)
    answers = once_available(lambda: limiter.try_acquire_many(batch))
    assert [bool(decision) for decision in answers] == [True, True, True, False, False]
    assert used_on_server(server.url, one_limit_policy(3), prefix) == 3


def test_an_answer_that_was_lost_before_can_be_refunded(
    make_limiter: MakeLimiter, proxy: Proxy, server: Server, prefix: str
) -> None:
    limiter = make_limiter()
    limiter.check(ENVELOPE)
    proxy.lose_answers = 1
    with pytest.raises(BackendUnavailable):
        limiter.try_acquire(envelope_with_id("job"))
    limiter.refund(once_available(lambda: limiter.try_acquire(envelope_with_id("job"))))
    assert used_on_server(server.url, PER_DAY_100, prefix) == 0


def refund_twice_with_the_first_answer_lost(
    limiter: AnyLimiter, proxy: Proxy, envelope: Envelope
) -> None:
    limiter.refund(limiter.try_acquire(ENVELOPE))  # the server knows the script from here on
    assert limiter.try_acquire(ENVELOPE)
    decision = limiter.try_acquire(envelope)
    proxy.lose_answers = 1
    with pytest.raises(BackendUnavailable):
        limiter.refund(decision)
    once_available(lambda: limiter.refund(decision))


def test_a_refund_with_an_id_whose_answer_is_lost_can_be_repeated(
    make_limiter: MakeLimiter, proxy: Proxy
) -> None:
    limiter = make_limiter(clock=ManualClock())
    refund_twice_with_the_first_answer_lost(limiter, proxy, envelope_with_id("job"))
    assert limiter.usage(SENDER)[0].used == 1


def test_a_repeated_refund_whose_answer_is_lost_does_not_refund_another_message(
    make_limiter: MakeLimiter, proxy: Proxy
) -> None:
    limiter = make_limiter(clock=ManualClock())
    decision, _ = (limiter.try_acquire(ENVELOPE) for _ in range(2))
    proxy.lose_answers = 1
    with pytest.raises(BackendUnavailable):
        limiter.refund(decision)
    with pytest.raises(ValueError, match="refunded"):
        limiter.refund(decision)
    once_available(lambda: limiter.check(ENVELOPE))
    assert limiter.usage(SENDER)[0].used == 1


def test_a_client_with_a_single_connection_charges_once(
    kind: str, proxy: Proxy, server: Server, prefix: str
) -> None:
    options: dict[str, Any] = {"port": proxy.port, "single_connection_client": True}

    async def charge_async() -> None:
        client = redis.asyncio.Redis(**options)
        try:
            limiter = AsyncLimiter(PER_DAY_100, AsyncRedisBackend(client, prefix=prefix))
            await limiter.check(ENVELOPE)
            proxy.lose_answers = 1
            await limiter.try_acquire(ENVELOPE)
        finally:
            await client.aclose()

    def charge() -> None:
        with redis.Redis(**options) as client:
            limiter = Limiter(PER_DAY_100, RedisBackend(client, prefix=prefix))
            limiter.check(ENVELOPE)
            proxy.lose_answers = 1
            limiter.try_acquire(ENVELOPE)

    with pytest.raises(BackendUnavailable):
        charge() if kind == "sync" else asyncio.run(charge_async())
    assert used_on_server(server.url, PER_DAY_100, prefix) == 1


def test_a_client_with_a_pool_charges_once(proxy: Proxy, server: Server, prefix: str) -> None:
    with redis.Redis(port=proxy.port) as client:
        limiter = Limiter(PER_DAY_100, RedisBackend(client, prefix=prefix))
        limiter.check(ENVELOPE)
        proxy.lose_answers = 1
        with pytest.raises(BackendUnavailable):
            limiter.try_acquire(ENVELOPE)
    assert used_on_server(server.url, PER_DAY_100, prefix) == 1


async def test_a_task_that_is_cancelled_before_the_answer_arrives_gives_its_charge_back(
    proxy: Proxy, server: Server, prefix: str
) -> None:
    backend = AsyncRedisBackend.from_url(proxy.url, prefix=prefix, timeout=30)
    limiter = AsyncLimiter(PER_DAY_100, backend)
    await limiter.acquire(ENVELOPE)
    proxy.answers_withheld.set()
    task = asyncio.create_task(limiter.acquire(ENVELOPE))
    charged = partial(used_on_server, server.url, PER_DAY_100, prefix)
    while await asyncio.to_thread(charged) < 2:
        await asyncio.sleep(0.01)
    task.cancel()
    proxy.answers_withheld.clear()
    with pytest.raises(asyncio.CancelledError):
        await task
    used = await asyncio.to_thread(charged)
    await backend.aclose()
    assert used == 1
