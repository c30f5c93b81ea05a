"""The contenders for asyncio, each with its best idiom. None is imported before use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from contender import AwaitedCheck
from contenders import BY_HAND, LIMITS, NO_OP, OURS
from work import EXTERNAL, NUMBERS, policy

from ratelimit_mail import AsyncLimiter, Envelope
from ratelimit_mail.backends import AsyncRedisBackend

Maker = Callable[[int | None], Awaitable[AwaitedCheck]]


async def by_hand(port: int | None) -> AwaitedCheck:
    """The loop written by hand, in a coroutine that awaits nothing."""
    import floors

    decide = floors.by_hand(NUMBERS, port).check

    async def check(envelope: Envelope) -> object:
        return decide(envelope)

    return check


async def no_op(port: int | None) -> AwaitedCheck:
    """A script that does nothing, by redis-py's client for asyncio."""
    import redis.asyncio

    assert port is not None
    client = redis.asyncio.Redis(port=port)
    sha = await client.script_load("return 1")
    return lambda _: client.evalsha(sha, 0)


async def ours(port: int | None) -> AwaitedCheck:
    """`AsyncLimiter.try_acquire`."""
    if port is None:
        return AsyncLimiter(policy()).try_acquire
    import redis.asyncio

    backend = AsyncRedisBackend(redis.asyncio.Redis(port=port))
    return AsyncLimiter(policy(), backend).try_acquire


async def limits(port: int | None) -> AwaitedCheck:
    """Two hits of the moving window."""
    from limits import parse
    from limits.aio.storage import MemoryStorage, RedisStorage
    from limits.aio.strategies import MovingWindowRateLimiter

    storage = (
        MemoryStorage()
        if port is None
        else RedisStorage(f"async+redis://127.0.0.1:{port}", implementation="redispy")
    )
    limiter = MovingWindowRateLimiter(storage)
    minute, day = parse("30/minute"), parse("10000/day")

    async def check(envelope: Envelope) -> object:
        sender = envelope.sender
        return await limiter.hit(minute, sender) and await limiter.hit(day, sender, cost=EXTERNAL)

    return check


async def throttled(port: int | None) -> AwaitedCheck:
    """Two limits of the sliding window that averages."""
    from throttled.asyncio import MemoryStore, RedisStore, Throttled, per_day, per_min

    server = f"redis://127.0.0.1:{port}/0"

    def store() -> MemoryStore | RedisStore:
        if port is None:
            return MemoryStore(options={"MAX_SIZE": 10_000_000})
        return RedisStore(server=server)

    minute = Throttled(
        using="sliding_window", quota=per_min(30), store=store(), key_prefix="minute"
    )
    day = Throttled(using="sliding_window", quota=per_day(10_000), store=store(), key_prefix="day")

    async def check(envelope: Envelope) -> object:
        sender = envelope.sender
        first = await minute.limit(sender)
        return not first.limited and not (await day.limit(sender, EXTERNAL)).limited

    return check


async def pyrate(port: int | None) -> AwaitedCheck:
    """Two acquisitions, which a lock of its own takes one after another."""
    from peer_pyrate import awaited

    return await awaited(port)


async def token_throttle(port: int | None) -> AwaitedCheck:
    """Both at once, then close."""
    from peer_token_throttle import awaited

    return awaited(port)


MAKERS: Final[dict[str, Maker]] = {
    BY_HAND: by_hand,
    NO_OP: no_op,
    OURS: ours,
    LIMITS: limits,
    "pyrate-limiter": pyrate,
    "throttled-py": throttled,
    "token-throttle": token_throttle,
}
