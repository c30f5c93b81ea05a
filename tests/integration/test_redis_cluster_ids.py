"""Ids of messages over several slots of a cluster: charged once, with one answer."""

from __future__ import annotations

import threading

import pytest
import redis
from rlm_testkit.multi_slot import (
    ENVELOPE,
    ENVELOPE_WITH_ID,
    InterruptedBackend,
    SlotCall,
    cluster_client,
    per_slot,
    used,
)
from rlm_testkit.redis_backends import unique_prefix

from ratelimit_mail import (
    Decision,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
)
from ratelimit_mail.backends import RedisBackend
from ratelimit_mail.testing import ManualClock

client = pytest.fixture(cluster_client, scope="module")


def test_threads_that_use_an_id_at_the_same_moment_charge_it_once(
    client: redis.RedisCluster,
) -> None:
    backend = RedisBackend(client, prefix=unique_prefix())
    limiter = Limiter(per_slot("1000/day"), backend)
    threads, jobs = 6, 8
    barrier = threading.Barrier(threads)
    decisions_by_job: list[list[Decision]] = [[] for _ in range(jobs)]

    def work() -> None:
        for number in range(jobs):
            barrier.wait(timeout=30)
            job = Envelope("ann@uwo.ca", ["x@a.org", "y@b.org"], id=f"job-{number}")
            decisions_by_job[number].append(limiter.try_acquire(job))

    started = [threading.Thread(target=work) for _ in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    assert [sum(map(bool, decisions)) for decisions in decisions_by_job] == [threads] * jobs
    assert used(limiter) == [jobs] * 3
    # Each job is refunded once, although every thread refunds it.
    for number, decisions in enumerate(decisions_by_job):
        for decision in decisions:
            limiter.refund(decision)
        assert used(limiter) == [jobs - number - 1] * 3


def answers_with_a_repeat_in_between(client: redis.RedisCluster, before: str) -> list[bool]:
    """Return the answers to one id under a limit of one: in between, to the first call, and later.

    before: the subject that the first call was about to charge when the second call was made.
    """
    backend = InterruptedBackend(client, prefix=unique_prefix())
    limiter = Limiter(per_slot("1/day"), backend)
    answers: list[bool] = []

    def repeat(call: SlotCall) -> None:
        if call.records and call.subject == before and not answers:
            answers.append(limiter.try_acquire(ENVELOPE_WITH_ID).allowed)

    backend.transport.before = repeat
    answers.append(limiter.try_acquire(ENVELOPE_WITH_ID).allowed)
    backend.transport.before = None
    assert used(limiter) == [int(answers[-1])] * 3
    return [*answers, limiter.try_acquire(ENVELOPE_WITH_ID).allowed]


def test_an_id_that_is_repeated_before_the_first_charge_gets_one_answer(
    client: redis.RedisCluster,
) -> None:
    assert answers_with_a_repeat_in_between(client, "ann@uwo.ca") == [True, True, True]


def test_an_id_that_is_repeated_between_two_charges_does_not_affect_the_first_call(
    client: redis.RedisCluster,
) -> None:
    assert answers_with_a_repeat_in_between(client, "b.org")[1:] == [True, True]


def test_a_remembered_refusal_is_returned_to_a_policy_that_now_has_fewer_windows(
    client: redis.RedisCluster,
) -> None:
    clock = ManualClock()
    backend = RedisBackend(client, prefix=unique_prefix(), clock=clock)
    per_domain = MessageRateLimit("9/minute", scope="recipient_domain")
    limits = [per_domain, MessageRateLimit("9/minute"), MessageRateLimit("1/hour")]
    before, after = (
        Limiter(Policy(name="test", limits=limits[:number]), backend) for number in (3, 2)
    )
    assert before.try_acquire(ENVELOPE)
    assert before.try_acquire(ENVELOPE_WITH_ID).retry_after == 3600
    assert after.try_acquire(ENVELOPE_WITH_ID).retry_after == 3600
