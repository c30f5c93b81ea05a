"""The peer `throttled-py`: two limits, each with a store of its own.

Its memory store holds 1,024 keys unless told otherwise and forgets the rest; here it is told.
"""

from __future__ import annotations

from contender import Contender
from throttled import MemoryStore, Quota, RedisStore, Throttled, per_day, per_min
from work import EXTERNAL, Numbers

from ratelimit_mail import Envelope


def _throttled(name: str, using: str, quota: Quota, port: int | None) -> Throttled:
    store = (
        MemoryStore(options={"MAX_SIZE": 10_000_000})
        if port is None
        else RedisStore(server=f"redis://127.0.0.1:{port}/0")
    )
    return Throttled(using=using, quota=quota, store=store, key_prefix=name)


def _contender(numbers: Numbers, port: int | None, using: str, *, tested: bool) -> Contender:
    minute = _throttled("minute", using, per_min(numbers.minute), port)
    day = _throttled("day", using, per_day(numbers.day), port)

    def two_limits(envelope: Envelope) -> bool:
        sender = envelope.sender
        return not minute.limit(sender).limited and not day.limit(sender, EXTERNAL).limited

    def tested_first(envelope: Envelope) -> bool:
        sender = envelope.sender
        return (
            minute.peek(sender).remaining >= 1
            and day.peek(sender).remaining >= EXTERNAL
            and not minute.limit(sender).limited
            and not day.limit(sender, EXTERNAL).limited
        )

    return Contender(
        tested_first if tested else two_limits,
        lambda envelope: not minute.limit(envelope.sender).limited,
        lambda sender, recipients: day.limit(sender, recipients),
    )


def best(numbers: Numbers, port: int | None) -> Contender:
    """Its sliding window, which averages two; it has no exact one."""
    return _contender(numbers, port, "sliding_window", tested=False)


def safe(numbers: Numbers, port: int | None) -> Contender:
    """The same, with both peeked at first."""
    return _contender(numbers, port, "sliding_window", tested=True)


def cheap(numbers: Numbers, port: int | None) -> Contender:
    """Its GCRA, which is not exact either."""
    return _contender(numbers, port, "gcra", tested=False)
