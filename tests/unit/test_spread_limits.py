"""`on_oversize="spread"`: a message above the limit goes, and then holds the limit for longer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rlm_testkit.builders import envelope_to, limiter_with_clock
from rlm_testkit.either_limiter import EitherLimiter, sync_and_async

from ratelimit_mail import (
    Action,
    MessageRateLimit,
    Policy,
    RecipientLimit,
    RecipientRateLimit,
)
from ratelimit_mail.cli.describe import limit_in_words
from ratelimit_mail.counting.window import Window, spread_schedule

SES = RecipientRateLimit("1/second", on_oversize="spread")


def to(recipients: int, **options: Any) -> Any:
    return envelope_to(recipients, **options)


# SES's rule.


@sync_and_async
def test_five_recipients_at_one_a_second_go_and_the_next_five_seconds_are_refused(
    mode: str,
) -> None:
    limiter = EitherLimiter(mode, SES)
    assert limiter.try_acquire(to(5))
    for _ in range(50):
        decision = limiter.try_acquire(to(1))
        assert (decision.action, decision.limit) == (Action.DEFER, SES)
        limiter.clock.advance(0.1)
    assert limiter.try_acquire(to(1))


@sync_and_async
@pytest.mark.parametrize("recipients", [1, 2, 5])
def test_retry_after_is_exact_to_the_millisecond(mode: str, recipients: int) -> None:
    limiter = EitherLimiter(mode, SES)
    assert limiter.try_acquire(to(3))
    limiter.clock.advance(0.25)
    wait = limiter.try_acquire(to(recipients)).retry_after
    assert wait == 2.75
    limiter.clock.advance(wait - 0.001)
    assert limiter.try_acquire(to(recipients)).retry_after == 0.001
    limiter.clock.advance(0.001)
    assert limiter.try_acquire(to(recipients))


@sync_and_async
def test_a_message_above_the_limit_waits_until_nothing_is_held(mode: str) -> None:
    limiter = EitherLimiter(mode, RecipientRateLimit("4/second", on_oversize="spread"))
    assert limiter.try_acquire(to(1))
    limiter.clock.advance(0.5)
    decision = limiter.try_acquire(to(5))
    assert (decision.action, decision.retry_after) == (Action.DEFER, 0.5)
    assert limiter.try_acquire(to(3))
    assert limiter.try_acquire(to(5)).retry_after == 1


@sync_and_async
def test_what_is_left_of_the_last_window_may_be_used(mode: str) -> None:
    limiter = EitherLimiter(mode, RecipientRateLimit("4/second", on_oversize="spread"))
    assert limiter.try_acquire(to(10))  # 4 now, 4 after a second, 2 after two
    assert limiter.try_acquire(to(2)).retry_after == 2
    limiter.clock.advance(2)
    assert limiter.usage("ann@uwo.ca")[0].remaining == 2
    assert limiter.try_acquire(to(2))
    assert limiter.try_acquire(to(1)).retry_after == 1


@sync_and_async
def test_check_answers_as_try_acquire_and_charges_nothing(mode: str) -> None:
    limiter = EitherLimiter(mode, SES)
    for _ in range(3):
        assert limiter.check(to(5))
    assert limiter.used() == [0]
    assert limiter.try_acquire(to(5))
    assert limiter.check(to(5)).retry_after == 5


# Beside other limits.


@sync_and_async
def test_a_daily_limit_beside_it_counts_all_recipients_at_once(mode: str) -> None:
    daily = RecipientRateLimit("8/day")
    limiter = EitherLimiter(mode, SES, daily)
    assert limiter.try_acquire(to(5))
    limiter.clock.advance(60)
    assert limiter.used() == [0, 5]
    decision = limiter.try_acquire(to(4))
    assert decision.limit == daily
    assert decision.retry_after == 86400 - 60  # when the five leave, however long they were held
    assert limiter.try_acquire(to(3))


@sync_and_async
def test_a_daily_limit_beside_it_never_holds_more_than_its_number(mode: str) -> None:
    limiter = EitherLimiter(mode, SES, RecipientRateLimit("8/day"))
    assert limiter.try_acquire(to(5))
    limiter.clock.advance(86400 - 1)
    assert limiter.try_acquire(to(4)).retry_after == 1
    limiter.clock.advance(1)
    assert limiter.try_acquire(to(4))


@sync_and_async
def test_a_message_above_a_limit_that_does_not_spread_is_rejected_for_ever(mode: str) -> None:
    daily = RecipientRateLimit("4/day")
    limiter = EitherLimiter(mode, SES, daily)
    decision = limiter.try_acquire(to(5))
    assert (decision.action, decision.retry_after, decision.limit) == (Action.REJECT, None, daily)
    assert limiter.used() == [0, 0]


@sync_and_async
def test_without_spread_a_message_above_the_limit_is_rejected_for_ever(mode: str) -> None:
    for limit in (
        RecipientRateLimit("4/second"),
        RecipientRateLimit("4/minute", on_oversize="reject"),
    ):
        limiter = EitherLimiter(mode, limit)
        decision = limiter.try_acquire(to(5))
        assert (decision.action, decision.retry_after) == (Action.REJECT, None)


@sync_and_async
def test_a_recipient_limit_beside_it_still_rejects(mode: str) -> None:
    limiter = EitherLimiter(mode, SES, RecipientLimit(4))
    assert limiter.try_acquire(to(5)).limit == RecipientLimit(4)
    assert limiter.try_acquire(to(4))


@sync_and_async
def test_several_limits_that_spread_hold_together(mode: str) -> None:
    per_minute = RecipientRateLimit("6/minute", on_oversize="spread")
    limiter = EitherLimiter(mode, RecipientRateLimit("2/second", on_oversize="spread"), per_minute)
    assert limiter.try_acquire(to(8))  # 2 in each of three seconds, then 2 after a minute
    decision = limiter.try_acquire(to(1))
    assert decision.limit == per_minute
    assert decision.retry_after == 61  # the second part of the first minute has left
    limiter.clock.advance(61)
    assert limiter.try_acquire(to(1))


@sync_and_async
def test_each_subject_of_a_scope_is_held_for_its_own_share(mode: str) -> None:
    limit = RecipientRateLimit("1/second", scope="recipient_domain", on_oversize="spread")
    limiter = EitherLimiter(mode, limit)
    assert limiter.try_acquire(envelope_to(["a@x.org", "b@x.org", "c@x.org", "a@y.org"]))
    limiter.clock.advance(1)
    assert limiter.try_acquire(envelope_to(["b@y.org"]))
    assert limiter.try_acquire(envelope_to(["d@x.org"])).retry_after == 2


@sync_and_async
def test_a_resolution_holds_it_for_whole_slots(mode: str) -> None:
    limit = RecipientRateLimit("1/10 seconds", on_oversize="spread", resolution="1 second")
    limiter = EitherLimiter(mode, limit)
    limiter.clock.set(1_000_000_000_000)
    assert limiter.try_acquire(to(2))
    # The second part stands 10.999 seconds later, and leaves with its slot.
    assert limiter.try_acquire(to(1)).retry_after == 20.999
    limiter.clock.advance(20.998)
    assert not limiter.try_acquire(to(1))
    limiter.clock.advance(0.001)
    assert limiter.try_acquire(to(1))


@sync_and_async
def test_refused_attempts_count_once_and_are_not_spread(mode: str) -> None:
    limit = RecipientRateLimit("1/second", on_oversize="spread", denied="count")
    limiter = EitherLimiter(mode, limit)
    assert limiter.try_acquire(to(2))
    assert limiter.try_acquire(to(3)).retry_after == 2
    limiter.clock.advance(1.5)
    assert limiter.try_acquire(to(3)).retry_after == 1
    limiter.clock.advance(0.999)
    assert limiter.check(to(3)).retry_after == 0.001


# With the other operations.


@sync_and_async
def test_a_refund_frees_all_of_it(mode: str) -> None:
    limiter = EitherLimiter(mode, SES)
    decision = limiter.try_acquire(to(5))
    limiter.clock.advance(2)
    limiter.refund(decision)
    assert limiter.try_acquire(to(5))


@sync_and_async
def test_settle_holds_the_limit_from_the_end_of_the_sending(mode: str) -> None:
    limiter = EitherLimiter(mode, SES)
    with limiter.sending(to(5)):
        limiter.clock.advance(0.4)
    assert limiter.try_acquire(to(1)).retry_after == 5


@sync_and_async
def test_settle_with_refused_recipients_holds_it_for_those_reached(mode: str) -> None:
    limiter = EitherLimiter(mode, SES)
    decision = limiter.try_acquire(to(5))
    limiter.clock.advance(0.4)
    limiter.settle(decision, refused=["user0@example.com", "user3@example.com"])
    assert limiter.try_acquire(to(1)).retry_after == 3
    limiter.refund(decision)
    assert limiter.try_acquire(to(1))


@sync_and_async
def test_bookings_follow_each_other_without_a_gap(mode: str) -> None:
    limiter = EitherLimiter(mode, SES)
    reservations = [limiter.reserve(to(recipients)) for recipients in (3, 2, 5, 1)]
    assert [each.delay for each in reservations] == [0, 3, 5, 10]
    reservations[2].cancel()
    assert limiter.reserve(to(5)).delay == 11  # behind the last, in the sender's order
    limiter.clock.advance(3)
    assert reservations[1].redeem()


@sync_and_async
def test_acquire_waits_for_an_empty_window(mode: str) -> None:
    limiter = EitherLimiter(mode, SES)
    for recipients in (5, 5, 1):
        assert limiter.acquire(to(recipients))
    assert limiter.slept == [5, 5]


@sync_and_async
def test_usage_shows_what_stands_in_the_window_and_when_all_has_left(mode: str) -> None:
    limiter = EitherLimiter(mode, SES)
    assert limiter.try_acquire(to(5))
    (usage,) = limiter.usage("ann@uwo.ca")
    assert (usage.used, usage.remaining, usage.resets_in) == (1, 0, 5)
    limiter.clock.advance(4.5)
    (usage,) = limiter.usage("ann@uwo.ca")
    assert (usage.used, usage.remaining, usage.resets_in) == (1, 0, 0.5)


@sync_and_async
def test_an_id_makes_it_one_message(mode: str) -> None:
    limiter = EitherLimiter(mode, SES)
    job = to(5, id="job-1")
    assert limiter.try_acquire(job)
    assert limiter.try_acquire(job).repeated
    limiter.refund(job)
    assert limiter.try_acquire(to(1))


@sync_and_async
def test_a_clock_that_went_back_does_not_shorten_how_long_the_limit_is_held(mode: str) -> None:
    limiter = EitherLimiter(mode, SES)
    assert limiter.try_acquire(to(1))
    limiter.clock.advance(-10)
    assert limiter.try_acquire(to(3)).retry_after == 11
    assert limiter.reserve(to(3)).delay == 11
    other = EitherLimiter(mode, RecipientRateLimit("2/second", on_oversize="spread"))
    assert other.try_acquire(to(1))
    decision = other.try_acquire(to(1, sender="kim@uwo.ca"))
    other.clock.advance(-10)
    assert other.try_acquire(to(1))
    assert other.try_acquire(to(1)).retry_after == 11
    assert decision


@sync_and_async
def test_a_message_admitted_while_the_clock_is_behind_holds_the_limit_for_all_its_time(
    mode: str,
) -> None:
    limiter = EitherLimiter(mode, SES, MessageRateLimit("9/hour"))
    decision = limiter.try_acquire(to(1))
    limiter.refund(decision)  # time never goes back behind what was refunded, either
    limiter.clock.advance(-10)
    assert limiter.try_acquire(to(5))
    assert limiter.try_acquire(to(1)).retry_after == 15


# The schedule.


@given(
    cost=st.integers(1, 40),
    windows=st.lists(
        st.builds(
            Window,
            limit=st.integers(1, 9),
            length=st.integers(1, 50),
            resolution=st.sampled_from([1, 1, 5]),
            spread=st.booleans(),
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_a_schedule_has_all_of_the_cost_and_keeps_to_every_window_that_spreads(
    cost: int, windows: list[Window]
) -> None:
    schedule = spread_schedule(cost, windows)
    assert sum(part for _, part in schedule) == cost
    assert schedule[0][0] == 0
    assert [offset for offset, _ in schedule] == sorted({offset for offset, _ in schedule})
    for window in windows:
        if window.spread and window.limit < cost:
            span = window.length + window.resolution - 1
            for start, _ in schedule:
                within = [part for offset, part in schedule if start <= offset < start + span]
                assert sum(within) <= window.limit


def test_many_large_messages_are_booked_in_reasonable_time() -> None:
    limiter, _ = limiter_with_clock(Policy(name="test", limits=[SES]))
    delays = [limiter.reserve(to(1000)).delay for _ in range(5)]
    assert delays == [0, 1000, 2000, 3000, 4000]


# Policy files and descriptions.


def test_a_policy_file_writes_and_reads_it() -> None:
    policy = Policy(name="ses", limits=[SES, RecipientRateLimit("200/day")])
    text = policy.dump()
    assert text.count("on_oversize") == 1
    assert 'on_oversize = "spread"' in text
    assert Policy.loads(text) == policy


def test_a_wrong_value_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match="on_oversize: 'split'"):
        RecipientRateLimit("1/second", on_oversize="split")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"limits\[0\]\.on_oversize.*'split'"):
        Policy.loads(
            'name = "x"\n[[limits]]\nkind = "recipient rate limit"\nrate = "1/second"\n'
            'on_oversize = "split"\n'
        )


def test_its_description_says_what_happens_to_a_larger_message() -> None:
    assert limit_in_words(SES) == (
        "1 recipient per second per sender; a larger message is accepted when nothing is counted,"
        " and holds the limit for longer"
    )
    assert "larger" not in limit_in_words(RecipientRateLimit("1/second"))
