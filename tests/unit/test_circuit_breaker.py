"""CircuitBreaker: an outage is noticed once, and retried at growing intervals by one call."""

from __future__ import annotations

import logging
import threading

import pytest
from rlm_testkit.outages import UNREACHABLE, log_lines

from ratelimit_mail.backends.outage.circuit_breaker import LONGEST_PAUSE, CircuitBreaker
from ratelimit_mail.exceptions import BackendUnavailable

MOMENT = 0.000_001


class MonotonicClock:
    """A monotonic clock that a test moves by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def open_breaker(clock: MonotonicClock) -> CircuitBreaker:
    """Return a circuit breaker whose backend has just gone away."""
    breaker = CircuitBreaker(clock)
    breaker.failed(UNREACHABLE, tried=False)
    return breaker


def fail_after(breaker: CircuitBreaker, clock: MonotonicClock, pauses: tuple[float, ...]) -> None:
    """Assert that a call may try after each of these pauses and not before; let each fail."""
    for pause in pauses:
        clock.seconds += pause - MOMENT
        assert not breaker.may_try()
        clock.seconds += 2 * MOMENT
        assert breaker.may_try()
        breaker.failed(UNREACHABLE, tried=True)


def test_a_breaker_is_closed_until_a_call_fails() -> None:
    assert CircuitBreaker().is_closed
    assert not open_breaker(MonotonicClock()).is_closed


def test_the_backend_is_tried_again_at_growing_intervals() -> None:
    clock = MonotonicClock()
    fail_after(open_breaker(clock), clock, (0.05, 0.1, 0.2, 0.4, 0.5, 0.5, 0.5))


def test_the_next_try_is_near_however_long_the_outage_lasts() -> None:
    clock = MonotonicClock()
    breaker = open_breaker(clock)
    for _ in range(100):
        assert 0 < breaker.next_try_in() <= LONGEST_PAUSE
        clock.seconds += breaker.next_try_in() + MOMENT
        assert breaker.may_try()
        breaker.failed(UNREACHABLE, tried=True)


def test_the_next_outage_begins_with_the_first_interval_again() -> None:
    clock = MonotonicClock()
    breaker = open_breaker(clock)
    fail_after(breaker, clock, (0.05, 0.1, 0.2))
    clock.seconds += 1
    assert breaker.may_try()
    breaker.succeeded()
    assert breaker.is_closed
    breaker.failed(UNREACHABLE, tried=False)
    fail_after(breaker, clock, (0.05, 0.1))


def test_one_call_at_a_time_may_try() -> None:
    clock = MonotonicClock()
    breaker = open_breaker(clock)
    clock.seconds += 1
    assert breaker.may_try()
    clock.seconds += 1000
    assert not breaker.may_try()
    breaker.failed(UNREACHABLE, tried=True)
    clock.seconds += 1
    assert breaker.may_try()


def test_one_of_several_simultaneous_threads_may_try() -> None:
    clock = MonotonicClock()
    breaker = open_breaker(clock)
    barrier = threading.Barrier(8)
    answers: list[bool] = []

    def ask() -> None:
        barrier.wait(timeout=30)
        answers.append(breaker.may_try())

    for _ in range(20):
        clock.seconds += 1
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(answers) == 1
        answers.clear()
        breaker.failed(UNREACHABLE, tried=True)


def test_after_a_cancelled_try_the_next_call_may_try() -> None:
    clock = MonotonicClock()
    breaker = open_breaker(clock)
    clock.seconds += 1
    assert breaker.may_try()
    breaker.cancelled()
    assert not breaker.is_closed
    assert breaker.may_try()
    assert not breaker.may_try()


def test_failures_of_calls_begun_before_the_outage_do_not_change_the_schedule() -> None:
    clock = MonotonicClock()
    breaker = open_breaker(clock)
    clock.seconds += 0.04
    breaker.failed(UNREACHABLE, tried=False)
    clock.seconds += 0.01 + MOMENT
    assert breaker.may_try()
    breaker.failed(UNREACHABLE, tried=False)
    assert not breaker.may_try()  # the call that tries has not reported yet
    breaker.failed(UNREACHABLE, tried=True)
    fail_after(breaker, clock, (0.1,))


def test_the_first_error_is_logged_as_a_warning_and_the_end_as_information(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "ratelimit_mail")
    clock = MonotonicClock()
    for _ in range(2):
        caplog.clear()
        breaker = open_breaker(clock)
        breaker.failed(UNREACHABLE, tried=False)
        fail_after(breaker, clock, (0.05, 0.1))
        ((level, text),) = log_lines(caplog)
        assert level == "WARNING"
        assert str(UNREACHABLE) in text
        caplog.clear()
        breaker.succeeded()
        breaker.succeeded()
        assert log_lines(caplog) == [("INFO", "the backend is back")]


def test_the_error_of_a_call_that_was_not_tried_says_why() -> None:
    breaker = open_breaker(MonotonicClock())
    breaker.failed(BackendUnavailable("no memory"), tried=False)
    error = breaker.error()
    assert type(error) is BackendUnavailable
    assert str(error) == "no memory (not tried again for this call)"


def test_next_try_in_is_the_seconds_until_the_next_try() -> None:
    clock = MonotonicClock()
    breaker = open_breaker(clock)
    fail_after(breaker, clock, (0.05, 0.1, 0.2))
    assert breaker.next_try_in() == pytest.approx(0.4)
    clock.seconds += 0.3
    assert breaker.next_try_in() == pytest.approx(0.1)
    clock.seconds += 100
    assert breaker.next_try_in() == 0.05  # a call tries it now, or is about to
