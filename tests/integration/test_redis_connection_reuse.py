"""The connections that a sync backend reuses: few, returned to the pool, and renewed by it."""

from __future__ import annotations

import os
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from redis.auth.token import SimpleToken
from rlm_testkit.load import ENVELOPE, SENDER, one_limit_policy
from rlm_testkit.redis_backends import unique_prefix
from rlm_testkit.servers import Server, command, wait_until

from ratelimit_mail import Limiter
from ratelimit_mail.backends import RedisBackend
from ratelimit_mail.backends.redis import connections
from ratelimit_mail.backends.redis.connections import MAX_REUSE_SECONDS

POLICY = one_limit_policy(1_000_000)


prefix = pytest.fixture(unique_prefix)


def connections_of(server: Server, **fields: str) -> list[dict[str, str]]:
    """Return the connections that the server lists with these fields, such as name or user."""
    with server.client() as client:
        listed = client.client_list()
    return [each for each in listed if fields.items() <= each.items()]


def limiter_with(client: redis.Redis, prefix: str) -> Limiter:
    return Limiter(POLICY, RedisBackend(client, prefix=prefix))


def acquire_and_release(pool: redis.ConnectionPool, number: int) -> None:
    """Acquire so many connections at once: an error if the pool has fewer."""
    acquired = [pool.get_connection() for _ in range(number)]
    for connection in acquired:
        pool.release(connection)


def test_consecutive_calls_use_one_connection(server: Server, prefix: str) -> None:
    with server.client(client_name=prefix) as client:
        limiter = limiter_with(client, prefix)
        for _ in range(100):
            assert limiter.try_acquire(ENVELOPE)
        time.sleep(2 * MAX_REUSE_SECONDS)
        assert limiter.try_acquire(ENVELOPE)
        assert len(connections_of(server, name=prefix)) == 1


def test_connections_of_ended_threads_are_used_by_other_threads(
    server: Server, prefix: str
) -> None:
    with server.client(client_name=prefix) as client:
        limiter = limiter_with(client, prefix)
        for _ in range(10):
            with ThreadPoolExecutor(4) as pool:
                assert all(pool.map(limiter.try_acquire, [ENVELOPE] * 40))
        assert limiter.usage(SENDER)[0].used == 400
        assert len(connections_of(server, name=prefix)) <= 4


def test_backends_of_one_client_share_the_connections_that_they_hold(
    server: Server, prefix: str
) -> None:
    with server.client(max_connections=4, client_name=prefix) as client:
        limiters = [limiter_with(client, prefix) for _ in range(50)]
        for limiter in limiters:
            assert limiter.try_acquire(ENVELOPE)
        assert len(connections_of(server, name=prefix)) == 1
        acquire_and_release(client.connection_pool, 3)


@pytest.mark.parametrize("max_connections", [1, 2, 3, 8])
def test_at_least_half_of_the_connections_of_a_client_remain_in_the_pool(
    server: Server, prefix: str, max_connections: int
) -> None:
    with server.client(max_connections=max_connections) as client:
        limiter = limiter_with(client, prefix)
        barrier = threading.Barrier(max_connections)

        def send(_: int) -> bool:
            barrier.wait()
            return bool(limiter.try_acquire(ENVELOPE))

        with ThreadPoolExecutor(max_connections) as pool:
            assert all(pool.map(send, range(max_connections)))
        acquire_and_release(client.connection_pool, max_connections - max_connections // 2)


def test_no_thread_waits_for_a_connection_that_is_held_but_not_in_use(
    server: Server, prefix: str
) -> None:
    options: dict[str, Any] = {"port": server.port, "max_connections": 2, "timeout": 30}
    pool = redis.BlockingConnectionPool(**options)  # type: ignore[no-untyped-call]
    with redis.Redis(connection_pool=pool) as client:
        limiter = limiter_with(client, prefix)
        with ThreadPoolExecutor(6) as threads:
            assert all(threads.map(limiter.try_acquire, [ENVELOPE] * 300))
        acquire_and_release(pool, 2)
    pool.disconnect()


def test_a_closed_backend_returns_all_connections(server: Server, prefix: str) -> None:
    pool = redis.ConnectionPool(port=server.port, max_connections=2)
    client = redis.Redis(connection_pool=pool)
    backend = RedisBackend(client, prefix=prefix)
    assert Limiter(POLICY, backend).try_acquire(ENVELOPE)
    backend.close()
    acquire_and_release(pool, 2)
    assert Limiter(POLICY, backend).try_acquire(ENVELOPE), "it may still be used"
    backend.close()
    pool.disconnect()


def test_an_idle_connection_that_the_server_has_closed_is_replaced(
    server: Server, prefix: str
) -> None:
    with server.client(client_name=prefix) as client:
        limiter = limiter_with(client, prefix)
        assert limiter.try_acquire(ENVELOPE)
        (idle,) = connections_of(server, name=prefix)
        time.sleep(2 * MAX_REUSE_SECONDS)
        with server.client() as other:
            assert command(other, "CLIENT KILL", "ID", idle["id"]) == 1
        assert limiter.try_acquire(ENVELOPE)


def test_a_renewed_login_applies_to_held_connections(own_server: Server, prefix: str) -> None:
    with own_server.client() as other:
        for user in ("old", "new"):
            command(other, "ACL SETUSER", user, "on", f">{user}", "~*", "+@all")
    with own_server.client(username="old", password="old") as client:
        limiter = limiter_with(client, prefix)
        assert limiter.try_acquire(ENVELOPE)
        in_a_minute = (time.time() + 60) * 1000
        client.connection_pool.re_auth_callback(
            SimpleToken("new", in_a_minute, in_a_minute, {"oid": "new"})
        )
        wait_until(
            lambda: limiter.try_acquire(ENVELOPE) and not connections_of(own_server, user="old")
        )
        assert connections_of(own_server, user="new")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_opens_its_own_connections(
    server: Server, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        connections, "MAX_REUSE_SECONDS", 60.0
    )  # a fork takes longer than the few milliseconds
    with server.client(client_name=prefix) as client:
        limiter = limiter_with(client, prefix)
        reader, writer = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of any fork with threads
            assert limiter.try_acquire(ENVELOPE)  # just before, so that its connection is held
            child = os.fork()
        if child == 0:
            status = 1
            try:
                os.write(writer, b"begun")
                status = 0 if all(limiter.try_acquire(ENVELOPE) for _ in range(200)) else 1
            finally:
                os._exit(status)
        assert os.read(reader, 5) == b"begun"
        assert all(limiter.try_acquire(ENVELOPE) for _ in range(200))
        assert os.waitpid(child, 0)[1] == 0
        os.close(reader)
        os.close(writer)
        assert limiter.usage(SENDER)[0].used == 401
        wait_until(
            lambda: len(connections_of(server, name=prefix)) == 1
        )  # that of the child is closed


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("decode", [False, True])
def test_answers_do_not_depend_on_the_response_options_of_the_client(
    server: Server, prefix: str, protocol: int, decode: bool
) -> None:
    options: dict[str, Any] = {"protocol": protocol, "decode_responses": decode}
    with server.client(**options) as client:
        limiter = Limiter(one_limit_policy(2), RedisBackend(client, prefix=prefix))
        answers = [limiter.try_acquire(ENVELOPE) for _ in range(3)]
        assert [answer.allowed for answer in answers] == [True, True, False]
        limiter.refund(answers[0])
        assert limiter.usage(SENDER)[0].used == 1
