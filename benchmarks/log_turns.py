"""What long logs cost the server: searched in the middle, trimmed at the head; and their bytes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, Final

import redis
from contenders import Entry
from redis_turns import BEGIN, ROOMY, in_server
from rlm_testkit.servers import command
from turns import Turn
from work import INTERNAL, letter, policy

from ratelimit_mail import Envelope, Limiter, MessageRateLimit, Policy, RecipientRateLimit
from ratelimit_mail.backends import RedisBackend

HELD: Final = 40_000
DAY: Final = 24 * 3600 * 1000


def _limiter(client: redis.Redis, limits: Sequence[Any], begin: int, step: int) -> Limiter:
    """One whose clock gives each message a moment of its own."""
    rules = Policy(name="logs", internal_domains=[INTERNAL], limits=limits)
    return Limiter(rules, RedisBackend(client, clock=count(begin, step).__next__))


def _send(limiter: Limiter, envelopes: Sequence[Envelope]) -> None:
    for i in range(0, len(envelopes), 100):
        assert all(limiter.try_acquire_many(envelopes[i : i + 100]))


def _even(sender: str, size: int) -> list[Envelope]:
    return [letter(sender)] * size


def _uneven(sender: str, size: int) -> list[Envelope]:
    """Messages of one recipient, and now and then of many."""
    few_and_many = [
        Envelope(f"{sender}@{INTERNAL}", [f"{i}@example.com" for i in range(recipients)])
        for recipients in (1, 1, 1, 1, 1, 1, 1, 1, 5, 50)
    ]
    return random.Random(1).choices(few_and_many, k=size)


def searched(size: int, *, even: bool) -> Callable[[Entry, int | None], Turn]:
    """A sender with a third window, which begins in the middle of the log."""

    def work(_: Entry, port: int | None) -> Turn:
        assert port is not None
        client = redis.Redis(port=port)
        sender = f"searched{size}{even}"
        envelopes = (_even if even else _uneven)(sender, size)
        _send(_limiter(client, ROOMY.limits, BEGIN, 1000), envelopes)
        held = sum(domain != INTERNAL for each in envelopes[size // 2 :] for domain in each.domains)
        edge = RecipientRateLimit(f"{held * 3}/{size // 2} seconds", count="external")
        limiter = _limiter(client, [*ROOMY.limits, edge], BEGIN + 1000 * size, 1000)

        def turn() -> tuple[float, ...]:
            return (in_server(client, limiter.try_acquire, [letter(sender)] * 50),)

        return turn

    return work


def trimmed(_: Entry, port: int | None) -> Turn:
    """A window that always holds as many: what leaves it is let go of at the head."""
    assert port is not None
    client = redis.Redis(port=port)
    limit = MessageRateLimit(f"{2 * HELD}/{HELD} seconds")
    batch = HELD // 8
    envelopes = _even("trimmed", HELD + batch)
    limiter = _limiter(client, [limit], BEGIN, 1000)
    _send(limiter, envelopes)

    def turn() -> tuple[float, ...]:
        return (in_server(client, limiter.try_acquire, envelopes[:batch]),)

    return turn


def bytes_in_server(_: Entry, port: int | None) -> Turn:
    """Bytes of a recorded message of a sender who has filled the day with 3,333."""
    assert port is not None
    client = redis.Redis(port=port)
    messages = 3_333

    def turn() -> tuple[float, ...]:
        client.flushall()
        _send(_limiter(client, policy().limits, BEGIN, DAY // messages), _even("full", messages))
        keys = list(client.scan_iter(count=1000))
        held = sum(command(client, "MEMORY USAGE", key, "SAMPLES", 0) for key in keys)
        return (held / messages,)

    return turn
