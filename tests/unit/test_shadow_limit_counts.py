"""What shadow limits (`enforce=False`) count: accepted messages, refused attempts, bookings."""

from __future__ import annotations

from typing import Any

import pytest
from rlm_testkit.builders import envelope_to
from rlm_testkit.shadow_limits import (
    ANN,
    BOB,
    ENVELOPE,
    EVE,
    SHADOW_TWO_A_MINUTE,
    TEN_A_MINUTE,
    shadow_has_room,
    shadow_limiter,
    shadow_of,
    used,
)

from ratelimit_mail import (
    Limiter,
    MessageRateLimit,
    Policy,
    RateLimitExceeded,
    RecipientLimit,
    RecipientRateLimit,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.testing import ManualClock


def test_a_message_that_a_shadow_limit_would_turn_away_does_not_count_for_it() -> None:
    clock = ManualClock()
    limiter = shadow_limiter(TEN_A_MINUTE, SHADOW_TWO_A_MINUTE, clock=clock)
    allowed = []
    for _ in range(8):
        allowed.append(shadow_of(limiter.try_acquire(ENVELOPE)).allowed)
        clock.advance(20)
    assert allowed == [True, True, False] * 2 + [True, True]


def test_a_message_that_an_enforced_limit_turns_away_does_not_count_for_shadow_limits() -> None:
    limiter = shadow_limiter(MessageRateLimit("1/minute", scope="recipient"), SHADOW_TWO_A_MINUTE)
    for _ in range(5):
        limiter.try_acquire(ENVELOPE)
    decision = limiter.try_acquire(ENVELOPE)
    assert not decision
    assert shadow_of(decision)
    assert shadow_of(limiter.try_acquire(envelope_to([BOB])))
    assert not shadow_has_room(limiter)


@pytest.mark.parametrize(
    ("enforced", "counts"),
    [
        (MessageRateLimit("1/minute", scope="recipient"), True),
        (RecipientRateLimit("1/minute"), True),
        (RecipientLimit(1), False),
    ],
)
def test_attempts_refused_by_enforced_limits_count_for_a_shadow_limit_as_if_it_were_enforced(
    enforced: Any, counts: bool
) -> None:
    envelope = envelope_to([EVE, BOB])
    has_room = []
    for enforce in (True, False):
        limiter = shadow_limiter(
            enforced, MessageRateLimit("2/minute", denied="count", enforce=enforce)
        )
        limiter.try_acquire(envelope_to([EVE], "x@uwo.ca"))
        for _ in range(2):
            assert not limiter.try_acquire(envelope)
        last = limiter.check(envelope_to(["z@example.com"]))
        has_room.append(bool(last if enforce else shadow_of(last)))
    assert has_room == [not counts, not counts]


def test_shadow_limits_have_counts_of_their_own() -> None:
    limiter = shadow_limiter(MessageRateLimit("2/minute"), SHADOW_TWO_A_MINUTE)
    assert limiter.try_acquire(ENVELOPE)
    limits = [MessageRateLimit("2/minute"), SHADOW_TWO_A_MINUTE]
    assert [usage.limit for usage in limiter.usage(ANN)] == limits
    assert used(limiter) == [1, 1]


def test_a_reset_resets_shadow_limits_too() -> None:
    limiter = shadow_limiter(
        SHADOW_TWO_A_MINUTE, MessageRateLimit("1/day", scope="global", enforce=False)
    )
    for _ in range(3):
        limiter.try_acquire(ENVELOPE)
    limiter.reset(ANN)
    limiter.reset(scope="global")
    assert shadow_has_room(limiter)


def test_a_refund_takes_out_what_shadow_limits_counted_too() -> None:
    limiter = shadow_limiter(TEN_A_MINUTE, SHADOW_TWO_A_MINUTE)
    decisions = [limiter.try_acquire(ENVELOPE) for _ in range(3)]
    assert not shadow_has_room(limiter)
    limiter.refund(decisions[2])  # the shadow limit did not count this one
    assert not shadow_has_room(limiter)
    limiter.refund(decisions[0])
    assert shadow_has_room(limiter)
    assert used(limiter) == [1, 1]
    with pytest.raises(ValueError, match="already"):
        limiter.refund(decisions[0])


def test_check_charges_neither_enforced_nor_shadow_limits() -> None:
    limiter = shadow_limiter(
        MessageRateLimit("1/minute"), MessageRateLimit("1/minute", enforce=False)
    )
    for _ in range(3):
        assert shadow_has_room(limiter)
    decision = limiter.try_acquire(ENVELOPE)
    assert shadow_of(decision)
    checked = limiter.check(ENVELOPE)
    assert checked.retry_after == shadow_of(checked).retry_after == 60


def test_a_repeated_request_counts_once_for_shadow_limits_and_gets_their_first_answer() -> None:
    limiter = shadow_limiter(TEN_A_MINUTE, SHADOW_TWO_A_MINUTE)
    identified = envelope_to([EVE], id="job-1")
    decisions = [limiter.try_acquire(identified) for _ in range(3)]
    assert [bool(shadow_of(each)) for each in decisions] == [True] * 3
    assert shadow_has_room(limiter)
    reservations = [limiter.reserve(identified) for _ in range(3)]
    assert [bool(shadow_of(each.decision)) for each in reservations] == [True] * 3
    assert not shadow_has_room(limiter)
    reservations[0].cancel()
    assert shadow_has_room(limiter)
    limiter.refund(decisions[0])
    allowed = [shadow_of(limiter.try_acquire(ENVELOPE)).allowed for _ in range(3)]
    assert allowed == [True, True, False]


@pytest.mark.parametrize("recipients", [1, 2])
def test_a_refused_attempt_that_is_repeated_counts_once_for_shadow_limits(recipients: int) -> None:
    # A message to two recipients can never go, and one to one recipient not now.
    enforced = RecipientRateLimit("1/minute")
    shadow = MessageRateLimit("2/minute", scope="recipient", denied="count", enforce=False)
    limiter = shadow_limiter(enforced, shadow)
    assert limiter.try_acquire(envelope_to(["bob@example.com"]))
    to = ["eve@example.com", "bob@example.net"][:recipients]
    for _ in range(5):
        assert not limiter.try_acquire(envelope_to(to, id="job-1"))
    other = envelope_to(["eve@example.com"], sender="kim@uwo.ca")
    assert shadow_of(limiter.try_acquire(other)).allowed


def test_each_message_of_a_batch_has_a_shadow_of_its_own() -> None:
    limiter = shadow_limiter(MessageRateLimit("3/minute"), SHADOW_TWO_A_MINUTE)
    decisions = limiter.try_acquire_many([ENVELOPE] * 4)
    assert [bool(decision) for decision in decisions] == [True, True, True, False]
    assert [bool(shadow_of(each)) for each in decisions] == [True, True, False, False]


# Bookings.


def test_the_shadow_of_a_booking_says_whether_there_is_room_at_its_time() -> None:
    clock = ManualClock()
    limiter = shadow_limiter(TEN_A_MINUTE, SHADOW_TWO_A_MINUTE, clock=clock)
    reservations = [limiter.reserve(ENVELOPE) for _ in range(3)]
    assert [each.delay for each in reservations] == [0, 0, 0]
    assert [bool(shadow_of(each.decision)) for each in reservations] == [True, True, False]
    assert shadow_of(reservations[2].decision).retry_after == 60
    reservations[0].cancel()
    assert shadow_has_room(limiter)
    with pytest.raises(ValueError, match="already"):
        reservations[0].cancel()


def test_shadow_limits_stricter_than_the_enforced_ones_book_nothing_ahead() -> None:
    clock = ManualClock()
    limiter = shadow_limiter(
        MessageRateLimit("30/minute"), MessageRateLimit("1/day", enforce=False), clock=clock
    )
    decisions = [limiter.acquire(ENVELOPE) for _ in range(300)]
    assert sum(bool(shadow_of(decision)) for decision in decisions) == 1
    assert all((shadow_of(decision).retry_after or 0) <= 86_400 for decision in decisions)
    clock.advance(86_400)
    assert shadow_has_room(limiter)


def test_shadow_limits_equal_to_the_enforced_ones_have_room_for_every_booking() -> None:
    limiter = shadow_limiter(
        MessageRateLimit("2/minute"), MessageRateLimit("2/minute", enforce=False)
    )
    assert all(shadow_of(limiter.acquire(ENVELOPE)) for _ in range(7))
    assert all(shadow_of(limiter.reserve(ENVELOPE).decision) for _ in range(7))


def test_the_error_of_a_wait_that_is_too_long_has_a_shadow() -> None:
    limiter = shadow_limiter(MessageRateLimit("1/minute"), SHADOW_TWO_A_MINUTE)
    assert limiter.acquire(ENVELOPE)
    with pytest.raises(RateLimitExceeded) as caught:
        limiter.acquire(ENVELOPE, timeout=1)
    assert shadow_of(caught.value.decision)


def test_an_interrupted_wait_gives_back_its_enforced_and_its_shadow_booking() -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        raise KeyboardInterrupt

    policy = Policy(name="test", limits=[MessageRateLimit("1/minute"), SHADOW_TWO_A_MINUTE])
    limiter = Limiter(policy, MemoryBackend(ManualClock()), sleep=sleep)
    assert limiter.acquire(ENVELOPE)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            limiter.acquire(ENVELOPE)
    assert slept == [60] * 3
    assert shadow_has_room(limiter)
