"""The planner with a backend: what was sent before takes its place; the backend is only read."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratelimit_mail import Envelope, Limiter, MessageRateLimit, Policy, RecipientRateLimit
from ratelimit_mail.backends import AsyncRedisBackend, Backend, MemoryBackend, SQLiteBackend
from ratelimit_mail.limits import Limit
from ratelimit_mail.planner import CannotFinish, MailingPlan, WorkingHours, plan_mailing
from ratelimit_mail.testing import ManualClock

ANN, BOB = "ann@uwo.ca", "bob@example.com"
NOON = 1_795_435_200_000  # Monday, 2026-11-23, 12:00 UTC


def at(hour: int, minute: int = 0, day: int = 23) -> datetime:
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


def policy_of(*limits: Limit) -> Policy:
    return Policy(name="example", limits=limits)


def plan(policy: Policy, count: int, **options: Any) -> MailingPlan:
    return plan_mailing(policy, [1] * count, sender=ANN, **options)


def test_what_was_sent_today_takes_its_place() -> None:
    clock = ManualClock(NOON - 3_600_000)
    backend = MemoryBackend(clock)
    policy = policy_of(RecipientRateLimit("10/day"))
    limiter = Limiter(policy, backend)
    for _ in range(4):
        limiter.try_acquire(Envelope(ANN, [BOB]))
        clock.advance(600)
    clock.set(NOON)
    result = plan(policy, 8, backend=backend)
    assert result.start == at(12)
    assert result.delays[:6] == (0.0,) * 6
    assert [result.start + timedelta(seconds=each) for each in result.delays[6:]] == [
        at(11, day=24),
        at(11, 10, day=24),
    ]
    assert limiter.usage(ANN)[0].used == 4  # planning charges nothing
    assert plan(policy, 8).delays == (0.0,) * 8


def test_messages_of_another_sender_take_no_place() -> None:
    backend = MemoryBackend(ManualClock(NOON))
    policy = policy_of(MessageRateLimit("1/day"))
    Limiter(policy, backend).try_acquire(Envelope("eve@uwo.ca", [BOB]))
    assert plan(policy, 1, backend=backend).delays == (0.0,)


class Reader:
    """A backend that has read methods alone."""

    def __init__(self, backend: Backend) -> None:
        self.read_register = backend.read_register
        self.usage = backend.usage
        self.now = backend.now


def test_the_backend_is_only_read() -> None:
    backend = MemoryBackend(ManualClock(NOON))
    policy = policy_of(MessageRateLimit("5/day"))
    Limiter(policy, backend).try_acquire(Envelope(ANN, [BOB]))
    result = plan(policy, 5, backend=Reader(backend))
    assert result.delays == (0.0, 0.0, 0.0, 0.0, 86400.0)


EVENTS = st.lists(st.tuples(st.integers(0, 5_000), st.integers(1, 4), st.booleans()), max_size=25)


@given(
    EVENTS,
    st.sampled_from(["ignore", "count"]),
    st.sampled_from([None, "1 second"]),
    st.integers(1, 12),
)
def test_the_plan_says_what_the_limiter_itself_does_next(
    events: list[tuple[int, int, bool]], denied: str, resolution: str | None, messages: int
) -> None:
    policy = policy_of(
        MessageRateLimit("6/10 seconds", denied=denied, resolution=resolution),  # type: ignore[arg-type]
        RecipientRateLimit("15/30 seconds"),
    )
    clock = ManualClock(NOON)
    backend = MemoryBackend(clock)
    limiter = Limiter(policy, backend)
    for pause, recipients, refund in events:
        decision = limiter.try_acquire(Envelope(ANN, [f"{i}@x.example" for i in range(recipients)]))
        if decision and refund:
            limiter.refund(decision)
        clock.advance(pause / 1000)
    result = plan(policy, messages, backend=backend)
    delays = []
    for _ in range(messages):
        while not (decision := limiter.check(Envelope(ANN, [BOB]))):
            assert decision.retry_after is not None
            clock.advance(decision.retry_after)
        limiter.try_acquire(Envelope(ANN, [BOB]))
        delays.append((clock() - NOON - sum(pause for pause, _, _ in events)) / 1000)
    assert list(result.delays) == delays


def test_the_plan_of_many_events_is_never_too_early() -> None:
    clock = ManualClock(NOON - 86_000_000)
    backend = MemoryBackend(clock)
    policy = policy_of(RecipientRateLimit("12000/day"))
    limiter = Limiter(policy, backend)
    for i in range(12_000):
        assert limiter.try_acquire(Envelope(ANN, [BOB]))
        clock.advance((i * 7919 % 13) / 1000 + 1)
    result = plan(policy, 12_000, backend=backend)
    sent, elapsed = [], 0.0
    for i in range(12_000):
        sent.append(elapsed)
        elapsed = round(elapsed + (i * 7919 % 13) / 1000 + 1, 3)
    exact = [86_400 - (elapsed - each) for each in sent]
    errors = [planned - each for planned, each in zip(result.delays, exact, strict=True)]
    assert min(errors) > -0.001
    assert max(errors) < 60


def test_history_in_a_sqlite_file_counts(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    with closing(SQLiteBackend(tmp_path / "counts.db", clock=clock)) as backend:
        policy = policy_of(MessageRateLimit("3/hour", denied="count"))
        limiter = Limiter(policy, backend)
        for _ in range(4):
            limiter.try_acquire(Envelope(ANN, [BOB]))
            clock.advance(60)
        result = plan(policy, 2, backend=backend)
        assert result.delays[0] == 3600 - 180  # the refused attempt counts
        assert limiter.usage(ANN)[0].used == 4


def test_a_start_in_the_future_forgets_what_has_left_by_then_and_a_past_one_is_an_error() -> None:
    backend = MemoryBackend(ManualClock(NOON))
    policy = policy_of(MessageRateLimit("1/hour"))
    Limiter(policy, backend).try_acquire(Envelope(ANN, [BOB]))
    assert plan(policy, 1, backend=backend, start=at(12, 30)).delays == (1800.0,)
    assert plan(policy, 1, backend=backend, start=at(13)).delays == (0.0,)
    with pytest.raises(ValueError, match="is in the past"):
        plan(policy, 1, backend=backend, start=at(11))


def test_a_block_delays_the_mailing_or_stops_it() -> None:
    backend = MemoryBackend(ManualClock(NOON))
    policy = policy_of(MessageRateLimit("10/hour"))
    limiter = Limiter(policy, backend)
    limiter.block(ANN, seconds=600, reason="checking")
    result = plan(policy, 1, backend=backend)
    assert result.first == at(12, 10)
    assert [str(each.limit) for each in result.held] == ["'ann@uwo.ca' is blocked: checking"]
    limiter.block(ANN, reason="account stolen")
    with pytest.raises(CannotFinish, match="is blocked: account stolen"):
        plan(policy, 1, backend=backend)


def test_no_message_goes_before_a_time() -> None:
    result = plan(policy_of(MessageRateLimit("1/hour")), 2, start=at(9), not_before=at(12))
    assert (result.start, result.first, result.last) == (at(9), at(12), at(13))
    assert plan(policy_of(), 1, start=at(9), not_before=at(8)).first == at(9)
    with pytest.raises(ValueError, match=r"not_before: .* has no time zone"):
        plan(policy_of(), 1, not_before=datetime(2026, 11, 23))


def test_messages_go_in_working_hours_alone() -> None:
    hours = WorkingHours.parse("mon-fri 09:00-17:00")
    policy = policy_of(MessageRateLimit("2/hour"))
    result = plan(policy, 8, start=at(15, day=27), hours=hours)  # a Friday
    times = [result.start + timedelta(seconds=each) for each in result.delays]
    assert times[3] == at(16, day=27)
    assert times[4] == at(9, day=30)
    assert times[7] == at(10, day=30)
    assert [str(each.limit) for each in result.held] == [
        "2 messages per hour per sender",
        "working hours Mon to Fri 09:00 to 17:00 UTC",
        "2 messages per hour per sender",
    ]


@pytest.mark.parametrize(
    ("notation", "moment", "expected"),
    [
        ("08:00-18:00", at(7), at(8)),
        ("08:00-18:00", at(17, 59), at(17, 59)),
        ("08:00-18:00", at(18), at(8, day=24)),
        ("sat,sun 08:00-18:00", at(12), at(8, day=28)),
        ("mon 22:00-06:00", at(23), at(23)),
        ("mon 22:00-06:00", at(5, day=24), at(5, day=24)),
        ("mon 22:00-06:00", at(6, day=24), at(22, day=30)),
        ("mon-sun 00:00-24:00", at(23, 59), at(23, 59)),
        ("fri-mon 0:00-24:00", at(12, day=24), at(0, day=27)),
    ],
)
def test_the_next_moment_in_working_hours(
    notation: str, moment: datetime, expected: datetime
) -> None:
    assert WorkingHours.parse(notation).next_open(moment) == expected


def test_working_hours_follow_daylight_saving_time() -> None:
    hours = WorkingHours.parse("mon-sun 08:00-18:00", ZoneInfo("Europe/London"))
    assert hours.next_open(datetime(2026, 10, 24, 20, tzinfo=UTC)).hour == 8
    assert hours.next_open(datetime(2026, 10, 23, 20, tzinfo=UTC)).hour == 7


@pytest.mark.parametrize(
    "notation", ["", "08:00", "08:00-25:00", "mon-xyz 08:00-18:00", "mon 8-18", "8:00-18:60"]
)
def test_a_wrong_notation_of_hours_is_an_error(notation: str) -> None:
    with pytest.raises(ValueError, match="is not a notation of hours"):
        WorkingHours.parse(notation)


def test_a_backend_is_a_sync_one() -> None:
    wrong: list[Any] = [AsyncRedisBackend.from_url("redis://localhost:1/0"), "memory:", Limiter]
    for each in wrong:
        with pytest.raises(TypeError, match="backend: a Backend that is not async is needed"):
            plan(policy_of(), 1, backend=each)
