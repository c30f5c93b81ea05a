"""Many attempts cause few events, and the memory for subjects is bounded."""

from __future__ import annotations

import threading
from collections import Counter
from inspect import signature

import pytest
from rlm_testkit.event_scene import EventScene

from ratelimit_mail import Envelope, MessageRateLimit, RecipientLimit, RecipientRateLimit
from ratelimit_mail.events.detector import EventDetector

DAY = 24 * 3600


def test_twenty_thousand_attempts_cause_a_few_events() -> None:
    quarter = RecipientRateLimit("50/15 minutes", denied="count")
    scene = EventScene(quarter, RecipientRateLimit("500/day", denied="count", on_excess="reject"))
    envelope = Envelope("stolen@uwo.ca", ["bob@example.com"])
    for _ in range(20_000):  # all of them in fourteen minutes
        decision = scene.limiter.try_acquire(envelope)
        scene.observe(envelope, decision)
        scene.clock.advance(0.04)
    events = scene.new_events()
    assert Counter(type(event).__name__ for event in events if event.limit == quarter) == {
        "NearLimit": 1,
        "FirstDenial": 1,
        "BurstAfterDenial": 1,
    }
    assert len(events) == 6  # three more for the limit per day
    assert scene.dispatcher.dropped == 0


def test_attempts_all_day_are_reported_at_most_once_a_window() -> None:
    quarter = RecipientRateLimit("50/15 minutes")
    scene = EventScene(quarter)
    envelope = Envelope("stolen@uwo.ca", ["bob@example.com"])
    for _ in range(10_000):
        scene.observe(envelope, scene.limiter.try_acquire(envelope))
        scene.clock.advance(DAY / 10_000)
    kinds = Counter(scene.new_kinds())
    windows = 24 * 4
    assert windows // 2 < kinds["FirstDenial"] <= windows
    assert kinds["BurstAfterDenial"] <= windows
    assert kinds["NearLimit"] <= windows
    assert kinds["BackToNormal"] == 0


def test_many_threads_cause_each_event_once() -> None:
    scene = EventScene(MessageRateLimit("500/day"), burst=10)
    start = threading.Barrier(8)

    def hammer() -> None:
        start.wait()
        for _ in range(100):
            scene.send()

    threads = [threading.Thread(target=hammer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(scene.new_kinds()) == ["BurstAfterDenial", "FirstDenial", "NearLimit"]


def test_at_most_100_000_subjects_are_remembered_unless_another_number_is_set() -> None:
    assert signature(EventDetector).parameters["most_subjects"].default == 100_000
    scene = EventScene(MessageRateLimit("10/day"), most_subjects=1000)
    for i in range(1100):
        scene.send(f"user{i}@uwo.ca")
    assert scene.detector.size() == 1000


@pytest.mark.drill
def test_a_hundred_thousand_subjects_are_remembered_and_no_more() -> None:
    scene = EventScene(MessageRateLimit("10/day"))
    for i in range(101_000):
        scene.send(f"user{i}@uwo.ca")
    assert scene.detector.size() == 100_000


def test_the_oldest_subjects_are_forgotten_first() -> None:
    scene = EventScene(RecipientLimit(1), MessageRateLimit("1/day"), most_subjects=100, near=1)
    for i in range(1000):
        scene.clock.advance(0.001)
        scene.send(f"user{i}@uwo.ca", recipients=2)
        scene.send(f"user{i}@uwo.ca")
        scene.send(f"user{i}@uwo.ca")
        assert scene.detector.size() <= 200
    scene.new_events()
    for i in range(951, 1000):
        scene.send(f"user{i}@uwo.ca")
    assert scene.new_kinds() == []  # still known
    scene.send("user0@uwo.ca")
    assert scene.new_kinds() == ["FirstDenial"]  # reported again


def test_the_oldest_subject_is_forgotten_regardless_of_its_window() -> None:
    minute = MessageRateLimit("1/minute")
    scene = EventScene(RecipientLimit(1), minute, most_subjects=2)
    scene.send("ann@uwo.ca", recipients=2)
    for sender in ("bob@uwo.ca", "cy@uwo.ca"):
        scene.clock.advance(1)
        scene.send(sender)
        scene.send(sender)
    scene.new_events()
    scene.clock.advance(30)
    scene.send("bob@uwo.ca")
    assert scene.new_kinds() == []
    scene.send("ann@uwo.ca", recipients=2)
    assert scene.new_kinds() == ["FirstDenial"]


def test_a_subject_is_forgotten_after_its_window() -> None:
    scene = EventScene(MessageRateLimit("1/hour"), RecipientLimit(1))
    for i in range(500):
        for recipients in (1, 1, 2):
            scene.send(f"user{i}@uwo.ca", recipients)
    assert scene.detector.size() == 1500
    scene.clock.advance(3600)
    scene.send("bob@uwo.ca")
    assert scene.detector.size() == 500 + 1
    scene.clock.advance(DAY)
    scene.send("bob@uwo.ca")
    assert scene.detector.size() == 1


def test_a_clock_that_goes_back_causes_no_error_and_no_second_report() -> None:
    scene = EventScene(MessageRateLimit("1/hour"), burst=1000)
    scene.clock.set(10**9)
    scene.send()
    scene.send()
    scene.clock.set(10**9 - 3_600_000 * 5)
    scene.send()
    scene.send()
    assert scene.new_kinds() == ["NearLimit", "FirstDenial"]
