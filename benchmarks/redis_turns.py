"""Works that only Redis has: batches, and the time that the server itself takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from typing import Final

import redis
from contender import Check
from contenders import Entry
from turns import ROUNDS, Turn
from work import INTERNAL, NUMBERS, letter, letters

from ratelimit_mail import (
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientRateLimit,
)
from ratelimit_mail.backends import RedisBackend

HUNDRED: Final = 100
SCRIPTS: Final = ("evalsha", "eval", "fcall")
BEGIN: Final = 10**12
"""A moment, in milliseconds since the epoch."""
ROOMY: Final = Policy(
    name="roomy",
    internal_domains=[INTERNAL],
    limits=[
        MessageRateLimit("100000000/30 days"),
        RecipientRateLimit("1000000000/30 days", count="external"),
    ],
)


def batches(entry: Entry, port: int | None) -> Turn:
    """A hundred messages of five senders, decided on one by one and all at once."""
    made = entry.make(NUMBERS, port)
    assert made.together is not None
    together = made.together

    def hundred() -> list[Envelope]:
        return [
            each for five in zip(*(letters(20) for _ in range(5)), strict=True) for each in five
        ]

    def turn() -> tuple[float, ...]:
        singly = at_once = 0.0
        for _ in range(ROUNDS):
            envelopes = hundred()
            start = time.perf_counter()
            for envelope in envelopes:
                made.check(envelope)
            between = time.perf_counter()
            together(hundred())
            at_once += time.perf_counter() - between
            singly += between - start
        return singly / ROUNDS / HUNDRED, at_once / ROUNDS / HUNDRED

    return turn


def in_server(client: redis.Redis, check: Check, sent: list[Envelope]) -> float:
    """The seconds that the server was busy with scripts, a message."""
    client.config_resetstat()
    for envelope in sent:
        check(envelope)
    told = client.info("commandstats")
    spent = sum(told.get(f"cmdstat_{name}", {"usec": 0})["usec"] for name in SCRIPTS)
    return float(spent) / len(sent) / 1e6


def server_time(entry: Entry, port: int | None) -> Turn:
    """What the server spends on a message of a sender who has sent up to thirty."""
    assert port is not None
    check = entry.make(NUMBERS, port).check
    client = redis.Redis(port=port)

    def turn() -> tuple[float, ...]:
        sent = [each for _ in range(ROUNDS) for each in letters(30)]
        return (in_server(client, check, sent),)

    return turn


def server_time_after(events: int) -> Callable[[Entry, int | None], Turn]:
    """The same for a sender with so many messages recorded, a second apart."""

    def work(_: Entry, port: int | None) -> Turn:
        assert port is not None
        client = redis.Redis(port=port)
        ticking = count(BEGIN, 1_000).__next__
        limiter = Limiter(ROOMY, RedisBackend(client, clock=ticking))
        envelope = letter(f"busy{events}")
        for _filled in range(0, events, 500):
            assert all(limiter.try_acquire_many([envelope] * 500))

        def turn() -> tuple[float, ...]:
            return (in_server(client, limiter.try_acquire, [envelope] * 300),)

        return turn

    return work
