"""Events of blocks, and their lines in the log."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from rlm_testkit.builders import campus_policy, envelope_to
from rlm_testkit.either_limiter import EitherLimiter, sync_and_async

from ratelimit_mail import Client, MessageRateLimit
from ratelimit_mail.events import Blocked, Dispatcher, Event, Unblocked, log_events

KEY = b"sixteen secret bytes, or more"
NINE_A_MINUTE = MessageRateLimit("9/minute")


class Scene:
    """A limiter whose events are recorded."""

    def __init__(self, mode: str, *listeners: Any) -> None:
        self.events: list[Event] = []
        self.dispatcher = Dispatcher([self.events.append, *listeners])
        self.limiter = EitherLimiter(mode, NINE_A_MINUTE, on_event=self.dispatcher)

    def kinds(self) -> list[str]:
        self.dispatcher.flush()
        return [type(event).__name__ for event in self.events]


@sync_and_async
def test_a_block_and_its_end_by_hand_are_events(mode: str) -> None:
    scene = Scene(mode)
    block = scene.limiter.block("ann@uwo.ca", reason="account stolen")
    scene.limiter.clock.advance(60)
    scene.limiter.unblock("ann@uwo.ca")
    assert scene.kinds() == ["Blocked", "Unblocked"]
    blocked, unblocked = scene.events
    assert isinstance(blocked, Blocked)
    assert isinstance(unblocked, Unblocked)
    assert blocked.block == unblocked.block == block
    assert (blocked.sender, blocked.subject) == ("ann@uwo.ca", "ann@uwo.ca")
    assert (blocked.limit, blocked.tier, blocked.client) == (None, None, Client())
    assert (blocked.policy, blocked.at) == ("test", block.since)
    assert (unblocked.at - blocked.at).total_seconds() == 60


@sync_and_async
def test_lifting_what_is_not_blocked_and_a_block_that_expires_are_not_events(mode: str) -> None:
    scene = Scene(mode)
    scene.limiter.unblock("ann@uwo.ca")
    scene.limiter.block("ann@uwo.ca", 5)
    scene.limiter.clock.advance(5)
    scene.limiter.unblock("ann@uwo.ca")
    assert scene.limiter.try_acquire(envelope_to())
    assert scene.kinds() == ["Blocked"]


@sync_and_async
def test_messages_that_a_block_refuses_are_not_denials_by_a_limit(mode: str) -> None:
    scene = Scene(mode)
    scene.limiter.block("ann@uwo.ca")
    for _ in range(20):
        assert not scene.limiter.try_acquire(envelope_to())
    assert scene.kinds() == ["Blocked"]


@sync_and_async
def test_a_pushback_is_an_event(mode: str) -> None:
    scene = Scene(mode)
    scene.limiter.pushback("ann@uwo.ca", "421 4.7.0 Try again in 5 minutes")
    assert scene.kinds() == ["Blocked"]
    event = scene.events[0]
    assert isinstance(event, Blocked)
    assert event.block.reason == "provider: 421 4.7.0 Try again in 5 minutes"


@sync_and_async
@pytest.mark.parametrize(
    ("subject", "scope", "sender", "in_words"),
    [
        ("10.1.2.3", "client", "", "10.1.2.3"),
        (["ann@uwo.ca", "10.1.2.3"], ["sender", "client"], "", "ann@uwo.ca and 10.1.2.3"),
        (None, "global", "", "everybody"),
        ("<>", "sender", "<>", "<>"),
        ("", "sender", "<>", "<>"),
        ("", "client", "", "no client"),
        ("", "user", "", "no user"),
        (["ann@uwo.ca", ""], ["sender", "user"], "", "ann@uwo.ca and no user"),
    ],
)
def test_the_subject_of_an_event_names_what_is_blocked(
    mode: str, subject: Any, scope: Any, sender: str, in_words: str
) -> None:
    scene = Scene(mode)
    scene.limiter.block(subject, scope=scope)
    scene.kinds()
    assert (scene.events[0].sender, scene.events[0].subject) == (sender, in_words)


# The log.


def logged(caplog: pytest.LogCaptureFixture, **options: Any) -> list[logging.LogRecord]:
    scene = Scene("sync", log_events(**options))
    scene.limiter.block("ann@uwo.ca", 60, "account stolen")
    scene.limiter.unblock("ann@uwo.ca")
    scene.limiter.block("10.1.2.3", scope="client")
    scene.kinds()
    return [record for record in caplog.records if record.name == "ratelimit_mail.events"]


def test_the_log_has_a_line_for_each_block_and_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    blocked, unblocked, client = logged(caplog)
    assert blocked.getMessage() == (
        "blocked: 'ann@uwo.ca' may not send until 2001-09-09T01:47:40+00:00 ('account stolen');"
        " policy test"
    )
    assert unblocked.getMessage() == (
        "unblocked: 'ann@uwo.ca' may send again ('account stolen'); policy test"
    )
    assert client.getMessage() == (
        "blocked: '' (counted for '10.1.2.3') may not send until it is unblocked; policy test"
    )
    assert [record.levelname for record in (blocked, unblocked, client)] == [
        "WARNING",
        "INFO",
        "WARNING",
    ]


def test_the_fields_of_a_line_have_scope_end_and_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    fields = [vars(record) for record in logged(caplog)]
    assert [each["event"] for each in fields] == ["Blocked", "Unblocked", "Blocked"]
    assert [each["scope"] for each in fields] == ["sender", "sender", "client"]
    assert [each["until"] for each in fields] == ["2001-09-09T01:47:40+00:00"] * 2 + [None]
    assert [each["reason"] for each in fields] == ["account stolen"] * 2 + [None]


def test_with_a_key_no_address_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for record in logged(caplog, key=KEY):
        text = record.getMessage() + str(vars(record))
        assert "ann@uwo.ca" not in text
        assert "10.1.2.3" not in text
    senders = [vars(record)["sender"] for record in caplog.records if hasattr(record, "sender")]
    assert senders[0] == senders[1] != senders[2]


def test_with_a_key_no_address_in_a_providers_reply_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Scene("sync", log_events(key=KEY))
    scene.limiter.pushback("ann@uwo.ca", "432 4.3.2 ann@uwo.ca sends too fast")
    scene.kinds()
    for record in caplog.records:
        assert "ann@uwo.ca" not in record.getMessage() + str(vars(record))


def test_a_reason_with_odd_characters_stays_on_one_line(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene("sync", log_events())
    scene.limiter.pushback("ann@uwo.ca", b"432 4.3.2 too\r\nfast\x1b[31m \xff'")
    scene.kinds()
    (record,) = [each for each in caplog.records if each.name == "ratelimit_mail.events"]
    assert record.getMessage().isprintable()


def test_listeners_are_optional() -> None:
    limiter = EitherLimiter("sync", policy=campus_policy(NINE_A_MINUTE))
    limiter.block("ann@uwo.ca")
    assert limiter.unblock("ann@uwo.ca")
