"""A log with many bookings: how much of it each operation looks at or changes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import pairwise
from typing import Any

import pytest
from rlm_testkit.builders import campus_policy, envelope_to, limiter_with_clock

from ratelimit_mail import MessageRateLimit
from ratelimit_mail.backends import transaction
from ratelimit_mail.counting import event_log
from ratelimit_mail.counting.charge import retention_for
from ratelimit_mail.counting.event_log import EventLog
from ratelimit_mail.counting.window import Window

SECOND = 1000
DAY = 24 * 3600 * SECOND
EACH_SECOND = Window(1, SECOND)
LONG = Window(1_000_000, 30 * DAY)

searches = 0
changes = 0


class CountingLog(EventLog):
    """Counts the searches in a log, and the totals that are changed."""

    __slots__ = ()

    @staticmethod
    def _bisect_left(*arguments: Any) -> int:
        global searches
        searches += 1
        return bisect_left(*arguments)

    @staticmethod
    def _bisect_right(*arguments: Any) -> int:
        global searches
        searches += 1
        return bisect_right(*arguments)

    def _shift(self, start: int, end: int, sent: int, attempts: int) -> None:
        global changes
        changes += end - start
        super()._shift(start, end, sent, attempts)


@pytest.fixture(autouse=True)
def _counts_begin_at_0() -> None:
    global searches, changes
    searches = changes = 0


def queue_of(size: int, *windows: Window) -> EventLog:
    """Return a log with one event, and so many bookings, a second apart."""
    retention = retention_for([EACH_SECOND, *windows])
    log = CountingLog()
    log.add(0, 1, retention)
    for number in range(1, size + 1):
        log.book(0, number * SECOND, 1, retention)
    return log


@pytest.mark.parametrize("size", [100, 10_000])
def test_a_repeated_search_begins_behind_what_an_earlier_one_has_found_full(size: int) -> None:
    global searches
    log = queue_of(size)
    assert log.earliest(0, 1, EACH_SECOND) == (size + 1) * SECOND
    searches = 0
    for _ in range(10):
        assert log.earliest(0, 1, EACH_SECOND) == (size + 1) * SECOND
        assert not log.fits(0, 1, EACH_SECOND)
    assert searches <= 20 * 3


def test_what_is_taken_out_of_a_queue_is_found_again_from_every_moment_before() -> None:
    log = queue_of(200)
    retention = retention_for([EACH_SECOND])
    for cancelled in (150, 170, 90, 30):
        log.refund([(cancelled * SECOND, 1)], retention)
        assert log.earliest(0, 1, EACH_SECOND) == min(cancelled, 150) * SECOND
    free = [30, 90, 150, 170, 201]
    for now in range(0, 200 * SECOND, 500):
        expected = min(each for each in free if each * SECOND >= now) * SECOND
        assert log.earliest(now, 1, EACH_SECOND) == max(now, expected)


def test_a_long_window_with_many_bookings_is_searched_where_it_may_be_full() -> None:
    global searches
    narrow, wide = Window(7_000, 30 * DAY), Window(10_002, 30 * DAY)
    log = queue_of(10_000, LONG)
    searches = 0
    assert log.earliest(0, 1, narrow) == 3_001 * SECOND + 30 * DAY
    assert log.earliest(0, 1, wide) == 0
    assert log.remaining(0, wide) == 1
    assert log.remaining(0, LONG) == LONG.limit - 10_001
    assert searches <= 60


@pytest.mark.parametrize("size", [100, 10_000])
def test_what_is_sent_before_many_bookings_changes_only_the_totals_before_it(size: int) -> None:
    log = queue_of(size, LONG)
    retention = retention_for([EACH_SECOND, LONG])
    changes_before = changes
    for now in range(1, 11):
        log.add(now, 1, retention)
    log.extend({11: 1, 12: 2, 13: 1}, 1, retention)
    log.refuse(14, 1, retention)
    assert changes - changes_before <= 200
    assert log.used(14, LONG) == 15
    assert log.used(size * SECOND, LONG) == size + 15
    assert log.held == size + 16


def test_no_change_looks_at_many_events_while_a_log_is_compacted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(event_log, "COMPACTED_TOGETHER", 16)
    window = Window(1_000, DAY, denied=True)
    retention = retention_for([window])
    log = EventLog()
    lengths = []
    for now in range(10_000):
        if log.fits(now, 1, window):
            log.add(now, 1, retention)
        else:
            log.refuse(now, 1, retention)
        lengths.append(len(log.times) - log.head)
    assert all(before - after < 16 for before, after in pairwise(lengths))
    assert max(lengths) < 5_000
    assert log.used(9_999, window) >= 1_000


def test_bookings_that_are_cancelled_and_made_again_leave_the_rest_known_to_be_full() -> None:
    global searches
    log = queue_of(10_000)
    retention = retention_for([EACH_SECOND])
    log.earliest(0, 1, EACH_SECOND)
    for cancelled in (7_000, 300, 5_000):
        log.refund([(cancelled * SECOND, 1)], retention)
    searches = 0
    for expected in (300, 5_000, 7_000):
        at = log.earliest(0, 1, EACH_SECOND)
        assert at == expected * SECOND
        log.book(0, at, 1, retention)
    assert log.earliest(0, 1, EACH_SECOND) == 10_001 * SECOND
    assert searches <= 60


def test_booking_one_after_another_tells_later_searches_what_is_full() -> None:
    global searches
    retention = retention_for([EACH_SECOND])
    log = CountingLog()
    log.add(0, 1, retention)
    at = 0
    for _ in range(1_000):
        at = log.earliest(at, 1, EACH_SECOND)
        log.book(0, at, 1, retention)
    searches = 0
    assert log.earliest(0, 1, EACH_SECOND) == 1_001 * SECOND
    assert searches <= 20


@pytest.mark.parametrize("limits", [["1/second"], ["1/second", "100/hour", "500/day"]])
def test_the_first_search_is_behind_what_the_bookings_themselves_have_found_full(
    limits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    limiter, clock = limiter_with_clock(campus_policy(*map(MessageRateLimit, limits)))
    booked_at = [limiter.reserve(envelope_to()).at for _ in range(600)][-1]
    steps = 0
    next_with_room = EventLog._next_with_room

    def counted(*arguments: Any) -> int:
        nonlocal steps
        steps += 1
        return next_with_room(*arguments)

    monkeypatch.setattr(EventLog, "_next_with_room", counted)
    assert clock() + (limiter.check(envelope_to()).retry_after or 0) * SECOND > booked_at
    assert steps <= 40


@pytest.mark.parametrize("late", [0, 0.002, 3])
@pytest.mark.parametrize("limits", [["10/minute"], ["10/minute", "100000/day"]])
def test_a_redemption_looks_at_few_of_the_bookings_behind_it(
    limits: list[str], late: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    limiter, clock = limiter_with_clock(campus_policy(*map(MessageRateLimit, limits)))
    reservations = [limiter.reserve(envelope_to()) for _ in range(500)]
    events = 0
    events_of = transaction._events_of

    def counted(*arguments: Any) -> Any:
        nonlocal events
        for event in events_of(*arguments):
            events += 1
            yield event

    monkeypatch.setattr(transaction, "_events_of", counted)
    assert all(reservation.redeem() for reservation in reservations[:10])
    assert not reservations[10].redeem()
    clock.advance(60 + late)
    assert all(reservation.redeem() for reservation in reservations[10:20])
    assert not reservations[20].redeem()
    assert not reservations[250].redeem()
    assert events <= 23 * 40
