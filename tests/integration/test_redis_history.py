"""What earlier versions have stored in Redis is read, and goes on."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from rlm_testkit.builders import envelope_to
from rlm_testkit.multi_slot import cluster_client
from rlm_testkit.redis_backends import unique_prefix
from rlm_testkit.servers import Server, command

from ratelimit_mail import Limiter, MessageRateLimit, Policy
from ratelimit_mail.backends import MemoryBackend, RedisBackend
from ratelimit_mail.backends.base import Backend
from ratelimit_mail.testing import ManualClock

POLICY = Policy(
    name="test",
    limits=[
        MessageRateLimit("2/minute"),
        MessageRateLimit("5/minute", scope="recipient_domain"),
    ],
)


class Scene:
    """A queue of bookings, from before and from after an update."""

    def __init__(self, make_backend: Any) -> None:
        self.clock = ManualClock()
        backend: Backend = make_backend(self.clock)
        self.limiter = Limiter(POLICY, backend)
        self.limiter.try_acquire(envelope_to(1))
        self.booked = [self.limiter.reserve(envelope_to(1)) for _ in range(5)]
        self.booked.append(self.limiter.reserve(envelope_to(1, id="1")))

    def go_on(self) -> list[Any]:
        """Use the queue in each way; return the answers."""
        seen: list[Any] = [self.limiter.reserve(envelope_to(1)).delay]
        self.booked[2].cancel()
        seen.append(self.limiter.reserve(envelope_to(1, id="1")).delay)
        self.clock.advance(90)
        seen.extend(self.booked[i].redeem().retry_after for i in (1, 3, 4, 0))
        self.limiter.settle(self.booked[0].decision)
        seen.append(self.limiter.reserve(envelope_to(1)).delay)
        self.clock.advance(3600)
        seen.append(self.limiter.try_acquire(envelope_to(1)).allowed)
        return [*seen, self.limiter.usage("ann@uwo.ca")]


def store_as_hash(client: Any, prefix: str) -> bytes:
    """Store the bookings of the only queue as earlier versions did; return its key."""
    key: bytes
    [key] = client.scan_iter(f"{prefix}*:places")
    lifetime = client.pttl(key)
    fields: dict[bytes, bytes] = {}
    for text, score in client.zrange(key, 0, -1, withscores=True):
        if score == float("-inf"):
            first, last, expires, moved = (text[i : i + 7] for i in range(0, 28, 7))
            fields[b"state"] = first + last + expires + struct.pack("<I", 64) + moved
        else:
            fields[b"%d" % score] = text[7:]
    client.delete(key)
    client.hset(key, mapping=fields)
    client.pexpire(key, lifetime)
    return key


def check_history(client: Any, prefix: str, limited_client: Any) -> None:
    """Check that a queue goes on by the second client after the first has stored it as a hash."""
    scene = Scene(lambda clock: RedisBackend(limited_client, prefix=prefix, clock=clock))
    key = store_as_hash(client, prefix)
    assert scene.go_on() == Scene(MemoryBackend).go_on()
    assert client.type(key) == b"zset"
    assert client.pttl(key) > 0


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


client_of_cluster = pytest.fixture(cluster_client, scope="module")


def test_a_queue_that_an_earlier_version_has_stored_goes_on(client: redis.Redis) -> None:
    check_history(client, unique_prefix(), client)


def test_a_queue_that_an_earlier_version_has_stored_in_a_cluster_goes_on(
    client_of_cluster: redis.RedisCluster,
) -> None:
    check_history(client_of_cluster, unique_prefix(), client_of_cluster)


def test_a_queue_of_an_earlier_version_is_stored_anew_when_it_changes(
    client: redis.Redis,
) -> None:
    prefix = unique_prefix()
    scene = Scene(lambda clock: RedisBackend(client, prefix=prefix, clock=clock))
    key = store_as_hash(client, prefix)
    scene.booked[2].cancel()
    assert client.type(key) == b"zset"


PERMISSIONS = """
    +evalsha +eval +time +get +set +pttl +pexpire +lindex +lrange +lset +ltrim +lrem +linsert +rpush
    +hset +hdel +hlen +hgetall +zadd +zcard +zrangebyscore +zrevrangebyscore +zremrangebyscore
"""
"""What docs/redis.md lists for limits without `unique=True`."""


def test_a_queue_of_an_earlier_version_needs_no_further_permission(
    server: Server, client: redis.Redis
) -> None:
    prefix = unique_prefix()
    rules = ["on", ">secret", "resetchannels", f"~{prefix}*", "-@all", *PERMISSIONS.split()]
    command(client, "ACL", "SETUSER", "history", *rules)
    url = server.url.replace("://", "://history:secret@")
    with redis.Redis.from_url(url) as permitted:
        check_history(client, prefix, permitted)
    command(client, "ACL", "DELUSER", "history")
