"""Messages whose counts stand in several slots of a cluster: charged in turn, or given back."""

from __future__ import annotations

import asyncio
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import redis
from rlm_testkit.servers import Cluster

from ratelimit_mail import (
    AsyncLimiter,
    Decision,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RateLimitExceeded,
    RecipientRateLimit,
)
from ratelimit_mail.backends import AsyncRedisBackend, RedisBackend
from ratelimit_mail.backends.base import Intent, Verdict
from ratelimit_mail.backends.redis.urls import client_from
from ratelimit_mail.counting.charge import Charge
from ratelimit_mail.exceptions import BackendUnavailable
from ratelimit_mail.limits import Limit
from ratelimit_mail.testing import ManualClock

SENDERS = ("ann@uwo.ca", "bob@uwo.ca")
DOMAINS = ("a.org", "b.org", "c.org")
NAMES = ("x", "y", "z")

PER_DAY = Policy(
    name="turns",
    limits=[
        MessageRateLimit("40/day"),
        MessageRateLimit("30/day", scope="recipient_domain"),
        RecipientRateLimit("12/day", scope="recipient"),
    ],
)

LETTER = Envelope("ann@uwo.ca", ["x@a.org", "y@b.org"])
JOB = Envelope("ann@uwo.ca", ["x@a.org", "y@b.org"], id="job-1")
SLOTS = (("ann@uwo.ca", "sender"), ("a.org", "recipient_domain"), ("b.org", "recipient_domain"))
"""What LETTER is charged to, in the order in which it is."""


def own_prefix() -> str:
    return f"test-{uuid.uuid4().hex[:12]}:"


@pytest.fixture(scope="module")
def client(cluster: Cluster) -> Iterator[redis.RedisCluster]:
    made: redis.RedisCluster = client_from(cluster.url, timeout=5, is_async=False, options={})
    yield made
    made.close()


class Interrupted(RedisBackend):
    """Lets something happen each time before a slot is charged, or asked for anything else."""

    before: Callable[[Sequence[Charge], Intent], None] | None = None

    def _ask(
        self,
        charges: Sequence[Charge],
        intent: Intent,
        *,
        start: int | None = None,
        flags: int = 0,
    ) -> Verdict:
        before = self.before
        if before is not None:
            self.before = None  # what happens in between is not interrupted
            before(charges, intent)
            self.before = self.before or before
        return super()._ask(charges, intent, start=start, flags=flags)


def per_slot(rate: str, **options: Any) -> Policy:
    """A policy that charges LETTER to three slots."""
    limits: list[Limit] = [
        MessageRateLimit(rate, **options),
        MessageRateLimit(rate, scope="recipient_domain", **options),
    ]
    return Policy(name="turns", limits=limits)


def used(limiter: Limiter) -> list[int]:
    """What each slot of LETTER holds."""
    return [limiter.usage(subject, scope=scope)[0].used for subject, scope in SLOTS]


def fill(limiter: Limiter, slot: int) -> Decision:
    """Take room in one slot of LETTER, and in no other of them."""
    if slot == 0:
        return limiter.try_acquire(Envelope("ann@uwo.ca", [f"x@{uuid.uuid4().hex}.org"]))
    sender = f"{uuid.uuid4().hex}@uwo.ca"
    return limiter.try_acquire(Envelope(sender, [f"x@{SLOTS[slot][0]}"]))


def random_letter(source: random.Random) -> Envelope:
    many = source.choice((1, 1, 2, 3))
    recipients = {f"{source.choice(NAMES)}@{source.choice(DOMAINS)}" for _ in range(many)}
    return Envelope(source.choice(SENDERS), sorted(recipients))


def charged(admitted: Sequence[Envelope]) -> dict[tuple[str, str], int]:
    """What each subject was charged by the letters that were admitted."""
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


def test_threads_pass_no_limit_and_leave_nothing_behind(client: redis.RedisCluster) -> None:
    limiter = Limiter(PER_DAY, RedisBackend(client, prefix=own_prefix()))
    admitted: list[Envelope] = []
    refused: list[Envelope] = []
    above: list[object] = []
    over = threading.Event()

    def work(number: int) -> None:
        source = random.Random(number)
        for _ in range(40):
            envelope = random_letter(source)
            (admitted if limiter.try_acquire(envelope) else refused).append(envelope)

    def watch() -> None:
        while not over.is_set():
            for scope, subject in SUBJECTS:
                (usage,) = limiter.usage(subject, scope=scope)
                if usage.used > usage.limit.limit:
                    above.append(usage)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    watcher = threading.Thread(target=watch)
    for thread in (*workers, watcher):
        thread.start()
    for thread in workers:
        thread.join()
    over.set()
    watcher.join()

    assert len(admitted) + len(refused) == 160
    assert admitted
    assert refused
    assert not above
    total = charged(admitted)
    for scope, subject in SUBJECTS:
        (usage,) = limiter.usage(subject, scope=scope)
        assert usage.used == total[scope, subject] <= usage.limit.limit


async def test_tasks_pass_no_limit_and_leave_nothing_behind(cluster: Cluster) -> None:
    backend = AsyncRedisBackend.from_url(cluster.url, prefix=own_prefix(), timeout=5)
    limiter = AsyncLimiter(PER_DAY, backend)
    source = random.Random(5)
    letters = [random_letter(source) for _ in range(120)]
    try:
        decisions = await asyncio.gather(*map(limiter.try_acquire, letters))
        pairs = zip(letters, decisions, strict=True)
        total = charged([letter for letter, decision in pairs if decision])
        assert 0 < sum(map(bool, decisions)) < 120
        for scope, subject in SUBJECTS:
            (usage,) = await limiter.usage(subject, scope=scope)
            assert usage.used == total[scope, subject] <= usage.limit.limit
    finally:
        await backend.aclose()


def test_what_threads_gave_back_is_room_for_others(client: redis.RedisCluster) -> None:
    backend = RedisBackend(client, prefix=own_prefix())
    limiter = Limiter(per_slot("15/day"), backend)
    admitted: list[bool] = []

    def work() -> None:
        admitted.extend(limiter.try_acquire(LETTER).allowed for _ in range(10))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Threads may refuse each other for what is given back a moment later.
    while limiter.try_acquire(LETTER):
        admitted.append(True)
    assert sum(admitted) == 15
    assert used(limiter) == [15, 15, 15]


@pytest.mark.parametrize("refusing", [1, 2])
def test_a_slot_that_refuses_gives_back_those_before_it(
    client: redis.RedisCluster, refusing: int
) -> None:
    backend = Interrupted(client, prefix=own_prefix())
    limiter = Limiter(per_slot("1/day"), backend)
    seen: list[list[int]] = []

    def others_come(_: Sequence[Charge], intent: Intent) -> None:
        if intent.record:
            seen.append(used(limiter))
            if len(seen) == refusing + 1:  # looked at, and about to be charged
                assert fill(limiter, refusing)

    backend.before = others_come
    assert not limiter.try_acquire(LETTER)
    backend.before = None
    # In between a reader sees some of the charges; afterwards only what was admitted.
    assert seen[1] == [1, 0, 0]
    assert used(limiter) == [int(slot == refusing) for slot in range(3)]


def test_slots_that_are_far_away_are_asked_a_few_times_each(client: redis.RedisCluster) -> None:
    backend = Interrupted(client, prefix=own_prefix())
    limiter = Limiter(per_slot("9/day"), backend)
    asked: list[str] = []

    def far_away(charges: Sequence[Charge], _: Intent) -> None:
        time.sleep(0.003)
        asked.append(charges[0][1])
        assert len(asked) <= 50

    backend.before = far_away
    assert limiter.try_acquire(LETTER)


def test_others_who_always_come_in_between_are_not_waited_for(client: redis.RedisCluster) -> None:
    backend = Interrupted(client, prefix=own_prefix())
    limiter = Limiter(per_slot("1/day"), backend)
    taken: list[Decision] = []

    def others_come_and_go(_: Sequence[Charge], intent: Intent) -> None:
        if intent.record and not taken:
            taken.append(fill(limiter, 2))
        elif not intent.record and taken:
            limiter.refund(taken.pop())

    backend.before = others_come_and_go
    decision = limiter.try_acquire(LETTER)
    backend.before = None
    assert not decision
    assert decision.retry_after is not None
    assert decision.retry_after > 0
    for other in taken:
        limiter.refund(other)
    assert used(limiter) == [0, 0, 0]
    assert limiter.try_acquire(LETTER)


def test_an_outage_half_way_gives_back_what_was_charged(client: redis.RedisCluster) -> None:
    backend = Interrupted(client, prefix=own_prefix())
    limiter = Limiter(per_slot("1/day"), backend)

    def cut(charges: Sequence[Charge], intent: Intent) -> None:
        if intent.record and charges[0][1] == "b.org":
            raise BackendUnavailable("the node of b.org is away")

    backend.before = cut
    with pytest.raises(BackendUnavailable, match=r"b\.org is away"):
        limiter.try_acquire(LETTER)
    backend.before = None
    # By another limiter, for which there was no outage.
    assert used(Limiter(per_slot("1/day"), backend)) == [0, 0, 0]


@pytest.mark.parametrize("full", range(3))
def test_a_booking_that_one_slot_refuses_stands_in_no_other(
    client: redis.RedisCluster, full: int
) -> None:
    backend = RedisBackend(client, prefix=own_prefix(), clock=ManualClock())
    limiter = Limiter(per_slot("1/day"), backend)
    assert fill(limiter, full)
    with pytest.raises(RateLimitExceeded) as caught:
        limiter.reserve(LETTER, max_delay=10)
    assert caught.value.decision.retry_after == 86_400
    assert used(limiter) == [int(slot == full) for slot in range(3)]
    # Nor in the sender's queue, where the next booking would have to stand behind it.
    assert limiter.reserve(Envelope("ann@uwo.ca", ["x@c.org"])).delay == (86_400 if not full else 0)


def test_an_id_is_charged_once_by_threads_that_ask_at_the_same_moment(
    client: redis.RedisCluster,
) -> None:
    backend = RedisBackend(client, prefix=own_prefix())
    limiter = Limiter(per_slot("1000/day"), backend)
    threads, jobs = 6, 8
    barrier = threading.Barrier(threads)
    held: list[list[Decision]] = [[] for _ in range(jobs)]

    def work() -> None:
        for number in range(jobs):
            barrier.wait(timeout=30)
            job = Envelope("ann@uwo.ca", ["x@a.org", "y@b.org"], id=f"job-{number}")
            held[number].append(limiter.try_acquire(job))

    started = [threading.Thread(target=work) for _ in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    assert [sum(map(bool, decisions)) for decisions in held] == [threads] * jobs
    assert used(limiter) == [jobs] * 3
    # Each job is refunded once, whoever of its holders asks for it.
    for number, decisions in enumerate(held):
        for decision in decisions:
            limiter.refund(decision)
        assert used(limiter) == [jobs - number - 1] * 3


def same_job_in_between(client: redis.RedisCluster, before: str) -> list[bool]:
    """The answers to one job, where there is room for one: to who came in between, and the first.

    before: the subject that was about to be charged for the first when the second asked. The last
    answer is to a third, when both have theirs.
    """
    backend = Interrupted(client, prefix=own_prefix())
    limiter = Limiter(per_slot("1/day"), backend)
    answers: list[bool] = []

    def ask_again(charges: Sequence[Charge], intent: Intent) -> None:
        if intent.record and charges[0][1] == before and not answers:
            answers.append(limiter.try_acquire(JOB).allowed)

    backend.before = ask_again
    answers.append(limiter.try_acquire(JOB).allowed)
    backend.before = None
    assert used(limiter) == [int(answers[-1])] * 3
    return [*answers, limiter.try_acquire(JOB).allowed]


def test_an_id_asked_before_the_first_is_charged_has_one_answer(
    client: redis.RedisCluster,
) -> None:
    assert same_job_in_between(client, "ann@uwo.ca") == [True, True, True]


def test_an_id_asked_while_the_first_is_charged_takes_nothing_from_it(
    client: redis.RedisCluster,
) -> None:
    assert same_job_in_between(client, "b.org")[1:] == [True, True]


def test_a_refusal_is_told_under_a_policy_that_has_fewer_windows_since(
    client: redis.RedisCluster,
) -> None:
    clock = ManualClock()
    backend = RedisBackend(client, prefix=own_prefix(), clock=clock)
    per_domain = MessageRateLimit("9/minute", scope="recipient_domain")
    limits = [per_domain, MessageRateLimit("9/minute"), MessageRateLimit("1/hour")]
    before, since = (
        Limiter(Policy(name="turns", limits=limits[:many]), backend) for many in (3, 2)
    )
    assert before.try_acquire(LETTER)
    assert before.try_acquire(JOB).retry_after == 3600
    assert since.try_acquire(JOB).retry_after == 3600


def test_a_refusal_that_is_over_before_it_is_remembered_is_told(
    client: redis.RedisCluster,
) -> None:
    backend = Interrupted(client, prefix=own_prefix())
    limits = [
        MessageRateLimit("1/second"),
        MessageRateLimit("9/second", scope="recipient_domain", denied="count"),
    ]
    limiter = Limiter(Policy(name="turns", limits=limits), backend)
    assert limiter.try_acquire(LETTER)

    slept: list[bool] = []

    def time_passes(_: Sequence[Charge], intent: Intent) -> None:
        if intent.refused and not slept:
            slept.append(True)
            time.sleep(1.1)

    backend.before = time_passes
    assert not limiter.try_acquire(JOB)


def test_bookings_over_several_slots_keep_the_order_of_a_sender(
    client: redis.RedisCluster,
) -> None:
    backend = RedisBackend(client, prefix=own_prefix(), clock=ManualClock())
    limits = [
        MessageRateLimit("9/minute"),
        MessageRateLimit("1/minute", scope="recipient_domain"),
    ]
    limiter = Limiter(Policy(name="turns", limits=limits), backend)
    delays = [
        limiter.reserve(Envelope("ann@uwo.ca", [f"x@{domain}" for domain in domains])).delay
        for domains in (["a.org"], ["a.org", "b.org"], ["c.org"], ["a.org"], ["d.org"])
    ]
    assert delays == [0, 60, 60, 120, 120]
    # Another sender's need not stand behind them, where the domain has room.
    assert limiter.reserve(Envelope("bob@uwo.ca", ["x@d.org"])).delay == 0
    assert limiter.reserve(Envelope("bob@uwo.ca", ["x@b.org"])).delay == 0


def test_threads_that_book_over_several_slots_keep_order_and_limits(
    client: redis.RedisCluster,
) -> None:
    backend = RedisBackend(client, prefix=own_prefix(), clock=ManualClock())
    limits = [
        MessageRateLimit("2/minute"),
        MessageRateLimit("3/minute", scope="recipient_domain"),
    ]
    limiter = Limiter(Policy(name="turns", limits=limits), backend)
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
    for mine in booked:
        assert all(one[0] <= two[0] for one, two in pairwise(mine))
        for at, envelope in mine:
            for subject in {envelope.sender, *envelope.domains}:
                moments.setdefault(subject, []).append(at)
    for subject, of_subject in moments.items():
        limit = 2 if subject in SENDERS else 3
        for end in of_subject:
            assert sum(end - 60_000 < at <= end for at in of_subject) <= limit


async def test_a_cancelled_wait_gives_back_its_place_in_every_slot(cluster: Cluster) -> None:
    backend = AsyncRedisBackend.from_url(
        cluster.url, prefix=own_prefix(), clock=ManualClock(), timeout=5
    )
    asleep = asyncio.Event()

    async def sleep(_: float) -> None:
        asleep.set()
        await asyncio.Event().wait()

    limiter = AsyncLimiter(per_slot("1/minute"), backend, sleep=sleep)
    try:
        assert await limiter.try_acquire(LETTER)
        waiting = asyncio.create_task(limiter.acquire(LETTER))
        await asleep.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        for subject, scope in SLOTS:
            (usage,) = await limiter.usage(subject, scope=scope)
            assert (usage.used, usage.resets_in) == (1, 60)
        assert (await limiter.reserve(LETTER)).delay == 60
    finally:
        await backend.aclose()


def scripts_called(cluster: Cluster, do: Callable[[], object]) -> int:
    """How many scripts the nodes of the cluster run while something is done."""

    def calls() -> int:
        total = 0
        for node in cluster.nodes:
            with node.client() as client:
                told = client.info("commandstats")
            total += sum(
                told.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval")
            )
        return total

    before = calls()
    do()
    return calls() - before


@pytest.mark.parametrize(
    ("shard_by", "scopes", "expected"),
    [
        ("global", ("sender", "recipient_domain"), 1),
        ("global", ("sender", "recipient", "global"), 1),
        ("sender", ("sender", ("sender", "recipient_domain")), 1),
        (None, ("sender", ("sender", "recipient_domain")), 1),
        (None, ("sender", "sender_domain"), 1),
        (None, ("sender", "recipient_domain"), 6),
    ],
)
def test_counts_that_stand_together_take_one_script_a_message(
    cluster: Cluster,
    client: redis.RedisCluster,
    shard_by: str | None,
    scopes: tuple[Any, ...],
    expected: int,
) -> None:
    limits = [MessageRateLimit("9/day", scope=scope) for scope in scopes]
    policy = Policy(name="turns", limits=limits, shard_by=shard_by)
    # By a clock that stands still: slots that tell different times are asked once more.
    limiter = Limiter(policy, RedisBackend(client, prefix=own_prefix(), clock=ManualClock()))
    assert limiter.try_acquire(LETTER)  # the node knows its scripts from now on
    decisions: list[Decision] = []
    for verb in (limiter.try_acquire, limiter.check):
        ask = partial(verb, LETTER)
        called = scripts_called(cluster, lambda ask=ask: decisions.append(ask()))  # type: ignore[misc]
        looks = expected // 2 or 1
        assert called == (expected if verb == limiter.try_acquire else looks)
    assert all(decisions)


def test_a_booking_and_its_refund_take_one_script_each_where_all_stand_together(
    cluster: Cluster, client: redis.RedisCluster
) -> None:
    limits = [MessageRateLimit("1/day"), MessageRateLimit("9/day", scope="recipient_domain")]
    policy = Policy(name="turns", limits=limits, shard_by="global")
    limiter = Limiter(policy, RedisBackend(client, prefix=own_prefix()))
    limiter.reserve(LETTER).cancel()
    limiter.reserve(LETTER)
    assert scripts_called(cluster, lambda: limiter.reserve(LETTER).cancel()) == 2
    batch = [Envelope("bob@uwo.ca", [f"x@{i}.org"]) for i in range(50)]
    assert scripts_called(cluster, lambda: limiter.try_acquire_many(batch)) == 1
