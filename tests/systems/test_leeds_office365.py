"""S1 to S3, Leeds's Office 365: the page's limits, the delay, and a raised limit."""

from __future__ import annotations

from datetime import UTC, date, datetime
from email.message import EmailMessage
from typing import Any

import pytest
from rlm_testkit.builders import envelope_to, limit_name

from ratelimit_mail import (
    Action,
    Limiter,
    Policy,
    RateLimitExceeded,
    presets,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.events import Dispatcher, Event, ExpectedRecipientsExceeded
from ratelimit_mail.overrides import Override
from ratelimit_mail.testing import ManualClock

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR
ANN, BOB = "ann@leeds.ac.uk", "bob@leeds.ac.uk"
NINE = datetime(2026, 3, 2, 9, tzinfo=UTC)
OPEN_DAY = Override(
    {"recipients a message": 500},
    senders=[ANN],
    reason="Open day invitations",
    granted_by="IT Service Desk",
    expected_recipients=350,
    starts=NINE.date(),
    ends=date(2026, 3, 31),
)


def leeds(policy: Policy | None = None) -> tuple[Limiter, ManualClock]:
    clock = ManualClock(int(NINE.timestamp() * 1000))
    policy = policy or presets.leeds_office365()
    return Limiter(policy, MemoryBackend(clock), sleep=clock.advance), clock


def merged(number: int) -> EmailMessage:
    """Return one message of a mail merge."""
    message = EmailMessage()
    message["From"], message["To"] = ANN, f"user{number}@example.com"
    return message


# S1: the limits


def test_100_recipients_can_be_added_to_an_email_and_with_more_it_will_not_send() -> None:
    limiter, clock = leeds()
    assert limiter.try_acquire(envelope_to(100, ANN))
    decision = limiter.try_acquire(envelope_to(101, ANN))
    assert (decision.action, decision.retry_after) == (Action.REJECT, None)
    assert str(decision.reply) == "550 5.5.3 Too many recipients: at most 100 in one message."
    clock.advance(7 * DAY)
    assert not limiter.try_acquire(envelope_to(101, ANN))  # waiting does not help
    with pytest.raises(RateLimitExceeded):
        limiter.acquire(envelope_to(101, ANN))


def test_30_emails_can_be_sent_every_minute_and_more_are_queued_and_gradually_released() -> None:
    limiter, _ = leeds()
    delays = [limiter.reserve(envelope_to(sender=ANN)).delay for _ in range(100)]
    assert delays == [0.0] * 30 + [60.0] * 30 + [120.0] * 30 + [180.0] * 10


def test_emails_sent_one_by_one_are_released_one_by_one() -> None:
    limiter, clock = leeds()
    for _ in range(30):
        assert limiter.try_acquire(envelope_to(sender=ANN))
        clock.advance(1)
    assert [limiter.reserve(envelope_to(sender=ANN)).delay for _ in range(5)] == [
        30.0,
        31.0,
        32.0,
        33.0,
        34.0,
    ]


def test_no_minute_has_more_than_30_from_any_start() -> None:
    limiter, clock = leeds()
    sent: list[int] = []
    for _ in range(10 * MINUTE):
        if limiter.try_acquire(envelope_to(sender=ANN)):
            sent.append(clock())
        clock.advance(0.77)
    assert max(sum(at <= other < at + 60_000 for other in sent) for at in sent) == 30


def test_10000_recipients_in_24_hours_and_then_you_have_to_wait() -> None:
    limiter, clock = leeds()
    for _ in range(100):
        assert limiter.try_acquire(envelope_to(100, ANN))
        clock.advance(MINUTE)
    decision = limiter.try_acquire(envelope_to(sender=ANN))
    assert (decision.action, limit_name(decision)) == (Action.DEFER, "recipients a day")
    assert decision.retry_after == DAY - 100 * MINUTE
    clock.advance(decision.retry_after - 0.001)
    assert not limiter.try_acquire(envelope_to(100, ANN))
    clock.advance(0.001)
    assert limiter.try_acquire(envelope_to(100, ANN))


def test_emails_of_one_account_do_not_delay_another() -> None:
    limiter, _ = leeds()
    assert all(limiter.try_acquire(envelope_to(sender=ANN)) for _ in range(30))
    assert not limiter.try_acquire(envelope_to(sender=ANN))
    assert limiter.try_acquire(envelope_to(sender=BOB))


# S2: delay


def test_a_sender_over_the_rate_is_told_that_the_email_is_delayed_and_for_how_long() -> None:
    limiter, clock = leeds()
    assert all(limiter.try_acquire(envelope_to(sender=ANN)) for _ in range(30))
    clock.advance(20)
    decision = limiter.try_acquire(envelope_to(sender=ANN))
    assert decision.action is Action.DEFER
    assert str(decision.reply) == "450 4.7.1 Message rate limit exceeded. Try again later."
    assert decision.retry_after == 40.0


def test_emails_wait_in_a_queue_that_is_retried_periodically_until_all_have_been_sent() -> None:
    limiter, clock = leeds()
    start, sent = clock(), dict[int, float]()
    queue = list(range(100))
    while queue:
        for number in list(queue):
            if limiter.try_acquire(envelope_to(sender=ANN)):
                queue.remove(number)
                sent[number] = (clock() - start) / 1000
        clock.advance(5 * MINUTE)  # how often a mail server retries its queue
    assert list(sent) == list(range(100))  # in order, each once
    assert [list(sent.values()).count(at * 5 * MINUTE) for at in range(4)] == [30, 30, 30, 10]


def test_retrying_does_not_push_an_email_further_back() -> None:
    limiter, clock = leeds()
    assert all(limiter.try_acquire(envelope_to(sender=ANN)) for _ in range(30))
    for _ in range(59):
        clock.advance(1)
        assert not limiter.try_acquire(envelope_to(sender=ANN))
    clock.advance(1)
    assert limiter.try_acquire(envelope_to(sender=ANN))


def test_once_the_rate_drops_below_the_limit_the_emails_are_sent_in_the_order_they_came() -> None:
    limiter, clock = leeds()
    start, sent = clock(), list[float]()
    for _ in range(95):
        limiter.acquire(envelope_to(sender=ANN))  # waits; time is the clock's
        sent.append((clock() - start) / 1000)
    assert sent == [0.0] * 30 + [60.0] * 30 + [120.0] * 30 + [180.0] * 5


def test_a_small_email_does_not_overtake_the_large_one_that_waits_before_it() -> None:
    limiter, _ = leeds(presets.leeds_office365(recipient_rate="100/day"))
    assert limiter.reserve(envelope_to(80, ANN)).delay == 0.0
    assert limiter.reserve(envelope_to(60, ANN)).delay == DAY
    assert limiter.reserve(envelope_to(sender=ANN)).delay == DAY


def test_emails_of_a_decorated_function_need_not_be_resent() -> None:
    limiter, clock = leeds()
    start, sent = clock(), list[tuple[str, float]]()

    @limiter.limited(on_denied="wait")
    def send(message: EmailMessage) -> None:
        sent.append((message["To"], (clock() - start) / 1000))

    for number in range(70):
        send(merged(number))  # each is handed over once
    assert [to for to, _ in sent] == [f"user{i}@example.com" for i in range(70)]
    assert [at for _, at in sent] == [0.0] * 30 + [60.0] * 30 + [120.0] * 10


# S3: a higher limit


def test_the_limit_of_one_email_is_raised_to_500_on_request_with_a_reason() -> None:
    limiter, _ = leeds(presets.leeds_office365(overrides=[OPEN_DAY]))
    assert limiter.try_acquire(envelope_to(500, ANN))
    assert limit_name(limiter.try_acquire(envelope_to(501, ANN))) == "recipients a message"
    assert limit_name(limiter.try_acquire(envelope_to(101, BOB))) == "recipients a message"


def test_the_override_records_the_reason_and_the_expected_recipients() -> None:
    [raised] = presets.leeds_office365(overrides=[OPEN_DAY]).overrides
    assert raised.reason == "Open day invitations"
    assert raised.granted_by == "IT Service Desk"
    assert raised.expected_recipients == 350


@pytest.mark.parametrize(
    ("request_", "missing"),
    [
        ({"expected_recipients": 350}, "no reason"),
        ({"reason": "Open day invitations"}, "no expected_recipients"),
    ],
)
def test_a_request_needs_a_brief_reason_and_how_many_recipients_you_will_be_sending_to(
    request_: dict[str, Any], missing: str
) -> None:
    raised = Override({"recipients a message": 500}, senders=[ANN], **request_)
    with pytest.raises(ValueError, match=rf"'recipients a message' for '{ANN}' has {missing};"):
        presets.leeds_office365(overrides=[raised])


def test_the_service_desk_is_notified_when_more_recipients_are_sent_to_than_indicated() -> None:
    events: list[Event] = []
    dispatcher = Dispatcher(events.append)
    clock = ManualClock(int(NINE.timestamp() * 1000))
    policy = presets.leeds_office365(overrides=[OPEN_DAY])
    limiter = Limiter(policy, MemoryBackend(clock), on_event=dispatcher)
    assert limiter.try_acquire(envelope_to(350, ANN))
    assert limiter.try_acquire(envelope_to(100, BOB))
    assert dispatcher.flush(60)
    assert events == []
    for _ in range(3):
        clock.advance(HOUR)
        assert limiter.try_acquire(envelope_to(400, ANN))
    assert dispatcher.flush(60)
    [event] = events
    assert isinstance(event, ExpectedRecipientsExceeded)
    assert (event.sender, event.expected, event.recipients) == (ANN, 350, 750)
    assert (event.override.reason, event.at.hour) == ("Open day invitations", 10)


def test_the_raised_limit_does_not_change_the_other_limits() -> None:
    limiter, clock = leeds(presets.leeds_office365(overrides=[OPEN_DAY]))
    for _ in range(20):
        assert limiter.try_acquire(envelope_to(500, ANN))
    assert limit_name(limiter.try_acquire(envelope_to(sender=ANN))) == "recipients a day"
    clock.advance(DAY)
    assert all(limiter.try_acquire(envelope_to(sender=ANN)) for _ in range(30))
    assert limit_name(limiter.try_acquire(envelope_to(sender=ANN))) == "messages a minute"


def test_when_the_raised_limit_ends_it_is_100_again() -> None:
    limiter, clock = leeds(presets.leeds_office365(overrides=[OPEN_DAY]))
    midnight = int(datetime(2026, 4, 1, tzinfo=UTC).timestamp() * 1000)
    clock.set(midnight - 1)  # an end date includes that day
    assert limiter.try_acquire(envelope_to(500, ANN))
    clock.set(midnight)
    assert limit_name(limiter.try_acquire(envelope_to(101, ANN))) == "recipients a message"
    assert limiter.try_acquire(envelope_to(100, ANN))


def test_emails_under_the_raised_limit_still_count_after_its_end() -> None:
    limiter, clock = leeds(presets.leeds_office365(overrides=[OPEN_DAY]))
    midnight = int(datetime(2026, 4, 1, tzinfo=UTC).timestamp() * 1000)
    clock.set(midnight - HOUR * 1000)
    assert all(limiter.try_acquire(envelope_to(500, ANN)) for _ in range(20))
    clock.set(midnight)
    decision = limiter.try_acquire(envelope_to(sender=ANN))
    assert (limit_name(decision), decision.retry_after) == ("recipients a day", 23 * HOUR)
