"""Events of limits that only report: the same kinds as of enforced limits, and marked."""

from __future__ import annotations

import logging

import pytest
from rlm_testkit.builders import envelope_to

from ratelimit_mail import Limiter, MessageRateLimit, Policy
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.events import (
    BackToNormal,
    BurstAfterDenial,
    Dispatcher,
    Event,
    FirstDenial,
    NearLimit,
    log_events,
)
from ratelimit_mail.testing import ManualClock


def test_a_limit_that_only_reports_raises_the_same_events_as_if_it_were_enforced() -> None:
    kinds: list[list[type]] = []
    marks: list[set[bool]] = []
    for enforce in (True, False):
        clock = ManualClock()
        events: list[Event] = []
        dispatcher = Dispatcher(events.append)
        policy = Policy(name="test", limits=[MessageRateLimit("5/minute", enforce=enforce)])
        limiter = Limiter(policy, MemoryBackend(clock), on_event=dispatcher)
        for _ in range(70):
            decision = limiter.try_acquire(envelope_to(1))
            assert decision or enforce
        clock.advance(200)
        limiter.try_acquire(envelope_to(1))
        assert dispatcher.flush(30)
        kinds.append([type(event) for event in events])
        marks.append({event.enforced for event in events})
    assert kinds[0] == kinds[1] == [NearLimit, FirstDenial, BurstAfterDenial, BackToNormal]
    assert marks == [{True}, {False}]


def test_the_log_says_that_a_limit_only_reports(caplog: pytest.LogCaptureFixture) -> None:
    dispatcher = Dispatcher(log_events())
    policy = Policy(name="test", limits=[MessageRateLimit("1/minute", enforce=False)])
    limiter = Limiter(policy, on_event=dispatcher)
    with caplog.at_level(logging.INFO):
        assert limiter.try_acquire(envelope_to(1))
        assert limiter.try_acquire(envelope_to(1))
        assert dispatcher.flush(30)
    lines = [record for record in caplog.records if record.name == "ratelimit_mail.events"]
    assert all("(only reported)" in record.getMessage() for record in lines)
    assert [record.__dict__["event"] for record in lines] == ["NearLimit", "FirstDenial"]
    assert [record.__dict__["enforced"] for record in lines] == [False, False]
