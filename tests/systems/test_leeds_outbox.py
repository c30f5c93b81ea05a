"""S2 and S5, what Leeds promises of its queue and its lists, with an outbox and over restarts.

Each test has a sentence of the source as its docstring, or the part of one.
"""

from __future__ import annotations

import smtplib
from pathlib import Path
from typing import Any

import pytest
from rlm_testkit.outbox import ANN, Scene, letter

from ratelimit_mail import RateLimitExceeded, presets
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.directory import Directory, MailingList
from ratelimit_mail.events import Delayed, Held, Released
from ratelimit_mail.outbox import CallableTransport, Notices, OutgoingMessage, State
from ratelimit_mail.testing import ManualClock

ED = "ed@leeds.ac.uk"
STUDENTS = "students@lists.leeds.ac.uk"
MINUTE, DAY = 60.0, 86400.0


class Leeds:
    """The mail service of the University: each `restart` is a new program on the same queue."""

    def __init__(self, folder: Path, *lists: MailingList, **options: Any) -> None:
        self.folder = folder
        self.policy = presets.leeds_office365(directory=Directory(lists=lists))
        self.options = options
        self.clock = ManualClock()
        self.backend = MemoryBackend(self.clock)  # the counts last, as on a server
        self.start = self.clock()
        self.sent: list[tuple[float, OutgoingMessage]] = []
        self.answers: list[BaseException] = []
        self.events: list[Any] = []
        self.restart()

    def restart(self) -> None:
        """Start the program again."""
        self.program = Scene(
            self.folder / "outbox.db",
            self.policy,
            CallableTransport(self._send),
            clock=self.clock,
            backend=self.backend,
            events=self.events,
            **self.options,
        )
        self.outbox = self.program.outbox

    def _send(self, message: OutgoingMessage) -> None:
        if self.answers:
            raise self.answers.pop(0)
        self.sent.append(((self.clock() - self.start) / 1000, message))

    def run_for(self, seconds: float) -> None:
        """Run the program for so long, and end it."""
        end = self.clock() + round(seconds * 1000)
        outbox = self.outbox

        def sleep(wanted: float) -> None:
            left = (end - self.clock()) / 1000
            self.clock.advance(min(wanted, left))
            if wanted >= left:
                outbox.stop()

        outbox._sleep = sleep
        outbox.run()
        self.program.dispatcher.flush()


@pytest.fixture
def leeds(tmp_path: Path) -> Leeds:
    return Leeds(tmp_path)


def send_everything(leeds: Leeds) -> None:
    leeds.program.run()


# S2: more than the rate.


def test_emails_are_queued_and_gradually_released(leeds: Leeds) -> None:
    """Only 30 emails can be sent every minute; emails will be queued and gradually released."""
    for number in range(100):
        leeds.outbox.put(letter(number))
    send_everything(leeds)
    times = [at for at, _ in leeds.sent]
    assert times == [0.0] * 30 + [60.0] * 30 + [120.0] * 30 + [180.0] * 10


def test_an_email_to_more_than_100_recipients_will_not_send(leeds: Leeds) -> None:
    """The email won't send if you have more recipients."""
    with pytest.raises(RateLimitExceeded, match="at most 100 in one message"):
        leeds.outbox.put(letter(to=", ".join(f"student{i}@leeds.ac.uk" for i in range(101))))
    assert leeds.outbox.list() == ()


def test_you_have_to_wait_after_10000_recipients_in_24_hours(leeds: Leeds) -> None:
    """You'll have to wait to send more messages once you reach this limit."""
    for number in range(101):
        to = ", ".join(f"student{number}.{i}@leeds.ac.uk" for i in range(100))
        leeds.outbox.put(letter(number, to=to))
    send_everything(leeds)
    assert [at for at, _ in leeds.sent][99:] == [180.0, DAY]


def test_you_get_a_message_saying_that_delivery_has_been_delayed(tmp_path: Path) -> None:
    """You will get a message saying that delivery has been delayed."""
    notices = Notices("postmaster@leeds.ac.uk", delayed_after=90.0)
    leeds = Leeds(tmp_path, notices=notices)
    for number in range(61):
        leeds.outbox.put(letter(number))
    send_everything(leeds)
    (notice,) = [each for _, each in leeds.sent if each.sender == "<>"]
    assert notice.recipients == (ANN,)
    assert b"Delivery of your message has been delayed." in notice.content
    assert b"You do not need to send it again." in notice.content.replace(b"\r\n", b" ")
    delayed = [each for each in leeds.events if isinstance(each, Delayed) and each.sender == ANN]
    assert len(delayed) == 31
    assert all(each.expected is not None for each in delayed)


def test_emails_that_wait_are_retried_periodically_over_a_restart(leeds: Leeds) -> None:
    """Emails still waiting to be sent will be queued and delivery will be retried periodically."""
    leeds.answers = [smtplib.SMTPDataError(451, b"4.3.0 not now") for _ in range(3)]
    leeds.outbox.put(letter(1))
    for _ in range(12):
        leeds.run_for(30 * MINUTE)
        leeds.restart()
    ((at, _),) = leeds.sent
    assert at == (30 + 120 + 180) * MINUTE
    assert leeds.outbox.show(1).state == State.SENT


def test_emails_are_sent_once_the_rate_drops_below_the_limit_over_a_restart(
    leeds: Leeds,
) -> None:
    """Once your average send rate drops below the above limits, your emails will be sent."""
    for number in range(100):
        leeds.outbox.put(letter(number))
    for _ in range(10):
        leeds.run_for(25)
        leeds.restart()
    assert [at for at, _ in leeds.sent] == [0.0] * 30 + [60.0] * 30 + [120.0] * 30 + [180.0] * 10
    assert leeds.outbox.stats().counts[State.SENT] == 100
    released = [each for each in leeds.events if isinstance(each, Released)]
    assert len(released) == 70


def test_you_will_not_need_to_resend_the_emails_yourself(leeds: Leeds) -> None:
    """You will not need to resend the emails yourself: and resending one sends it once."""
    put = [leeds.outbox.put(letter(number), key=f"letter {number}") for number in range(40)]
    leeds.run_for(10)
    leeds.restart()
    again = [leeds.outbox.put(letter(number), key=f"letter {number}") for number in range(40)]
    assert [each.id for each in again] == [each.id for each in put]
    send_everything(leeds)
    assert len(leeds.sent) == 40
    assert len({each.message_id for _, each in leeds.sent}) == 40


# S5: mailing lists that require moderation.


def moderated(tmp_path: Path, **options: Any) -> Leeds:
    students = MailingList(STUDENTS, posting="moderated", moderators=[ED])
    return Leeds(tmp_path, students, **options)


def test_a_list_may_require_moderation_and_the_message_waits_over_a_restart(
    tmp_path: Path,
) -> None:
    """Features which include requiring moderation: held, listed and approved."""
    leeds = moderated(tmp_path)
    held = leeds.outbox.put(letter(1, to=STUDENTS))
    assert held.state == State.HELD
    leeds.run_for(MINUTE)
    assert [type(each) for each in leeds.events] == [Held]
    leeds.restart()
    assert [each.id for each in leeds.outbox.list(moderator=ED)] == [held.id]
    leeds.outbox.approve(held.id, by=ED)
    leeds.restart()
    send_everything(leeds)
    ((_, sent),) = leeds.sent
    assert (sent.sender, sent.recipients) == (ANN, (STUDENTS,))


def test_a_moderator_may_reject_and_the_sender_learns_why(tmp_path: Path) -> None:
    """Held and rejected."""
    leeds = moderated(tmp_path, notices=Notices("postmaster@leeds.ac.uk"))
    held = leeds.outbox.put(letter(1, to=STUDENTS))
    leeds.restart()
    leeds.outbox.reject(held.id, by=ED, reason="Please ask the School first.")
    send_everything(leeds)
    ((_, notice),) = leeds.sent
    assert notice.recipients == (ANN,)
    assert b"Please ask the School first." in notice.content


def test_a_message_that_no_moderator_looks_at_expires(tmp_path: Path) -> None:
    """Held and expired."""
    leeds = moderated(tmp_path)
    held = leeds.outbox.put(letter(1, to=STUDENTS))
    leeds.run_for(5 * DAY + MINUTE)
    assert leeds.outbox.show(held.id).state == State.EXPIRED
    assert leeds.sent == []


def test_specific_individuals_may_post(tmp_path: Path) -> None:
    """Preventing sending to the list for all but specific individuals."""
    leeds = Leeds(tmp_path, MailingList(STUDENTS, posting="named", posters=[ED]))
    with pytest.raises(RateLimitExceeded, match="Only named senders may post"):
        leeds.outbox.put(letter(1, to=STUDENTS))
    assert leeds.outbox.put(letter(1, ED, to=STUDENTS)).state == State.QUEUED
