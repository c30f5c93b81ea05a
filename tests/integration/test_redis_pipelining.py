"""Many tasks share few connections: each gets its own answer, whatever happens to other tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis
import redis.asyncio
from rlm_testkit.faults import connect, script_proxy
from rlm_testkit.load import ENVELOPE, one_limit_policy
from rlm_testkit.proxy import Proxy
from rlm_testkit.redis_backends import unique_prefix
from rlm_testkit.servers import Server, wait_until

from ratelimit_mail import AsyncLimiter, Envelope
from ratelimit_mail.backends import AsyncRedisBackend
from ratelimit_mail.backends.redis.connections import MAX_CALLS_TOGETHER, MAX_CONNECTIONS
from ratelimit_mail.exceptions import BackendError, BackendUnavailable

MANY = MAX_CONNECTIONS * MAX_CALLS_TOGETHER + 100
"""More calls than can be in progress at the same time."""

POLICY = one_limit_policy(1_000_000)


prefix = pytest.fixture(unique_prefix)
proxy = pytest.fixture(script_proxy)


@pytest.fixture
async def backend(proxy: Proxy, prefix: str) -> AsyncIterator[AsyncRedisBackend]:
    backend = AsyncRedisBackend.from_url(proxy.url, prefix=prefix, timeout=30)
    yield backend
    await backend.aclose()


def envelope_from(sender: int) -> Envelope:
    return Envelope(f"{sender}@uwo.ca", ["bob@example.com"])


async def used(limiter: AsyncLimiter, senders: int) -> list[int]:
    """Return how much each of many senders has used, read all at once."""
    usages = await asyncio.gather(*(limiter.usage(f"{i}@uwo.ca") for i in range(senders)))
    return [usage.used for (usage,) in usages]


def charged_senders(server: Server, prefix: str) -> int:
    """Return how many senders were charged."""
    with server.client() as client:
        return sum(1 for _ in client.scan_iter(f"{prefix}*", count=1000))


async def wait_until_charged(server: Server, prefix: str, senders: int) -> None:
    await asyncio.to_thread(wait_until, lambda: charged_senders(server, prefix) == senders)


async def test_each_task_gets_its_own_answer_over_few_connections(
    backend: AsyncRedisBackend, proxy: Proxy
) -> None:
    limiter = AsyncLimiter(one_limit_policy(4), backend)
    envelopes = [envelope_from(i) for i in range(MANY) for _ in range(i % 7)]
    answers = await asyncio.gather(*map(limiter.try_acquire, envelopes))
    assert await used(limiter, MANY) == [min(i % 7, 4) for i in range(MANY)]
    assert sum(answer.allowed for answer in answers) == sum(min(i % 7, 4) for i in range(MANY))
    assert proxy.connections <= MAX_CONNECTIONS


@pytest.mark.parametrize("every", [1, 2])
async def test_cancelling_a_task_does_not_affect_the_answers_of_other_tasks(
    backend: AsyncRedisBackend, server: Server, proxy: Proxy, prefix: str, every: int
) -> None:
    limiter = AsyncLimiter(POLICY, backend)
    await limiter.check(ENVELOPE)  # the server knows the script from here on
    connections, sent = proxy.connections, MAX_CALLS_TOGETHER
    proxy.answers_withheld.set()
    tasks = [asyncio.create_task(limiter.try_acquire(envelope_from(i))) for i in range(sent)]
    await wait_until_charged(server, prefix, sent)
    for task in tasks[::every]:
        task.cancel()
    proxy.answers_withheld.clear()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    for i, answer in enumerate(answers):
        if i % every == 0:
            assert isinstance(answer, asyncio.CancelledError)
        else:
            assert not isinstance(answer, BaseException)
            assert answer.allowed
    assert await used(limiter, sent) == [1] * sent
    assert proxy.connections <= max(connections, MAX_CONNECTIONS), "no connection was closed"


async def test_a_task_that_is_cancelled_before_its_call_is_sent_is_not_charged(
    server: Server, proxy: Proxy, prefix: str
) -> None:
    backend = AsyncRedisBackend.from_url(proxy.url, prefix=prefix, timeout=30, max_connections=1)
    limiter = AsyncLimiter(POLICY, backend)
    await limiter.check(ENVELOPE)  # the server knows the script from here on
    proxy.answers_withheld.set()
    tasks = [asyncio.create_task(limiter.try_acquire(envelope_from(i))) for i in range(MANY)]
    await wait_until_charged(server, prefix, MAX_CALLS_TOGETHER)
    for task in tasks[MAX_CALLS_TOGETHER:]:
        task.cancel()
    proxy.answers_withheld.clear()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await used(limiter, MANY) == [1] * MAX_CALLS_TOGETHER + [0] * (MANY - MAX_CALLS_TOGETHER)
    await backend.aclose()


async def test_an_error_is_raised_only_in_the_call_that_caused_it(
    backend: AsyncRedisBackend, server: Server, prefix: str
) -> None:
    with server.client() as client:
        client.set(f"{prefix}{{7@uwo.ca}}:test:sender:0", "of another program")
        client.set(f"{prefix}{{9@uwo.ca}}:test:sender:0", "of another program")
        client.script_flush()
    limiter = AsyncLimiter(POLICY, backend)
    answers = await asyncio.gather(
        *(limiter.try_acquire(envelope_from(i)) for i in range(50)), return_exceptions=True
    )
    failed = {i for i, answer in enumerate(answers) if isinstance(answer, BackendError)}
    assert failed == {7, 9}
    assert all(answers[i] for i in range(50) if i not in failed)
    assert "7@uwo.ca" in str(answers[7])
    assert "9@uwo.ca" in str(answers[9])


async def test_only_calls_that_were_never_sent_are_safe_to_repeat(
    server: Server, proxy: Proxy, prefix: str
) -> None:
    backend = AsyncRedisBackend.from_url(proxy.url, prefix=prefix, timeout=0.3)
    limiter = AsyncLimiter(POLICY, backend)
    await connect(limiter)  # a slow machine may need several attempts
    proxy.answers_withheld.set()
    errors = await asyncio.gather(
        *(limiter.try_acquire(envelope_from(i)) for i in range(MANY)), return_exceptions=True
    )
    proxy.answers_withheld.clear()
    assert all(isinstance(error, BackendUnavailable) for error in errors)
    safe = [getattr(error, "safe_to_repeat", None) for error in errors]
    assert set(safe) == {True, False}
    await backend.aclose()
    patient = AsyncRedisBackend.from_url(server.url, prefix=prefix, timeout=30)
    counts = await used(AsyncLimiter(POLICY, patient), MANY)
    await patient.aclose()
    assert not any(count for count, is_safe in zip(counts, safe, strict=True) if is_safe)


async def test_a_broken_connection_is_an_outage_only_for_the_calls_sent_over_it(
    backend: AsyncRedisBackend, proxy: Proxy
) -> None:
    limiter = AsyncLimiter(POLICY, backend)
    await limiter.check(ENVELOPE)  # the server knows the script from here on
    proxy.lose_answers = 1
    answers = await asyncio.gather(
        *(limiter.try_acquire(envelope_from(i)) for i in range(50)), return_exceptions=True
    )
    assert any(isinstance(answer, BackendUnavailable) for answer in answers)
    again = AsyncLimiter(POLICY, backend)
    counts = await used(again, 50)
    for answer, count in zip(answers, counts, strict=True):
        assert isinstance(answer, BackendUnavailable) or count == 1
    assert all(await asyncio.gather(*(again.try_acquire(envelope_from(i)) for i in range(50))))


async def test_closing_a_backend_ends_all_its_calls(
    backend: AsyncRedisBackend, proxy: Proxy
) -> None:
    limiter = AsyncLimiter(POLICY, backend)
    # redis-py 6 connects one at a time, so all connections are made while answers arrive.
    pool = backend._core().transport._client.connection_pool
    for connection in [await pool.get_connection() for _ in range(MAX_CONNECTIONS)]:
        await pool.release(connection)
    proxy.answers_withheld.set()
    tasks = [asyncio.create_task(limiter.try_acquire(ENVELOPE)) for _ in range(MANY)]
    await asyncio.to_thread(wait_until, lambda: proxy.requests >= MAX_CONNECTIONS)
    assert proxy.connections == MAX_CONNECTIONS
    await backend.aclose()
    async with asyncio.timeout(30):
        answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(answer, BackendUnavailable) for answer in answers)
    proxy.answers_withheld.clear()
    assert await AsyncLimiter(POLICY, backend).check(ENVELOPE), "it may still be used"


async def test_a_client_with_one_connection_is_sufficient(server: Server, prefix: str) -> None:
    async with redis.asyncio.Redis(port=server.port, max_connections=1) as client:
        limiter = AsyncLimiter(one_limit_policy(150), AsyncRedisBackend(client, prefix=prefix))
        answers = await asyncio.gather(*(limiter.try_acquire(ENVELOPE) for _ in range(300)))
        assert sum(answer.allowed for answer in answers) == 150
        assert await client.ping()


def test_an_event_loop_that_ends_with_calls_in_progress_does_not_affect_the_next_loop(
    server: Server, prefix: str
) -> None:
    backend = AsyncRedisBackend.from_url(server.url, prefix=prefix, timeout=30)
    limiter = AsyncLimiter(POLICY, backend)

    async def cancel_calls() -> None:
        tasks = [asyncio.create_task(limiter.try_acquire(ENVELOPE)) for _ in range(20)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()

    async def call() -> None:
        assert await limiter.try_acquire(ENVELOPE)
        await backend.aclose()

    asyncio.run(cancel_calls())
    asyncio.run(call())
