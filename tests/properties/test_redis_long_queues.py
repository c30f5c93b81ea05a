"""Redis with a long queue of bookings answers as memory does, however bookings leave the queue."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from rlm_testkit.builders import envelope_to
from rlm_testkit.redis_backends import unique_prefix, valkey_only
from rlm_testkit.servers import Server

from ratelimit_mail import (
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RateLimitExceeded,
    RecipientRateLimit,
)
from ratelimit_mail.backends import MemoryBackend, RedisBackend
from ratelimit_mail.testing import ManualClock

POLICIES = [
    [MessageRateLimit("1/second"), MessageRateLimit("2000/day")],
    [MessageRateLimit("3/2 seconds", denied="count"), RecipientRateLimit("9/minute")],
    [MessageRateLimit("9/minute", resolution="10 seconds"), MessageRateLimit("1/second")],
]
ENVELOPES = [envelope_to(1), envelope_to(1), envelope_to(3)]


def play(backend: Any, clock: ManualClock, limits: Any, seed: int) -> list[Any]:
    """Book many messages, then redeem, cancel and send some in any order; return the answers."""
    random = Random(seed)
    limiter = Limiter(Policy(name="test", limits=limits), backend, sleep=clock.advance)
    answers: list[Any] = [bool(limiter.try_acquire(ENVELOPES[0]))]
    reservations = [limiter.reserve(random.choice(ENVELOPES)) for _ in range(250)]
    sent = []
    for _ in range(80):
        clock.advance(random.choice([0, 0.1, 0.5, 1, 1, 2, 30]))
        step = random.random()
        early = min(int(random.expovariate(0.2)), len(reservations) - 1)
        if step < 0.5:
            decision = reservations[early].redeem()
            answers.append((decision.action, decision.retry_after, decision.limit))
            if decision:
                sent.append(reservations.pop(early).decision)
        elif step < 0.6:
            reservations.pop(early).cancel()
        elif step < 0.7:
            reservations.pop(random.randrange(len(reservations))).cancel()
        elif step < 0.8 and sent:
            limiter.settle(sent.pop(random.randrange(len(sent))))
        elif step < 0.85 and sent:
            limiter.refund(sent.pop(random.randrange(len(sent))))
        elif step < 0.9:
            reservations.append(limiter.reserve(ENVELOPES[0]))
            answers.append(reservations[-1].delay)
        else:
            try:
                answers.append(limiter.acquire(ENVELOPES[0], timeout=0).retry_after)
            except RateLimitExceeded as error:
                answers.append(error.decision.retry_after)
        decision = limiter.check(random.choice(ENVELOPES))
        answers.append((decision.retry_after, decision.limit, limiter.usage("ann@uwo.ca")))
    return answers


@valkey_only
@pytest.mark.parametrize("limits", POLICIES)
@pytest.mark.parametrize("seed", range(3))
def test_a_long_queue_has_the_answers_of_memory(server: Server, limits: Any, seed: int) -> None:
    clock = ManualClock()
    backend = RedisBackend.from_url(server.url, prefix=unique_prefix(), clock=clock, timeout=30)
    in_memory = ManualClock()
    assert play(backend, clock, limits, seed) == play(
        MemoryBackend(in_memory), in_memory, limits, seed
    )
    backend.close()


@valkey_only
def test_a_check_of_recipients_who_have_been_sent_to_leaves_the_count_as_it_is(
    server: Server,
) -> None:
    backend = RedisBackend.from_url(server.url, prefix=unique_prefix(), clock=ManualClock())
    policy = Policy(name="test", limits=[RecipientRateLimit("2/10 seconds", unique=True)])
    limiter = Limiter(policy, backend)
    envelopes = [Envelope("ann@uwo.ca", [f"{i}@example.com"]) for i in range(100)]
    for envelope in envelopes:
        limiter.reserve(envelope)
    before = limiter.usage("ann@uwo.ca")
    assert not limiter.check(Envelope("ann@uwo.ca", ["0@example.com", "new@example.com"]))
    assert not limiter.check(envelopes[50])
    assert limiter.usage("ann@uwo.ca") == before
    assert limiter.reserve(envelopes[0]).delay == 500
    backend.close()


def cancel_everywhere(backend: Any, clock: ManualClock) -> list[Any]:
    """Cancel many bookings of a queue in any order, and send between those that remain."""
    random = Random(1)
    limits = [MessageRateLimit("2/second"), MessageRateLimit("150/minute", scope="global")]
    limiter = Limiter(Policy(name="test", limits=limits), backend)
    reservations = [limiter.reserve(ENVELOPES[0]) for _ in range(400)]
    random.shuffle(reservations)
    answers: list[Any] = []
    for number, reservation in enumerate(reservations[:120]):
        reservation.cancel()
        if number % 5 == 0:
            clock.advance(0.3)
            envelope = Envelope(f"{number}@uwo.ca", ["bob@example.com"])
            answers.append(limiter.try_acquire(envelope).retry_after)
            answers.append((limiter.check(ENVELOPES[0]).retry_after, limiter.usage("ann@uwo.ca")))
    for _ in range(20):
        clock.advance(10)
        answers.append((limiter.check(ENVELOPES[0]).retry_after, limiter.usage("ann@uwo.ca")))
    return answers


@valkey_only
def test_many_cancelled_bookings_leave_the_counts_of_memory(server: Server) -> None:
    clock, in_memory = ManualClock(), ManualClock()
    backend = RedisBackend.from_url(server.url, prefix=unique_prefix(), clock=clock, timeout=30)
    assert cancel_everywhere(backend, clock) == cancel_everywhere(
        MemoryBackend(in_memory), in_memory
    )
    backend.close()
