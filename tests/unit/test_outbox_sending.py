"""What an outbox sends, in which order, and what it does with each answer of a server."""

from __future__ import annotations

import smtplib
import sqlite3
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from rlm_testkit.builders import campus_policy
from rlm_testkit.outbox import ANN, Scene, letter

from ratelimit_mail import Limiter, MessageRateLimit, Policy, RecipientRateLimit, presets
from ratelimit_mail.events import Delayed, Failed, Released, Uncertain
from ratelimit_mail.exceptions import BackendUnavailable
from ratelimit_mail.outbox import (
    CallableTransport,
    MaildirTransport,
    Outbox,
    OutboxMessage,
    OutgoingMessage,
    RetrySchedule,
    State,
    TransportUnavailable,
)

KIM = "kim@leeds.ac.uk"
LEEDS = presets.leeds_office365()
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0

Answer = Callable[[OutgoingMessage], Any]


class Post(Scene):
    """An outbox whose transport records what it gets, and answers as the test says.

    answers: what the transport does with the first, second, ... message: it returns what the
    function returns, or raises what it returns if that is an exception. Afterwards it accepts.
    """

    def __init__(
        self,
        folder: Path,
        *limits: Any,
        policy: Policy = LEEDS,
        connections: int = 1,
        **options: Any,
    ) -> None:
        self.sent: list[tuple[float, OutgoingMessage]] = []
        self.answers: list[Any] = []
        self.lock = threading.Lock()
        if limits:
            policy = campus_policy(*limits)
        transport = CallableTransport(self._send, max_connections=connections)
        super().__init__(folder / "outbox.db", policy, transport, **options)
        self.start = self.clock()

    def _send(self, message: OutgoingMessage) -> Any:
        with self.lock:
            self.sent.append(((self.clock() - self.start) / 1000, message))
            answer = self.answers.pop(0) if self.answers else None
        if callable(answer):
            answer = answer(message)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def put(self, number: int = 0, sender: str = ANN, **options: Any) -> OutboxMessage:
        headers = {"to": options.pop("to")} if "to" in options else {}
        return self.outbox.put(letter(number, sender, **headers), **options)

    def subjects(self) -> list[int]:
        """Return the numbers of the letters that were sent, in their order."""
        return [int(each.parsed()["Subject"].split()[1]) for _, each in self.sent]

    def times(self) -> list[float]:
        """Return when they were sent, in seconds."""
        return [at for at, _ in self.sent]

    def state(self, number: int = 1) -> State:
        return self.outbox.show(number).state

    def used(self, sender: str = ANN) -> list[int]:
        return [usage.used for usage in self.limiter.usage(sender)]

    def of_kind(self, kind: type[Any]) -> list[Any]:
        self.dispatcher.flush()
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def post(tmp_path: Path) -> Post:
    return Post(tmp_path)


# Order, and the limits.


def test_what_exceeds_the_rate_is_released_gradually_in_the_order_put(post: Post) -> None:
    for number in range(70):
        post.put(number)
    post.run()
    assert post.subjects() == [*range(70)]
    assert post.times() == [0.0] * 30 + [60.0] * 30 + [120.0] * 10
    assert post.outbox.stats().counts[State.SENT] == 70


def test_a_message_counts_at_the_end_of_its_sending(tmp_path: Path) -> None:
    post = Post(tmp_path, MessageRateLimit("1/minute"))

    def slow(_: OutgoingMessage) -> None:
        post.clock.advance(20)

    post.answers = [slow]
    post.put(1)
    post.put(2)
    post.run()
    assert post.times() == [0.0, 80.0]


def test_urgent_mail_of_a_sender_goes_first(tmp_path: Path) -> None:
    post = Post(tmp_path, MessageRateLimit("2/minute"))
    post.put(1, priority=-1)
    post.put(2)
    post.put(3)
    post.put(4, priority=5)
    post.put(5, priority=5)
    post.run()
    assert post.subjects() == [4, 5, 2, 3, 1]


def test_urgent_mail_passes_a_message_that_is_booked_already(tmp_path: Path) -> None:
    post = Post(tmp_path, MessageRateLimit("1/minute"))
    post.put(1)
    post.put(2)
    post.answers = [None]

    def put_urgent(seconds: float) -> None:
        if not any(each.key == "urgent" for each in post.outbox.list()):
            post.put(3, priority=1, key="urgent")
        post.clock.advance(seconds)

    post.outbox._sleep = put_urgent
    post.run()
    assert post.subjects() == [1, 3, 2]
    assert post.times() == [0.0, 60.0, 120.0]


def test_a_sender_that_waits_holds_up_no_other_sender(tmp_path: Path) -> None:
    post = Post(tmp_path, MessageRateLimit("2/minute"))
    for number in range(4):
        post.put(number)
    for number in range(4, 6):
        post.put(number, KIM)
    post.run()
    assert post.times() == [0.0] * 4 + [60.0] * 2
    assert set(post.subjects()[:4]) == {0, 1, 4, 5}


def test_senders_take_it_in_order_so_that_a_large_mailing_does_not_hold_up_one_letter(
    tmp_path: Path,
) -> None:
    post = Post(tmp_path, MessageRateLimit("1000/minute"))
    for number in range(50):
        post.put(number)
    post.put(50, KIM)
    post.run()
    assert 50 in post.subjects()[:2]


def test_spellings_of_one_sender_are_one_queue(tmp_path: Path) -> None:
    post = Post(tmp_path, MessageRateLimit("1/minute"))
    post.put(1, "Ann@leeds.ac.uk")
    post.put(2, "ANN@LEEDS.AC.UK")
    post.run()
    assert post.times() == [0.0, 60.0]


def test_only_the_head_of_a_queue_is_booked(tmp_path: Path) -> None:
    post = Post(tmp_path, MessageRateLimit("1/day"))
    for number in range(5):
        post.put(number)
    post.outbox._sleep = lambda _: post.outbox.stop()
    post.run()
    (usage,) = post.limiter.usage(ANN)
    assert usage.resets_in == pytest.approx(2 * DAY, abs=1)


def test_a_message_waits_for_the_time_before_which_it_must_not_go(post: Post) -> None:
    start = post.outbox.put(letter(0)).put_at
    post.put(1, not_before=start + timedelta(hours=2))
    post.put(2)
    post.run()
    assert post.subjects() == [0, 2, 1]
    assert post.times() == [0.0, 0.0, 2 * HOUR]


def test_a_message_that_is_too_late_expires(tmp_path: Path) -> None:
    post = Post(tmp_path, MessageRateLimit("1/hour"))
    start = post.put(0).put_at
    late = post.put(1, expires=start + timedelta(minutes=30))
    post.put(2)
    post.run()
    assert post.subjects() == [0, 2]
    assert post.times() == [0.0, HOUR]
    assert post.outbox.show(late.id).state == State.EXPIRED
    assert post.outbox.show(late.id).reply == "it is too late"
    assert post.outbox.show(late.id).recipients[0].state == State.EXPIRED
    (failed,) = post.of_kind(Failed)
    assert failed.recipients == ("student1@example.com",)


def test_until_empty_does_not_wait_for_held_or_uncertain_messages(post: Post) -> None:
    post.run()
    post.answers = [ValueError("what?")]
    post.put(1)
    post.run()
    post.run()
    assert post.state() == State.UNCERTAIN


def test_several_senders_are_sent_at_the_same_time_over_several_connections(
    tmp_path: Path,
) -> None:
    together = threading.Barrier(3, timeout=30)
    post = Post(tmp_path, MessageRateLimit("10/minute"), connections=3)
    post.outbox._sleep = threading.Event().wait
    post.answers = [lambda _: together.wait() and None] * 3
    for number, sender in enumerate([ANN, KIM, "lee@leeds.ac.uk"]):
        post.put(number, sender)
    post.run()
    assert post.outbox.stats().counts[State.SENT] == 3


def test_an_error_in_any_of_several_connections_ends_the_run(tmp_path: Path) -> None:
    together = threading.Barrier(2, timeout=30)
    post = Post(tmp_path, MessageRateLimit("10/minute"), connections=2)
    post.outbox._sleep = threading.Event().wait
    main = threading.current_thread()

    def fail_elsewhere(_: OutgoingMessage) -> object:
        together.wait()
        return None if threading.current_thread() is main else SystemExit("no memory")

    post.answers = [fail_elsewhere] * 2
    post.put(1)
    post.put(2, KIM)
    with pytest.raises(SystemExit, match="no memory"):
        post.run()
    states = [each.state for each in post.outbox.list()]
    assert sorted(states) == [State.SENT, State.UNCERTAIN]
    assert post.outbox.stats().workers == 0


def test_stop_ends_the_run_after_the_message_in_hand(post: Post) -> None:
    post.answers = [lambda _: post.outbox.stop()]
    post.put(1)
    post.put(2)
    post.run()
    assert post.subjects() == [1]
    assert (post.state(1), post.state(2)) == (State.SENT, State.QUEUED)
    assert post.outbox.stats().workers == 0
    post.run()
    assert post.subjects() == [1, 2]


def test_one_outbox_runs_once_at_a_time(post: Post) -> None:
    caught: list[BaseException] = []

    def run_again(_: OutgoingMessage) -> None:
        try:
            post.outbox.run()
        except RuntimeError as error:
            caught.append(error)

    post.answers = [run_again]
    post.put(1)
    post.run()
    assert "runs already" in str(caught[0])


# Events.


def test_delays_are_reported_once_a_message_with_the_expected_time(post: Post) -> None:
    for number in range(100):
        post.put(number)
    post.run()
    delayed = post.of_kind(Delayed)
    assert [event.message for event in delayed] == [*range(31, 101)]
    expected = [(event.expected - event.at).total_seconds() for event in delayed]
    assert expected == [60.0] * 30 + [120.0] * 30 + [180.0] * 10
    assert delayed[0].limit.name == "messages a minute"
    assert [event.message for event in post.of_kind(Released)] == [*range(31, 101)]


def test_the_expected_time_is_listed(tmp_path: Path) -> None:
    post = Post(tmp_path, MessageRateLimit("1/hour"), RecipientRateLimit("2/day"))
    for number in range(4):
        post.put(number)
    post.outbox._sleep = lambda _: post.outbox.stop()
    post.run()
    expected = [each.expected_at for each in post.outbox.list()]
    assert expected[0] is None
    waits = [(each - post.outbox.show(1).put_at).total_seconds() for each in expected if each]
    assert waits[0] == HOUR
    assert waits[1:] == [HOUR + DAY, HOUR + DAY]


def test_a_message_that_is_put_while_its_sender_waits_is_reported_too(tmp_path: Path) -> None:
    post = Post(tmp_path, MessageRateLimit("1/day"))
    post.put(1)
    post.put(2)

    def put_another(seconds: float) -> None:
        if len(post.outbox.list()) < 3:
            post.put(3)
            post.clock.advance(5)
        else:
            post.clock.advance(seconds)

    post.outbox._sleep = put_another
    post.run()
    second, third = post.of_kind(Delayed)
    assert (second.message, third.message) == (2, 3)
    assert (third.at - second.at).total_seconds() == 5
    assert (third.expected - second.expected).total_seconds() == DAY
    assert third.limit == second.limit == MessageRateLimit("1/day")


def test_all_messages_of_a_long_queue_are_reported_some_at_a_time(tmp_path: Path) -> None:
    post = Post(tmp_path, MessageRateLimit("10/minute"))
    connection = sqlite3.connect(tmp_path / "outbox.db")
    with connection:
        for number in range(1015):
            post.put(number, connection=connection)
    connection.close()
    runs = 0

    def sleep(seconds: float) -> None:
        nonlocal runs
        runs += 1
        post.clock.advance(seconds)
        if runs == 3:
            post.outbox.stop()

    post.outbox._sleep = sleep
    post.run()
    delayed = post.of_kind(Delayed)
    assert [event.message for event in delayed] == [*range(11, 1016)]
    last = delayed[-1]
    assert (last.expected - post.outbox.show(1).put_at).total_seconds() == 101 * MINUTE


def test_a_sender_that_is_blocked_waits_and_is_reported(post: Post) -> None:
    post.put(1)
    post.limiter.block(ANN, 90, reason="account stolen")
    post.run()
    assert post.times() == [90.0]
    (delayed,) = post.of_kind(Delayed)
    assert (delayed.expected - delayed.at).total_seconds() == 90.0


def test_a_sender_that_is_blocked_for_ever_goes_when_the_block_is_lifted(post: Post) -> None:
    post.put(1)
    post.limiter.block(ANN, reason="account stolen")
    sleeps: list[float] = []

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        post.clock.advance(seconds)
        if len(sleeps) == 3:
            post.limiter.unblock(ANN)

    post.outbox._sleep = sleep
    post.run()
    assert post.times() == [180.0]
    (delayed,) = post.of_kind(Delayed)
    assert delayed.expected is None


# Answers.


def refused(**replies: tuple[int, bytes]) -> dict[str, tuple[int, bytes]]:
    return {f"{name}@example.com": reply for name, reply in replies.items()}


def test_a_4xx_is_tried_again_by_the_schedule_and_is_not_charged(post: Post) -> None:
    busy = smtplib.SMTPDataError(451, b"4.3.0 mailbox busy")
    post.answers = [busy] * 4
    post.put(1)
    post.run()
    hours = [0.0, 0.5, 2.5, 5.5, 8.5]
    assert post.times() == [hour * HOUR for hour in hours]
    assert len({each.message_id for _, each in post.sent}) == 1
    message = post.outbox.show(1)
    assert (message.state, message.attempts) == (State.SENT, 4)
    assert post.used() == [1, 1]


def test_a_4xx_does_not_hold_up_the_senders_other_mail(post: Post) -> None:
    post.answers = [smtplib.SMTPSenderRefused(450, b"4.2.0 greylisted", ANN)]
    post.put(1)
    post.put(2)
    post.run()
    assert post.subjects() == [1, 2, 1]
    assert post.times() == [0.0, 0.0, 1800.0]


def test_the_schedule_can_be_set_and_gives_up(tmp_path: Path) -> None:
    schedule = RetrySchedule([60, 120], give_up=400)
    post = Post(tmp_path, retry=schedule)
    post.answers = [smtplib.SMTPDataError(451, b"4.3.0 try later")] * 9
    post.put(1)
    post.run()
    assert post.times() == [0.0, 60.0, 180.0, 300.0, 400.0]
    message = post.outbox.show(1)
    assert (message.state, message.reply) == (State.FAILED, "451 4.3.0 try later")
    (failed,) = post.of_kind(Failed)
    assert (failed.reply, failed.key) == ("451 4.3.0 try later", None)


def test_a_5xx_ends_the_message_with_the_text_of_the_reply(post: Post) -> None:
    post.answers = [smtplib.SMTPDataError(554, b"5.7.1 no\r\n spam\x1b")]
    post.put(1, key="job 1")
    post.run()
    message = post.outbox.show(1)
    assert (message.state, message.reply) == (State.FAILED, "554 5.7.1 no spam")
    (failed,) = post.of_kind(Failed)
    assert (failed.key, failed.message, failed.recipients) == (
        "job 1",
        1,
        ("student1@example.com",),
    )
    assert post.used() == [0, 0]


def test_of_partial_refusals_only_those_for_now_are_tried_again(post: Post) -> None:
    post.answers = [
        refused(bob=(450, b"4.2.1 later"), eve=(550, b"5.1.1 no such user")),
        None,
    ]
    post.put(1, to="ann@example.com, bob@example.com, eve@example.com")
    post.run()
    assert [each.recipients for _, each in post.sent] == [
        ("ann@example.com", "bob@example.com", "eve@example.com"),
        ("bob@example.com",),
    ]
    assert post.times() == [0.0, 1800.0]
    message = post.outbox.show(1)
    assert message.state == State.SENT
    assert {each.address: (each.state, each.reply) for each in message.recipients} == {
        "ann@example.com": (State.SENT, None),
        "bob@example.com": (State.SENT, None),
        "eve@example.com": (State.FAILED, "550 5.1.1 no such user"),
    }
    (failed,) = post.of_kind(Failed)
    assert failed.recipients == ("eve@example.com",)
    assert post.used() == [1, 2]


def test_only_the_recipients_that_were_reached_are_charged(post: Post) -> None:
    post.answers = [refused(bob=(550, b"5.1.1 no"), eve=(550, b"5.1.1 no"))]
    post.put(1, to="ann@example.com, bob@example.com, eve@example.com")
    post.run()
    assert post.used() == [1, 1]


def test_a_message_that_reached_some_is_sent_when_the_rest_is_given_up(tmp_path: Path) -> None:
    post = Post(tmp_path, retry=RetrySchedule([60], give_up=0))
    post.answers = [
        refused(bob=(450, b"4.2.1 later")),
        smtplib.SMTPRecipientsRefused(refused(bob=(450, b"4.2.1 later"))),
    ]
    post.put(1, to="ann@example.com, bob@example.com")
    post.run()
    message = post.outbox.show(1)
    assert message.state == State.SENT
    assert [each.state for each in message.recipients] == [State.SENT, State.FAILED]


def test_recipients_above_what_a_server_takes_at_once_are_sent_right_away(post: Post) -> None:
    post.answers = [refused(bob=(452, b"4.5.3 too many recipients"))]
    post.put(1, to="ann@example.com, bob@example.com")
    post.run()
    assert post.times() == [0.0, 0.0]
    assert post.outbox.show(1).attempts == 0


@pytest.mark.parametrize(
    "reply",
    [
        smtplib.SMTPDataError(432, b"4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded"),
        smtplib.SMTPSenderRefused(450, b"4.7.28 rate limit exceeded", ANN),
        refused(student1=(421, b"4.7.0 too fast, slow down")),
    ],
)
def test_a_providers_too_fast_blocks_the_sender_and_does_not_count_as_an_attempt(
    post: Post, reply: object
) -> None:
    post.answers = [reply]
    post.put(1)
    post.put(2)
    post.put(3, KIM)
    post.run()
    assert {each.message_id for at, each in post.sent if at == 0.0 and each.sender == KIM}
    assert [at for at, each in post.sent if each.sender == ANN] == [0.0, 60.0, 60.0]
    assert post.outbox.show(1).attempts == 0
    assert [usage.used for usage in post.limiter.usage(ANN)] == [2, 2]


def test_a_server_that_names_a_time_is_left_alone_for_that_time(post: Post) -> None:
    post.answers = [smtplib.SMTPDataError(450, b"4.7.1 throttled, retry in 5 minutes")]
    post.put(1)
    post.run()
    assert post.times() == [0.0, 300.0]


# The server, or the transport, is away.


@pytest.mark.parametrize(
    "error",
    [
        TransportUnavailable("no route"),
        smtplib.SMTPConnectError(554, b"no"),
        smtplib.SMTPAuthenticationError(535, b"5.7.8 bad password"),
        smtplib.SMTPHeloError(501, b"who?"),
    ],
)
def test_nothing_is_sent_while_the_server_is_away_and_no_message_is_to_blame(
    post: Post, error: Exception
) -> None:
    post.answers = [error] * 3
    post.put(1)
    post.put(2, KIM)
    post.run()
    assert post.times() == [0.0, 5.0, 35.0, 155.0, 155.0]
    assert [each.attempts for each in post.outbox.list()] == [0, 0]
    assert [each.state for each in post.outbox.list()] == [State.SENT] * 2
    assert post.used() == [1, 1]


def test_a_message_fails_if_the_server_stays_away_for_too_long(tmp_path: Path) -> None:
    post = Post(tmp_path, retry=RetrySchedule(give_up=100, reconnect=[60]))
    post.answers = [TransportUnavailable("no route")] * 3
    post.put(1)
    post.run()
    assert post.times() == [0.0, 60.0, 120.0]
    assert (post.state(), post.outbox.show(1).reply) == (State.FAILED, "no route")


def test_a_reply_that_comes_with_the_connection_may_be_a_pushback(post: Post) -> None:
    reply = (432, b"4.3.2 Concurrent connections limit exceeded")
    post.answers = [TransportUnavailable("busy", reply)]
    post.put(1)
    post.run()
    assert post.times() == [0.0, 60.0]


# Uncertain.


@pytest.mark.parametrize(
    "error",
    [
        smtplib.SMTPServerDisconnected("Connection unexpectedly closed"),
        TimeoutError("timed out"),
        ValueError("secret"),
    ],
)
def test_a_connection_that_breaks_leaves_the_message_uncertain(
    post: Post, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    post.answers = [error]
    post.put(1)
    post.put(2)
    post.run()
    assert post.subjects() == [1, 2]
    assert post.state(1) == State.UNCERTAIN
    assert post.outbox.show(1).recipients[0].state == State.UNCERTAIN
    (event,) = post.of_kind(Uncertain)
    assert (event.message, event.resent) == (1, False)
    assert type(error).__name__ in event.reply
    assert "secret" not in event.reply
    assert post.used() == [2, 2]
    assert "message 1 of the outbox may have been sent, and is not sent again" in caplog.text


def test_an_uncertain_message_is_sent_again_if_so_chosen_with_the_same_message_id(
    tmp_path: Path,
) -> None:
    post = Post(tmp_path, on_uncertain="resend")
    post.answers = [TimeoutError("timed out")]
    post.put(1)
    post.run()
    assert post.times() == [0.0, 1800.0]
    first, second = (each for _, each in post.sent)
    assert first.message_id == second.message_id
    assert first.content == second.content
    assert post.state() == State.SENT
    (event,) = post.of_kind(Uncertain)
    assert event.resent


def test_an_uncertain_message_is_sent_again_by_hand(post: Post) -> None:
    post.answers = [TimeoutError("timed out")]
    post.put(1)
    post.run()
    assert post.outbox.retry(1).state == State.QUEUED
    post.run()
    assert post.subjects() == [1, 1]
    assert post.state() == State.SENT


def test_a_program_that_is_interrupted_leaves_the_message_uncertain(post: Post) -> None:
    post.answers = [KeyboardInterrupt()]
    post.put(1)
    with pytest.raises(KeyboardInterrupt):
        post.run()
    assert post.state() == State.UNCERTAIN
    assert post.outbox.stats().workers == 0
    post.put(2)
    post.run()
    assert post.subjects() == [1, 2]


def test_the_first_message_of_a_long_queue_is_found_without_sorting_it(post: Post) -> None:
    queries: list[str] = []
    connection = post.outbox._store._connection
    assert connection is not None
    for number in range(3):
        post.put(number)
    connection.set_trace_callback(queries.append)
    post.run()
    connection.set_trace_callback(None)
    heads = [each for each in queries if each.startswith("SELECT * FROM outbox_messages")]
    assert heads
    for query in heads:
        steps = [row["detail"] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}")]
        assert not [each for each in steps if "TEMP B-TREE" in each], query


# Changes by hand.


def test_a_cancelled_message_is_not_sent_and_its_booking_is_free(tmp_path: Path) -> None:
    post = Post(tmp_path, MessageRateLimit("1/hour"))
    for number in range(3):
        post.put(number)

    def cancel(seconds: float) -> None:
        if post.state(2) == State.QUEUED:
            assert post.outbox.cancel(2).state == State.CANCELLED
        post.clock.advance(seconds)

    post.outbox._sleep = cancel
    post.run()
    assert post.subjects() == [0, 2]
    assert post.times() == [0.0, HOUR]


def test_the_booking_of_a_message_that_another_program_cancels_is_given_back(
    tmp_path: Path,
) -> None:
    """That program knows neither the policy nor the store, such as the command without options."""
    post = Post(tmp_path, MessageRateLimit("1/hour"))
    for number in range(3):
        post.put(number)

    def cancel(seconds: float) -> None:
        if post.state(2) == State.QUEUED:
            path = tmp_path / "outbox.db"
            with Outbox(path, Limiter(Policy(name="none", limits=[])), clock=post.clock) as other:
                other.cancel(2)
        post.clock.advance(seconds)

    post.outbox._sleep = cancel
    post.run()
    assert post.subjects() == [0, 2]
    assert post.times() == [0.0, HOUR]


def test_a_booking_that_a_cancelled_message_has_while_the_counts_are_away_is_given_back_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    post = Post(tmp_path, MessageRateLimit("1/hour"))
    for number in range(3):
        post.put(number)

    def away(_: object) -> None:
        raise BackendUnavailable("away")

    def cancel(seconds: float) -> None:
        if post.state(2) == State.QUEUED:
            with monkeypatch.context() as patch:
                patch.setattr(post.limiter, "refund", away)
                post.outbox.cancel(2)
        post.clock.advance(seconds)

    post.outbox._sleep = cancel
    post.run()
    assert post.times() == [0.0, HOUR]


def test_a_message_that_is_cancelled_just_before_it_goes_is_not_sent(post: Post) -> None:
    class Late:
        max_connections = 1

        def send(self, message: OutgoingMessage, begin_sending: Callable[[], None]) -> None:
            if message.id == 1:
                post.outbox.cancel(1)
            begin_sending()
            post.sent.append((0.0, message))

        def close(self) -> None: ...

    post.outbox._transport = Late()
    post.put(1)
    post.put(2)
    post.run()
    assert post.subjects() == [2]
    assert post.state(1) == State.CANCELLED
    assert post.used() == [1, 1]


def test_what_was_sent_or_is_being_sent_cannot_be_cancelled_or_retried(post: Post) -> None:
    caught: list[str] = []

    def cancel(_: OutgoingMessage) -> None:
        for method in (post.outbox.cancel, post.outbox.retry):
            try:
                method(1)
            except ValueError as error:
                caught.append(str(error))

    post.answers = [cancel]
    post.put(1)
    post.run()
    assert caught == [
        "message 1 is sending: it cannot be cancelled",
        "message 1 is sending: it cannot be tried again",
    ]
    for method in (post.outbox.cancel, post.outbox.retry, post.outbox.approve):
        with pytest.raises(ValueError, match="message 1 is sent"):
            method(1)


def test_a_failed_message_is_tried_again_by_hand_for_those_who_have_not_got_it(
    post: Post,
) -> None:
    post.answers = [refused(bob=(550, b"5.1.1 no")), None]
    post.put(1, to="ann@example.com, bob@example.com")
    post.run()
    with pytest.raises(ValueError, match="message 1 is sent: it cannot be tried again"):
        post.outbox.retry(1)
    post.answers = [smtplib.SMTPDataError(554, b"no")]
    post.put(2)
    post.run()
    post.outbox.retry(2)
    post.run()
    assert post.subjects() == [1, 2, 2]


def test_retry_does_not_wait_for_the_schedule(post: Post) -> None:
    post.answers = [smtplib.SMTPDataError(451, b"4.3.0 busy")]
    post.put(1)

    def retry(seconds: float) -> None:
        if post.outbox.show(1).attempts == 1:
            post.outbox.retry(1)
        post.clock.advance(min(seconds, 1.0))

    post.outbox._sleep = retry
    post.run()
    assert post.times() == [0.0, 1.0]


# Cleaning up.


def test_the_text_of_what_has_ended_is_deleted_after_a_time_and_the_record_later(
    tmp_path: Path,
) -> None:
    post = Post(tmp_path, keep=DAY, keep_records=10 * DAY)
    post.put(1, key="job 1")
    post.answers = [smtplib.SMTPDataError(554, b"no")]
    post.run()
    post.clock.advance(2 * DAY)
    post.put(2)
    post.run()
    assert post.state(1) == State.FAILED
    with pytest.raises(ValueError, match="message 1: its text is not stored any more"):
        post.outbox.retry(1)
    post.clock.advance(9 * DAY)
    assert post.outbox.purge() > 0
    with pytest.raises(KeyError):
        post.outbox.show(1)
    assert post.put(3, key="job 1").id == 3


def test_what_is_queued_or_uncertain_is_never_deleted(tmp_path: Path) -> None:
    post = Post(tmp_path, keep=1, keep_records=1)
    post.answers = [TimeoutError()]
    post.put(1)
    post.run()
    post.put(2)
    post.clock.advance(100 * DAY)
    assert post.outbox.purge() == 0
    assert [each.state for each in post.outbox.list()] == [State.UNCERTAIN, State.QUEUED]


def test_the_file_shrinks_when_texts_are_deleted(tmp_path: Path) -> None:
    post = Post(tmp_path, keep=1)
    big = letter(1)
    big.add_attachment(b"x" * 3_000_000, maintype="application", subtype="x", filename="a")
    post.outbox.put(big)
    post.run()
    post.outbox.close()
    size = (tmp_path / "outbox.db").stat().st_size
    post.clock.advance(DAY)
    post.outbox.purge()
    post.outbox.close()
    assert (tmp_path / "outbox.db").stat().st_size < size / 10


# Counts.


def test_the_outbox_waits_while_the_counts_cannot_be_reached(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = post.limiter.reserve
    failures = [BackendUnavailable("away")] * 2

    def failing(*args: Any) -> Any:
        if failures:
            raise failures.pop()
        return reserve(*args)

    monkeypatch.setattr(post.limiter, "reserve", failing)
    post.put(1)
    post.run()
    assert post.times() == [10.0]


def test_a_charge_that_could_not_be_settled_is_settled_later(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle = post.limiter.settle
    failures = [BackendUnavailable("away")]

    def failing(*args: Any) -> Any:
        if failures:
            raise failures.pop()
        return settle(*args)

    monkeypatch.setattr(post.limiter, "settle", failing)
    post.answers = [lambda _: post.clock.advance(20)]
    post.put(1)
    post.run()
    assert post.limiter.usage(ANN)[0].resets_in == 60.0


def test_a_new_program_that_counts_in_memory_warns_of_what_it_does_not_know(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = Post(tmp_path)
    first.put(1)
    first.run()
    assert "memory" not in caplog.text
    second = Post(tmp_path, clock=first.clock)
    second.put(2)
    second.run()
    assert "does not know of 1 messages that this outbox has sent before" in caplog.text


def test_a_policy_that_has_changed_since_may_end_a_queued_message(tmp_path: Path) -> None:
    Post(tmp_path).put(1, to=", ".join(f"s{i}@example.com" for i in range(90)))
    post = Post(tmp_path, policy=presets.leeds_office365(recipient_limit=50))
    post.run()
    assert post.sent == []
    assert post.state() == State.FAILED
    assert post.outbox.show(1).reply == "550 5.5.3 Too many recipients: at most 50 in one message."


# The maildir.


def test_a_maildir_gets_the_message_with_its_envelope(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "outbox.db", LEEDS, MaildirTransport(tmp_path / "mail"))
    scene.outbox.put(letter(1, Bcc="dean@leeds.ac.uk"))
    scene.run()
    (file,) = (tmp_path / "mail" / "new").iterdir()
    lines = file.read_text().splitlines()
    assert lines[:3] == [
        f"Return-Path: <{ANN}>",
        "Delivered-To: student1@example.com",
        "Delivered-To: dean@leeds.ac.uk",
    ]
    assert "Subject: Letter 1" in lines


def test_a_maildir_that_cannot_be_written_is_tried_later(tmp_path: Path) -> None:
    (tmp_path / "mail").write_text("in the way")
    scene = Scene(tmp_path / "outbox.db", LEEDS, MaildirTransport(tmp_path / "mail"))
    scene.outbox.put(letter(1))

    def sleep(seconds: float) -> None:
        (tmp_path / "mail").unlink(missing_ok=True)
        scene.clock.advance(seconds)

    scene.outbox._sleep = sleep
    scene.run()
    assert scene.outbox.show(1).state == State.SENT


# The arguments of the schedule and of a callable.


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        (["60"], {}, TypeError, "delays: a number"),
        ("60", {}, TypeError, "delays: a list"),
        ([], {}, ValueError, "delays: the list is empty"),
        ([0], {}, ValueError, "delays: 0"),
        ([60], {"give_up": -1}, ValueError, "give_up: -1"),
        ([60], {"reconnect": []}, ValueError, "reconnect: the list is empty"),
    ],
)
def test_a_schedule_with_wrong_numbers_is_an_error(
    arguments: Any, options: Mapping[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        RetrySchedule(arguments, **options)


def test_a_callable_transport_takes_a_plain_function() -> None:
    async def send(_: OutgoingMessage) -> None: ...

    with pytest.raises(TypeError, match="is async; an outbox does not await it"):
        CallableTransport(send)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="is not callable"):
        CallableTransport("send")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_connections: must be at least 1"):
        CallableTransport(lambda _: None, max_connections=0)


def test_an_outbox_runs_in_real_time_too(tmp_path: Path) -> None:
    from ratelimit_mail import Limiter

    sent: list[OutgoingMessage] = []
    outbox = Outbox(tmp_path / "o.db", Limiter(LEEDS), CallableTransport(sent.append))
    outbox.put(letter(1))
    outbox.run(until_empty=True)
    assert len(sent) == 1
