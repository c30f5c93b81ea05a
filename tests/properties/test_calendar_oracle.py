"""Periods of a calendar compared with a clock that is looked at every minute."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from ratelimit_mail.calendars import UNITS, Calendar, Stretch, calendar_of
from ratelimit_mail.counting.calendar_window import CalendarWindow
from ratelimit_mail.testing.brute_force import _next_period
from ratelimit_mail.testing.generated_scripts import MIDNIGHTS

MINUTE = 60_000
DAY = 1440 * MINUTE

calendars = st.builds(
    calendar_of, st.sampled_from(["hour", "day"]), st.sampled_from([zone for zone, _ in MIDNIGHTS])
)
changes = st.sampled_from([moment for _, moment in MIDNIGHTS])
moments = st.builds(
    lambda midnight, minutes, rest: midnight + minutes * MINUTE + rest,
    changes,
    st.integers(-1500, 3000),
    st.sampled_from([0, 1, 30_000, MINUTE - 1]),
)


@given(calendars, moments)
def test_a_period_ends_when_the_clock_says_so(calendar: Calendar, moment: int) -> None:
    start, end = calendar.period(moment)
    assert start <= moment < end <= start + calendar.longest
    assert end == _next_period(calendar.unit, calendar.time_zone, moment)
    assert calendar.period(start) == calendar.period(end - 1) == (start, end)
    assert calendar.period(end)[0] == end


@given(calendars, moments)
def test_a_month_begins_with_its_first_day(calendar: Calendar, moment: int) -> None:
    start, end = calendar_of("month", calendar.time_zone).period(moment)
    days = calendar_of("day", calendar.time_zone)
    assert days.period(start)[0] == start
    assert days.period(end)[0] == end
    assert start <= days.period(moment)[0] <= moment < days.period(moment)[1] <= end


@given(
    st.builds(calendar_of, st.sampled_from([*UNITS]), st.sampled_from([z for z, _ in MIDNIGHTS])),
    changes | st.just(1_900_000_000_000),
    st.lists(st.integers(-2 * DAY, 1800 * DAY), min_size=1),
)
def test_stretches_have_the_same_periods_for_years(
    calendar: Calendar, now: int, offsets: list[int]
) -> None:
    stretches = calendar.stretches(now)
    assert [*stretches] == sorted(stretches)
    assert len(stretches) < 64
    for offset in offsets:
        moment = now + offset
        period = calendar.period(moment)
        assert period_of(stretches, moment) == period
        assert period_of(stretches, period[0]) == period_of(stretches, period[1] - 1) == period


def period_of(stretches: Sequence[Stretch], moment: int) -> tuple[int, int]:
    """Return the period of a moment by stretches, as a script in Redis computes it."""
    i = max(0, bisect_right(stretches, (moment, 1 << 62)) - 1)
    first, step = stretches[i]
    start = first + (moment - first) // step * step
    end = start + step
    return start, min([end, *(each for each, _ in stretches[i + 1 : i + 2])])


@given(calendars, moments, st.integers(-3000, 3000), st.sampled_from([1, 1000, 7 * MINUTE]))
def test_an_event_counts_until_its_expiry(
    calendar: Calendar, event: int, minutes: int, resolution: int
) -> None:
    window = CalendarWindow(1, calendar.longest, resolution, calendar=calendar)
    moment = event + minutes * MINUTE
    assert (event > window.cutoff(moment)) == (window.expiry(event) > moment)
    assert event < window.expiry(event) <= event + window.length + resolution - 1
    assert window.expiry(event) <= window.expiry(event + 1)


@given(st.integers(-(1 << 55), 1 << 55), st.sampled_from([*UNITS]))
def test_no_moment_is_too_far_away(moment: int, unit: str) -> None:
    for zone in ("UTC", "Europe/Berlin"):
        calendar = calendar_of(unit, zone)
        start, end = calendar.period(moment)
        assert start <= moment < end
        assert calendar.period(end)[0] == end
        assert calendar.period(start - 1)[1] == start
