"""Calls of many tasks by few connections: each has its own answer, whatever becomes of others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
import redis
import redis.asyncio
from rlm_testkit.load import COLOURS, LETTER, SENDER, Asked, at_most, own_prefix
from rlm_testkit.proxy import Proxy
from rlm_testkit.servers import Server, valkey, wait_until

from ratelimit_mail import AsyncLimiter, Envelope
from ratelimit_mail.backends import AsyncRedisBackend
from ratelimit_mail.backends.redis.connections import MOST_CONNECTIONS, MOST_TOGETHER
from ratelimit_mail.exceptions import BackendError, BackendUnavailable

MANY = MOST_CONNECTIONS * MOST_TOGETHER + 100
"""More than can be under way at once."""

POLICY = at_most(1_000_000)


@pytest.fixture
def prefix() -> str:
    return own_prefix()


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    proxy = Proxy(server.port, only=b"EVAL")
    yield proxy
    proxy.close()


@pytest.fixture
async def backend(proxy: Proxy, prefix: str) -> AsyncIterator[AsyncRedisBackend]:
    backend = AsyncRedisBackend.from_url(proxy.url, prefix=prefix, timeout=10)
    yield backend
    await backend.aclose()


def letter(sender: int) -> Envelope:
    return Envelope(f"{sender}@uwo.ca", ["bob@example.com"])


async def used(limiter: AsyncLimiter, senders: int) -> list[int]:
    """What each of many senders has used, asked all at once."""
    told = await asyncio.gather(*(limiter.usage(f"{i}@uwo.ca") for i in range(senders)))
    return [usage.used for (usage,) in told]


def charged(server: Server, prefix: str) -> int:
    """How many senders something is counted for."""
    with server.client() as client:
        return sum(1 for _ in client.scan_iter(f"{prefix}*", count=1000))


async def until_charged(server: Server, prefix: str, senders: int) -> None:
    await asyncio.to_thread(wait_until, lambda: charged(server, prefix) == senders)


async def test_each_task_has_its_own_answer_by_few_connections(
    backend: AsyncRedisBackend, proxy: Proxy
) -> None:
    limiter = AsyncLimiter(at_most(4), backend)
    letters = [letter(i) for i in range(MANY) for _ in range(i % 7)]
    answers = await asyncio.gather(*map(limiter.try_acquire, letters))
    assert await used(limiter, MANY) == [min(i % 7, 4) for i in range(MANY)]
    assert sum(answer.allowed for answer in answers) == sum(min(i % 7, 4) for i in range(MANY))
    assert proxy.connections <= MOST_CONNECTIONS


@pytest.mark.parametrize("every", [1, 2])
async def test_a_task_that_is_cancelled_leaves_the_answers_of_others_alone(
    backend: AsyncRedisBackend, server: Server, proxy: Proxy, prefix: str, every: int
) -> None:
    limiter = AsyncLimiter(POLICY, backend)
    await limiter.check(LETTER)  # the server has its script
    connections, sent = proxy.connections, MOST_TOGETHER
    proxy.held.set()
    tasks = [asyncio.create_task(limiter.try_acquire(letter(i))) for i in range(sent)]
    await until_charged(server, prefix, sent)
    for task in tasks[::every]:
        task.cancel()
    proxy.held.clear()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    for i, answer in enumerate(answers):
        if i % every == 0:
            assert isinstance(answer, asyncio.CancelledError)
        else:
            assert not isinstance(answer, BaseException)
            assert answer.allowed
    assert await used(limiter, sent) == [1] * sent
    assert proxy.connections <= max(connections, MOST_CONNECTIONS), "none was cut for it"


async def test_who_is_cancelled_before_anything_is_sent_is_not_charged(
    server: Server, proxy: Proxy, prefix: str
) -> None:
    backend = AsyncRedisBackend.from_url(proxy.url, prefix=prefix, timeout=10, max_connections=1)
    limiter = AsyncLimiter(POLICY, backend)
    await limiter.check(LETTER)  # the server has its script
    proxy.held.set()
    tasks = [asyncio.create_task(limiter.try_acquire(letter(i))) for i in range(MANY)]
    await until_charged(server, prefix, MOST_TOGETHER)
    for task in tasks[MOST_TOGETHER:]:
        task.cancel()
    proxy.held.clear()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await used(limiter, MANY) == [1] * MOST_TOGETHER + [0] * (MANY - MOST_TOGETHER)
    await backend.aclose()


async def test_an_error_concerns_the_call_that_met_it(
    backend: AsyncRedisBackend, server: Server, prefix: str
) -> None:
    with server.client() as client:
        client.set(f"{prefix}{{7@uwo.ca}}:test:sender:0", "of another program")
        client.set(f"{prefix}{{9@uwo.ca}}:test:sender:0", "of another program")
        client.script_flush()
    limiter = AsyncLimiter(POLICY, backend)
    answers = await asyncio.gather(
        *(limiter.try_acquire(letter(i)) for i in range(50)), return_exceptions=True
    )
    wrong = {i for i, answer in enumerate(answers) if isinstance(answer, BackendError)}
    assert wrong == {7, 9}
    assert all(answers[i] for i in range(50) if i not in wrong)
    assert "7@uwo.ca" in str(answers[7])
    assert "9@uwo.ca" in str(answers[9])


async def test_those_whose_answer_may_be_lost_are_told_apart_from_those_never_sent(
    server: Server, proxy: Proxy, prefix: str
) -> None:
    backend = AsyncRedisBackend.from_url(proxy.url, prefix=prefix, timeout=0.3)
    limiter = AsyncLimiter(POLICY, backend)
    await limiter.check(LETTER)  # the server has its script
    proxy.held.set()
    errors = await asyncio.gather(
        *(limiter.try_acquire(letter(i)) for i in range(MANY)), return_exceptions=True
    )
    proxy.held.clear()
    assert all(isinstance(error, BackendUnavailable) for error in errors)
    safe = [getattr(error, "safe_to_repeat", None) for error in errors]
    assert set(safe) == {True, False}
    counts = await used(AsyncLimiter(POLICY, backend), MANY)
    assert not any(count for count, is_safe in zip(counts, safe, strict=True) if is_safe)
    await backend.aclose()


async def test_a_cut_connection_is_an_outage_for_those_on_it_and_over_at_once(
    backend: AsyncRedisBackend, proxy: Proxy
) -> None:
    limiter = AsyncLimiter(POLICY, backend)
    await limiter.check(LETTER)  # the server has its script
    proxy.lose_answers = 1
    answers = await asyncio.gather(
        *(limiter.try_acquire(letter(i)) for i in range(50)), return_exceptions=True
    )
    assert any(isinstance(answer, BackendUnavailable) for answer in answers)
    again = AsyncLimiter(POLICY, backend)
    counts = await used(again, 50)
    for answer, count in zip(answers, counts, strict=True):
        assert isinstance(answer, BackendUnavailable) or count == 1
    assert all(await asyncio.gather(*(again.try_acquire(letter(i)) for i in range(50))))


async def test_a_backend_that_is_closed_meanwhile_leaves_nobody_waiting(
    backend: AsyncRedisBackend, proxy: Proxy
) -> None:
    limiter = AsyncLimiter(POLICY, backend)
    proxy.held.set()
    tasks = [asyncio.create_task(limiter.try_acquire(LETTER)) for _ in range(MANY)]
    await asyncio.sleep(0.05)
    await backend.aclose()
    async with asyncio.timeout(2):
        answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(answer, BackendUnavailable) for answer in answers)
    proxy.held.clear()
    assert await AsyncLimiter(POLICY, backend).check(LETTER), "it may still be used"


async def test_a_client_that_may_have_one_connection_is_enough(server: Server, prefix: str) -> None:
    async with redis.asyncio.Redis(port=server.port, max_connections=1) as client:
        limiter = AsyncLimiter(at_most(150), AsyncRedisBackend(client, prefix=prefix))
        answers = await asyncio.gather(*(limiter.try_acquire(LETTER) for _ in range(300)))
        assert sum(answer.allowed for answer in answers) == 150
        assert await client.ping()


def test_an_event_loop_that_ends_with_calls_under_way_leaves_the_next_in_peace(
    server: Server, prefix: str
) -> None:
    backend = AsyncRedisBackend.from_url(server.url, prefix=prefix)
    limiter = AsyncLimiter(POLICY, backend)

    async def left_behind() -> None:
        tasks = [asyncio.create_task(limiter.try_acquire(LETTER)) for _ in range(20)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()

    async def asked() -> None:
        assert await limiter.try_acquire(LETTER)
        await backend.aclose()

    asyncio.run(left_behind())
    asyncio.run(asked())


@pytest.mark.parametrize("colour", COLOURS)
def test_an_answer_that_comes_too_late_is_not_taken_for_that_to_the_next_call(
    server: Server, proxy: Proxy, prefix: str, colour: str
) -> None:
    """Under Sentinel, redis-py leaves it to its caller to cut such a connection."""
    sentinel = Server(valkey(), sentinel=f"sentinel monitor mail 127.0.0.1 {proxy.port} 1\n")
    url = f"redis+sentinel://127.0.0.1:{sentinel.port}/mail"
    asked = Asked(colour, url, POLICY, prefix=prefix, backend={"timeout": 0.5})
    try:
        assert asked.try_acquire(LETTER)
        proxy.held.set()
        with pytest.raises(BackendUnavailable):
            asked.try_acquire(LETTER)
        threading.Timer(0.1, proxy.held.clear).start()
        who_knows_of_no_outage = type(asked.limiter)(POLICY, asked.backend)
        (usage,) = asked.wait(who_knows_of_no_outage.usage(SENDER))
        assert usage.used == 2
    finally:
        asked.close()
        sentinel.stop()
