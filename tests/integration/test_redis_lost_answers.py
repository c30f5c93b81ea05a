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
    limiter.refund(limiter.try_acquire(ENVELOPE))  # the server knows the script from here on
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


def test_settling_again_after_a_lost_answer_takes_out_no_other_message(
    make_limiter: MakeLimiter, proxy: Proxy
) -> None:
    clock = ManualClock()
    limiter = make_limiter(clock=clock)
    limiter.settle(limiter.try_acquire(ENVELOPE))  # the server knows the scripts from here on
    first, _ = limiter.try_acquire(ENVELOPE), limiter.try_acquire(ENVELOPE)
    clock.advance(1)
    proxy.lose_answers = 1
    with pytest.raises(BackendUnavailable):
        limiter.settle(first)
    once_available(lambda: limiter.settle(first))
    # Room for one message may be lost: the first is counted where it was moved, and once more.
    assert limiter.usage(SENDER)[0].used == 4
    limiter.refund(first)
    assert limiter.usage(SENDER)[0].used == 3


def test_settling_with_an_id_again_after_a_lost_answer_counts_once(
    make_limiter: MakeLimiter, proxy: Proxy
) -> None:
    clock = ManualClock()
    limiter = make_limiter(clock=clock)
    limiter.settle(limiter.try_acquire(ENVELOPE))
    first, _ = limiter.try_acquire(envelope_with_id("job")), limiter.try_acquire(ENVELOPE)
    clock.advance(1)
    proxy.lose_answers = 1
    with pytest.raises(BackendUnavailable) as caught:
        limiter.settle(first)
    assert caught.value.safe_to_repeat
    once_available(lambda: limiter.settle(first))
    assert limiter.usage(SENDER)[0].used == 3


def test_redeeming_again_after_a_lost_answer_takes_out_no_other_message(
    make_limiter: MakeLimiter, proxy: Proxy
) -> None:
    clock = ManualClock()
    limiter = make_limiter(one_limit_policy(3), clock=clock)
    assert limiter.wait(limiter.reserve(ENVELOPE).redeem())
    assert all(limiter.try_acquire(ENVELOPE) for _ in range(2))
    first, second = limiter.reserve(ENVELOPE), limiter.reserve(ENVELOPE)
    assert first.at == second.at
    clock.advance(24 * 3600)
    proxy.lose_answers = 1
    with pytest.raises(BackendUnavailable):
        limiter.wait(first.redeem())
    once_available(lambda: limiter.wait(first.redeem()))
    # Room for one message may be lost: the first is counted where it was moved, and once more.
    assert limiter.usage(SENDER)[0].used == 3
    limiter.wait(first.cancel())
    assert limiter.usage(SENDER)[0].used == 2
    assert limiter.wait(second.redeem())
    limiter.wait(second.cancel())
    assert limiter.usage(SENDER)[0].used == 1


def test_a_booking_whose_redemption_has_no_answer_stays_counted_when_cancelled(
    make_limiter: MakeLimiter, proxy: Proxy
) -> None:
    clock = ManualClock()
    limiter = make_limiter(one_limit_policy(2), clock=clock)
    assert limiter.wait(limiter.reserve(ENVELOPE).redeem())
    assert limiter.try_acquire(ENVELOPE)
    booked = [limiter.reserve(ENVELOPE) for _ in range(2)]
    clock.advance(24 * 3600)
    proxy.lose_answers = 1
    with pytest.raises(BackendUnavailable):
        limiter.wait(booked[0].redeem())
    once_available(lambda: limiter.wait(booked[0].cancel()))
    # It was redeemed, and stays counted: it may have been sent.
    assert limiter.usage(SENDER)[0].used == 2
    assert limiter.wait(booked[1].redeem())
    assert not limiter.try_acquire(ENVELOPE)


@pytest.mark.parametrize("is_flushed", [False, True])
def test_messages_are_settled_redeemed_and_refunded_though_the_server_forgot_them(
    make_limiter: MakeLimiter, server: Server, prefix: str, is_flushed: bool
) -> None:
    clock = ManualClock()
    limiter = make_limiter(one_limit_policy(3), clock=clock)
    settled, refunded = limiter.try_acquire(ENVELOPE), limiter.try_acquire(ENVELOPE)
    limiter.try_acquire(ENVELOPE)
    booked, cancelled = limiter.reserve(ENVELOPE), limiter.reserve(ENVELOPE)
    with server.client() as client:
        for key in client.scan_iter(f"{prefix}*", count=10_000):
            client.delete(key)
        if is_flushed:
            client.script_flush()
    clock.advance(24 * 3600)
    limiter.settle(settled)
    limiter.refund(refunded)
    limiter.wait(cancelled.cancel())
    assert limiter.wait(booked.redeem())
    assert limiter.usage(SENDER)[0].used == 2
    limiter.refund(settled)
    limiter.wait(booked.cancel())
    assert limiter.usage(SENDER)[0].used == 0
