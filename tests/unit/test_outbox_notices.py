"""Notices to senders: that a message failed, and that it is delayed."""

from __future__ import annotations

import smtplib
from datetime import timedelta
from email.message import EmailMessage, Message
from pathlib import Path
from typing import Any

import pytest
from rlm_testkit.builders import campus_policy
from rlm_testkit.outbox import ANN, Scene, letter

from ratelimit_mail import MessageRateLimit, presets
from ratelimit_mail._util.epoch import datetime_of
from ratelimit_mail.outbox import (
    CallableTransport,
    Notices,
    OutgoingMessage,
    RetrySchedule,
    State,
    reports,
)

POSTMASTER = Notices("postmaster@leeds.ac.uk", host="mail.leeds.ac.uk")
HOUR = 3600.0


class Post(Scene):
    """An outbox that answers letters as the test says, and records the notices."""

    def __init__(self, folder: Path, *limits: Any, notices: Notices = POSTMASTER, **options: Any):
        self.letters: list[OutgoingMessage] = []
        self.notices: list[tuple[float, OutgoingMessage]] = []
        self.answers: list[Any] = []
        policy = campus_policy(*limits) if limits else presets.leeds_office365()
        super().__init__(
            folder / "outbox.db", policy, CallableTransport(self.send), notices=notices, **options
        )
        self.start = self.clock()

    def send(self, message: OutgoingMessage) -> Any:
        if message.sender == "<>":
            self.notices.append(((self.clock() - self.start) / 1000, message))
            return None
        self.letters.append(message)
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def the_notice(self) -> EmailMessage:
        ((_, notice),) = self.notices
        return notice.parsed()


def status_of(notice: EmailMessage) -> list[Message[str, str]]:
    """Return the blocks of fields of a delivery status."""
    [part] = [
        each for each in notice.walk() if each.get_content_type() == "message/delivery-status"
    ]
    return [*part.get_payload()]


def test_a_sender_gets_a_notice_of_a_refusal_with_its_text(tmp_path: Path) -> None:
    post = Post(tmp_path)
    post.answers = [smtplib.SMTPDataError(554, b"5.7.1 message looks like spam")]
    put = post.outbox.put(letter(1))
    post.run()
    notice = post.the_notice()
    assert post.notices[0][1].recipients == (ANN,)
    assert notice["From"] == "Mail delivery <postmaster@leeds.ac.uk>"
    assert notice["To"] == ANN
    assert notice["Auto-Submitted"] == "auto-replied"
    assert notice["In-Reply-To"] == put.message_id
    assert notice.get_content_type() == "multipart/report"
    assert notice.get_param("report-type") == "delivery-status"
    words, _, headers = notice.iter_parts()
    assert "554 5.7.1 message looks like spam" in words.get_content()
    about, recipient = status_of(notice)
    assert about["Reporting-MTA"] == "dns; mail.leeds.ac.uk"
    assert recipient["Final-Recipient"] == "rfc822; student1@example.com"
    assert recipient["Action"] == "failed"
    assert recipient["Status"] == "5.7.1"
    assert recipient["Diagnostic-Code"] == "smtp; 554 5.7.1 message looks like spam"
    assert headers.get_content_type() == "text/rfc822-headers"
    assert "Subject: Letter 1" in headers.get_content()
    assert "Dear student" not in str(notice)


def test_a_notice_names_the_recipients_that_were_not_reached_and_no_others(tmp_path: Path) -> None:
    post = Post(tmp_path)
    post.answers = [{"no@example.com": (550, b"5.1.1 no such user")}]
    post.outbox.put(letter(1, to="bob@example.com, no@example.com"))
    post.run()
    _, *recipients = status_of(post.the_notice())
    assert [each["Final-Recipient"] for each in recipients] == ["rfc822; no@example.com"]
    assert post.outbox.show(1).state == State.SENT


def test_a_message_that_is_given_up_or_expires_is_reported_too(tmp_path: Path) -> None:
    post = Post(tmp_path, retry=RetrySchedule([60], give_up=60))
    post.answers = [smtplib.SMTPDataError(451, b"4.3.0 busy")] * 2
    post.outbox.put(letter(1))
    post.run()
    _, recipient = status_of(post.the_notice())
    assert (recipient["Action"], recipient["Status"]) == ("failed", "5.0.0")
    assert recipient["Diagnostic-Code"] == "smtp; 451 4.3.0 busy"


def test_a_message_expires_together_with_its_notice_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    post = Post(tmp_path)
    end = datetime_of(post.clock()) + timedelta(minutes=1)
    post.outbox.put(letter(1), not_before=end - timedelta(seconds=1), expires=end)
    post.clock.advance(60)
    with monkeypatch.context() as patch:
        patch.setattr(reports, "failure_notice", None)  # the program ends here
        with pytest.raises(TypeError):
            post.run()
    assert post.outbox.show(1).state == State.QUEUED
    post.run()
    assert post.outbox.show(1).state == State.EXPIRED
    assert status_of(post.the_notice())[1]["Action"] == "failed"


def test_a_notice_never_causes_a_notice(tmp_path: Path) -> None:
    post = Post(tmp_path)
    post.answers = [smtplib.SMTPDataError(554, b"5.7.1 spam")]
    post.outbox.put(letter(1))
    record = post.send

    def refuse_notices(message: OutgoingMessage) -> Any:
        record(message)
        if message.sender == "<>":
            raise smtplib.SMTPDataError(550, b"5.1.1 no such user")

    post.outbox._transport = CallableTransport(refuse_notices)
    post.run()
    assert len(post.notices) == 1
    assert [each.state for each in post.outbox.list()] == [State.FAILED, State.FAILED]


def test_failure_notices_can_be_switched_off(tmp_path: Path) -> None:
    post = Post(tmp_path, notices=Notices("postmaster@leeds.ac.uk", failures=False))
    post.answers = [smtplib.SMTPDataError(554, b"5.7.1 spam")]
    post.outbox.put(letter(1))
    post.run()
    assert post.notices == []


def test_the_text_of_a_reply_cannot_add_lines_to_a_notice(tmp_path: Path) -> None:
    post = Post(tmp_path)
    evil = b"5.7.1 no\r\n\r\nFinal-Recipient: rfc822; eve@example.com\r\nAction: delivered"
    post.answers = [smtplib.SMTPDataError(554, evil)]
    post.outbox.put(letter(1))
    post.run()
    _, recipient = status_of(post.the_notice())
    assert recipient["Action"] == "failed"
    assert "eve@example.com" in recipient["Diagnostic-Code"]


def test_a_delay_is_noticed_once_with_the_expected_time_after_a_time_of_choice(
    tmp_path: Path,
) -> None:
    notices = Notices("postmaster@leeds.ac.uk", delayed_after=4 * HOUR)
    post = Post(tmp_path, MessageRateLimit("1/6 hours"), notices=notices)
    for number in range(3):
        post.outbox.put(letter(number))
    post.run()
    assert [at for at, _ in post.notices] == [4 * HOUR, 10 * HOUR]
    texts = [str(notice.parsed().get_payload(0)) for _, notice in post.notices]
    assert all("Delivery of your message has been delayed." in text for text in texts)
    assert "Expected: Sun, 09 Sep 2001 07:46:40 +0000" in texts[0]
    about = [status_of(notice.parsed())[1] for _, notice in post.notices]
    assert {each["Action"] for each in about} == {"delayed"}
    assert {each["Final-Recipient"] for each in about} == {
        "rfc822; student1@example.com",
        "rfc822; student2@example.com",
    }


def test_the_notice_of_a_message_that_a_server_puts_off_names_its_next_attempt(
    tmp_path: Path,
) -> None:
    notices = Notices("postmaster@leeds.ac.uk", delayed_after=HOUR)
    post = Post(tmp_path, notices=notices)
    post.answers = [smtplib.SMTPDataError(451, b"4.3.0 busy")] * 3
    post.outbox.put(letter(1))
    post.run()
    ((at, notice),) = post.notices
    assert at == HOUR
    text = str(notice.parsed().get_payload(0))
    assert "Reason: 451 4.3.0 busy" in text
    assert "Expected: Sun, 09 Sep 2001 04:16:40 +0000" in text


def test_there_is_no_notice_of_a_message_that_goes_before_that_time(tmp_path: Path) -> None:
    notices = Notices("postmaster@leeds.ac.uk", delayed_after=4 * HOUR)
    post = Post(tmp_path, MessageRateLimit("1/hour"), notices=notices)
    for number in range(3):
        post.outbox.put(letter(number))
    post.run()
    assert post.notices == []


def test_a_notice_quotes_headers_that_are_not_ascii(tmp_path: Path) -> None:
    post = Post(tmp_path)
    post.answers = [smtplib.SMTPDataError(554, b"5.7.1 spam")]
    message = letter(1, to="jürgen@example.com")
    post.outbox.put(message)
    post.run()
    notice = post.the_notice()
    _, recipient = status_of(notice)
    assert recipient["Final-Recipient"] == "utf-8; j\\x{FC}rgen@example.com"
    *_, headers = notice.iter_parts()
    assert "jürgen@example.com" in headers.get_content()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"sender": "postmaster"}, ValueError, "sender: "),
        ({"delayed_after": -1}, ValueError, "delayed_after: -1"),
        ({"failures": "yes"}, TypeError, "failures: True or False"),
        ({"host": "mail host"}, ValueError, "host: 'mail host' is not the name of a host"),
    ],
)
def test_wrong_arguments_are_named(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Notices(**{"sender": "postmaster@leeds.ac.uk", **options})
