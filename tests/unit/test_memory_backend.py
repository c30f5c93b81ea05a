"""The memory backend: its clock, what it forgets, and how much it holds."""

from __future__ import annotations

import sys
import threading
import time
import tracemalloc

import pytest

from ratelimit_mail import Envelope, Limiter, MessageRateLimit, Policy, RecipientRateLimit
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.testing import ManualClock

DAY = 86_400


def letter(sender: int | str, recipients: int = 1) -> Envelope:
    return Envelope(f"{sender}@uwo.ca", [f"r{i}@example.com" for i in range(recipients)])


def limiter_of(*rates: str, **options: object) -> tuple[Limiter, MemoryBackend, ManualClock]:
    clock = ManualClock()
    backend = MemoryBackend(clock)
    limits = [RecipientRateLimit(rate, **options) for rate in rates]  # type: ignore[arg-type]
    return Limiter(Policy(name="test", limits=limits), backend), backend, clock


def test_the_default_clock_is_not_moved_by_a_step_of_the_wall_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limiter = Limiter(Policy(name="test", limits=[MessageRateLimit("1/day")]))
    assert limiter.try_acquire(letter("ann"))
    real = time.time_ns
    for step in (DAY, -DAY):
        monkeypatch.setattr(time, "time", lambda step=step: real() / 1e9 + step)
        monkeypatch.setattr(time, "time_ns", lambda step=step: real() + step * 10**9)
        refused = limiter.try_acquire(letter("ann"))
        assert refused.retry_after == pytest.approx(DAY, abs=60)


def test_the_default_clock_starts_at_the_wall_clock() -> None:
    limiter = Limiter(Policy(name="test", limits=[MessageRateLimit("1/second")]))
    assert limiter.reserve(letter("ann")).at == pytest.approx(time.time() * 1000, abs=5000)


def test_idle_senders_are_forgotten_by_the_calls_of_others() -> None:
    limiter, backend, clock = limiter_of("9/minute")
    for i in range(1000):
        assert limiter.try_acquire(letter(i))
    assert backend.size() == 1000
    for _ in range(3):
        clock.advance(61)
        for _ in range(300):
            limiter.try_acquire(letter("ann"))
    assert backend.size() == 1


def test_a_sender_who_keeps_sending_is_not_forgotten() -> None:
    limiter, _, clock = limiter_of("3/minute")
    for i in range(200):
        limiter.try_acquire(letter(i))
        clock.advance(1)
        limiter.try_acquire(letter("ann"))
        held = limiter.usage("ann@uwo.ca")[0].used
        assert held == min(3, i + 1)


def test_a_booking_far_ahead_is_not_forgotten() -> None:
    limiter, _, clock = limiter_of("1/minute")
    delays = [limiter.reserve(letter("ann")).delay for _ in range(10)]
    assert delays[-1] == 540
    for i in range(500):
        clock.advance(1)
        limiter.try_acquire(letter(i))
    assert limiter.check(letter("ann")).retry_after == 100
    assert limiter.reserve(letter("ann")).delay == 100


def test_forgetting_goes_on_after_the_clock_was_a_year_ahead() -> None:
    limiter, backend, clock = limiter_of("9/minute")
    start = clock()
    clock.set(start + 365 * DAY * 1000)
    limiter.try_acquire(letter("ann"))
    clock.set(start)
    for i in range(3000):
        clock.advance(1)
        limiter.try_acquire(letter(i))
    assert backend.size() < 500


def test_a_flood_of_new_senders_holds_only_those_of_the_last_windows() -> None:
    limiter, backend, clock = limiter_of("9/minute")
    for i in range(20_000):
        clock.advance(0.1)
        assert limiter.try_acquire(letter(i))
    assert backend.size() <= 3 * 600 + 10


def test_a_check_and_a_refusal_leave_nothing_behind() -> None:
    limiter, backend, _ = limiter_of("2/minute")
    for i in range(100):
        assert limiter.check(letter(i))
        assert not limiter.try_acquire(letter(i, recipients=3))
    assert backend.size() == 0


def test_a_reset_leaves_nothing_behind() -> None:
    limiter, backend, _ = limiter_of("2/minute")
    limiter.reserve(letter("ann", 2))
    limiter.reserve(letter("ann", 2))
    limiter.reset("ann@uwo.ca")
    assert backend.size() == 0


def test_a_million_refused_attempts_take_bounded_memory() -> None:
    limiter, _, clock = limiter_of("50/15 minutes", denied="count")
    for _ in range(5000):
        limiter.try_acquire(letter("ann"))
    tracemalloc.start()
    for _ in range(20_000):
        clock.advance(0.086)
        limiter.try_acquire(letter("ann"))
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 20_000
    assert limiter.check(letter("ann")).retry_after == pytest.approx(900, abs=5)


def test_a_recorded_message_takes_at_most_40_bytes() -> None:
    limiter, _, clock = limiter_of("100000/day")
    senders, messages = 20, 1000
    for i in range(senders):
        limiter.try_acquire(letter(i))
    tracemalloc.start()
    for _ in range(messages):
        clock.advance(0.05)
        for i in range(senders):
            limiter.try_acquire(letter(i))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held / (senders * messages) <= 40


def test_eight_threads_admit_exactly_the_limit_on_the_real_clock() -> None:
    limiter = Limiter(Policy(name="test", limits=[MessageRateLimit("1000/day")]))
    admitted: list[bool] = []
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [
            threading.Thread(
                target=lambda: admitted.extend(
                    limiter.try_acquire(letter("ann")).allowed for _ in range(250)
                )
            )
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switch)
    assert (len(admitted), sum(admitted)) == (2000, 1000)


def test_a_hundred_thousand_recipients_are_answered() -> None:
    limiter, _, _ = limiter_of("150000/day")
    many = letter("ann", 100_000)
    assert limiter.try_acquire(many)
    assert limiter.try_acquire(many).retry_after == DAY


def test_a_hundred_thousand_subjects_of_one_message_are_charged_together() -> None:
    limiter, backend, _ = limiter_of("1/day", scope="recipient")
    assert limiter.try_acquire(letter("ann", 100_000))
    assert backend.size() == 100_000
    assert not limiter.try_acquire(letter("bob", 100_000))


def test_recipients_that_are_subjects_are_forgotten_as_fast_as_they_come() -> None:
    limiter, backend, clock = limiter_of("3600/hour", scope="recipient")
    for k in range(360):
        clock.advance(60)
        limiter.try_acquire(Envelope("ann@uwo.ca", [f"r{k}.{i}@y.org" for i in range(50)]))
    assert backend.size() <= 3 * 60 * 50


def test_policies_of_one_name_keep_what_either_needs() -> None:
    clock = ManualClock()
    backend = MemoryBackend(clock)
    hourly, daily = (
        Limiter(Policy(name="test", limits=[MessageRateLimit(rate)]), backend)
        for rate in ("1000/hour", "5/day")
    )
    assert [daily.try_acquire(letter("ann")).allowed for _ in range(6)] == [True] * 5 + [False]
    for i in range(200):
        clock.advance(100)
        assert hourly.try_acquire(letter("ann"))
        assert hourly.try_acquire(letter(i))
    assert not daily.check(letter("ann"))
    assert daily.usage("ann@uwo.ca")[0].used == 205


def test_policies_of_one_name_with_and_without_a_resolution_refund_alike() -> None:
    clock = ManualClock()
    backend = MemoryBackend(clock)
    coarse, fine = (
        Limiter(
            Policy(name="test", limits=[MessageRateLimit("9999/day", resolution=resolution)]),
            backend,
        )
        for resolution in ("1 minute", None)
    )
    decisions = []
    for i in range(280):
        clock.advance(1)
        decisions.append((coarse, fine)[i % 2].try_acquire(letter("ann")))
    for i, decision in enumerate(decisions[:180]):
        (coarse, fine)[i % 2].refund(decision)
    assert fine.usage("ann@uwo.ca")[0].used == 100


def test_a_refund_brings_back_what_refused_attempts_it_hid() -> None:
    limiter, _, clock = limiter_of("1000/day", denied="count")
    for _ in range(400):
        clock.advance(0.01)
        limiter.try_acquire(letter("ann", 1001))
    limiter.reset("ann@uwo.ca")
    sent = limiter.try_acquire(letter("ann", 500))
    for _ in range(1020):
        clock.advance(0.01)
        limiter.try_acquire(letter("ann", 1001))
    limiter.refund(sent)
    assert not limiter.check(letter("ann"))


def test_many_are_taken_back_in_little_more_time_than_one() -> None:
    limiter, _, _ = limiter_of("1/minute")
    reservations = [limiter.reserve(letter("ann")) for _ in range(20_000)]
    for reservation in reservations[1::2]:
        reservation.cancel()
    assert limiter.check(letter("ann")).retry_after == 60
    for reservation in reservations[::2]:
        reservation.cancel()
    assert limiter.check(letter("ann"))
    assert limiter.usage("ann@uwo.ca")[0].used == 0


def test_taking_back_never_waits_for_the_lock() -> None:
    limiter, backend, _ = limiter_of("1/minute")
    decision = limiter.try_acquire(letter("ann"))
    with backend._lock:  # as the garbage collector may find it
        limiter.refund(decision)
    assert limiter.try_acquire(letter("ann"))


def test_a_clock_that_stops_giving_integers_is_named_and_changes_nothing() -> None:
    times = iter([1, 2, 3.5, 4])
    limiter = Limiter(
        Policy(name="test", limits=[MessageRateLimit("1/minute")]),
        MemoryBackend(lambda: next(times)),  # type: ignore[arg-type,return-value]
    )
    assert limiter.check(letter("ann"))
    with pytest.raises(TypeError, match="integer milliseconds since the epoch"):
        limiter.try_acquire(letter("ann"))
    assert limiter.try_acquire(letter("ann"))
