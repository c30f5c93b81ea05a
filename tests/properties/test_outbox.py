"""Any mail, any answers of a server and any kills: nobody gets two, nothing is lost."""

from __future__ import annotations

import smtplib
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rlm_testkit.builders import campus_policy
from rlm_testkit.outbox import letter
from rlm_testkit.outbox_programs import STEPS, Programs

from ratelimit_mail import MessageRateLimit, RecipientRateLimit
from ratelimit_mail.outbox import OutgoingMessage, RetrySchedule, State, TransportUnavailable

MESSAGES, RECIPIENTS, MINUTE = 3, 5, 60_000
POLICY = campus_policy(
    MessageRateLimit(f"{MESSAGES}/minute"), RecipientRateLimit(f"{RECIPIENTS}/minute")
)
SENDERS = ("ann@uwo.ca", "kim@uwo.ca")
NAMES = ("bob", "eve", "lee")

Letter = tuple[str, int, int]
"""A sender, the number of recipients, and a priority."""

letters = st.lists(
    st.tuples(st.sampled_from(SENDERS), st.integers(1, 3), st.integers(-1, 1)),
    min_size=1,
    max_size=8,
)
answers = st.lists(
    st.sampled_from(["4xx", "5xx", "too fast", "away", "break", "some later", "some never", "ok"]),
    max_size=10,
)
kills = st.lists(
    st.tuples(st.sampled_from(STEPS), st.sampled_from(["before", "after"]), st.integers(1, 6)),
    max_size=3,
)
changes = st.lists(
    st.tuples(st.sampled_from(["cancel", "retry", "put"]), st.integers(1, 8)), max_size=4
)
"""What somebody does by hand after each kill."""


class Server:
    """A server that answers as the example says, and records which recipients it accepted."""

    def __init__(self, answers: Sequence[str], programs: Programs) -> None:
        self.answers = [*answers]
        self.programs = programs
        self.accepted: Counter[tuple[str, str]] = Counter()
        self.moments: dict[str, list[tuple[int, int]]] = {each: [] for each in SENDERS}
        self.attempts: list[OutgoingMessage] = []

    def send(self, message: OutgoingMessage) -> Any:
        self.attempts.append(message)
        answer = self.answers.pop(0) if self.answers else "ok"
        if answer == "4xx":
            raise smtplib.SMTPDataError(451, b"4.3.0 try later")
        if answer == "5xx":
            raise smtplib.SMTPDataError(554, b"5.7.1 no")
        if answer == "too fast":
            raise smtplib.SMTPDataError(450, b"4.7.28 rate limit exceeded")
        if answer == "away":
            raise TransportUnavailable("no route")
        refused: dict[str, tuple[int, bytes]] = {}
        if answer.startswith("some"):
            code = 450 if answer == "some later" else 550
            refused = dict.fromkeys(message.recipients[1:], (code, b"no"))
        reached = [each for each in message.recipients if each not in refused]
        self.accepted.update((message.message_id, each) for each in reached)
        self.moments[message.sender].append((self.programs.clock(), len(reached)))
        if answer == "break":
            raise smtplib.SMTPServerDisconnected("gone")
        return refused


def change(programs: Programs, kind: str, number: int) -> None:
    outbox = programs.program.outbox
    if kind == "put":
        outbox.put(letter(100 + number, SENDERS[0]), priority=5)
        return
    try:
        message = outbox.show(number)
        if kind == "cancel":
            outbox.cancel(number)
        elif message.state in (State.QUEUED, State.FAILED):  # else somebody may get two
            outbox.retry(number)
    except (KeyError, ValueError):  # there is no such message, or it is too late
        pass


def check_limits(server: Server) -> None:
    for moments in server.moments.values():
        for end, _ in moments:
            window = [cost for at, cost in moments if end - MINUTE < at <= end]
            assert len(window) <= MESSAGES
            assert sum(window) <= RECIPIENTS


@settings(max_examples=settings().max_examples // 2, suppress_health_check=list(HealthCheck))
@given(letters, answers, kills, changes)
def test_nobody_gets_two_nothing_is_lost_and_no_limit_is_exceeded(
    letters: list[Letter],
    answers: list[str],
    kills: list[tuple[str, str, int]],
    changes: list[tuple[str, int]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        schedule = RetrySchedule([60, 600], give_up=1800)
        programs = Programs(Path(folder), POLICY, retry=schedule)
        server = Server(answers, programs)
        programs.send = server.send
        put = []
        for number, (sender, count, priority) in enumerate(letters):
            to = ", ".join(f"{name}{number}@example.com" for name in NAMES[:count])
            put.append(programs.program.outbox.put(letter(number, sender, to), priority=priority))
        for step, when, number in kills:
            programs.kill_at(step, when, number)
            if changes:
                change(programs, *changes.pop())
        programs.program.run()
        messages = programs.program.outbox.list()
        for message in messages:
            assert message.state not in (State.QUEUED, State.SENDING, State.HELD)
            for recipient in message.recipients:
                times = server.accepted[message.message_id, recipient.address]
                allowed = {State.SENT: {1}, State.UNCERTAIN: {0, 1}}
                assert times in allowed.get(recipient.state, {0})
        assert {each.id for each in put} <= {each.id for each in messages}
        check_limits(server)
        first_attempts = [*dict.fromkeys(each.message_id for each in server.attempts)]
        for sender in SENDERS:
            order = sorted(
                (each for each in put if each.sender == sender),
                key=lambda each: (-each.priority, each.id),
            )
            ids = [each.message_id for each in order if each.message_id in first_attempts]
            assert [each for each in first_attempts if each in ids] == ids
        programs.program.outbox.close()
