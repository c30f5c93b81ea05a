"""Override: from when until when it holds, and what was sent before and after."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from rlm_testkit.builders import (
    accepted_in_a_row,
    envelope_to,
    limit_numbers,
    limiter_with_overrides,
    policy_with_overrides,
)

from ratelimit_mail import (
    AsyncLimiter,
    Client,
    MessageRateLimit,
    RateLimitExceeded,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.conditions import has_tag
from ratelimit_mail.overrides import Override
from ratelimit_mail.testing import ManualClock

ANN = "ann@leeds.ac.uk"
BOB = "bob@leeds.ac.uk"
WIRELESS = Client(tags={"wireless"})
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOON_MS = int(NOON.timestamp()) * 1000


def test_messages_from_before_and_under_an_override_still_count() -> None:
    override = Override(
        {"recipients a day": 50},
        senders=[ANN],
        starts=NOON.replace(hour=14),
        ends=NOON.replace(hour=16),
    )
    limiter, clock = limiter_with_overrides(override, now=NOON_MS)
    assert limiter.try_acquire(envelope_to(10, ANN))
    assert limiter.try_acquire(envelope_to(10, ANN))
    assert not limiter.try_acquire(envelope_to(sender=ANN))

    clock.advance(2 * 3600)  # 14:00
    assert limiter.usage(ANN)[1].remaining == 30
    assert [bool(limiter.try_acquire(envelope_to(10, ANN))) for _ in range(4)] == [
        *[True] * 3,
        False,
    ]

    clock.advance(2 * 3600)  # 16:00
    [_, day] = limiter.usage(ANN)
    assert (day.limit.limit, day.used, day.remaining) == (20, 50, 0)
    clock.advance(
        20 * 3600
    )  # noon of the next day: the 30 recipients under the override are still in the window
    assert limiter.usage(ANN)[1].used == 30
    assert not limiter.try_acquire(envelope_to(sender=ANN))
    clock.advance(2 * 3600)
    assert limiter.try_acquire(envelope_to(10, ANN))


def test_history_is_retained_for_the_window_of_a_future_override() -> None:
    override = Override({"messages a minute": "3/hour"}, senders=[ANN], starts=NOON)
    limiter, clock = limiter_with_overrides(override, now=NOON_MS - 1800 * 1000)
    assert accepted_in_a_row(limiter, envelope_to(sender=ANN)) == 3
    clock.advance(60)
    assert limiter.try_acquire(envelope_to(sender=ANN))
    clock.advance(1740)
    [minute, _] = limiter.usage(ANN)
    assert (str(minute.limit), minute.used) == ("3 messages per hour per sender", 4)
    assert not limiter.check(envelope_to(sender=ANN))


def test_an_override_starts_and_ends_to_the_millisecond_by_the_backends_clock() -> None:
    starts, ends = NOON.replace(microsecond=5000), NOON.replace(microsecond=9000)
    override = Override({"recipients a message": 15}, senders=[ANN], starts=starts, ends=ends)
    limiter, clock = limiter_with_overrides(override, now=NOON_MS)
    envelope = envelope_to(15, ANN)  # the same object each time
    allowed = []
    for millisecond in range(12):
        clock.set(NOON_MS + millisecond)
        allowed.append(bool(limiter.check(envelope)))
    assert allowed == [*[False] * 5, *[True] * 4, *[False] * 3]


def test_an_end_date_includes_that_day_in_utc() -> None:
    override = Override({"recipients a message": 15}, senders=[ANN], ends=date(2026, 3, 1))
    limiter, clock = limiter_with_overrides(override, now=NOON_MS)
    clock.advance(12 * 3600 - 0.001)
    assert limiter.check(envelope_to(15, ANN))
    clock.advance(0.001)
    assert not limiter.check(envelope_to(15, ANN))


def test_an_ended_override_applies_again_if_the_clock_goes_back() -> None:
    override = Override({"messages a minute": 9}, senders=[ANN], ends=NOON)
    limiter, clock = limiter_with_overrides(override, now=NOON_MS)
    assert limit_numbers(limiter, ANN) == [3, 20]
    clock.advance(-0.001)
    assert limit_numbers(limiter, ANN) == [9, 20]


def test_every_method_uses_the_current_time() -> None:
    override = Override({"recipients a message": 15}, senders=[ANN], ends=NOON)
    limiter, clock = limiter_with_overrides(override, now=NOON_MS - 1)
    envelope = envelope_to(15, ANN)

    @limiter.limited(on_denied="skip", envelope=lambda: envelope)
    def send() -> str:
        return "sent"

    assert limiter.check(envelope)
    assert send() == "sent"
    limiter.reset(ANN)
    limiter.reserve(envelope).cancel()
    limiter.refund(limiter.acquire(envelope))
    limiter.refund(limiter.try_acquire_many([envelope])[0])

    clock.advance(0.001)
    assert not limiter.check(envelope)
    assert not limiter.try_acquire(envelope)
    assert not limiter.try_acquire_many([envelope])[0]
    assert send() != "sent"
    for method in (limiter.acquire, limiter.reserve):
        with pytest.raises(RateLimitExceeded):
            method(envelope)


async def test_an_async_limiter_uses_the_current_time_too() -> None:
    clock = ManualClock(NOON_MS - 1)
    override = Override({"recipients a message": 15}, senders=[ANN], ends=NOON)
    limiter = AsyncLimiter(policy_with_overrides(override), MemoryBackend(clock), sleep=clock.sleep)
    envelope = envelope_to(15, ANN)
    assert await limiter.try_acquire(envelope)
    clock.advance(0.001)
    assert not await limiter.try_acquire(envelope)
    assert [usage.used for usage in await limiter.usage(ANN)] == [1, 15]


def test_a_booking_under_an_override_stays_when_the_override_ends() -> None:
    override = Override({"messages a minute": 1}, senders=[ANN], ends=NOON.replace(minute=1))
    limiter, clock = limiter_with_overrides(override, now=NOON_MS)
    booked = [limiter.reserve(envelope_to(sender=ANN)).at - NOON_MS for _ in range(3)]
    assert booked == [0, 60_000, 120_000]
    clock.advance(60)
    assert limiter.reserve(envelope_to(sender=ANN)).at - NOON_MS == 120_000


def test_usage_shows_the_limits_of_that_sender_and_client_now() -> None:
    override = Override(
        {"messages a minute": "7/hour"}, senders=[ANN], when=has_tag("wireless"), ends=NOON
    )
    limiter, clock = limiter_with_overrides(override, now=NOON_MS - 1)
    limiter.try_acquire(envelope_to(sender=ANN, client=WIRELESS))
    [hour, day] = limiter.usage(ANN, client=WIRELESS)
    assert (str(hour.limit), hour.used, hour.remaining, hour.resets_in) == (
        "7 messages per hour per sender",
        1,
        6,
        3600.0,
    )
    assert (day.limit.limit, day.used) == (20, 1)
    assert limit_numbers(limiter, ANN) == [3, 20]
    clock.advance(0.001)
    [minute, _] = limiter.usage(ANN, client=WIRELESS)
    assert (minute.limit.limit, minute.used, minute.remaining) == (3, 1, 2)


def test_usage_of_a_scope_without_sender_shows_only_overrides_by_client() -> None:
    limit = MessageRateLimit("3/day", name="all", scope="global")
    overrides = [
        Override({"all": 5}, senders=[ANN]),
        Override({"all": 4}, when=has_tag("wireless")),
    ]
    limiter, _ = limiter_with_overrides(*overrides, limits=[limit])
    [usage] = limiter.usage(scope="global")
    assert usage.limit.limit == 3
    [usage] = limiter.usage(scope="global", client=WIRELESS)
    assert usage.limit.limit == 4


def test_a_reset_removes_messages_sent_under_an_override() -> None:
    limiter, _ = limiter_with_overrides(Override({"messages a minute": "9/hour"}, senders=[ANN]))
    assert accepted_in_a_row(limiter, envelope_to(sender=ANN)) == 9
    limiter.reset(ANN)
    assert accepted_in_a_row(limiter, envelope_to(sender=ANN)) == 9
