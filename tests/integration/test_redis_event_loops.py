"""Connections of event loops that have ended are closed, however the event loop ended."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rlm_testkit.faults import script_proxy
from rlm_testkit.load import ENVELOPE, SENDER, one_limit_policy
from rlm_testkit.proxy import Proxy
from rlm_testkit.redis_backends import unique_prefix, valkey_only
from rlm_testkit.servers import Cluster, SentinelSet, Server, wait_until

from ratelimit_mail import AsyncLimiter
from ratelimit_mail.backends import AsyncRedisBackend
from ratelimit_mail.backends.redis.connections import MAX_CONNECTIONS
from ratelimit_mail.exceptions import BackendUnavailable

POLICY = one_limit_policy(1_000_000)

prefix = pytest.fixture(unique_prefix)
proxy = pytest.fixture(script_proxy)


def open_files() -> int:
    """Return how many files and sockets this process has open."""
    gc.collect()  # also those that are not referred to any more
    return len(list(Path("/proc/self/fd").iterdir()))


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc here")


def clients(server: Server, name: str) -> int:
    """Return how many connections of that name the server has."""
    with server.client() as client:
        return sum(each["name"] == name for each in client.client_list())


def wait_until_closed(server: Server, name: str) -> None:
    wait_until(lambda: clients(server, name) == 0)


def backend_on(url: str, prefix: str, **options: Any) -> AsyncRedisBackend:
    options.setdefault("client_name", prefix)
    return AsyncRedisBackend.from_url(url, prefix=prefix, timeout=30, **options)


async def send(backend: AsyncRedisBackend) -> None:
    assert await AsyncLimiter(POLICY, backend).try_acquire(ENVELOPE)


async def send_often(backend: AsyncRedisBackend) -> None:
    """Send by as many connections as an event loop uses."""
    limiter = AsyncLimiter(POLICY, backend)
    assert all(await asyncio.gather(*(limiter.try_acquire(ENVELOPE) for _ in range(100))))


def run_in_closed_loop(backend: AsyncRedisBackend) -> None:
    """Run in an event loop that is closed without closing its async generators."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(send_often(backend))
    finally:
        loop.close()


def run_in_runner(backend: AsyncRedisBackend) -> None:
    with asyncio.Runner() as runner:
        runner.run(send_often(backend))
        runner.run(send_often(backend))


def run_in_debug_mode(backend: AsyncRedisBackend) -> None:
    asyncio.run(send_often(backend), debug=True)


def run_in_closed_loop_in_debug_mode(backend: AsyncRedisBackend) -> None:
    loop = asyncio.new_event_loop()
    loop.set_debug(True)
    loop.run_until_complete(send(backend))
    loop.close()


WAYS: list[Callable[[AsyncRedisBackend], None]] = [
    lambda backend: asyncio.run(send(backend)),
    lambda backend: asyncio.run(send_often(backend)),
    run_in_runner,
    run_in_closed_loop,
    run_in_debug_mode,
    run_in_closed_loop_in_debug_mode,
]


@pytest.fixture
def no_unraisable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail if an exception or a warning is ignored because an object is deleted."""
    ignored: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: ignored.append(args.exc_value))
    yield
    gc.collect()
    assert not ignored


@needs_proc
@valkey_only
@pytest.mark.usefixtures("no_unraisable")
@pytest.mark.parametrize("run", WAYS)
def test_no_connections_remain_of_event_loops_that_have_ended(
    server: Server, prefix: str, run: Callable[[AsyncRedisBackend], None]
) -> None:
    backend = backend_on(server.url, prefix)
    asyncio.run(send(backend))
    files = open_files()
    for _ in range(4):
        run(backend)
        # A connection of an event loop that was closed at once is closed in the next one.
        assert open_files() <= files + MAX_CONNECTIONS
    asyncio.run(send(backend))
    assert open_files() <= files
    wait_until_closed(server, prefix)


@valkey_only
@pytest.mark.usefixtures("no_unraisable")
def test_a_hundred_event_loops_one_after_another_have_one_connection_at_a_time(
    server: Server, prefix: str
) -> None:
    backend = backend_on(server.url, prefix)
    limiter = AsyncLimiter(POLICY, backend)

    async def send_and_count(number: int) -> int:
        assert await limiter.try_acquire(ENVELOPE)
        return clients(server, prefix) if number % 10 == 0 else 1

    for number in range(100):
        # The server may notice a moment later that the last connection was closed.
        assert asyncio.run(send_and_count(number)) <= 3
    wait_until_closed(server, prefix)
    assert asyncio.run(limiter.usage(SENDER))[0].used == 100


@valkey_only
@pytest.mark.usefixtures("no_unraisable")
@pytest.mark.parametrize("is_dropped", [False, True])
def test_connections_of_an_event_loop_that_was_closed_do_not_need_a_next_one(
    server: Server, prefix: str, is_dropped: bool
) -> None:
    backend = backend_on(server.url, prefix)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(send_often(backend))
    loop.close()
    if is_dropped:
        del backend
        gc.collect()
        wait_until_closed(server, prefix)
    else:
        asyncio.run(send(backend))
        wait_until_closed(server, prefix)


@needs_proc
@valkey_only
@pytest.mark.usefixtures("no_unraisable")
@pytest.mark.parametrize("run", WAYS)
def test_threads_with_an_event_loop_each_leave_no_connections(
    server: Server, prefix: str, run: Callable[[AsyncRedisBackend], None]
) -> None:
    backend = backend_on(server.url, prefix)

    def run_often() -> None:
        for _ in range(2):
            run(backend)

    files = open_files()
    errors: list[Any] = []
    hook, threading.excepthook = threading.excepthook, errors.append
    try:
        threads = [threading.Thread(target=run_often) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        threading.excepthook = hook
    assert not errors
    asyncio.run(send(backend))
    wait_until_closed(server, prefix)
    assert open_files() <= files


@valkey_only
@pytest.mark.usefixtures("no_unraisable")
def test_event_loops_of_other_threads_are_not_affected(server: Server, prefix: str) -> None:
    backend = backend_on(server.url, prefix)
    may_end = threading.Event()
    has_sent = threading.Event()
    done: list[bool] = []

    async def wait_between() -> None:
        await send(backend)
        has_sent.set()
        await asyncio.to_thread(may_end.wait)
        await send(backend)
        done.append(True)

    thread = threading.Thread(target=lambda: asyncio.run(wait_between()))
    thread.start()
    assert has_sent.wait(60)
    for run in WAYS:
        run(backend)
    may_end.set()
    thread.join()
    assert done
    asyncio.run(send(backend))
    wait_until_closed(server, prefix)


@needs_proc
@valkey_only
def test_event_loops_that_are_never_closed_go_with_their_connections(
    server: Server, prefix: str
) -> None:
    backend = backend_on(server.url, prefix)

    def run_in_forgotten_loop() -> weakref.ref[asyncio.AbstractEventLoop]:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(send(backend))
        return weakref.ref(loop)

    files = open_files()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of event loops that are not closed
        loops = [run_in_forgotten_loop() for _ in range(10)]
        asyncio.run(send(backend))
        gc.collect()
        assert not any(loop() for loop in loops)
    assert open_files() <= files
    wait_until_closed(server, prefix)


@valkey_only
@pytest.mark.usefixtures("no_unraisable")
def test_a_backend_that_is_forgotten_in_its_event_loop_closes_its_connections(
    server: Server, prefix: str
) -> None:
    async def forget() -> None:
        backend = backend_on(server.url, prefix)
        await send_often(backend)
        del backend
        gc.collect()
        await asyncio.to_thread(wait_until_closed, server, prefix)

    asyncio.run(forget())


@valkey_only
@pytest.mark.usefixtures("no_unraisable")
def test_a_backend_that_is_forgotten_between_two_runs_of_its_event_loop(
    server: Server, prefix: str
) -> None:
    with asyncio.Runner() as runner:
        backend = backend_on(server.url, prefix)
        runner.run(send_often(backend))
        del backend
        gc.collect()
        runner.run(asyncio.sleep(0))
        wait_until_closed(server, prefix)


@needs_proc
@pytest.mark.usefixtures("no_unraisable")
def test_connections_to_sentinels_and_cluster_nodes_end_with_their_event_loop(
    sentinels: SentinelSet, cluster: Cluster, prefix: str
) -> None:
    for run, url in itertools.product(WAYS, (sentinels.url, cluster.url)):
        backend = backend_on(url, prefix, protocol=2)
        asyncio.run(send(backend))
        files = open_files()
        for _ in range(2):
            run(backend)
        asyncio.run(send(backend))
        assert open_files() <= files, (run, url)
        for server in (*sentinels.servers, *cluster.nodes):
            wait_until_closed(server, prefix)


@pytest.mark.usefixtures("no_unraisable")
@pytest.mark.parametrize("calls", [1, 200])
def test_an_event_loop_that_ends_while_calls_are_in_progress(
    server: Server, proxy: Proxy, prefix: str, calls: int
) -> None:
    backend = backend_on(proxy.url, prefix)
    limiter = AsyncLimiter(POLICY, backend)

    async def leave_calls() -> None:
        await send_often(backend)
        proxy.answers_withheld.set()
        tasks = [asyncio.create_task(limiter.try_acquire(ENVELOPE)) for _ in range(calls)]
        await asyncio.wait(tasks, timeout=0.01)
        assert not any(task.done() for task in tasks)

    asyncio.run(leave_calls())
    proxy.answers_withheld.clear()
    wait_until_closed(server, prefix)
    asyncio.run(send(backend))
    wait_until_closed(server, prefix)


@needs_proc
@pytest.mark.parametrize("calls", [1, 200])
def test_an_event_loop_that_is_closed_while_calls_are_in_progress(
    server: Server,
    proxy: Proxy,
    prefix: str,
    calls: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    backend = backend_on(proxy.url, prefix)
    asyncio.run(send(backend))
    files = open_files()

    async def leave_calls() -> list[asyncio.Task[Any]]:
        await send_often(backend)
        proxy.answers_withheld.set()
        limiter = AsyncLimiter(POLICY, backend)
        tasks = [asyncio.create_task(limiter.try_acquire(ENVELOPE)) for _ in range(calls)]
        await asyncio.wait(tasks, timeout=0.01)
        return tasks

    gc.collect()  # what earlier tests left is not of this one
    ignored: list[Any] = []
    hook, sys.unraisablehook = sys.unraisablehook, ignored.append
    try:
        loop = asyncio.new_event_loop()
        tasks = loop.run_until_complete(leave_calls())
        loop.close()
        proxy.answers_withheld.clear()
        asyncio.run(send(backend))
        wait_until_closed(server, prefix)
        for task in tasks:  # of which Python reports that they were not finished
            vars_of_task: Any = task
            vars_of_task._log_destroy_pending = False
        del task, tasks, loop, vars_of_task
        assert open_files() <= files
    finally:
        sys.unraisablehook = hook
    assert not ignored
    assert not caplog.records


@valkey_only
@pytest.mark.usefixtures("no_unraisable")
def test_closing_a_backend_closes_the_connections_of_the_running_event_loop(
    server: Server, prefix: str
) -> None:
    backend = backend_on(server.url, prefix)

    async def send_and_close(other: asyncio.Runner | None) -> None:
        await send_often(backend)
        before = clients(server, prefix)
        await backend.aclose()
        await asyncio.to_thread(wait_until, lambda: clients(server, prefix) < before)
        await backend.aclose()
        await send(backend)
        await asyncio.gather(backend.aclose(), backend.aclose())

    with asyncio.Runner() as runner:
        runner.run(send(backend))
        asyncio.run(send_and_close(None))
        wait_until(lambda: clients(server, prefix) == 1)
        runner.run(send(backend))
        assert clients(server, prefix) == 1
        runner.run(backend.aclose())
        wait_until_closed(server, prefix)


@valkey_only
@pytest.mark.usefixtures("no_unraisable")
def test_an_event_loop_that_runs_on_after_its_generators_were_closed(
    server: Server, prefix: str
) -> None:
    backend = backend_on(server.url, prefix)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(send(backend))
    loop.run_until_complete(loop.shutdown_asyncgens())
    wait_until_closed(server, prefix)
    loop.run_until_complete(send(backend))
    loop.run_until_complete(send(backend))
    loop.close()
    asyncio.run(send(backend))
    wait_until_closed(server, prefix)


@valkey_only
@pytest.mark.usefixtures("no_unraisable")
def test_an_async_generator_may_call_the_backend_when_the_event_loop_ends(
    server: Server, prefix: str
) -> None:
    backend = backend_on(server.url, prefix)
    limiter = AsyncLimiter(POLICY, backend)
    refunded: list[bool] = []

    async def messages() -> Any:
        decision = await limiter.try_acquire(ENVELOPE)
        try:
            while True:
                yield decision
        finally:
            await limiter.refund(decision)
            refunded.append(True)

    async def use() -> Any:
        generators = [messages() for _ in range(5)]
        for generator in generators:
            assert await anext(generator)
        return generators

    generators = asyncio.run(use())
    assert refunded == [True] * len(generators)
    assert asyncio.run(limiter.usage(SENDER))[0].used == 0
    wait_until_closed(server, prefix)


def test_an_event_loop_that_ends_while_the_server_is_away(own_server: Server, prefix: str) -> None:
    backend = backend_on(own_server.url, prefix)

    async def meet_outage() -> None:
        await send(backend)
        own_server.kill()
        with pytest.raises(BackendUnavailable):
            await send(backend)

    asyncio.run(meet_outage())
    own_server.start()
    asyncio.run(send(backend))
    wait_until_closed(own_server, prefix)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@valkey_only
def test_a_forked_process_has_event_loops_of_its_own(server: Server, prefix: str) -> None:
    backend = backend_on(server.url, prefix)
    asyncio.run(send(backend))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            asyncio.run(send(backend))
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    asyncio.run(send(backend))
    wait_until_closed(server, prefix)
    assert asyncio.run(AsyncLimiter(POLICY, backend).usage(SENDER))[0].used == 3
