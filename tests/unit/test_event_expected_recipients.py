"""ExpectedRecipientsExceeded: reported when an override's expected number is passed."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest
from rlm_testkit.builders import envelope_to
from rlm_testkit.event_scene import CountingBackend, EventScene, utc

from ratelimit_mail import (
    AsyncLimiter,
    Client,
    Directory,
    Envelope,
    Exemption,
    Limiter,
    MessageRateLimit,
    Override,
    Policy,
    RecipientLimit,
    RecipientRateLimit,
    Tier,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.backends.base import Reading
from ratelimit_mail.conditions import has_tag
from ratelimit_mail.counting.charge import Ledger
from ratelimit_mail.events import Dispatcher, Event, ExpectedRecipientsExceeded
from ratelimit_mail.exceptions import BackendUnavailable
from ratelimit_mail.limits import Limit
from ratelimit_mail.testing import ManualClock

ANN, BOB = "ann@uwo.ca", "bob@uwo.ca"
DAY = 24 * 3600
PER_MESSAGE = RecipientLimit(100, name="recipients a message")
PER_DAY = RecipientRateLimit("10000/day", name="recipients a day")
RAISED = Override(
    {"recipients a message": 500}, senders=[ANN], reason="Open day", expected_recipients=350
)


def expecting(number: int) -> Override:
    return Override({"recipients a message": 500}, senders=[ANN], expected_recipients=number)


def scene_of(*overrides: Override, limits: tuple[Limit, ...] = (PER_DAY,)) -> EventScene:
    return EventScene(PER_MESSAGE, *limits, overrides=overrides or (RAISED,))


def reported(scene: EventScene) -> list[int]:
    """Return the numbers of recipients of the events since the last call."""
    return [
        event.recipients
        for event in scene.new_events()
        if isinstance(event, ExpectedRecipientsExceeded)
    ]


def test_the_event_says_which_override_and_how_many_recipients() -> None:
    scene = scene_of()
    scene.send(recipients=350)
    assert scene.new_events() == []
    scene.clock.advance(2)
    laptop = Client(address="10.1.2.3")
    scene.send(recipients=2, client=laptop)
    assert scene.new_events() == [
        ExpectedRecipientsExceeded(
            sender=ANN,
            subject=ANN,
            limit=PER_DAY,
            policy="campus",
            tier=None,
            at=utc(2),
            client=laptop,
            override=RAISED,
            expected=350,
            recipients=352,
        )
    ]


def test_it_is_reported_with_the_first_message_above_the_number_once_a_window() -> None:
    scene = scene_of()
    numbers: list[int] = []
    for _ in range(400):
        scene.send()
        numbers += reported(scene)
        scene.clock.advance(1)
    assert numbers == [351]
    scene.clock.advance(DAY)
    scene.send(recipients=400)
    assert reported(scene) == [400]


def test_a_sender_without_the_override_is_not_reported() -> None:
    scene = scene_of()
    for _ in range(10):
        scene.send(BOB, recipients=100)
    assert reported(scene) == []


def test_each_sender_of_an_override_is_reported() -> None:
    scene = scene_of(Override({"recipients a day": 500}, senders=["uwo.ca"], expected_recipients=9))
    for sender in (ANN, BOB, ANN, BOB):
        scene.send(sender, recipients=10)
    assert reported(scene) == [10, 10]


def test_an_override_without_an_expected_number_is_not_reported() -> None:
    scene = scene_of(Override({"recipients a day": 50}, senders=[ANN]))
    scene.send(recipients=50)
    assert reported(scene) == []


def test_refused_messages_do_not_count() -> None:
    counted = RecipientRateLimit("300/day", name="recipients a day", denied="count")
    override = Override({"recipients a message": 500}, senders=[ANN], expected_recipients=300)
    scene = scene_of(override, limits=(counted,))
    scene.send(recipients=300)
    for _ in range(5):
        assert not scene.send(recipients=10)
    assert not scene.send(recipients=501)
    assert reported(scene) == []


def test_refunded_messages_do_not_count() -> None:
    scene = scene_of()
    for _ in range(5):
        scene.limiter.refund(scene.send(recipients=100))
    scene.send(recipients=350)
    assert reported(scene) == []


def test_messages_of_other_processes_count() -> None:
    scene = scene_of()
    other = Limiter(scene.policy, scene.backend)  # not observed
    scene.send(recipients=100)
    assert other.try_acquire(envelope_to(300, ANN))
    scene.clock.advance(DAY / 20)
    scene.send()
    assert reported(scene) == [401]


def test_a_restarted_process_knows_what_was_sent_before() -> None:
    scene = scene_of()
    scene.send(recipients=350)
    again = EventScene(PER_MESSAGE, PER_DAY, overrides=[RAISED], backend=scene.backend)
    again.send()
    assert reported(again) == [351]


def test_the_count_is_read_once_while_the_number_cannot_be_passed() -> None:
    scene = scene_of()
    scene.send()
    reads = scene.backend.reads
    for _ in range(349):
        scene.send()
    assert scene.backend.reads == reads
    scene.send()
    assert reported(scene) == [351]
    reads = scene.backend.reads
    for _ in range(300):
        scene.send()
    assert scene.backend.reads == reads


def test_the_longest_window_counts() -> None:
    per_hour = RecipientRateLimit("1000/hour")
    scene = scene_of(limits=(per_hour, PER_DAY))
    for _ in range(5):
        scene.send(recipients=80)
        scene.clock.advance(3600)
    [event] = scene.new_events()
    assert (event.limit, event.at) == (PER_DAY, utc(4 * 3600))


def test_a_policy_that_counts_external_recipients_compares_these() -> None:
    external = RecipientRateLimit("500/day", count="external")
    scene = EventScene(
        PER_MESSAGE, external, overrides=[expecting(10)], internal_domains=["uwo.ca"]
    )
    scene.send(recipients=[f"user{i}@uwo.ca" for i in range(100)])
    scene.send(recipients=10)
    assert reported(scene) == []
    scene.send()
    assert reported(scene) == [11]


def test_an_alias_is_counted_as_its_owner() -> None:
    directory = Directory({"a.smith@uwo.ca": ANN})
    scene = EventScene(PER_MESSAGE, PER_DAY, overrides=[expecting(10)], directory=directory)
    scene.send(recipients=6)
    scene.send("a.smith@uwo.ca", recipients=6)
    [event] = scene.new_events()
    assert (event.sender, event.subject) == ("a.smith@uwo.ca", ANN)


# Without a recipient rate limit per sender


@pytest.mark.parametrize(
    "limits",
    [
        (),
        (MessageRateLimit("1000/minute"),),
        (RecipientRateLimit("9000/day", scope="client"),),
        (RecipientRateLimit("9000/day", enforce=False),),
        (RecipientRateLimit("9000/day", direction="inbound"),),
    ],
)
def test_without_a_recipient_limit_per_sender_the_limiter_counts_24_hours_by_itself(
    limits: tuple[Limit, ...],
) -> None:
    scene = scene_of(limits=limits)
    scene.send(recipients=300)
    scene.clock.advance(DAY / 2)
    scene.send(recipients=50)
    assert scene.new_events() == []
    scene.send()
    [event] = scene.new_events()
    assert isinstance(event, ExpectedRecipientsExceeded)
    assert (event.recipients, event.limit) == (351, None)
    scene.send(recipients=400)
    assert scene.new_events() == []
    scene.clock.advance(DAY / 2 + 60)
    assert scene.send(recipients=400)
    assert scene.new_events() == []  # reported at most once in 24 hours
    scene.clock.advance(DAY / 2)
    scene.send()
    assert reported(scene) == [401]


def test_what_has_left_the_24_hours_does_not_count() -> None:
    scene = scene_of(limits=())
    for _ in range(5):
        scene.send(recipients=350)
        scene.clock.advance(DAY + 60)
    assert reported(scene) == []


def test_overrides_with_different_numbers_are_reported_separately() -> None:
    first, second = (
        expecting(10),
        Override({"recipients a day": 20}, senders=["uwo.ca"], expected_recipients=15),
    )
    for limits in ((), (PER_DAY,)):
        limit = RecipientRateLimit("50/day", name="recipients a day", scope="client")
        scene = scene_of(first, second, limits=limits or (limit,))
        numbers: list[int] = []
        for _ in range(18):
            scene.send()
            numbers += reported(scene)
        assert numbers == [11, 16]


# Which overrides apply


def test_an_earlier_override_of_the_same_limit_takes_precedence() -> None:
    wide = Override({"recipients a message": 900}, senders=["uwo.ca"], expected_recipients=5)
    scene = scene_of(RAISED, wide)
    scene.send(recipients=50)
    assert reported(scene) == []
    scene.send(BOB, recipients=50)
    assert reported(scene) == [50]


def test_an_override_of_a_limit_that_the_sender_is_exempt_from_does_not_apply() -> None:
    for exemption in (Exemption(senders=[ANN]), Exemption(["recipients a message"], senders=[ANN])):
        scene = EventScene(PER_MESSAGE, PER_DAY, overrides=[RAISED], exemptions=[exemption])
        scene.send(recipients=400)
        assert reported(scene) == []


def test_an_override_of_a_limit_of_another_tier_does_not_apply() -> None:
    tier = Tier("wireless", when=has_tag("wireless"), limits=[PER_DAY])
    override = Override({"recipients a day": 900}, senders=[ANN], expected_recipients=5)
    scene = EventScene(PER_MESSAGE, tiers=[tier], overrides=[override])
    scene.send(recipients=10)
    assert reported(scene) == []
    scene.send(recipients=10, client=Client(tags=["wireless"]))
    [event] = scene.new_events()
    assert event.tier == "wireless"


def test_an_override_that_has_not_begun_or_has_ended_is_not_reported() -> None:
    override = Override(
        {"recipients a message": 500},
        senders=[ANN],
        expected_recipients=10,
        starts=datetime(1970, 1, 1, 1, tzinfo=UTC),
        ends=datetime(1970, 1, 1, 2, tzinfo=UTC),
    )
    scene = scene_of(override)
    scene.send(recipients=11)
    assert reported(scene) == []
    scene.clock.advance(3600)
    scene.send()
    assert reported(scene) == [12]  # what was sent before still counts
    scene.clock.advance(DAY)
    scene.send(recipients=11)
    assert reported(scene) == []


# Limits of the detector


class BrokenBackend(CountingBackend):
    """A backend whose counts cannot be read."""

    def usage(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        self.reads += 1
        raise BackendUnavailable("no connection")


def test_a_count_that_cannot_be_read_is_tried_again_after_ten_seconds() -> None:
    backend = BrokenBackend(ManualClock(0))
    scene = EventScene(PER_MESSAGE, PER_DAY, overrides=[RAISED], backend=backend)
    for _ in range(20):
        scene.send(recipients=100)
    reads = backend.reads
    backend.clock.advance(10)
    scene.send()
    assert (reads, backend.reads) == (2, 4)  # NearLimit reads it too
    assert scene.new_events() == []


def test_many_threads_cause_one_event() -> None:
    scene = scene_of()
    start = threading.Barrier(4)

    def hammer() -> None:
        start.wait()
        for _ in range(120):
            scene.send()

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reported(scene)) == 1


@pytest.mark.parametrize("limits", [(), (PER_DAY,)])
def test_the_memory_for_senders_is_bounded(limits: tuple[Limit, ...]) -> None:
    override = Override({"recipients a message": 500}, senders=["uwo.ca"], expected_recipients=3)
    scene = EventScene(PER_MESSAGE, *limits, overrides=[override], most_subjects=10)
    for number in range(100):
        scene.send(f"user{number}@uwo.ca")
    assert scene.detector.size() <= 20


async def test_both_limiters_report_it_and_incoming_mail_does_not_count() -> None:
    policy = Policy(name="campus", limits=[PER_MESSAGE, PER_DAY], overrides=[expecting(5)])
    for is_async in (False, True):
        events: list[Event] = []
        dispatcher = Dispatcher(events.append)
        backend = MemoryBackend(ManualClock(0))
        incoming = Envelope(ANN, [f"user{i}@uwo.ca" for i in range(9)], direction="inbound")
        for envelope in (incoming, envelope_to(5, ANN), envelope_to(1, ANN)):
            if is_async:
                limiter = AsyncLimiter(policy, backend, on_event=dispatcher)
                assert await limiter.try_acquire(envelope)
            else:
                assert Limiter(policy, backend, on_event=dispatcher).try_acquire(envelope)
        assert dispatcher.flush(60)
        [event] = events
        assert isinstance(event, ExpectedRecipientsExceeded)
        assert event.recipients == 6
