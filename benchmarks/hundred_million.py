"""How 100 million senders would be served: `python -m benchmarks.hundred_million`.

Two figures are measured on a Valkey of this machine: the bytes that a sender takes by the messages
of its day, and the server's processor time a message, the network included. The rest is computed:
senders are spread over the slots of a cluster as their keys hash, their messages are as uneven as
real mail's, and the busiest hour has a share of the day. The result is what the fullest of some
shards would carry, and what would fail first.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from itertools import count, pairwise
from typing import Final, NamedTuple

import redis
from redis.crc import key_slot
from rlm_testkit.servers import Server, valkey

from benchmarks.email_check import message, policy
from ratelimit_mail import Limiter
from ratelimit_mail.backends import RedisBackend

SLOTS: Final = 16_384
DAY: Final = 24 * 3600
GIB: Final = 1 << 30

MEASURED: Final = (1, 3, 10, 30, 100)
"""Messages of a sender's day for which bytes are measured; between them is interpolated."""


class Figures(NamedTuple):
    """What was measured. sender_bytes: by the messages of a day. server_seconds: a message."""

    sender_bytes: dict[int, float]
    server_seconds: float

    def bytes_of(self, messages: float) -> float:
        """Return the bytes of a sender with so many messages a day, by linear interpolation."""
        known = sorted(self.sender_bytes.items())
        if messages <= known[0][0]:
            return known[0][1]
        for (low, low_bytes), (high, high_bytes) in pairwise(known):
            if messages <= high or high == known[-1][0]:
                slope = (high_bytes - low_bytes) / (high - low)
                return low_bytes + slope * (messages - low)
        raise AssertionError(messages)


class Node(NamedTuple):
    """One shard's machine.

    memory: bytes for data; as much again is left for a replica's buffers and copies on write.
    load: the share of the one core that scripts run on which may be used in the busy hour.
    price: a month, in any currency.
    """

    memory: float
    load: float
    price: float


class Traffic(NamedTuple):
    """The mail. busy_hour: the share of a day's messages in its busiest hour."""

    senders: int
    messages_a_day: float
    busy_hour: float


class Load(NamedTuple):
    """What the fullest and the busiest of some shards would carry."""

    shards: int
    memory: float
    core: float

    def problem(self, node: Node) -> str:
        """Return what fails first; an empty string if nothing does."""
        shares = {"memory": self.memory / node.memory, "the core": self.core / node.load}
        worst = max(shares, key=lambda each: shares[each])
        return worst if shares[worst] > 1 else ""


def measured(senders: int = 20_000, rounds: int = 5) -> Figures:
    """Measure a Valkey of this machine."""
    sizes = {number: _bytes_a_sender(number, senders // number) for number in MEASURED}
    server = Server(valkey())
    try:
        client = server.client()
        limiter = Limiter(policy(), RedisBackend(client))
        envelopes = [message(f"timed{number}") for number in range(2_000)]
        seconds = []
        for _ in range(rounds):
            before = _processor_seconds(client)
            for envelope in envelopes:
                limiter.try_acquire(envelope)
            seconds.append((_processor_seconds(client) - before) / len(envelopes))
        return Figures(sizes, sorted(seconds)[rounds // 2])
    finally:
        server.stop()


def _bytes_a_sender(messages: int, senders: int) -> float:
    """Return the bytes of a server's memory for each sender with so many messages in a day."""
    server = Server(valkey())  # one of its own: memory that is freed later would count
    try:
        client = server.client()
        step = DAY * 1000 // (messages * senders + 1)
        begin = int(time.time()) * 1000
        limiter = Limiter(policy(), RedisBackend(client, clock=count(begin, step).__next__))
        limiter.try_acquire(message("first"))
        before = client.info("memory")["used_memory"]
        for _ in range(messages):
            for start in range(0, senders, 100):
                numbers = range(start, min(start + 100, senders))
                batch = [message(f"s{number}") for number in numbers]
                assert all(limiter.try_acquire_many(batch))
        return float(client.info("memory")["used_memory"] - before) / senders
    finally:
        server.stop()


def _processor_seconds(client: redis.Redis) -> float:
    times = client.info("cpu")
    return float(times["used_cpu_user"]) + float(times["used_cpu_sys"])


def daily_messages(number: int, mean: float, generator: random.Random) -> list[float]:
    """Return how many messages each of some senders sends a day, as uneven as real mail.

    Log-normal: half of the senders send a seventh of the mean or less, and one in a hundred ten
    times the mean, at most the 10,000 recipients of the day's limit.
    """
    sigma = 2.0
    return [
        min(10_000.0, mean * generator.lognormvariate(-sigma * sigma / 2, sigma))
        for _ in range(number)
    ]


def loads(
    figures: Figures, traffic: Traffic, shards: Sequence[int], sample: int, seed: int = 1
) -> list[Load]:
    """Return what the fullest of each number of shards would carry.

    sample: how many senders are drawn; each stands for as many as there are to one drawn. The
        slots of a shard hold so many senders that the unevenness of the sample is more than that
        of all of them: what is computed is too much rather than too little.
    """
    generator = random.Random(seed)
    weight = traffic.senders / sample
    memory, rate = [0.0] * SLOTS, [0.0] * SLOTS
    for number, messages in enumerate(daily_messages(sample, traffic.messages_a_day, generator)):
        slot = key_slot(f"s{number}@example.com".encode())
        memory[slot] += weight * figures.bytes_of(messages)
        rate[slot] += weight * messages * traffic.busy_hour / 3600
    result = []
    for number in shards:
        parts = [range(i * SLOTS // number, (i + 1) * SLOTS // number) for i in range(number)]
        fullest = max(sum(memory[slot] for slot in part) for part in parts)
        busiest = max(sum(rate[slot] for slot in part) for part in parts)
        result.append(Load(number, fullest, busiest * figures.server_seconds))
    return result


def main() -> None:
    """Measure, compute, and print the table and what fails first."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    add = parser.add_argument
    add("--senders", type=int, default=100_000_000)
    add("--messages", type=float, default=5.0, help="a day, of a sender on average")
    add("--busy-hour", type=float, default=0.12, help="its share of the day")
    add("--memory", type=float, default=32.0, help="GiB for data on each shard")
    add("--load", type=float, default=0.5, help="the share of the core that may be used")
    add("--price", type=float, default=0.0, help="of a shard with its replica, a month")
    add("--sample", type=int, default=400_000, help="senders that are drawn")
    options = parser.parse_args()
    figures = measured()
    node = Node(options.memory * GIB, options.load, options.price)
    traffic = Traffic(options.senders, options.messages, options.busy_hour)
    sizes = ", ".join(f"{size:,.0f} for {n}" for n, size in figures.sender_bytes.items())
    print(f"measured: bytes a sender by messages a day: {sizes}")
    print(f"measured: {figures.server_seconds * 1e6:.1f} us of the server's processor a message")
    rate = traffic.senders * traffic.messages_a_day * traffic.busy_hour / 3600
    print(f"{traffic.senders:,} senders, {rate:,.0f} messages a second in the busy hour")
    print("shards | fullest shard, GiB | its core, % | fails first | price a month")
    for load in loads(figures, traffic, [1, 2, 4, 8, 16, 32, 64], options.sample):
        price = f"{load.shards * node.price:,.0f}" if node.price else ""
        columns = (
            f"{load.shards}",
            f"{load.memory / GIB:.1f}",
            f"{load.core * 100:.0f}",
            load.problem(node) or "nothing",
            price,
        )
        print(" | ".join(columns))


if __name__ == "__main__":
    main()
