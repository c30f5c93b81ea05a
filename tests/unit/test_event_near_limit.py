"""NearLimit: reported with the message that reaches the mark, with few reads of the counts."""

from __future__ import annotations

from collections import Counter

import pytest
from rlm_testkit.event_scene import EventScene, utc

from ratelimit_mail import Client, Envelope, MessageRateLimit, RecipientRateLimit, Tier
from ratelimit_mail.conditions import has_tag
from ratelimit_mail.events import Event, NearLimit

LAPTOP = Client(address="10.1.2.3", user="ann")


def test_near_limit_reports_how_much_is_used() -> None:
    limit = RecipientRateLimit("10/hour")
    scene = EventScene(limit)
    scene.send(recipients=7)
    assert scene.new_kinds() == []
    scene.clock.advance(2)
    scene.send(recipients=2, client=LAPTOP)
    assert scene.new_events() == [
        NearLimit(
            sender="ann@uwo.ca",
            subject="ann@uwo.ca",
            limit=limit,
            policy="campus",
            tier=None,
            at=utc(2),
            client=LAPTOP,
            used=9,
            share=0.9,
        )
    ]


@pytest.mark.parametrize(
    ("near", "limit", "mark"),
    [(0.8, 10, 8), (0.8, 11, 9), (0.7, 10, 7), (0.1, 30, 3), (1, 5, 5), (0.0000001, 5, 1)],
)
def test_the_mark_is_the_share_rounded_up(near: float, limit: int, mark: int) -> None:
    scene = EventScene(MessageRateLimit(f"{limit}/hour"), near=near)
    for sent in range(1, limit + 1):
        scene.send()
        assert scene.new_kinds() == (["NearLimit"] if sent == mark else [])


def test_the_lower_mark_of_two_limits_on_one_count_is_reported() -> None:
    scene = EventScene(MessageRateLimit("10/minute"), MessageRateLimit("1000/day"))
    kinds: list[str] = []
    for _ in range(8):
        assert kinds == []
        scene.send()
        kinds += scene.new_kinds()
    assert kinds == ["NearLimit"]


def test_a_sender_in_more_tiers_than_are_remembered_is_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tiers = [
        Tier(tag, when=has_tag(tag), limits=[MessageRateLimit(f"{100 + ord(tag)}/day")])
        for tag in "abcdefghijkl"
    ]
    scene = EventScene(MessageRateLimit("50/hour"), tiers=tiers)
    events: list[Event] = []
    for sent in range(50):
        scene.send(client=Client(tags=["abcdefghijkl"[sent % 12]]))
        events += scene.new_events()
        assert len(events) == (1 if sent >= 39 else 0)
    assert caplog.records == []


def test_far_from_the_limits_only_the_first_message_of_a_sender_reads_counts() -> None:
    scene = EventScene(MessageRateLimit("10000/day"), RecipientRateLimit("5000/hour"))
    for _ in range(3000):
        scene.send()
    assert scene.backend.reads == 1
    assert scene.new_kinds() == []


def test_after_a_report_no_counts_are_read_for_a_window() -> None:
    scene = EventScene(MessageRateLimit("100/hour"))
    for _ in range(80):
        scene.send()
    reads = scene.backend.reads
    for _ in range(1000):
        scene.clock.advance(3.599)
        scene.send()
    assert scene.backend.reads == reads
    assert scene.new_kinds().count("NearLimit") == 1


def test_a_sender_above_a_limit_is_not_reported_as_near_it() -> None:
    scene = EventScene(RecipientRateLimit("10/hour", denied="count"))
    scene.send(recipients=5)
    assert not scene.send(recipients=6)
    assert scene.new_kinds() == ["FirstDenial"]


def test_a_denied_attempt_that_is_not_counted_does_not_raise_the_usage() -> None:
    scene = EventScene(RecipientRateLimit("10/hour"))
    scene.send(recipients=5)
    assert not scene.send(recipients=6)
    assert scene.new_kinds() == ["FirstDenial"]


def test_charges_of_another_process_are_noticed_after_a_twentieth_of_the_window() -> None:
    scene = EventScene(MessageRateLimit("100/hour"))
    scene.send()
    for _ in range(90):  # not observed
        scene.limiter.try_acquire(Envelope("ann@uwo.ca", ["bob@example.com"]))
    scene.clock.advance(3600 / 20 - 1)
    scene.send()
    assert scene.new_kinds() == []
    scene.clock.advance(1)
    scene.send()
    assert scene.new_kinds() == ["NearLimit"]


def test_a_message_to_many_new_recipients_reads_only_a_few_counts() -> None:
    scene = EventScene(MessageRateLimit("2/day", scope="recipient"), near=1)
    scene.send(recipients=500)
    assert scene.backend.reads <= 10
    for i in range(500):
        scene.send(recipients=[f"user{i}@example.com"])
    assert Counter(event.subject for event in scene.new_events()) == Counter(
        f"user{i}@example.com" for i in range(500)
    )
