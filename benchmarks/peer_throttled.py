"""The peer `throttled-py`: two limits, each with its own store.

Its memory store holds 1,024 keys by default and forgets the rest; here it holds them all.
"""

from typing import Any

import throttled
import throttled.asyncio

from benchmarks.contenders import AsyncCheck, Contender, in_sequence
from benchmarks.email_check import DAY, EXTERNAL, MINUTE
from ratelimit_mail import Envelope


def _limit(package: Any, port: int | None, quota: throttled.Quota, algorithm: str) -> Any:
    """Return a limit of `throttled`, or of `throttled.asyncio`, which has the same names."""
    store = (
        package.MemoryStore(options={"MAX_SIZE": 10_000_000})
        if port is None
        else package.RedisStore(server=f"redis://127.0.0.1:{port}/0")
    )
    prefix = f"{quota.get_limit()}/{quota.get_period_sec()}"
    return package.Throttled(using=algorithm, quota=quota, store=store, key_prefix=prefix)


def make(
    port: int | None, limit: int, algorithm: str = "sliding_window", *, peeks_first: bool = False
) -> Contender:
    """Make a limit and a limit.

    algorithm: the sliding window averages two counters; like its GCRA, it is not exact.
    peeks_first: both limits are peeked at before either is charged.
    """
    minute = _limit(throttled, port, throttled.per_min(limit), algorithm)
    day = _limit(throttled, port, throttled.per_day(DAY), algorithm)
    peeks = (
        lambda sender: minute.peek(sender).remaining >= 1,
        lambda sender: day.peek(sender).remaining >= EXTERNAL,
    )
    limits = (
        lambda sender: not minute.limit(sender).limited,
        lambda sender: not day.limit(sender, EXTERNAL).limited,
    )
    return Contender(
        in_sequence(*(peeks if peeks_first else ()), *limits), in_sequence(limits[0]), day.limit
    )


async def make_async(port: int | None) -> AsyncCheck:
    """Make the two limits for asyncio."""
    minute = _limit(throttled.asyncio, port, throttled.per_min(MINUTE), "sliding_window")
    day = _limit(throttled.asyncio, port, throttled.per_day(DAY), "sliding_window")

    async def check(envelope: Envelope) -> object:
        sender = envelope.sender
        first = await minute.limit(sender)
        return not first.limited and not (await day.limit(sender, EXTERNAL)).limited

    return check
