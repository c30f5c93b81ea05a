"""The queue of calls that wait for a connection of a full pool."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import pytest
from redis import exceptions

from ratelimit_mail.backends.redis.errors import NotSent, PoolFull, backend_error, is_pool_full
from ratelimit_mail.backends.redis.full_pool import (
    DEFAULT_TIMEOUT,
    AsyncPoolQueue,
    PoolQueue,
    longest_wait,
)
from ratelimit_mail.exceptions import BackendUnavailable, ConnectionPoolFull

FULL = exceptions.MaxConnectionsError("Too many connections")


class SmallPool:
    """A pool with one connection, which is not returned by the thread that took it last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.free = 1

    def take(self) -> int:
        with self._lock:
            if not self.free:
                raise FULL
            self.free -= 1
            return 1

    async def take_async(self) -> int:
        return self.take()

    def give_back(self) -> None:
        with self._lock:
            self.free += 1


def test_a_thread_that_calls_again_and_again_does_not_starve_another_thread() -> None:
    pool, queue = SmallPool(), PoolQueue()
    is_served = threading.Event()

    def call_often() -> None:
        while not is_served.is_set():
            queue.run(pool.take, 60)
            pool.give_back()
            if queue.waiters:
                queue.wake()

    thread = threading.Thread(target=call_often)
    thread.start()
    try:
        for _ in range(50):
            queue.run(pool.take, 60)
            pool.give_back()
            queue.wake()
    finally:
        is_served.set()
        thread.join()


def test_tasks_get_their_connections_in_the_order_of_their_calls() -> None:
    async def calls() -> list[int]:
        pool, queue = SmallPool(), AsyncPoolQueue()
        order: list[int] = []

        async def call(number: int) -> None:
            await queue.run(pool.take_async, 60)
            order.append(number)
            await asyncio.sleep(0)
            pool.give_back()
            queue.wake()

        tasks = [asyncio.create_task(call(number)) for number in range(100)]
        await asyncio.sleep(0)
        for task in tasks[10:90:7]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not queue.waiters
        assert not queue.busy
        assert pool.free == 1
        return order

    assert asyncio.run(calls()) == [i for i in range(100) if i not in range(10, 90, 7)]


def test_a_thread_that_was_interrupted_while_it_waited_does_not_block_the_queue() -> None:
    class Interruption(BaseException):
        pass

    pool, queue = SmallPool(), PoolQueue()
    pool.take()
    with pytest.raises(PoolFull):
        queue.run(pool.take, 0)

    def interrupted() -> None:
        raise Interruption

    with pytest.raises(Interruption):
        queue.run(interrupted, 60)
    assert not queue.waiters
    # An exception may come between any two instructions, so that one remains in the queue.
    queue.waiters.append(_abandoned_waiter())
    pool.give_back()
    assert queue.run(pool.take, 60) == 1


def _abandoned_waiter() -> Any:
    from ratelimit_mail.backends.redis.full_pool import _Waiter

    return _Waiter(-2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_does_not_wait_behind_the_threads_of_its_parent() -> None:
    pool, queue = SmallPool(), PoolQueue()
    pool.take()
    ended = threading.Event()

    def wait() -> None:
        queue.run(pool.take, 60)
        ended.set()

    thread = threading.Thread(target=wait)
    thread.start()
    while not queue.waiters:
        pass
    queue.busy.add(thread.ident or 0)
    child = os.fork()
    if child == 0:
        os._exit(0 if not queue.waiters and not queue.busy else 1)
    assert os.waitpid(child, 0)[1] == 0
    pool.give_back()
    assert ended.wait(60)
    thread.join()


def test_a_call_that_waits_while_another_one_gets_no_answer_meets_an_outage() -> None:
    pool, queue = SmallPool(), PoolQueue()
    pool.take()
    queue.busy |= {1, threading.get_ident()}
    with pytest.raises(NotSent, match="no answer within") as caught:
        queue.run(pool.take, 0.02)
    error = backend_error(caught.value, "Redis at host")
    assert isinstance(error, BackendUnavailable)
    assert error.safe_to_repeat
    assert "Redis at host is away: TimeoutError" in str(error)


def test_a_call_that_waits_while_other_calls_are_answered_does_not_meet_an_outage() -> None:
    pool, queue = SmallPool(), PoolQueue()
    pool.take()
    queue.busy |= {1, threading.get_ident()}

    def attempt() -> int:
        queue.answered_at = float("inf")
        return pool.take()

    with pytest.raises(PoolFull):
        queue.run(attempt, 0.02)


def test_calls_that_wait_end_with_the_error_of_a_call_that_timed_out() -> None:
    pool, queue = SmallPool(), PoolQueue()
    pool.take()

    def attempt() -> int:
        queue.fail(exceptions.TimeoutError("Timeout reading from socket"))
        return pool.take()

    with pytest.raises(NotSent, match="Timeout reading"):
        queue.run(attempt, 60)


@pytest.mark.parametrize(
    "error",
    [
        exceptions.MaxConnectionsError(),
        FULL,
        exceptions.ConnectionError("Too many connections"),
        exceptions.ConnectionError("No connection available."),
        exceptions.RedisClusterException("cannot be connected: Too many connections"),
        PoolFull(2),
    ],
)
def test_every_form_of_a_full_pool_is_an_error_of_its_own(error: Exception) -> None:
    assert is_pool_full(error)
    translated = backend_error(error, "Redis at host")
    assert isinstance(translated, ConnectionPoolFull)
    assert not isinstance(translated, BackendUnavailable)
    assert "too small (max_connections)" in str(translated)


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ConnectionError("max number of clients reached"),
        exceptions.ConnectionError("Connection refused"),
        exceptions.TimeoutError("Timeout reading from socket"),
        exceptions.ResponseError("Too many connections"),
        OSError("Too many open files"),
    ],
)
def test_other_errors_are_not_those_of_a_full_pool(error: Exception) -> None:
    assert not is_pool_full(error)


def test_a_call_waits_as_long_as_a_call_may_take() -> None:
    assert longest_wait({"socket_timeout": 1, "socket_connect_timeout": 0.5}) == 1.5
    assert longest_wait({"socket_timeout": None}) == 2 * DEFAULT_TIMEOUT
