"""Messages to moderated lists: held, listed, approved, rejected, expired."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from rlm_testkit.outbox import ANN, Scene, letter

from ratelimit_mail import presets
from ratelimit_mail.directory import Directory, MailingList
from ratelimit_mail.events import Failed, Held
from ratelimit_mail.outbox import CallableTransport, Notices, OutgoingMessage, State, reports

ED, BOB = "ed@leeds.ac.uk", "bob@leeds.ac.uk"
STUDENTS, STAFF = "students@lists.leeds.ac.uk", "staff@lists.leeds.ac.uk"
DAY = 86400.0


class Lists(Scene):
    def __init__(self, folder: Path, *lists: MailingList, **options: Any) -> None:
        self.sent: list[OutgoingMessage] = []
        directory = Directory(
            {"e.smith@leeds.ac.uk": ED},
            lists
            or [
                MailingList(STUDENTS, posting="moderated", moderators=[ED]),
                MailingList(STAFF, posting="moderated", moderators=[BOB]),
            ],
        )
        policy = presets.leeds_office365(directory=directory)
        transport = CallableTransport(self.sent.append)
        super().__init__(folder / "outbox.db", policy, transport, **options)


@pytest.fixture
def lists(tmp_path: Path) -> Lists:
    return Lists(tmp_path)


def test_a_message_to_a_moderated_list_is_held_and_reported(lists: Lists) -> None:
    message = lists.outbox.put(letter(1, to=f"{STUDENTS}, carl@example.com"))
    assert (message.state, message.held_by) == (State.HELD, (STUDENTS,))
    lists.run()
    assert lists.sent == []
    (event,) = lists.events
    assert isinstance(event, Held)
    assert (event.lists, event.message, event.sender) == ((STUDENTS,), message.id, ANN)


def test_a_moderator_posts_without_being_held(lists: Lists) -> None:
    assert lists.outbox.put(letter(1, ED, to=STUDENTS)).state == State.QUEUED


def test_held_messages_are_listed_for_their_moderator(lists: Lists) -> None:
    first = lists.outbox.put(letter(1, to=STUDENTS))
    second = lists.outbox.put(letter(2, to=STAFF))
    lists.outbox.put(letter(3))
    assert [each.id for each in lists.outbox.list(state="held")] == [first.id, second.id]
    assert [each.id for each in lists.outbox.list(moderator=ED)] == [first.id]
    assert [each.id for each in lists.outbox.list(moderator="E.Smith@leeds.ac.uk")] == [first.id]
    assert lists.outbox.list(moderator=ANN) == ()


def test_an_approved_message_is_sent_to_all_of_its_recipients(lists: Lists) -> None:
    message = lists.outbox.put(letter(1, to=f"{STUDENTS}, carl@example.com"))
    approved = lists.outbox.approve(message.id, by=ED)
    assert (approved.state, approved.held_by) == (State.QUEUED, ())
    lists.run()
    (sent,) = lists.sent
    assert sent.recipients == (STUDENTS, "carl@example.com")


def test_a_message_that_two_lists_hold_needs_both_moderators(lists: Lists) -> None:
    message = lists.outbox.put(letter(1, to=f"{STUDENTS}, {STAFF}"))
    assert message.held_by == (STAFF, STUDENTS)
    after_one = lists.outbox.approve(message.id, by=ED)
    assert (after_one.state, after_one.held_by) == (State.HELD, (STAFF,))
    assert lists.outbox.approve(message.id, by=BOB).state == State.QUEUED


def test_the_administrator_approves_for_every_list(lists: Lists) -> None:
    message = lists.outbox.put(letter(1, to=f"{STUDENTS}, {STAFF}"))
    assert lists.outbox.approve(message.id).state == State.QUEUED


@pytest.mark.parametrize("by", [ANN, BOB, "eve@example.com"])
def test_only_a_moderator_of_the_list_decides(lists: Lists, by: str) -> None:
    message = lists.outbox.put(letter(1, to=STUDENTS))
    for method in (lists.outbox.approve, lists.outbox.reject):
        with pytest.raises(ValueError, match=f"by: '{by}' is not a moderator of '{STUDENTS}'"):
            method(message.id, by=by)
    assert lists.outbox.show(message.id).state == State.HELD


def test_a_rejected_message_has_failed_with_the_reason(lists: Lists) -> None:
    message = lists.outbox.put(letter(1, to=STUDENTS))
    rejected = lists.outbox.reject(message.id, by=ED, reason="not about\nexams\x1b")
    reply = "550 5.7.2 Rejected by the moderator of the mailing list. not about exams\\x1b"
    assert (rejected.state, rejected.reply) == (State.FAILED, reply)
    lists.run()
    assert lists.sent == []
    failed = lists.events[-1]
    assert isinstance(failed, Failed)
    assert (failed.reply, failed.recipients) == (reply, (STUDENTS,))


def test_a_rejected_sender_gets_a_notice(tmp_path: Path) -> None:
    lists = Lists(tmp_path, notices=Notices("postmaster@leeds.ac.uk"))
    message = lists.outbox.put(letter(1, to=STUDENTS))
    lists.outbox.reject(message.id, reason="Not about exams.")
    lists.run()
    (notice,) = lists.sent
    assert (notice.sender, notice.recipients) == ("<>", (ANN,))
    assert b"Not about exams." in notice.content


def test_a_message_is_rejected_together_with_its_notice_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = Lists(tmp_path, notices=Notices("postmaster@leeds.ac.uk"))
    message = lists.outbox.put(letter(1, to=STUDENTS))
    with monkeypatch.context() as patch:
        patch.setattr(reports, "failure_notice", None)  # the program ends here
        with pytest.raises(TypeError):
            lists.outbox.reject(message.id)
    assert lists.outbox.show(message.id).state == State.HELD
    lists.outbox.reject(message.id)
    assert len(lists.outbox.list(state=State.QUEUED)) == 1, "the notice"


def test_a_message_that_nobody_decides_on_expires(tmp_path: Path) -> None:
    lists = Lists(tmp_path, hold_for=2 * DAY)
    message = lists.outbox.put(letter(1, to=STUDENTS))
    assert message.expires_at == message.put_at + timedelta(days=2)
    lists.clock.advance(2 * DAY)
    lists.run()
    expired = lists.outbox.show(message.id)
    assert (expired.state, expired.reply) == (State.EXPIRED, "no moderator decided in time")
    with pytest.raises(ValueError, match="is expired: it is not held"):
        lists.outbox.approve(message.id)


def test_an_approved_message_expires_when_the_program_said_and_not_when_its_hold_would(
    tmp_path: Path,
) -> None:
    lists = Lists(tmp_path, hold_for=2 * DAY)
    put_at = lists.outbox.put(letter(0)).put_at
    end = put_at + timedelta(days=9)
    message = lists.outbox.put(letter(1, to=STUDENTS), expires=end)
    assert message.expires_at == put_at + timedelta(days=2)
    assert lists.outbox.approve(message.id).expires_at == end


def test_what_is_not_held_can_be_neither_approved_nor_rejected(lists: Lists) -> None:
    message = lists.outbox.put(letter(1))
    for method in (lists.outbox.approve, lists.outbox.reject):
        with pytest.raises(ValueError, match=f"message {message.id} is queued: it is not held"):
            method(message.id)


def test_a_held_message_can_be_cancelled_but_not_retried(lists: Lists) -> None:
    message = lists.outbox.put(letter(1, to=STUDENTS))
    with pytest.raises(ValueError, match="is held: it cannot be tried again"):
        lists.outbox.retry(message.id)
    assert lists.outbox.cancel(message.id).state == State.CANCELLED
    assert lists.outbox.list(moderator=ED) == ()


def test_a_list_that_became_moderated_holds_what_is_queued(tmp_path: Path) -> None:
    Lists(tmp_path, MailingList(STUDENTS)).outbox.put(letter(1, to=STUDENTS))
    lists = Lists(tmp_path)
    lists.run()
    assert lists.sent == []
    (message,) = lists.outbox.list(moderator=ED)
    assert message.held_by == (STUDENTS,)
    lists.outbox.approve(message.id, by=ED)
    lists.run()
    assert len(lists.sent) == 1


def test_a_list_for_named_senders_refuses_at_once(tmp_path: Path) -> None:
    from ratelimit_mail import RateLimitExceeded

    lists = Lists(tmp_path, MailingList(STUDENTS, posting="named", posters=[ED]))
    with pytest.raises(RateLimitExceeded, match="Only named senders"):
        lists.outbox.put(letter(1, to=STUDENTS))


@pytest.mark.parametrize("reason", ["x" * 401, 5])
def test_a_reason_that_is_too_long_is_an_error(lists: Lists, reason: Any) -> None:
    message = lists.outbox.put(letter(1, to=STUDENTS))
    with pytest.raises(ValueError, match="reason: "):
        lists.outbox.reject(message.id, reason=reason)
