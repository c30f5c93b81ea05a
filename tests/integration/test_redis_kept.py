"""The connections that a blocking backend keeps: few, given back, and looked after by the pool."""

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
from rlm_testkit.load import LETTER, SENDER, at_most, own_prefix
from rlm_testkit.servers import Server, command, wait_until

from ratelimit_mail import Limiter
from ratelimit_mail.backends import RedisBackend
from ratelimit_mail.backends.redis import connections as kept
from ratelimit_mail.backends.redis.connections import LONGEST

POLICY = at_most(1_000_000)


@pytest.fixture
def prefix() -> str:
    return own_prefix()


def connected(server: Server, **asked: str) -> list[dict[str, str]]:
    """The connections that the server tells of: those of a client name or of a user, say."""
    with server.client() as client:
        told = client.client_list()
    return [each for each in told if asked.items() <= each.items()]


def limiter_by(client: redis.Redis, prefix: str) -> Limiter:
    return Limiter(POLICY, RedisBackend(client, prefix=prefix))


def taken_and_released(pool: redis.ConnectionPool, number: int) -> None:
    """Take so many connections at once, which a pool refuses that has not so many."""
    taken = [pool.get_connection() for _ in range(number)]
    for connection in taken:
        pool.release(connection)


def test_calls_one_after_another_go_by_one_connection(server: Server, prefix: str) -> None:
    with server.client(client_name=prefix) as client:
        limiter = limiter_by(client, prefix)
        for _ in range(100):
            assert limiter.try_acquire(LETTER)
        time.sleep(2 * LONGEST)
        assert limiter.try_acquire(LETTER)
        assert len(connected(server, name=prefix)) == 1


def test_threads_that_have_ended_leave_their_connections_to_others(
    server: Server, prefix: str
) -> None:
    with server.client(client_name=prefix) as client:
        limiter = limiter_by(client, prefix)
        for _ in range(10):
            with ThreadPoolExecutor(4) as pool:
                assert all(pool.map(limiter.try_acquire, [LETTER] * 40))
        assert limiter.usage(SENDER)[0].used == 400
        assert len(connected(server, name=prefix)) <= 4


def test_any_number_of_backends_share_what_they_keep_of_a_client(
    server: Server, prefix: str
) -> None:
    with server.client(max_connections=4, client_name=prefix) as client:
        limiters = [limiter_by(client, prefix) for _ in range(50)]
        for limiter in limiters:
            assert limiter.try_acquire(LETTER)
        assert len(connected(server, name=prefix)) == 1
        taken_and_released(client.connection_pool, 3)


@pytest.mark.parametrize("most", [1, 2, 3, 8])
def test_half_of_the_connections_of_a_client_are_left_to_others(
    server: Server, prefix: str, most: int
) -> None:
    with server.client(max_connections=most) as client:
        limiter = limiter_by(client, prefix)
        barrier = threading.Barrier(most)

        def send(_: int) -> bool:
            barrier.wait()
            return bool(limiter.try_acquire(LETTER))

        with ThreadPoolExecutor(most) as pool:
            assert all(pool.map(send, range(most)))
        taken_and_released(client.connection_pool, most - most // 2)


def test_nobody_waits_for_a_connection_that_is_only_kept(server: Server, prefix: str) -> None:
    place: dict[str, Any] = {"port": server.port, "max_connections": 2, "timeout": 2}
    pool = redis.BlockingConnectionPool(**place)  # type: ignore[no-untyped-call]
    with redis.Redis(connection_pool=pool) as client:
        limiter = limiter_by(client, prefix)
        with ThreadPoolExecutor(6) as threads:
            assert all(threads.map(limiter.try_acquire, [LETTER] * 300))
        taken_and_released(pool, 2)
    pool.disconnect()


def test_a_backend_that_is_closed_gives_all_back(server: Server, prefix: str) -> None:
    pool = redis.ConnectionPool(port=server.port, max_connections=2)
    client = redis.Redis(connection_pool=pool)
    backend = RedisBackend(client, prefix=prefix)
    assert Limiter(POLICY, backend).try_acquire(LETTER)
    backend.close()
    taken_and_released(pool, 2)
    assert Limiter(POLICY, backend).try_acquire(LETTER), "it may still be used"
    backend.close()
    pool.disconnect()


def test_nobody_notices_that_the_server_has_closed_an_idle_connection(
    server: Server, prefix: str
) -> None:
    with server.client(client_name=prefix) as client:
        limiter = limiter_by(client, prefix)
        assert limiter.try_acquire(LETTER)
        (idle,) = connected(server, name=prefix)
        time.sleep(2 * LONGEST)
        with server.client() as other:
            assert command(other, "CLIENT KILL", "ID", idle["id"]) == 1
        assert limiter.try_acquire(LETTER)


def test_a_renewed_login_is_used_by_what_is_kept_too(own_server: Server, prefix: str) -> None:
    with own_server.client() as other:
        for user in ("old", "new"):
            command(other, "ACL SETUSER", user, "on", f">{user}", "~*", "+@all")
    with own_server.client(username="old", password="old") as client:
        limiter = limiter_by(client, prefix)
        assert limiter.try_acquire(LETTER)
        in_a_minute = (time.time() + 60) * 1000
        client.connection_pool.re_auth_callback(
            SimpleToken("new", in_a_minute, in_a_minute, {"oid": "new"})
        )
        wait_until(lambda: limiter.try_acquire(LETTER) and not connected(own_server, user="old"), 5)
        assert connected(own_server, user="new")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_has_connections_of_its_own(
    server: Server, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "LONGEST", 60.0)  # a fork takes longer than the few milliseconds
    with server.client(client_name=prefix) as client:
        limiter = limiter_by(client, prefix)
        told, tell = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of any fork with threads
            assert limiter.try_acquire(LETTER)  # just before, so that its connection is kept
            child = os.fork()
        if child == 0:
            status = 1
            try:
                os.write(tell, b"begun")
                status = 0 if all(limiter.try_acquire(LETTER) for _ in range(200)) else 1
            finally:
                os._exit(status)
        assert os.read(told, 5) == b"begun"
        assert all(limiter.try_acquire(LETTER) for _ in range(200))
        assert os.waitpid(child, 0)[1] == 0
        os.close(told)
        os.close(tell)
        assert limiter.usage(SENDER)[0].used == 401
        wait_until(lambda: len(connected(server, name=prefix)) == 1, 5)  # the child's has gone


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("decode", [False, True])
def test_answers_are_the_same_whatever_the_client_makes_of_them(
    server: Server, prefix: str, protocol: int, decode: bool
) -> None:
    options: dict[str, Any] = {"protocol": protocol, "decode_responses": decode}
    with server.client(**options) as client:
        limiter = Limiter(at_most(2), RedisBackend(client, prefix=prefix))
        answers = [limiter.try_acquire(LETTER) for _ in range(3)]
        assert [answer.allowed for answer in answers] == [True, True, False]
        limiter.refund(answers[0])
        assert limiter.usage(SENDER)[0].used == 1
