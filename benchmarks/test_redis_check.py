"""How long one decision takes in Redis and in Valkey, beside a script that does nothing."""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from itertools import count, repeat
from typing import Any

import pytest
import redis
import redis.asyncio
from contenders import INTERNAL, POLICY, Check, letter, limits_in_redis, no_op, ours_in_redis
from servers import Server, command, redis_server, valkey
from side_by_side import Round, ratio, side_by_side

from ratelimit_mail import (
    AsyncLimiter,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientRateLimit,
)
from ratelimit_mail.backends import AsyncRedisBackend, RedisBackend

BATCH = 30
MANY = 100_000
HUNDRED = 100
BEGIN = 10**12
"""A moment, in milliseconds since the epoch."""

names = count()
"""A name for each new sender."""

Kind = Callable[[int, int], list[Envelope]]
"""Messages of a sender, so many."""


@pytest.fixture(scope="module")
def report() -> Iterator[list[str]]:
    lines: list[str] = []
    yield lines
    print("\n\n" + "\n".join(lines))


@pytest.fixture(scope="module", params=[valkey, redis_server])
def server(request: Any, report: list[str]) -> Iterator[Server]:
    try:
        server = Server(request.param())
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    with server.client() as client:
        told = client.info("server")
    name = told.get("server_name", "redis")
    report.append(f"--- {name} {told.get(f'{name}_version')}, client redis-py {redis.__version__}")
    yield server
    server.stop()


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with server.client() as client:
        client.flushall()
        yield client


def policy(*limits: Any) -> Policy:
    """Policies whose counts are the same, whatever their limits."""
    return Policy(name="benchmark", internal_domains=[INTERNAL], limits=limits)


def limiter_by(client: redis.Redis, clock: Callable[[], int] | None, *limits: Any) -> Limiter:
    """A limiter in Redis; a counting clock gives each message a millisecond of its own."""
    return Limiter(policy(*limits), RedisBackend(client, clock=clock))


def send(limiter: Limiter, envelopes: Sequence[Envelope]) -> None:
    """Fill a log with messages that are all accepted."""
    for i in range(0, len(envelopes), 100):
        assert all(limiter.try_acquire_many(envelopes[i : i + 100]))


def fresh(check: Check, batch: int = BATCH) -> Callable[[], Round]:
    """Rounds of messages each of which is its sender's first."""
    return lambda: (check, [letter(next(names)) for _ in range(batch)])


def one_sender(check: Check, batch: int = BATCH) -> Callable[[], Round]:
    """Rounds of a new sender each, who may send so many messages."""

    def prepare() -> Round:
        name = next(names)
        return check, [letter(name) for _ in range(batch)]

    return prepare


def minute_full(client: redis.Redis, check: Check) -> Callable[[], Round]:
    """Rounds of a new sender each, who has just sent thirty messages, a second apart."""

    def prepare() -> Round:
        name = next(names)
        clock = count(time.time_ns() // 1_000_000 - BATCH * 1000, 1000).__next__
        send(Limiter(POLICY, RedisBackend(client, clock=clock)), [letter(name)] * BATCH)
        assert not check(letter(name))
        return check, [letter(name) for _ in range(BATCH)]

    return prepare


def tell(report: list[str], taken: dict[str, list[float]], floor: str) -> None:
    """Microseconds of each, and their ratio to what is the floor."""
    for name, seconds in taken.items():
        report.append(
            f"{name:46}{statistics.median(seconds) * 1e6:9.2f} µs a message"
            f"{ratio(seconds, taken[floor]):8.2f} of the floor"
        )


def test_one_message(report: list[str], client: redis.Redis) -> None:
    ours = ours_in_redis(client)
    look = Limiter(POLICY, RedisBackend(client)).check
    floor = no_op(client)
    peer = limits_in_redis(client)
    taken = side_by_side(
        {
            "no-op EVALSHA": fresh(floor),
            "accepted, fresh senders": fresh(ours),
            "accepted, one sender": one_sender(ours),
            "denied by the minute": minute_full(client, ours),
            "only looked at, fresh senders": fresh(look),
            "only looked at, denied by the minute": minute_full(client, look),
            "limits, two hits, fresh senders": fresh(peer),
            "limits, two hits, one sender": one_sender(peer),
        }
    )
    tell(report, taken, "no-op EVALSHA")


def seconds_in_server(client: redis.Redis, check: Check, envelopes: Sequence[Envelope]) -> float:
    """How long the server itself was busy with the script, on average over one round."""
    client.config_resetstat()
    for envelope in envelopes:
        check(envelope)
    told = client.info("commandstats")["cmdstat_evalsha"]
    return float(told["usec"] / told["calls"] / 1e6)


def in_server(
    report: list[str],
    client: redis.Redis,
    contenders: dict[str, Callable[[], Round]],
    ratios: Sequence[tuple[str, str]],
    rounds: int = 20,
) -> None:
    """Tell the server's own time for each, and ratios between them."""
    taken = side_by_side(contenders, rounds, partial(seconds_in_server, client))
    for name, seconds in taken.items():
        report.append(f"in the server, {name:46}{statistics.median(seconds) * 1e6:8.2f} µs")
    for above, below in ratios:
        title = f"{above} / {below}"
        report.append(f"in the server, {title:68}{ratio(taken[above], taken[below]):8.2f}")


def again(check: Check, sender: int, batch: int) -> Callable[[], Round]:
    """Rounds of one and the same sender."""
    envelopes = [letter(sender)] * batch
    return lambda: (check, envelopes)


ROOMY = (
    MessageRateLimit("100000000/30 days"),
    RecipientRateLimit("1000000000/30 days", count="external"),
)


def filled(client: redis.Redis, envelopes: Sequence[Envelope], *limits: Any) -> int:
    """Record messages a second apart; gives the moment of the last one."""
    clock = count(BEGIN, 1000).__next__
    send(limiter_by(client, clock, *(limits or ROOMY)), envelopes)
    return BEGIN + 1000 * (len(envelopes) - 1)


def test_the_length_of_the_log(report: list[str], client: redis.Redis) -> None:
    sender = next(names)
    end = filled(client, [letter(sender)] * MANY)
    short = limiter_by(client, count(BEGIN, 1000).__next__, *ROOMY).try_acquire
    long = limiter_by(client, count(end, 1000).__next__, *ROOMY).try_acquire
    in_server(
        report,
        client,
        {
            "nothing recorded": fresh(short, 500),
            "0 to 500 recorded": one_sender(short, 500),
            f"{MANY} recorded": again(long, sender, 500),
        },
        [(f"{MANY} recorded", "0 to 500 recorded"), (f"{MANY} recorded", "nothing recorded")],
    )


def test_a_log_that_is_trimmed(report: list[str], client: redis.Redis) -> None:
    """A window that always holds as many; an eighth of them is let go of at once."""
    sender, held = next(names), 40_000
    batch = held // 8
    limit = MessageRateLimit(f"{2 * held}/{held} seconds")
    end = filled(client, [letter(sender)] * (held + batch), limit)
    short = limiter_by(client, count(BEGIN, 1000).__next__, limit).try_acquire
    long = limiter_by(client, count(end, 1000).__next__, limit).try_acquire
    in_server(
        report,
        client,
        {
            f"0 to {batch} recorded": one_sender(short, batch),
            f"{held} recorded, trimmed": again(long, sender, batch),
        },
        [(f"{held} recorded, trimmed", f"0 to {batch} recorded")],
        rounds=7,
    )
    (key,) = (key for key in client.scan_iter(count=1000) if f"{{{sender}@" in key.decode())
    assert held <= int(command(client, "LLEN", key)) <= held + batch + 2


def even(sender: int, size: int) -> list[Envelope]:
    """Messages that cost the same."""
    return [letter(sender)] * size


def uneven(sender: int, size: int) -> list[Envelope]:
    """Messages of one recipient, and now and then of many."""
    few_and_many = [
        Envelope(f"{sender}@{INTERNAL}", [f"{i}@example.com" for i in range(recipients)])
        for recipients in (1, 1, 1, 1, 1, 1, 1, 1, 5, 50)
    ]
    return random.Random(1).choices(few_and_many, k=size)


def searched(
    client: redis.Redis, kind: Kind, size: int, room: float, batch: int
) -> Callable[[], Round]:
    """Rounds of a sender with two windows, of which one begins in the middle of the log.

    room: what that one takes, of what it holds; 1 leaves no room.
    """

    def prepare() -> Round:
        sender = next(names)
        envelopes = kind(sender, size)
        end = filled(client, envelopes)
        held = sum(domain != INTERNAL for each in envelopes[size // 2 :] for domain in each.domains)
        edge = RecipientRateLimit(f"{int(held * room)}/{size // 2} seconds", count="external")
        clock = repeat(end) if room == 1 else count(end + 1000, 1000)
        limiter = limiter_by(client, clock.__next__, *ROOMY, edge)
        assert limiter.try_acquire(letter(sender)).allowed == (room > 1)
        return limiter.try_acquire, [letter(sender)] * batch

    if size < MANY:
        return prepare
    once = prepare()
    return lambda: once


@pytest.mark.parametrize("kind", [even, uneven])
def test_a_log_that_is_searched(report: list[str], client: redis.Redis, kind: Kind) -> None:
    contenders: dict[str, Callable[[], Round]] = {}
    for size in (100, MANY):
        for room, outcome in ((1.5, "searched"), (1, "denied")):
            name = f"{size} {kind.__name__} messages, {outcome}"
            contenders[name] = searched(client, kind, size, room, batch=50)
    small, small_denied, large, large_denied = contenders
    in_server(report, client, contenders, [(large, small), (large_denied, small_denied)], rounds=40)


def used_by(client: redis.Redis) -> int:
    """The bytes of all keys."""
    keys = list(client.scan_iter(count=1000))
    return sum(command(client, "MEMORY USAGE", key, "SAMPLES", 0) for key in keys)


@pytest.mark.parametrize("messages", [1000, MANY])
def test_memory_per_message(report: list[str], client: redis.Redis, messages: int) -> None:
    for limits, name in ((ROOMY[:1], "one log"), (ROOMY, "two logs")):
        client.flushall()
        envelopes = [letter(next(names))] * messages
        send(limiter_by(client, count(BEGIN).__next__, *limits), envelopes)
        held = used_by(client) / messages
        report.append(f"bytes per recorded message, {messages:6} of a sender, {name:12}{held:8.1f}")


def test_memory_per_message_of_a_day(report: list[str], client: redis.Redis) -> None:
    """The day is full; of the minute there is little to keep."""
    messages, day = 3333, 24 * 3600 * 1000
    clock = count(BEGIN, day // messages).__next__
    send(limiter_by(client, clock, *POLICY.limits), [letter(next(names))] * messages)
    held = used_by(client) / messages
    report.append(f"bytes per recorded message, {messages:6} in a day, minute and day{held:5.1f}")


def test_memory_per_sender(report: list[str], client: redis.Redis) -> None:
    senders = 1000
    send(Limiter(POLICY, RedisBackend(client)), [letter(next(names)) for _ in range(senders)])
    report.append(f"bytes per sender with one message {used_by(client) / senders:26.0f}")


def five_senders() -> list[Envelope]:
    """A hundred messages, twenty of each sender, in turn."""
    return [letter(sender) for sender in [next(names) for _ in range(5)] * (HUNDRED // 5)]


def hundred_senders() -> list[Envelope]:
    """A hundred messages, each of another sender, who has sent none before."""
    return [letter(next(names)) for _ in range(HUNDRED)]


@pytest.mark.parametrize("hundred", [five_senders, hundred_senders])
def test_batches(
    report: list[str], client: redis.Redis, hundred: Callable[[], list[Envelope]]
) -> None:
    limiter = Limiter(POLICY, RedisBackend(client))

    def together() -> Round:
        envelopes = hundred()
        return lambda _: limiter.try_acquire_many(envelopes), envelopes[:1]

    taken = side_by_side(
        {"one by one": lambda: (limiter.try_acquire, hundred()), "together": together}, 100
    )
    single, many = taken["one by one"], [seconds / HUNDRED for seconds in taken["together"]]
    title = f"try_acquire_many of 100, {hundred.__name__.replace('_', ' ')}"
    report.append(f"{f'{title}, one by one':60}{1 / statistics.median(single):8.0f} a second")
    report.append(f"{f'{title}, together':60}{1 / statistics.median(many):8.0f} a second")
    report.append(f"{f'{title}, together / one by one':60}{ratio(single, many):8.2f}")


async def test_a_hundred_tasks(report: list[str], server: Server) -> None:
    """For information: `asyncio` itself takes most of the time."""
    async with redis.asyncio.Redis(port=server.port) as client:
        sha = await client.script_load("return 1")
        limiter = AsyncLimiter(POLICY, AsyncRedisBackend(client))
        contenders: dict[str, Callable[[Envelope], Awaitable[object]]] = {
            "no-op EVALSHA, 100 tasks": lambda _: client.evalsha(sha, 0),
            "AsyncLimiter, 100 tasks": limiter.try_acquire,
        }
        taken: dict[str, list[float]] = {name: [] for name in contenders}
        gc.collect()
        for number in range(55):
            for name, check in contenders.items():
                envelopes = five_senders()
                start = time.perf_counter()
                await asyncio.gather(*map(check, envelopes))
                if number >= 5:  # the first ones warm up
                    taken[name].append((time.perf_counter() - start) / HUNDRED)
    tell(report, taken, "no-op EVALSHA, 100 tasks")
