"""Messages with an id: repeated bookings, waits and refunds are one message."""

from __future__ import annotations

import attrs
import pytest
from rlm_testkit.builders import campus_policy, envelope_to, inbound_envelope
from rlm_testkit.either_limiter import EitherLimiter, sync_and_async

from ratelimit_mail import (
    MessageRateLimit,
    RateLimitExceeded,
    RecipientRateLimit,
)

HOUR = 3600.0
JOB = envelope_to(["bob@example.com"], id="job-1")
WITHOUT_ID = envelope_to(["bob@example.com"])
ONE_A_MINUTE = MessageRateLimit("1/minute")


# A repeated request says so.


@sync_and_async
def test_only_a_repeated_decision_says_that_it_is_one(mode: str) -> None:
    limiter = EitherLimiter(mode, MessageRateLimit("2/minute"))
    assert [limiter.try_acquire(JOB).repeated for _ in range(3)] == [False, True, True]
    assert [limiter.try_acquire(WITHOUT_ID).repeated for _ in range(2)] == [False, False]
    assert [limiter.try_acquire(attrs.evolve(JOB, id="2")).repeated for _ in range(2)] == [
        False,
        True,
    ]
    assert limiter.used() == [2]


@sync_and_async
def test_a_repeated_refusal_says_so_until_it_is_worth_asking_again(mode: str) -> None:
    limiter = EitherLimiter(mode, ONE_A_MINUTE)
    assert limiter.try_acquire(WITHOUT_ID)
    first, second = limiter.try_acquire(JOB), limiter.try_acquire(JOB)
    assert (first.allowed, first.repeated) == (False, False)
    assert (second.allowed, second.repeated, second.retry_after) == (False, True, 60)
    assert first == second  # whether it is repeated is not part of the answer
    limiter.clock.advance(60)
    assert limiter.try_acquire(JOB).repeated is False


@sync_and_async
def test_repeated_bookings_waits_batches_and_arriving_mail_say_so(mode: str) -> None:
    inbound = MessageRateLimit("9/minute", direction="inbound")
    limiter = EitherLimiter(mode, policy=campus_policy(ONE_A_MINUTE, inbound, partial=True))
    assert not limiter.reserve(JOB).decision.repeated
    assert limiter.reserve(JOB).decision.repeated
    assert limiter.acquire(JOB).repeated
    other = attrs.evolve(JOB, id="job-2", sender="kim@uwo.ca")
    decisions = limiter.try_acquire_many([other, other])
    assert [each.repeated for each in decisions] == [False, True]
    arriving = inbound_envelope("kim@uwo.ca", "lee@uwo.ca", id="job-3")
    limiter.try_acquire(arriving)
    again = limiter.try_acquire(arriving).recipients
    assert [each.repeated for each in again.values()] == [True, True]


# How long a booking is remembered.


@sync_and_async
def test_a_booking_is_remembered_until_its_time_and_an_hour(mode: str) -> None:
    limiter = EitherLimiter(mode, MessageRateLimit("1/47 hours"), remember=HOUR)
    assert limiter.try_acquire(WITHOUT_ID)
    assert limiter.reserve(WITHOUT_ID).delay == 47 * HOUR
    first = limiter.reserve(JOB)
    assert first.delay == 94 * HOUR
    for hours in (46, 48):
        limiter.clock.advance(hours * HOUR)
        again = limiter.reserve(JOB)
        assert again.decision.repeated
        assert again.at == first.at
    limiter.clock.advance(HOUR - 0.001)
    assert limiter.reserve(JOB).decision.repeated
    limiter.clock.advance(0.001)
    assert not limiter.reserve(JOB).decision.repeated


@sync_and_async
def test_an_accepted_message_is_remembered_for_an_hour(mode: str) -> None:
    limiter = EitherLimiter(mode, MessageRateLimit("9/minute"), remember=HOUR)
    limiter.try_acquire(JOB)
    limiter.clock.advance(HOUR - 0.001)
    assert limiter.try_acquire(JOB).repeated
    limiter.clock.advance(0.001)
    assert not limiter.try_acquire(JOB).repeated


# A repeated wait.


@sync_and_async
def test_a_repeated_wait_that_comes_late_checks_again_that_the_message_fits(mode: str) -> None:
    limiter = EitherLimiter(mode, ONE_A_MINUTE)
    assert limiter.try_acquire(WITHOUT_ID)
    assert limiter.reserve(JOB).delay == 60
    limiter.clock.advance(130)  # the process that booked it was stopped
    assert limiter.try_acquire(WITHOUT_ID)
    assert limiter.acquire(JOB).repeated
    assert limiter.slept == [60]
    assert (limiter.used(), limiter.resets_in()) == ([1], [60])


@sync_and_async
def test_many_repeated_waits_after_a_restart_never_go_together(mode: str) -> None:
    limiter = EitherLimiter(mode, MessageRateLimit("3/minute"))
    jobs = [attrs.evolve(JOB, id=f"job-{number}") for number in range(9)]
    for job in jobs:
        limiter.reserve(job)
    limiter.clock.advance(600)
    restarted = EitherLimiter(
        mode, MessageRateLimit("3/minute"), clock=limiter.clock, backend=limiter.backend
    )
    start = limiter.clock()
    sent = []
    for job in jobs:
        assert restarted.acquire(job).repeated
        sent.append((limiter.clock() - start) / 1000)
    assert sent == [0.0] * 3 + [60.0] * 3 + [120.0] * 3


@sync_and_async
def test_a_repeated_wait_respects_its_own_timeout_and_leaves_the_booking(mode: str) -> None:
    limiter = EitherLimiter(mode, ONE_A_MINUTE)
    assert limiter.try_acquire(WITHOUT_ID)
    reservation = limiter.reserve(JOB)
    with pytest.raises(RateLimitExceeded) as caught:
        limiter.acquire(JOB, timeout=59.999)
    assert caught.value.decision.retry_after == 60
    assert caught.value.decision.limit == ONE_A_MINUTE
    assert limiter.slept == []
    limiter.clock.advance(60)
    assert reservation.redeem()
    assert limiter.used() == [1]


@sync_and_async
def test_a_repeated_wait_for_a_message_that_went_before_does_not_wait(mode: str) -> None:
    limiter = EitherLimiter(mode, ONE_A_MINUTE)
    assert limiter.acquire(JOB)
    limiter.clock.advance(30)
    assert limiter.acquire(JOB, timeout=0).repeated
    assert limiter.slept == []
    assert limiter.used() == [1]


# A refund by id.


@sync_and_async
def test_a_message_is_refunded_by_its_id_through_another_limiter(mode: str) -> None:
    limits = (MessageRateLimit("9/minute"), RecipientRateLimit("9/day", scope="global"))
    limiter = EitherLimiter(mode, *limits)
    assert limiter.try_acquire(JOB)
    other = EitherLimiter(mode, *limits, backend=limiter.backend)
    other.refund(JOB)
    assert limiter.used() == [0]
    assert limiter.used(None, "global") == [0]
    assert not other.try_acquire(JOB).repeated  # it is charged anew
    assert limiter.used() == [1]


@sync_and_async
def test_a_booking_is_refunded_by_its_id_and_its_place_is_free(mode: str) -> None:
    limiter = EitherLimiter(mode, ONE_A_MINUTE)
    assert limiter.try_acquire(WITHOUT_ID)
    limiter.reserve(JOB)
    EitherLimiter(mode, ONE_A_MINUTE, backend=limiter.backend).refund(JOB)
    assert limiter.reserve(WITHOUT_ID).delay == 60


@sync_and_async
def test_a_settled_message_is_refunded_by_its_id(mode: str) -> None:
    limiter = EitherLimiter(mode, RecipientRateLimit("9/minute"))
    job = envelope_to(["bob@example.com", "eve@example.net"], id="job-1")
    decision = limiter.try_acquire(job)
    limiter.clock.advance(20)
    limiter.settle(decision, refused=["eve@example.net"])
    assert limiter.used() == [1]
    limiter.refund(job)
    assert limiter.used() == [0]


@sync_and_async
def test_each_mailbox_of_arriving_mail_is_refunded_by_the_id(mode: str) -> None:
    inbound = MessageRateLimit("9/minute", direction="inbound")
    limiter = EitherLimiter(mode, policy=campus_policy(inbound, partial=True))
    arriving = inbound_envelope("kim@uwo.ca", "lee@uwo.ca", id="job-1")
    limiter.try_acquire(arriving)
    limiter.refund(arriving)
    assert limiter.used("kim@uwo.ca", "recipient") == [0]
    assert limiter.used("lee@uwo.ca", "recipient") == [0]


@sync_and_async
def test_shadow_limits_are_refunded_by_the_id_too(mode: str) -> None:
    limiter = EitherLimiter(
        mode, MessageRateLimit("9/day"), MessageRateLimit("1/day", enforce=False)
    )
    assert limiter.try_acquire(JOB).shadow
    limiter.refund(JOB)
    assert limiter.try_acquire(WITHOUT_ID).shadow


@sync_and_async
def test_a_message_is_refunded_once_whoever_refunds_it(mode: str) -> None:
    limiter = EitherLimiter(mode, MessageRateLimit("9/minute"))
    decision = limiter.try_acquire(JOB)
    assert limiter.try_acquire(WITHOUT_ID)
    limiter.refund(JOB)
    limiter.refund(decision)
    assert limiter.used() == [1]
    with pytest.raises(ValueError, match="nothing to refund"):
        limiter.refund(JOB)


@sync_and_async
@pytest.mark.parametrize(
    "unknown",
    [
        attrs.evolve(JOB, id="job-2"),
        attrs.evolve(JOB, sender="kim@uwo.ca"),
        attrs.evolve(JOB, recipients=["eve@example.net"]),
    ],
    ids=["another id", "another sender", "another recipient"],
)
def test_an_id_that_is_not_remembered_is_an_error_that_shows_it(mode: str, unknown: object) -> None:
    limiter = EitherLimiter(mode, MessageRateLimit("9/minute"))
    assert limiter.try_acquire(JOB)
    with pytest.raises(ValueError, match="nothing to refund: no accepted message with the id 'job"):
        limiter.refund(unknown)
    assert limiter.used() == [1]


@sync_and_async
def test_a_refused_message_and_one_without_an_id_cannot_be_refunded_by_id(mode: str) -> None:
    limiter = EitherLimiter(mode, ONE_A_MINUTE)
    assert limiter.try_acquire(WITHOUT_ID)
    assert not limiter.try_acquire(JOB)
    with pytest.raises(ValueError, match="nothing to refund"):
        limiter.refund(JOB)
    with pytest.raises(ValueError, match="an Envelope without an id cannot be refunded"):
        limiter.refund(WITHOUT_ID)
    assert limiter.used() == [1]
