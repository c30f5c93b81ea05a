"""The peer `pyrate-limiter`: a bucket a sender and limit from a factory, as its manual says.

Its buckets are made without the background thread that trims them: in these runs nothing grows
old, and the thread would only slow it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pyrate_limiter as pyrate
import redis
import redis.asyncio
from pyrate_limiter.buckets.redis_bucket import LuaScript

from benchmarks.contenders import AsyncCheck, Contender, in_sequence, in_sequence_async
from benchmarks.email_check import DAY, EXTERNAL, MINUTE

NewBucket = Callable[[str, pyrate.Rate], pyrate.AbstractBucket]


class BucketPerSender(pyrate.BucketFactory):
    """Holds a bucket for each sender."""

    def __init__(self, rate: pyrate.Rate, new: NewBucket, port: int | None) -> None:
        self._rate = rate
        self._new = new
        self._now = (pyrate.MonotonicClock() if port is None else pyrate.WallClock()).now
        self._buckets: dict[str, pyrate.AbstractBucket] = {}

    def wrap_item(self, name: str, weight: int = 1) -> pyrate.RateItem:
        return pyrate.RateItem(name, self._now(), weight=weight)

    def get(self, item: pyrate.RateItem) -> pyrate.AbstractBucket:
        return self._of(item.name)

    def _of(self, name: str) -> pyrate.AbstractBucket:
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = self._new(name, self._rate)
        return bucket

    def trim(self) -> None:
        """Do what the background thread does every ten seconds."""
        for bucket in self._buckets.values():
            bucket.leak(self._now())

    def has_room(self, name: str, weight: int) -> bool:
        """Return whether an acquisition would succeed, which the peer has no method for."""
        bucket: Any = self._of(name)
        bucket.leak(self._now())
        return bool(bucket.count() + weight <= self._rate.limit)


def _on_server(client: Any, sha: str) -> NewBucket:
    return lambda name, rate: pyrate.RedisBucket([rate], client, f"{name}:{rate.interval}", sha)


def _in_memory(bucket: Any = pyrate.InMemoryBucket) -> NewBucket:
    return lambda _, rate: bucket([rate])


def make(port: int | None, limit: int, counts_first: bool = False, gcra: bool = False) -> Contender:
    """Make an acquisition and an acquisition of its exact log.

    counts_first: both buckets are counted before either is acquired.
    gcra: its GCRA, in memory, which is not exact.
    """
    new = _in_memory(pyrate.StateBucket) if gcra else _in_memory()
    if port is not None:
        client = redis.Redis(port=port)
        new = _on_server(client, client.script_load(LuaScript.PUT_ITEM))
    minutes = BucketPerSender(pyrate.Rate(limit, pyrate.Duration.MINUTE), new, port)
    days = BucketPerSender(pyrate.Rate(DAY, pyrate.Duration.DAY), new, port)
    acquire_minute = partial(pyrate.Limiter(minutes).try_acquire, blocking=False)
    acquire_day = partial(pyrate.Limiter(days).try_acquire, blocking=False)
    rooms = (partial(minutes.has_room, weight=1), partial(days.has_room, weight=EXTERNAL))
    return Contender(
        in_sequence(
            *(rooms if counts_first else ()),
            acquire_minute,
            partial(acquire_day, weight=EXTERNAL),
        ),
        in_sequence(acquire_minute),
        acquire_day,
        trims=(minutes.trim, days.trim),
    )


async def make_async(port: int | None) -> AsyncCheck:
    """Make the two acquisitions for asyncio; a lock of the peer serialises them."""
    new = _in_memory()
    if port is not None:
        client = redis.asyncio.Redis(port=port)
        new = _on_server(client, await client.script_load(LuaScript.PUT_ITEM))
    minutes = BucketPerSender(pyrate.Rate(MINUTE, pyrate.Duration.MINUTE), new, port)
    days = BucketPerSender(pyrate.Rate(DAY, pyrate.Duration.DAY), new, port)
    return in_sequence_async(
        partial(pyrate.Limiter(minutes).try_acquire_async, blocking=False),
        partial(pyrate.Limiter(days).try_acquire_async, weight=EXTERNAL, blocking=False),
    )
