"""MemoryBackend: its clock, which subjects it evicts, how much memory it takes."""

from __future__ import annotations

import sys
import threading
import time
import tracemalloc
from typing import Any

import pytest
from rlm_testkit.builders import envelope_to

from ratelimit_mail import Envelope, Limiter, MessageRateLimit, Policy, RecipientRateLimit
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.backends.base import Verdict
from ratelimit_mail.backends.memory.subject_counts import SubjectCounts
from ratelimit_mail.testing import ManualClock

DAY = 86_400


def from_user(user: int | str, recipients: int = 1) -> Envelope:
    return envelope_to(recipients, f"{user}@uwo.ca")


def recipient_limiter(rate: str, **options: Any) -> tuple[Limiter, MemoryBackend, ManualClock]:
    """Return a limiter with one limit on recipients, its backend and its clock."""
    clock = ManualClock()
    backend = MemoryBackend(clock)
    policy = Policy(name="test", limits=[RecipientRateLimit(rate, **options)])
    return Limiter(policy, backend), backend, clock


def test_the_default_clock_does_not_follow_a_step_of_the_wall_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limiter = Limiter(Policy(name="test", limits=[MessageRateLimit("1/day")]))
    assert limiter.try_acquire(envelope_to())
    real = time.time_ns
    for step in (DAY, -DAY):
        monkeypatch.setattr(time, "time", lambda step=step: real() / 1e9 + step)
        monkeypatch.setattr(time, "time_ns", lambda step=step: real() + step * 10**9)
        refused = limiter.try_acquire(envelope_to())
        assert refused.retry_after == pytest.approx(DAY, abs=60)


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="only Linux tells the time asleep")
def test_the_default_clock_goes_on_while_the_computer_sleeps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, asleep = time.clock_gettime_ns, 0

    def clock_gettime_ns(clock: int) -> int:
        return real(clock) + (asleep if clock == time.CLOCK_BOOTTIME else 0)

    monkeypatch.setattr(time, "clock_gettime_ns", clock_gettime_ns)
    limiter = Limiter(Policy(name="test", limits=[MessageRateLimit("1/day")]))
    assert limiter.try_acquire(envelope_to())
    assert not limiter.try_acquire(envelope_to())
    asleep = DAY * 10**9
    assert limiter.try_acquire(envelope_to())


def test_without_a_clock_that_goes_on_the_default_clock_is_the_monotonic_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def not_permitted(clock: int) -> int:
        raise OSError(clock)

    monkeypatch.setattr(time, "clock_gettime_ns", not_permitted, raising=False)
    limiter = Limiter(Policy(name="test", limits=[MessageRateLimit("1/second")]))
    assert limiter.reserve(envelope_to()).at == pytest.approx(time.time() * 1000, abs=5000)
    assert limiter.check(envelope_to()).retry_after == pytest.approx(1, abs=1)


def test_the_default_clock_starts_at_the_wall_clock() -> None:
    limiter = Limiter(Policy(name="test", limits=[MessageRateLimit("1/second")]))
    assert limiter.reserve(envelope_to()).at == pytest.approx(time.time() * 1000, abs=5000)


def test_idle_senders_are_evicted_during_calls_for_other_senders() -> None:
    limiter, backend, clock = recipient_limiter("9/minute")
    for i in range(1000):
        assert limiter.try_acquire(from_user(i))
    assert backend.size() == 1000
    for _ in range(3):
        clock.advance(61)
        for _ in range(300):
            limiter.try_acquire(envelope_to())
    assert backend.size() == 1


def test_a_sender_that_keeps_sending_is_not_evicted() -> None:
    limiter, _, clock = recipient_limiter("3/minute")
    for i in range(200):
        limiter.try_acquire(from_user(i))
        clock.advance(1)
        limiter.try_acquire(envelope_to())
        assert limiter.usage("ann@uwo.ca")[0].used == min(3, i + 1)


def test_a_booking_far_ahead_is_not_evicted() -> None:
    limiter, _, clock = recipient_limiter("1/minute")
    delays = [limiter.reserve(envelope_to()).delay for _ in range(10)]
    assert delays[-1] == 540
    for i in range(500):
        clock.advance(1)
        limiter.try_acquire(from_user(i))
    assert limiter.check(envelope_to()).retry_after == 100
    assert limiter.reserve(envelope_to()).delay == 100


def test_bookings_of_a_sender_that_becomes_active_meanwhile_are_seen_without_the_lock() -> None:
    limiter, backend, clock = recipient_limiter("1/day")
    ledger = limiter.policy.queue()
    assert [limiter.reserve(from_user("ann")).delay for _ in range(3)] == [0, DAY, 2 * DAY]
    table = backend._tables[ledger.name]
    counts = table.young.pop("ann@uwo.ca")

    class Old(dict[str, SubjectCounts]):
        def get(self, subject: str, default: Any = None, /) -> Any:
            """Find nothing, because another thread charges the sender first."""
            table.put(subject, counts, clock())
            return default

    table.old = Old({"ann@uwo.ca": counts})
    assert backend.has_bookings(ledger, "ann@uwo.ca")


def test_eviction_goes_on_after_the_clock_was_a_year_ahead() -> None:
    limiter, backend, clock = recipient_limiter("9/minute")
    start = clock()
    clock.set(start + 365 * DAY * 1000)
    limiter.try_acquire(envelope_to())
    clock.set(start)
    for i in range(3000):
        clock.advance(1)
        limiter.try_acquire(from_user(i))
    assert backend.size() < 500


def test_of_a_flood_of_new_senders_only_those_of_the_last_windows_are_held() -> None:
    limiter, backend, clock = recipient_limiter("9/minute")
    for i in range(5_000):
        clock.advance(0.1)
        assert limiter.try_acquire(from_user(i))
    assert backend.size() <= 3 * 600 + 10


def test_a_check_and_a_refusal_leave_no_subject_behind() -> None:
    limiter, backend, _ = recipient_limiter("2/minute")
    for i in range(100):
        assert limiter.check(from_user(i))
        assert not limiter.try_acquire(from_user(i, recipients=3))
    assert backend.size() == 0


def test_a_reset_leaves_no_subject_behind() -> None:
    limiter, backend, _ = recipient_limiter("2/minute")
    limiter.reserve(from_user("ann", 2))
    limiter.reserve(from_user("ann", 2))
    limiter.reset("ann@uwo.ca")
    assert backend.size() == 0


def test_refused_attempts_of_several_windows_take_bounded_memory() -> None:
    limiter, _, clock = recipient_limiter("50/15 minutes", denied="count")
    for _ in range(5000):
        limiter.try_acquire(envelope_to())
    tracemalloc.start()
    for _ in range(6_000):
        clock.advance(0.3)
        limiter.try_acquire(envelope_to())
    allocated, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert allocated < 20_000
    assert limiter.check(envelope_to()).retry_after == pytest.approx(900, abs=16)


def test_a_recorded_message_takes_at_most_40_bytes() -> None:
    limiter, _, clock = recipient_limiter("100000/day")
    senders, messages = 20, 1000
    for i in range(senders):
        limiter.try_acquire(from_user(i))
    tracemalloc.start()
    for _ in range(messages):
        clock.advance(0.05)
        for i in range(senders):
            limiter.try_acquire(from_user(i))
    allocated, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert allocated / (senders * messages) <= 40


def test_eight_threads_admit_exactly_the_limit_on_the_real_clock() -> None:
    limiter = Limiter(Policy(name="test", limits=[MessageRateLimit("1000/day")]))
    admitted: list[bool] = []
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [
            threading.Thread(
                target=lambda: admitted.extend(
                    limiter.try_acquire(envelope_to()).allowed for _ in range(250)
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


def test_a_message_to_a_hundred_thousand_recipients_gets_a_decision() -> None:
    limiter, _, _ = recipient_limiter("150000/day")
    many = from_user("ann", 100_000)
    assert limiter.try_acquire(many)
    assert limiter.try_acquire(many).retry_after == DAY


def test_twenty_thousand_subjects_of_one_message_are_charged_together() -> None:
    limiter, backend, _ = recipient_limiter("1/day", scope="recipient")
    assert limiter.try_acquire(from_user("ann", 20_000))
    assert backend.size() == 20_000
    assert not limiter.try_acquire(from_user("bob", 20_000))


def test_recipients_that_are_subjects_are_evicted_as_fast_as_they_are_added() -> None:
    limiter, backend, clock = recipient_limiter("3600/hour", scope="recipient")
    for k in range(360):
        clock.advance(60)
        limiter.try_acquire(Envelope("ann@uwo.ca", [f"r{k}.{i}@y.org" for i in range(50)]))
    assert backend.size() <= 3 * 60 * 50


def test_policies_with_the_same_name_retain_what_either_needs() -> None:
    clock = ManualClock()
    backend = MemoryBackend(clock)
    hourly, daily = (
        Limiter(Policy(name="test", limits=[MessageRateLimit(rate)]), backend)
        for rate in ("1000/hour", "5/day")
    )
    assert [daily.try_acquire(envelope_to()).allowed for _ in range(6)] == [True] * 5 + [False]
    for i in range(200):
        clock.advance(100)
        assert hourly.try_acquire(envelope_to())
        assert hourly.try_acquire(from_user(i))
    assert not daily.check(envelope_to())
    assert daily.usage("ann@uwo.ca")[0].used == 205


def test_policies_with_the_same_name_with_and_without_a_resolution_refund_alike() -> None:
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
        decisions.append((coarse, fine)[i % 2].try_acquire(envelope_to()))
    for i, decision in enumerate(decisions[:180]):
        (coarse, fine)[i % 2].refund(decision)
    assert fine.usage("ann@uwo.ca")[0].used == 100


def test_after_a_refund_the_refused_attempts_behind_it_still_count() -> None:
    limiter, _, clock = recipient_limiter("1000/day", denied="count")
    for _ in range(400):
        clock.advance(0.01)
        limiter.try_acquire(from_user("ann", 1001))
    limiter.reset("ann@uwo.ca")
    sent = limiter.try_acquire(from_user("ann", 500))
    for _ in range(1020):
        clock.advance(0.01)
        limiter.try_acquire(from_user("ann", 1001))
    limiter.refund(sent)
    assert not limiter.check(envelope_to())


def test_cancelling_ten_thousand_bookings_is_quick() -> None:
    limiter, _, _ = recipient_limiter("1/minute")
    reservations = [limiter.reserve(envelope_to()) for _ in range(10_000)]
    for reservation in reservations[1::2]:
        reservation.cancel()
    assert limiter.check(envelope_to()).retry_after == 60
    for reservation in reservations[::2]:
        reservation.cancel()
    assert limiter.check(envelope_to())
    assert limiter.usage("ann@uwo.ca")[0].used == 0


def test_a_refund_never_waits_for_the_lock() -> None:
    limiter, backend, _ = recipient_limiter("1/minute")
    decision = limiter.try_acquire(envelope_to())
    with backend._lock:  # the garbage collector may refund while it is held
        limiter.refund(decision)
    assert limiter.try_acquire(envelope_to())


def test_a_clock_that_stops_returning_integers_raises_and_changes_nothing() -> None:
    now: list[float] = [1]
    limiter = Limiter(
        Policy(name="test", limits=[MessageRateLimit("1/minute")]),
        MemoryBackend(lambda: now[0]),  # type: ignore[arg-type,return-value]
    )
    assert limiter.check(envelope_to())
    now[0] = 3.5
    with pytest.raises(TypeError, match="integer milliseconds since the epoch"):
        limiter.try_acquire(envelope_to())
    now[0] = 4
    assert limiter.try_acquire(envelope_to())


def test_a_message_that_is_charged_nothing_is_accepted() -> None:
    backend = MemoryBackend(ManualClock(5))
    assert backend.apply([]) == Verdict(5, 5, [])
