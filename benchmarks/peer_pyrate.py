"""The peer `pyrate-limiter`: a bucket a sender and limit, found by a factory, as its manual says.

Its buckets are made without the background thread that trims them: in these runs nothing grows
old, and the thread would only slow it.
"""

from __future__ import annotations

from collections.abc import Callable

import redis
import redis.asyncio
from contender import AwaitedCheck, Contender
from pyrate_limiter import (
    AbstractBucket,
    BucketFactory,
    Duration,
    InMemoryBucket,
    Limiter,
    MonotonicClock,
    Rate,
    RateItem,
    RedisBucket,
    StateBucket,
    WallClock,
)
from pyrate_limiter.buckets.redis_bucket import LuaScript
from work import EXTERNAL, Numbers

from ratelimit_mail import Envelope

NewBucket = Callable[[str, Rate], AbstractBucket]


class BucketEach(BucketFactory):
    """A bucket for each sender."""

    def __init__(self, rate: Rate, new: NewBucket, clock: MonotonicClock | WallClock) -> None:
        self._rate = rate
        self._new = new
        self._now = clock.now
        self._buckets: dict[str, AbstractBucket] = {}

    def wrap_item(self, name: str, weight: int = 1) -> RateItem:
        return RateItem(name, self._now(), weight=weight)

    def get(self, item: RateItem) -> AbstractBucket:
        return self.of(item.name)

    def of(self, name: str) -> AbstractBucket:
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = self._new(name, self._rate)
        return bucket

    def trim(self) -> None:
        """What its thread in the background does every ten seconds."""
        for bucket in self._buckets.values():
            bucket.leak(self._now())

    def has_room(self, name: str, weight: int) -> bool:
        """What it has no call for: whether an acquisition would succeed."""
        bucket = self.of(name)
        bucket.leak(self._now())
        held = bucket.count()
        assert isinstance(held, int)
        return held + weight <= self._rate.limit


def _in_memory(_: str, rate: Rate) -> AbstractBucket:
    return InMemoryBucket([rate])


def _state(_: str, rate: Rate) -> AbstractBucket:
    return StateBucket([rate])


def _in_redis(port: int) -> NewBucket:
    client = redis.Redis(port=port)
    sha = client.script_load(LuaScript.PUT_ITEM)
    return lambda name, rate: RedisBucket([rate], client, f"{name}:{rate.interval}", sha)


def _contender(numbers: Numbers, new: NewBucket, *, shared: bool, tested: bool) -> Contender:
    clock = WallClock() if shared else MonotonicClock()
    minutes = BucketEach(Rate(numbers.minute, Duration.MINUTE), new, clock)
    days = BucketEach(Rate(numbers.day, Duration.DAY), new, clock)
    minute, day = Limiter(minutes), Limiter(days)

    def two_acquired(envelope: Envelope) -> object:
        sender = envelope.sender
        return minute.try_acquire(sender, blocking=False) and day.try_acquire(
            sender, EXTERNAL, blocking=False
        )

    def tested_first(envelope: Envelope) -> object:
        sender = envelope.sender
        return (
            minutes.has_room(sender, 1)
            and days.has_room(sender, EXTERNAL)
            and minute.try_acquire(sender, blocking=False)
            and day.try_acquire(sender, EXTERNAL, blocking=False)
        )

    def tidy() -> None:
        minutes.trim()
        days.trim()

    return Contender(
        tested_first if tested else two_acquired,
        lambda envelope: minute.try_acquire(envelope.sender, blocking=False),
        lambda sender, recipients: day.try_acquire(sender, recipients, blocking=False),
        tidy=tidy,
    )


def best(numbers: Numbers, port: int | None) -> Contender:
    """Its exact log of the window: acquire and acquire."""
    new = _in_memory if port is None else _in_redis(port)
    return _contender(numbers, new, shared=port is not None, tested=False)


def safe(numbers: Numbers, port: int | None) -> Contender:
    """The same, with both buckets counted before either is acquired."""
    new = _in_memory if port is None else _in_redis(port)
    return _contender(numbers, new, shared=port is not None, tested=True)


def cheap(numbers: Numbers, port: int | None) -> Contender:
    """Its GCRA in memory, which is not exact."""
    assert port is None
    return _contender(numbers, _state, shared=False, tested=False)


async def awaited(port: int | None) -> AwaitedCheck:
    """Acquire and acquire, for asyncio."""
    new = _in_memory if port is None else await _in_redis_awaited(port)
    clock = MonotonicClock() if port is None else WallClock()
    minute = Limiter(BucketEach(Rate(30, Duration.MINUTE), new, clock))
    day = Limiter(BucketEach(Rate(10_000, Duration.DAY), new, clock))

    async def check(envelope: Envelope) -> bool:
        sender = envelope.sender
        return await minute.try_acquire_async(
            sender, blocking=False
        ) and await day.try_acquire_async(sender, EXTERNAL, blocking=False)

    return check


async def _in_redis_awaited(port: int) -> NewBucket:
    client = redis.asyncio.Redis(port=port)
    sha = await client.script_load(LuaScript.PUT_ITEM)
    return lambda name, rate: RedisBucket([rate], client, f"{name}:{rate.interval}", sha)
