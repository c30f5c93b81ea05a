"""Messages over several slots of a cluster that are interrupted between two slots."""

from __future__ import annotations

import time

import pytest
import redis
from rlm_testkit.multi_slot import (
    ENVELOPE,
    InterruptedBackend,
    SlotCall,
    charge_slot,
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
from ratelimit_mail.exceptions import BackendUnavailable
from ratelimit_mail.testing import ManualClock

client = pytest.fixture(cluster_client, scope="module")


@pytest.mark.parametrize("refusing", [1, 2])
def test_if_a_slot_refuses_the_charges_of_the_slots_before_it_are_taken_back(
    client: redis.RedisCluster, refusing: int
) -> None:
    backend = InterruptedBackend(client, prefix=unique_prefix())
    limiter = Limiter(per_slot("1/day"), backend)
    seen: list[list[int]] = []

    def charge_refusing_slot(call: SlotCall) -> None:
        if call.records:
            seen.append(used(limiter))
            if len(seen) == refusing + 1:  # checked, and about to be charged
                assert charge_slot(limiter, refusing)

    backend.transport.before = charge_refusing_slot
    assert not limiter.try_acquire(ENVELOPE)
    backend.transport.before = None
    # In between a reader sees some of the charges; afterwards only those of admitted messages.
    assert seen[1] == [1, 0, 0]
    assert used(limiter) == [int(slot == refusing) for slot in range(3)]


def test_distant_slots_are_called_only_a_few_times_each(client: redis.RedisCluster) -> None:
    clock = ManualClock()
    backend = InterruptedBackend(client, prefix=unique_prefix(), clock=clock)
    limiter = Limiter(per_slot("9/day"), backend)
    subjects: list[str] = []

    def take_time(call: SlotCall) -> None:
        clock.advance(0.003)
        subjects.append(call.subject)
        assert len(subjects) <= 50

    backend.transport.before = take_time
    assert limiter.try_acquire(ENVELOPE)


def test_a_message_is_refused_if_other_messages_are_always_charged_in_between(
    client: redis.RedisCluster,
) -> None:
    backend = InterruptedBackend(client, prefix=unique_prefix())
    limiter = Limiter(per_slot("1/day"), backend)
    charged: list[Decision] = []

    def charge_and_refund(call: SlotCall) -> None:
        if call.records and not charged:
            charged.append(charge_slot(limiter, 2))
        elif not call.records and charged:
            limiter.refund(charged.pop())

    backend.transport.before = charge_and_refund
    decision = limiter.try_acquire(ENVELOPE)
    backend.transport.before = None
    assert not decision
    assert decision.retry_after is not None
    assert decision.retry_after > 0
    for other in charged:
        limiter.refund(other)
    assert used(limiter) == [0, 0, 0]
    assert limiter.try_acquire(ENVELOPE)


def test_an_outage_half_way_takes_the_charges_back(client: redis.RedisCluster) -> None:
    backend = InterruptedBackend(client, prefix=unique_prefix())
    limiter = Limiter(per_slot("1/day"), backend)

    def fail(call: SlotCall) -> None:
        if call.records and call.subject == "b.org":
            raise BackendUnavailable("the node of b.org is away")

    backend.transport.before = fail
    with pytest.raises(BackendUnavailable, match=r"b\.org is away"):
        limiter.try_acquire(ENVELOPE)
    backend.transport.before = None
    # Another limiter has seen no outage.
    assert used(Limiter(per_slot("1/day"), backend)) == [0, 0, 0]


def test_a_refusal_that_has_ended_before_it_is_remembered_is_returned(
    client: redis.RedisCluster,
) -> None:
    # With the server's clock: with a clock of the backend every answer lives an hour longer.
    backend = InterruptedBackend(client, prefix=unique_prefix())
    limits = [
        MessageRateLimit("1/second"),
        MessageRateLimit("9/second", scope="recipient_domain", denied="count"),
    ]
    limiter = Limiter(Policy(name="test", limits=limits), backend)
    slept: list[bool] = []

    def sleep_past_refusal(call: SlotCall) -> None:
        if call.refused and not slept:
            slept.append(True)
            time.sleep(1.1)

    backend.transport.before = sleep_past_refusal
    for attempt in range(50):  # on a slow machine the second may be over before the refusal
        limiter.try_acquire(ENVELOPE)
        envelope = Envelope(ENVELOPE.sender, ENVELOPE.recipients, id=f"job-{attempt}")
        slept.clear()
        decision = limiter.try_acquire(envelope)
        if slept:
            break
    assert slept
    assert not decision
