"""CircuitBreaker: noticed once, tried again at growing intervals, by one call at a time."""

from __future__ import annotations

import logging
import threading

import pytest

from ratelimit_mail.backends.outage.circuit_breaker import LONGEST_PAUSE, CircuitBreaker
from ratelimit_mail.exceptions import BackendUnavailable

UNREACHABLE = BackendUnavailable("the server is away")
MOMENT = 0.000_001


class Stopwatch:
    """A monotonic clock to turn by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def outage_of(watch: Stopwatch) -> CircuitBreaker:
    """An outage that has just begun."""
    outage = CircuitBreaker(watch)
    outage.failed(UNREACHABLE, tried=False)
    return outage


def pauses_until(outage: CircuitBreaker, watch: Stopwatch, pauses: tuple[float, ...]) -> None:
    """Nobody may try before each of these has passed, and then one may, in vain."""
    for pause in pauses:
        watch.seconds += pause - MOMENT
        assert not outage.may_try()
        watch.seconds += 2 * MOMENT
        assert outage.may_try()
        outage.failed(UNREACHABLE, tried=True)


def test_no_outage_is_over_before_it_began() -> None:
    assert CircuitBreaker().is_closed
    assert not outage_of(Stopwatch()).is_closed


def test_it_is_tried_again_at_growing_intervals() -> None:
    watch = Stopwatch()
    pauses_until(outage_of(watch), watch, (0.05, 0.1, 0.2, 0.4, 0.5, 0.5, 0.5))


def test_however_long_it_lasts_the_next_try_is_near() -> None:
    watch = Stopwatch()
    outage = outage_of(watch)
    for _ in range(100):
        assert 0 < outage.next_try_in() <= LONGEST_PAUSE
        watch.seconds += outage.next_try_in() + MOMENT
        assert outage.may_try()
        outage.failed(UNREACHABLE, tried=True)


def test_the_next_outage_begins_with_the_first_interval_again() -> None:
    watch = Stopwatch()
    outage = outage_of(watch)
    pauses_until(outage, watch, (0.05, 0.1, 0.2))
    watch.seconds += 1
    assert outage.may_try()
    outage.succeeded()
    assert outage.is_closed
    outage.failed(UNREACHABLE, tried=False)
    pauses_until(outage, watch, (0.05, 0.1))


def test_one_call_at_a_time_tries() -> None:
    watch = Stopwatch()
    outage = outage_of(watch)
    watch.seconds += 1
    assert outage.may_try()
    watch.seconds += 1000
    assert not outage.may_try()
    outage.failed(UNREACHABLE, tried=True)
    watch.seconds += 1
    assert outage.may_try()


def test_of_threads_that_come_together_one_tries() -> None:
    watch = Stopwatch()
    outage = outage_of(watch)
    barrier = threading.Barrier(8)
    allowed: list[bool] = []

    def come() -> None:
        barrier.wait(timeout=30)
        allowed.append(outage.may_try())

    for _ in range(20):
        watch.seconds += 1
        threads = [threading.Thread(target=come) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(allowed) == 1
        allowed.clear()
        outage.failed(UNREACHABLE, tried=True)


def test_a_try_that_is_broken_off_lets_the_next_one_try() -> None:
    watch = Stopwatch()
    outage = outage_of(watch)
    watch.seconds += 1
    assert outage.may_try()
    outage.cancelled()
    assert not outage.is_closed
    assert outage.may_try()
    assert not outage.may_try()


def test_calls_that_were_under_way_before_change_nothing_when_they_fail() -> None:
    watch = Stopwatch()
    outage = outage_of(watch)
    watch.seconds += 0.04
    outage.failed(UNREACHABLE, tried=False)
    watch.seconds += 0.01 + MOMENT
    assert outage.may_try()
    outage.failed(UNREACHABLE, tried=False)
    assert not outage.may_try()  # the one that tries has not said yet how that went
    outage.failed(UNREACHABLE, tried=True)
    pauses_until(outage, watch, (0.1,))


def test_the_first_error_is_a_warning_and_the_return_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "ratelimit_mail")
    watch = Stopwatch()
    for _ in range(2):
        caplog.clear()
        outage = outage_of(watch)
        outage.failed(UNREACHABLE, tried=False)
        pauses_until(outage, watch, (0.05, 0.1))
        (begins,) = caplog.records
        assert begins.levelname == "WARNING"
        assert str(UNREACHABLE) in begins.getMessage()
        caplog.clear()
        outage.succeeded()
        outage.succeeded()
        (ends,) = caplog.records
        assert (ends.levelname, ends.getMessage()) == ("INFO", "the backend is back")


def test_a_call_that_was_not_tried_is_told_why() -> None:
    outage = outage_of(Stopwatch())
    outage.failed(BackendUnavailable("no memory"), tried=False)
    error = outage.error()
    assert type(error) is BackendUnavailable
    assert str(error) == "no memory (not tried again for this call)"


def test_the_next_try_is_told_in_seconds() -> None:
    watch = Stopwatch()
    outage = outage_of(watch)
    pauses_until(outage, watch, (0.05, 0.1, 0.2))
    assert outage.next_try_in() == pytest.approx(0.4)
    watch.seconds += 0.3
    assert outage.next_try_in() == pytest.approx(0.1)
    watch.seconds += 100
    assert outage.next_try_in() == 0.05  # somebody is trying it, or is about to
