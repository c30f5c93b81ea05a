"""The planner: times compared with other computations, delaying limits, and invalid input."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratelimit_mail import (
    Action,
    Client,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientLimit,
    RecipientRateLimit,
    Tier,
    presets,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.conditions import protocol
from ratelimit_mail.directory import Directory, MailingList
from ratelimit_mail.limits import Limit, RateLimit
from ratelimit_mail.overrides import Grant, Override
from ratelimit_mail.planner import CannotFinish, Cause, MailingPlan, plan_mailing
from ratelimit_mail.testing import ManualClock

START = datetime(2026, 11, 23, 9, tzinfo=UTC)
DAY = 24 * 3600


def plan(*limits: Limit, messages: Sequence[int | Envelope], **options: Any) -> MailingPlan:
    return plan_mailing(
        Policy(name="example", limits=limits), messages, **{"start": START, **options}
    )


def seconds(plan: MailingPlan, moment: datetime) -> float:
    return (moment - plan.start).total_seconds()


def delay_periods(plan: MailingPlan) -> list[tuple[str, float, float, int]]:
    return [
        (str(held.limit), seconds(plan, held.start), seconds(plan, held.end), held.waiting)
        for held in plan.held
    ]


def closed_form(i: int) -> int:
    """Return when message `i` goes under 10,000 a day and 30 a minute, in seconds.

    The 10,000 of a day have gone after 333 full minutes and 10 messages of the next minute, long
    before the day is over. The window slides, so the messages of the next day go as those of the
    day before leave the window: in each minute as many as on the day before.
    """
    day, number = divmod(i, 10_000)
    return day * DAY + number // 30 * 60


def test_25000_messages_under_leeds_take_2_days_2_hours_and_46_minutes() -> None:
    plan = plan_mailing(presets.leeds_office365(), [1] * 25_000, start=START)
    assert list(plan.delays) == [closed_form(i) for i in range(25_000)]
    assert (plan.messages, plan.recipients) == (25_000, 25_000)
    assert plan.first == START
    assert plan.half == START + timedelta(days=1, hours=1, minutes=23)
    assert plan.last == START + timedelta(days=2, hours=2, minutes=46)


def test_leeds_delays_by_the_minute_and_then_by_the_day() -> None:
    plan = plan_mailing(presets.leeds_office365(), [1] * 25_000, start=START)
    minute, day = "30 messages per minute per sender", "10000 recipients per day per sender"
    full = closed_form(9_999)
    assert delay_periods(plan) == [
        (minute, 0, full, 25_000 - 30),
        (day, full, DAY, 15_000),
        (minute, DAY, DAY + full, 15_000 - 30),
        (day, DAY + full, 2 * DAY, 5_000),
        (minute, 2 * DAY, closed_form(24_999), 5_000 - 30),
    ]
    assert str(plan.longest_held) == day


Numbers = tuple[str, int, int]
"""The unit of a limit, its number, and its window in milliseconds."""


def brute_force(limits: Sequence[Numbers], sizes: Sequence[int]) -> list[int] | int:
    """Return the earliest time for each message, or the number of one that can never go."""
    sent: list[tuple[int, int]] = []
    for number, size in enumerate(sizes, 1):
        if any((1 if kind == "messages" else size) > most for kind, most, _ in limits):
            return number
        at = sent[-1][0] if sent else 0
        times = sorted({at, *(time + length for time, _ in sent for _, _, length in limits)})
        for moment in times:
            if moment >= at and not refusing(limits, sent, size, moment):
                sent.append((moment, size))
                break
    return [time for time, _ in sent]


def refusing(
    limits: Sequence[Numbers], sent: Sequence[tuple[int, int]], size: int, moment: int
) -> list[Numbers]:
    """Return the limits that a message at `moment` would exceed."""
    exceeded = []
    for kind, most, length in limits:
        window = [size for time, size in sent if moment - length < time] + [size]
        if (len(window) if kind == "messages" else sum(window)) > most:
            exceeded.append((kind, most, length))
    return exceeded


rate_limits = st.builds(
    lambda unit, most, length, **options: (
        (MessageRateLimit if unit == "messages" else RecipientRateLimit)(
            f"{most}/{length} seconds", **options
        ),
        (unit, most, length * 1000),
    ),
    st.sampled_from(["messages", "recipients"]),
    st.integers(1, 9),
    st.integers(1, 12),
    on_excess=st.sampled_from(["defer", "reject"]),
    denied=st.sampled_from(["ignore", "count"]),
    scope=st.sampled_from(["sender", "global"]),
)


@given(
    st.lists(rate_limits, min_size=1, max_size=4),
    st.lists(st.integers(1, 4), min_size=1, max_size=25),
)
def test_each_message_goes_at_the_earliest_moment_at_which_no_window_is_exceeded(
    limits: list[tuple[RateLimit, Numbers]], sizes: list[int]
) -> None:
    numbers = [each for _, each in limits]
    expected = brute_force(numbers, sizes)
    if isinstance(expected, list):
        result = plan(*(limit for limit, _ in limits), messages=sizes)
        assert [round(delay * 1000) for delay in result.delays] == expected
        return
    with pytest.raises(CannotFinish) as caught:
        plan(*(limit for limit, _ in limits), messages=sizes)
    assert (caught.value.number, caught.value.recipients) == (expected, sizes[expected - 1])


@given(
    st.lists(rate_limits, min_size=1, max_size=3),
    st.lists(st.integers(1, 3), min_size=1, max_size=25),
)
def test_a_delaying_limit_refuses_the_message_until_the_last_millisecond(
    limits: list[tuple[RateLimit, Numbers]], sizes: list[int]
) -> None:
    usable = [(limit, each) for limit, each in limits if each[1] >= 3]
    numbers = [each for _, each in usable]
    result = plan(*(limit for limit, _ in usable), messages=sizes)
    times = [round(delay * 1000) for delay in result.delays]
    sent = list(zip(times, sizes, strict=True))
    for number, (time, size) in enumerate(sent):
        if number and times[number - 1] < time:
            [held] = [
                held
                for held in result.held
                if round(seconds(result, held.start) * 1000) <= times[number - 1]
                if time <= round(seconds(result, held.end) * 1000)
            ]
            assert isinstance(held.limit, RateLimit)
            limit = (held.limit.unit, held.limit.limit, held.limit.window)
            assert limit in refusing(numbers, sent[:number], size, time - 1)
    waited = sum(
        round(seconds(result, h.end) * 1000 - seconds(result, h.start) * 1000) for h in result.held
    )
    assert waited == times[-1]


@given(
    st.lists(rate_limits, min_size=1, max_size=3),
    st.lists(st.integers(1, 3), min_size=1, max_size=25),
    st.sampled_from([None, "1 second"]),
)
def test_reservations_made_at_the_start_have_the_same_times(
    limits: list[tuple[RateLimit, Numbers]], sizes: list[int], resolution: str | None
) -> None:
    usable = [
        type(limit)(limit.rate, scope=limit.scope, resolution=resolution)
        for limit, numbers in limits
        if numbers[1] >= 3
    ]
    policy = Policy(name="example", limits=usable)
    clock = ManualClock(round(START.timestamp() * 1000))
    limiter = Limiter(policy, MemoryBackend(clock=clock))
    booked = [
        limiter.reserve(Envelope("ann@x.org", [f"{i}-{j}@y.org" for j in range(size)])).delay
        for i, size in enumerate(sizes)
    ]
    if usable:
        assert list(plan(*usable, messages=sizes).delays) == booked


def test_30_messages_go_at_once_and_the_next_30_a_minute_later() -> None:
    result = plan(MessageRateLimit("30/minute"), messages=[1] * 61)
    assert result.delays == (0.0,) * 30 + (60.0,) * 30 + (120.0,)


def test_messages_that_fit_go_at_once_without_a_delay() -> None:
    result = plan(MessageRateLimit("30/minute"), RecipientLimit(5), messages=[5] * 30)
    assert (result.first, result.half, result.last) == (START, START, START)
    assert (result.held, result.longest_held) == ((), None)
    [hour] = result.by_hour
    assert (hour.number, hour.messages, hour.recipients, hour.held) == (0, 30, 150, ())


def test_without_limits_all_messages_go_at_once() -> None:
    assert plan(messages=[1, 2, 3]).last == START


@pytest.mark.parametrize(("messages", "half"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2)])
def test_at_half_at_least_half_of_the_messages_have_gone(messages: int, half: int) -> None:
    result = plan(MessageRateLimit("1/minute"), messages=[1] * messages)
    assert seconds(result, result.half) == half * 60


def test_hours_are_counted_from_the_start_and_empty_hours_are_left_out() -> None:
    result = plan(MessageRateLimit("2/3 hours"), messages=[1, 2, 3, 4, 5])
    assert [(hour.number, hour.messages, hour.recipients) for hour in result.by_hour] == [
        (0, 2, 3),
        (3, 2, 7),
        (6, 1, 5),
    ]


def test_an_hour_names_its_delaying_limits_the_longest_first() -> None:
    hour, rate = MessageRateLimit("90/hour"), MessageRateLimit("30/minute")
    result = plan(hour, rate, messages=[1] * 100)
    assert [each.held for each in result.by_hour] == [(hour, rate), ()]
    assert delay_periods(result) == [(str(rate), 0, 120, 70), (str(hour), 120, 3600, 10)]


def test_held_between_returns_the_delaying_limits_of_any_period() -> None:
    hour, rate = MessageRateLimit("90/hour"), MessageRateLimit("30/minute")
    result = plan(hour, rate, messages=[1] * 100)

    def between(since: int, until: int) -> tuple[Cause, ...]:
        return result.held_between(
            START + timedelta(seconds=since), START + timedelta(seconds=until)
        )

    assert between(0, 120) == (rate,)
    assert between(119, 122) == (hour, rate)
    assert between(120, 3600) == (hour,)
    assert between(3600, 9999) == ()


def test_the_limit_that_has_capacity_last_is_reported() -> None:
    # Both limits refuse the third message; the other one has capacity later.
    rejects = MessageRateLimit("2/minute", on_excess="reject")
    defers = RecipientRateLimit("10/5 minutes")
    result = plan(rejects, defers, messages=[1, 9, 1])
    assert delay_periods(result) == [(str(defers), 0, 300, 1)]


def test_limits_that_reject_are_waited_for_without_counting_attempts() -> None:
    limit = MessageRateLimit("2/minute", on_excess="reject", denied="count")
    assert plan(limit, messages=[1] * 5).delays == (0.0, 0.0, 60.0, 60.0, 120.0)


def test_generated_recipients_are_all_different() -> None:
    limit = MessageRateLimit("1/day", scope="recipient")
    assert plan(limit, messages=[1, 2, 3]).last == START


def test_generated_recipients_are_external() -> None:
    policy = Policy(
        name="campus",
        internal_domains=["uwo.ca"],
        limits=[RecipientRateLimit("2/minute", count="external")],
    )
    inside = Envelope("ann@uwo.ca", ["bob@uwo.ca", "kim@uwo.ca", "joe@uwo.ca"])
    result = plan_mailing(policy, [inside, 2, inside, 1], sender="ann@uwo.ca", start=START)
    assert result.delays == (0.0, 0.0, 0.0, 60.0)
    assert result.sizes == (3, 2, 3, 1)


def test_the_client_selects_the_tier() -> None:
    policy = Policy(
        name="campus",
        tiers=[Tier("slow", when=protocol("webmail"), limits=[MessageRateLimit("1/minute")])],
    )
    slow = plan_mailing(policy, [1, 1], client=Client(protocol="webmail"))
    assert slow.delays == (0.0, 60.0)
    assert plan_mailing(policy, [1, 1]).delays == (0.0, 0.0)


def test_messages_of_several_senders_go_in_their_order() -> None:
    ann, kim = (Envelope(name, ["bob@y.org"]) for name in ("ann@x.org", "kim@x.org"))
    result = plan(MessageRateLimit("1/minute"), messages=[ann, kim, ann, kim])
    assert result.delays == (0.0, 0.0, 60.0, 60.0)


def test_the_messages_may_be_any_iterable() -> None:
    policy = Policy(name="example", limits=[MessageRateLimit("1/minute")])
    assert plan_mailing(policy, (1 for _ in range(3))).messages == 3


def test_an_override_may_end_during_the_mailing() -> None:
    more = Override(
        {"messages a minute": 2}, senders=["ann@x.org"], ends=START + timedelta(seconds=61)
    )
    policy = Policy(
        name="example",
        limits=[MessageRateLimit("1/minute", name="messages a minute")],
        overrides=[more],
    )
    result = plan_mailing(policy, [1] * 6, sender="ann@x.org", start=START)
    assert result.delays == (0.0, 0.0, 60.0, 60.0, 120.0, 180.0)


def test_times_are_utc_for_a_start_in_any_time_zone() -> None:
    start = datetime(2026, 11, 23, 11, 0, 0, 1999, tzinfo=timezone(timedelta(hours=2)))
    result = plan(MessageRateLimit("1/minute"), messages=[1, 1], start=start)
    assert result.start == START + timedelta(milliseconds=1)
    assert result.last.isoformat() == "2026-11-23T09:01:00.001000+00:00"


def test_the_default_start_is_now() -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    result = plan_mailing(Policy(name="example"), [1])
    assert before <= result.start <= datetime.now(UTC)


WITH_GRANTS = ("leeds-smtp",)


@pytest.mark.parametrize("name", sorted(set(presets.PRESETS) - set(WITH_GRANTS)))
def test_every_preset_without_grants_has_a_plan(name: str) -> None:
    assert plan_mailing(presets.PRESETS[name](), [1] * 40, start=START).messages == 40


@pytest.mark.parametrize("name", WITH_GRANTS)
def test_a_preset_with_grants_cannot_finish_for_other_senders(name: str) -> None:
    with pytest.raises(CannotFinish, match=r"message 1, .* senders must be granted first"):
        plan_mailing(presets.PRESETS[name](), [1])


def test_a_message_over_a_recipient_limit_is_reported_with_its_size_and_the_limit() -> None:
    with pytest.raises(CannotFinish) as caught:
        plan_mailing(presets.leeds_office365(), [100, 1, 1101])
    error = caught.value
    assert str(error) == (
        "message 3, with 1,101 recipients, can never go: at most 100 recipients per message"
    )
    assert (error.number, error.recipients) == (3, 1101)
    assert error.decision.limit == presets.leeds_office365().limits[0]
    assert isinstance(error, ValueError)


def test_a_message_that_exceeds_a_rate_by_itself_can_never_go() -> None:
    with pytest.raises(CannotFinish, match="at most 4 recipients per day per sender"):
        plan(RecipientRateLimit("4/day"), messages=[4, 5])


def test_a_sender_without_a_grant_can_never_send() -> None:
    policy = Policy(name="example", grants=[Grant(senders=["ann@x.org"])])
    assert plan_mailing(policy, [1], sender="ann@x.org").messages == 1
    with pytest.raises(CannotFinish, match="can never go: senders must be granted first"):
        plan_mailing(policy, [1], sender="kim@x.org")


def test_a_message_held_for_a_moderator_cannot_be_planned() -> None:
    closed = MailingList("staff@x.org", members=["ann@x.org"], posting="moderated")
    policy = Policy(name="example", internal_domains=["x.org"], directory=Directory(lists=[closed]))
    message = Envelope("kim@x.org", ["staff@x.org"])
    with pytest.raises(CannotFinish, match="would wait for a moderator: ") as caught:
        plan_mailing(policy, [message])
    assert caught.value.decision.action is Action.HOLD


def test_a_plan_beyond_the_year_9998_cannot_finish() -> None:
    # 2026 and 80 times 100 years of 365 days
    with pytest.raises(CannotFinish, match=r"message 81, .*, would go after the year 9998"):
        plan(MessageRateLimit("1/36500 days"), messages=[1] * 100)


def test_the_error_may_be_pickled() -> None:
    with pytest.raises(CannotFinish) as caught:
        plan(RecipientLimit(1), messages=[2])
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


BAD_MESSAGES: list[tuple[Any, type[Exception], str]] = [
    ([], ValueError, "messages: at least one is needed"),
    (25_000, TypeError, "messages: a list such as"),
    ("25000", TypeError, "messages: a list such as"),
    ([1, 0], ValueError, "messages: message 2 cannot have 0 recipients; 1 to 1,000,000"),
    ([-1], ValueError, "messages: message 1 cannot have -1 recipients"),
    ([10**9], ValueError, "messages: message 1 cannot have 1000000000 recipients"),
    ([True], TypeError, "messages: message 1 is neither .*, but True"),
    ([1.0], TypeError, "messages: message 1 is neither .*, but 1.0"),
    (["bob@y.org"], TypeError, "messages: message 1 is neither .*, but 'bob@y.org'"),
    ([Envelope("a@x.org", ["b@y.org"], direction="inbound")], ValueError, "message 1 is inbound"),
]


@pytest.mark.parametrize(("messages", "error", "text"), BAD_MESSAGES)
def test_invalid_messages_raise_an_error(messages: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        plan_mailing(Policy(name="example"), messages)


BAD_STARTS: list[tuple[Any, type[Exception], str]] = [
    (datetime(2026, 11, 23), ValueError, "start: 2026-11-23 00:00:00 has no time zone"),
    (datetime(1969, 12, 31, tzinfo=UTC), ValueError, "is not in the years 1970 to 9998"),
    (datetime(9999, 1, 1, tzinfo=UTC), ValueError, "is not in the years 1970 to 9998"),
    (1_700_000_000, TypeError, "start: a datetime is needed, not 1700000000"),
]


@pytest.mark.parametrize(("start", "error", "text"), BAD_STARTS)
def test_an_invalid_start_raises_an_error(start: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        plan_mailing(Policy(name="example"), [1], start=start)


def test_an_invalid_policy_sender_or_client_raises_an_error() -> None:
    nonsense: Any = "leeds-office365"
    with pytest.raises(TypeError, match="a Policy is needed, not 'leeds-office365'"):
        plan_mailing(nonsense, [1])
    with pytest.raises(ValueError, match="sender: "):
        plan_mailing(Policy(name="example"), [1], sender="ann")
    with pytest.raises(TypeError, match="client: a Client is needed"):
        plan_mailing(Policy(name="example"), [1], client=nonsense)
