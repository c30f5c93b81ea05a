"""Concurrent messages over several slots of a cluster stay within every limit."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import pytest
import redis
from rlm_testkit.multi_slot import (
    ENVELOPE,
    cluster_client,
    per_slot,
    used,
)
from rlm_testkit.redis_backends import unique_prefix
from rlm_testkit.servers import Cluster

from ratelimit_mail import (
    AsyncLimiter,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientRateLimit,
)
from ratelimit_mail.backends import AsyncRedisBackend, RedisBackend
from ratelimit_mail.testing import ManualClock

client = pytest.fixture(cluster_client, scope="module")


SENDERS = ("ann@uwo.ca", "bob@uwo.ca")
DOMAINS = ("a.org", "b.org", "c.org")
NAMES = ("x", "y", "z")

PER_DAY = Policy(
    name="test",
    limits=[
        MessageRateLimit("40/day"),
        MessageRateLimit("30/day", scope="recipient_domain"),
        RecipientRateLimit("12/day", scope="recipient"),
    ],
)


def random_envelope(source: random.Random) -> Envelope:
    size = source.choice((1, 1, 2, 3))
    recipients = {f"{source.choice(NAMES)}@{source.choice(DOMAINS)}" for _ in range(size)}
    return Envelope(source.choice(SENDERS), sorted(recipients))


def charged(admitted: Sequence[Envelope]) -> dict[tuple[str, str], int]:
    """Return what each subject was charged by the admitted messages."""
    totals: Counter[tuple[str, str]] = Counter()
    for envelope in admitted:
        totals["sender", envelope.sender] += 1
        for domain in set(envelope.domains):
            totals["recipient_domain", domain] += 1
        for recipient in envelope.recipients:
            totals["recipient", recipient] += 1
    return totals


SUBJECTS = [
    *(("sender", sender) for sender in SENDERS),
    *(("recipient_domain", domain) for domain in DOMAINS),
    *(("recipient", f"{name}@{domain}") for name in NAMES for domain in DOMAINS),
]


def test_threads_exceed_no_limit_and_leave_no_charge_of_a_refused_message(
    client: redis.RedisCluster,
) -> None:
    limiter = Limiter(PER_DAY, RedisBackend(client, prefix=unique_prefix()))
    admitted: list[Envelope] = []
    refused: list[Envelope] = []
    exceeded: list[object] = []
    ended = threading.Event()

    def work(number: int) -> None:
        source = random.Random(number)
        for _ in range(40):
            envelope = random_envelope(source)
            (admitted if limiter.try_acquire(envelope) else refused).append(envelope)

    def watch() -> None:
        while not ended.is_set():
            for scope, subject in SUBJECTS:
                (usage,) = limiter.usage(subject, scope=scope)
                if usage.used > usage.limit.limit:
                    exceeded.append(usage)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    watcher = threading.Thread(target=watch)
    for thread in (*workers, watcher):
        thread.start()
    for thread in workers:
        thread.join()
    ended.set()
    watcher.join()

    assert len(admitted) + len(refused) == 160
    assert admitted
    assert refused
    assert not exceeded
    total = charged(admitted)
    for scope, subject in SUBJECTS:
        (usage,) = limiter.usage(subject, scope=scope)
        assert usage.used == total[scope, subject] <= usage.limit.limit


async def test_tasks_exceed_no_limit_and_leave_no_charge_of_a_refused_message(
    cluster: Cluster,
) -> None:
    backend = AsyncRedisBackend.from_url(cluster.url, prefix=unique_prefix(), timeout=30)
    limiter = AsyncLimiter(PER_DAY, backend)
    source = random.Random(5)
    envelopes = [random_envelope(source) for _ in range(120)]
    try:
        decisions = await asyncio.gather(*map(limiter.try_acquire, envelopes))
        pairs = zip(envelopes, decisions, strict=True)
        total = charged([envelope for envelope, decision in pairs if decision])
        assert 0 < sum(map(bool, decisions)) < 120
        for scope, subject in SUBJECTS:
            (usage,) = await limiter.usage(subject, scope=scope)
            assert usage.used == total[scope, subject] <= usage.limit.limit
    finally:
        await backend.aclose()


def test_charges_that_threads_take_back_are_room_for_other_messages(
    client: redis.RedisCluster,
) -> None:
    backend = RedisBackend(client, prefix=unique_prefix())
    limiter = Limiter(per_slot("15/day"), backend)
    admitted: list[bool] = []

    def work() -> None:
        admitted.extend(limiter.try_acquire(ENVELOPE).allowed for _ in range(10))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A message may be refused because of a charge that is taken back a moment later.
    while limiter.try_acquire(ENVELOPE):
        admitted.append(True)
    assert sum(admitted) == 15
    assert used(limiter) == [15, 15, 15]


def test_threads_that_book_over_several_slots_preserve_order_and_limits(
    client: redis.RedisCluster,
) -> None:
    backend = RedisBackend(client, prefix=unique_prefix(), clock=ManualClock())
    limits = [
        MessageRateLimit("2/minute"),
        MessageRateLimit("3/minute", scope="recipient_domain"),
    ]
    limiter = Limiter(Policy(name="test", limits=limits), backend)
    booked: list[list[tuple[int, Envelope]]] = [[] for _ in range(4)]

    def work(number: int) -> None:
        for i in range(4):
            recipients = [f"x@{DOMAINS[i % 3]}", f"y@{DOMAINS[(i + number) % 3]}"]
            envelope = Envelope(SENDERS[number % 2], recipients)
            booked[number].append((limiter.reserve(envelope).at, envelope))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    moments: dict[str, list[int]] = {}
    for bookings in booked:
        assert all(one[0] <= two[0] for one, two in pairwise(bookings))
        for at, envelope in bookings:
            for subject in {envelope.sender, *envelope.domains}:
                moments.setdefault(subject, []).append(at)
    for subject, of_subject in moments.items():
        limit = 2 if subject in SENDERS else 3
        for end in of_subject:
            assert sum(end - 60_000 < at <= end for at in of_subject) <= limit
