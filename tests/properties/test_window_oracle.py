"""Windows compared with their definition on a plain list of events, millisecond by millisecond."""

from __future__ import annotations

from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from ratelimit_mail.counting import event_log
from ratelimit_mail.counting.charge import retention_for
from ratelimit_mail.counting.event_log import EventLog
from ratelimit_mail.counting.window import Window

Event = tuple[int, int]  # moment, cost
HORIZON = 120

windows = st.builds(
    Window,
    limit=st.integers(1, 6),
    length=st.integers(1, 12),
    resolution=st.sampled_from([1, 1, 1, 2, 4]),
)
steps = st.lists(
    st.tuples(
        st.integers(0, 9),  # milliseconds since the last step
        st.sampled_from(["send", "send", "book", "refund"]),
        st.integers(1, 4),  # cost
        st.integers(0, 9),  # which charge to refund
    ),
    max_size=25,
)


def most_in_any_interval(events: list[Event], window: Window) -> int:
    """Return the highest sum of a window, over all moments at which a window can end."""
    slot = window.resolution
    return max(
        (
            sum(
                cost
                for moment, cost in events
                if moment <= end < (moment // slot + 1) * slot - 1 + window.length
            )
            for end in range(HORIZON * 4)
        ),
        default=0,
    )


def would_exceed(events: list[Event], window: Window, at: int, cost: int) -> bool:
    return most_in_any_interval([*events, (at, cost)], window) > window.limit


@given(st.lists(windows, min_size=1, max_size=2), steps)
def test_no_window_exceeds_the_limit_and_no_earlier_moment_would_fit(
    limits: list[Window], script: list[tuple[int, str, int, int]]
) -> None:
    retention = retention_for(limits)
    log = EventLog()
    now = 0
    events: list[Event] = []
    for pause, operation, cost, nth in script:
        now += pause
        if operation == "refund":
            if events:
                moment, price = events.pop(nth % len(events))
                log.refund([(moment, price)], retention)
            continue
        if cost > min(window.limit for window in limits):
            continue
        at = now
        while (later := max(log.earliest(at, cost, window) for window in limits)) > at:
            at = later
        # The log refuses and admits exactly what the definition refuses and admits.
        for moment in range(now, min(at, now + 40)):
            assert any(would_exceed(events, window, moment, cost) for window in limits)
        assert not any(would_exceed(events, window, at, cost) for window in limits)
        if at == now:
            assert log.add(now, cost, retention) == now
            events.append((now, cost))
        elif operation == "book":
            assert log.book(now, at, cost, retention) == at
            events.append((at, cost))


@given(windows, steps)
def test_used_and_remaining_equal_the_definition(
    window: Window, script: list[tuple[int, str, int, int]]
) -> None:
    retention = retention_for([window])
    log = EventLog()
    now = 0
    events: list[Event] = []
    for pause, operation, cost, _ in script:
        now += pause
        if cost <= window.limit and (operation == "book" or log.fits(now, cost, window)):
            at = log.earliest(now, cost, window)
            events.append((log.book(now, at, cost, retention), cost))
        slot = window.resolution
        used = sum(
            price
            for moment, price in events
            if moment <= now < (moment // slot + 1) * slot - 1 + window.length
        )
        assert log.used(now, window) == used
        remaining = log.remaining(now, window)
        assert not remaining or not would_exceed(events, window, now, remaining)
        assert remaining == window.limit or would_exceed(events, window, now, remaining + 1)
        empty_at = log.empty_at(now, window)
        assert empty_at == max(
            [now, *((m // slot + 1) * slot - 1 + window.length for m, _ in events)]
        )


compacted_windows = st.lists(
    st.builds(
        Window,
        limit=st.integers(1, 8),
        length=st.integers(1, 30),
        resolution=st.sampled_from([1, 2, 4]),
        denied=st.booleans(),
    ),
    min_size=1,
    max_size=3,
)
compacted_scripts = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(["send", "refuse", "book"]), st.integers(1, 3)),
    max_size=60,
)


def compare_with_a_compacted_log(limits: list[Window], script: list[tuple[int, str, int]]) -> None:
    """Compact one of two logs at every step, and compare their answers."""
    retention = retention_for(limits)
    full, compacted = EventLog(), EventLog()
    full.compact_at = 1 << 60
    now = 0
    for pause, operation, cost in script:
        now += pause
        compacted.compact_at = 0  # compact at every step
        if cost > min(window.limit for window in limits):
            continue
        if operation == "refuse":
            for log in (full, compacted):
                log.refuse(now, cost, retention)
        at = now
        while (later := max(full.earliest(at, cost, window) for window in limits)) > at:
            at = later
        if operation == "book" or (operation == "send" and at == now):
            for log in (full, compacted):
                log.book(now, at, cost, retention)
        for window in limits:
            for price in range(1, window.limit + 1):
                assert compacted.earliest(now, price, window) == full.earliest(now, price, window)


@given(compacted_windows, compacted_scripts)
def test_a_compacted_log_gives_the_same_answers(
    limits: list[Window], script: list[tuple[int, str, int]]
) -> None:
    compare_with_a_compacted_log(limits, script)


@given(st.data())
def test_a_log_that_is_compacted_a_little_at_a_time_gives_the_same_answers(
    data: st.DataObject,
) -> None:
    limits = data.draw(compacted_windows)
    script = data.draw(compacted_scripts)
    with patch.object(event_log, "COMPACTED_TOGETHER", data.draw(st.integers(2, 6))):
        compare_with_a_compacted_log(limits, script)


@given(st.integers(1, 50), st.integers(1, 3), st.integers(1, 4))
def test_many_refused_attempts_take_bounded_memory(limit: int, cost: int, slot: int) -> None:
    window = Window(limit, 100_000, slot, denied=True)
    retention = retention_for([window])
    log = EventLog()
    for now in range(2000):
        if cost <= limit and log.fits(now, cost, window):
            log.add(now, cost, retention)
        else:
            log.refuse(now, cost, retention)
        assert len(log.times) <= 4 * (limit + 40)


def test_a_resolution_bounds_memory_to_the_slots_of_a_window() -> None:
    window = Window(1_000_000, 1000, 100)
    retention = retention_for([window])
    log = EventLog()
    for now in range(20_000):
        log.add(now, 1, retention)
        assert len(log.times) <= 100
    assert log.used(19_999, window) == 1000


def test_bookings_are_forgotten_after_they_have_left_every_window() -> None:
    window = Window(1, 10)
    retention = retention_for([window])
    log = EventLog()
    now = 0
    for _ in range(5000):
        at = log.earliest(now, 1, window)
        log.book(now, at, 1, retention)
        now = at - 1
        assert len(log.times) <= 100
