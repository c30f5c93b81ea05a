"""The peer `limits`: two hits, one for the minute and one for the day.

It counts no recipients: what a message costs is passed to it ready.
"""

from functools import partial
from typing import Any

from limits import parse
from limits.aio.strategies import MovingWindowRateLimiter
from limits.storage import storage_from_string
from limits.strategies import STRATEGIES

from benchmarks.contenders import AsyncCheck, Contender, in_sequence, in_sequence_async
from benchmarks.email_check import DAY, EXTERNAL, MINUTE


def make(
    port: int | None, limit: int, strategy: str = "moving-window", *, tests_first: bool = False
) -> Contender:
    """Make a hit and a hit.

    strategy: the moving window is exact, the fixed window is not.
    tests_first: both limits are tested before either is hit.
    """
    storage: Any = storage_from_string("memory://" if port is None else f"redis://127.0.0.1:{port}")
    limiter = STRATEGIES[strategy](storage)
    minute, day = parse(f"{limit}/minute"), parse(f"{DAY}/day")
    tests = (partial(limiter.test, minute), partial(limiter.test, day, cost=EXTERNAL))
    hit_minute = partial(limiter.hit, minute)
    hit_day = partial(limiter.hit, day, cost=EXTERNAL)
    return Contender(
        in_sequence(*(tests if tests_first else ()), hit_minute, hit_day),
        in_sequence(hit_minute),
        lambda sender, recipients: limiter.hit(day, sender, cost=recipients),
    )


async def make_async(port: int | None) -> AsyncCheck:
    """Make the two hits for asyncio."""
    storage: Any = (
        storage_from_string("async+memory://")
        if port is None
        else storage_from_string(f"async+redis://127.0.0.1:{port}", implementation="redispy")
    )
    limiter = MovingWindowRateLimiter(storage)
    return in_sequence_async(
        partial(limiter.hit, parse(f"{MINUTE}/minute")),
        partial(limiter.hit, parse(f"{DAY}/day"), cost=EXTERNAL),
    )
