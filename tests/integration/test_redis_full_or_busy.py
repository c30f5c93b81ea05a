"""A server that cannot answer for a while, or has no memory left, is an outage."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.asyncio.retry
import redis.retry
from rlm_testkit.redis_backends import (
    ANN,
    POLICY,
    Colour,
    colour_at,
    everything,
    letter,
    new_prefix,
    spare_server,
    used,
)
from rlm_testkit.servers import Server, command, wait_until

from ratelimit_mail import (
    Action,
    Limiter,
    RateLimitExceeded,
)
from ratelimit_mail.exceptions import BackendUnavailable

prefix = pytest.fixture(new_prefix)
colour = pytest.fixture(colour_at)
spare = pytest.fixture(spare_server)

Verb = Callable[[Limiter], Any]


@contextlib.contextmanager
def busy(server: Server) -> Iterator[None]:
    """Somebody's script runs for ever."""

    def run_for_ever() -> None:
        with server.client(socket_timeout=None) as client, contextlib.suppress(redis.RedisError):
            client.eval("while true do end", 0)

    def says_busy() -> bool:
        try:
            admin.ping()
        except redis.ResponseError as error:
            return "BUSY" in str(error)
        return False

    with server.client() as admin:
        command(admin, "CONFIG", "SET", "lua-time-limit", 10)
        thread = threading.Thread(target=run_for_ever)
        thread.start()
        try:
            wait_until(says_busy)
            yield
        finally:
            command(admin, "SCRIPT", "KILL")
            thread.join()


@contextlib.contextmanager
def full(server: Server) -> Iterator[None]:
    """The server has no memory left."""
    with server.client() as admin:
        command(admin, "CONFIG", "SET", "maxmemory-policy", "noeviction")
        command(admin, "CONFIG", "SET", "maxmemory", 1)
        try:
            yield
        finally:
            command(admin, "CONFIG", "SET", "maxmemory", 0)


CHARGING: dict[str, Verb] = {
    "somebody known": lambda limiter: limiter.try_acquire(letter()),
    "somebody new": lambda limiter: limiter.try_acquire(letter("bob@x.org")),
    "by id": lambda limiter: limiter.try_acquire(letter(known_by="new")),
    "too much": lambda limiter: limiter.try_acquire(letter(recipients=1001)),
    "many": lambda limiter: limiter.try_acquire_many([letter("bob@x.org")] * 150),
    "reserve": lambda limiter: limiter.reserve(letter()),
    "acquire": lambda limiter: limiter.acquire(letter()),
    "acquire by somebody new": lambda limiter: limiter.acquire(letter("bob@x.org")),
}


@pytest.mark.parametrize("state", [busy, full])
def test_a_server_that_is_busy_or_full_is_an_outage(
    state: Callable[[Server], Any], colour: Colour, spare: Server
) -> None:
    backend = colour.at(spare.url)
    limiter = Limiter(POLICY, backend)
    assert limiter.try_acquire(letter())
    with spare.client() as client:
        before = everything(client)
        with state(spare):
            for verb in CHARGING.values():
                with pytest.raises(BackendUnavailable, match="is away"):
                    verb(Limiter(POLICY, backend))
        assert everything(client) == before
    for verb in CHARGING.values():
        verb(Limiter(POLICY, backend))
    assert (used(limiter)[0], used(limiter, "bob@x.org")[0]) == (5, 152)


@pytest.mark.parametrize("state", [busy, full])
def test_while_a_server_is_busy_or_full_nothing_is_taken_for_accepted(
    state: Callable[[Server], Any], colour: Colour, spare: Server
) -> None:
    backend = colour.at(spare.url)
    limiter = Limiter(POLICY, backend, on_backend_error="deny")
    assert limiter.try_acquire(letter())
    with state(spare):
        for ask in (limiter.try_acquire, lambda each: limiter.try_acquire_many([each])[0]):
            for known_by in (None, "1"):
                decision = ask(letter(known_by=known_by))
                assert (decision.action, decision.degraded) == (Action.DEFER, True)
                assert decision.retry_after is not None
                assert decision.retry_after > 0
        with pytest.raises(RateLimitExceeded, match="the backend is away"):
            limiter.reserve(letter())
    wait_until(lambda: not limiter.check(letter()).degraded)
    assert used(limiter) == [1, 1, 1]
    decision = limiter.try_acquire(letter(known_by="1"))
    assert (decision.action, decision.degraded) == (Action.ACCEPT, False)
    assert used(limiter) == [2, 2, 2]


def test_a_refund_while_the_server_is_full_is_done_or_not_but_never_half(
    colour: Colour, spare: Server
) -> None:
    limiter = Limiter(POLICY, colour.at(spare.url))
    decisions = limiter.try_acquire_many([letter(known_by=each) for each in (None, "1", None)])
    with full(spare):
        lost = 0
        for decision in decisions:
            try:
                Limiter.refund(limiter, decision)
            except BackendUnavailable:
                lost += 1
    wait_until(lambda: _idempotency(limiter))
    assert used(limiter) == [lost, lost, lost]


def _idempotency(limiter: Limiter) -> bool:
    with contextlib.suppress(BackendUnavailable):
        limiter.usage(ANN)
        return True
    return False
