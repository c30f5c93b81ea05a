"""The e-mail check, as each contender does it: a recipient limit, 30 messages a minute and
10,000 external recipients a day, for a message to 5 recipients of whom 2 are internal.

A contender is made anew for each round and decides on one envelope a call.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable

import attrs
import redis
from limits import parse
from limits.storage import MemoryStorage, RedisStorage, Storage
from limits.strategies import MovingWindowRateLimiter

from ratelimit_mail import (
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientLimit,
    RecipientRateLimit,
)
from ratelimit_mail.backends import MemoryBackend, RedisBackend

Check = Callable[[Envelope], object]

INTERNAL = "uwo.ca"
RECIPIENTS = ["bob@example.com", "eve@uwo.ca", "dan@example.net", "amy@uwo.ca", "kim@example.org"]
POLICY = Policy(
    name="benchmark",
    internal_domains=[INTERNAL],
    limits=[
        RecipientLimit(100),
        MessageRateLimit("30/minute"),
        RecipientRateLimit("10000/day", count="external"),
    ],
)


def letter(sender: int | str) -> Envelope:
    """A message of one of many senders."""
    return Envelope(f"{sender}@{INTERNAL}", RECIPIENTS)


def ours(already_sent: int = 0) -> Check:
    """`Limiter.try_acquire`, by a sender who has sent so many messages earlier in the day."""
    backend = MemoryBackend()
    day_alone = attrs.evolve(POLICY, limits=POLICY.limits[-1:])
    earlier = Limiter(day_alone, backend)
    for _ in range(already_sent):
        assert earlier.try_acquire(letter("ann"))
    return Limiter(POLICY, backend).try_acquire


def limits_two_hits(already_sent: int = 0, storage: Storage | None = None) -> Check:
    """`limits`: a hit for the minute and one for the day; counts no recipients by itself."""
    limiter = MovingWindowRateLimiter(storage or MemoryStorage())
    minute, day = parse("30/minute"), parse("10000/day")
    for _ in range(already_sent):
        assert limiter.hit(day, letter("ann").sender, cost=3)

    def check(envelope: Envelope) -> bool:
        sender = envelope.sender
        return limiter.hit(minute, sender) and limiter.hit(day, sender, cost=3)

    return check


def by_hand() -> Check:
    """The floor: the same exact check in one hand-written loop, for one thread."""
    minutes: dict[str, deque[float]] = defaultdict(deque)
    days: dict[str, deque[tuple[float, int]]] = defaultdict(deque)
    spent: dict[str, int] = defaultdict(int)

    def check(envelope: Envelope) -> bool:
        if len(envelope.recipients) > 100:
            return False
        external = 0
        for domain in envelope.domains:
            if domain != INTERNAL:
                external += 1
        now = time.time()
        sender = envelope.sender
        minute, day = minutes[sender], days[sender]
        while minute and minute[0] <= now - 60:
            minute.popleft()
        while day and day[0][0] <= now - 86_400:
            spent[sender] -= day.popleft()[1]
        if len(minute) + 1 > 30 or spent[sender] + external > 10_000:
            return False
        minute.append(now)
        day.append((now, external))
        spent[sender] += external
        return True

    return check


def ours_in_redis(client: redis.Redis) -> Check:
    """`Limiter.try_acquire`, with its counts in Redis."""
    return Limiter(POLICY, RedisBackend(client)).try_acquire


def limits_in_redis(client: redis.Redis) -> Check:
    """The two hits of `limits`, with its counts in Redis, by the same connections."""
    pool = client.connection_pool
    return limits_two_hits(storage=RedisStorage("redis://", connection_pool=pool))


def no_op(client: redis.Redis) -> Check:
    """The floor of whoever decides inside Redis: a script that does nothing."""
    sha = client.script_load("return 1")
    return lambda _: client.evalsha(sha, 0)
