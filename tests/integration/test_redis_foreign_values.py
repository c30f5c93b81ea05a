"""A value of another program at one of our keys: said, and left as it is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.asyncio.retry
import redis.retry
from rlm_testkit.redis_backends import (
    ALL,
    ANN,
    DOMAINS,
    POLICY,
    Colour,
    colour_at,
    letter,
    new_prefix,
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

prefix = pytest.fixture(new_prefix)
colour = pytest.fixture(colour_at)

Write = Callable[[Any, bytes], Any]

FOREIGN: dict[str, Write] = {
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

PLACES = {
    "sender": (b":test:sender:0", [0, 2, 2]),
    "domain": (b":test:sender_domain:0", [2, 0, 2]),
    "global": (b":test:global:1", [2, 2, 0]),
    "id": (b":once:", [2, 2, 2]),
}
"""What of two messages stands at which key, and what is counted of them without that key."""

Verb = Callable[[Limiter], Any]

ASKING: dict[str, Verb] = {
    "check": lambda limiter: limiter.check(letter()),
    "try_acquire": lambda limiter: limiter.try_acquire(letter()),
    "try_acquire by id": lambda limiter: limiter.try_acquire(letter(known_by="1")),
    "try_acquire_many": lambda limiter: limiter.try_acquire_many([letter()]),
    "acquire": lambda limiter: limiter.acquire(letter()),
    "reserve": lambda limiter: limiter.reserve(letter()),
    "usage": used,
}

VERBS: dict[str, dict[str, Verb]] = {
    "sender": {**ASKING, "reset": lambda limiter: limiter.reset(ANN)},
    "domain": {
        **ASKING,
        "reset": lambda limiter: limiter.reset("uwo.ca", scope="sender_domain"),
        "too much": lambda limiter: limiter.try_acquire(letter(recipients=1001)),
    },
    "global": {**ASKING, "reset": lambda limiter: limiter.reset(scope="global")},
    "id": {
        "try_acquire by id": ASKING["try_acquire by id"],
        "try_acquire_many": lambda limiter: limiter.try_acquire_many([letter(known_by="1")]),
    },
}
"""What touches the key of each place."""


class Spoiled:
    """A key of ours at which another program has written."""

    def __init__(self, client: Any, prefix: str, place: str, write: Write) -> None:
        self._client = client
        part = PLACES[place][0]
        (self.key,) = (key for key in client.scan_iter(f"{prefix}*") if part in key)
        client.delete(self.key)
        write(client, self.key)
        self._before = self._state()

    def _state(self) -> list[Any]:
        return [self._client.dump(self.key), self._client.pttl(self.key)]

    def refuses(self, ask: Callable[[], Any]) -> None:
        """To ask that is an error that names the key, and its value is as it was."""
        with pytest.raises(BackendError, match="not of this library") as caught:
            ask()
        assert type(caught.value) is BackendError
        assert self.key.decode() in str(caught.value)
        assert self._state() == self._before

    def give_way(self) -> None:
        """Delete the other program's value."""
        self._client.delete(self.key)


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_value_of_another_program_is_an_error_and_stays_as_it_is(
    kind: str, colour: Colour, server: Server, client: redis.Redis, prefix: str
) -> None:
    for place, (_, left) in PLACES.items():
        own = f"{prefix}{place}:"
        limiter = Limiter(POLICY, colour.at(server.url, prefix=own))
        assert limiter.try_acquire_many([letter(known_by="1"), letter()])
        spoiled = Spoiled(client, own, place, FOREIGN[kind])
        for ask in VERBS[place].values():
            spoiled.refuses(partial(ask, limiter))
        spoiled.give_way()
        assert used(limiter) == left, place


@pytest.mark.parametrize("instead", ["raise", "allow", "deny", MemoryBackend()])
@pytest.mark.parametrize("place", ["sender", "id"])
def test_a_value_of_another_program_is_no_outage(
    instead: Any, place: str, colour: Colour, server: Server, client: redis.Redis, prefix: str
) -> None:
    backend = colour.at(server.url, prefix=prefix)
    limiter = Limiter(POLICY, backend, on_backend_error=instead)
    assert limiter.try_acquire_many([letter(known_by="1"), letter()])
    spoiled = Spoiled(client, prefix, place, FOREIGN["string"])
    for ask in VERBS[place].values():
        spoiled.refuses(partial(ask, limiter))
    spoiled.give_way()
    assert not limiter.try_acquire(letter()).degraded


@pytest.mark.parametrize("place", ["sender", "global"])
def test_an_attempt_that_would_be_refused_is_not_counted_beside_a_value_of_another_program(
    place: str, colour: Colour, server: Server, client: redis.Redis, prefix: str
) -> None:
    full = Policy(name="test", limits=[MessageRateLimit("2/day"), DOMAINS, ALL])
    limiter = Limiter(full, colour.at(server.url, prefix=prefix))
    assert [bool(each) for each in limiter.try_acquire_many([letter()] * 2)] == [True, True]
    spoiled = Spoiled(client, prefix, place, FOREIGN["hash"])
    for verb in ("try_acquire", "try_acquire by id", "try_acquire_many", "reserve"):
        spoiled.refuses(partial(ASKING[verb], limiter))
    spoiled.give_way()
    assert used(limiter) == PLACES[place][1]


@pytest.mark.parametrize("place", ["sender", "domain", "global"])
def test_a_refund_beside_a_value_of_another_program_takes_nothing_out_and_can_be_tried_again(
    place: str, colour: Colour, server: Server, client: redis.Redis, prefix: str
) -> None:
    limiter = Limiter(POLICY, colour.at(server.url, prefix=prefix))
    decision, _ = limiter.try_acquire_many([letter(), letter()])
    spoiled = Spoiled(client, prefix, place, FOREIGN["list"])
    for _ in range(2):
        spoiled.refuses(partial(limiter.refund, decision))
    spoiled.give_way()
    assert used(limiter) == PLACES[place][1]
    limiter.refund(decision)
    assert used(limiter) == [max(0, count - 1) for count in PLACES[place][1]]


@pytest.mark.parametrize("kind", ["string", "empty", "number", "hash", "list"])
def test_a_refund_by_an_id_whose_answer_another_program_has_overwritten_names_the_key(
    kind: str, colour: Colour, server: Server, client: redis.Redis, prefix: str
) -> None:
    limiter = Limiter(POLICY, colour.at(server.url, prefix=prefix))
    decision, _ = limiter.try_acquire_many([letter(known_by="1"), letter()])
    spoiled = Spoiled(client, prefix, "id", FOREIGN[kind])
    spoiled.refuses(partial(limiter.refund, decision))
    spoiled.give_way()
    assert used(limiter) == [2, 2, 2]


@pytest.mark.parametrize("value", ["[1, 2, 3, 4, 5, 6]", '["a", "b", "c", "d", "e", "f"]'])
def test_an_answer_that_another_program_has_overwritten_with_a_list_of_its_own_is_an_error(
    value: str, colour: Colour, server: Server, client: redis.Redis, prefix: str
) -> None:
    limiter = Limiter(POLICY, colour.at(server.url, prefix=prefix))
    assert limiter.try_acquire_many([letter(known_by="1"), letter()])
    spoiled = Spoiled(client, prefix, "id", lambda client, key: client.set(key, value))
    spoiled.refuses(lambda: limiter.try_acquire_many([letter("bob@uwo.ca"), letter(known_by="1")]))
    assert used(limiter, "bob@uwo.ca") == [0, 2, 2]


@pytest.mark.parametrize("before", [0, 1, 140])
@pytest.mark.parametrize("place", ["sender", "id"])
def test_in_a_batch_with_a_value_of_another_program_all_others_are_given_back(
    place: str, before: int, colour: Colour, server: Server, client: redis.Redis, prefix: str
) -> None:
    limiter = Limiter(POLICY, colour.at(server.url, prefix=prefix))
    assert limiter.try_acquire_many([letter(known_by="1"), letter()])
    spoiled = Spoiled(client, prefix, place, FOREIGN["string"])
    bob = "bob@uwo.ca"
    first = [letter(bob, known_by=str(i) if i % 2 else None) for i in range(before)]
    batch = [*first, letter(known_by="1"), letter(bob), letter(bob, known_by="last")]
    spoiled.refuses(lambda: limiter.try_acquire_many(batch))
    spoiled.give_way()
    assert used(limiter, bob) == [0, *PLACES[place][1][1:]]
    # The answers to their ids have been forgotten as well: who asks again is charged.
    assert all(limiter.try_acquire_many(batch[before + 1 :]))
    assert used(limiter, bob)[0] == 2


# The same in a cluster, where no script reaches all counts of a message.


@pytest.fixture
def spread(cluster: Cluster, prefix: str) -> Iterator[tuple[Limiter, Any]]:
    """A limiter on a cluster, and a client to spoil it with."""
    with contextlib.closing(RedisBackend.from_url(cluster.url, prefix=prefix)) as backend:
        made = redis.RedisCluster.from_url(cluster.masters[0].url.removesuffix("/0"))
        with contextlib.closing(made) as client:
            yield Limiter(POLICY, backend), client


@pytest.mark.parametrize("kind", ["string", "hash", "list"])
@pytest.mark.parametrize("place", ["sender", "domain", "global"])
def test_in_a_cluster_a_value_of_another_program_is_an_error_and_nothing_else_is_charged(
    kind: str, place: str, spread: tuple[Limiter, Any], prefix: str
) -> None:
    limiter, client = spread
    decisions = limiter.try_acquire_many([letter(known_by="1"), letter()])
    spoiled = Spoiled(client, prefix, place, FOREIGN[kind])
    for verb, ask in VERBS[place].items():
        # What is known by an id has its first answer, and needs no count.
        if verb != "try_acquire by id":
            spoiled.refuses(partial(ask, limiter))
    bob = [letter("bob@uwo.ca", known_by=str(i)) for i in range(2)]
    spoiled.refuses(lambda: limiter.try_acquire_many([*bob, letter(), *bob]))
    spoiled.give_way()
    assert used(limiter) == PLACES[place][1]
    assert used(limiter, "bob@uwo.ca")[0] == 0
    limiter.refund(decisions[1])
    assert used(limiter) == [max(0, count - 1) for count in PLACES[place][1]]


@pytest.mark.parametrize("kind", ["string", "hash", "list"])
def test_in_a_cluster_an_answer_that_another_program_has_overwritten_is_an_error(
    kind: str, spread: tuple[Limiter, Any], prefix: str
) -> None:
    limiter, client = spread
    decision, _ = limiter.try_acquire_many([letter(known_by="1"), letter()])
    spoiled = Spoiled(client, prefix, "id", FOREIGN[kind])
    for ask in VERBS["id"].values():
        spoiled.refuses(partial(ask, limiter))
    spoiled.refuses(lambda: limiter.refund(decision))
    spoiled.give_way()
    assert used(limiter) == [2, 2, 2]
