"""A server that is busy with a script, or has no memory left, is an outage."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from rlm_testkit.redis_backends import (
    ANN,
    POLICY,
    BackendFactory,
    dump_all,
    envelope_from,
    one_kind_per_server,
    spare_server,
    unique_prefix,
    used,
)
from rlm_testkit.servers import Server, command, wait_until

from ratelimit_mail import (
    Action,
    Limiter,
    RateLimitExceeded,
)
from ratelimit_mail.exceptions import BackendUnavailable

prefix = pytest.fixture(unique_prefix)
backends = pytest.fixture(one_kind_per_server)
spare = pytest.fixture(spare_server)

Call = Callable[[Limiter], Any]


@contextlib.contextmanager
def busy(server: Server) -> Iterator[None]:
    """Let a script run for ever."""

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
    """Leave the server no memory."""
    with server.client() as admin:
        command(admin, "CONFIG", "SET", "maxmemory-policy", "noeviction")
        command(admin, "CONFIG", "SET", "maxmemory", 1)
        try:
            yield
        finally:
            command(admin, "CONFIG", "SET", "maxmemory", 0)


CHARGING_CALLS: dict[str, Call] = {
    "a known sender": lambda limiter: limiter.try_acquire(envelope_from()),
    "a new sender": lambda limiter: limiter.try_acquire(envelope_from("bob@x.org")),
    "by id": lambda limiter: limiter.try_acquire(envelope_from(envelope_id="new")),
    "too much": lambda limiter: limiter.try_acquire(envelope_from(recipients=1001)),
    "many": lambda limiter: limiter.try_acquire_many([envelope_from("bob@x.org")] * 150),
    "reserve": lambda limiter: limiter.reserve(envelope_from()),
    "acquire": lambda limiter: limiter.acquire(envelope_from()),
    "acquire by a new sender": lambda limiter: limiter.acquire(envelope_from("bob@x.org")),
}


@pytest.mark.parametrize("state", [busy, full])
def test_a_server_that_is_busy_or_full_is_an_outage(
    state: Callable[[Server], Any], backends: BackendFactory, spare: Server
) -> None:
    backend = backends.from_url(spare.url)
    limiter = Limiter(POLICY, backend)
    assert limiter.try_acquire(envelope_from())
    with spare.client() as client:
        before = dump_all(client)
        with state(spare):
            for call in CHARGING_CALLS.values():
                with pytest.raises(BackendUnavailable, match="is away"):
                    call(Limiter(POLICY, backend))
        assert dump_all(client) == before
    for call in CHARGING_CALLS.values():
        call(Limiter(POLICY, backend))
    assert (used(limiter)[0], used(limiter, "bob@x.org")[0]) == (5, 152)


@pytest.mark.parametrize("state", [busy, full])
def test_while_a_server_is_busy_or_full_no_message_is_accepted(
    state: Callable[[Server], Any], backends: BackendFactory, spare: Server
) -> None:
    backend = backends.from_url(spare.url)
    limiter = Limiter(POLICY, backend, on_backend_error="deny")
    assert limiter.try_acquire(envelope_from())
    with state(spare):
        for call in (limiter.try_acquire, lambda each: limiter.try_acquire_many([each])[0]):
            for envelope_id in (None, "1"):
                decision = call(envelope_from(envelope_id=envelope_id))
                assert (decision.action, decision.degraded) == (Action.DEFER, True)
                assert decision.retry_after is not None
                assert decision.retry_after > 0
        with pytest.raises(RateLimitExceeded, match="the backend is away"):
            limiter.reserve(envelope_from())
    wait_until(lambda: not limiter.check(envelope_from()).degraded)
    assert used(limiter) == [1, 1, 1]
    decision = limiter.try_acquire(envelope_from(envelope_id="1"))
    assert (decision.action, decision.degraded) == (Action.ACCEPT, False)
    assert used(limiter) == [2, 2, 2]


def test_a_refund_while_the_server_is_full_is_made_completely_or_not_at_all(
    backends: BackendFactory, spare: Server
) -> None:
    limiter = Limiter(POLICY, backends.from_url(spare.url))
    decisions = limiter.try_acquire_many(
        [envelope_from(envelope_id=each) for each in (None, "1", None)]
    )
    with full(spare):
        lost = 0
        for decision in decisions:
            try:
                Limiter.refund(limiter, decision)
            except BackendUnavailable:
                lost += 1
    wait_until(lambda: _is_available(limiter))
    assert used(limiter) == [lost, lost, lost]


def _is_available(limiter: Limiter) -> bool:
    with contextlib.suppress(BackendUnavailable):
        limiter.usage(ANN)
        return True
    return False
