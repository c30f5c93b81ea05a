"""FirstDenial, BurstAfterDenial and BackToNormal: when they are reported, and what they say."""

from __future__ import annotations

from itertools import pairwise

import pytest
from rlm_testkit.event_scene import EventScene, utc

from ratelimit_mail import (
    Action,
    Client,
    Decision,
    Envelope,
    MessageRateLimit,
    RecipientLimit,
    RecipientRateLimit,
    Tier,
)
from ratelimit_mail.conditions import has_tag
from ratelimit_mail.events import BackToNormal, BurstAfterDenial, FirstDenial, NearLimit

DAY = 24 * 3600
LAPTOP = Client(address="10.1.2.3", user="ann")
MINUTE = MessageRateLimit("5/minute")


def test_a_first_denial_names_the_sender_and_the_limit() -> None:
    scene = EventScene(MINUTE, near=1)
    for _ in range(5):
        assert scene.send(client=LAPTOP)
    scene.new_events()
    scene.clock.advance(1.5)
    decision = scene.send(client=LAPTOP)
    [event] = scene.new_events()
    assert event == FirstDenial(
        sender="ann@uwo.ca",
        subject="ann@uwo.ca",
        limit=MINUTE,
        policy="campus",
        tier=None,
        at=utc(1.5),
        client=LAPTOP,
        decision=decision,
    )


def test_the_next_first_denial_is_reported_a_window_after_the_last() -> None:
    scene = EventScene(MessageRateLimit("1/minute"), burst=1000)
    scene.send()
    denials = []
    for _ in range(300):  # denied nearly all the time, for five minutes
        scene.clock.advance(1)
        scene.send()
        denials += [event for event in scene.new_events() if isinstance(event, FirstDenial)]
    seconds = [event.at.timestamp() for event in denials]
    assert seconds == [1, 61, 121, 181, 241]


def test_each_limit_and_each_sender_has_its_own_first_denial() -> None:
    day = RecipientRateLimit("8/day")
    scene = EventScene(MessageRateLimit("2/minute"), day, near=1)
    denials = []
    for sender, recipients in [("ann", 1), ("ann", 1), ("ann", 1), ("bob", 8), ("bob", 1)]:
        scene.send(f"{sender}@uwo.ca", recipients)
    scene.clock.advance(60)
    scene.send(recipients=8)
    denials = [event for event in scene.new_events() if isinstance(event, FirstDenial)]
    assert [(event.sender, str(event.limit)) for event in denials] == [
        ("ann@uwo.ca", "2 messages per minute per sender"),
        ("bob@uwo.ca", "8 recipients per day per sender"),
        ("ann@uwo.ca", "8 recipients per day per sender"),
    ]


def test_an_event_names_the_tier_of_the_client() -> None:
    tiers = [Tier("wireless", when=has_tag("wireless"), limits=[MessageRateLimit("1/day")])]
    scene = EventScene(tiers=tiers)
    for _ in range(2):
        scene.send(client=Client(tags=["wireless"]))
    assert {event.tier for event in scene.new_events()} == {"wireless"}


def test_a_limit_on_one_message_has_one_first_denial_a_day_and_no_back_to_normal() -> None:
    scene = EventScene(RecipientLimit(3), burst=1000)
    times = []
    for hour in range(60):
        scene.send(recipients=4)
        times += [(hour, type(event).__name__) for event in scene.new_events()]
        scene.clock.advance(3600)
    assert times == [(0, "FirstDenial"), (24, "FirstDenial"), (48, "FirstDenial")]
    scene.clock.advance(10 * DAY)
    scene.send("bob@uwo.ca")
    assert scene.new_kinds() == []


def test_a_rule_has_one_first_denial_a_day() -> None:
    scene = EventScene(grants=[])
    for _ in range(5):
        decision = scene.send()
    [event] = scene.new_events()
    assert isinstance(event, FirstDenial)
    assert event.limit is None
    assert event.decision == decision
    assert decision.rule is not None


def test_the_subject_of_a_message_that_can_never_go_is_its_sender() -> None:
    limit = RecipientRateLimit("3/day", scope="client")
    scene = EventScene(limit)
    scene.send(recipients=4, client=LAPTOP)
    [event] = scene.new_events()
    assert isinstance(event, FirstDenial)
    assert (event.limit, event.subject) == (limit, "ann@uwo.ca")


def test_a_message_deferred_by_an_outage_is_not_a_denial() -> None:
    scene = EventScene(MINUTE)
    envelope = Envelope("ann@uwo.ca", ["bob@example.com"])
    scene.observe(envelope, Decision(Action.DEFER, 0.5, degraded=True))
    scene.observe(envelope, Decision(Action.ACCEPT, degraded=True))
    assert scene.new_kinds() == []
    assert scene.backend.reads == 0


@pytest.mark.parametrize(
    ("scope", "client", "words"),
    [
        ("client", LAPTOP, "10.1.2.3"),
        ("client", None, "no client"),
        ("user", LAPTOP, "ann"),
        ("sender_domain", None, "uwo.ca"),
        ("recipient", None, "user0@example.com"),
        ("global", None, "everybody"),
        (("sender", "recipient_domain"), None, "ann@uwo.ca and example.com"),
    ],
)
def test_the_subject_is_what_the_limit_counts_the_message_for(
    scope: str | tuple[str, ...], client: Client | None, words: str
) -> None:
    scene = EventScene(MessageRateLimit("1/day", scope=scope))
    scene.send(client=client)
    scene.send(client=client)
    near, denial = scene.new_events()
    assert isinstance(near, NearLimit)
    assert isinstance(denial, FirstDenial)
    assert near.subject == denial.subject == words


def test_the_subject_is_the_sender_if_the_limit_counts_several_recipients() -> None:
    scene = EventScene(MessageRateLimit("1/day", scope="recipient"))
    scene.send(recipients=["a@x.org"])
    scene.new_events()
    scene.send(recipients=["a@x.org", "b@x.org"])
    [event] = scene.new_events()
    assert (type(event), event.subject) == (FirstDenial, "ann@uwo.ca")


def test_a_subject_shared_by_several_senders_is_reported_once() -> None:
    scene = EventScene(MessageRateLimit("2/day", scope="global"), near=1)
    for i in range(9):
        scene.send(f"user{i}@uwo.ca")
    events = scene.new_events()
    assert [(type(event), event.sender) for event in events] == [
        (NearLimit, "user1@uwo.ca"),
        (FirstDenial, "user2@uwo.ca"),
    ]


def test_a_burst_is_a_number_of_further_denials_within_a_minute() -> None:
    scene = EventScene(MessageRateLimit("1/day"), near=1, burst=3, burst_seconds=60)
    scene.send()
    scene.new_events()
    seconds = [0, 10, 40, 69, 69.999, 80]
    kinds = []
    for second in seconds:
        scene.clock.set(int(second * 1000))
        scene.send()
        kinds.append(scene.new_events())
    assert [[type(event) for event in events] for events in kinds] == [
        [FirstDenial],
        [],
        [],
        [BurstAfterDenial],
        [],
        [],
    ]
    [burst] = kinds[3]
    assert isinstance(burst, BurstAfterDenial)
    assert (burst.attempts, burst.seconds) == (3, 59.0)
    assert burst.at == utc(69)


def test_a_burst_may_start_at_any_denial() -> None:
    scene = EventScene(MessageRateLimit("1/day"), near=1, burst=3, burst_seconds=60)
    scene.send()
    for second in [0, 10, 65, 71]:
        scene.clock.set(second * 1000)
        scene.send()
    assert scene.new_kinds() == ["NearLimit", "FirstDenial"]
    scene.clock.set(72_000)
    scene.send()
    [burst] = scene.new_events()
    assert isinstance(burst, BurstAfterDenial)
    assert burst.seconds == 7.0


def test_slow_denials_are_not_a_burst() -> None:
    scene = EventScene(MessageRateLimit("1/day"), burst=3, burst_seconds=60)
    for _ in range(100):
        scene.clock.advance(30)  # three denials take 60 seconds, which is not within 60
        scene.send()
    assert "BurstAfterDenial" not in scene.new_kinds()


def test_the_next_burst_is_reported_a_window_later() -> None:
    scene = EventScene(MessageRateLimit("1/hour"), burst=10)
    bursts = []
    for _ in range(3 * 3600):
        scene.send()
        scene.clock.advance(1)
        bursts += [event for event in scene.new_events() if isinstance(event, BurstAfterDenial)]
    gaps = [b.at - a.at for a, b in pairwise(bursts)]
    assert len(bursts) == 3
    assert all(gap.total_seconds() >= 3600 for gap in gaps)


def test_a_continuing_burst_is_reported_once_a_window_exactly() -> None:
    scene = EventScene(MessageRateLimit("1/minute"), burst=1)
    bursts = []
    for _ in range(130):
        scene.send()
        bursts += [event for event in scene.new_events() if isinstance(event, BurstAfterDenial)]
        scene.clock.advance(1)
    assert [event.at.timestamp() for event in bursts] == [2, 62, 122]


def test_a_sender_without_a_denial_for_a_window_is_back_to_normal() -> None:
    scene = EventScene(MessageRateLimit("1/minute"), near=1)
    for _ in range(4):
        scene.clock.advance(1)
        scene.send(client=LAPTOP)
    scene.new_events()
    scene.clock.advance(59.999)
    scene.send("bob@uwo.ca", client=Client(address="10.9.9.9"))
    assert scene.new_kinds() == ["NearLimit"]
    scene.clock.advance(0.001)
    scene.send("bob@uwo.ca")  # any call
    back, denial = scene.new_events()
    assert back == BackToNormal(
        sender="ann@uwo.ca",
        subject="ann@uwo.ca",
        limit=MessageRateLimit("1/minute"),
        policy="campus",
        tier=None,
        at=utc(64),
        client=LAPTOP,
        denials=3,
        since=utc(2),
    )
    assert (type(denial), denial.sender) == (FirstDenial, "bob@uwo.ca")
    scene.clock.advance(1000)
    scene.send()
    assert [event.sender for event in scene.new_events() if isinstance(event, BackToNormal)] == [
        "bob@uwo.ca"
    ]


def test_a_new_denial_after_a_window_follows_a_back_to_normal() -> None:
    scene = EventScene(MessageRateLimit("1/minute", denied="ignore"), near=1)
    scene.send()
    scene.send()
    scene.clock.advance(60)
    scene.send()
    scene.send()
    assert scene.new_kinds() == [
        "NearLimit",
        "FirstDenial",
        "BackToNormal",
        "NearLimit",
        "FirstDenial",
    ]
