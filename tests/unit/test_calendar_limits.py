"""Limits of a calendar: their notation and time zones, and what else depends on their windows."""

from __future__ import annotations

import pickle
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest
from rlm_testkit.builders import campus_policy, envelope_to, limiter_with_clock
from rlm_testkit.event_scene import CountingBackend, EventScene

from ratelimit_mail import (
    Action,
    ByteRateLimit,
    Client,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientRateLimit,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.backends.base import TAKE
from ratelimit_mail.backends.redis.codec import Codec
from ratelimit_mail.calendars import AGREED, Calendar
from ratelimit_mail.cli.describe import limit_in_words
from ratelimit_mail.cli.policy_json import policy_as_json
from ratelimit_mail.events import NearLimit
from ratelimit_mail.exceptions import PolicyFileError
from ratelimit_mail.limits import RateLimit
from ratelimit_mail.monitoring import Alerts
from ratelimit_mail.outbox.estimate import expected_times
from ratelimit_mail.outbox.records import WaitingMessage
from ratelimit_mail.overrides import Override
from ratelimit_mail.planner import plan_mailing
from ratelimit_mail.rates import CalendarRate
from ratelimit_mail.testing import ManualClock
from ratelimit_mail.usage import Usage

BERLIN = "Europe/Berlin"
HOUR = 3_600_000
DAILY = MessageRateLimit("500/calendar day", time_zone=BERLIN)
EVENING = 1_729_976_400_000
"""2024-10-26, 23:00 in Berlin. The next day has 25 hours."""
MIDNIGHT = EVENING + HOUR


@pytest.mark.parametrize(
    ("rate", "amount", "unit"),
    [
        ("500/calendar day", 500, "day"),
        ("500 per calendar day", 500, "day"),
        (" 7 per 1  Calendar  Month ", 7, "month"),
        ("20/CALENDAR HOUR", 20, "hour"),
        (CalendarRate(5, "day"), 5, "day"),
    ],
)
def test_a_rate_may_be_one_of_a_calendar(rate: Any, amount: int, unit: str) -> None:
    limit = MessageRateLimit(rate)
    assert (limit.limit, limit.calendar) == (amount, Calendar(unit, "UTC"))


@pytest.mark.parametrize(
    "rate",
    [
        "500/calendar week",
        "500/2 calendar days",
        "500/calendar days",
        "500/calendarday",
        "500/day of the calendar",
        "1;2/calendar day",
        "500/calendar day" + " " * 100,
    ],
)
def test_what_is_not_a_rate_of_a_calendar_is_named(rate: str) -> None:
    with pytest.raises(ValueError, match="per calendar hour, calendar day or"):
        MessageRateLimit(rate)


@pytest.mark.parametrize("rate", ["0/calendar day", "1000000000001/calendar day"])
def test_the_amount_has_the_bounds_of_every_rate(rate: str) -> None:
    with pytest.raises(ValueError, match=r"at least 1 is needed|above the most"):
        MessageRateLimit(rate)


def test_bytes_and_shares_of_a_calendar() -> None:
    assert ByteRateLimit("500 MB/calendar month").limit == 500_000_000
    assert ByteRateLimit("2 GiB per calendar day", time_zone=BERLIN).calendar == DAILY.calendar
    assert RecipientRateLimit("10/calendar day", share=0.33).limit == 3


@pytest.mark.parametrize(
    "zone",
    ["", "Europe", "Berlin", "/etc/passwd", "../UTC", "x" * 3000, "a\0b", "Europe/\x1b[2JBerlin"],
)
def test_an_unknown_time_zone_is_an_error_that_names_the_next_step(zone: str) -> None:
    with pytest.raises(ValueError, match=r"did you mean|pip install tzdata") as caught:
        MessageRateLimit("5/calendar day", time_zone=zone)
    assert str(caught.value).startswith("time_zone: ")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("zone", [5, b"UTC", ["UTC"], UTC])
def test_a_time_zone_is_a_name(zone: Any) -> None:
    with pytest.raises(TypeError, match=r"time_zone: a name such as 'Europe/Berlin' is needed"):
        MessageRateLimit("5/calendar day", time_zone=zone)


def test_a_rate_whose_window_slides_has_no_time_zone() -> None:
    with pytest.raises(ValueError, match=r"time_zone: 'UTC' is for a rate such as '500/calendar"):
        MessageRateLimit("5/day", time_zone="UTC")


def test_a_limit_of_a_calendar_cannot_spread_a_message() -> None:
    with pytest.raises(ValueError, match=r"on_oversize: 'spread' .* not for a rate per calendar d"):
        MessageRateLimit("5/calendar day", on_oversize="spread")


def test_a_calendar_day_is_not_a_length_of_time() -> None:
    with pytest.raises(ValueError, match=r"'calendar day' is not a length of time"):
        MessageRateLimit("5/month", resolution="calendar day")


def test_utc_needs_no_table_of_time_zones() -> None:
    code = (
        "import sys; from ratelimit_mail import *;"
        "limiter = Limiter(Policy(name='a', limits=[MessageRateLimit('1/calendar day')]));"
        "envelope = Envelope('ann@uwo.ca', ['bob@uwo.ca']);"
        "print(*(bool(limiter.try_acquire(envelope)) for _ in range(2)), 'zoneinfo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True False False\n"


def test_limits_of_other_windows_and_zones_differ() -> None:
    assert MessageRateLimit("500 per calendar day", time_zone=BERLIN) == DAILY
    assert MessageRateLimit("5/calendar day") == MessageRateLimit("5/calendar day", time_zone="UTC")
    others = [
        MessageRateLimit("500/day"),
        MessageRateLimit("500/calendar day"),
        MessageRateLimit("500/calendar month", time_zone=BERLIN),
        MessageRateLimit("501/calendar day", time_zone=BERLIN),
    ]
    assert DAILY not in others
    assert len({DAILY, *others}) == 5


def test_str_and_repr_name_the_calendar() -> None:
    assert str(DAILY) == "500 messages per calendar day (Europe/Berlin) per sender"
    in_all = RecipientRateLimit("1/calendar month", scope="global", count="external")
    assert str(in_all) == "1 external recipient per calendar month (UTC) in all"
    assert repr(DAILY) == (
        "MessageRateLimit(rate=500 per calendar day, time_zone='Europe/Berlin', scope=('sender',))"
    )
    assert "time_zone" not in repr(MessageRateLimit("5/day"))
    assert limit_in_words(attrs.evolve(DAILY, on_excess="reject")) == (
        "500 messages per calendar day (Europe/Berlin) per sender; excess messages are rejected"
    )
    [as_json] = policy_as_json(Policy(name="test", limits=[DAILY]))["limits"]
    assert as_json["calendar"] == "calendar day (Europe/Berlin)"


def test_a_pickled_limit_counts_the_same() -> None:
    copy: RateLimit = pickle.loads(pickle.dumps(DAILY))
    assert copy == DAILY
    assert hash(copy) == hash(DAILY)
    assert copy.renewed_at(EVENING) == MIDNIGHT


def test_a_policy_file_has_the_calendar_and_the_time_zone() -> None:
    policy = Policy(
        name="campus", limits=[DAILY, ByteRateLimit("5 MB/calendar month", scope="global")]
    )
    text = policy.dump()
    assert 'rate = "500/calendar day"\ntime_zone = "Europe/Berlin"' in text
    assert Policy.loads(text) == policy
    assert Policy.loads(text).dump() == text


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            'rate = "5/calendar week"',
            "limits[0].rate: '5/calendar week' is not a rate",
        ),
        (
            'rate = "5/calendar day"\ntime_zone = "Europe/Berln"',
            "limits[0].time_zone: 'Europe/Berln' is not a time zone that this machine knows;"
            " did you mean 'Europe/Berlin'?",
        ),
        ('rate = "5/day"\ntime_zone = "UTC"', "limits[0].time_zone: 'UTC' is for a rate such as"),
        (
            'rate = "5/calendar day"\ntime_zone = 5',
            "limits[0].time_zone: a name such as 'Europe/Berlin' is needed, not 5",
        ),
    ],
)
def test_an_error_in_a_policy_file_names_its_place(line: str, problem: str) -> None:
    with pytest.raises(PolicyFileError) as caught:
        Policy.loads(f'name = "a"\n[[limits]]\nkind = "message rate limit"\n{line}\n')
    assert caught.value.problems[0].startswith(problem)


@pytest.mark.parametrize(
    ("limit", "number", "text"),
    [
        (DAILY, 900, "900 messages per calendar day (Europe/Berlin) per sender"),
        (DAILY, "9/calendar month", "9 messages per calendar month (Europe/Berlin) per sender"),
        (DAILY, "900/2 hours", "900 messages per 2 hours per sender"),
        (
            MessageRateLimit("5/day"),
            "9/calendar day",
            "9 messages per calendar day (UTC) per sender",
        ),
        (
            ByteRateLimit("5 MB/calendar day", time_zone=BERLIN),
            "9 MB/day",
            "9 MB per day per sender",
        ),
    ],
)
def test_an_override_has_a_number_or_another_window(
    limit: RateLimit, number: int | str, text: str
) -> None:
    override = Override(senders=["ann@uwo.ca"], limits={"quota": number})
    changed = override.applied_to(attrs.evolve(limit, name="quota"))
    assert str(changed) == text
    assert changed == pickle.loads(pickle.dumps(changed))


def test_a_message_above_the_limit_of_a_day_never_goes() -> None:
    limiter, _ = limiter_with_clock(campus_policy(RecipientRateLimit("2/calendar day")))
    decision = limiter.try_acquire(envelope_to(3))
    assert (decision.action, decision.retry_after) == (Action.REJECT, None)
    assert "At most 2 recipients per calendar day can be sent" in str(decision.reply)


def test_what_was_sent_under_another_tier_or_limit_counts_today() -> None:
    clock = ManualClock(EVENING)
    backend = MemoryBackend(clock=clock)
    limiter = Limiter(campus_policy(MessageRateLimit("2/day")), backend)
    assert limiter.try_acquire(envelope_to())
    limiter = Limiter(campus_policy(MessageRateLimit("2/calendar day", time_zone=BERLIN)), backend)
    assert limiter.try_acquire(envelope_to())
    assert limiter.try_acquire(envelope_to()).retry_after == 3600


def test_the_first_denial_and_a_near_limit_are_reported_on_each_day() -> None:
    clock = ManualClock(EVENING)
    scene = EventScene(
        MessageRateLimit("5/calendar day", time_zone=BERLIN),
        backend=CountingBackend(clock),
        near=0.8,
    )
    for moment in (EVENING, MIDNIGHT):
        clock.set(moment)
        for _ in range(7):
            scene.send()
        assert scene.new_kinds() == ["NearLimit", "FirstDenial"]


def test_an_alert_is_sent_on_each_day() -> None:
    clock = ManualClock(EVENING)
    sent: list[Any] = []

    store = MemoryBackend(clock=clock)
    alerts = Alerts([sent.append], store=store, name="campus", kinds=["NearLimit"])
    for moment in (EVENING, EVENING + 1000, MIDNIGHT, MIDNIGHT + 24 * HOUR):
        clock.set(moment)
        alerts(near_limit(moment))
    assert alerts.flush(60)
    assert [event.at.hour for event in sent] == [21, 22]
    clock.set(MIDNIGHT + 25 * HOUR)
    alerts(near_limit(clock()))
    assert alerts.flush(60)
    assert len(sent) == 3


def near_limit(moment: int) -> NearLimit:
    return NearLimit(
        at=datetime.fromtimestamp(moment / 1000, UTC),
        policy="campus",
        tier=None,
        subject="ann@uwo.ca",
        limit=DAILY,
        sender="ann@uwo.ca",
        client=Client(),
        used=400,
        share=0.8,
    )


def test_a_plan_sends_each_day_what_it_admits() -> None:
    plan = plan_mailing(
        Policy(name="a", limits=[MessageRateLimit("2/calendar day", time_zone=BERLIN)]),
        [1] * 6,
        start=datetime.fromtimestamp(EVENING / 1000, UTC),
    )
    assert plan.delays == (0, 0, 3600, 3600, 26 * 3600, 26 * 3600)
    assert str(plan.longest_held) == "2 messages per calendar day (Europe/Berlin) per sender"


def test_the_scripts_of_redis_get_new_periods_from_time_to_time() -> None:
    clock = ManualClock(EVENING)
    codec = Codec("test:", clock, sharded=False)
    charges = Policy(name="a", limits=[DAILY]).plan(envelope_to()).charges
    first = codec.pack(charges, TAKE, now=0).message
    assert codec.pack(charges, TAKE, now=0).message == first
    clock.advance(AGREED / 1000)
    second = codec.pack(charges, TAKE, now=0).message
    assert second != first
    assert codec.pack(charges, TAKE, now=0).message == second
    clock.set(EVENING)
    assert codec.pack(charges, TAKE, now=0).message == first


def test_waiting_messages_are_expected_at_the_midnights() -> None:
    limit = MessageRateLimit("2/calendar day", time_zone=BERLIN)
    usage = Usage(limit=limit, used=2, remaining=0, resets_in=3600.0)
    messages = [WaitingMessage(i, 1, 1000, None) for i in range(5)]
    times = expected_times([usage], messages, MIDNIGHT)
    assert [time - MIDNIGHT for time in times] == [0, 0, 25 * HOUR, 25 * HOUR, 49 * HOUR]
