"""What a message costs the server: the time of its scripts, with long logs too, and bytes."""

import random
from collections.abc import Callable
from itertools import count
from typing import Any, Final

import pytest
import redis
from rlm_testkit.servers import Cluster, command, valkey

from benchmarks.contenders import BEST, NO_OP, OURS, make
from benchmarks.email_check import INTERNAL, message, new_senders, policy
from benchmarks.workloads import one_by_one
from ratelimit_mail import Envelope, Limiter, MessageRateLimit, Policy, RecipientRateLimit
from ratelimit_mail.backends import RedisBackend

BEGIN: Final = 10**12  # milliseconds since the epoch
DAY: Final = 24 * 3600 * 1000
ROOMY: Final = (
    MessageRateLimit("100000000/30 days"),
    RecipientRateLimit("1000000000/30 days", count="external"),
)
TRIMMING: Final = MessageRateLimit("80000/40000 seconds")
"""Its window always holds 40,000: what leaves it is dropped from the log's head."""
UNEVEN: Final = (1, 1, 1, 1, 1, 1, 1, 1, 5, 50)
"""Recipients of a message: one, and now and then many."""


@pytest.fixture
def client(port_of: Any) -> redis.Redis:
    """Return a client of the Valkey server."""
    return redis.Redis(port=port_of("Valkey"))


def _script_seconds(client: redis.Redis) -> float:
    """Return the time that the server has spent on scripts."""
    stats = client.info("commandstats")
    scripts = (stats.get(f"cmdstat_{name}") for name in ("evalsha", "eval", "fcall"))
    return float(sum(each["usec"] for each in scripts if each)) / 1e6


@pytest.mark.parametrize("name", [NO_OP, OURS, *BEST])
def test_server_time(benchmark_of: Any, client: redis.Redis, port_of: Any, name: str) -> None:
    """The server's time for a message of a sender who has sent up to thirty."""
    send = one_by_one(make(name, port_of("Valkey")).check)
    group = "Valkey, server time, up to 30 recorded"
    benchmark = benchmark_of(lambda: _script_seconds(client), group, name, 5 * 30)
    benchmark.pedantic(send, setup=lambda: ((new_senders(5),), {}), rounds=11)


def test_server_time_of_new_senders(benchmark_of: Any, client: redis.Redis, port_of: Any) -> None:
    """The server's time for the first message of a sender."""
    send = one_by_one(make(OURS, port_of("Valkey")).check)
    group = "Valkey, server time, none recorded"
    benchmark = benchmark_of(lambda: _script_seconds(client), group, OURS, 150)
    benchmark.pedantic(send, setup=lambda: ((new_senders(150, 1),), {}), rounds=11)


def _limiter(client: redis.Redis, *limits: Any, begin: int = BEGIN, step: int = 1_000) -> Limiter:
    """Return a limiter whose clock moves `step` milliseconds on for each message."""
    rules = Policy(name="logs", internal_domains=[INTERNAL], limits=limits)
    return Limiter(rules, RedisBackend(client, clock=count(begin, step).__next__))


def _send(limiter: Limiter, envelopes: list[Envelope]) -> None:
    for i in range(0, len(envelopes), 100):
        assert all(limiter.try_acquire_many(envelopes[i : i + 100]))


def _recorded(client: redis.Redis, size: int, *limits: Any) -> Limiter:
    """Record so many messages, a second apart."""
    limiter = _limiter(client, *limits)
    _send(limiter, [message("busy")] * size)
    return limiter


def _searched(client: redis.Redis, size: int, recipients: tuple[int, ...] = (3,)) -> Limiter:
    """Record messages, with a third window that begins in the middle of the log."""
    to = [[f"{i}@example.com" for i in range(number)] for number in recipients]
    envelopes = [Envelope(f"busy@{INTERNAL}", random.choice(to)) for _ in range(size)]
    _send(_limiter(client, *ROOMY), envelopes)
    half = size // 2
    held = sum(len(envelope.recipients) for envelope in envelopes[half:])
    middle = RecipientRateLimit(f"{held * 3}/{half} seconds", count="external")
    return _limiter(client, *ROOMY, middle, begin=BEGIN + 1_000 * size)


LOGS: Final[dict[str, tuple[Callable[[redis.Redis], Limiter], int]]] = {
    "500 recorded": (lambda client: _recorded(client, 500, *ROOMY), 300),
    "10,000 recorded": (lambda client: _recorded(client, 10_000, *ROOMY), 300),
    "100,000 recorded": (lambda client: _recorded(client, 100_000, *ROOMY), 300),
    "40,000 recorded and trimmed": (lambda client: _recorded(client, 45_000, TRIMMING), 5_000),
    "100,000 recorded and searched": (lambda client: _searched(client, 100_000), 50),
    "100,000 uneven ones searched": (lambda client: _searched(client, 100_000, UNEVEN), 50),
    "100,000 unique recipients": (lambda client: _unique(client), 300),
    "100,000 unique recipients and a booking": (lambda client: _unique(client, booked=True), 300),
}
"""How the log of a sender is filled, and the messages of a round."""


def _unique(client: redis.Redis, *, booked: bool = False) -> Limiter:
    """Record messages to 100,000 recipients, and a booking ahead."""
    limiter = _limiter(client, RecipientRateLimit("200000/30 days", unique=True))
    to = [[f"{i + j}@example.org" for j in range(500)] for i in range(0, 100_000, 500)]
    _send(limiter, [Envelope(f"busy@{INTERNAL}", recipients) for recipients in to])
    if booked:
        full = _limiter(client, RecipientRateLimit("100000/30 days", unique=True), begin=BEGIN)
        full.reserve(Envelope(f"busy@{INTERNAL}", ["new@example.org"]))
    return limiter


@pytest.mark.parametrize("log", LOGS)
def test_long_log(benchmark_of: Any, client: redis.Redis, log: str, quick: bool) -> None:
    """The server's time for a message of a sender with many messages recorded."""
    client.flushall()
    fill, size = LOGS[log]
    send = one_by_one(fill(client).try_acquire)
    rounds = 2 if quick else 11
    group = f"Valkey, server time, {log}"
    benchmark = benchmark_of(lambda: _script_seconds(client), group, OURS, size)
    benchmark.pedantic(send, args=([message("busy")] * size,), rounds=rounds, warmup_rounds=1)


def test_longest_script(benchmark_of: Any, client: redis.Redis, quick: bool) -> None:
    """The longest script of a sender who never stops, once 100,000 attempts are recorded.

    Refused attempts that matter no more are merged meanwhile.
    """
    size = 10_000 if quick else 100_000
    client.flushall()
    limiter = _limiter(client, MessageRateLimit(f"{size // 3}/30 days", denied="count"), step=1)
    for _ in range(0, size, 100):
        limiter.try_acquire_many([message("busy")] * 100)
    client.config_set("slowlog-log-slower-than", 0)
    client.config_set("slowlog-max-len", 10_000)

    def longest_script() -> float:
        entries = client.slowlog_get(10_000)
        client.slowlog_reset()
        longest.append(max((each["duration"] for each in entries), default=0) / 1e6)
        return sum(longest)

    longest: list[float] = []
    send = one_by_one(limiter.try_acquire)
    benchmark = benchmark_of(longest_script, f"Valkey, longest script, {size:,} attempts", OURS)
    benchmark.pedantic(send, args=([message("busy")] * 500,), rounds=3 if quick else 100)
    client.config_set("slowlog-log-slower-than", -1)


@pytest.mark.parametrize("nodes", ["one server", "busiest of three masters"])
def test_nodes(
    benchmark_of: Any, client: redis.Redis, request: pytest.FixtureRequest, nodes: str, quick: bool
) -> None:
    """The time of the scripts of one server, or of the busiest node, for batches of new senders."""
    clients, backend = [client], RedisBackend(client)
    if nodes != "one server":
        cluster = Cluster(valkey())
        request.addfinalizer(cluster.stop)
        clients = [node.client() for node in cluster.nodes]
        backend = RedisBackend.from_url(cluster.url, timeout=30)
    limiter = Limiter(policy(), backend)

    def send(batches: list[list[Envelope]]) -> None:
        for batch in batches:
            assert all(limiter.try_acquire_many(batch))

    group = "Valkey, server time, batches of 100 new senders"
    benchmark = benchmark_of(lambda: max(map(_script_seconds, clients)), group, nodes, 500)

    def setup() -> tuple[tuple[list[list[Envelope]]], dict[str, Any]]:
        return ([new_senders(100, 1) for _ in range(5)],), {}

    benchmark.pedantic(send, setup=setup, rounds=3 if quick else 15, warmup_rounds=1)


def test_bytes_in_the_server(benchmark_of: Any, client: redis.Redis) -> None:
    """The bytes a message of a sender who has filled the day with 3,333."""

    def key_bytes() -> float:
        keys = client.scan_iter(count=1000)
        return float(sum(command(client, "MEMORY USAGE", key, "SAMPLES", 0) for key in keys))

    client.flushall()
    limiter = _limiter(client, *policy().limits, step=DAY // 3_333)
    benchmark = benchmark_of(key_bytes, "Valkey, bytes a message", OURS, 3_333)
    benchmark.pedantic(_send, args=(limiter, [message("full")] * 3_333))
