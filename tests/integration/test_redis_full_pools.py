"""A full pool of the application's own client is not an outage: calls wait, and no limit opens."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
import redis
import redis.asyncio
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.retry
import redis.sentinel
from redis.backoff import NoBackoff
from rlm_testkit.load import ENVELOPE, SENDER, one_limit_policy
from rlm_testkit.redis_backends import unique_prefix, valkey_only
from rlm_testkit.servers import Cluster, SentinelSet, Server, wait_until

from ratelimit_mail import AsyncLimiter, Envelope, Limiter
from ratelimit_mail.backends import AsyncRedisBackend, MemoryBackend, RedisBackend
from ratelimit_mail.backends.redis import connections, transport
from ratelimit_mail.exceptions import (
    BackendError,
    BackendUnavailable,
    ConnectionPoolFull,
)

PATIENT: dict[str, Any] = {"socket_timeout": 30, "socket_connect_timeout": 30}
"""A slow machine is not an outage."""

LIMIT = 50
POLICY = one_limit_policy(LIMIT)

ON_BACKEND_ERROR = ["raise", "allow", "deny", MemoryBackend()]

prefix = pytest.fixture(unique_prefix)


def counts_of_threads(limiters: list[Limiter], threads: int, calls: int) -> Counter[str]:
    """Return how many calls of many threads were admitted, refused, degraded, and failed."""
    counts: Counter[str] = Counter()
    barrier = threading.Barrier(threads)

    def call_often(number: int) -> None:
        barrier.wait()
        for _ in range(calls):
            try:
                decision = limiters[number % len(limiters)].try_acquire(ENVELOPE)
            except BackendError as error:
                counts[str(error)] += 1
            else:
                counts["admitted" if decision else "refused"] += 1
                counts["degraded"] += decision.degraded

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(call_often, range(threads)))
    return counts


async def counts_of_tasks(limiters: list[AsyncLimiter], tasks: int, calls: int) -> Counter[str]:
    """See `counts_of_threads`."""
    counts: Counter[str] = Counter()

    async def call_often(number: int) -> None:
        for _ in range(calls):
            try:
                decision = await limiters[number % len(limiters)].try_acquire(ENVELOPE)
            except BackendError as error:
                counts[str(error)] += 1
            else:
                counts["admitted" if decision else "refused"] += 1
                counts["degraded"] += decision.degraded

    await asyncio.gather(*map(call_often, range(tasks)))
    return counts


def exactly(calls: int) -> Counter[str]:
    return Counter(admitted=LIMIT, refused=calls - LIMIT, degraded=0)


@valkey_only
@pytest.mark.parametrize("backends", [1, 3])
@pytest.mark.parametrize("max_connections", [1, 2, 3, 10])
@pytest.mark.parametrize("on_backend_error", ["raise", "allow"])
def test_more_threads_than_connections_are_admitted_up_to_the_limit(
    server: Server, prefix: str, on_backend_error: Any, max_connections: int, backends: int
) -> None:
    with server.client(max_connections=max_connections, **PATIENT) as client:
        limiters = [
            Limiter(POLICY, RedisBackend(client, prefix=prefix), on_backend_error=on_backend_error)
            for _ in range(backends)
        ]
        assert counts_of_threads(limiters, 20, 20) == exactly(400)
        assert limiters[0].usage(SENDER)[0].used == LIMIT


@valkey_only
@pytest.mark.parametrize("backends", [1, 3])
@pytest.mark.parametrize("max_connections", [1, 2, 6])
@pytest.mark.parametrize("on_backend_error", ["raise", "allow"])
async def test_tasks_of_several_backends_on_one_pool_are_admitted_up_to_the_limit(
    server: Server, prefix: str, on_backend_error: Any, max_connections: int, backends: int
) -> None:
    async with redis.asyncio.Redis(
        port=server.port, max_connections=max_connections, **PATIENT
    ) as client:
        limiters = [
            AsyncLimiter(
                POLICY,
                AsyncRedisBackend(client, prefix=prefix),
                on_backend_error=on_backend_error,
            )
            for _ in range(backends)
        ]
        assert await counts_of_tasks(limiters, 60, 10) == exactly(600)
        assert (await limiters[0].usage(SENDER))[0].used == LIMIT


def test_threads_of_a_cluster_client_wait_for_the_connections_of_a_node(
    cluster: Cluster, prefix: str
) -> None:
    with redis.RedisCluster(
        host="127.0.0.1", port=cluster.masters[0].port, max_connections=1, **PATIENT
    ) as client:
        limiters = [
            Limiter(POLICY, RedisBackend(client, prefix=prefix), on_backend_error="allow")
            for _ in range(2)
        ]
        assert counts_of_threads(limiters, 10, 20) == exactly(200)


async def test_tasks_of_a_cluster_client_wait_for_the_connections_of_a_node(
    cluster: Cluster, prefix: str
) -> None:
    async with redis.asyncio.RedisCluster(
        host="127.0.0.1", port=cluster.masters[0].port, max_connections=2, **PATIENT
    ) as client:
        limiters = [
            AsyncLimiter(POLICY, AsyncRedisBackend(client, prefix=prefix), on_backend_error="allow")
            for _ in range(2)
        ]
        assert await counts_of_tasks(limiters, 100, 5) == exactly(500)


def test_calls_on_the_pool_of_a_sentinel_set_wait(sentinels: SentinelSet, prefix: str) -> None:
    addresses = [("127.0.0.1", each.port) for each in sentinels.sentinels]
    # The clients by which the master is looked up have pools too.
    options: dict[str, Any] = {
        "sentinel_kwargs": {"max_connections": 1, **PATIENT},
        "max_connections": 3,
        **PATIENT,
    }
    manager = cast("Any", redis.sentinel).Sentinel(addresses, **options)
    client = manager.master_for(sentinels.SERVICE)
    backend = RedisBackend(client, prefix=prefix)
    limiter = Limiter(POLICY, backend, on_backend_error="allow")
    assert counts_of_threads([limiter], 20, 10) == exactly(200)
    limiter.reset(SENDER)
    backend.close()

    async def with_tasks() -> None:
        manager = cast("Any", redis.asyncio.sentinel).Sentinel(addresses, **options)
        client = manager.master_for(sentinels.SERVICE)
        backends = [AsyncRedisBackend(client, prefix=prefix) for _ in range(4)]
        limiters = [AsyncLimiter(POLICY, each, on_backend_error="allow") for each in backends]
        assert await counts_of_tasks(limiters, 40, 5) == exactly(200)
        for backend in backends:
            await backend.aclose()

    asyncio.run(with_tasks())


def waiters(client: Any) -> int:
    """Return how many calls wait for a connection of a client."""
    state = vars(client.connection_pool).get("_ratelimit_mail")
    queue = getattr(state, "queue", state)
    return 0 if queue is None else len(queue.waiters)


@contextlib.contextmanager
def all_in_use(client: redis.Redis) -> Iterator[Callable[[], None]]:
    """Take all connections of a client, as the application may; they are returned by the result."""
    pool: Any = client.connection_pool
    taken = [pool.get_connection() for _ in range(pool.max_connections)]

    def release() -> None:
        while taken:
            pool.release(taken.pop())

    yield release
    release()


@valkey_only
def test_a_call_waits_for_a_connection_that_the_application_returns(
    server: Server, prefix: str
) -> None:
    with server.client(max_connections=3, **PATIENT) as client, ThreadPoolExecutor(8) as threads:
        limiter = Limiter(POLICY, RedisBackend(client, prefix=prefix))
        with all_in_use(client) as release:
            calls = [threads.submit(limiter.try_acquire, ENVELOPE) for _ in range(8)]
            wait_until(lambda: waiters(client) == 8)
            release()
            assert all(call.result() for call in calls)
        assert waiters(client) == 0


@valkey_only
async def test_a_task_waits_for_a_connection_that_the_application_returns(
    server: Server, prefix: str
) -> None:
    async with redis.asyncio.Redis(port=server.port, max_connections=2, **PATIENT) as client:
        limiter = AsyncLimiter(POLICY, AsyncRedisBackend(client, prefix=prefix))
        pool: Any = client.connection_pool
        taken = [await pool.get_connection() for _ in range(2)]
        calls = [asyncio.create_task(limiter.try_acquire(ENVELOPE)) for _ in range(8)]
        while not waiters(client):
            await asyncio.sleep(0)
        calls[0].cancel()
        for connection in taken:
            await pool.release(connection)
        assert all(await asyncio.gather(*calls[1:]))
        assert (await limiter.usage(SENDER))[0].used == 7
        assert waiters(client) == 0


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let calls wait for a connection for a short time, but for the server as long as before."""
    for module in (connections, transport):
        monkeypatch.setattr(module, "longest_wait", lambda _: 0.05)


@valkey_only
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("on_backend_error", ON_BACKEND_ERROR)
def test_a_pool_that_stays_full_is_an_error_of_its_own_and_not_an_outage(
    server: Server, prefix: str, on_backend_error: Any
) -> None:
    with server.client(max_connections=2, **PATIENT) as client:
        limiter = Limiter(
            POLICY, RedisBackend(client, prefix=prefix), on_backend_error=on_backend_error
        )
        admitted = limiter.try_acquire(ENVELOPE)
        with all_in_use_of(client):
            for call in (
                lambda: limiter.try_acquire(ENVELOPE),
                lambda: limiter.check(ENVELOPE),
                lambda: limiter.try_acquire_many([ENVELOPE, ENVELOPE]),
                lambda: limiter.reserve(ENVELOPE),
                lambda: limiter.usage(SENDER),
                lambda: limiter.reset(SENDER),
                lambda: limiter.refund(admitted),
            ):
                with pytest.raises(ConnectionPoolFull, match=r"too small \(max_connections\)") as e:
                    call()
                assert not isinstance(e.value, BackendUnavailable)
                assert f"Redis at localhost:{server.port}/0 was not asked" in str(e.value)
        # Redis was not away, so the next calls are not degraded, and nothing was charged.
        limiter.refund(admitted)
        decision = limiter.try_acquire(ENVELOPE)
        assert decision
        assert not decision.degraded
        assert limiter.usage(SENDER)[0].used == 1


@contextlib.contextmanager
def all_in_use_of(client: redis.Redis) -> Iterator[None]:
    """Take all connections of a client, also those that a backend holds."""
    state = vars(client.connection_pool)["_ratelimit_mail"]
    while state.idle:
        client.connection_pool.release(state.idle.pop()[0])
    with all_in_use(client):
        yield


@valkey_only
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("on_backend_error", ON_BACKEND_ERROR)
async def test_an_async_pool_that_stays_full_is_an_error_of_its_own_and_not_an_outage(
    server: Server, prefix: str, on_backend_error: Any
) -> None:
    async with redis.asyncio.Redis(port=server.port, max_connections=2, **PATIENT) as client:
        backend = AsyncRedisBackend(client, prefix=prefix)
        limiter = AsyncLimiter(POLICY, backend, on_backend_error=on_backend_error)
        assert await limiter.try_acquire(ENVELOPE)
        pool: Any = client.connection_pool
        taken = [await pool.get_connection() for _ in range(2)]
        errors = await asyncio.gather(
            *(limiter.try_acquire(ENVELOPE) for _ in range(100)),
            limiter.usage(SENDER),
            return_exceptions=True,
        )
        assert {type(error) for error in errors} == {ConnectionPoolFull}
        for connection in taken:
            await pool.release(connection)
        decision = await limiter.try_acquire(ENVELOPE)
        assert decision
        assert not decision.degraded
        assert (await limiter.usage(SENDER))[0].used == 2


@pytest.mark.usefixtures("impatient")
async def test_a_cluster_node_whose_connections_stay_in_use_is_not_an_outage(
    cluster: Cluster, prefix: str
) -> None:
    async with redis.asyncio.RedisCluster(
        host="127.0.0.1", port=cluster.masters[0].port, max_connections=1, **PATIENT
    ) as client:
        limiter = AsyncLimiter(
            POLICY, AsyncRedisBackend(client, prefix=prefix), on_backend_error="allow"
        )
        assert await limiter.try_acquire(ENVELOPE)
        taken = [(node, node.acquire_connection()) for node in client.get_primaries()]
        with pytest.raises(ConnectionPoolFull, match=r"^the Redis Cluster was not asked"):
            await limiter.try_acquire(ENVELOPE)
        for node, connection in taken:
            node._free.append(connection)  # redis-py 6 has no `release`
        decision = await limiter.try_acquire(ENVELOPE)
        assert decision
        assert not decision.degraded


@pytest.mark.usefixtures("impatient")
def test_a_sync_cluster_node_whose_connections_stay_in_use_is_not_an_outage(
    cluster: Cluster, prefix: str
) -> None:
    with redis.RedisCluster(
        host="127.0.0.1", port=cluster.masters[0].port, max_connections=1, **PATIENT
    ) as client:
        limiter = Limiter(POLICY, RedisBackend(client, prefix=prefix), on_backend_error="allow")
        senders = [Envelope(f"{i}@d{i}.org", ["bob@example.com"]) for i in range(20)]
        assert all(map(limiter.try_acquire, senders))  # connected to each node
        with contextlib.ExitStack() as stack:
            for node in client.get_primaries():
                stack.enter_context(all_in_use(node.redis_connection))
            for sender in senders:
                with pytest.raises(ConnectionPoolFull, match=r"^the Redis Cluster was not asked"):
                    limiter.try_acquire(sender)
        assert not any(limiter.try_acquire(sender).degraded for sender in senders)


@valkey_only
@pytest.mark.parametrize("timeout", [0.01, 0.05])
def test_a_pool_with_a_queue_of_its_own_waits_as_long_as_it_says(
    server: Server, prefix: str, timeout: float
) -> None:
    options: dict[str, Any] = {"port": server.port, "max_connections": 1, "timeout": timeout}
    pool = redis.BlockingConnectionPool(**options)  # type: ignore[no-untyped-call]
    with redis.Redis(connection_pool=pool) as client:
        limiter = Limiter(POLICY, RedisBackend(client, prefix=prefix), on_backend_error="allow")
        with (
            all_in_use(client),
            pytest.raises(ConnectionPoolFull, match=f"in use for {timeout} seconds"),
        ):
            limiter.try_acquire(ENVELOPE)
    pool.disconnect()


@valkey_only
async def test_an_async_pool_with_a_queue_of_its_own_waits_as_long_as_it_says(
    server: Server, prefix: str
) -> None:
    pool: Any = redis.asyncio.BlockingConnectionPool(
        port=server.port, max_connections=1, timeout=0.05
    )
    async with redis.asyncio.Redis(connection_pool=pool) as client:
        limiter = AsyncLimiter(
            POLICY, AsyncRedisBackend(client, prefix=prefix), on_backend_error="allow"
        )
        connection = await pool.get_connection()
        with pytest.raises(ConnectionPoolFull, match=r"in use for 0\.05 seconds"):
            await limiter.try_acquire(ENVELOPE)
        await pool.release(connection)
        assert await limiter.try_acquire(ENVELOPE)
    await pool.aclose()


TIMEOUTS: dict[str, Any] = {"socket_timeout": 0.3, "socket_connect_timeout": 0.3}

stalled = pytest.mark.parametrize("retries", [0, 5])
"""A client that retries to connect needs much longer than its timeouts to notice an outage."""


@stalled
@pytest.mark.parametrize("max_connections", [1, 3])
def test_threads_that_wait_while_the_server_stalls_meet_an_outage(
    own_server: Server, prefix: str, max_connections: int, retries: int
) -> None:
    retry = redis.retry.Retry(NoBackoff(), retries)
    with own_server.client(max_connections=max_connections, retry=retry, **TIMEOUTS) as client:
        limiter = Limiter(POLICY, RedisBackend(client, prefix=prefix), on_backend_error="allow")
        with own_server.frozen():
            counts = counts_of_threads([limiter], 30, 1)
        assert counts == Counter(admitted=30, degraded=30)


@stalled
@pytest.mark.parametrize("max_connections", [1, 3])
async def test_tasks_that_wait_while_the_server_stalls_meet_an_outage(
    own_server: Server, prefix: str, max_connections: int, retries: int
) -> None:
    retry = redis.asyncio.retry.Retry(NoBackoff(), retries)
    async with redis.asyncio.Redis(
        port=own_server.port, max_connections=max_connections, retry=retry, **TIMEOUTS
    ) as client:
        limiters = [
            AsyncLimiter(POLICY, AsyncRedisBackend(client, prefix=prefix), on_backend_error="allow")
            for _ in range(3)
        ]
        with own_server.frozen():
            counts = await counts_of_tasks(limiters, 300, 1)
        assert counts == Counter(admitted=300, degraded=300)
