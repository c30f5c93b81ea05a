"""A value of another program at a key of the backend is an error, and is not changed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import redis
from rlm_testkit.redis_backends import (
    ANN,
    DOMAIN_LIMIT,
    GLOBAL_LIMIT,
    POLICY,
    BackendFactory,
    envelope_from,
    one_kind_per_server,
    unique_prefix,
    used,
)
from rlm_testkit.servers import Cluster, Server

from ratelimit_mail import (
    Limiter,
    MessageRateLimit,
    Policy,
)
from ratelimit_mail.backends import MemoryBackend, RedisBackend
from ratelimit_mail.exceptions import BackendError

prefix = pytest.fixture(unique_prefix)
backends = pytest.fixture(one_kind_per_server)

Write = Callable[[Any, bytes], Any]

FOREIGN_VALUES: dict[str, Write] = {
    "string": lambda client, key: client.set(key, "hello"),
    "empty": lambda client, key: client.set(key, ""),
    "number": lambda client, key: client.set(key, "12"),
    "json": lambda client, key: client.set(key, '{"a": [1, 2, 3, 4, 5, 6, 7]}'),
    "hash": lambda client, key: client.hset(key, "field", "value"),
    "set": lambda client, key: client.sadd(key, "member"),
    "sorted set": lambda client, key: client.zadd(key, {"member": 1}),
    "stream": lambda client, key: client.xadd(key, {"field": "value"}),
    "list": lambda client, key: client.rpush(key, "one", "two"),
    "list of numbers": lambda client, key: client.rpush(key, *range(100)),
}

KEYS = {
    "sender": (b":test:sender:0", [0, 2, 2]),
    "domain": (b":test:sender_domain:0", [2, 0, 2]),
    "global": (b":test:global:1", [2, 2, 0]),
    "id": (b":once:", [2, 2, 2]),
}
"""A part of a key name, and what is counted of two messages if that key is deleted."""

Call = Callable[[Limiter], Any]

CALLS: dict[str, Call] = {
    "check": lambda limiter: limiter.check(envelope_from()),
    "try_acquire": lambda limiter: limiter.try_acquire(envelope_from()),
    "try_acquire by id": lambda limiter: limiter.try_acquire(envelope_from(envelope_id="1")),
    "try_acquire_many": lambda limiter: limiter.try_acquire_many([envelope_from()]),
    "acquire": lambda limiter: limiter.acquire(envelope_from()),
    "reserve": lambda limiter: limiter.reserve(envelope_from()),
    "usage": used,
}

CALLS_BY_KEY: dict[str, dict[str, Call]] = {
    "sender": {**CALLS, "reset": lambda limiter: limiter.reset(ANN)},
    "domain": {
        **CALLS,
        "reset": lambda limiter: limiter.reset("uwo.ca", scope="sender_domain"),
        "too much": lambda limiter: limiter.try_acquire(envelope_from(recipients=1001)),
    },
    "global": {**CALLS, "reset": lambda limiter: limiter.reset(scope="global")},
    "id": {
        "try_acquire by id": CALLS["try_acquire by id"],
        "try_acquire_many": lambda limiter: limiter.try_acquire_many(
            [envelope_from(envelope_id="1")]
        ),
    },
}
"""The calls that access each key."""


class ForeignValue:
    """A value of another program at a key of the backend."""

    def __init__(self, client: Any, prefix: str, which: str, write: Write) -> None:
        self._client = client
        name = KEYS[which][0]
        (self.key,) = (key for key in client.scan_iter(f"{prefix}*", count=10_000) if name in key)
        client.delete(self.key)
        write(client, self.key)
        self._before = self._state()

    def _state(self) -> list[Any]:
        return [self._client.dump(self.key), self._client.pttl(self.key)]

    def is_reported_by(self, call: Callable[[], Any]) -> None:
        """Assert that a call raises an error that names the key, and does not change its value."""
        with pytest.raises(BackendError, match="not of this library") as caught:
            call()
        assert type(caught.value) is BackendError
        assert self.key.decode() in str(caught.value)
        assert self._state() == self._before

    def delete(self) -> None:
        """Delete the value."""
        self._client.delete(self.key)


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


@pytest.mark.parametrize("kind", FOREIGN_VALUES)
def test_a_value_of_another_program_is_an_error_and_is_not_changed(
    kind: str, backends: BackendFactory, server: Server, client: redis.Redis, prefix: str
) -> None:
    for which, (_, remaining) in KEYS.items():
        own = f"{prefix}{which}:"
        limiter = Limiter(POLICY, backends.from_url(server.url, prefix=own))
        assert limiter.try_acquire_many([envelope_from(envelope_id="1"), envelope_from()])
        foreign = ForeignValue(client, own, which, FOREIGN_VALUES[kind])
        for call in CALLS_BY_KEY[which].values():
            foreign.is_reported_by(partial(call, limiter))
        foreign.delete()
        assert used(limiter) == remaining, which


@pytest.mark.parametrize("kind", [kind for kind in FOREIGN_VALUES if kind != "hash"])
def test_a_foreign_value_at_the_key_of_bookings_or_of_blocks_is_an_error_and_is_not_changed(
    kind: str, backends: BackendFactory, server: Server, client: redis.Redis, prefix: str
) -> None:
    backend = backends.from_url(server.url, prefix=prefix)
    limiter = Limiter(Policy(name="test", limits=[MessageRateLimit("2/day")]), backend)
    decision = limiter.try_acquire(envelope_from())
    at_once, booked = limiter.reserve(envelope_from()), limiter.reserve(envelope_from())
    assert (at_once.delay, booked.delay > 80_000) == (0, True)
    (places,) = client.scan_iter(f"{prefix}*bookings:places", count=10_000)
    before = client.dump(places)
    client.delete(places)
    FOREIGN_VALUES[kind](client, places)
    foreign = client.dump(places)
    calls: dict[str, Callable[[], Any]] = {
        "reserve": lambda: limiter.reserve(envelope_from()),
        "redeem": booked.redeem,
        "redeem at once": at_once.redeem,
        "settle": lambda: limiter.settle(booked.decision),
        "cancel": booked.cancel,
    }
    for call in calls.values():
        with pytest.raises(BackendError, match="bookings:places"):
            call()
        assert client.dump(places) == foreign
    limiter.settle(decision)
    assert before is not None
    client.restore(places, 10**6, before, replace=True)
    assert limiter.usage(ANN)[0].used == 2
    assert not booked.redeem()
    backend.write_register("test:blocks", {"a": "1"})
    (register,) = client.scan_iter(f"{prefix}*register", count=10_000)
    client.delete(register)
    FOREIGN_VALUES[kind](client, register)
    with pytest.raises(BackendError, match="register"):
        backend.read_register("test:blocks")
    with pytest.raises(BackendError, match="register"):
        backend.write_register("test:blocks", {"a": "2", "b": None})


@pytest.mark.parametrize("instead", ["raise", "allow", "deny", MemoryBackend()])
@pytest.mark.parametrize("which", ["sender", "id"])
def test_a_value_of_another_program_is_not_an_outage(
    instead: Any,
    which: str,
    backends: BackendFactory,
    server: Server,
    client: redis.Redis,
    prefix: str,
) -> None:
    backend = backends.from_url(server.url, prefix=prefix)
    limiter = Limiter(POLICY, backend, on_backend_error=instead)
    assert limiter.try_acquire_many([envelope_from(envelope_id="1"), envelope_from()])
    foreign = ForeignValue(client, prefix, which, FOREIGN_VALUES["string"])
    for call in CALLS_BY_KEY[which].values():
        foreign.is_reported_by(partial(call, limiter))
    foreign.delete()
    assert not limiter.try_acquire(envelope_from()).degraded


@pytest.mark.parametrize("which", ["sender", "global"])
def test_an_attempt_that_would_be_refused_is_not_counted_beside_a_value_of_another_program(
    which: str, backends: BackendFactory, server: Server, client: redis.Redis, prefix: str
) -> None:
    full = Policy(name="test", limits=[MessageRateLimit("2/day"), DOMAIN_LIMIT, GLOBAL_LIMIT])
    limiter = Limiter(full, backends.from_url(server.url, prefix=prefix))
    assert [bool(each) for each in limiter.try_acquire_many([envelope_from()] * 2)] == [True, True]
    foreign = ForeignValue(client, prefix, which, FOREIGN_VALUES["hash"])
    for name in ("try_acquire", "try_acquire by id", "try_acquire_many", "reserve"):
        foreign.is_reported_by(partial(CALLS[name], limiter))
    foreign.delete()
    assert used(limiter) == KEYS[which][1]


@pytest.mark.parametrize("which", ["sender", "domain", "global"])
def test_a_refund_beside_a_value_of_another_program_takes_nothing_out_and_can_be_tried_again(
    which: str, backends: BackendFactory, server: Server, client: redis.Redis, prefix: str
) -> None:
    limiter = Limiter(POLICY, backends.from_url(server.url, prefix=prefix))
    decision, _ = limiter.try_acquire_many([envelope_from(), envelope_from()])
    foreign = ForeignValue(client, prefix, which, FOREIGN_VALUES["list"])
    for _ in range(2):
        foreign.is_reported_by(partial(limiter.refund, decision))
    foreign.delete()
    assert used(limiter) == KEYS[which][1]
    limiter.refund(decision)
    assert used(limiter) == [max(0, count - 1) for count in KEYS[which][1]]


@pytest.mark.parametrize("kind", ["string", "empty", "number", "hash", "list"])
def test_a_refund_by_an_id_whose_answer_another_program_has_overwritten_names_the_key(
    kind: str, backends: BackendFactory, server: Server, client: redis.Redis, prefix: str
) -> None:
    limiter = Limiter(POLICY, backends.from_url(server.url, prefix=prefix))
    decision, _ = limiter.try_acquire_many([envelope_from(envelope_id="1"), envelope_from()])
    foreign = ForeignValue(client, prefix, "id", FOREIGN_VALUES[kind])
    foreign.is_reported_by(partial(limiter.refund, decision))
    foreign.delete()
    assert used(limiter) == [2, 2, 2]


@pytest.mark.parametrize("value", ["[1, 2, 3, 4, 5, 6]", '["a", "b", "c", "d", "e", "f"]'])
def test_an_answer_that_another_program_has_overwritten_with_a_list_of_its_own_is_an_error(
    value: str, backends: BackendFactory, server: Server, client: redis.Redis, prefix: str
) -> None:
    limiter = Limiter(POLICY, backends.from_url(server.url, prefix=prefix))
    assert limiter.try_acquire_many([envelope_from(envelope_id="1"), envelope_from()])
    foreign = ForeignValue(client, prefix, "id", lambda client, key: client.set(key, value))
    foreign.is_reported_by(
        lambda: limiter.try_acquire_many(
            [envelope_from("bob@uwo.ca"), envelope_from(envelope_id="1")]
        )
    )
    assert used(limiter, "bob@uwo.ca") == [0, 2, 2]


@pytest.mark.parametrize("before", [0, 1, 140])
@pytest.mark.parametrize("which", ["sender", "id"])
def test_in_a_batch_with_a_value_of_another_program_all_other_messages_are_refunded(
    which: str,
    before: int,
    backends: BackendFactory,
    server: Server,
    client: redis.Redis,
    prefix: str,
) -> None:
    limiter = Limiter(POLICY, backends.from_url(server.url, prefix=prefix))
    assert limiter.try_acquire_many([envelope_from(envelope_id="1"), envelope_from()])
    foreign = ForeignValue(client, prefix, which, FOREIGN_VALUES["string"])
    bob = "bob@uwo.ca"
    first = [envelope_from(bob, envelope_id=str(i) if i % 2 else None) for i in range(before)]
    batch = [
        *first,
        envelope_from(envelope_id="1"),
        envelope_from(bob),
        envelope_from(bob, envelope_id="last"),
    ]
    foreign.is_reported_by(lambda: limiter.try_acquire_many(batch))
    foreign.delete()
    assert used(limiter, bob) == [0, *KEYS[which][1][1:]]
    # The answers to their ids are forgotten as well, so a repeated message is charged.
    assert all(limiter.try_acquire_many(batch[before + 1 :]))
    assert used(limiter, bob)[0] == 2


# The same in a cluster, where a script does not reach all counts of a message.


@pytest.fixture
def on_cluster(cluster: Cluster, prefix: str) -> Iterator[tuple[Limiter, Any]]:
    """Return a limiter on a cluster, and a client of the cluster."""
    with contextlib.closing(
        RedisBackend.from_url(cluster.url, prefix=prefix, timeout=30)
    ) as backend:
        cluster_client = redis.RedisCluster.from_url(cluster.masters[0].url.removesuffix("/0"))
        with contextlib.closing(cluster_client) as client:
            yield Limiter(POLICY, backend), client


@pytest.mark.parametrize("kind", ["string", "hash", "list"])
@pytest.mark.parametrize("which", ["sender", "domain", "global"])
def test_in_a_cluster_a_value_of_another_program_is_an_error_and_nothing_else_is_charged(
    kind: str, which: str, on_cluster: tuple[Limiter, Any], prefix: str
) -> None:
    limiter, client = on_cluster
    decisions = limiter.try_acquire_many([envelope_from(envelope_id="1"), envelope_from()])
    foreign = ForeignValue(client, prefix, which, FOREIGN_VALUES[kind])
    for name, call in CALLS_BY_KEY[which].items():
        # A repeated id gets its first answer, for which no count is read.
        if name != "try_acquire by id":
            foreign.is_reported_by(partial(call, limiter))
    bob = [envelope_from("bob@uwo.ca", envelope_id=str(i)) for i in range(2)]
    foreign.is_reported_by(lambda: limiter.try_acquire_many([*bob, envelope_from(), *bob]))
    foreign.delete()
    assert used(limiter) == KEYS[which][1]
    assert used(limiter, "bob@uwo.ca")[0] == 0
    limiter.refund(decisions[1])
    assert used(limiter) == [max(0, count - 1) for count in KEYS[which][1]]


@pytest.mark.parametrize("kind", ["string", "hash", "list"])
def test_in_a_cluster_an_answer_that_another_program_has_overwritten_is_an_error(
    kind: str, on_cluster: tuple[Limiter, Any], prefix: str
) -> None:
    limiter, client = on_cluster
    decision, _ = limiter.try_acquire_many([envelope_from(envelope_id="1"), envelope_from()])
    foreign = ForeignValue(client, prefix, "id", FOREIGN_VALUES[kind])
    for call in CALLS_BY_KEY["id"].values():
        foreign.is_reported_by(partial(call, limiter))
    foreign.is_reported_by(lambda: limiter.refund(decision))
    foreign.delete()
    assert used(limiter) == [2, 2, 2]
