"""`redeem`: a booked place is checked again when it is used, and booked anew if it does not fit."""

from __future__ import annotations

from typing import Any

import pytest
from rlm_testkit.builders import envelope_to
from rlm_testkit.either_limiter import EitherLimiter, sync_and_async

from ratelimit_mail import Action, MessageRateLimit, RecipientRateLimit

ENVELOPE = envelope_to(["bob@example.com"])
OTHER_SENDER = envelope_to(["bob@example.com"], sender="kim@uwo.ca")
ONE_A_MINUTE = MessageRateLimit("1/minute")
SHARED = MessageRateLimit("1/minute", scope="global")


def booked_behind_a_sending(limiter: EitherLimiter) -> tuple[Any, Any]:
    """Accept a message that is being sent, and book another; return both."""
    sent = limiter.try_acquire(ENVELOPE)
    return sent, limiter.reserve(ENVELOPE)


# On time, early, late.


@sync_and_async
def test_a_booking_redeemed_on_time_may_go(mode: str) -> None:
    limiter = EitherLimiter(mode, ONE_A_MINUTE)
    _, reservation = booked_behind_a_sending(limiter)
    limiter.clock.advance(60)
    decision = reservation.redeem()
    assert (decision.action, decision.retry_after) == (Action.ACCEPT, 0)
    assert (limiter.used(), limiter.resets_in()) == ([1], [60])


@sync_and_async
def test_a_booking_that_could_go_at_once_may_be_redeemed_too(mode: str) -> None:
    limiter = EitherLimiter(mode, ONE_A_MINUTE)
    reservation = limiter.reserve(ENVELOPE)
    assert reservation.delay == 0
    assert reservation.redeem()
    limiter.clock.advance(20)
    assert reservation.redeem()
    assert (limiter.used(), limiter.resets_in()) == ([1], [60])


@sync_and_async
def test_a_booking_redeemed_early_stays_where_it_is(mode: str) -> None:
    limiter = EitherLimiter(mode, ONE_A_MINUTE)
    _, reservation = booked_behind_a_sending(limiter)
    for seconds, wait in ((0, 60), (20, 40), (39.999, 0.001)):
        limiter.clock.advance(seconds)
        decision = reservation.redeem()
        assert (decision.action, decision.retry_after) == (Action.DEFER, wait)
        assert decision.limit == ONE_A_MINUTE
    limiter.clock.advance(0.001)
    assert reservation.redeem()


@sync_and_async
def test_a_booking_redeemed_late_counts_when_it_is_redeemed(mode: str) -> None:
    limiter = EitherLimiter(mode, ONE_A_MINUTE)
    _, reservation = booked_behind_a_sending(limiter)
    limiter.clock.advance(75)
    assert reservation.redeem()
    assert (limiter.used(), limiter.resets_in()) == ([1], [60])


@sync_and_async
def test_a_booking_may_be_redeemed_after_it_has_left_every_window(mode: str) -> None:
    limiter = EitherLimiter(mode, ONE_A_MINUTE)
    _, reservation = booked_behind_a_sending(limiter)
    limiter.clock.advance(3600)
    assert limiter.try_acquire(OTHER_SENDER)  # evicts what is idle
    assert reservation.redeem()
    assert (limiter.used(), limiter.resets_in()) == ([1], [60])
    assert not limiter.try_acquire(ENVELOPE)


# It does not fit any more.


@sync_and_async
def test_a_booking_whose_room_was_settled_away_is_booked_anew(mode: str) -> None:
    limiter = EitherLimiter(mode, ONE_A_MINUTE)
    sent, reservation = booked_behind_a_sending(limiter)
    limiter.clock.advance(20)
    limiter.settle(sent)
    limiter.clock.advance(40)
    decision = reservation.redeem()
    assert (decision.action, decision.retry_after) == (Action.DEFER, 20)
    assert decision.limit == ONE_A_MINUTE
    assert str(decision.reply).startswith("450 4.7.1 Message rate limit exceeded.")
    limiter.clock.advance(19.999)
    assert reservation.redeem().retry_after == 0.001
    limiter.clock.advance(0.001)
    assert reservation.redeem()


@sync_and_async
def test_a_booking_that_is_late_gives_way_to_what_was_accepted_meanwhile(mode: str) -> None:
    limiter = EitherLimiter(mode, ONE_A_MINUTE)
    _, reservation = booked_behind_a_sending(limiter)
    limiter.clock.advance(130)
    assert limiter.try_acquire(ENVELOPE)
    assert reservation.redeem().retry_after == 60


@sync_and_async
def test_a_limit_that_rejects_says_so_and_the_booking_stands_all_the_same(mode: str) -> None:
    limiter = EitherLimiter(mode, MessageRateLimit("1/minute", on_excess="reject"))
    sent, reservation = booked_behind_a_sending(limiter)
    limiter.clock.advance(20)
    limiter.settle(sent)
    limiter.clock.advance(40)
    decision = reservation.redeem()
    assert (decision.action, decision.retry_after) == (Action.REJECT, 20)
    limiter.clock.advance(20)
    assert reservation.redeem()


@sync_and_async
def test_all_limits_and_scopes_must_have_room(mode: str) -> None:
    limiter = EitherLimiter(mode, ONE_A_MINUTE, RecipientRateLimit("2/hour", scope="global"))
    assert limiter.try_acquire(ENVELOPE)
    kim = limiter.try_acquire(OTHER_SENDER)
    reservation = limiter.reserve(ENVELOPE)
    assert reservation.delay == 3600
    limiter.clock.advance(1800)
    limiter.settle(kim)
    limiter.clock.advance(1800)
    assert reservation.redeem()  # only one of the two was settled
    assert limiter.used(None, "global") == [2]


# The order of a queue.


@sync_and_async
def test_a_booking_that_is_booked_anew_stays_first_in_its_senders_queue(mode: str) -> None:
    limiter = EitherLimiter(mode, ONE_A_MINUTE)
    sent = limiter.try_acquire(ENVELOPE)
    first, second, third = [limiter.reserve(ENVELOPE) for _ in range(3)]
    limiter.clock.advance(30)
    limiter.settle(sent)
    limiter.clock.advance(30)
    # The second and the third, which are booked 60 and 120 seconds ahead, are not counted.
    assert first.redeem().retry_after == 30
    limiter.clock.advance(60)
    assert second.redeem().retry_after == 30  # the first stands 30 seconds ago
    assert first.redeem()
    limiter.clock.advance(30)
    assert second.redeem().retry_after == 30  # it was used now
    limiter.clock.advance(30)
    assert third.redeem().retry_after == 60
    assert second.redeem()
    assert third.redeem().retry_after == 60


@sync_and_async
def test_bookings_behind_do_not_count_when_one_is_redeemed_late(mode: str) -> None:
    limiter = EitherLimiter(mode, ONE_A_MINUTE)
    assert limiter.try_acquire(ENVELOPE)
    first, second = [limiter.reserve(ENVELOPE) for _ in range(2)]
    limiter.clock.advance(100)  # 20 seconds before the second's time
    assert first.redeem()
    limiter.clock.advance(20)
    assert second.redeem().retry_after == 40


@sync_and_async
def test_a_booking_waits_for_those_ahead_of_it_that_are_not_redeemed_yet(mode: str) -> None:
    limiter = EitherLimiter(mode, RecipientRateLimit("10/minute"))
    assert limiter.try_acquire(envelope_to(6))
    ahead, behind = limiter.reserve(envelope_to(8)), limiter.reserve(envelope_to(1))
    assert (ahead.delay, behind.delay) == (60, 60)
    limiter.clock.advance(60)
    assert ahead.redeem()
    assert behind.redeem()


@sync_and_async
def test_the_queues_of_other_senders_keep_their_places(mode: str) -> None:
    limiter = EitherLimiter(mode, SHARED)
    assert limiter.try_acquire(ENVELOPE)
    ann, kim = limiter.reserve(ENVELOPE), limiter.reserve(OTHER_SENDER)
    assert (ann.delay, kim.delay) == (60, 120)
    limiter.clock.advance(70)
    # Kim's booking counts, because it is not in Ann's queue.
    assert ann.redeem().retry_after == 110
    limiter.clock.advance(50)
    assert kim.redeem()
    limiter.clock.advance(60)
    assert ann.redeem()


@sync_and_async
def test_a_new_booking_goes_behind_one_that_was_booked_anew(mode: str) -> None:
    limiter = EitherLimiter(mode, ONE_A_MINUTE)
    sent, reservation = booked_behind_a_sending(limiter)
    limiter.clock.advance(20)
    limiter.settle(sent)
    limiter.clock.advance(40)
    assert reservation.redeem().retry_after == 20
    assert limiter.reserve(ENVELOPE).delay == 80


@sync_and_async
def test_a_reset_of_the_sender_frees_a_booking_and_it_can_still_be_redeemed(mode: str) -> None:
    limiter = EitherLimiter(mode, ONE_A_MINUTE)
    _, reservation = booked_behind_a_sending(limiter)
    limiter.reset("ann@uwo.ca")
    assert reservation.redeem().retry_after == 60  # early: it stays where it was
    after_reset = limiter.reserve(ENVELOPE)
    assert after_reset.delay == 0
    limiter.clock.advance(60)
    assert reservation.redeem()
    assert limiter.used() == [1]


# After other operations.


@sync_and_async
def test_a_booking_that_was_cancelled_or_refunded_cannot_be_redeemed(mode: str) -> None:
    limiter = EitherLimiter(mode, ONE_A_MINUTE)
    _, reservation = booked_behind_a_sending(limiter)
    reservation.cancel()
    with pytest.raises(ValueError, match="cancelled or refunded"):
        reservation.redeem()
    reservation = limiter.reserve(ENVELOPE)
    limiter.refund(reservation.decision)
    with pytest.raises(ValueError, match="cancelled or refunded"):
        reservation.redeem()
    assert limiter.used() == [1]


@sync_and_async
def test_a_booking_that_was_settled_cannot_be_redeemed_again(mode: str) -> None:
    limiter = EitherLimiter(mode, ONE_A_MINUTE)
    _, reservation = booked_behind_a_sending(limiter)
    limiter.clock.advance(60)
    assert reservation.redeem()
    limiter.clock.advance(10)
    limiter.settle(reservation.decision)
    limiter.clock.advance(10)
    with pytest.raises(ValueError, match="was settled"):
        reservation.redeem()
    assert limiter.resets_in() == [50]


@sync_and_async
def test_a_booking_redeemed_twice_is_charged_once_and_counts_at_the_second_time(mode: str) -> None:
    limiter = EitherLimiter(mode, ONE_A_MINUTE)
    _, reservation = booked_behind_a_sending(limiter)
    limiter.clock.advance(60)
    assert reservation.redeem()
    limiter.clock.advance(10)
    assert reservation.redeem()
    assert (limiter.used(), limiter.resets_in()) == ([1], [60])


@sync_and_async
def test_a_redeemed_booking_is_refunded_and_cancelled_in_full(mode: str) -> None:
    limiter = EitherLimiter(mode, ONE_A_MINUTE)
    sent, reservation = booked_behind_a_sending(limiter)
    limiter.clock.advance(60)
    assert reservation.redeem()
    reservation.cancel()
    assert limiter.used() == [0]
    reservation = limiter.reserve(ENVELOPE)
    assert reservation.delay == 0
    limiter.refund(reservation.decision)
    assert limiter.reserve(ENVELOPE).delay == 0
    limiter.refund(sent)


@sync_and_async
def test_a_booking_that_was_booked_anew_gives_its_new_place_back(mode: str) -> None:
    limiter = EitherLimiter(mode, ONE_A_MINUTE)
    sent, reservation = booked_behind_a_sending(limiter)
    limiter.clock.advance(20)
    limiter.settle(sent)
    limiter.clock.advance(40)
    assert reservation.redeem().retry_after == 20
    reservation.cancel()
    assert limiter.reserve(ENVELOPE).delay == 20


@sync_and_async
def test_redeeming_what_another_holder_of_the_id_cancelled_takes_nothing_else_out(
    mode: str,
) -> None:
    limiter = EitherLimiter(mode, MessageRateLimit("2/minute"))
    for _ in range(2):
        assert limiter.try_acquire(ENVELOPE)
    job = envelope_to(["bob@example.com"], id="job-1")
    first, second = limiter.reserve(job), limiter.reserve(job)
    assert second.decision.repeated
    first.cancel()
    replacing = limiter.reserve(ENVELOPE)
    assert replacing.at == second.at
    limiter.clock.advance(60)
    assert second.redeem()
    assert limiter.used() == [2]
    assert replacing.redeem()
    second.cancel()
    assert limiter.used() == [1]


@sync_and_async
def test_a_message_with_nothing_to_count_is_redeemed_at_any_time(mode: str) -> None:
    limiter = EitherLimiter(mode, MessageRateLimit("1/day", count="external"))
    reservation = limiter.reserve(envelope_to(["kim@uwo.ca"]))
    limiter.clock.advance(1000)
    assert reservation.redeem()


@sync_and_async
def test_shadow_limits_follow_a_redemption(mode: str) -> None:
    limiter = EitherLimiter(mode, ONE_A_MINUTE, MessageRateLimit("1/minute", enforce=False))
    _, reservation = booked_behind_a_sending(limiter)
    limiter.clock.advance(90)
    assert reservation.redeem()
    limiter.clock.advance(40)
    assert not limiter.check(ENVELOPE).shadow
    limiter.clock.advance(20)
    assert limiter.check(ENVELOPE).shadow


# A worker that was stopped.


@sync_and_async
@pytest.mark.parametrize("stopped_for", [55, 600, 100_000])
def test_a_worker_that_was_stopped_never_sends_two_minutes_mail_in_one(
    mode: str, stopped_for: int
) -> None:
    limiter = EitherLimiter(mode, MessageRateLimit("30/minute"))
    waiting = [limiter.reserve(ENVELOPE) for _ in range(120)]
    assert waiting[-1].delay == 180
    limiter.clock.advance(180 + stopped_for)
    start = limiter.clock()
    sent: list[float] = []
    while waiting:
        deferred = []
        next_in = float("inf")
        for reservation in waiting:
            decision = reservation.redeem()
            if decision:
                sent.append((limiter.clock() - start) / 1000)
                limiter.settle(reservation.decision)
            else:
                deferred.append(reservation)
                next_in = min(next_in, decision.retry_after)
        waiting = deferred
        if waiting:
            limiter.clock.advance(next_in)
    assert sent == [60.0 * minute for minute in range(4) for _ in range(30)]
